"""What trains, at which rate, and what is remembered of it."""

import dataclasses
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cmr_jax import optim
from cmr_jax.config import OptimConfig
from cmr_jax.errors import InputError
from cmr_jax.sharding import path_name
from tests import tiny

TOWERS = [
    tiny.model(),
    tiny.model(logit_bias=-10.0, video=dataclasses.replace(tiny.VIDEO, series_depth=3)),
    tiny.model(video=dataclasses.replace(tiny.VIDEO, attention="factorised", phase_depth=1)),
    tiny.model(arch="concat", video=dataclasses.replace(tiny.VIDEO, tubelet=1), image_head="relu_linear"),
    tiny.model(text=dataclasses.replace(tiny.TEXT, kind="bert")),
]


def _named(tree) -> dict[str, np.ndarray]:
    return {path_name(path): np.asarray(leaf) for path, leaf in jax.tree_util.tree_leaves_with_path(tree)}


@pytest.mark.parametrize("model", TOWERS, ids=["study", "series", "factorised", "concat", "bert"])
def test_every_parameter_has_a_place(model):
    params = model.abstract_params()
    found = _named(optim.rates(params, OptimConfig(layer_decay=0.5)))
    assert len(found) == len(jax.tree.leaves(params))
    for name, rate in found.items():
        leaf = _named(jax.tree.map(lambda x: np.empty(x.shape, np.int8), params))[name]
        assert np.broadcast_shapes(rate.shape, leaf.shape) == leaf.shape, name
        # One number a layer of stacked blocks; below them less than the lowest, above them all.
        assert rate.size == (leaf.shape[0] if "/blocks/" in name else 1), name
    assert found["image_projection/linear/kernel"] == 1.0


def test_rates_fall_from_block_to_block_over_all_stacks_of_a_tower():
    params = TOWERS[1].abstract_params()
    found = _named(optim.rates(params, OptimConfig(layer_decay=0.5, image_rate=0.1, text_rate=2.0)))
    kernel = "blocks/attention/qkv/kernel"
    series = found[f"image/series_stack/{kernel}"]
    space = found["image/tower/stack/blocks/space/qkv/kernel"]
    np.testing.assert_allclose(series.ravel(), 0.1 * np.array([0.25, 0.5, 1.0]), rtol=1e-6)
    np.testing.assert_allclose(space.ravel(), 0.1 * np.array([0.0625, 0.125]), rtol=1e-6)
    np.testing.assert_allclose(found["image/tower/patch/kernel"], 0.1 * 0.03125, rtol=1e-6)
    np.testing.assert_allclose(found[f"text/stack/{kernel}"].ravel(), 2.0 * np.array([0.5, 1.0]), rtol=1e-6)
    np.testing.assert_allclose(found["text/token/embedding"], 2.0 * 0.25, rtol=1e-6)
    assert found["log_scale"] == 1.0 and found["text_projection/linear/kernel"] == 1.0


def test_a_parameter_without_a_place_is_an_error():
    with pytest.raises(ValueError, match="no layer rule for 'image/novel'"):
        optim.rates({"image": {"novel": jnp.zeros(3)}}, OptimConfig())


def _params():
    return {
        "image": {"stack": {"blocks": {"kernel": jnp.ones((2, 3, 3))}}, "norm": {"scale": jnp.ones(3)}},
        "text": {"stack": {"blocks": {"kernel": jnp.ones((2, 3, 3))}}},
        "log_scale": jnp.ones(()),
    }


def _updated(config: OptimConfig, steps: int = 1):
    """(parameters, optimizer state) after `steps` updates with gradients of 1, at a constant rate."""
    config = dataclasses.replace(config, warmup_steps=0, schedule="constant", weight_decay=0.0, learning_rate=0.1)
    optimizer = optim.make_optimizer(config, 10)
    params = _params()
    state = optimizer.init(params)
    seen = []
    with jax.numpy_dtype_promotion("standard"):
        for _ in range(steps):
            moving, fixed = optim.split(params, config.freeze)
            updates, state = optimizer.update(jax.tree.map(jnp.ones_like, moving), state, moving)
            moved = jax.tree.map(lambda p, u: p + u, moving, updates)
            params = optim.join(moved, fixed)
            seen.append(params)
    return params, state, seen


