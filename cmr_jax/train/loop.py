"""The training loop: data in, one step function, metrics and checkpoints out, and the way back after any stop."""

import collections
import contextlib
import dataclasses
import math
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import Mesh
from tqdm import tqdm

from cmr_jax import optim, sharding
from cmr_jax.config import Config, TrainConfig
from cmr_jax.data.loader import Loader, train_batches
from cmr_jax.errors import InputError
from cmr_jax.models import flops, pretrained
from cmr_jax.models.build import Model
from cmr_jax.structs import Batch, Metrics, Params, TrainState
from cmr_jax.train import chips
from cmr_jax.train.checkpoint import Checkpoints
from cmr_jax.train.health import Health
from cmr_jax.train.perf import Clock, Profiler, utilisation
from cmr_jax.train.state import abstract_state, init_state
from cmr_jax.train.step import jit_step, make_step
from cmr_jax.train.stop import EvaluationLeft, Stopped
from cmr_jax.train.writers import MetricsWriter

# Asked between its batches whether to go on: raises where training is to stop.
Between = Callable[[], None]
Evaluator = Callable[[Params, Between], Metrics]
# Batches on the device beside the one that is being worked on.
_AHEAD = 1


def train(
    config: Config,
    model: Model,
    loader: Loader,
    workdir: Path,
    *,
    evaluators: Sequence[Evaluator] = (),
    stop_due: Callable[[], bool] = lambda: False,
    beat: Callable[[int, str], None] = lambda step, station: None,
    clock: Clock | None = None,
) -> Metrics:
    """Trains to `config.train.steps`, from the newest undamaged checkpoint of `workdir` if there is one.

    The state after step s is a function of (config, data, s) alone: a run that was stopped anywhere and started again
    ends bitwise where an undisturbed one ends (on one mesh).

    Args:
      stop_due: Asked before the first step, after every step and between the batches of an evaluation, as often in
        every process: True has the newest step saved and training left.
      beat: Told of every station of every step.
      clock: Made where start-up began.

    Returns:
      The metrics of the last logged step.

    Raises:
      InputError: where config and data or devices do not fit, the disk is full, or `train.max_skipped` steps in a row
        were bad.
      Stopped: once `stop_due` said so and the step is saved.
    """
    clock = clock or Clock()
    mesh = sharding.make_mesh(config.mesh)
    _check_batch(config.train.batch_size, mesh.size)
    if jax.process_count() > 1:
        sharding.connect(mesh)
    if len(loader.split) == 0:
        raise InputError(f"the split {loader.split.name!r} holds no study to train on")
    optimizer = optim.make_optimizer(config.optim, config.train.steps)
    abstract = abstract_state(model, optimizer, mesh)
    checkpoints = Checkpoints(workdir / "checkpoints", config.train.keep_checkpoints)
    start = checkpoints.newest_whole()
    if start is None:
        checkpoints.check_room(abstract)
        start, state = 0, init_state(model, optimizer, mesh, config.train.seed)
        state = dataclasses.replace(state, params=_start_from(model, state.params))
    else:
        state = checkpoints.restore(start, abstract)
    if stop_due() and start < config.train.steps:
        raise Stopped(start)
    log = _Log(config, workdir, start, checkpoints, mesh)
    run = _Run(config.train, mesh, workdir, checkpoints, log, clock, evaluators, stop_due, beat)
    batches = train_batches(
        loader, start_step=start, process_index=jax.process_index(), process_count=jax.process_count()
    )
    batches = _with_note(batches)
    with contextlib.closing(log), checkpoints:
        run.steps(jit_step(make_step(config, model, optimizer, mesh), abstract, mesh), state, start, batches)
    return log.last


