"""Trains a dual encoder: `python -m cmr_jax.bin.train --config configs/demo.py --workdir W --config.data.path=D`."""

import dataclasses
import sys
from pathlib import Path

import jax
from absl import flags
from ml_collections import config_flags

from cmr_jax import cli, config, optim, sharding
from cmr_jax.errors import InputError
from cmr_jax.evals.evaluators import retrieval_evaluator
from cmr_jax.structs import Metrics
from cmr_jax.train import workdir as workdir_lib
from cmr_jax.train.loop import train
from cmr_jax.train.perf import Clock, give_back_after_compiling, use_compile_cache
from cmr_jax.train.stop import EXIT_REQUEUE, Stopped, StopSignal
from cmr_jax.train.watchdog import Watchdog

_CONFIG = config_flags.DEFINE_config_file("config", help_string="Experiment, such as configs/demo.py.")
_WORKDIR = flags.DEFINE_string("workdir", None, "Where config.json, metrics.jsonl, checkpoints/ and tensorboard/ go.")
_DISTRIBUTED = flags.DEFINE_bool("distributed", False, "Join the other processes of the job before anything else.")
_COORDINATOR = flags.DEFINE_string("coordinator", None, "host:port of process 0, where no scheduler tells it.")
_NUM_PROCESSES = flags.DEFINE_integer("num_processes", None, "Processes of the job, where no scheduler tells it.")
_PROCESS_ID = flags.DEFINE_integer("process_id", None, "This process, where no scheduler tells it.")


def _main() -> int:
    """Trains; returns the exit code."""
    if _CONFIG.value is None or not _WORKDIR.value:
        raise InputError("give --config and --workdir (see --help)")
    try:
        settings = config.from_dict(_CONFIG.value.to_dict(preserve_field_references=False))
    except OSError:  # config_flags puts a file it could not load off to the first use
        raise InputError("no config file there: --config names a file such as configs/demo.py") from None
    if _DISTRIBUTED.value:
        jax.distributed.initialize(_COORDINATOR.value, _NUM_PROCESSES.value, _PROCESS_ID.value)
    clock = Clock()
    try:
        with StopSignal() as stop:  # before anything that takes time
            run, last = _train(settings, stop, clock)
    except Stopped as stopped:
        print(f"{stopped} and saved; started again in the same workdir it continues", file=sys.stderr)
        return EXIT_REQUEUE
    if jax.process_index() == 0 and "loss" in last:
        print(f"trained to step {run.config.train.steps}, loss {last['loss']:.4f}, in {run.workdir}")
    return 0


def _train(settings: config.Config, stop: StopSignal, clock: Clock) -> tuple[workdir_lib.Run, Metrics]:
    run = workdir_lib.prepare(Path(_WORKDIR.value or ""), settings)
    use_compile_cache(run.workdir)
    give_back_after_compiling()
    process, processes, seconds = jax.process_index(), jax.process_count(), run.config.train.watchdog_seconds
    with Watchdog(run.workdir, process, processes, seconds) as watchdog:
        return run, _train_in(run, stop, clock, watchdog)


def _train_in(run: workdir_lib.Run, stop: StopSignal, clock: Clock, watchdog: Watchdog) -> Metrics:
    data = run.config.data.path
    run = dataclasses.replace(run, config=optim.lengths(run.config, len(run.loader(data, "train").split)))
    evaluators = []
    if run.config.train.eval_every:
        val = run.loader(data, "val")
        if len(val.split):
            evaluators.append(retrieval_evaluator(run.model, val, sharding.make_mesh(run.config.mesh)))
    loader = run.loader(data, "train")
    return train(
        run.config, run.model, loader, run.workdir,
        evaluators=evaluators, stop_due=stop.due, beat=watchdog.beat, clock=clock,
    )  # fmt: skip


def main() -> None:
    cli.run(_main)


if __name__ == "__main__":
    main()
