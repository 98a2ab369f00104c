"""Contrastive losses between image and text embeddings, dense and across devices.

`dense` is the plain formula and the oracle of the tests; `sharded` gives the same value and gradient where each
device holds a part of the batch. Softmax is the mean of the two directions (CLIP, arXiv 2103.00020, figure 3; the
published CMR-CLIP sums them, which is twice this); sigmoid is SigLIP (arXiv 2303.15343, algorithm 1).
"""

import jax
import jax.numpy as jnp
from jax.sharding import Mesh, PartitionSpec

from cmr_jax.sharding import batch_axes

KINDS = ("softmax", "sigmoid")
METHODS = ("gather",)


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
    embeddings (B x E, not the B x B matrix): each scores its own rows against all.

    Raises:
      ValueError: for an unknown `kind` or `method`.
    """
    if method not in METHODS:
        raise ValueError(f"unknown method {method!r}; there is {', '.join(METHODS)}")
    ids_B = jnp.arange(image_BE.shape[0], dtype=jnp.int32) if positive_ids_B is None else positive_ids_B
    axes = batch_axes(mesh)
    rows, whole = PartitionSpec(axes), PartitionSpec()

    def local(image_bE, text_bE, ids_b, scale, bias):
        def gather(x):
            return jax.lax.all_gather(x, axes, tiled=True)

        targets_bB = (ids_b[:, None] == gather(ids_b)[None, :]).astype(jnp.float32)
        loss = _rows(kind, image_bE, gather(text_bE), targets_bB, scale, bias).mean()
        if kind == "softmax":
            loss = 0.5 * (loss + _rows(kind, text_bE, gather(image_bE), targets_bB, scale, bias).mean())
        # The mean over devices is the whole story of the gradient too: no factor of the world size anywhere.
        return jax.lax.pmean(loss, axes)

    run = jax.shard_map(local, mesh=mesh, in_specs=(rows, rows, rows, whole, whole), out_specs=whole)
    dtype = _logit_dtype(image_BE)
    return run(image_BE, text_BE, ids_B, jnp.asarray(scale, dtype), jnp.asarray(bias, dtype))


def _logit_dtype(embedding_BE: jax.Array):
    """float32 for embeddings of that or less, float64 for float64."""
    return jnp.float64 if embedding_BE.dtype == jnp.float64 else jnp.float32


def _rows(kind, query_bE, key_BE, targets_bB, scale, bias) -> jax.Array:
    """The loss of each query row against all keys: `b`. Logits are at least float32 whatever comes in."""
    dtype = _logit_dtype(query_bE)
    targets_bB = targets_bB.astype(dtype)
    logits_bB = jnp.einsum(
        "be,ce->bc", query_bE.astype(dtype), key_BE.astype(dtype), precision=jax.lax.Precision.HIGHEST
    ) * jnp.asarray(scale, dtype)
    if kind == "softmax":
        targets_bB = targets_bB / targets_bB.sum(axis=1, keepdims=True)
        return jax.nn.logsumexp(logits_bB, axis=1) - (targets_bB * logits_bB).sum(axis=1)
    if kind == "sigmoid":
        sign_bB = jnp.where(targets_bB > 0, 1.0, -1.0).astype(dtype)
        return -jax.nn.log_sigmoid(sign_bB * (logits_bB + jnp.asarray(bias, dtype))).sum(axis=1)
    raise ValueError(f"unknown kind of loss {kind!r}; there are {', '.join(KINDS)}")
