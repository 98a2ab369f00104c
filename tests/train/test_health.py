"""Losses that are not finite or leap: counted, too many end the run, and no state that led to one is called good."""

import math

import jax.numpy as jnp
import pytest

from cmr_jax.errors import InputError
from cmr_jax.train import health as health_lib
from cmr_jax.train.health import Health


def _spikes(*losses: float, factor: float = 10.0) -> list[int]:
    """Which of the losses are spikes, those and what is not finite left out of the usual one as the step does."""
    usual, found = health_lib.no_losses(), []
    for i, loss in enumerate(losses):
        spike = bool(health_lib.is_spike(jnp.float32(loss), usual, factor))
        if spike:
            found.append(i)
        elif math.isfinite(loss):
            usual = health_lib.with_loss(usual, jnp.float32(loss))
    return found


def test_a_spike_is_ten_times_the_usual_loss_and_is_not_usual():
    assert _spikes(*[2.0] * 8, 19.0) == []
    assert _spikes(*[2.0] * 8, 21.0, 21.0, 2.0) == [8, 9]


def test_before_eight_losses_nothing_is_a_spike():
    assert _spikes(*[2.0] * 7, 100.0) == []
    assert _spikes(*[2.0] * 7, math.nan, 100.0) == []


def test_what_is_not_finite_is_no_spike():
    assert _spikes(*[2.0] * 8, math.nan) == []
    assert _spikes(*[2.0] * 8, math.inf) == [8]


def test_a_loss_next_to_nothing_may_grow_tenfold():
    assert _spikes(*[0.001] * 8, 0.9) == []
    assert _spikes(*[0.001] * 8, 1.1) == [8]


def test_the_usual_loss_falls_with_the_losses():
    assert _spikes(*[5.0] * 8, *[0.2] * 200, 2.5) == [208]


def _after(health: Health, *bad: str) -> Health:
    for step, what in enumerate(bad, 1):
        health.saw(step, skipped=what != "good", spike=what == "spike")
    return health


def test_both_kinds_are_counted_and_read_once():
    health = _after(Health(10), "good", "spike", "nan", "good")
    assert health.read() == {"skipped": 2.0, "spikes": 1.0}
    assert health.read() == {"skipped": 0.0, "spikes": 0.0}


def test_too_many_skipped_in_a_row_end_it_whatever_they_are():
    health = _after(Health(3), "good", "nan", "spike")
    with pytest.raises(InputError, match=r"stopped at step 4: 3 updates in a row .* last_good\.json"):
        health.saw(4, skipped=True, spike=True)
    _after(Health(3), "nan", "spike", "good", "spike", "nan", "good")


def test_a_saved_step_is_good_once_a_later_loss_has_shown_it():
    health = Health(10)
    health.saved(2)
    assert health.saw(2, skipped=False, spike=False) is None  # its own loss is of the state before
    assert health.saw(3, skipped=True, spike=False) is None  # the state is still that of step 2
    assert health.saw(4, skipped=False, spike=False) == 2
    assert health.saw(5, skipped=False, spike=False) is None


def test_a_saved_step_that_leads_to_a_spike_is_never_good():
    health = Health(10)
    health.saved(8)
    assert health.saw(9, skipped=True, spike=True) is None
    assert health.saw(10, skipped=False, spike=False) is None
