"""The dual encoder: study and report into one space of unit vectors."""

import math

import jax
import jax.numpy as jnp
from flax import nnx

from cmr_jax.config import ModelConfig
from cmr_jax.models.attention import wide
from cmr_jax.models.cmrclip import ReleasedVideoTower
from cmr_jax.models.layers import Constrain, linear
from cmr_jax.models.study import StudyEncoder
from cmr_jax.models.text import text_tower

# CLIP's cap on the inverse temperature (arXiv 2103.00020, section 2.5).
MAX_SCALE = 100.0


def unit(x_BE: jax.Array) -> jax.Array:
    """Unit length in float32 (float64 stays); a zero row stays finite."""
    x_BE = x_BE.astype(wide(x_BE.dtype))
    return x_BE * jax.lax.rsqrt(jnp.maximum((x_BE * x_BE).sum(axis=-1, keepdims=True), jnp.asarray(1e-12, x_BE.dtype)))


class Head(nnx.Module):
    """A tower's feature into the common space: `linear`, `linear_bias`, or `relu_linear` (a ReLU before it)."""

    def __init__(self, kind: str, d_in: int, d_out: int, dtype, rngs: nnx.Rngs):
        self.relu = kind == "relu_linear"
        self.linear = linear(d_in, d_out, wide(dtype), rngs, bias=kind != "linear")

    def __call__(self, feature_BD: jax.Array) -> jax.Array:
        return self.linear(jax.nn.relu(feature_BD) if self.relu else feature_BD)


class DualEncoder(nnx.Module):
    def __init__(self, config: ModelConfig, num_views: int, rngs: nnx.Rngs):
        dtype = jnp.dtype(config.dtype)
        self.learn_temperature = config.learn_temperature
        if config.arch == "concat":
            self.image = ReleasedVideoTower(config.video, dtype, config.remat, config.dropout, rngs)
        else:
            self.image = StudyEncoder(config.video, num_views, dtype, config.remat, config.dropout, rngs)
        self.text = text_tower(config.text, dtype, config.remat, config.dropout, rngs)
        self.image_projection = Head(config.image_head, config.video.width, config.embed_dim, dtype, rngs)
        self.text_projection = Head(config.text_head, config.text.width, config.embed_dim, dtype, rngs)
        self.numbers = linear(config.embed_dim, len(config.numbers), jnp.float32, rngs) if config.numbers else None
        # Strongly typed on purpose: a weakly typed parameter recompiles the step twice.
        self.log_scale = nnx.Param(jnp.array(-math.log(config.temperature), jnp.float32))
        # Only the sigmoid loss needs it; a parameter without a gradient would be dead weight in every checkpoint.
        self.logit_bias = nnx.Param(jnp.array(config.logit_bias, jnp.float32)) if config.logit_bias else None

    def encode_image(self, batch, *, key: jax.Array | None, constrain: Constrain) -> jax.Array:
        """Unit `B E` of a structs.Batch's series. Arch `concat` reads series 0, which holds all views in one clip."""
        if isinstance(self.image, ReleasedVideoTower):
            clip_BD = self.image(constrain(batch.video_BVTHW[:, 0]), key=key, constrain=constrain)
            return unit(self.image_projection(clip_BD))
        feature_BD = self.image(
            batch.video_BVTHW, batch.video_mask_BVT, batch.view_BV, batch.slice_BV, key=key, constrain=constrain
        )
        return unit(self.image_projection(feature_BD))

    def encode_text(
        self, tokens_BL: jax.Array, mask_BL: jax.Array, *, key: jax.Array | None, constrain: Constrain
    ) -> jax.Array:
        """Unit `B E` of token ids."""
        return unit(self.text_projection(self.text(tokens_BL, mask_BL, key=key, constrain=constrain)))

    def read_numbers(self, image_BE: jax.Array) -> jax.Array | None:
        """`B Q` of `config.numbers`, in units of `schema.NUMBERS`, read off unit embeddings; None where there are none.

        Linear in the common space, so that whoever asks the embeddings finds them there too."""
        if self.numbers is None:
            return None
        # Brought to a length whose coordinates are about 1, as a linear layer expects.
        return self.numbers(image_BE * math.sqrt(image_BE.shape[-1]))

    def scale_and_bias(self) -> tuple[jax.Array, jax.Array]:
        """The inverse temperature and the bias of the logits."""
        log_scale = self.log_scale[...]
        if not self.learn_temperature:
            log_scale = jax.lax.stop_gradient(log_scale)
        bias = jnp.zeros((), jnp.float32) if self.logit_bias is None else self.logit_bias[...]
        return jnp.minimum(jnp.exp(log_scale), jnp.float32(MAX_SCALE)), bias
