"""A timm vision transformer (ImageNet) inflated to the series tower of our study encoder.

The frames of a tubelet share the image's patch kernel, each at its part, so that a still series gives the image's
patch embedding; three colour channels become one grey, with ImageNet's normalisation folded in. What an image cannot
tell (time, phase, view, pooling) starts as drawn. The MLPs' exact GELU becomes the tower's own approximation of it.
"""

from collections.abc import Mapping

import numpy as np

from cmr_jax.config import VideoConfig
from cmr_jax.errors import InputError
from cmr_jax.models import resample, weights
from cmr_jax.models.cmrclip import MEAN, STD
from cmr_jax.models.released import LAYER, Rule, linear_rules, norm_rules

_TOWER = "image/tower"


def study_rules(config: VideoConfig) -> list[Rule]:
    """Of a state whose patch kernel and position table `_inflate` has turned to ours."""
    attention = "space" if config.attention == "divided" else "attention"
    block, ours = f"blocks.{LAYER}", f"{_TOWER}/stack/blocks"
    return [
        Rule(f"{_TOWER}/patch/kernel", ("patch_embed.proj.weight",)),
        Rule(f"{_TOWER}/patch/bias", ("patch_embed.proj.bias",)),
        Rule(f"{_TOWER}/position", ("pos_embed",)),
        *norm_rules(f"{_TOWER}/norm", "norm"),
        *norm_rules(f"{ours}/{attention}_norm", f"{block}.norm1"),
        *norm_rules(f"{ours}/mlp_norm", f"{block}.norm2"),
        *linear_rules(f"{ours}/{attention}/qkv", f"{block}.attn.qkv"),
        *linear_rules(f"{ours}/{attention}/out", f"{block}.attn.proj"),
        *linear_rules(f"{ours}/mlp/up", f"{block}.mlp.fc1"),
        *linear_rules(f"{ours}/mlp/down", f"{block}.mlp.fc2"),
    ]


def study_weights(
    state: weights.State, config: VideoConfig, shapes: Mapping[str, tuple[int, ...]], *, source: str, may_waste: str
) -> tuple[dict[str, np.ndarray], weights.Listing]:
    """As `weights.take`, for the series tower. Raises InputError where the state is no image transformer of this
    patch size, or does not fit."""
    turned = dict(state)
    resized = ()
    try:
        kernel_D3PP, table_1ND = state["patch_embed.proj.weight"], state["pos_embed"]
        turned["patch_embed.proj.weight"], turned["patch_embed.proj.bias"] = _inflate(
            kernel_D3PP, state["patch_embed.proj.bias"], config
        )
        patches = shapes[f"{_TOWER}/position"][0]
        turned["pos_embed"] = resample.grid(table_1ND[0], patches + 1)[1:]
        if table_1ND.shape[1] != patches + 1:
            resized = (f"{_TOWER}/position {table_1ND.shape[1] - 1} -> {patches}",)
    except (KeyError, ValueError, IndexError) as error:
        raise InputError(f"{source} is no vision transformer that this model can start from: {error}") from None
    found, listing = weights.take(
        turned, study_rules(config), shapes, source=source, may_waste=rf"^cls_token$|{may_waste}"
    )
    drawn = sorted(name for name in shapes if name.startswith("image/") and name not in found)
    return found, weights.Listing(source, listing.used, listing.unused, tuple(drawn), resized)


def _inflate(kernel_D3PP: np.ndarray, bias_D: np.ndarray, config: VideoConfig) -> tuple[np.ndarray, np.ndarray]:
    """The kernel `(tubelet p p) D` and bias `D` over grey pixels in [-1, 1]."""
    D, channels, side, _ = kernel_D3PP.shape
    if (channels, side) != (len(MEAN), config.patch):
        raise ValueError(f"{channels} channels and patches of {side} pixels, not 3 and {config.patch}")
    by_std = kernel_D3PP / np.array(STD)[None, :, None, None]
    # A normalised channel is ((grey + 1) / 2 - mean) / std.
    bias_D = bias_D + (by_std * (0.5 - np.array(MEAN))[None, :, None, None]).sum(axis=(1, 2, 3))
    kernel_FD = by_std.sum(axis=1).reshape(D, -1).T / (2 * config.tubelet)
    return np.tile(kernel_FD, (config.tubelet, 1)).astype(np.float32), bias_D.astype(np.float32)
