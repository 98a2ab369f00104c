"""Positions."""

import jax.numpy as jnp
import numpy as np
from jax import Array


def phase_circle(frames: int, harmonics: int) -> Array:
    """`T 2*harmonics` float32: a frame's place in the cardiac cycle, on a circle, so that any number of phases fits.

    Phase t of T is the angle 2 pi t / T; the features are the sines and cosines of its first multiples, so that the
    last phase is the neighbour of the first. Few harmonics on purpose: higher ones alias at small T.
    """
    angle_T1 = 2 * np.pi * np.arange(frames)[:, None] / frames
    order_1F = np.arange(1, harmonics + 1)[None, :]
    return jnp.asarray(np.concatenate([np.sin(angle_T1 * order_1F), np.cos(angle_T1 * order_1F)], axis=1), jnp.float32)
