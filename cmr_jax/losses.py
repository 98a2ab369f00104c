"""Contrastive losses between image and text embeddings, dense and across devices.

`dense` is the plain formula and the oracle of the tests; `sharded` gives the same value and gradient where each
device holds a part of the batch. Softmax is the mean of the two directions (CLIP, arXiv 2103.00020, figure 3; the
published CMR-CLIP sums them, which is twice this); sigmoid is SigLIP (arXiv 2303.15343, algorithm 1).
"""

import math

import jax
import jax.numpy as jnp
from jax.sharding import Mesh, PartitionSpec

from cmr_jax import ring
from cmr_jax.sharding import batch_axes

KINDS = ("softmax", "sigmoid")
METHODS = ("gather", "ring")


def dense(
    kind: str,
    image_BE: jax.Array,
    text_BE: jax.Array,
    *,
    scale: jax.Array | float,
    bias: jax.Array | float = 0.0,
    targets_BB: jax.Array | None = None,
) -> jax.Array:
    """The loss of a whole batch on one device: a scalar.

    `scale` is the inverse temperature. `targets_BB[i, j] > 0` makes text j a positive of image i (default: the
    diagonal); softmax normalises the targets by row, in each direction.

    Raises:
      ValueError: for an unknown `kind`.
    """
    if targets_BB is None:
        targets_BB = jnp.eye(image_BE.shape[0], dtype=jnp.float32)
    image_to_text = _rows(kind, image_BE, text_BE, targets_BB, scale, bias)
    if kind == "sigmoid":
        return image_to_text.mean()
    text_to_image = _rows(kind, text_BE, image_BE, targets_BB.T, scale, bias)
    return 0.5 * (image_to_text.mean() + text_to_image.mean())


def sharded(
    kind: str,
    image_BE: jax.Array,
    text_BE: jax.Array,
    *,
    scale: jax.Array | float,
    bias: jax.Array | float = 0.0,
    mesh: Mesh,
    method: str = "gather",
    positive_ids_B: jax.Array | None = None,
) -> jax.Array:
    """The loss of a global batch that is split over `mesh`: a scalar, differentiable, equal to `dense`.

    Rows with equal `positive_ids_B` are positives of one another. `gather` brings every device the other devices'
    embeddings (B x E, not the B x B matrix): each scores its own rows against all. `ring` hands the texts round instead
    and holds blocks of one device's rows by one device's columns (`ring.py`): slower, and for batches whose rows do not
    fit. B need not be a multiple of the number of devices: rows that count for nothing fill it up.

    Raises:
      ValueError: for an unknown `kind` or `method`.
    """
    if method not in METHODS:
        raise ValueError(f"unknown method {method!r}; there is {', '.join(METHODS)}")
    if kind not in KINDS:
        raise ValueError(f"unknown kind of loss {kind!r}; there are {', '.join(KINDS)}")
    count = image_BE.shape[0]
    ids_B = jnp.arange(count, dtype=jnp.int32) if positive_ids_B is None else positive_ids_B
    valid_B = jnp.ones(count, bool)
    axes = batch_axes(mesh)
    if spare := -count % math.prod(mesh.shape[name] for name in axes):
        image_BE, text_BE, ids_B, valid_B = (
            jnp.pad(x, ((0, spare),) + ((0, 0),) * (x.ndim - 1)) for x in (image_BE, text_BE, ids_B, valid_B)
        )
    dtype = _logit_dtype(image_BE)
    scale, bias = jnp.asarray(scale, dtype), jnp.asarray(bias, dtype)
    if method == "ring":
        return ring.loss(kind, mesh, count, image_BE.astype(dtype), text_BE.astype(dtype), ids_B, valid_B, scale, bias)
    rows, whole = PartitionSpec(axes), PartitionSpec()

    def local(image_bE, text_bE, ids_b, valid_b, scale, bias):
        def gather(x):
            return jax.lax.all_gather(x, axes, tiled=True)

        valid_B = gather(valid_b)
        # A row that fills up is its own positive, so that its loss is a number before it is left out.
        targets_bB = ((ids_b[:, None] == gather(ids_b)[None, :]) & (valid_b[:, None] == valid_B[None, :])).astype(dtype)
        directions = [(image_bE, text_bE), (text_bE, image_bE)][: 2 if kind == "softmax" else 1]
        total = jnp.zeros((), dtype)
        for query_bE, key_bE in directions:
            per_row = _rows(kind, query_bE, gather(key_bE), targets_bB, scale, bias, valid_B)
            total += jnp.where(valid_b, per_row, 0.0).sum() / len(directions)
        # The sum over devices is the whole story of the gradient too: no factor of the world size anywhere.
        return jax.lax.psum(total, axes) / count

    run = jax.shard_map(local, mesh=mesh, in_specs=(rows, rows, rows, rows, whole, whole), out_specs=whole)
    return run(image_BE, text_BE, ids_B, valid_B, scale, bias)


def _logit_dtype(embedding_BE: jax.Array):
    """float32 for embeddings of that or less, float64 for float64."""
    return jnp.float64 if embedding_BE.dtype == jnp.float64 else jnp.float32


def _rows(kind, query_bE, key_BE, targets_bB, scale, bias, valid_B=None) -> jax.Array:
    """The loss of each query row against all valid keys: `b`. Logits are at least float32 whatever comes in."""
    dtype = _logit_dtype(query_bE)
    targets_bB = targets_bB.astype(dtype)
    logits_bB = jnp.einsum(
        "be,ce->bc", query_bE.astype(dtype), key_BE.astype(dtype), precision=jax.lax.Precision.HIGHEST
    ) * jnp.asarray(scale, dtype)
    if kind == "softmax":
        targets_bB = targets_bB / targets_bB.sum(axis=1, keepdims=True)
        seen_B = None if valid_B is None else valid_B[None, :]
        return jax.nn.logsumexp(logits_bB, axis=1, where=seen_B) - (targets_bB * logits_bB).sum(axis=1)
    if kind == "sigmoid":
        sign_bB = jnp.where(targets_bB > 0, 1.0, -1.0).astype(dtype)
        per_pair = -jax.nn.log_sigmoid(sign_bB * (logits_bB + jnp.asarray(bias, dtype)))
        return per_pair.sum(axis=1, where=None if valid_B is None else valid_B[None, :])
    raise ValueError(f"unknown kind of loss {kind!r}; there are {', '.join(KINDS)}")
