"""The study encoder: every series through one video tower, then pooled over whatever views are there."""

import jax
import jax.numpy as jnp
from flax import nnx

from cmr_jax.config import VideoConfig
from cmr_jax.models.layers import Constrain, MaskedAttentionPool, linear, norm
from cmr_jax.models.video import VideoTower


class StudyEncoder(nnx.Module):
    def __init__(self, config: VideoConfig, num_views: int, dtype, remat: str, rate: float, rngs: nnx.Rngs):
        self.tower = VideoTower(config, dtype, remat, rate, rngs)
        self.view = nnx.Embed(num_views, config.width, embedding_init=nnx.initializers.normal(0.02), rngs=rngs)
        self.slice = linear(1, config.width, jnp.float32, rngs, bias=False)
        self.pool = MaskedAttentionPool(config.width, config.heads, dtype, rngs)
        self.norm = norm(config.width, rngs)

    def __call__(
        self,
        video_BVTHW: jax.Array,
        mask_BVT: jax.Array,
        view_BV: jax.Array,
        slice_BV: jax.Array,
        *,
        key: jax.Array | None,
        constrain: Constrain,
    ) -> jax.Array:
        """`B D` float32. Series without a valid frame are not there; their order does not matter."""
        B, V, T, H, W = video_BVTHW.shape
        context_BVD = self.view(view_BV) + self.slice(slice_BV[:, :, None])
        feature_MD = self.tower(
            constrain(video_BVTHW.reshape(B * V, T, H, W)),
            mask_BVT.reshape(B * V, T),
            context_BVD.reshape(B * V, -1),
            key=key,
            constrain=constrain,
        )
        pooled_BD = self.pool(feature_MD.reshape(B, V, -1) + context_BVD, mask_BVT.any(axis=2))
        return self.norm(constrain(pooled_BD))
