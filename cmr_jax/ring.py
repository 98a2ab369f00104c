"""The contrastive losses walked round a ring of devices: no device ever holds a row of the similarity matrix.

Each device keeps its own images and hands the texts on to its neighbour (`ppermute`), with what their columns have
gathered so far. After as many steps as there are devices every pair has met once, each similarity was computed once for
both directions, and the texts are home again. The softmax over a whole row is the online log-sum-exp of flash attention
(arXiv 2205.14135, section 3.1). The backward pass walks the ring a second time instead of keeping the blocks of the
first: that is where the memory is saved.

Letters: b rows of one device, c columns of the block that visits it (as many), E embedding.
"""

import functools
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import Mesh, PartitionSpec

from cmr_jax.sharding import batch_axes

# Stands for minus infinity: differences of it are 0, not NaN.
_NEVER = -1e30


@functools.partial(jax.custom_vjp, nondiff_argnums=(0, 1, 2))
def loss(kind: str, mesh: Mesh, count: int, image_BE, text_BE, ids_B, valid_B, scale, bias) -> jax.Array:
    """`losses.dense` of the rows that count (`valid_B`, `count` of them), equal ids being positives: a scalar.

    B must be a multiple of the number of devices; embeddings, scale and bias are of the dtype of the logits.
    """
    return _forward(kind, mesh, count, image_BE, text_BE, ids_B, valid_B, scale, bias)[0]


def _forward(kind: str, mesh: Mesh, count: int, *arrays):
    axes = batch_axes(mesh)
    rows, whole = PartitionSpec(axes), PartitionSpec()

    def local(image_bE, text_bE, ids_b, valid_b, scale, bias):
        empty = {name: jnp.zeros(ids_b.shape, image_bE.dtype) for name in ("sum", "positive", "number")}
        empty["most"] = jnp.full(ids_b.shape, _NEVER, image_bE.dtype)
        start = (jnp.zeros((), image_bE.dtype), empty)

        def meet(kept, guest):
            total, row = kept
            similarity_bc, positive_bc, pair_bc = _block(image_bE, ids_b, valid_b, guest)
            z_bc = scale * similarity_bc
            if kind == "sigmoid":
                signed_bc = jnp.where(positive_bc, 1.0, -1.0).astype(z_bc.dtype) * (z_bc + bias)
                total -= jnp.where(pair_bc, jax.nn.log_sigmoid(signed_bc), 0.0).sum()
                return (total, row), guest
            z_bc = jnp.where(pair_bc, z_bc, _NEVER)
            row = _gather(row, z_bc, positive_bc)
            return (total, row), {**guest, "column": _gather(guest["column"], z_bc.T, positive_bc.T)}

        guest = {"text": text_bE, "ids": ids_b, "valid": valid_b, "column": empty}
        (total, row), guest = _walk(meet, start, guest, mesh)
        column = guest["column"]
        if kind == "softmax":
            per_row = 0.5 * (_log_sum(row) - _mean(row) + _log_sum(column) - _mean(column))
            total = jnp.where(valid_b, per_row, 0.0).sum()
        kept = (_log_sum(row), _log_sum(column), row["number"])
        return jax.lax.psum(total, axes) / count, kept

    run = jax.shard_map(
        local,
        mesh=mesh,
        in_specs=(rows, rows, rows, rows, whole, whole),
        out_specs=(whole, (rows,) * 3),
        check_vma=False,  # the gradient is written out below
    )
    value, kept = run(*arrays)
    return value, (arrays, kept)


