"""The dual encoder as functions: shapes, masks, gradients, remat, meshes."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cmr_jax import sharding
from cmr_jax.config import MeshConfig
from tests import tiny


@pytest.fixture(scope="module")
def params():
    """Parameters a little off their start: a zero projection would hide what the temporal attention does."""
    drawn = tiny.model().init(jax.random.key(0))
    leaves, tree = jax.tree.flatten(drawn)
    keys = jax.random.split(jax.random.key(1), len(leaves))
    moved = [leaf + 0.05 * jax.random.normal(k, leaf.shape) for leaf, k in zip(leaves, keys, strict=True)]
    return jax.tree.unflatten(tree, moved)


def _embed(params, batch, **changes):
    return jax.jit(tiny.model(**changes).apply)(params, batch)


def test_embeddings_are_unit_vectors_in_float32(params):
    out = _embed(params, tiny.batch())
    for name in ("image_embedding", "text_embedding"):
        assert out[name].shape == (8, 16) and out[name].dtype == jnp.float32
        np.testing.assert_allclose(np.linalg.norm(out[name], axis=1), 1.0, atol=1e-5)
    assert float(out["scale"]) <= 100.0


def test_padding_cannot_change_an_embedding(params):
    """What stands in padded frames, padded series and padded tokens is bitwise without effect."""
    batch = tiny.batch()
    mask = np.array(batch.video_mask_BVT)
    mask[:, 2] = False
    mask[:, 1, 2:] = False
    batch = dataclasses.replace(batch, video_mask_BVT=jnp.asarray(mask))
    noise = np.random.default_rng(9).integers(0, 255, batch.video_BVTHW.shape).astype(np.uint8)
    tokens = np.where(batch.token_mask_BL, batch.tokens_BL, 7).astype(np.int32)
    other = dataclasses.replace(
        batch,
        video_BVTHW=jnp.where(mask[..., None, None], batch.video_BVTHW, noise),
        view_BV=jnp.where(mask.any(2), batch.view_BV, 3),
        slice_BV=jnp.where(mask.any(2), batch.slice_BV, jnp.float32(0.7)),
        tokens_BL=jnp.asarray(tokens),
    )
    before, after = _embed(params, batch), _embed(params, other)
    for name in ("image_embedding", "text_embedding"):
        np.testing.assert_array_equal(before[name], after[name])


def test_the_order_of_series_does_not_matter_but_what_they_show_does(params):
    batch = tiny.batch()
    order = jnp.array([2, 0, 1])
    swap = ("video_BVTHW", "video_mask_BVT", "view_BV", "slice_BV")
    moved = dataclasses.replace(batch, **{name: getattr(batch, name)[:, order] for name in swap})
    before = _embed(params, batch)["image_embedding"]
    np.testing.assert_allclose(before, _embed(params, moved)["image_embedding"], atol=1e-6)
    relabelled = dataclasses.replace(batch, view_BV=(batch.view_BV + 1) % 7)
    assert np.abs(before - _embed(params, relabelled)["image_embedding"]).max() > 1e-4


def test_motion_is_seen(params):
    """The same frames in another order are another embedding: time is not averaged away."""
    batch = tiny.batch()
    backwards = dataclasses.replace(batch, video_BVTHW=batch.video_BVTHW[:, :, ::-1])
    difference = _embed(params, batch)["image_embedding"] - _embed(params, backwards)["image_embedding"]
    assert np.abs(difference).max() > 1e-4


def test_a_study_without_any_frame_is_finite(params):
    batch = tiny.batch()
    empty = dataclasses.replace(batch, video_mask_BVT=jnp.zeros_like(batch.video_mask_BVT))
    assert np.isfinite(_embed(params, empty)["image_embedding"]).all()


def _gradients(model, params, batch, mesh=None):
    def loss(params):
        out = model.apply(params, batch, constrain=sharding.batch_constraint(mesh))
        return (out["image_embedding"] * out["text_embedding"]).sum() * out["scale"]

    return jax.jit(jax.grad(loss))(params)


def test_every_parameter_gets_a_gradient(params):
    gradients = _gradients(tiny.model(), params, tiny.batch())
    dead = [
        sharding.path_name(path)
        for path, leaf in jax.tree_util.tree_leaves_with_path(gradients)
        # A shift of all keys shifts all scores alike, and softmax does not see it: only keys' biases may be still.
        if not np.abs(leaf).max() > 0
    ]
    assert dead == []


def test_the_temporal_attention_starts_as_the_image_model_and_learns():
    """Zero projection: the first step moves it, the second moves queries, keys and values (recipes, "A fault")."""
    model, batch = tiny.model(), tiny.batch()
    params = model.init(jax.random.key(0))
    for _ in range(2):
        gradients = _gradients(model, params, batch)
        params = jax.tree.map(lambda p, g: p + 0.1 * g, params, gradients)
    time = gradients["image"]["tower"]["stack"]["blocks"]["time"]
    for q_k_v in np.split(np.asarray(time["qkv"]["kernel"]), 3, axis=-1):
        assert np.abs(q_k_v).max() > 0
    start = model.init(jax.random.key(0))["image"]["tower"]["stack"]["blocks"]["time"]
    assert np.abs(start["out"]["kernel"]).max() == 0 and np.abs(start["qkv"]["kernel"]).max() > 0


@pytest.mark.parametrize("remat", ["full", "dots"])
def test_remat_changes_memory_and_not_the_gradient(params, remat):
    batch = tiny.batch()
    plain, spared = tiny.model(remat="none"), tiny.model(remat=remat)
    for a, b in zip(
        *map(jax.tree.leaves, (_gradients(plain, params, batch), _gradients(spared, params, batch))), strict=True
    ):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5)

    def operations(model, name: str) -> int:
        gradient = jax.grad(lambda p: model.apply(p, batch)["image_embedding"].sum())
        return str(jax.make_jaxpr(gradient)(params)).count(name)

    # "full" makes the matrix products again, "dots" keeps them and makes the rest (the GELU's tanh) again.
    again = "dot_general" if remat == "full" else "tanh"
    assert operations(spared, again) > operations(plain, again)
    assert (operations(spared, "dot_general") > operations(plain, "dot_general")) == (remat == "full")


def test_one_and_eight_devices_agree(params):
    batch = tiny.batch()
    mesh = sharding.make_mesh(MeshConfig(fsdp=2))
    spread = jax.device_put(params, sharding.tree_shardings({"params": params}, mesh)["params"])
    model = tiny.model()
    whole = _gradients(model, params, batch)
    parts = _gradients(model, spread, sharding.put_batch(batch, mesh), mesh)
    for a, b in zip(*map(jax.tree.leaves, (whole, parts)), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5)


def test_bfloat16_stays_near_float32_and_keeps_float32_parameters(params):
    batch = tiny.batch()
    half = _embed(params, batch, dtype="bfloat16")
    full = _embed(params, batch)
    cosine = (np.asarray(half["image_embedding"]) * np.asarray(full["image_embedding"])).sum(axis=1)
    assert cosine.min() > 0.995
    model = tiny.model(dtype="bfloat16")
    assert {leaf.dtype for leaf in jax.tree.leaves(model.abstract_params())} == {jnp.dtype("float32")}
    program = jax.jit(model.apply).lower(params, batch).as_text()
    assert "dot_general" in program and "bf16" in program


def test_dropout_follows_its_key(params):
    model, batch = tiny.model(dropout=0.3), tiny.batch()
    run = jax.jit(lambda key: model.apply(params, batch, key=key)["image_embedding"])
    one, same, other = run(jax.random.key(1)), run(jax.random.key(1)), run(jax.random.key(2))
    np.testing.assert_array_equal(one, same)
    assert np.abs(one - other).max() > 1e-4
