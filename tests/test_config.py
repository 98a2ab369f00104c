import importlib
from pathlib import Path

import pytest

from cmr_jax import config
from cmr_jax.errors import InputError

CONFIGS = sorted(p.stem for p in (Path(__file__).parent.parent / "configs").glob("*.py") if p.stem != "__init__")


def test_round_trip_keeps_every_value():
    assert config.from_dict(config.to_dict(config.Config())) == config.Config()


@pytest.mark.parametrize("name", CONFIGS)
def test_every_config_file_is_locked_and_valid(name: str):
    made = importlib.import_module(f"configs.{name}").get_config()
    assert made.is_locked
    assert config.from_dict(made.to_dict()).train.steps > 0


def test_unknown_key_names_its_nearest_neighbour():
    with pytest.raises(InputError, match=r"config\.train\.batchsize; did you mean 'batch_size'"):
        config.from_dict({"train": {"batchsize": 4}})


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        ({"train": {"steps": "many"}}, "config.train.steps is of type int"),
        ({"train": {"steps": True}}, "config.train.steps is of type int"),
        ({"train": {"batch_size": 1}}, "needs a negative"),
        ({"data": {"views": "cine_sax"}}, "config.data.views is a list of names"),
        ({"model": {"video": {"patch": 7}}}, "multiple of model.video.patch"),
        ({"model": {"remat": "some"}}, "none, full, dots"),
        ({"model": {"video": {"attention": "joint"}}}, "divided, factorised"),
        ({"model": {"video": {"attention": "factorised"}}}, "phase_depth of at least 1"),
        ({"model": {"video": {"phase_depth": 2}}}, "divided with 0"),
        ({"model": {"video": {"patch_dropout": 1.0}}}, r"model.video.patch_dropout lies in \[0, 1\)"),
        ({"model": {"video": {"slice_dropout": -0.1}}}, "model.video.slice_dropout lies in"),
        ({"model": {"arch": "concat", "video": {"tubelet": 1, "series_depth": 1}}}, "go with model.arch study"),
        ({"data": {"view_dropout": 1.0}}, "data.view_dropout lies in"),
        ({"data": {"text_sampling": "word"}}, "none, section, sentence"),
        ({"loss": {"part_weight": 0.0}}, "part_weight must be positive"),
        ({"loss": {"kind": "hinge"}}, "softmax, sigmoid"),
        ({"loss": {"kind": "sigmoid"}}, "logit_bias"),
    ],
)
def test_values_that_do_not_fit_are_refused(raw: dict, message: str):
    with pytest.raises(InputError, match=message):
        config.from_dict(raw)


def test_an_int_serves_where_a_float_is_meant():
    assert config.from_dict({"optim": {"clip_norm": 2}}).optim.clip_norm == 2.0
