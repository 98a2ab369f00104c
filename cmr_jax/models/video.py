"""The video tower: a space-time vision transformer over one cine.

Attention is divided (in each block along time, then over the patches of a frame) or factorised (first within frames,
then over the frames of the series; "factorised encoder" of ViViT, arXiv 2103.15691, section 3.3).
Divided attention after TimeSformer (arXiv 2102.05095) and Frozen-in-Time (arXiv 2104.00650), the base of CMRformer
(inferred; see configs/). One deliberate difference: temporal attention starts from a zero *projection* with
normally drawn queries and keys. The published start (zero queries, keys and values) never learns.
"""

import jax
import jax.numpy as jnp
from flax import nnx

from cmr_jax.config import VideoConfig
from cmr_jax.models.layers import (
    Attention,
    Constrain,
    EncoderBlock,
    Mlp,
    Stack,
    draw_members,
    dropout,
    kept,
    linear,
    masked_mean,
    norm,
    take_members,
)
from cmr_jax.models.posemb import circle, turns

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
        self.mlp = Mlp(config.width, config.mlp_width, dtype, rngs)

    def __call__(self, x_MTPD: jax.Array, mask_MT: jax.Array, *, key: jax.Array | None) -> jax.Array:
        keys = (None,) * 3 if key is None else jax.random.split(key, 3)
        update = self.time(self.time_norm(x_MTPD), mask_MT, along_time=True)
        x_MTPD = x_MTPD + dropout(update, self.rate, keys[0])
        x_MTPD = x_MTPD + dropout(self.space(self.space_norm(x_MTPD)), self.rate, keys[1])
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
        size = (config.width, config.heads, config.mlp_width)
        divided = config.attention == "divided"
        self.stack = Stack(
            lambda r: SpaceTimeBlock(config, dtype, rate, r) if divided else EncoderBlock(*size, dtype, rate, r),
            config.depth,
            remat,
            rngs,
        )
        self.norm = norm(config.width, rngs)
        if not divided:
            self.phase_stack = Stack(lambda r: EncoderBlock(*size, dtype, rate, r), config.phase_depth, remat, rngs)
            self.phase_norm = norm(config.width, rngs)

    def __call__(
        self,
        video_MTHW: jax.Array,
        mask_MT: jax.Array,
        context_MD: jax.Array,
        *,
        key: jax.Array | None,
        constrain: Constrain,
    ) -> jax.Array:
        """Whole-number grey frames `M T H W` to float32 `M D`.

        `context_MD` (what is known of the clip: its view, its place in the stack) is added to every token. Frames
        where `mask_MT` is False weigh nothing and stand last; a clip without any valid frame gives a finite feature.
        T is any multiple of the tubelet. With a `key` (training), patches and frames are left out as the config says.
        """
        keys = (None,) * 4 if key is None else tuple(jax.random.split(key, 4))
        c = self.config
        tokens_MTPF = self._tubelets(video_MTHW, mask_MT)
        turn_MT = turns(mask_MT)[:, :: c.tubelet]
        mask_MT = mask_MT.reshape(*turn_MT.shape, c.tubelet).any(axis=2)
        position_MPD = self.position[...].astype(self.dtype)[None]
        if keys[0] is not None and c.phase_dropout:
            some = draw_members(keys[0], mask_MT, kept(mask_MT.shape[1], c.phase_dropout))
            tokens_MTPF, turn_MT, mask_MT = (take_members(x, some) for x in (tokens_MTPF, turn_MT, mask_MT))
        if keys[1] is not None and c.patch_dropout:
            tokens_MTPF, position_MPD = self._drop_patches(keys[1], tokens_MTPF, position_MPD)
        phases_MTD = self.phase_position(circle(turn_MT, PHASE_HARMONICS))
        x_MTPD = self.patch(tokens_MTPF.astype(self.dtype)) + position_MPD[:, None]
        x_MTPD = constrain(x_MTPD + (phases_MTD + context_MD.astype(self.dtype)[:, None])[:, :, None])
        if c.attention == "divided":
            x_MTPD = self.stack(x_MTPD, mask_MT, key=keys[2], constrain=constrain)
            return masked_mean(self.norm(x_MTPD).mean(axis=2), mask_MT)
        M, T, P, D = x_MTPD.shape
        x_NPD = self.stack(x_MTPD.reshape(M * T, P, D), None, key=keys[2], constrain=constrain)
        frames_MTD = self.norm(x_NPD).mean(axis=1).reshape(M, T, D).astype(self.dtype)
        frames_MTD = self.phase_stack(constrain(frames_MTD), mask_MT, key=keys[3], constrain=constrain)
        return masked_mean(self.phase_norm(frames_MTD), mask_MT)

    def _tubelets(self, video_MTHW: jax.Array, mask_MT: jax.Array) -> jax.Array:
        """Frames to float32 `M T' P (tubelet patch patch)`, in [-1, 1] but for `motion_gain`; 0 where a frame of a
        tubelet pads."""
        c = self.config
        M, T, H, W = video_MTHW.shape
        video_MTHW = video_MTHW.astype(jnp.float32) * (2.0 / jnp.iinfo(video_MTHW.dtype).max) - 1.0
        if c.motion_gain != 1.0:
            video_MTHW = _gained(video_MTHW, mask_MT, c.motion_gain)
        video_MTHW = jnp.where(mask_MT[:, :, None, None], video_MTHW, jnp.float32(0))
        x = video_MTHW.reshape(M, T // c.tubelet, c.tubelet, H // c.patch, c.patch, W // c.patch, c.patch)
        return x.transpose(0, 1, 3, 5, 2, 4, 6).reshape(M, T // c.tubelet, -1, c.tubelet * c.patch**2)

    def _drop_patches(
        self, key: jax.Array, tokens_MTPF: jax.Array, position_1PD: jax.Array
    ) -> tuple[jax.Array, jax.Array]:
        """The same patches of every frame of a clip, so that each one that stays can be followed in time."""
        M, _, P, _ = tokens_MTPF.shape
        some_MC = draw_members(key, jnp.ones((M, P), bool), kept(P, self.config.patch_dropout))
        return jnp.take_along_axis(tokens_MTPF, some_MC[:, None, :, None], axis=2), position_1PD[0][some_MC]


def _gained(video_MTHW: jax.Array, mask_MT: jax.Array, gain: float) -> jax.Array:
    """Each pixel's departure from its mean over the frames that are there, times `gain`."""
    pixels_MTF = video_MTHW.reshape(*mask_MT.shape, -1)
    mean_M1HW = masked_mean(pixels_MTF, mask_MT).reshape(-1, 1, *video_MTHW.shape[2:])
    return mean_M1HW + gain * (video_MTHW - mean_M1HW)
