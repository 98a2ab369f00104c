"""The training loop: data in, one step function, metrics and checkpoints out, and the way back after any stop."""

import contextlib
import dataclasses
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import jax
from tqdm import tqdm

from cmr_jax import optim, sharding
from cmr_jax.config import Config
from cmr_jax.data.loader import Loader, train_batches
from cmr_jax.errors import InputError
from cmr_jax.models import pretrained
from cmr_jax.models.build import Model
from cmr_jax.structs import Metrics, Params
from cmr_jax.train.checkpoint import Checkpoints
from cmr_jax.train.perf import Clock
from cmr_jax.train.state import abstract_state, init_state
from cmr_jax.train.step import jit_step, make_step
from cmr_jax.train.stop import Stopped
from cmr_jax.train.writers import MetricsWriter

Evaluator = Callable[[Params], Metrics]


def train(
    config: Config,
    model: Model,
    loader: Loader,
    workdir: Path,
    *,
    evaluators: Sequence[Evaluator] = (),
    stop_after: Callable[[int], bool] = lambda step: False,
) -> Metrics:
    """Trains to `config.train.steps`, from the newest undamaged checkpoint of `workdir` if there is one.

    The state after step s is a function of (config, data, s) alone: a run that was stopped anywhere and started again
    ends bitwise where an undisturbed one ends (on one mesh).

    Returns:
      The metrics of the last logged step.

    Raises:
      InputError: where config and data or devices do not fit, or `train.max_skipped` updates in a row were not finite.
      Stopped: once `stop_after(step)`, asked after every step, said so and the step is saved.
    """
    mesh = sharding.make_mesh(config.mesh)
    _check_batch(config.train.batch_size, mesh.size)
    if len(loader.split) == 0:
        raise InputError(f"the split {loader.split.name!r} holds no study to train on")
    optimizer = optim.make_optimizer(config.optim, config.train.steps)
    abstract = abstract_state(model, optimizer, mesh)
    checkpoints = Checkpoints(workdir / "checkpoints", config.train.keep_checkpoints)
    start = checkpoints.newest_whole()
    if start is None:
        start, state = 0, init_state(model, optimizer, mesh, config.train.seed)
        state = dataclasses.replace(state, params=_start_from(model, state.params))
    else:
        state = checkpoints.restore(start, abstract)
    step_fn = jit_step(make_step(config, model, optimizer, mesh), abstract, mesh)
    batches = train_batches(
        loader, start_step=start, process_index=jax.process_index(), process_count=jax.process_count()
    )
    log = _Log(config, workdir, start)
    clock = Clock()

    def save(state) -> None:
        log.flush(clock)  # before the save: a step that is saved has its line
        with clock.span("save"):
            checkpoints.save(state)

    with contextlib.closing(log):
        for step in range(start + 1, config.train.steps + 1):
            with clock.span("data_wait"):
                batch = next(batches)
            state, metrics = step_fn(state, sharding.put_batch(batch, mesh))
            log.advance(step, metrics, clock)
            if evaluators and _due(step, config.train.eval_every, config.train.steps):
                log.flush(clock)
                for evaluate in evaluators:
                    log.write(step, evaluate(optim.averaged(state.params, state.opt_state)))
            stopping = stop_after(step)
            if stopping or _due(step, config.train.checkpoint_every, config.train.steps) or step == config.train.steps:
                save(state)
            if stopping and step < config.train.steps:
                raise Stopped(step)
        log.flush(clock)
    return log.last


def _start_from(model: Model, params: Params) -> Params:
    """`params` with the weights that the config starts from; says once what became of every key of theirs."""
    found, listings = pretrained.starting_weights(model.config, model.num_views)
    if jax.process_index() == 0:
        for listing in listings:
            print(listing, file=sys.stderr)
    return pretrained.overlay(params, found)


def _check_batch(batch_size: int, devices: int) -> None:
    if batch_size % devices or batch_size % jax.process_count():
        raise InputError(f"config.train.batch_size {batch_size} is not a multiple of the {devices} devices")


def _due(step: int, every: int, steps: int) -> bool:
    return every > 0 and (step % every == 0 or step == steps)


class _Log:
    """Progress and metrics. Those of a step are read after the next one is dispatched, so the device never waits."""

    def __init__(self, config: Config, workdir: Path, start: int):
        self._every, self._steps = config.train.log_every, config.train.steps
        self._most_skipped, self._skipped_in_a_row, self._skipped = config.train.max_skipped, 0, 0
        self._pending: tuple[int, dict[str, jax.Array]] | None = None
        self._since, self.last = start, {}
        lead = jax.process_index() == 0
        self._writer = MetricsWriter(workdir, start) if lead else None
        self._terminal = sys.stderr.isatty()
        self._bar = tqdm(total=self._steps, initial=start, unit="step", disable=not (lead and self._terminal))

    def advance(self, step: int, metrics: dict[str, jax.Array], clock: Clock) -> None:
        self.flush(clock)
        self._bar.update()
        self._pending = (step, metrics)

    def flush(self, clock: Clock) -> None:
        """Raises InputError where too many updates in a row were skipped."""
        if self._pending is None:
            return
        step, metrics = self._pending
        self._pending = None
        self._count_skipped(step, float(metrics["skipped"]) > 0)
        if step % self._every and step != self._steps:
            return
        read = {name: float(value) for name, value in metrics.items()}
        perf = clock.read(step - self._since)
        self._since = step
        self.write(step, {**read, "skipped": float(self._skipped), **perf})
        self._skipped = 0

    def _count_skipped(self, step: int, skipped: bool) -> None:
        self._skipped += skipped
        self._skipped_in_a_row = self._skipped_in_a_row + 1 if skipped else 0
        if self._skipped_in_a_row >= self._most_skipped:
            raise InputError(
                f"stopped at step {step}: {self._skipped_in_a_row} updates in a row had a loss or gradient that is not"
                " finite and were skipped; checkpoints hold the state from before them. Lower the learning rate"
                " (config.optim.learning_rate) or look at the data"
            )

    def write(self, step: int, metrics: Metrics) -> None:
        self.last = {**self.last, **metrics}
        if self._writer is None:
            return
        self._writer.write(step, metrics)
        if "loss" in metrics:
            wait = f"{100 * metrics.get('perf/data_wait_share', 0.0):.1f}%"
            self._bar.set_postfix(loss=f"{metrics['loss']:.3f}", data_wait=wait)
            if not self._terminal:
                seconds = metrics["perf/step_seconds"]
                print(
                    f"step {step}/{self._steps} loss {metrics['loss']:.4f} {seconds:.2f} s/step data wait {wait}",
                    flush=True,
                )

    def close(self) -> None:
        self._bar.close()
        if self._writer is not None:
            self._writer.close()
