"""Positions."""

import jax.numpy as jnp
import numpy as np
from jax import Array


def phase_circle(frames: int, width: int) -> Array:
    """`T D` float32: a frame's place in the cardiac cycle, on a circle, so that any number of phases fits.

    Phase t of T is the angle 2 pi t / T; feature pairs are the sine and cosine of its first D / 2 multiples (Fourier
    features; the last phase is the first one's neighbour).
    """
    angle_T1 = 2 * np.pi * np.arange(frames)[:, None] / frames
    order_1F = np.arange(1, width // 2 + 1)[None, :]
    table = np.concatenate([np.sin(angle_T1 * order_1F), np.cos(angle_T1 * order_1F)], axis=1)
    return jnp.asarray(np.pad(table, ((0, 0), (0, width - table.shape[1]))), jnp.float32)
