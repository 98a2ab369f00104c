"""Losses that are not finite or leap: counted, too many end the run, and no state that led to one is called good."""

import math

import pytest

from cmr_jax.config import TrainConfig
from cmr_jax.errors import InputError
from cmr_jax.train.health import Health

CONFIG = TrainConfig(max_skipped=3, spike_factor=10.0)


def _after(*losses: float) -> Health:
    health = Health(CONFIG)
    for step, loss in enumerate(losses, 1):
        health.saw(step, loss, not math.isfinite(loss))
    return health


def test_a_spike_is_counted_and_is_not_usual():
    health = _after(*[2.0] * 8, 19.0, 21.0, 2.0)
    assert health.read() == {"skipped": 0.0, "spikes": 1.0}
    assert health.read() == {"skipped": 0.0, "spikes": 0.0}
    assert health.usual == 2.0


def test_a_loss_next_to_nothing_may_grow_tenfold():
    assert _after(*[0.001] * 8, 0.9).read()["spikes"] == 0
    assert _after(*[0.001] * 8, 1.1).read()["spikes"] == 1


def test_too_many_bad_steps_in_a_row_end_it_whatever_they_are():
    health = _after(*[1.0] * 8, math.nan, 50.0)
    with pytest.raises(InputError, match=r"stopped at step 11: 3 updates in a row .* last_good\.json"):
        health.saw(11, 50.0, False)
    _after(*[1.0] * 8, 50.0, 50.0, 1.0, 50.0, 50.0, 1.0)


def test_after_a_restart_a_leap_is_still_one():
    health = Health(CONFIG, usual=1.0)
    health.saw(101, 11.0, False)
    assert health.read()["spikes"] == 1


def test_a_saved_step_is_good_once_a_later_loss_has_shown_it():
    health = _after(1.0, 1.0)
    health.saved(2)
    assert health.saw(2, 1.0, False) is None  # its own loss is of the state before
    assert health.saw(3, math.nan, True) is None  # skipped: the state is still that of step 2
    assert health.saw(4, 1.0, False) == 2
    assert health.saw(5, 1.0, False) is None


def test_a_saved_step_that_leads_to_a_spike_is_never_good():
    health = _after(*[1.0] * 8)
    health.saved(8)
    assert health.saw(9, 20.0, False) is None
    assert health.saw(10, 1.0, False) is None
