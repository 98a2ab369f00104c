"""Spawned workers and a progress display, both with a plain fallback."""

import multiprocessing
import multiprocessing.connection
import os
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from typing import Any

from tqdm import tqdm

_PLAIN_INTERVAL_S = 10.0
# A worker is one core's worth: a numerical library that starts its own threads would only fight its neighbours.
_THREAD_VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


def available_cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _end_with_parent() -> None:
    """Makes a worker leave when its parent was killed; it would wait for work for ever otherwise."""
    parent = multiprocessing.parent_process()
    assert parent is not None

    def watch() -> None:
        multiprocessing.connection.wait([parent.sentinel])
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


class Workers:
    """A pool of spawned processes; with `num_workers=0` everything runs in this process.

    Results come in the order of the items whatever the number of workers.
    """

    def __init__(self, num_workers: int):
        self._pool: ProcessPoolExecutor | None = None
        if num_workers > 0:
            for name in _THREAD_VARIABLES:
                os.environ.setdefault(name, "1")
            spawn = multiprocessing.get_context("spawn")
            self._pool = ProcessPoolExecutor(num_workers, spawn, initializer=_end_with_parent)

    def __enter__(self) -> "Workers":
        return self

    def __exit__(self, *_: Any) -> None:
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=True)

    def map[Item, Result](
        self, function: Callable[[Item], Result], items: Sequence[Item], chunk: int = 1
    ) -> Iterator[Result]:
        if self._pool is None:
            return map(function, items)
        return self._pool.map(function, items, chunksize=chunk)


def progress[Item](items: Iterable[Item], total: int, what: str) -> Iterator[Item]:
    """Passes `items` on: a bar on a terminal, a plain line every ten seconds elsewhere."""
    if sys.stderr.isatty():
        yield from tqdm(items, total=total, desc=what, unit="")
        return
    last = time.monotonic()
    for done, item in enumerate(items, 1):
        yield item
        if time.monotonic() - last > _PLAIN_INTERVAL_S:
            last = time.monotonic()
            print(f"{what}: {done} of {total}", file=sys.stderr, flush=True)
