"""Is training well? Losses that are not finite, or leap; when to give up; from which step all was still well."""

import jax
import jax.numpy as jnp

from cmr_jax.errors import InputError

# Weight of the past in the mean of good losses that the usual one is, and how many of them it takes to call another one
# a spike.
_PAST, _ENOUGH = 0.97, 8
# In nats: a loss is never called a spike for being many times next to nothing.
_LEAST = 0.1


def no_losses() -> jax.Array:
    """What is known of the usual loss before the first one: float32 (sum, weight), part of the state."""
    return jnp.zeros(2, jnp.float32)


def is_spike(loss: jax.Array, usual_2: jax.Array, factor: float) -> jax.Array:
    """Whether `loss` is `factor` times the usual one, where enough losses have been seen to tell. NaN is none."""
    total, weight = usual_2[0], usual_2[1]
    known = weight >= 1.0 - _PAST ** (_ENOUGH - 0.5)
    return known & (loss > factor * jnp.maximum(total / jnp.maximum(weight, jnp.float32(1e-6)), jnp.float32(_LEAST)))


def with_loss(usual_2: jax.Array, loss: jax.Array) -> jax.Array:
    """What is known of the usual loss after a good one."""
    return _PAST * usual_2 + (1.0 - _PAST) * jnp.stack([loss, jnp.ones_like(loss)])


class Health:
    """Told of every step in turn, by the process that runs it."""

    def __init__(self, max_skipped: int):
        self._most = max_skipped
        self._bad_in_a_row = 0
        self._saved: int | None = None
        self._counts = {"skipped": 0, "spikes": 0}

    def saved(self, step: int) -> None:
        """The state of `step` is in a checkpoint: whether it is good is for later steps to show."""
        self._saved = step

    def saw(self, step: int, *, skipped: bool, spike: bool) -> int | None:
        """Takes what became of the update of `step`. Returns the saved step that its loss shows to be good.

        An update that was skipped because it is not finite says nothing of the state, which stays as it was; a spike,
        skipped too, speaks against it.

        Raises:
          InputError: where `train.max_skipped` updates in a row were skipped.
        """
        self._counts["skipped"] += skipped
        self._counts["spikes"] += spike
        self._bad_in_a_row = self._bad_in_a_row + 1 if skipped else 0
        if self._bad_in_a_row >= self._most:
            raise InputError(
                f"stopped at step {step}: {self._bad_in_a_row} updates in a row were skipped, for a loss or gradient"
                " that is not finite or a loss many times the usual one (config.train.spike_factor); the checkpoint"
                " that last_good.json names is from before. Lower the learning rate (config.optim.learning_rate) or"
                " look at the data"
            )
        if spike:
            self._saved = None
        if skipped:
            return None
        shown = self._saved if self._saved is not None and self._saved < step else None
        self._saved = None if shown is not None else self._saved
        return shown

    def read(self) -> dict[str, float]:
        """`skipped`, and the `spikes` among them, since the last read."""
        out = {name: float(count) for name, count in self._counts.items()}
        self._counts = dict.fromkeys(self._counts, 0)
        return out
