"""One spawned worker process, from both ends of its pipe. It may hang, abort or fill its memory: the parent sees it.

The process imports this module and what the pickled function names; nothing is inherited.
"""

import contextlib
import dataclasses
import math
import multiprocessing
import multiprocessing.connection
import os
import signal
import threading
import time
from collections.abc import Callable
from multiprocessing import resource_tracker
from typing import Any

PATIENCE_S = 5.0
_ALARM_GRACE_S = 30.0
_OUT_OF_MEMORY = 86  # exit code


@dataclasses.dataclass
class Raised:
    """An exception of the function: ours to fix, so the parent raises it."""

    error: BaseException


@dataclasses.dataclass
class Work:
    """What a worker is to do with the items that follow."""

    function: Callable[[Any], Any]
    timeout_s: float


@dataclasses.dataclass
class Ready:
    """The answer to the `turn`-th Work that a worker got."""

    turn: int


def _end_with_parent() -> None:
    """Makes a worker leave when its parent was killed, even in the middle of an item."""
    parent = multiprocessing.parent_process()
    assert parent is not None

    def watch() -> None:
        multiprocessing.connection.wait([parent.sentinel])
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def _limit(memory_gb: float) -> None:
    """Limits the address space and forbids core files, which would hold patients' images. Unix only."""
    try:
        import resource
    except ImportError:
        return
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if memory_gb > 0:
        most = int(memory_gb * (1 << 30))
        hard = resource.getrlimit(resource.RLIMIT_AS)[1]
        most = most if hard == resource.RLIM_INFINITY else min(most, hard)
        resource.setrlimit(resource.RLIMIT_AS, (most, hard))


def serve(pipe: multiprocessing.connection.Connection, memory_gb: float) -> None:
    """A worker: receives a `Work`, then lists of items; answers each list with the list of results."""
    if hasattr(signal, "pthread_sigmask"):  # ctrl-C is the parent's business
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
    _end_with_parent()
    # What decoders in C print may quote the file.
    silent = os.open(os.devnull, os.O_WRONLY)
    os.dup2(silent, 1)
    os.dup2(silent, 2)
    _limit(memory_gb)
    try:
        work: Any = None
        turn = 0
        while True:
            received = pipe.recv()
            if isinstance(received, Work):
                work, turn = received, turn + 1
                pipe.send(Ready(turn))
                continue
            # The kernel's alarm ends a worker that hangs in C with its parent dead; the parent is earlier otherwise.
            signal.setitimer(signal.ITIMER_REAL, work.timeout_s + _ALARM_GRACE_S if work.timeout_s else 0)
            pipe.send([work.function(item) for item in received])
            signal.setitimer(signal.ITIMER_REAL, 0)
    except EOFError:
        return
    except MemoryError:
        os._exit(_OUT_OF_MEMORY)
    except SystemExit:
        os._exit(1)
    except BaseException as error:
        try:
            pipe.send(Raised(error))
        except Exception:  # not every exception can be sent
            pipe.send(Raised(RuntimeError(type(error).__name__)))


@dataclasses.dataclass
class Job:
    """Items `first`, `first + 1`, … that a worker gets at once."""

    first: int
    items: list[Any]
    deaths: int = 0  # of workers that had this job


class Worker:
    """A process with what it is doing. `job` is None while it starts or waits."""

    def __init__(self, memory_gb: float):
        spawn = multiprocessing.get_context("spawn")
        self.pipe, theirs = spawn.Pipe()
        self.process = spawn.Process(target=serve, args=(theirs, memory_gb), daemon=True)
        self.ready = False
        self._turn = 0
        self.job: Job | None = None
        self.deadline = math.inf
        blocked = hasattr(signal, "pthread_sigmask")
        if blocked:  # Python starts this with the first process, and would unblock the signal half-way
            resource_tracker.ensure_running()
        before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT}) if blocked else set()
        try:
            self.process.start()
        finally:
            if blocked:
                signal.pthread_sigmask(signal.SIG_SETMASK, before)
            theirs.close()

    def prepare(self, work: Work) -> None:
        self.ready, self.job, self.deadline = False, None, math.inf
        self._turn += 1
        self._send(work)

    def give(self, job: Job, timeout_s: float) -> None:
        self.job = job
        self.deadline = time.monotonic() + timeout_s if timeout_s else math.inf
        self._send(job.items)

    def _send(self, what: Any) -> None:
        with contextlib.suppress(OSError):  # it is gone: the next receive says so
            self.pipe.send(what)

    def receive(self) -> tuple[Job, list[Any]] | None:
        """The job that is over with its results; None where the worker only became ready.

        Raises EOFError where it ended, and what the function raised.
        """
        try:
            message = self.pipe.recv()
        except OSError:
            raise EOFError from None
        if isinstance(message, Raised):
            raise message.error
        if isinstance(message, Ready):
            self.ready = message.turn == self._turn  # a slow starter may answer an earlier one
            return None
        assert self.job is not None
        job, self.job, self.deadline = self.job, None, math.inf
        return job, message

    def end(self, patience_s: float = 0.0) -> str:
        """Ends the process unless it ends by itself in time; returns how it ended."""
        self.process.join(patience_s)
        self.process.kill()
        self.process.join(PATIENCE_S)  # one that waits for a dead disk cannot be ended, and is left behind
        self.pipe.close()
        code = self.process.exitcode
        if code is None:
            return "cannot be ended"
        self.process.close()
        if code == _OUT_OF_MEMORY:
            return "out of memory"
        known = {-s.value: s.name for s in signal.Signals}
        return known.get(code, f"exit code {code}")
