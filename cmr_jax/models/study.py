"""The study encoder: every series through one video tower, then pooled over whatever views are there."""

import jax
import jax.numpy as jnp
from flax import nnx

from cmr_jax.config import VideoConfig
from cmr_jax.models.layers import (
    Constrain,
    EncoderBlock,
    MaskedAttentionPool,
    Stack,
    draw_members,
    kept,
    linear,
    norm,
    take_members,
)
from cmr_jax.models.video import VideoTower


class StudyEncoder(nnx.Module):
    """What mixes the series of a study runs in float32: in bfloat16 their order could move a sum to its neighbour."""

    def __init__(self, config: VideoConfig, num_views: int, dtype, remat: str, rate: float, rngs: nnx.Rngs):
        self.slice_dropout = config.slice_dropout
        self.tower = VideoTower(config, dtype, remat, rate, rngs)
        self.view = nnx.Embed(num_views, config.width, embedding_init=nnx.initializers.normal(0.02), rngs=rngs)
        self.slice = linear(1, config.width, jnp.float32, rngs, bias=False)
        size = (config.width, config.heads, config.mlp_width)
        self.series_stack = (
            Stack(lambda r: EncoderBlock(*size, jnp.float32, rate, r), config.series_depth, remat, rngs)
            if config.series_depth
            else None
        )
        self.pool = MaskedAttentionPool(config.width, config.heads, jnp.float32, rngs)
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
        """`B D` float32. Series without a valid frame are not there; their order does not matter.

        `slice_BV` is a fraction, 0 at the base and 1 at the apex. With a `key` (training), series are left out as the
        config says, those that are not there first.
        """
        keys = (None,) * 3 if key is None else tuple(jax.random.split(key, 3))
        if keys[0] is not None and self.slice_dropout:
            some = draw_members(keys[0], mask_BVT.any(axis=2), kept(mask_BVT.shape[1], self.slice_dropout))
            parts = (video_BVTHW, mask_BVT, view_BV, slice_BV)
            video_BVTHW, mask_BVT, view_BV, slice_BV = (take_members(x, some) for x in parts)
        B, V, T, H, W = video_BVTHW.shape
        context_BVD = self.view(view_BV) + self.slice(slice_BV[:, :, None])
        feature_MD = self.tower(
            constrain(video_BVTHW.reshape(B * V, T, H, W)),
            mask_BVT.reshape(B * V, T),
            context_BVD.reshape(B * V, -1),
            key=keys[1],
            constrain=constrain,
        )
        series_BVD = feature_MD.reshape(B, V, -1) + context_BVD
        mask_BV = mask_BVT.any(axis=2)
        if self.series_stack is not None:
            series_BVD = self.series_stack(constrain(series_BVD), mask_BV, key=keys[2], constrain=constrain)
        return self.norm(constrain(self.pool(series_BVD, mask_BV)))
