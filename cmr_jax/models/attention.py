"""Attention and norm for the published towers, in whatever precision the compute dtype asks for.

Softmax and norms run in float32, or in float64 where the model computes in that (jax.nn.dot_product_attention always
takes its softmax in float32, which is too coarse to hold a model to its published numbers).
"""

import functools
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jax.sharding import PartitionSpec

from cmr_jax.models import attention_tpu
from cmr_jax.models.target import Target, target


def wide(dtype: Any) -> Any:
    """float32 for a compute dtype of that or less, float64 for float64."""
    return jnp.float64 if jnp.dtype(dtype) == jnp.float64 else jnp.float32


def layer_norm(width: int, epsilon: float, dtype: Any, rngs: nnx.Rngs) -> nnx.LayerNorm:
    """As published: the variance is taken about the mean, not as a difference of squares."""
    return nnx.LayerNorm(width, epsilon=epsilon, dtype=wide(dtype), use_fast_variance=False, rngs=rngs)


def attend(q: jax.Array, k: jax.Array, v: jax.Array, mask: jax.Array | None = None) -> jax.Array:
    """Attention of `... L N K` queries over `... S N K` keys and values: `... L N K`.

    Leading dimensions broadcast. Keys where `mask` (`... S`) is False weigh exactly nothing; where a row has no valid
    key, all weigh alike.
    """
    scores = jnp.einsum("...lnk,...snk->...nls", q, k, preferred_element_type=wide(q.dtype))
    scores = scores * jnp.asarray(q.shape[-1] ** -0.5, scores.dtype)
    if mask is not None:
        scores = jnp.where(mask[..., None, None, :], scores, jnp.full_like(scores, jnp.finfo(scores.dtype).min))
    weights = jax.nn.softmax(scores, axis=-1).astype(v.dtype)
    return jnp.einsum("...nls,...snk->...lnk", weights, v)


def split_heads(qkv: jax.Array, heads: int) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Queries, keys and values `... N K` of their joint projection `... 3NK`.

    A split, because its gradient is one concatenation; that of three slices is a sum of three padded arrays, which the
    compiler for CPUs computes once for each of its users.
    """
    q, k, v = (part.reshape(*part.shape[:-1], heads, -1) for part in jnp.split(qkv, 3, axis=-1))
    return q, k, v


def self_attention(qkv: jax.Array, heads: int, mask: jax.Array | None = None, *, along_time: bool = False) -> jax.Array:
    """The tokens of each row attend to one another: `... L 3NK`, a joint projection, to `... L NK`.

    Keys where `mask` (`... L`) is False weigh nothing. `along_time` attends over T of `M T P 3NK`, mask `M T`: the
    compiler folds that swap of axes into the layout that the products want anyway, 10 % less CPU time than swapping the
    tokens (jax.nn.dot_product_attention: 14 % more).
    """
    length = qkv.shape[1] if along_time else qkv.shape[-2]
    # A mask of frames' tokens that differs from frame to frame is none that we have.
    if _fused(length, qkv, along_time) and (along_time or qkv.ndim == 3 or mask is None):
        rows = qkv.reshape(qkv.shape[0], -1, *qkv.shape[-2:])
        return _fused_attention(target(), rows, mask, None, heads, along_time)[0].reshape(*qkv.shape[:-1], -1)
    q, k, v = split_heads(qkv, heads)
    if along_time:
        q, k, v = (part.swapaxes(1, 2) for part in (q, k, v))
        mask = None if mask is None else mask[:, None]
    mixed = attend(q, k, v, mask)
    return (mixed.swapaxes(1, 2) if along_time else mixed).reshape(*qkv.shape[:-1], -1)


def divided_attention(
    first_M1F: jax.Array, qkv_MTPF: jax.Array, heads: int, *, along_time: bool
) -> tuple[jax.Array, jax.Array]:
    """Tokens attend to those of their frame (or patch, `along_time`) and to the first one, CLS, which attends to all.

    F = 3NK are joint projections. Returns `M 1 NK` and `M T P NK`. (TimeSformer, arXiv 2102.05095, section 3, as
    Frozen-in-Time has it: CLS attends to all frames at once.)
    """
    M, T, P, F = qkv_MTPF.shape
    if _fused(T if along_time else P, qkv_MTPF, along_time):
        mixed, first = _fused_attention(target(), qkv_MTPF, None, first_M1F, heads, along_time)
        return first, mixed
    q, k, v = split_heads(qkv_MTPF, heads)
    q0, k0, v0 = split_heads(first_M1F, heads)
    high = wide(q.dtype)
    scores = jnp.einsum("mnk,mtpnk->mntp", q0[:, 0], k, preferred_element_type=high).reshape(M, heads, T * P)
    own = jnp.einsum("mnk,mnk->mn", q0[:, 0], k0[:, 0], preferred_element_type=high)[..., None]
    scores = jnp.concatenate([own, scores], axis=-1) * jnp.asarray(q.shape[-1] ** -0.5, high)
    own, weights = jnp.split(jax.nn.softmax(scores, axis=-1).astype(v.dtype), [1], axis=-1)
    first = jnp.einsum("mntp,mtpnk->mnk", weights.reshape(M, heads, T, P), v) + own * v0[:, 0]
    if along_time:
        q, k, v = (part.swapaxes(1, 2) for part in (q, k, v))

    def with_first(x_M1NK: jax.Array, x_MGLNK: jax.Array) -> jax.Array:
        x = jnp.broadcast_to(x_M1NK[:, None], (*x_MGLNK.shape[:2], *x_M1NK.shape[1:]))
        return jnp.concatenate([x, x_MGLNK], axis=2)

    mixed = attend(q, with_first(k0, k), with_first(v0, v))
    mixed = mixed.swapaxes(1, 2) if along_time else mixed
    return first.reshape(M, 1, F // 3), mixed.reshape(M, T, P, F // 3)


def _fused(length: int, qkv: jax.Array, along_time: bool) -> bool:
    width = qkv.shape[-1] // 3
    return target().fused_attention and attention_tpu.takes(length, width, qkv.dtype, along_time=along_time)


def _fused_attention(
    where: Target, qkv: jax.Array, mask: jax.Array | None, first: jax.Array | None, heads: int, along_time: bool
) -> tuple[jax.Array, jax.Array]:
    """The kernel on each device's own part of the batch: the compiler cannot split what is inside a kernel."""
    batch = PartitionSpec(where.batch_axes)
    kernel = functools.partial(attention_tpu.attention, heads=heads, along_time=along_time)

    def run(qkv, mask, first):
        mixed, first = kernel(qkv, mask_ML=mask, first_M1F=first)
        return mixed, mixed[:, :, :0] if first is None else first

    # The checker of replication knows nothing of kernels.
    return jax.shard_map(run, mesh=where.mesh, in_specs=batch, out_specs=(batch, batch), check_vma=False)(
        qkv, mask, first
    )


def gelu(x: jax.Array) -> jax.Array:
    """Exact GELU by erf, as PyTorch has it. By erfc, as jax.nn.gelu has it, it is a tenth of an ulp of 1 nearer to the
    truth far below zero, and costs twice as much on a CPU."""
    half, root = jnp.asarray(0.5, x.dtype), jnp.asarray(0.5**0.5, x.dtype)
    return half * x * (jnp.asarray(1.0, x.dtype) + jax.lax.erf(x * root))
