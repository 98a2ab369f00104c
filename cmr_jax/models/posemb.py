"""Positions."""

import jax.numpy as jnp
import numpy as np
from jax import Array


def circle(turn: Array, harmonics: int) -> Array:
    """`... 2*harmonics` float32: places on the cardiac cycle, on a circle, so that any number of phases fits.

    `turn` is the part of the cycle that has gone by, 0 to 1; the features are the sines and cosines of its first
    multiples, so that the last phase is the neighbour of the first. Few harmonics on purpose: higher ones alias where
    phases are few.
    """
    order = jnp.arange(1, harmonics + 1, dtype=jnp.float32).reshape(*(1,) * turn.ndim, harmonics)
    angle = 2 * np.pi * turn.astype(jnp.float32)[..., None] * order
    return jnp.concatenate([jnp.sin(angle), jnp.cos(angle)], axis=-1)


def turns(mask_MT: Array) -> Array:
    """`M T` float32: frame t of a clip's n valid ones is t / n of the cycle. Valid frames stand first.

    By the clip's own count, so that neither padding nor another number of phases moves a frame on the circle.
    """
    count_M1 = jnp.maximum(mask_MT.sum(axis=1, keepdims=True), 1).astype(jnp.float32)
    return jnp.arange(mask_MT.shape[1], dtype=jnp.float32)[None] / count_M1
