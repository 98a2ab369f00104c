"""The video tower: a divided space-time vision transformer over one cine.

Divided attention after TimeSformer (arXiv 2102.05095) and Frozen-in-Time (arXiv 2104.00650), the base of CMRformer
(inferred; see configs/). One deliberate difference: temporal attention starts from a zero *projection* with
normally drawn queries and keys. The published start (zero queries, keys and values) never learns.
"""

import jax
import jax.numpy as jnp
from flax import nnx

from cmr_jax.config import VideoConfig
from cmr_jax.models.layers import Attention, Constrain, Mlp, Stack, dropout, linear, masked_mean, norm
from cmr_jax.models.posemb import phase_circle

PHASE_HARMONICS = 4


class SpaceTimeBlock(nnx.Module):
    """Attention along time at each patch, then over the patches of each frame, then an MLP; pre-norm residuals."""

    def __init__(self, config: VideoConfig, dtype, rate: float, rngs: nnx.Rngs):
        self.rate = rate
        self.time_norm = norm(config.width, rngs)
        self.time = Attention(config.width, config.heads, dtype, rngs, zero_out=True)
        self.space_norm = norm(config.width, rngs)
        self.space = Attention(config.width, config.heads, dtype, rngs)
        self.mlp_norm = norm(config.width, rngs)
        self.mlp = Mlp(config.width, config.mlp_ratio, dtype, rngs)

    def __call__(self, x_MTPD: jax.Array, mask_MT: jax.Array, *, key: jax.Array | None) -> jax.Array:
        M, T, P, D = x_MTPD.shape
        keys = (None,) * 3 if key is None else jax.random.split(key, 3)
        mask_NT = jnp.repeat(mask_MT, P, axis=0)
        along = self.time_norm(x_MTPD).swapaxes(1, 2).reshape(M * P, T, D)
        update = self.time(along, mask_NT).reshape(M, P, T, D).swapaxes(1, 2)
        x_MTPD = x_MTPD + dropout(update, self.rate, keys[0])
        update = self.space(self.space_norm(x_MTPD).reshape(M * T, P, D)).reshape(M, T, P, D)
        x_MTPD = x_MTPD + dropout(update, self.rate, keys[1])
        return x_MTPD + dropout(self.mlp(self.mlp_norm(x_MTPD)), self.rate, keys[2])


class VideoTower(nnx.Module):
    """One clip of T frames to one feature of `width`."""

    def __init__(self, config: VideoConfig, dtype, remat: str, rate: float, rngs: nnx.Rngs):
        self.config = config
        self.dtype = dtype
        patches = (config.image_size // config.patch) ** 2
        self.patch = linear(config.tubelet * config.patch**2, config.width, dtype, rngs)
        self.position = nnx.Param(0.02 * jax.random.normal(rngs.params(), (patches, config.width), jnp.float32))
        self.phase_position = linear(2 * PHASE_HARMONICS, config.width, dtype, rngs, bias=False)
        self.stack = Stack(lambda r: SpaceTimeBlock(config, dtype, rate, r), config.depth, remat, rngs)
        self.norm = norm(config.width, rngs)

    def __call__(
        self,
        video_MTHW: jax.Array,
        mask_MT: jax.Array,
        context_MD: jax.Array,
        *,
        key: jax.Array | None,
        constrain: Constrain,
    ) -> jax.Array:
        """uint8 `M T H W` to float32 `M D`.

        `context_MD` (what is known of the clip: its view, its place in the stack) is added to every token. Frames
        where `mask_MT` is False weigh nothing; a clip without any valid frame gives a finite feature.
        """
        tokens_MTPF = self._tubelets(video_MTHW)
        T, c = tokens_MTPF.shape[1], self.config
        phases_TD = self.phase_position(phase_circle(T, PHASE_HARMONICS))
        x_MTPD = self.patch(tokens_MTPF) + self.position[...].astype(self.dtype)[None, None]
        x_MTPD = x_MTPD + phases_TD[None, :, None, :] + context_MD.astype(self.dtype)[:, None, None, :]
        mask_MT = mask_MT.reshape(-1, T, c.tubelet).any(axis=2)
        x_MTPD = self.stack(constrain(x_MTPD), mask_MT, key=key, constrain=constrain)
        per_frame_MTD = self.norm(x_MTPD).mean(axis=2)
        return masked_mean(per_frame_MTD, mask_MT)

    def _tubelets(self, video_MTHW: jax.Array) -> jax.Array:
        """uint8 frames to `M T' P (tubelet patch patch)` in [-1, 1]."""
        c = self.config
        M, T, H, W = video_MTHW.shape
        x = video_MTHW.reshape(M, T // c.tubelet, c.tubelet, H // c.patch, c.patch, W // c.patch, c.patch)
        x = x.transpose(0, 1, 3, 5, 2, 4, 6).reshape(M, T // c.tubelet, -1, c.tubelet * c.patch**2)
        return (x.astype(jnp.float32) / 127.5 - 1.0).astype(self.dtype)
