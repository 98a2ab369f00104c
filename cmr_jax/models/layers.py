"""The parts that both towers are made of. Parameters are float32; products run in the compute dtype; norms, softmax
and pooling run in float32."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

Constrain = Callable[[jax.Array], jax.Array]


def linear(d_in: int, d_out: int, dtype: Any, rngs: nnx.Rngs, *, zero: bool = False, bias: bool = True) -> nnx.Linear:
    """A linear layer, drawn normal(0.02) as in ViT and BERT, or zero."""
    init = nnx.initializers.zeros_init() if zero else nnx.initializers.truncated_normal(0.02)
    return nnx.Linear(d_in, d_out, use_bias=bias, kernel_init=init, dtype=dtype, rngs=rngs)


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

    def __call__(self, x_BLD: jax.Array, mask_BL: jax.Array | None = None) -> jax.Array:
        """`B L D` to `B L D`; keys where `mask_BL` is False are not attended to."""
        B, L, D = x_BLD.shape
        qkv_BL3NK = self.qkv(x_BLD).reshape(B, L, 3, self.heads, D // self.heads)
        q, k, v = (qkv_BL3NK[:, :, i] for i in range(3))
        mask_B11L = None if mask_BL is None else mask_BL[:, None, None, :]
        # JAX's own attention mixes its float32 scores with bfloat16 values, which strict promotion forbids.
        with jax.numpy_dtype_promotion("standard"):
            mixed_BLNK = jax.nn.dot_product_attention(q, k, v, mask=mask_B11L)
        return self.out(mixed_BLNK.reshape(B, L, D))


class Mlp(nnx.Module):
    def __init__(self, width: int, ratio: int, dtype: Any, rngs: nnx.Rngs):
        self.up = linear(width, ratio * width, dtype, rngs)
        self.down = linear(ratio * width, width, dtype, rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        return self.down(jax.nn.gelu(self.up(x), approximate=True))


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

    def __call__(self, x: jax.Array, *args: Any, key: jax.Array | None = None, constrain: Constrain) -> jax.Array:
        """Each block is called as `block(x, *args, key=…)`; its output's batch sharding is restated."""
        graphdef, layers = nnx.split(self.blocks)
        keys = None if key is None else jax.random.split(key, self.depth)

        def body(x, layer):
            state, layer_key = layer
            return constrain(nnx.merge(graphdef, state)(x, *args, key=layer_key)), None

        return jax.lax.scan(remat_policy(self.remat)(body), x, (layers, keys))[0]


def masked_mean(x_BLD: jax.Array, mask_BL: jax.Array) -> jax.Array:
    """Mean over the valid positions in float32: `B D`. A row without any gives zeros."""
    weight_BL1 = mask_BL.astype(jnp.float32)[:, :, None]
    total = weight_BL1.sum(axis=1)
    return (x_BLD.astype(jnp.float32) * weight_BL1).sum(axis=1) / jnp.maximum(total, jnp.ones_like(total))


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
