"""BERT (arXiv 1810.04805), MiniLM (the same at another size) and DistilBERT (arXiv 1910.01108) as text towers.

Post-norm blocks with exact GELU, wired as published, so that published weights give their published hidden states.
"""

import jax
import jax.numpy as jnp
from flax import nnx

from cmr_jax.config import TextConfig
from cmr_jax.models.attention import gelu, layer_norm, self_attention, wide
from cmr_jax.models.layers import Constrain, Stack, dropout, linear, masked_mean


class BertBlock(nnx.Module):
    def __init__(self, config: TextConfig, dtype, rate: float, rngs: nnx.Rngs):
        self.rate, self.heads = rate, config.heads
        self.qkv = linear(config.width, 3 * config.width, dtype, rngs)
        self.out = linear(config.width, config.width, dtype, rngs)
        self.attention_norm = layer_norm(config.width, config.norm_epsilon, dtype, rngs)
        self.up = linear(config.width, config.mlp_width, dtype, rngs)
        self.down = linear(config.mlp_width, config.width, dtype, rngs)
        self.mlp_norm = layer_norm(config.width, config.norm_epsilon, dtype, rngs)

    def __call__(self, x_BLD: jax.Array, mask_BL: jax.Array, *, key: jax.Array | None) -> jax.Array:
        keys = (None,) * 2 if key is None else jax.random.split(key, 2)
        mixed_BLD = self_attention(self.qkv(x_BLD), self.heads, mask_BL)
        update = dropout(self.out(mixed_BLD), self.rate, keys[0])
        x_BLD = self.attention_norm(x_BLD + update).astype(x_BLD.dtype)
        hidden = gelu(self.up(x_BLD))
        return self.mlp_norm(x_BLD + dropout(self.down(hidden), self.rate, keys[1])).astype(x_BLD.dtype)


class BertTower(nnx.Module):
    """Token ids to hidden states, pooled to one feature. `config.kind` is `bert` or `distilbert`."""

    def __init__(self, config: TextConfig, dtype, remat: str, rate: float, rngs: nnx.Rngs):
        self.config, self.dtype, self.rate = config, dtype, config.dropout or rate
        init = nnx.initializers.normal(0.02)
        self.token = nnx.Embed(config.vocab_size, config.width, embedding_init=init, rngs=rngs)
        shape = (config.positions or config.length, config.width)
        self.position = nnx.Param(0.02 * jax.random.normal(rngs.params(), shape, jnp.float32))
        self.embedding_norm = layer_norm(config.width, config.norm_epsilon, dtype, rngs)
        self.stack = Stack(lambda r: BertBlock(config, dtype, self.rate, r), config.depth, remat, rngs)
        whole = config.kind == "bert"
        self.token_type = nnx.Embed(2, config.width, embedding_init=init, rngs=rngs) if whole else None
        # Neither the released model nor this one reads it: it is here so that weights go in and out complete.
        self.pooler = linear(config.width, config.width, dtype, rngs) if whole else None

    def hidden(
        self, tokens_BL: jax.Array, mask_BL: jax.Array, *, key: jax.Array | None, constrain: Constrain
    ) -> jax.Array:
        """The last hidden states `B L D`; L may be shorter than the position table. Tokens where `mask_BL` is False are
        not attended to."""
        L = tokens_BL.shape[1]
        keys = (None, None) if key is None else jax.random.split(key)
        x_BLD = self.token(tokens_BL) + self.position[...][None, :L]
        if self.token_type is not None:
            x_BLD = x_BLD + self.token_type.embedding[...][None, None, 0]
        x_BLD = dropout(self.embedding_norm(x_BLD).astype(self.dtype), self.rate, keys[0])
        return self.stack(constrain(x_BLD), mask_BL, key=keys[1], constrain=constrain)

    def pool(self, hidden_BLD: jax.Array, mask_BL: jax.Array) -> jax.Array:
        """`B D`, float32 or wider."""
        if self.config.pool == "cls":
            return hidden_BLD[:, 0].astype(wide(self.dtype))
        return masked_mean(hidden_BLD, mask_BL)

    def __call__(
        self, tokens_BL: jax.Array, mask_BL: jax.Array, *, key: jax.Array | None, constrain: Constrain
    ) -> jax.Array:
        return self.pool(self.hidden(tokens_BL, mask_BL, key=key, constrain=constrain), mask_BL)
