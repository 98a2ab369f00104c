"""The video tower of CMR-CLIP: the divided space-time transformer of Frozen-in-Time, with its released wiring.

All frames of a study stand in one clip, one view after the other; the view is known only by the frame's place. The
wiring is that of the released code (CMR-CLIP, 10.1038/s41467-026-73022-2; Frozen-in-Time, arXiv 2104.00650): the
output of space attention is added to the block's *input*, not to what time attention made of it. The names of the
weights and how they map to ours stand in `released.py`.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from cmr_jax.config import VideoConfig
from cmr_jax.models.attention import divided_attention, gelu, layer_norm, wide
from cmr_jax.models.layers import Constrain, Stack, dropout, linear

# Of ImageNet, on three channels; a grey pixel is the same in all of them.
MEAN = (0.485, 0.456, 0.406)
STD = (0.229, 0.224, 0.225)


# CLS `B 1 D` and the patch tokens `B T P D`.
Tokens = tuple[jax.Array, jax.Array]


class DividedAttention(nnx.Module):
    """Patch tokens attend along one axis (time or space) and to CLS; CLS attends to every token of every frame."""

    def __init__(self, width: int, heads: int, dtype, rngs: nnx.Rngs):
        self.heads = heads
        self.qkv = linear(width, 3 * width, dtype, rngs)
        self.out = linear(width, width, dtype, rngs)

    def __call__(self, first_B1D: jax.Array, x_BTPD: jax.Array, *, along_time: bool) -> tuple[jax.Array, jax.Array]:
        """CLS and the patch tokens, to the same."""
        mixed = divided_attention(self.qkv(first_B1D), self.qkv(x_BTPD), self.heads, along_time=along_time)
        return self.out(mixed[0]), self.out(mixed[1])


def start_time_attention(attention: DividedAttention, how: str) -> None:
    """Sets the start at which the tower is the image model: `zeros` as published, or `zero_projection`.

    As published the value is zero and the projection's weights are one. Then the gradient of queries and keys is
    exactly zero for ever and the attention stays a uniform mean over frames. A zero projection with drawn queries and
    keys starts as the same image model and learns.
    """
    zero = (attention.qkv, attention.out) if how == "zeros" else (attention.out,)
    for layer in zero:
        layer.kernel[...] = jnp.zeros_like(layer.kernel[...])
    if how == "zeros":
        attention.out.kernel[...] = jnp.ones_like(attention.out.kernel[...])


class ReleasedBlock(nnx.Module):
    """CLS and the patch tokens stand apart: side by side they are 1 + T P rows, which no tile divides, and every
    projection's result would be copied to cut CLS off again."""

    def __init__(self, config: VideoConfig, dtype, rate: float, rngs: nnx.Rngs):
        self.rate = rate
        self.time_norm = layer_norm(config.width, config.norm_epsilon, dtype, rngs)
        self.time = DividedAttention(config.width, config.heads, dtype, rngs)
        start_time_attention(self.time, config.time_init)
        self.space_norm = layer_norm(config.width, config.norm_epsilon, dtype, rngs)
        self.space = DividedAttention(config.width, config.heads, dtype, rngs)
        self.mlp_norm = layer_norm(config.width, config.norm_epsilon, dtype, rngs)
        self.up = linear(config.width, config.mlp_width, dtype, rngs)
        self.down = linear(config.mlp_width, config.width, dtype, rngs)

    def __call__(self, x: Tokens, *, key: jax.Array | None) -> Tokens:
        keys = (None,) * 3 if key is None else jax.random.split(key, 3)
        timed = self._plus(x, self.time(*_each(self.time_norm, x), along_time=True), keys[0])
        x = self._plus(x, self.space(*_each(self.space_norm, timed), along_time=False), keys[1])
        return self._plus(x, _each(lambda y: self.down(gelu(self.up(self.mlp_norm(y)))), x), keys[2])

    def _plus(self, x: Tokens, update: Tokens, key: jax.Array | None) -> Tokens:
        keys = (None,) * 2 if key is None else jax.random.split(key)
        first, rest = (a + dropout(b, self.rate, k) for a, b, k in zip(x, update, keys, strict=True))
        return first, rest


