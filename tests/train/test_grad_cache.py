"""A batch in parts gives the gradient of the whole batch, in the memory of a part."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cmr_jax import rng, sharding
from cmr_jax.config import LossConfig, MeshConfig
from cmr_jax.errors import InputError
from cmr_jax.models.layers import dropout
from cmr_jax.train import grad_cache
from cmr_jax.train.step import batch_loss
from tests import tiny

PARTS = 4


def _batch(size: int = 32):
    batch = tiny.batch(size)
    return dataclasses.replace(
        batch,
        text_id_B=jnp.asarray(np.arange(size) % 13, jnp.int32),
        part_tokens_BL=jnp.roll(batch.tokens_BL, 3, axis=1),
        part_token_mask_BL=batch.token_mask_BL,
        part_id_B=jnp.asarray(np.arange(size) % 7, jnp.int32),
    )


def _functions(loss: LossConfig, mesh, batch, rate: float = 0.0):
    """Towers of two layers that are quick to compile; with `rate` they drop hidden units."""
    keys = jax.random.split(jax.random.key(1), 5)
    shapes = {"pixels": (256, 48), "image": (48, 8), "words": (16, 48), "text": (48, 8)}
    drawn = zip(shapes.items(), keys, strict=False)
    params = {name: 0.2 * jax.random.normal(k, shape, jnp.float32) for (name, shape), k in drawn}
    params["log_scale"] = jnp.float32(1.0)
    constrain = sharding.batch_constraint(mesh)

    def unit(x):
        return x / jnp.linalg.norm(x, axis=1, keepdims=True)

    def tower(x, key, first, second):
        hidden = dropout(jax.nn.gelu(constrain(x @ first)), rate, key)
        return unit(constrain(hidden @ second))

    def embed(params, batch, key):
        image_key, text_key, part_key = jax.random.split(key, 3)
        pixels = batch.video_BVTHW[:, 0, 0].reshape(-1, 256).astype(jnp.float32) / 255.0
        words, parts = (x.astype(jnp.float32) / 40.0 for x in (batch.tokens_BL, batch.part_tokens_BL))
        return {
            "image_embedding": tower(pixels, image_key, params["pixels"], params["image"]),
            "text_embedding": tower(words, text_key, params["words"], params["text"]),
            "part_embedding": tower(parts, part_key, params["words"], params["text"]),
            "scale": jnp.exp(params["log_scale"]),
            "bias": -params["log_scale"],
        }

    return params, embed, lambda out: batch_loss(loss, out, batch, mesh)


def _assert_same(got, want) -> None:
    (loss, out), grads = got
    (want_loss, want_out), want_grads = want
    np.testing.assert_allclose(loss, want_loss, rtol=1e-6)
    np.testing.assert_allclose(out["image_embedding"], want_out["image_embedding"], atol=1e-6)
    assert jax.tree.structure(grads) == jax.tree.structure(want_grads)
    length = np.sqrt(sum(float((g**2).sum()) for g in jax.tree.leaves(want_grads)))
    for (path, a), b in zip(jax.tree_util.tree_leaves_with_path(grads), jax.tree.leaves(want_grads), strict=True):
        np.testing.assert_allclose(a, b, atol=2e-6 * length, err_msg=sharding.path_name(path))


@pytest.mark.parametrize(
    ("loss", "shape"),
    [
        (LossConfig(), MeshConfig(fsdp=2)),
        (LossConfig(kind="sigmoid", method="ring", similar_from=0.2), MeshConfig(fsdp=2, model=2)),
    ],
    ids=["softmax", "sigmoid ring, soft, three axes"],
)
def test_the_gradient_is_that_of_the_whole_batch(loss: LossConfig, shape: MeshConfig):
    mesh = sharding.make_mesh(shape)
    batch = sharding.put_batch(jax.device_get(_batch()), mesh)
    params, embed, loss_of = _functions(loss, mesh, batch)

    def direct(params, batch, key):
        out = embed(params, batch, key)
        return loss_of(out), out

    key = jax.random.key(0)
    want = jax.jit(jax.value_and_grad(direct, has_aux=True))(params, batch, key)
    got = jax.jit(grad_cache.value_and_grad(embed, loss_of, PARTS, mesh))(params, batch, key)
    _assert_same(got, want)


def test_both_passes_drop_the_same():
    """With dropout the gradient is that of the embeddings that the loss saw, differentiated in one piece."""
    mesh = sharding.make_mesh(MeshConfig(), jax.devices()[:1])
    batch = _batch(8)
    params, embed, loss_of = _functions(LossConfig(), mesh, batch, rate=0.3)

    def in_one_piece(params, batch, key):
        # One device: part i is rows i * 2 and the one after it.
        cut = jax.tree.map(lambda x: x.reshape(PARTS, -1, *x.shape[1:]), batch)
        keys = jax.random.split(key, PARTS)
        outs = [embed(params, jax.tree.map(lambda x, i=i: x[i], cut), keys[i]) for i in range(PARTS)]
        out = {k: outs[0][k] if outs[0][k].ndim == 0 else jnp.concatenate([o[k] for o in outs]) for k in outs[0]}
        return loss_of(out), out

    key = rng.stream(0, "dropout", 3)
    want = jax.jit(jax.value_and_grad(in_one_piece, has_aux=True))(params, batch, key)
    got = jax.jit(grad_cache.value_and_grad(embed, loss_of, PARTS, mesh))(params, batch, key)
    _assert_same(got, want)
    other = jax.jit(grad_cache.value_and_grad(embed, loss_of, PARTS, mesh))(params, batch, jax.random.key(9))
    assert abs(float(other[0][0]) - float(got[0][0])) > 1e-6, "no dropout took place"


def test_sixteen_parts_need_an_eighth_of_the_memory():
    """Nothing is run: the compiler says what it would hold beside parameters and batch."""
    mesh = sharding.make_mesh(MeshConfig(), jax.devices()[:1])
    batch = tiny.batch(256)
    net = tiny.model()
    params = net.abstract_params()

    def embed(params, batch, key):
        return net.apply(params, batch, key=key)

    def loss_of(out):
        return batch_loss(LossConfig(), out, batch, mesh)

    def direct(params, batch, key):
        out = embed(params, batch, key)
        return loss_of(out), out

    def temporary_bytes(function) -> int:
        key = jax.eval_shape(lambda: jax.random.key(0))
        analysis = jax.jit(function).lower(params, batch, key).compile().memory_analysis()
        assert analysis is not None
        return analysis.temp_size_in_bytes

    whole = temporary_bytes(jax.value_and_grad(direct, has_aux=True))
    parts = temporary_bytes(grad_cache.value_and_grad(embed, loss_of, 16, mesh))
    assert parts <= whole / 8, (parts, whole)


def test_parts_that_the_devices_cannot_share_are_refused():
    mesh = sharding.make_mesh(MeshConfig())
    batch = _batch(16)
    params, embed, loss_of = _functions(LossConfig(), mesh, batch)
    with pytest.raises(InputError, match="batch_size 16 is not a multiple of 8 devices x 4 parts"):
        jax.eval_shape(grad_cache.value_and_grad(embed, loss_of, 4, mesh), params, batch, jax.random.key(0))
