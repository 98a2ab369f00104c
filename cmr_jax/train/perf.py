"""Where the time of a run goes."""

import contextlib
import time
from collections.abc import Iterator


class Clock:
    """Sums the wall-clock seconds spent inside named `span`s since the last `read`."""

    def __init__(self) -> None:
        self._spent: dict[str, float] = {}
        self._start = time.perf_counter()

    @contextlib.contextmanager
    def span(self, name: str) -> Iterator[None]:
        begin = time.perf_counter()
        try:
            yield
        finally:
            self._spent[name] = self._spent.get(name, 0.0) + time.perf_counter() - begin

    def read(self, steps: int) -> dict[str, float]:
        """`perf/step_seconds`, and `perf/<span>_share` of the time since the last read; starts anew."""
        total = max(time.perf_counter() - self._start, 1e-9)
        out = {"perf/step_seconds": total / max(steps, 1)}
        out |= {f"perf/{name}_share": spent / total for name, spent in self._spent.items()}
        self.__init__()
        return out
