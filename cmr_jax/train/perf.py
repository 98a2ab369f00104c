"""Where the time of a run goes, and how much of the hardware it uses."""

import contextlib
import ctypes
import functools
import math
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import jax

from cmr_jax.config import TrainConfig

# What a second of a run is spent on. "data" is waiting for a batch while the devices have nothing to do; "step" is what
# is left: dispatching steps and waiting for the devices.
STATIONS = ("init", "compile", "data", "step", "eval", "save")
_COMPILED = "/jax/core/compile/backend_compile_duration"  # jax's name for the end of a compilation
_LONG_COMPILE_SECONDS = 1.0


class Clock:
    """A wall-clock ledger: every second since it was made is booked on one of `STATIONS`, "init" until `begin`."""

    def __init__(self, now: Callable[[], float] = time.perf_counter) -> None:
        self._now = now
        self._booked: dict[str, float] = dict.fromkeys(STATIONS, 0.0)
        self._read = dict(self._booked)
        self._station, self._since = "init", now()

    def begin(self) -> None:
        """Start-up is over: from here on time is the steps', but within a `span`."""
        self._enter("step")

    @contextlib.contextmanager
    def span(self, station: str, counts: Callable[[], bool] = lambda: True) -> Iterator[None]:
        """Books the time within on `station`; where it does not count, asked at the end, on what went before."""
        before = self._station
        self._enter(station)
        try:
            yield
        finally:
            if not counts():
                self._station = before
            self._enter(before)

    def _enter(self, station: str) -> None:
        now = self._now()
        self._booked[self._station] += now - self._since
        self._station, self._since = station, now

    def read(self, steps: int) -> dict[str, float]:
        """Of the `steps` since the last read: `perf/step_seconds` (data and step alone) and `perf/data_wait_share` of
        it; and `ledger/<station>` in seconds since the clock was made."""
        self._enter(self._station)
        spent = {name: self._booked[name] - self._read[name] for name in STATIONS}
        self._read = dict(self._booked)
        working = max(spent["data"] + spent["step"], 1e-9)
        return {
            "perf/step_seconds": working / max(steps, 1),
            "perf/data_wait_share": spent["data"] / working,
            **{f"ledger/{name}": seconds for name, seconds in self._booked.items()},
        }


def utilisation(flops: float, step_seconds: float, devices: int, peak: float | None) -> dict[str, float]:
    """`perf/flops_per_second` of all `devices`, counted from the model's shapes, and `perf/mfu`, its share of their
    `peak` each; NaN (null in metrics.jsonl) where that is not known."""
    rate = flops / max(step_seconds, 1e-9)
    return {"perf/flops_per_second": rate, "perf/mfu": rate / (devices * peak) if peak else math.nan}


class Profiler:
    """Traces `train.profile_steps` steps from `train.profile_start` on, into `profile/` of the workdir."""

    def __init__(self, config: TrainConfig, workdir: Path):
        self._first, self._folder = config.profile_start, workdir / "profile"
        self._last = config.profile_start + config.profile_steps - 1
        self._running = False

    def before(self, step: int) -> None:
        if step == self._first and self._last >= step:
            jax.profiler.start_trace(self._folder)
            self._running = True

    def after(self, step: int, outputs: object) -> None:
        """`outputs` of the step: the trace ends once the devices have made them."""
        if self._running and step == self._last:
            jax.block_until_ready(outputs)
            self.close()

    def close(self) -> None:
        if self._running:
            self._running = False
            jax.profiler.stop_trace()


def use_compile_cache(workdir: Path) -> None:
    """Keeps compiled programs in `compile_cache/` of the workdir, so that a job that starts again compiles nothing.

    Where JAX_COMPILATION_CACHE_DIR (or the config of jax) names another place that one stands; where the workdir cannot
    be written to there is none, and no complaint.
    """
    if jax.config.jax_compilation_cache_dir:  # pyright: ignore[reportAttributeAccessIssue]
        return
    folder = workdir / "compile_cache"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe = folder / f".probe{jax.process_index()}"
        probe.touch()
        probe.unlink()
    except OSError:
        return
    jax.config.update("jax_compilation_cache_dir", str(folder))


@functools.cache
def give_back_after_compiling() -> None:
    """From now on the heap of a long compilation goes back to the system once it is over, before the program first
    runs: glibc would keep it, hundreds of MiB beside the model's own, as long as the process lives. On another C
    library nothing is done."""
    try:
        trim = ctypes.CDLL(None).malloc_trim
    except (AttributeError, OSError, TypeError):
        return

    def compiled(event: str, duration_secs: float, **_: str | int) -> None:
        if event == _COMPILED and duration_secs >= _LONG_COMPILE_SECONDS:
            trim(0)

    jax.monitoring.register_event_duration_secs_listener(compiled)
