"""Draws by which a study is shown differently each time: another coil, another contrast, another noise. NumPy.

One draw a study, for one scanner took all its slices.

Letters: T phases, O pixels of the window.
"""

import dataclasses

import numpy as np

from cmr_jax.config import DataConfig


@dataclasses.dataclass(frozen=True)
class Distortion:
    gamma: float
    shading: np.ndarray  # 5 weights of x, y, xy, x², y² in the exponent, x and y from -1 to 1
    blur: float  # weight of either neighbour, 0 to 1/3
    noise: float  # standard deviation, of 255


def wanted(data: DataConfig) -> bool:
    """Whether the config asks for any of it."""
    return any((data.gamma, data.shading, data.blur, data.noise))


def draw(data: DataConfig, rng: np.random.Generator) -> Distortion:
    """How one study is shown this time."""
    return Distortion(
        gamma=float(np.exp(data.gamma * rng.uniform(-1, 1))),
        shading=data.shading * rng.uniform(-1, 1, 5),
        blur=float(data.blur * rng.uniform(0, 1) / 3),
        noise=float(255 * data.noise * rng.uniform(0, 1)),
    )


def shade(frames_TOO: np.ndarray, how: Distortion, rng: np.random.Generator) -> np.ndarray:
    """Gamma, blur, coil shading and noise of a window, uint8 to uint8."""
    table = np.float32(255) * (np.arange(256, dtype=np.float32) / 255) ** np.float32(how.gamma)
    out = table.take(frames_TOO)
    if how.blur:
        # The edges' outer neighbours are black, as all beyond a window.
        for near in (np.s_[:, 1:], np.s_[:, :, 1:]):
            past = (*near[:-1], np.s_[:-1])
            blurred = out * np.float32(1 - 2 * how.blur)
            blurred[near] += np.float32(how.blur) * out[past]
            blurred[past] += np.float32(how.blur) * out[near]
            out = blurred
    if how.shading.any():
        x = np.linspace(-1, 1, out.shape[-1], dtype=np.float32)
        y = x[:, None]
        a, b, c, d, e = how.shading.astype(np.float32)
        out *= np.exp(a * x + b * y + c * x * y + d * x * x + e * y * y)
    if how.noise:
        noise = rng.standard_normal(out.shape, np.float32)
        noise *= np.float32(how.noise)
        out += noise
    return np.clip(out, 0, 255, out=out).astype(np.uint8)
