"""The sharded loss against its dense oracle, in value and gradient, on eight devices."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jax.sharding import AxisType, Mesh

from cmr_jax import losses, sharding

SHAPES = {"8x1": (8, 1), "4x2": (4, 2), "1x8": (1, 8), "2x1": (2, 1), "1x1": (1, 1)}


def _mesh(name: str) -> Mesh:
    data, fsdp = SHAPES[name]
    devices = np.array(jax.devices()[: data * fsdp]).reshape(data, fsdp)
    return Mesh(devices, ("data", "fsdp"), axis_types=(AxisType.Auto,) * 2)


def _unit(rng: np.random.Generator, rows: int, width: int) -> jax.Array:
    x = rng.normal(size=(rows, width))
    return jnp.asarray(x / np.linalg.norm(x, axis=1, keepdims=True), jnp.float32)


def _case(seed: int, rows: int = 32, width: int = 16):
    rng = np.random.default_rng(seed)
    ids = jnp.asarray(rng.integers(0, rows // 2, rows), jnp.int32)
    return _unit(rng, rows, width), _unit(rng, rows, width), ids


def _relative(got, want) -> float:
    """Distance over length of the trees as one vector each."""
    got, want = (np.concatenate([np.ravel(x).astype(np.float64) for x in jax.tree.leaves(t)]) for t in (got, want))
    return float(np.linalg.norm(got - want) / np.linalg.norm(want))


# 13 rows leave some of the devices with less than the others.
@pytest.mark.parametrize(("shape", "rows"), [*((shape, 32) for shape in SHAPES), ("8x1", 13), ("4x2", 13)])
@pytest.mark.parametrize("kind", losses.KINDS)
@pytest.mark.parametrize("positives", ["own", "same_report"])
@pytest.mark.parametrize("method", losses.METHODS)
def test_sharded_equals_dense_in_value_and_gradient(shape: str, kind: str, positives: str, method: str, rows: int):
    image, text, ids = _case(seed=3, rows=rows)
    ids = ids if positives == "same_report" else None
    targets = None if ids is None else (ids[:, None] == ids[None, :]).astype(jnp.float32)
    mesh = _mesh(shape)
    scale, bias = jnp.float32(14.0), jnp.float32(-10.0)  # where CLIP and SigLIP start

    def dense(image, text, scale, bias):
        return losses.dense(kind, image, text, scale=scale, bias=bias, targets_BB=targets)

    def sharded(image, text, scale, bias):
        return losses.sharded(kind, image, text, scale=scale, bias=bias, mesh=mesh, method=method, positive_ids_B=ids)

    argnums = (0, 1, 2, 3) if kind == "sigmoid" else (0, 1, 2)
    arguments = (image, text, scale, bias)
    want, want_grads = jax.value_and_grad(dense, argnums)(*arguments)
    got, got_grads = jax.jit(jax.value_and_grad(sharded, argnums))(*arguments)
    assert _relative(got, want) <= 1e-6
    assert _relative(got_grads, want_grads) <= 1e-6
    assert _relative(got_grads[:2], want_grads[:2]) <= 1e-6
    # The gradients of scale and bias are sums that cancel: only float64 tells a wrong one from a rounded one.
    with jax.enable_x64(True):
        arguments = tuple(jnp.asarray(np.asarray(x), jnp.float64) for x in arguments)
        want_grads = jax.value_and_grad(dense, argnums)(*arguments)
        got_grads = jax.jit(jax.value_and_grad(sharded, argnums))(*arguments)
        for mine, oracle in zip(jax.tree.leaves(got_grads), jax.tree.leaves(want_grads), strict=True):
            assert _relative(mine, oracle) <= 1e-12


def _soft_targets(similar: jax.Array, ids: jax.Array, similar_from: float) -> jax.Array:
    cosine = np.asarray(similar, np.float64) @ np.asarray(similar, np.float64).T
    rise = np.clip((cosine - similar_from) / (1 - similar_from), 0.0, 1.0)
    same = np.asarray(ids)[:, None] == np.asarray(ids)[None, :]
    return jnp.asarray(np.where(same, 1.0, rise), similar.dtype)


@pytest.mark.parametrize("kind", losses.KINDS)
@pytest.mark.parametrize("method", losses.METHODS)
def test_similar_texts_are_soft_positives(kind: str, method: str):
    """On eight devices with uneven blocks: value and gradient of the dense formula with the matrix of soft targets."""
    mesh = _mesh("4x2")
    with jax.enable_x64(True):
        image, text, ids = _case(seed=5, rows=13)
        similar = _unit(np.random.default_rng(6), 13, 3)  # few dimensions: many pairs are alike
        image, text, similar = (jnp.asarray(np.asarray(x), jnp.float64) for x in (image, text, similar))
        similar = similar / jnp.linalg.norm(similar, axis=1, keepdims=True)
        targets = _soft_targets(similar, ids, 0.3)
        assert int(((targets > 0) & (targets < 1)).sum()) > 10

        def dense(image, text, scale, bias):
            return losses.dense(kind, image, text, scale=scale, bias=bias, targets_BB=targets, soft_labels=True)

        def sharded(image, text, scale, bias):
            return losses.sharded(
                kind, image, text, scale=scale, bias=bias, mesh=mesh, method=method, positive_ids_B=ids,
                similar_BF=similar, similar_from=0.3,
            )  # fmt: skip

        arguments = (image, text, jnp.float64(7.0), jnp.float64(-3.0))
        argnums = (0, 1, 2, 3) if kind == "sigmoid" else (0, 1, 2)
        want = jax.value_and_grad(dense, argnums)(*arguments)
        got = jax.jit(jax.value_and_grad(sharded, argnums))(*arguments)
        for mine, oracle in zip(jax.tree.leaves(got), jax.tree.leaves(want), strict=True):
            assert _relative(mine, oracle) <= 1e-12


def test_sigmoid_takes_a_positive_target_for_a_whole_one_unless_labels_are_soft():
    image, text, ids = _case(seed=1, rows=6)
    same = (ids[:, None] == ids[None, :]).astype(jnp.float32)
    by_row = same / same.sum(axis=1, keepdims=True)
    hard = losses.dense("sigmoid", image, text, scale=5.0, targets_BB=same)
    assert losses.dense("sigmoid", image, text, scale=5.0, targets_BB=by_row) == hard
    soft = losses.dense("sigmoid", image, text, scale=5.0, targets_BB=0.5 * same, soft_labels=True)
    z = 5.0 * np.asarray(image, np.float64) @ np.asarray(text, np.float64).T
    t = 0.5 * np.asarray(same, np.float64)
    want = (t * np.log1p(np.exp(-z)) + (1 - t) * np.log1p(np.exp(z))).sum() / 6
    assert float(soft) == pytest.approx(want, rel=1e-6)


def test_text_features_tell_near_identical_texts_from_others():
    rng = np.random.default_rng(0)
    tokens = rng.integers(4, 5000, (3, 64)).astype(np.int32)
    tokens[1] = tokens[0]
    tokens[1, 30] = 3  # one word of 50 differs: three of its 50 triples
    mask = np.arange(64)[None, :] < np.array([50, 50, 60])[:, None]
    features = losses.text_features(jnp.asarray(tokens), jnp.asarray(mask))
    cosine = np.asarray(features @ features.T)
    np.testing.assert_allclose(np.diag(cosine), 1.0, atol=1e-6)
    assert 0.85 < cosine[0, 1] < 0.99
    assert abs(cosine[0, 2]) < 0.2
    # What stands behind the end of a text has no part in it.
    tokens[0, 50:] = 7
    again = losses.text_features(jnp.asarray(tokens), jnp.asarray(mask))
    np.testing.assert_array_equal(again[0], features[0])


@functools.cache
def _on(shape: str, kind: str, method: str):
    mesh = _mesh(shape)

    def loss(a, b, ids):
        return losses.sharded(kind, a, b, scale=10.0, bias=-5.0, mesh=mesh, method=method, positive_ids_B=ids)

    return jax.jit(jax.value_and_grad(loss, (0, 1)))


@settings(max_examples=20, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    groups=st.integers(1, 16),
    where=st.sampled_from([("4x2", 16), ("4x2", 13), ("2x1", 13), ("1x1", 16)]),
    how=st.sampled_from([("softmax", "gather"), ("softmax", "ring"), ("sigmoid", "ring")]),
)
def test_duplicate_reports_in_any_number(seed: int, groups: int, where: tuple[str, int], how: tuple[str, str]):
    (shape, rows), (kind, method) = where, how
    image, text, _ = _case(seed, rows=rows, width=8)
    ids = jnp.asarray(np.random.default_rng(seed).integers(0, groups, rows), jnp.int32)
    targets = (ids[:, None] == ids[None, :]).astype(jnp.float32)

    @functools.partial(jax.value_and_grad, argnums=(0, 1))
    def dense(a, b):
        return losses.dense(kind, a, b, scale=10.0, bias=-5.0, targets_BB=targets)

    for got, want in zip(_on(shape, kind, method)(image, text, ids), dense(image, text), strict=True):
        assert _relative(got, want) <= 1e-6
    with jax.enable_x64(True):
        image, text = (jnp.asarray(np.asarray(x), jnp.float64) for x in (image, text))
        for got, want in zip(_on(shape, kind, method)(image, text, ids), dense(image, text), strict=True):
            assert _relative(got, want) <= 1e-12


def test_softmax_is_the_mean_of_the_directions_by_hand():
    image, text, _ = _case(seed=0, rows=4, width=4)
    logits = 5.0 * np.asarray(image, np.float64) @ np.asarray(text, np.float64).T
    rows = -np.diag(logits - np.log(np.exp(logits).sum(1, keepdims=True)))
    columns = -np.diag(logits - np.log(np.exp(logits).sum(0, keepdims=True)))
    want = (rows + columns).mean() / 2
    assert float(losses.dense("softmax", image, text, scale=5.0)) == pytest.approx(want, rel=1e-6)


def test_sigmoid_by_hand():
    image, text, _ = _case(seed=1, rows=4, width=4)
    logits = 5.0 * np.asarray(image, np.float64) @ np.asarray(text, np.float64).T - 2.0
    sign = 2 * np.eye(4) - 1
    want = np.log1p(np.exp(-sign * logits)).sum() / 4
    assert float(losses.dense("sigmoid", image, text, scale=5.0, bias=-2.0)) == pytest.approx(want, rel=1e-6)


def test_unknown_kind_or_method_says_what_there_is():
    image, text, _ = _case(seed=0, rows=8)
    with pytest.raises(ValueError, match="softmax, sigmoid"):
        losses.dense("hinge", image, text, scale=1.0)
    with pytest.raises(ValueError, match="gather"):
        losses.sharded("softmax", image, text, scale=1.0, mesh=_mesh("8x1"), method="telepathy")


def _gradient_program(method: str, rows: int, width: int):
    image = jax.ShapeDtypeStruct((rows, width), jnp.float32, sharding=sharding.batch_sharding(_mesh("8x1")))

    def loss(a, b):
        return losses.sharded("softmax", a, b, scale=10.0, mesh=_mesh("8x1"), method=method)

    return jax.jit(jax.value_and_grad(loss, (0, 1))).lower(image, image).compile()


def _temporary_bytes(method: str) -> int:
    analysis = _gradient_program(method, 4096, 64).memory_analysis()
    assert analysis is not None
    return analysis.temp_size_in_bytes


def test_no_device_holds_the_whole_similarity_matrix():
    """64 rows a device of 512: gathered may hold 64 x 512 logits, the ring 64 x 64, and none 512 x 512."""
    rows, own = 512, 64
    gathered, ring = (_gradient_program(method, rows, 8).as_text() or "" for method in ("gather", "ring"))
    assert f"f32[{own},{rows}]" in gathered
    assert f"f32[{rows},{rows}]" not in gathered
    assert f"f32[{own},{own}]" in ring
    assert f"f32[{own},{rows}]" not in ring
    assert "all-gather" not in ring


def test_the_ring_needs_an_eighth_of_the_memory():
    ring = _temporary_bytes("ring")
    assert ring <= _temporary_bytes("gather") / 8
    assert ring <= 5 * 4 * 512 * 512  # five blocks of one device's rows by one device's columns
