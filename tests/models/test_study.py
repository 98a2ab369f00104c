"""The study encoder: any subset of views and frames, padding and order without effect, parts left out in training."""

import dataclasses
import functools
import re
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from cmr_jax import sharding
from cmr_jax.config import MeshConfig
from cmr_jax.models import flops, layers
from cmr_jax.structs import Batch
from tests import tiny

KINDS = {
    "divided": {"series_depth": 1},
    "factorised": {"attention": "factorised", "phase_depth": 1},
    "motion": {"motion_gain": 3.0},
}


def _model(kind: str, **video: Any):
    return tiny.model(video=dataclasses.replace(tiny.VIDEO, **KINDS[kind], **video))


@functools.cache
def _params(kind: str):
    """A little off their start: a zero projection would hide what the temporal attention does."""
    leaves, tree = jax.tree.flatten(_model(kind).init(jax.random.key(0)))
    keys = jax.random.split(jax.random.key(1), len(leaves))
    moved = [leaf + 0.05 * jax.random.normal(k, leaf.shape) for leaf, k in zip(leaves, keys, strict=True)]
    return jax.tree.unflatten(tree, moved)


@functools.cache
def _encoder(kind: str):
    return jax.jit(_model(kind).encode_image)


def _embed(kind: str, batch: Batch) -> np.ndarray:
    return np.asarray(_encoder(kind)(_params(kind), batch))


def _masked(batch: Batch, mask_BVT: np.ndarray) -> Batch:
    return dataclasses.replace(batch, video_mask_BVT=jnp.asarray(mask_BVT))


def _series(batch: Batch, which: Any) -> Batch:
    names = ("video_BVTHW", "video_mask_BVT", "view_BV", "slice_BV")
    return dataclasses.replace(batch, **{name: getattr(batch, name)[:, which] for name in names})


def _ragged() -> np.ndarray:
    """One study a case: all frames, half of them, an odd number, one, one series alone, two, none, all."""
    mask = np.ones((8, 3, 4), bool)
    mask[1, :, 2:] = mask[2, :, 3:] = mask[3, :, 1:] = False
    mask[4, 1:] = mask[5, 2:] = mask[6] = False
    return mask


@pytest.mark.parametrize("kind", KINDS)
def test_any_subset_of_views_and_frames_has_a_finite_unit_embedding(kind: str):
    embedding = _embed(kind, _masked(tiny.batch(), _ragged()))
    assert embedding.shape == (8, 16) and embedding.dtype == np.float32
    assert np.isfinite(embedding).all()
    np.testing.assert_allclose(np.linalg.norm(embedding, axis=1), 1.0, atol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_what_stands_in_padding_is_bitwise_without_effect(kind: str):
    """Also in the second half of a tubelet whose first half is a frame."""
    mask, rng = _ragged(), np.random.default_rng(9)
    batch = _masked(tiny.batch(), mask)
    there = mask.any(axis=2)
    noise = rng.integers(0, 255, batch.video_BVTHW.shape).astype(np.uint8)
    other = dataclasses.replace(
        batch,
        video_BVTHW=jnp.where(mask[..., None, None], batch.video_BVTHW, noise),
        view_BV=jnp.where(there, batch.view_BV, 5),
        slice_BV=jnp.where(there, batch.slice_BV, jnp.float32(0.7)),
    )
    np.testing.assert_array_equal(_embed(kind, batch), _embed(kind, other))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("series", "frames"), [(2, 0), (0, 6)])
def test_more_padding_changes_no_more_than_the_order_of_a_sum(kind: str, series: int, frames: int):
    """Another amount of padding is another compiled shape. On a CPU that may sum in another order: the last bit."""
    batch = _masked(tiny.batch(), _ragged())

    def padded(x, series: int, frames: int):
        room = [(0, 0), (0, series), (0, frames), *[(0, 0)] * x.ndim][: x.ndim]
        return jnp.pad(x, room)

    names = ("video_BVTHW", "video_mask_BVT", "view_BV", "slice_BV")
    more = dataclasses.replace(batch, **{name: padded(getattr(batch, name), series, frames) for name in names})
    np.testing.assert_allclose(_embed(kind, batch), _embed(kind, more), atol=1e-6)


@pytest.mark.parametrize("kind", KINDS)
def test_the_order_of_series_does_not_matter_and_one_alone_is_as_if_the_others_never_were(kind: str):
    batch = _masked(tiny.batch(), _ragged())
    before = _embed(kind, batch)
    np.testing.assert_allclose(before, _embed(kind, _series(batch, np.array([2, 0, 1]))), atol=1e-6)
    alone = _embed(kind, _series(batch, np.array([0])))
    np.testing.assert_allclose(before[4], alone[4], atol=1e-6)
    assert np.abs(before[0] - alone[0]).max() > 1e-3


