"""The settings that benches of the transfer change: every arm is a config, and changes what it says."""

from pathlib import Path

import pytest

from bench import what_it_learns, what_views_tell
from bench.transfer_recipe import recipe
from cmr_jax.errors import InputError

_DATA = Path("records")


@pytest.mark.parametrize("arm", what_it_learns.ARMS)
def test_every_arm_is_the_recipe_but_for_one_thing(arm: str):
    config, base = what_it_learns.arm_config(arm, _DATA, 3, 50), recipe(_DATA, 50, {"train.seed": 3})
    assert (config.data.path, config.train.steps, config.train.seed) == ("records", 50, 3)
    assert (config == base) == (arm in ("base", "untrained", "half", "quarter"))


def test_arms_of_views_differ_in_their_views_alone():
    found = {arm: what_views_tell.arm_config(arm, _DATA, 0, 50, 1.5).data for arm in what_views_tell.ARMS}
    assert {arm: data.views for arm, data in found.items()} == {
        "all": ("cine_sax",) * 4 + ("lge_sax",) * 4,
        "no_lge": ("cine_sax",) * 4,
    }
    assert {data.spacing_mm for data in found.values()} == {1.5}


def test_a_setting_that_no_config_has_is_said():
    with pytest.raises(KeyError):
        recipe(_DATA, 50, {"model.video.motion_gian": 1.0})
    with pytest.raises(InputError, match="motion_gain must be positive"):
        recipe(_DATA, 50, {"model.video.motion_gain": 0.0})