def test_a_locked_tower_stays_and_costs_no_state():
    before = _named(_params())
    params, state, _ = _updated(OptimConfig(freeze=("^image/",)))
    for name, leaf in _named(params).items():
        assert np.array_equal(leaf, before[name]) == name.startswith("image/"), name
    of_state = [path_name(path) for path, _ in jax.tree_util.tree_leaves_with_path(state)]
    assert any("mu/text" in name for name in of_state)
    assert not any(re.search("(mu|nu)/image", name) for name in of_state)


@pytest.mark.parametrize(
    ("freeze", "says"), [(("^imgae/",), "'^imgae/' matches no parameter"), ((".",), "leaves nothing to train")]
)
def test_patterns_that_cannot_be_meant_are_refused(freeze: tuple[str, ...], says: str):
    with pytest.raises(InputError, match=re.escape(says)):
        optim.split(_params(), freeze)


def test_updates_shrink_with_the_rate_of_their_layer():
    params, _, _ = _updated(OptimConfig(layer_decay=0.5, image_rate=0.2))
    moved = 1.0 - params["image"]["stack"]["blocks"]["kernel"]
    np.testing.assert_allclose(moved[1], 0.1 * 0.2, rtol=1e-4)
    np.testing.assert_allclose(moved[0], 0.1 * 0.2 * 0.5, rtol=1e-4)
    np.testing.assert_allclose(1.0 - params["log_scale"], 0.1, rtol=1e-4)


def test_the_average_is_that_of_the_parameters_after_each_update():
    config = OptimConfig(ema_decay=0.25, freeze=("^text/",))
    params, state, seen = _updated(config, steps=6)
    want = float(seen[0]["log_scale"])
    for count, each in enumerate(seen[1:], 1):
        old = min(0.25, count / (count + 9))
        want = old * want + (1 - old) * float(each["log_scale"])
    found = optim.averaged(params, state)
    np.testing.assert_allclose(found["log_scale"], want, rtol=1e-6)
    assert abs(float(found["log_scale"] - params["log_scale"])) > 1e-3
    np.testing.assert_array_equal(found["text"]["stack"]["blocks"]["kernel"], 1.0)
    plain, without, _ = _updated(OptimConfig())
    assert optim.averaged(plain, without) is plain


@pytest.mark.parametrize(("name", "half", "last"), [("cosine", 0.5, 0.0), ("linear", 0.5, 0.0), ("constant", 1.0, 1.0)])
def test_schedules(name: str, half: float, last: float):
    at = optim.schedule(OptimConfig(learning_rate=2.0, warmup_steps=10, warmup_from=1.0, schedule=name), 110)
    assert [float(jnp.asarray(at(s))) for s in (0, 5, 10)] == pytest.approx([1.0, 1.5, 2.0])
    assert float(jnp.asarray(at(60))) == pytest.approx(2.0 * half, rel=1e-6)
    assert float(jnp.asarray(at(110))) == pytest.approx(2.0 * last, abs=1e-6)


def test_lengths_in_epochs_and_examples():
    config = tiny.config(steps=7, batch_size=16)
    assert optim.lengths(config, 100) == config
    longer = dataclasses.replace(config, train=dataclasses.replace(config.train, epochs=2.5))
    assert optim.lengths(longer, 100).train.steps == 16  # 250 studies in batches of 16
    both = dataclasses.replace(
        config,
        train=dataclasses.replace(config.train, examples=1_000_000),
        optim=dataclasses.replace(config.optim, warmup_epochs=1.0),
    )
    assert optim.lengths(both, 13_787).train.steps == 62_500
    assert optim.lengths(both, 13_787).optim.warmup_steps == 862