@pytest.mark.parametrize("kind", KINDS)
def test_view_slice_place_phase_order_and_frames_are_all_seen(kind: str):
    batch = tiny.batch()
    before = _embed(kind, batch)
    changes = {
        "view_BV": (batch.view_BV + 1) % 7,
        "slice_BV": 1.0 - batch.slice_BV,
        "video_BVTHW": batch.video_BVTHW[:, :, ::-1],
    }
    for name, value in changes.items():
        assert np.abs(before - _embed(kind, dataclasses.replace(batch, **{name: value}))).max() > 1e-4, name


@pytest.mark.parametrize("kind", KINDS)
def test_in_bfloat16_padding_is_bitwise_without_effect_and_the_order_of_series_too(kind: str):
    """bfloat16 sums would show their order in the third digit: what mixes series runs in float32."""
    model = _model(kind, depth=1)
    model = dataclasses.replace(model, config=dataclasses.replace(model.config, dtype="bfloat16"))
    params = jax.tree.map(lambda a, b: b[:1] if a.shape != b.shape else b, model.abstract_params(), _params(kind))
    run = jax.jit(model.encode_image)
    mask, rng = _ragged(), np.random.default_rng(9)
    batch = _masked(tiny.batch(), mask)
    before = np.asarray(run(params, batch))
    noise = rng.integers(0, 255, batch.video_BVTHW.shape).astype(np.uint8)
    other = jnp.where(mask[..., None, None], batch.video_BVTHW, noise)
    np.testing.assert_array_equal(before, run(params, dataclasses.replace(batch, video_BVTHW=other)))
    for order in ([2, 0, 1], [1, 0, 2], [2, 1, 0]):
        np.testing.assert_allclose(before, run(params, _series(batch, np.array(order))), atol=1e-6)
    image = model._make(jax.random.key(0)).image
    mixing = [part for name in ("pool", "series_stack") if (part := getattr(image, name)) is not None]
    layers_of = [layer for part in mixing for _, layer in nnx.iter_graph(part) if isinstance(layer, nnx.Linear)]
    assert layers_of and {jnp.dtype(layer.dtype) for layer in layers_of} == {jnp.dtype("float32")}


def test_motion_is_multiplied_and_a_still_heart_is_as_it_was():
    """Frames whose departures from their mean are three times as large say the same without any gain."""
    frame, beat = np.arange(256).reshape(1, 1, 16, 16) // 2, np.array([-10, 5, 20, -15]).reshape(1, 4, 1, 1)
    small, large, still = (
        dataclasses.replace(
            tiny.batch(), video_BVTHW=jnp.broadcast_to(jnp.uint8(frame + 60 + by * beat), (8, 3, 4, 16, 16))
        )
        for by in (1, 3, 0)
    )
    plain = functools.partial(jax.jit(tiny.model().encode_image), _params("motion"))
    np.testing.assert_allclose(_embed("motion", small), plain(large), atol=1e-5)
    np.testing.assert_allclose(_embed("motion", still), plain(still), atol=1e-5)
    assert np.abs(_embed("motion", small) - plain(small)).max() > 1e-3


def test_sixteen_bits_show_the_same_picture_as_eight():
    batch = tiny.batch()
    wide = dataclasses.replace(batch, video_BVTHW=batch.video_BVTHW.astype(jnp.uint16) * jnp.uint16(257))
    np.testing.assert_allclose(_embed("divided", batch), _embed("divided", wide), atol=1e-6)


def test_members_are_drawn_in_order_all_alike_and_padding_last():
    mask = jnp.asarray([[True] * 6, [False, True, False, False, True, False]])
    drawn = np.asarray(jax.vmap(lambda k: layers.draw_members(k, mask, 3))(jax.random.split(jax.random.key(0), 600)))
    assert (np.diff(drawn, axis=2) > 0).all()
    share = np.bincount(drawn[:, 0].ravel(), minlength=6) / 600
    np.testing.assert_allclose(share, 0.5, atol=0.08)
    assert (np.isin(drawn[:, 1], (1, 4)).sum(axis=1) == 2).all()


@pytest.mark.parametrize(("total", "rate", "want"), [(8, 0.5, 4), (9, 0.5, 5), (3, 0.9, 1), (10, 0.3, 7), (1, 0.5, 1)])
def test_a_share_is_left_out_but_never_all(total: int, rate: float, want: int):
    assert layers.kept(total, rate) == want


DROPOUTS = {"patch_dropout": 0.5, "phase_dropout": 0.5, "slice_dropout": 0.4}


