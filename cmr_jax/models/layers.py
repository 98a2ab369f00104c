"""The parts that both towers are made of. Parameters are float32; products run in the compute dtype; norms, softmax
and pooling run in float32."""

import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from cmr_jax.models.attention import self_attention
from cmr_jax.models.target import target

Constrain = Callable[[jax.Array], jax.Array]


class Linear(nnx.Linear):
    def __call__(self, inputs: jax.Array, *args: Any, **kwargs: Any) -> jax.Array:
        if not target().tokens_as_rows:
            return super().__call__(inputs, *args, **kwargs)
        rows = super().__call__(inputs.reshape(-1, inputs.shape[-1]), *args, **kwargs)
        return rows.reshape(*inputs.shape[:-1], -1)


def _dot_general(rows: jax.Array, kernel: jax.Array, dimensions: Any, **more: Any) -> jax.Array:
    matrices = rows.ndim == kernel.ndim == 2 and all(given is None for given in more.values())
    if target().tokens_as_rows and matrices and _copy_pays(rows.shape[0], *kernel.shape):
        return _widening(rows, kernel)
    return jax.lax.dot_general(rows, kernel, dimensions, **more)


def _copy_pays(rows: int, d_in: int, d_out: int) -> bool:
    """Whether `_widening` is worth its copy. With AVX2 it made the gradient 1.6 times as fast of 1,568 rows and a d_out
    of whole pages (1,024 floats), slower of 256 rows, and changed little at other widths. With AVX-512 it pays nowhere,
    and costs least where this is true (bench.products, docs/performance.md)."""
    return rows >= 1024 and d_out > d_in and d_out % 1024 == 0


@jax.custom_vjp
def _widening(rows_RD: jax.Array, kernel_DF: jax.Array) -> jax.Array:
    """A product whose kernel's gradient is made of the transposed rows, copied first. The compiler for CPUs multiplies
    them where they lie, at half the speed where F is a multiple of a page (bench.products)."""
    return rows_RD @ kernel_DF


def _widening_forward(rows_RD: jax.Array, kernel_DF: jax.Array) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
    return rows_RD @ kernel_DF, (rows_RD, kernel_DF)


def _widening_backward(kept: tuple[jax.Array, jax.Array], slope_RF: jax.Array) -> tuple[jax.Array, jax.Array]:
    rows_RD, kernel_DF = kept
    # The barrier: without it the copy is folded into the product again.
    return slope_RF @ kernel_DF.T, jax.lax.optimization_barrier(rows_RD.T) @ slope_RF


_widening.defvjp(_widening_forward, _widening_backward)


def linear(d_in: int, d_out: int, dtype: Any, rngs: nnx.Rngs, *, zero: bool = False, bias: bool = True) -> nnx.Linear:
    """A linear layer, drawn normal(0.02) as in ViT and BERT, or zero."""
    init = nnx.initializers.zeros_init() if zero else nnx.initializers.truncated_normal(0.02)
    return Linear(d_in, d_out, use_bias=bias, kernel_init=init, dtype=dtype, rngs=rngs, dot_general=_dot_general)


def norm(width: int, rngs: nnx.Rngs) -> nnx.LayerNorm:
    return nnx.LayerNorm(width, epsilon=1e-6, dtype=jnp.float32, rngs=rngs)


def dropout(x: jax.Array, rate: float, key: jax.Array | None) -> jax.Array:
    """Inverted dropout; the identity where `key` is None (evaluation) or `rate` is 0."""
    if key is None or rate == 0.0:
        return x
    keep = jax.random.bernoulli(key, 1.0 - rate, x.shape)
    return jnp.where(keep, x / (1.0 - rate), jnp.zeros_like(x))


class Attention(nnx.Module):
    """Multi-head self-attention over the last axis but one."""

    def __init__(self, width: int, heads: int, dtype: Any, rngs: nnx.Rngs, *, zero_out: bool = False):
        self.heads = heads
        self.qkv = linear(width, 3 * width, dtype, rngs)
        self.out = linear(width, width, dtype, rngs, zero=zero_out)

    def __call__(self, x: jax.Array, mask: jax.Array | None = None, *, along_time: bool = False) -> jax.Array:
        """`... L D` to the same; keys where `mask` (`... L`) is False are not attended to.

        `along_time` attends over T of `M T P D`, mask `M T`.
        """
        return self.out(self_attention(self.qkv(x), self.heads, mask, along_time=along_time))


