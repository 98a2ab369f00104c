"""The contrastive losses walked round a ring of devices: no device ever holds a row of the similarity matrix.

Each device keeps its own images and hands the texts on to its neighbour (`ppermute`), with what their columns have
gathered so far. After as many steps as there are devices every pair has met once, each similarity was computed once for
both directions, and the texts are home again. The softmax over a whole row is the online log-sum-exp of flash attention
(arXiv 2205.14135, section 3.1). The backward pass walks the ring a second time instead of keeping the blocks of the
first: that is where the memory is saved.

Letters: b rows of one device, c columns of the block that visits it (as many), E embedding.
"""

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import Mesh, PartitionSpec

from cmr_jax.sharding import batch_axes

# Stands for minus infinity: differences of it are 0, not NaN.
_NEVER = -1e30


@dataclasses.dataclass(frozen=True)
class Rules:
    """What is known of a loss before its numbers: its kind, where it runs, the number of rows that count, and the
    similarity from which on texts are soft positives."""

    kind: str
    mesh: Mesh
    count: int
    similar_from: float


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def loss(rules: Rules, image_BE, text_BE, ids_B, valid_B, similar_BF, scale, bias) -> jax.Array:
    """`losses.dense` of the rows that count (`valid_B`), equal ids being positives and similar texts soft ones: a
    scalar. `similar_BF` may be None.

    B must be a multiple of the number of devices; all but ids and `valid_B` are of the dtype of the logits.
    """
    return _forward(rules, image_BE, text_BE, ids_B, valid_B, similar_BF, scale, bias)[0]


def soft(similarity: jax.Array, similar_from: float) -> jax.Array:
    """The target of a pair of texts: 0 up to `similar_from`, then in a straight line to 1 at a similarity of 1."""
    return jnp.clip((similarity - similar_from) / (1.0 - similar_from), 0.0, 1.0)


def _forward(rules: Rules, *arrays):
    kind, mesh, count = rules.kind, rules.mesh, rules.count
    axes = batch_axes(mesh)
    rows, whole = PartitionSpec(axes), PartitionSpec()

    def local(image_bE, text_bE, ids_b, valid_b, similar_bF, scale, bias):
        empty = {name: jnp.zeros(ids_b.shape, image_bE.dtype) for name in ("sum", "positive", "number")}
        empty["most"] = jnp.full(ids_b.shape, _NEVER, image_bE.dtype)
        start = (jnp.zeros((), image_bE.dtype), empty)

        def meet(kept, guest):
            total, row = kept
            similarity_bc, target_bc, pair_bc = _block(rules, image_bE, ids_b, valid_b, similar_bF, guest)
            z_bc = scale * similarity_bc
            if kind == "sigmoid":
                z_bc += bias
                per_pair = target_bc * jax.nn.softplus(-z_bc) + (1 - target_bc) * jax.nn.softplus(z_bc)
                return (total + jnp.where(pair_bc, per_pair, 0.0).sum(), row), guest
            z_bc = jnp.where(pair_bc, z_bc, _NEVER)
            row = _gather(row, z_bc, target_bc)
            return (total, row), {**guest, "column": _gather(guest["column"], z_bc.T, target_bc.T)}

        guest = {"text": text_bE, "ids": ids_b, "valid": valid_b, "similar": similar_bF, "column": empty}
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
        in_specs=(rows,) * 5 + (whole,) * 2,
        out_specs=(whole, (rows,) * 3),
        check_vma=False,  # the gradient is written out below
    )
    value, kept = run(*arrays)
    return value, (arrays, kept)


