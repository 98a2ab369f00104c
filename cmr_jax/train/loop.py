"""The training loop: data in, one step function, metrics and checkpoints out, and the way back after any stop."""

import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import jax
from tqdm import tqdm

from cmr_jax import optim, sharding
from cmr_jax.config import Config
from cmr_jax.data.loader import Loader, train_batches
from cmr_jax.errors import InputError
from cmr_jax.models.build import Model
from cmr_jax.structs import Metrics, Params
from cmr_jax.train.checkpoint import Checkpoints
from cmr_jax.train.perf import Clock
from cmr_jax.train.state import abstract_state, init_state
from cmr_jax.train.step import jit_step, make_step
from cmr_jax.train.writers import MetricsWriter

Evaluator = Callable[[Params], Metrics]


def train(
    config: Config, model: Model, loader: Loader, workdir: Path, *, evaluators: Sequence[Evaluator] = ()
) -> Metrics:
    """Trains to `config.train.steps`, from the newest undamaged checkpoint of `workdir` if there is one.

    The state after step s is a function of (config, data, s) alone: a run that was stopped anywhere and started again
    ends bitwise where an undisturbed one ends (on one mesh).

    Returns:
      The metrics of the last logged step.
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
    else:
        state = checkpoints.restore(start, abstract)
    step_fn = jit_step(make_step(config, model, optimizer, mesh), abstract, mesh)
    batches = train_batches(
        loader, start_step=start, process_index=jax.process_index(), process_count=jax.process_count()
    )
    log = _Log(config, workdir, start)
    clock = Clock()
    try:
        for step in range(start + 1, config.train.steps + 1):
            with clock.span("data_wait"):
                batch = next(batches)
            state, metrics = step_fn(state, sharding.put_batch(batch, mesh))
            log.advance(step, metrics, clock)
            if evaluators and _due(step, config.train.eval_every, config.train.steps):
                log.flush(clock)
                for evaluate in evaluators:
                    log.write(step, evaluate(state.params))
            if _due(step, config.train.checkpoint_every, config.train.steps) or step == config.train.steps:
                log.flush(clock)  # before the save: a step that is saved has its line
                with clock.span("save"):
                    checkpoints.save(state)
        log.flush(clock)
    finally:
        log.close()
    return log.last


def _check_batch(batch_size: int, devices: int) -> None:
    if batch_size % devices or batch_size % jax.process_count():
        raise InputError(f"config.train.batch_size {batch_size} is not a multiple of the {devices} devices")


def _due(step: int, every: int, steps: int) -> bool:
    return every > 0 and (step % every == 0 or step == steps)


class _Log:
    """Progress and metrics. Those of a step are read after the next one is dispatched, so the device never waits."""

    def __init__(self, config: Config, workdir: Path, start: int):
        self._every, self._steps = config.train.log_every, config.train.steps
        self._pending: tuple[int, dict[str, jax.Array]] | None = None
        self._since, self.last = start, {}
        lead = jax.process_index() == 0
        self._writer = MetricsWriter(workdir, start) if lead else None
        self._terminal = sys.stderr.isatty()
        self._bar = tqdm(total=self._steps, initial=start, unit="step", disable=not (lead and self._terminal))

    def advance(self, step: int, metrics: dict[str, jax.Array], clock: Clock) -> None:
        self.flush(clock)
        self._bar.update()
        if step % self._every == 0 or step == self._steps:
            self._pending = (step, metrics)

    def flush(self, clock: Clock) -> None:
        if self._pending is None:
            return
        step, metrics = self._pending
        self._pending = None
        read = {name: float(value) for name, value in metrics.items()}
        perf = clock.read(step - self._since)
        self._since = step
        self.write(step, {**read, **perf})

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