def _backward(kind: str, mesh: Mesh, count: int, residuals, cotangent):
    axes = batch_axes(mesh)
    rows, whole = PartitionSpec(axes), PartitionSpec()

    def local(arrays, kept, cotangent):
        image_bE, text_bE, ids_b, valid_b, scale, bias = arrays
        row_log_b, column_log_b, row_n_b = kept
        weight = cotangent / count

        def meet(kept, guest):
            d_image_bE, d_scale, d_bias = kept
            similarity_bc, positive_bc, pair_bc = _block(image_bE, ids_b, valid_b, guest)
            z_bc = scale * similarity_bc
            if kind == "sigmoid":
                sign_bc = jnp.where(positive_bc, 1.0, -1.0).astype(z_bc.dtype)
                d_z_bc = -weight * sign_bc * jax.nn.sigmoid(-sign_bc * (z_bc + bias))
            else:
                # Where text c is a positive of image b, both have as many positives.
                share = 2 / row_n_b[:, None]
                chance = jnp.exp(z_bc - row_log_b[:, None]) + jnp.exp(z_bc - guest["log"][None, :])
                d_z_bc = 0.5 * weight * (chance - jnp.where(positive_bc, share, 0.0))
            d_z_bc = jnp.where(pair_bc, d_z_bc, 0.0)
            d_image_bE += scale * _dot(d_z_bc, guest["text"])
            d_text_cE = guest["d_text"] + scale * _dot(d_z_bc.T, image_bE)
            d_scale += (d_z_bc * similarity_bc).sum()
            d_bias += d_z_bc.sum() if kind == "sigmoid" else 0.0
            return (d_image_bE, d_scale, d_bias), {**guest, "d_text": d_text_cE}

        zero = jnp.zeros((), image_bE.dtype)
        guest = {
            "text": text_bE,
            "ids": ids_b,
            "valid": valid_b,
            "log": column_log_b,
            "d_text": jnp.zeros_like(text_bE),
        }
        (d_image_bE, d_scale, d_bias), guest = _walk(meet, (jnp.zeros_like(image_bE), zero, zero), guest, mesh)
        return d_image_bE, guest["d_text"], jax.lax.psum(d_scale, axes), jax.lax.psum(d_bias, axes)

    run = jax.shard_map(
        local,
        mesh=mesh,
        in_specs=((rows,) * 4 + (whole,) * 2, (rows,) * 3, whole),
        out_specs=(rows, rows, whole, whole),
        check_vma=False,
    )
    arrays, kept = residuals
    d_image_BE, d_text_BE, d_scale, d_bias = run(arrays, kept, cotangent)
    return d_image_BE, d_text_BE, None, None, d_scale, d_bias


loss.defvjp(_forward, _backward)


def _walk(meet, kept: Any, guest: Any, mesh: Mesh) -> tuple[Any, Any]:
    """`meet(kept, guest) -> (kept, guest)` with the guests of every device in turn; all guests end at home."""
    axes = batch_axes(mesh)
    devices = jax.lax.axis_size(axes)
    to_next = [(i, (i + 1) % devices) for i in range(devices)]

    def step(carry, _):
        kept, guest = meet(*carry)
        return (kept, jax.tree.map(lambda x: jax.lax.ppermute(x, axes, to_next), guest)), None

    return jax.lax.scan(step, (kept, guest), length=devices)[0]


def _dot(a, b) -> jax.Array:
    return jnp.matmul(a, b, precision=jax.lax.Precision.HIGHEST)


def _block(image_bE, ids_b, valid_b, guest) -> tuple[jax.Array, jax.Array, jax.Array]:
    """(similarity, who is a positive of whom, which pairs count) of own images and visiting texts, each `b c`."""
    pair_bc = valid_b[:, None] & guest["valid"][None, :]
    positive_bc = (ids_b[:, None] == guest["ids"][None, :]) & pair_bc
    return _dot(image_bE, guest["text"].T), positive_bc, pair_bc


def _gather(line: dict[str, jax.Array], z_bc: jax.Array, positive_bc: jax.Array) -> dict[str, jax.Array]:
    """Adds a block to the running log-sum-exp of its rows, and to the sum and number of their positives."""
    most = jnp.maximum(line["most"], z_bc.max(axis=1))
    return {
        "most": most,
        "sum": line["sum"] * jnp.exp(line["most"] - most) + jnp.exp(z_bc - most[:, None]).sum(axis=1),
        "positive": line["positive"] + jnp.where(positive_bc, z_bc, 0.0).sum(axis=1),
        "number": line["number"] + positive_bc.sum(axis=1).astype(z_bc.dtype),
    }


def _log_sum(line: dict[str, jax.Array]) -> jax.Array:
    return line["most"] + jnp.log(jnp.maximum(line["sum"], jnp.finfo(line["sum"].dtype).tiny))


def _mean(line: dict[str, jax.Array]) -> jax.Array:
    """Of the logits of the positives; rows that do not count have none."""
    return line["positive"] / jnp.maximum(line["number"], 1)
