"""Is training well? Losses that are not finite, or leap; when to give up; from which step all was still well."""

import collections
import math
import statistics

from cmr_jax.config import TrainConfig
from cmr_jax.errors import InputError

# Losses that the usual one is the median of, and how many of them it takes to call another one a spike.
_WINDOW, _ENOUGH = 64, 8
# In nats: a loss is never called a spike for being many times next to nothing.
_LEAST = 0.1


class Health:
    """Told of every step in turn. `usual` is the loss that was usual before a restart, where one is known."""

    def __init__(self, config: TrainConfig, usual: float | None = None):
        self._most, self._factor = config.max_skipped, config.spike_factor
        self._losses = collections.deque([usual] * _ENOUGH if usual is not None else [], _WINDOW)
        self._bad_in_a_row = 0
        self._saved: int | None = None
        self._counts = {"skipped": 0, "spikes": 0}

    @property
    def usual(self) -> float:
        """The median of the good losses of late; NaN before there are enough to tell."""
        return statistics.median(self._losses) if len(self._losses) >= _ENOUGH else math.nan

    def saved(self, step: int) -> None:
        """The state of `step` is in a checkpoint: whether it is good is for later steps to show."""
        self._saved = step

    def saw(self, step: int, loss: float, skipped: bool) -> int | None:
        """Takes the loss of `step`, which its update was made from. Returns the saved step that it shows to be good.

        A skipped update leaves the state as it was, so it says nothing of it; a spike speaks against it.

        Raises:
          InputError: where `train.max_skipped` steps in a row were bad.
        """
        spike = not skipped and loss > self._factor * max(self.usual, _LEAST)  # never, of NaN
        self._counts["skipped"] += skipped
        self._counts["spikes"] += spike
        self._bad_in_a_row = self._bad_in_a_row + 1 if skipped or spike else 0
        if self._bad_in_a_row >= self._most:
            raise InputError(
                f"stopped at step {step}: {self._bad_in_a_row} updates in a row had a loss or gradient that is not"
                f" finite and were skipped, or a loss {self._factor:g} times the usual one; the checkpoint that"
                " last_good.json names is from before. Lower the learning rate (config.optim.learning_rate) or look at"
                " the data"
            )
        if spike:
            self._saved = None
        if skipped or spike:
            return None
        self._losses.append(loss)
        shown = self._saved if self._saved is not None and self._saved < step else None
        self._saved = None if shown is not None else self._saved
        return shown

    def read(self) -> dict[str, float]:
        """`skipped` and `spikes` since the last read."""
        out = {name: float(count) for name, count in self._counts.items()}
        self._counts = dict.fromkeys(self._counts, 0)
        return out
