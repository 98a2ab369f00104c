"""How a sketch is painted: soft shapes laid one over the other, and mottling.

Letters: T phases, N pixels.
"""

import numpy as np

WAVES = 40  # of a texture


def cover(distance: np.ndarray, edge: float) -> np.ndarray:
    """How much of a pixel is covered, 0..1, by a shape whose signed `distance` (mm, negative inside) it has; an edge is
    `edge` mm wide. A new array."""
    out = distance * np.float32(-1.0 / edge)
    out += np.float32(0.5)
    return np.clip(out, 0.0, 1.0, out=out)


def lay(canvas: np.ndarray, covered: np.ndarray, signal: np.ndarray | float) -> None:
    """Blends `signal` over `canvas` (changed in place) where it is `covered` (0..1)."""
    over = signal - canvas
    over *= covered
    canvas += over


def paint(canvas: np.ndarray, distance: np.ndarray, signal: np.ndarray | float, edge: float) -> None:
    """Lays `signal` over `canvas` within `distance`."""
    lay(canvas, cover(distance, edge), signal)


class Mottling:
    """Unevenness of tissue in a plane: a few of many waves, other ones each time."""

    def __init__(self, rng: np.random.Generator):
        ways = rng.normal(0.0, 1.0, (WAVES, 2)) * rng.choice([0.04, 0.1, 0.25, 0.5], WAVES)[:, None]
        self._ways = ways.astype(np.float32)
        self._phases = rng.uniform(0, 2 * np.pi, WAVES).astype(np.float32)

    def __call__(self, rng: np.random.Generator, x: np.ndarray, y: np.ndarray) -> np.ndarray:
        """About 0, deviation about 1, at x and y (mm)."""
        out = np.zeros_like(x)
        for i in rng.integers(0, WAVES, 14):
            wave = self._ways[i, 0] * x
            wave += self._ways[i, 1] * y
            wave += self._phases[i]
            out += np.sin(wave, out=wave)
        out *= np.float32(0.38)
        return out
