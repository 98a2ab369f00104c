"""A job whose processes wait for one that is stuck waits for ever. The watchdog ends it, and says which one it was.

Every process writes down how far it is, in a file of its own in the workdir. One that has made no progress for the time
allowed dumps the stack of each of its threads, compares those files, names the processes that the others wait for, and
ends at once: there is nothing left that could be saved.
"""

import contextlib
import faulthandler
import json
import os
import sys
import threading
import time
from pathlib import Path
from typing import Any, Self

# BSD's EX_SOFTWARE. Not the code of a warned job: who queues a stuck one again should know that he does.
EXIT_STUCK = 70
FOLDER = "alive"
# Stations of a step in their order: a process in an earlier one is behind.
# How many times longer start-up may take: until the second step, programs are compiled.
_START = 10
_ORDER = ("init", "data", "step", "eval", "save", "done")


class Watchdog:
    """Inside `with`, ends the process `seconds` after its last `beat` (0: never), or ten times that at start-up.

    It is left armed where several processes end in an error: the others may be waited for at exit, for ever.
    """

    def __init__(self, workdir: Path, process: int, processes: int, seconds: float):
        self._folder, self._process, self._processes = workdir / FOLDER, process, processes
        self._seconds = seconds
        self._beats, self._at, self._last = 0, (0, "init"), time.monotonic()
        self._first: int | None = None
        self._stepping = self._failed = False
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="watchdog", daemon=True)

    def beat(self, step: int, station: str) -> None:
        """The loop has come to `station` of `step`."""
        # The second step since the start has all that the loop runs compiled.
        self._first = step if self._first is None and step > 0 else self._first
        self._stepping = self._first is not None and step >= self._first + 2
        self._at, self._last = (step, station), time.monotonic()

    def __enter__(self) -> Self:
        if self._seconds:
            self._folder.mkdir(parents=True, exist_ok=True)
            self.beat(0, "init")
            self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if self._seconds and (kind is None or self._processes == 1):
            self.stop()
        self._failed = kind is not None

    def stop(self) -> None:
        """Disarms it. A process that has left in good order is not waited for, but says so."""
        self._over.set()
        if self._thread.is_alive():
            self._thread.join()
        faulthandler.cancel_dump_traceback_later()
        self._at = (self._at[0], "done")
        with contextlib.suppress(OSError):
            self._write()

    def _watch(self) -> None:
        tick = min(self._seconds / 10, 10.0)
        seen: dict[int, Any] = {}
        moved: dict[int, float] = {}
        while not self._over.wait(tick):
            # Should a thread hold the interpreter for ever, this one cannot run: C code then does half of its work.
            faulthandler.dump_traceback_later(_START * self._seconds + tick, exit=True)
            with contextlib.suppress(OSError):
                self._write()
            waited, allowed = time.monotonic() - self._last, self._allowed()
            if waited < allowed - self._seconds / 2:
                seen.clear()
                continue
            for process, told in self._told().items():
                if told != seen.get(process):
                    seen[process], moved[process] = told, time.monotonic()
            if waited >= allowed:
                self._end(waited, seen, {p: time.monotonic() - at for p, at in moved.items()})

    def _allowed(self) -> float:
        return self._seconds * (1 if self._stepping or self._failed else _START)

    def _write(self) -> None:
        self._beats += 1
        path = self._folder / f"{self._process}.json"
        temporary = path.with_suffix(".tmp")
        temporary.write_text(json.dumps([self._beats, os.getpid(), *self._at]))
        temporary.replace(path)

    def _told(self) -> dict[int, list[Any]]:
        """What each process has last written: beats, process id, step, station."""
        found = {}
        for process in range(self._processes):
            with contextlib.suppress(OSError, ValueError):
                found[process] = json.loads((self._folder / f"{process}.json").read_text())
        return found

    def _end(self, waited: float, told: dict[int, list[Any]], silent: dict[int, float]) -> None:
        step, station = self._at
        late = late_processes(told, silent, self._processes, self._seconds / 4)
        lines = [f"watchdog: process {self._process} made no progress for {waited:.0f} s, at {station} of step {step}"]
        lines += [f"watchdog: {line}" for line in late]
        print("\n".join(lines), file=sys.stderr, flush=True)
        faulthandler.dump_traceback(file=sys.stderr, all_threads=True)
        print(f"watchdog: process {self._process} ends (exit {EXIT_STUCK})", file=sys.stderr, flush=True)
        os._exit(EXIT_STUCK)


def late_processes(told: dict[int, list[Any]], silent: dict[int, float], processes: int, patience: float) -> list[str]:
    """A line for each process that the others wait for: those that give no sign of life, else those furthest behind.

    Args:
      told: What each process has last written of itself: beats, process id, step, station.
      silent: For how many seconds that has stood unchanged.
      patience: From how many on a process counts as gone.
    """
    gone = [p for p in range(processes) if p not in told or (silent[p] > patience and told[p][3] != "done")]
    if gone:
        return [f"process {p} is late: it gives no sign of life{_where(told.get(p))}" for p in gone]
    places = {p: (one[2], _ORDER.index(one[3])) for p, one in told.items()}
    first = min(places.values())
    return [f"process {p} is late: it is alive{_where(told[p])}" for p in sorted(places) if places[p] == first]


def _where(told: list[Any] | None) -> str:
    return "" if told is None else f", last seen at {told[3]} of step {told[2]}"
