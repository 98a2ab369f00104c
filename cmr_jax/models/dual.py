"""The dual encoder: study and report into one space of unit vectors."""

import math

import jax
import jax.numpy as jnp
from flax import nnx

from cmr_jax.config import ModelConfig
from cmr_jax.models.layers import Constrain, linear
from cmr_jax.models.study import StudyEncoder
from cmr_jax.models.text import TextTower

# CLIP's cap on the inverse temperature (arXiv 2103.00020, section 2.5).
MAX_SCALE = 100.0


def unit(x_BE: jax.Array) -> jax.Array:
    """Unit length in float32; a zero row stays finite."""
    x_BE = x_BE.astype(jnp.float32)
    return x_BE * jax.lax.rsqrt(jnp.maximum((x_BE * x_BE).sum(axis=-1, keepdims=True), jnp.float32(1e-12)))


class DualEncoder(nnx.Module):
    def __init__(self, config: ModelConfig, num_views: int, rngs: nnx.Rngs):
        dtype = jnp.dtype(config.dtype)
        self.learn_temperature = config.learn_temperature
        self.image = StudyEncoder(config.video, num_views, dtype, config.remat, config.dropout, rngs)
        self.text = TextTower(config.text, dtype, config.remat, config.dropout, rngs)
        self.image_projection = linear(config.video.width, config.embed_dim, jnp.float32, rngs, bias=False)
        self.text_projection = linear(config.text.width, config.embed_dim, jnp.float32, rngs, bias=False)
        # Strongly typed on purpose: a weakly typed parameter recompiles the step twice.
        self.log_scale = nnx.Param(jnp.array(-math.log(config.temperature), jnp.float32))
        # Only the sigmoid loss needs it; a parameter without a gradient would be dead weight in every checkpoint.
        self.logit_bias = nnx.Param(jnp.array(config.logit_bias, jnp.float32)) if config.logit_bias else None

    def encode_image(self, batch, *, key: jax.Array | None, constrain: Constrain) -> jax.Array:
        """Unit `B E` of a structs.Batch's series."""
        feature_BD = self.image(
            batch.video_BVTHW, batch.video_mask_BVT, batch.view_BV, batch.slice_BV, key=key, constrain=constrain
        )
        return unit(self.image_projection(feature_BD))

    def encode_text(
        self, tokens_BL: jax.Array, mask_BL: jax.Array, *, key: jax.Array | None, constrain: Constrain
    ) -> jax.Array:
        """Unit `B E` of token ids."""
        return unit(self.text_projection(self.text(tokens_BL, mask_BL, key=key, constrain=constrain)))

    def scale_and_bias(self) -> tuple[jax.Array, jax.Array]:
        """The inverse temperature and the bias of the logits."""
        log_scale = self.log_scale[...]
        if not self.learn_temperature:
            log_scale = jax.lax.stop_gradient(log_scale)
        bias = jnp.zeros((), jnp.float32) if self.logit_bias is None else self.logit_bias[...]
        return jnp.minimum(jnp.exp(log_scale), jnp.float32(MAX_SCALE)), bias