class Mlp(nnx.Module):
    def __init__(self, width: int, hidden: int, dtype: Any, rngs: nnx.Rngs):
        self.up = linear(width, hidden, dtype, rngs)
        self.down = linear(hidden, width, dtype, rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        return self.down(jax.nn.gelu(self.up(x), approximate=True))


class EncoderBlock(nnx.Module):
    """Self-attention over the tokens of a row, then an MLP; pre-norm residuals."""

    def __init__(self, width: int, heads: int, mlp_width: int, dtype: Any, rate: float, rngs: nnx.Rngs):
        self.rate = rate
        self.attention_norm = norm(width, rngs)
        self.attention = Attention(width, heads, dtype, rngs)
        self.mlp_norm = norm(width, rngs)
        self.mlp = Mlp(width, mlp_width, dtype, rngs)

    def __call__(
        self, x_BLD: jax.Array, mask_BL: jax.Array | None = None, *, key: jax.Array | None = None
    ) -> jax.Array:
        """`B L D` to the same; tokens where `mask_BL` is False are not attended to."""
        keys = (None,) * 2 if key is None else jax.random.split(key, 2)
        x_BLD = x_BLD + dropout(self.attention(self.attention_norm(x_BLD), mask_BL), self.rate, keys[0])
        return x_BLD + dropout(self.mlp(self.mlp_norm(x_BLD)), self.rate, keys[1])


def kept(total: int, rate: float) -> int:
    """How many of `total` members stay where a share of `rate` is left out: at least one."""
    return max(1, math.ceil(total * (1.0 - rate) - 1e-9))


def draw_members(key: jax.Array, mask_BL: jax.Array, count: int) -> jax.Array:
    """Indices of `count` members of each row, drawn at random and in their order: `B count` int32. Valid members come
    before padding, so that a row which has any keeps some."""
    rank_BL = jax.random.uniform(key, mask_BL.shape) + jnp.where(mask_BL, jnp.float32(0), jnp.float32(1))
    return jnp.sort(jnp.argsort(rank_BL, axis=1)[:, :count].astype(jnp.int32), axis=1)


def take_members(x: jax.Array, index_BC: jax.Array) -> jax.Array:
    """The members `index_BC` of axis 1 of `B L ...`, each row its own: `B C ...`."""
    index = index_BC.reshape(*index_BC.shape, *(1,) * (x.ndim - 2))
    return jnp.take_along_axis(x, index, axis=1)


def remat_policy(name: str) -> Callable[..., Any]:
    """Wraps a block so that the backward pass recomputes what the policy does not keep: none, full or dots."""
    if name == "none":
        return lambda f: f
    policy = jax.checkpoint_policies.checkpoint_dots if name == "dots" else None
    # Inside a scan the barrier against common-subexpression elimination is not needed and costs time.
    return lambda f: jax.checkpoint(f, policy=policy, prevent_cse=False)


class Stack(nnx.Module):
    """`depth` equal blocks whose parameters are stacked on a leading axis and scanned: one block is compiled."""

    def __init__(self, block: Callable[[nnx.Rngs], nnx.Module], depth: int, remat: str, rngs: nnx.Rngs):
        self.depth = depth
        self.remat = remat
        self.blocks = nnx.vmap(block, in_axes=0, out_axes=0)(rngs.split(depth))

    def __call__[X](self, x: X, *args: Any, key: jax.Array | None = None, constrain: Callable[[X], X]) -> X:
        """Each block is called as `block(x, *args, key=…)`, `x` an array or several; its output's batch sharding is
        restated."""
        graphdef, layers = nnx.split(self.blocks)
        keys = None if key is None else jax.random.split(key, self.depth)

        def body(x, layer):
            state, layer_key = layer
            return constrain(nnx.merge(graphdef, state)(x, *args, key=layer_key)), None

        return jax.lax.scan(remat_policy(self.remat)(body), x, (layers, keys))[0]


def masked_mean(x_BLD: jax.Array, mask_BL: jax.Array) -> jax.Array:
    """Mean over the valid positions in float32 (float64 stays): `B D`. A row without any gives zeros."""
    high = jnp.float64 if x_BLD.dtype == jnp.float64 else jnp.float32
    weight_BL1 = mask_BL.astype(high)[:, :, None]
    total = weight_BL1.sum(axis=1)
    return (x_BLD.astype(high) * weight_BL1).sum(axis=1) / jnp.maximum(total, jnp.ones_like(total))


class MaskedAttentionPool(nnx.Module):
    """Pools a set of any size: learned queries, one a head, attend over the valid members."""

    def __init__(self, width: int, heads: int, dtype: Any, rngs: nnx.Rngs):
        self.heads = heads
        self.norm = norm(width, rngs)
        self.query = nnx.Param(0.02 * jax.random.normal(rngs.params(), (heads, width // heads), jnp.float32))
        self.key_value = linear(width, 2 * width, dtype, rngs)
        self.out = linear(width, width, dtype, rngs)

    def __call__(self, x_BVD: jax.Array, mask_BV: jax.Array) -> jax.Array:
        """`B V D` to `B D`. The order of members does not matter; masked ones weigh exactly nothing."""
        B, V, D = x_BVD.shape
        kv = self.key_value(self.norm(x_BVD)).astype(jnp.float32).reshape(B, V, 2, self.heads, D // self.heads)
        score_BVN = jnp.einsum("bvnk,nk->bvn", kv[:, :, 0], self.query[...]) / (D // self.heads) ** 0.5
        score_BVN = jnp.where(mask_BV[:, :, None], score_BVN, jnp.full_like(score_BVN, -1e30))
        weight_BVN = jax.nn.softmax(score_BVN, axis=1) * mask_BV[:, :, None].astype(jnp.float32)
        pooled_BD = jnp.einsum("bvn,bvnk->bnk", weight_BVN, kv[:, :, 1]).reshape(B, D)
        return masked_mean(x_BVD, mask_BV) + self.out(pooled_BD).astype(jnp.float32)