@dataclasses.dataclass(frozen=True)
class _Run:
    """What the loop needs at every step."""

    config: TrainConfig
    mesh: Mesh
    workdir: Path
    checkpoints: Checkpoints
    log: "_Log"
    clock: Clock
    evaluators: Sequence[Evaluator]
    stop_due: Callable[[], bool]
    beat: Callable[[int, str], None]

    def steps(self, step_fn: Any, state: TrainState, start: int, batches: Iterator[Batch]) -> None:
        """From the state of `start` to the last one; everything is on disk when this returns."""
        clock, last = self.clock, self.config.steps
        clock.begin()
        if self._make_up_evaluation(state, start):
            raise Stopped(start)
        with contextlib.closing(Profiler(self.config, self.workdir)) as profiler:
            placed = _ahead(batches, lambda batch: sharding.put_batch(batch, self.mesh))
            metrics: dict[str, jax.Array] = {}
            for step in range(start + 1, last + 1):
                self.beat(step, "data")
                # No wait for data where the devices were still at the step before when the batch came.
                with clock.span("data", counts=lambda before=metrics: _is_ready(before)):
                    batch = next(placed)
                self.beat(step, "step")
                profiler.before(step)
                with clock.span("compile" if step == start + 1 else "step"):
                    state, metrics = step_fn(state, batch)
                    if step == start + 1:
                        self.log.count_flops()
                profiler.after(step, metrics)
                self.log.advance(step, metrics, clock)
                self.checkpoints.poll()
                stopping = self.stop_due()
                owed = bool(self.evaluators) and _due(step, self.config.eval_every, last)
                if owed and not stopping:
                    owed = stopping = self._evaluate(state, step)
                if stopping or _due(step, self.config.checkpoint_every, last) or step == last:
                    self._save(state, step)
                if stopping and (owed or step < last):
                    self._finish()
                    raise Stopped(step)
        self._finish()

    def _finish(self) -> None:
        self.log.flush(self.clock)
        with self.clock.span("save"):
            self.checkpoints.wait()
        self.log.account(self.clock)

    def _save(self, state: TrainState, step: int) -> None:
        self.log.flush(self.clock)  # before the save: a step that is saved has its line
        self.beat(step, "save")
        with self.clock.span("save"):
            self.checkpoints.save_soon(state)
        self.log.health.saved(step)

    def _evaluate(self, state: TrainState, step: int) -> bool:
        """Evaluates; True where that was left because training is to stop. Then it is made up for after the restart."""

        def between() -> None:
            self.beat(step, "eval")
            if self.stop_due():
                raise EvaluationLeft

        self.log.flush(self.clock)
        with self.clock.span("eval"), contextlib.suppress(EvaluationLeft):
            params = optim.averaged(state.params, state.opt_state)
            found = [evaluate(params, between) for evaluate in self.evaluators]
            for metrics in found:
                self.log.write(step, metrics)
            return False
        return True

    def _make_up_evaluation(self, state: TrainState, start: int) -> bool:
        owed = start > 0 and bool(self.evaluators) and _due(start, self.config.eval_every, self.config.steps)
        return owed and not self.log.evaluated_at_start() and self._evaluate(state, start)


def _is_ready(arrays: dict[str, jax.Array]) -> bool:
    return all(array.is_ready() for array in arrays.values())  # pyright: ignore[reportAttributeAccessIssue]


def _ahead(batches: Iterator[Batch], put: Callable[[Batch], Batch]) -> Iterator[Batch]:
    """`batches` on the devices, each put there while the ones before it are worked on."""
    placed: collections.deque[Batch] = collections.deque()
    for batch in batches:
        placed.append(put(batch))
        if len(placed) > _AHEAD:
            yield placed.popleft()
    yield from placed


def _with_note(batches: Iterator[Batch]) -> Iterator[Batch]:
    """`batches`; says of the first how many of its reports the model may not be reading to their end."""
    first = next(batches)
    size, length = first.token_mask_BL.shape
    full = int(first.token_mask_BL[:, -1].sum())
    if full and jax.process_index() == 0:
        print(
            f"note: {full} of the first {size} reports fill config.model.text.length ({length} tokens): what they say "
            "after that is not read",
            file=sys.stderr,
        )
    yield first
    yield from batches


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

    def __init__(self, config: Config, workdir: Path, start: int, checkpoints: Checkpoints, mesh: Mesh):
        self._config, self._mesh, self._checkpoints = config, mesh, checkpoints
        self._every, self._steps = config.train.log_every, config.train.steps
        self.health = Health(config.train.max_skipped)
        if start:
            self.health.saved(start)
        self._pending: tuple[int, dict[str, jax.Array]] | None = None
        self._since, self.last = start, {}
        self._flops, self._peak = math.nan, None
        lead = jax.process_index() == 0
        self._writer = MetricsWriter(workdir, start) if lead else None
        self._terminal = sys.stderr.isatty()
        self._bar = tqdm(total=self._steps, initial=start, unit="step", disable=not (lead and self._terminal))

    def evaluated_at_start(self) -> bool:
        """True, in all processes, where metrics.jsonl has an evaluation of the step that was started from."""
        mine = np.int32(self._writer is not None and self._writer.evaluated_at_start)
        return bool(multihost_utils.broadcast_one_to_all(mine) if jax.process_count() > 1 else mine)

    def advance(self, step: int, metrics: dict[str, jax.Array], clock: Clock) -> None:
        self.flush(clock)
        self._bar.update()
        self._pending = (step, metrics)

    def flush(self, clock: Clock) -> None:
        """Raises InputError where too many steps in a row were bad."""
        if self._pending is None:
            return
        step, metrics = self._pending
        self._pending = None
        good = self.health.saw(step, skipped=bool(metrics["skipped"]), spike=bool(metrics["spikes"]))
        if good is not None:
            self._checkpoints.mark_good(good)
        if step % self._every and step != self._steps:
            return
        read = {name: float(value) for name, value in metrics.items()}
        perf = clock.read(step - self._since)
        self._since = step
        used = utilisation(self._flops, perf["perf/step_seconds"], self._mesh.size, self._peak)
        self.write(step, {**read, **self.health.read(), **perf, **used})

    def count_flops(self) -> None:
        """Once, beside the first step, for it takes a while; only where there is a peak to compare with."""
        chip = chips.of_device_kind(self._mesh.devices.flat[0].device_kind)
        if chip is not None and self._writer is not None:
            self._peak, self._flops = chip.flops_per_second, flops.train_step(self._config)

    def account(self, clock: Clock) -> None:
        """The ledger as it stands when all is done, as a line of its own."""
        ledger = {name: value for name, value in clock.read(1).items() if name.startswith("ledger/")}
        self.write(self._since, ledger)

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