def _each(function: Callable[[jax.Array], jax.Array], x: Tokens) -> Tokens:
    return function(x[0]), function(x[1])


class ReleasedVideoTower(nnx.Module):
    """A clip of up to `config.frames` frames to the CLS feature."""

    def __init__(self, config: VideoConfig, dtype, remat: str, rate: float, rngs: nnx.Rngs):
        self.config, self.dtype = config, dtype
        patches = (config.image_size // config.patch) ** 2

        def drawn(*shape: int) -> nnx.Param:
            return nnx.Param(0.02 * jax.random.truncated_normal(rngs.params(), -2.0, 2.0, shape, jnp.float32))

        self.patch = linear(len(MEAN) * config.patch**2, config.width, dtype, rngs)
        self.cls = drawn(config.width)
        # Row 0 is CLS, the rest the patches of a frame, row by row.
        self.position = drawn(1 + patches, config.width)
        self.time_position = nnx.Param(jnp.zeros((config.frames, config.width), jnp.float32))
        self.stack = Stack(lambda r: ReleasedBlock(config, dtype, rate, r), config.depth, remat, rngs)
        self.norm = layer_norm(config.width, config.norm_epsilon, dtype, rngs)

    def __call__(self, video: jax.Array, *, key: jax.Array | None, constrain: Constrain) -> jax.Array:
        """`B D` of whole-number grey frames `B T H W`, or of three normalised float channels `B T 3 H W`."""
        patches_BTPD = self._colour(video) if video.ndim == 5 else self._grey(video)
        B, T, _, D = patches_BTPD.shape
        if self.config.frames < T:
            raise ValueError(f"{T} frames, but the model has positions for {self.config.frames}")
        position = self.position[...].astype(self.dtype)
        place_TPD = position[None, 1:] + self.time_position[...].astype(self.dtype)[:T, None]
        first_B1D = jnp.broadcast_to((self.cls[...].astype(self.dtype) + position[0])[None, None], (B, 1, D))

        def split_by_study(x: Tokens) -> Tokens:
            return constrain(x[0]), constrain(x[1])

        x = split_by_study((first_B1D, patches_BTPD + place_TPD[None]))
        return self.norm(self.stack(x, key=key, constrain=split_by_study)[0][:, 0])

    def _patches(self, video_BTCHW: jax.Array) -> jax.Array:
        p = self.config.patch
        B, T, C, H, W = video_BTCHW.shape
        H, W = H // p * p, W // p * p  # a convolution in steps of a patch leaves out what is no whole one
        x = video_BTCHW[..., :H, :W].reshape(B, T, C, H // p, p, W // p, p).transpose(0, 1, 3, 5, 2, 4, 6)
        return x.reshape(B, T, (H // p) * (W // p), C * p * p)

    def _colour(self, video_BTCHW: jax.Array) -> jax.Array:
        return self.patch(self._patches(video_BTCHW).astype(self.dtype))

    def _grey(self, video_BTHW: jax.Array) -> jax.Array:
        """The same numbers as `_colour` of three equal channels, normalised; the three kernels are summed first."""
        if not jnp.issubdtype(video_BTHW.dtype, jnp.integer):
            raise ValueError(f"grey frames are whole numbers, not {video_BTHW.dtype}")
        high = wide(self.dtype)
        kernel_CFD = self.patch.kernel[...].astype(high).reshape(len(MEAN), self.config.patch**2, -1)
        by_std = jnp.asarray(1.0 / np.array(STD), high)[:, None, None]
        shift = jnp.asarray(np.array(MEAN) / np.array(STD), high)[:, None, None]
        assert self.patch.bias is not None
        bias_D = self.patch.bias[...].astype(high) - (kernel_CFD * shift).sum(axis=(0, 1))
        pixels_BTPF = self._patches(video_BTHW[:, :, None]).astype(high) / jnp.iinfo(video_BTHW.dtype).max
        kernel_FD = (kernel_CFD * by_std).sum(axis=0).astype(self.dtype)
        product_BTPD = jnp.einsum("btpf,fd->btpd", pixels_BTPF.astype(self.dtype), kernel_FD)
        return product_BTPD + bias_D.astype(self.dtype)[None, None, None]
