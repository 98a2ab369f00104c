"""Draws by which a study is shown differently each time: another pose, another coil, another gain. NumPy.

One draw a study, so that all its slices stay parts of one heart; nothing mirrors, which would make another heart.

Letters: T phases, H W pixels of the source, O pixels of the window.
"""

import dataclasses

import numpy as np

from cmr_jax.config import DataConfig


@dataclasses.dataclass(frozen=True)
class Distortion:
    """`turn` (2 x 2) takes offsets in the window to offsets in the source, in pixels."""

    turn: np.ndarray
    gamma: float
    shading: np.ndarray  # 5 weights of x, y, xy, x², y² in the exponent, x and y from -1 to 1
    blur: float  # weight of either neighbour, 0 to 1/3
    noise: float  # standard deviation, of 255

    @property
    def turns(self) -> bool:
        return not np.array_equal(self.turn, np.eye(2))


def wanted(data: DataConfig) -> bool:
    """Whether the config asks for any of it."""
    return any((data.rotation_deg, data.zoom, data.gamma, data.shading, data.blur, data.noise))


def draw(data: DataConfig, rng: np.random.Generator) -> Distortion:
    """How one study is shown this time."""
    angle = np.deg2rad(data.rotation_deg) * rng.uniform(-1, 1)
    size = np.exp(rng.uniform(-1, 1, 2).mean() * np.log1p(data.zoom))
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]) / size
    return Distortion(
        turn=turn if data.rotation_deg or data.zoom else np.eye(2),
        gamma=float(np.exp(data.gamma * rng.uniform(-1, 1))),
        shading=data.shading * rng.uniform(-1, 1, 5),
        blur=float(data.blur * rng.uniform(0, 1) / 3),
        noise=float(255 * data.noise * rng.uniform(0, 1)),
    )


def sample(frames_THW: np.ndarray, turn: np.ndarray, centre: tuple[float, float], size: int) -> np.ndarray:
    """The window of `size` pixels about `centre` (row, column, from the middle), turned: uint8 `T O O`. 0 outside."""
    T, H, W = frames_THW.shape
    step_O = np.arange(size) - (size - 1) / 2
    row_OO = turn[0, 0] * step_O[:, None] + turn[0, 1] * step_O + ((H - 1) / 2 + centre[0])
    col_OO = turn[1, 0] * step_O[:, None] + turn[1, 1] * step_O + ((W - 1) / 2 + centre[1])
    padded = np.pad(frames_THW, ((0, 0), (1, 1), (1, 1)))
    # Beyond the padding everything is that padding: 0.
    row_OO, col_OO = np.clip(row_OO + 1, 0, H + 0.999), np.clip(col_OO + 1, 0, W + 0.999)
    r, c = row_OO.astype(np.intp), col_OO.astype(np.intp)
    part_r, part_c = (row_OO - r).astype(np.float32), (col_OO - c).astype(np.float32)
    flat_TN = padded.reshape(T, -1)
    first = r * (W + 2) + c
    out = np.zeros((T, size, size), np.float32)
    for down, weight_r in ((0, 1 - part_r), (1, part_r)):
        for right, weight_c in ((0, 1 - part_c), (1, part_c)):
            out += (weight_r * weight_c) * flat_TN[:, first + down * (W + 2) + right]
    return (out + 0.5).astype(np.uint8)


def shade(frames_TOO: np.ndarray, how: Distortion, rng: np.random.Generator) -> np.ndarray:
    """Gamma, coil shading, blur and noise of a window, uint8 to uint8."""
    out = frames_TOO.astype(np.float32)
    if how.blur:
        for axis in (1, 2):
            out = out * np.float32(1 - 2 * how.blur) + np.float32(how.blur) * (
                np.roll(out, 1, axis) + np.roll(out, -1, axis)
            )
    if how.gamma != 1:
        table = np.float32(255) * (np.arange(257, dtype=np.float32) / 255) ** np.float32(how.gamma)
        out = table[np.rint(out).astype(np.intp)]
    if how.shading.any():
        x = np.linspace(-1, 1, out.shape[-1], dtype=np.float32)
        y = x[:, None]
        a, b, c, d, e = how.shading.astype(np.float32)
        out *= np.exp(a * x + b * y + c * x * y + d * x * x + e * y * y)
    if how.noise:
        out += np.float32(how.noise) * rng.standard_normal(out.shape, np.float32)
    return np.clip(out, 0, 255).astype(np.uint8)
