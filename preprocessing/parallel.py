"""Spawned workers that nothing in a file can stop, and a progress display with a plain fallback.

`concurrent.futures` loses the whole pool with one worker and cannot end a task that hangs; here a worker is a process
of its own with a pipe, and its death or delay costs the item that it was at.
"""

import collections
import math
import multiprocessing.connection
import os
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

from tqdm import tqdm

from cmr_jax.errors import InputError
from preprocessing.worker import PATIENCE_S, Job, Work, Worker

DEFAULT_MEMORY_GB = 8.0
DEFAULT_TIMEOUT_S = 600.0
_PLAIN_INTERVAL_S = 10.0
_FAILED_STARTS = 3  # one after the other
# A worker is one core's worth: a numerical library that starts its own threads would only fight its neighbours.
_THREAD_VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


def available_cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class Workers:
    """A pool of spawned processes; with `num_workers=0` everything runs in this process, without any guard.

    `memory_gb` limits the address space of each (0: no limit). Results come in the order of the items whatever the
    number of workers.
    """

    def __init__(self, num_workers: int, memory_gb: float = DEFAULT_MEMORY_GB):
        self._num_workers, self._memory_gb = num_workers, memory_gb
        self._workers: list[Worker] = []
        if num_workers > 0:
            for name in _THREAD_VARIABLES:
                os.environ.setdefault(name, "1")

    def __enter__(self) -> "Workers":
        return self

    def __exit__(self, *_: Any) -> None:
        self._end()

    def _end(self) -> None:
        for worker in self._workers:
            worker.process.kill()
        while self._workers:
            self._workers.pop().end()

    def map[Item, Result](
        self,
        function: Callable[[Item], Result],
        items: Sequence[Item],
        chunk: int = 1,
        *,
        timeout_s: float = 0.0,
        lost: Callable[[Item, str], Result] | None = None,
    ) -> Iterator[Result]:
        """`function` of each item, `chunk` items a message, at most `timeout_s` seconds a message (0: for ever).

        A message that ends its worker or takes too long is repeated item by item. Where an item alone ends its worker
        twice, or takes too long, `lost(item, why)` is called here for the result; without it that raises RuntimeError.
        What the function raises is raised here. One map at a time.
        """
        if self._num_workers <= 0:
            return map(function, items)
        return self._map(_Run(Work(function, timeout_s), items, chunk, lost or _refuse))

    def _map(self, run: "_Run") -> Iterator[Any]:
        size = min(self._num_workers, -(-len(run.items) // run.chunk))
        for worker in self._workers:
            worker.prepare(run.work)
        done: dict[int, Any] = {}
        following = 0
        try:
            while following < len(run.items):
                self._start(size, run)
                for worker in self._workers:
                    if worker.ready and worker.job is None and (job := run.next_job()):
                        worker.give(job, run.work.timeout_s)
                for first, values in self._collect(run):
                    done.update(enumerate(values, first))
                while following in done:
                    yield done.pop(following)
                    following += 1
        finally:
            if following < len(run.items):  # an error, or the caller lost interest: what still runs is nobody's
                self._end()

    def _start(self, size: int, run: "_Run") -> None:
        while len(self._workers) < size:
            try:
                worker = Worker(self._memory_gb)
            except OSError as error:
                raise InputError(
                    f"no worker process can be started ({error.strerror}): give a lower --num_workers"
                ) from None
            worker.prepare(run.work)
            self._workers.append(worker)

    def _collect(self, run: "_Run") -> Iterator[tuple[int, list[Any]]]:
        """Waits until a worker says something, ends, or is late; gives (first item, results) of jobs that are over."""
        soonest = min(worker.deadline for worker in self._workers)
        wait_s = None if soonest == math.inf else max(0.0, soonest - time.monotonic())
        said = multiprocessing.connection.wait([worker.pipe for worker in self._workers], wait_s)
        for worker in list(self._workers):
            if worker.pipe in said:
                try:
                    over = worker.receive()
                except EOFError:
                    self._workers.remove(worker)
                    yield from run.died(worker.job, worker.end(PATIENCE_S))
                    continue
                run.failed_starts = 0
                if over:
                    job, values = over
                    yield job.first, values
            elif worker.deadline <= time.monotonic():
                self._workers.remove(worker)
                worker.end()
                yield from run.late(worker.job)


def _refuse(_: Any, why: str) -> Any:
    raise RuntimeError(f"a worker was lost: {why}")


class _Run:
    """One `map`: which items are still to be given out, and what becomes of those whose worker was lost."""

    def __init__(self, work: Work, items: Sequence[Any], chunk: int, lost: Callable[[Any, str], Any]):
        self.work, self.items, self.chunk, self._lost = work, items, chunk, lost
        self._starts = iter(range(0, len(items), chunk))
        self._again: collections.deque[Job] = collections.deque()
        self.failed_starts = 0

    def next_job(self) -> Job | None:
        if self._again:
            return self._again.popleft()
        first = next(self._starts, None)
        return None if first is None else Job(first, list(self.items[first : first + self.chunk]))

    def died(self, job: Job | None, how: str) -> Iterator[tuple[int, list[Any]]]:
        """After a worker ended: one item gets a second chance, for the death may have been a neighbour's doing."""
        if job is None:
            self.failed_starts += 1
            if self.failed_starts >= _FAILED_STARTS:
                raise InputError(
                    f"workers end while they start ({how}): see what they said, or give more --worker_memory_gb"
                )
        elif len(job.items) == 1 and job.deaths == 0:
            self._again.append(Job(job.first, job.items, 1))
        else:
            yield from self._one_by_one(job, f"its worker process ended: {how}", 1)

    def late(self, job: Job | None) -> Iterator[tuple[int, list[Any]]]:
        assert job is not None
        yield from self._one_by_one(job, f"it took longer than {self.work.timeout_s:g} s")

    def _one_by_one(self, job: Job, why: str, deaths: int = 0) -> Iterator[tuple[int, list[Any]]]:
        if len(job.items) == 1:
            yield job.first, [self._lost(job.items[0], why)]
        else:
            self._again.extend(Job(job.first + n, [item], deaths) for n, item in enumerate(job.items))


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
