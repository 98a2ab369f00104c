"""Attention and norm for the published towers, in whatever precision the compute dtype asks for.

Softmax and norms run in float32, or in float64 where the model computes in that (jax.nn.dot_product_attention always
takes its softmax in float32, which is too coarse to hold a model to its published numbers).
"""

from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx


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


def gelu(x: jax.Array) -> jax.Array:
    """Exact GELU by erf, as PyTorch has it. By erfc, as jax.nn.gelu has it, it is a tenth of an ulp of 1 nearer to the
    truth far below zero, and costs twice as much on a CPU."""
    half, root = jnp.asarray(0.5, x.dtype), jnp.asarray(0.5**0.5, x.dtype)
    return half * x * (jnp.asarray(1.0, x.dtype) + jax.lax.erf(x * root))
