"""The text towers: ours is a pre-norm transformer encoder over report tokens; the published ones stand in `bert.py`."""

import jax
import jax.numpy as jnp
from flax import nnx

from cmr_jax.config import TextConfig
from cmr_jax.models.bert import BertTower
from cmr_jax.models.layers import Attention, Constrain, Mlp, Stack, dropout, masked_mean, norm


class TextBlock(nnx.Module):
    def __init__(self, config: TextConfig, dtype, rate: float, rngs: nnx.Rngs):
        self.rate = rate
        self.attention_norm = norm(config.width, rngs)
        self.attention = Attention(config.width, config.heads, dtype, rngs)
        self.mlp_norm = norm(config.width, rngs)
        self.mlp = Mlp(config.width, config.mlp_width, dtype, rngs)

    def __call__(self, x_BLD: jax.Array, mask_BL: jax.Array, *, key: jax.Array | None) -> jax.Array:
        keys = (None,) * 2 if key is None else jax.random.split(key, 2)
        x_BLD = x_BLD + dropout(self.attention(self.attention_norm(x_BLD), mask_BL), self.rate, keys[0])
        return x_BLD + dropout(self.mlp(self.mlp_norm(x_BLD)), self.rate, keys[1])


class TextTower(nnx.Module):
    def __init__(self, config: TextConfig, dtype, remat: str, rate: float, rngs: nnx.Rngs):
        self.dtype, self.pool = dtype, config.pool
        init = nnx.initializers.normal(0.02)
        self.token = nnx.Embed(config.vocab_size, config.width, embedding_init=init, rngs=rngs)
        shape = (config.positions or config.length, config.width)
        self.position = nnx.Param(0.02 * jax.random.normal(rngs.params(), shape, jnp.float32))
        self.stack = Stack(lambda r: TextBlock(config, dtype, rate, r), config.depth, remat, rngs)
        self.norm = norm(config.width, rngs)

    def __call__(
        self, tokens_BL: jax.Array, mask_BL: jax.Array, *, key: jax.Array | None, constrain: Constrain
    ) -> jax.Array:
        """`B D` float32; L may be shorter than the position table. Tokens where `mask_BL` is False weigh nothing."""
        L = tokens_BL.shape[1]
        x_BLD = (self.token(tokens_BL) + self.position[...][None, :L]).astype(self.dtype)
        x_BLD = self.stack(constrain(x_BLD), mask_BL, key=key, constrain=constrain)
        x_BLD = self.norm(x_BLD)
        return x_BLD[:, 0] if self.pool == "cls" else masked_mean(x_BLD, mask_BL)


def text_tower(config: TextConfig, dtype, remat: str, rate: float, rngs: nnx.Rngs) -> TextTower | BertTower:
    """The tower of `config.kind`."""
    return (TextTower if config.kind == "pre_norm" else BertTower)(config, dtype, remat, rate, rngs)
