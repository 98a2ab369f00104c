"""Contrastive losses between image and text embeddings, dense and across devices.

`dense` is the plain formula and the oracle of the tests; `sharded` gives the same value and gradient where each
device holds a part of the batch. Softmax is the mean of the two directions (CLIP, arXiv 2103.00020, figure 3; the
published CMR-CLIP sums them, which is twice this); sigmoid is SigLIP (arXiv 2303.15343, algorithm 1).
"""

import math

import jax
import jax.numpy as jnp
import optax
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
    soft_labels: bool = False,
) -> jax.Array:
    """The loss of a whole batch on one device: a scalar.

    `scale` is the inverse temperature. `targets_BB[i, j] > 0` makes text j a positive of image i (default: the
    diagonal); softmax normalises the targets by row, in each direction. Sigmoid takes any positive target for a whole
    one, unless `soft_labels`: then a target in [0, 1] is the label of its pair (cross-entropy).

    Raises:
      ValueError: for an unknown `kind`.
    """
    if targets_BB is None:
        targets_BB = jnp.eye(image_BE.shape[0], dtype=jnp.float32)
    if not soft_labels and kind == "sigmoid":
        targets_BB = targets_BB > 0
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
    similar_BF: jax.Array | None = None,
    similar_from: float = 0.5,
) -> jax.Array:
    """The loss of a global batch that is split over `mesh`: a scalar, differentiable, equal to `dense`.

    Rows with equal `positive_ids_B` are positives of one another; with `similar_BF` (unit vectors, such as
    `text_features`) others are soft ones, with the target `ring.soft(cosine, similar_from)`. `gather` brings every
    device the other devices' embeddings (B x E, not the B x B matrix): each scores its own rows against all. `ring`
    hands the texts round instead and holds blocks of one device's rows by one device's columns (`ring.py`): slower, and
    for batches whose rows do not fit. B need not be a multiple of the number of devices: rows that count for nothing
    fill it up.

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
        image_BE, text_BE, ids_B, valid_B, similar_BF = jax.tree.map(
            lambda x: jnp.pad(x, ((0, spare),) + ((0, 0),) * (x.ndim - 1)),
            (image_BE, text_BE, ids_B, valid_B, similar_BF),
        )
    dtype = _logit_dtype(image_BE)
    scale, bias = jnp.asarray(scale, dtype), jnp.asarray(bias, dtype)
    image_BE, text_BE = image_BE.astype(dtype), text_BE.astype(dtype)
    if similar_BF is not None:
        similar_BF = jax.lax.stop_gradient(similar_BF.astype(dtype))
    rules = ring.Rules(kind, mesh, count, similar_from)
    if method == "ring":
        return ring.loss(rules, image_BE, text_BE, ids_B, valid_B, similar_BF, scale, bias)
    rows, whole = PartitionSpec(axes), PartitionSpec()

    def local(image_bE, text_bE, ids_b, valid_b, similar_bF, scale, bias):
        def gather(x):
            return jax.lax.all_gather(x, axes, tiled=True)

        valid_B = gather(valid_b)
        targets_bB = (ids_b[:, None] == gather(ids_b)[None, :]).astype(dtype)
        if similar_bF is not None:
            targets_bB = jnp.maximum(targets_bB, ring.soft(ring.dot(similar_bF, gather(similar_bF).T), similar_from))
        # A row that fills up is its own positive, so that its loss is a number before it is left out.
        targets_bB = jnp.where(valid_b[:, None] == valid_B[None, :], targets_bB, 0.0)
        directions = [(image_bE, text_bE), (text_bE, image_bE)][: 2 if kind == "softmax" else 1]
        total = jnp.zeros((), dtype)
        for query_bE, key_bE in directions:
            per_row = _rows(kind, query_bE, gather(key_bE), targets_bB, scale, bias, valid_B)
            total += jnp.where(valid_b, per_row, 0.0).sum() / len(directions)
        # The sum over devices is the whole story of the gradient too: no factor of the world size anywhere.
        return jax.lax.psum(total, axes) / count

    run = jax.shard_map(local, mesh=mesh, in_specs=(rows,) * 5 + (whole,) * 2, out_specs=whole)
    return run(image_BE, text_BE, ids_B, valid_B, similar_BF, scale, bias)


def numbers(said_BQ: jax.Array, stated_BQ: jax.Array) -> jax.Array:
    """How far numbers read off the embeddings are from those that the reports state: a scalar.

    The mean over those stated (not NaN) of Huber's loss (doi 10.1214/aoms/1177703732) with its knee at one unit of
    `schema.NUMBERS`, for a report may be wrong; 0 where none is.
    """
    stated = ~jnp.isnan(stated_BQ)
    # What is not stated becomes 0 on both sides: no error and no gradient.
    loss_BQ = optax.losses.huber_loss(jnp.where(stated, said_BQ, 0.0), jnp.where(stated, stated_BQ, 0.0))
    return loss_BQ.sum() / jnp.maximum(stated.sum(), 1).astype(loss_BQ.dtype)


def text_features(tokens_BL: jax.Array, mask_BL: jax.Array, width: int = 512) -> jax.Array:
    """Unit float32 `B width` of which the product is the cosine of two texts' counts of token triples.

    The triples are hashed into `width` signed places (feature hashing, arXiv 0902.2206): unequal texts are off by
    about 1/sqrt(width). The last triples of a text are cut short by its end.
    """
    tokens = jnp.where(mask_BL, tokens_BL + 1, 0).astype(jnp.uint32)
    hashed = jnp.zeros_like(tokens)
    for ahead in range(3):
        following = jnp.pad(tokens, ((0, 0), (0, ahead)))[:, ahead:]
        # Multiplicative mixing with the constants of MurmurHash3.
        hashed = (hashed ^ following * jnp.uint32(0xCC9E2D51)) * jnp.uint32(0x85EBCA6B)
        hashed = hashed ^ (hashed >> jnp.uint32(13))
    sign_BL = jnp.where(mask_BL, jnp.where(hashed >> jnp.uint32(31), 1.0, -1.0), 0.0).astype(jnp.float32)
    place_BL = (hashed % jnp.uint32(width)).astype(jnp.int32)
    counts_BF = jax.vmap(lambda sign, place: jax.ops.segment_sum(sign, place, width))(sign_BL, place_BL)
    return counts_BF * jax.lax.rsqrt(jnp.maximum((counts_BF**2).sum(axis=1, keepdims=True), 1e-12))


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
        z_bB = logits_bB + jnp.asarray(bias, dtype)
        per_pair = targets_bB * jax.nn.softplus(-z_bB) + (1.0 - targets_bB) * jax.nn.softplus(z_bB)
        return per_pair.sum(axis=1, where=None if valid_B is None else valid_B[None, :])
    raise ValueError(f"unknown kind of loss {kind!r}; there are {', '.join(KINDS)}")