def _backward(rules: Rules, residuals, cotangent):
    kind, mesh, count = rules.kind, rules.mesh, rules.count
    axes = batch_axes(mesh)
    rows, whole = PartitionSpec(axes), PartitionSpec()

    def local(arrays, kept, cotangent):
        image_bE, text_bE, ids_b, valid_b, similar_bF, scale, bias = arrays
        row_log_b, column_log_b, row_n_b = kept
        weight = cotangent / count

        def meet(kept, guest):
            d_image_bE, d_scale, d_bias = kept
            similarity_bc, target_bc, pair_bc = _block(rules, image_bE, ids_b, valid_b, similar_bF, guest)
            z_bc = scale * similarity_bc
            if kind == "sigmoid":
                z_bc += bias
                d_z_bc = (1 - target_bc) * jax.nn.sigmoid(z_bc) - target_bc * jax.nn.sigmoid(-z_bc)
                d_z_bc *= weight
            else:
                share = 1 / jnp.maximum(row_n_b, 1)[:, None] + 1 / jnp.maximum(guest["number"], 1)[None, :]
                chance = jnp.exp(z_bc - row_log_b[:, None]) + jnp.exp(z_bc - guest["log"][None, :])
                d_z_bc = 0.5 * weight * (chance - target_bc * share)
            d_z_bc = jnp.where(pair_bc, d_z_bc, 0.0)
            d_image_bE += scale * dot(d_z_bc, guest["text"])
            d_text_cE = guest["d_text"] + scale * dot(d_z_bc.T, image_bE)
            d_scale += (d_z_bc * similarity_bc).sum()
            d_bias += d_z_bc.sum() if kind == "sigmoid" else 0.0
            return (d_image_bE, d_scale, d_bias), {**guest, "d_text": d_text_cE}

        zero = jnp.zeros((), image_bE.dtype)
        guest = {
            "text": text_bE,
            "ids": ids_b,
            "valid": valid_b,
            "similar": similar_bF,
            "log": column_log_b,
            "number": row_n_b,  # of positives: the targets are symmetric
            "d_text": jnp.zeros_like(text_bE),
        }
        (d_image_bE, d_scale, d_bias), guest = _walk(meet, (jnp.zeros_like(image_bE), zero, zero), guest, mesh)
        return d_image_bE, guest["d_text"], jax.lax.psum(d_scale, axes), jax.lax.psum(d_bias, axes)

    run = jax.shard_map(
        local,
        mesh=mesh,
        in_specs=((rows,) * 5 + (whole,) * 2, (rows,) * 3, whole),
        out_specs=(rows, rows, whole, whole),
        check_vma=False,
    )
    arrays, kept = residuals
    d_image_BE, d_text_BE, d_scale, d_bias = run(arrays, kept, cotangent)
    return d_image_BE, d_text_BE, None, None, None, d_scale, d_bias


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


def dot(a: jax.Array, b: jax.Array) -> jax.Array:
    return jnp.matmul(a, b, precision=jax.lax.Precision.HIGHEST)


def _block(rules: Rules, image_bE, ids_b, valid_b, similar_bF, guest) -> tuple[jax.Array, jax.Array, jax.Array]:
    """(similarity, target, which pairs count) of own images and visiting texts, each `b c`."""
    pair_bc = valid_b[:, None] & guest["valid"][None, :]
    similarity_bc = dot(image_bE, guest["text"].T)
    target_bc = (ids_b[:, None] == guest["ids"][None, :]).astype(similarity_bc.dtype)
    if similar_bF is not None:
        target_bc = jnp.maximum(target_bc, soft(dot(similar_bF, guest["similar"].T), rules.similar_from))
    return similarity_bc, jnp.where(pair_bc, target_bc, 0.0), pair_bc


def _gather(line: dict[str, jax.Array], z_bc: jax.Array, target_bc: jax.Array) -> dict[str, jax.Array]:
    """Adds a block to the running log-sum-exp of its rows, and to the sum and number of their positives."""
    most = jnp.maximum(line["most"], z_bc.max(axis=1))
    return {
        "most": most,
        "sum": line["sum"] * jnp.exp(line["most"] - most) + jnp.exp(z_bc - most[:, None]).sum(axis=1),
        "positive": line["positive"] + jnp.where(target_bc > 0, target_bc * z_bc, 0.0).sum(axis=1),
        "number": line["number"] + target_bc.sum(axis=1),
    }


def _log_sum(line: dict[str, jax.Array]) -> jax.Array:
    return line["most"] + jnp.log(jnp.maximum(line["sum"], jnp.finfo(line["sum"].dtype).tiny))


def _mean(line: dict[str, jax.Array]) -> jax.Array:
    """Of the logits of the positives; rows that do not count have none."""
    return line["positive"] / jnp.maximum(line["number"], 1)