@pytest.mark.parametrize("name", DROPOUTS)
def test_what_training_leaves_out_is_not_computed_and_evaluation_leaves_out_nothing(name: str):
    batch, params = tiny.batch(), _params("divided")
    dropped = _model("divided", **{name: DROPOUTS[name]})

    def cost(key):
        return flops.count(lambda p: dropped.encode_image(p, batch, key=key), params)

    assert cost(jax.random.key(0)) < 0.75 * cost(None)
    np.testing.assert_array_equal(jax.jit(dropped.encode_image)(params, batch), _embed("divided", batch))
    train = jax.jit(lambda key: dropped.encode_image(params, batch, key=key))
    one, same, other = train(jax.random.key(1)), train(jax.random.key(1)), train(jax.random.key(2))
    np.testing.assert_array_equal(one, same)
    assert np.isfinite(one).all() and np.abs(one - other).max() > 1e-4


def test_a_series_is_never_left_out_in_favour_of_one_that_is_not_there():
    """Two of three places stay: a study with two series keeps both, whatever the draw."""
    mask = np.ones((8, 3, 4), bool)
    mask[np.arange(8), np.arange(8) % 3] = False
    batch = _masked(tiny.batch(), mask)
    dropped = _model("divided", slice_dropout=1 / 3)
    for seed in range(3):
        found = dropped.encode_image(_params("divided"), batch, key=jax.random.key(seed))
        np.testing.assert_allclose(found, _embed("divided", batch), atol=1e-6)


def test_patches_that_stay_keep_their_places_and_frames_theirs():
    """A model whose every token is alike but for its place tells the draws apart only if places go along."""
    batch = tiny.batch()
    flat = dataclasses.replace(batch, video_BVTHW=jnp.full_like(batch.video_BVTHW, 90))
    for name in ("patch_dropout", "phase_dropout"):
        model = _model("divided", **{name: 0.5})
        train = jax.jit(lambda key, model=model: model.encode_image(_params("divided"), flat, key=key))
        assert np.abs(train(jax.random.key(1)) - train(jax.random.key(2))).max() > 1e-4, name


@pytest.mark.parametrize("kind", KINDS)
def test_every_parameter_of_the_study_gets_a_gradient(kind: str):
    model, batch = _model(kind), tiny.batch()
    params = _params(kind)
    weight = jax.random.normal(jax.random.key(3), (8, 16))
    gradients = jax.jit(jax.grad(lambda p: (model.encode_image(p, batch) * weight).sum()))(params)["image"]
    dead = [
        sharding.path_name(path)
        for path, leaf in jax.tree_util.tree_leaves_with_path(gradients)
        if not np.abs(leaf).max() > 0 or not np.isfinite(leaf).all()
    ]
    assert dead == []


def test_one_and_eight_devices_leave_out_the_same():
    batch, params = tiny.batch(), _params("factorised")
    model = _model("factorised", **DROPOUTS)
    mesh = sharding.make_mesh(MeshConfig(fsdp=2))
    key = jax.random.key(5)
    whole = jax.jit(lambda p, b: model.encode_image(p, b, key=key))(params, batch)
    constrain = sharding.batch_constraint(mesh)
    spread = jax.device_put(params, sharding.tree_shardings({"params": params}, mesh)["params"])
    parts = jax.jit(lambda p, b: model.encode_image(p, b, key=key, constrain=constrain))(
        spread, sharding.put_batch(batch, mesh)
    )
    np.testing.assert_allclose(whole, parts, atol=1e-5)


def test_attention_moves_less_memory_than_swapping_the_tokens_and_the_library_s_own():
    """Transposes and copies in the compiled forward and backward pass of attention along time."""
    attention = layers.Attention(32, 2, jnp.float32, nnx.Rngs(0))
    x_MTPD, mask_MT = jnp.ones((2, 4, 9, 32)), jnp.ones((2, 4), bool)

    def ours(x_MTPD):
        return (attention(x_MTPD, mask_MT, along_time=True) ** 2).sum()

    def plain(x_MTPD):
        along = x_MTPD.swapaxes(1, 2).reshape(18, 4, 32)
        q, k, v = jnp.split(attention.qkv(along).reshape(18, 4, 6, 16), 3, axis=2)
        mixed = jax.nn.dot_product_attention(q, k, v, mask=jnp.repeat(mask_MT, 9, axis=0)[:, None, None])
        return (attention.out(mixed.reshape(18, 4, 32)).reshape(2, 9, 4, 32).swapaxes(1, 2) ** 2).sum()

    def moves(function) -> int:
        program = jax.jit(jax.grad(function)).lower(x_MTPD).compile().as_text() or ""
        return len(re.findall(r"= \S+ (?:transpose|copy)\(", program))

    np.testing.assert_allclose(ours(x_MTPD), plain(x_MTPD), rtol=1e-5)
    assert moves(ours) < moves(plain)
