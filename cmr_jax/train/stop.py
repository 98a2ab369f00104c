"""Leaving in good order: a signal is noted, the loop saves at the next step and the job ends to be queued again."""

import os
import signal
import types
from typing import Self

import jax
from jax.experimental import multihost_utils

# BSD's EX_TEMPFAIL, "try again later": what `launch/` scripts requeue on.
EXIT_REQUEUE = 75
_SIGNALS = (signal.SIGTERM, signal.SIGUSR1)


class Stopped(Exception):
    """Training ended before its last step because it was asked to; `step` is saved (or is 0, and nothing was done)."""

    def __init__(self, step: int):
        super().__init__(f"stopped after step {step}")
        self.step = step


class EvaluationLeft(Exception):
    """An evaluation was broken off, because training is to stop."""


class StopSignal:
    """Inside `with`, SIGTERM and SIGUSR1 (schedulers' warnings before they kill) only raise a flag.

    Among several processes the one that was warned tells the others, and all agree where to stop: jax's own preemption
    service does that, and listens to SIGTERM by itself.
    """

    def __init__(self) -> None:
        self._several = jax.process_count() > 1
        self._asked = False
        self._polls = 0
        self._before: dict[int, object] = {}

    def __enter__(self) -> Self:
        for one in _SIGNALS:
            if not (self._several and one == signal.SIGTERM):
                self._before[one] = signal.signal(one, self._note)
        return self

    def __exit__(self, *_: object) -> None:
        for one, handler in self._before.items():
            signal.signal(one, handler)  # pyright: ignore[reportArgumentType]

    def _note(self, number: int, _: types.FrameType | None) -> None:
        if self._several:
            os.kill(os.getpid(), signal.SIGTERM)
        else:
            self._asked = True

    def due(self) -> bool:
        """True from the moment on at which all processes are to stop; all of them ask equally often."""
        if self._several and not self._asked:
            self._polls += 1
            self._asked = multihost_utils.reached_preemption_sync_point(self._polls)
        return self._asked
