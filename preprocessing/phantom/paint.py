"""How pictures are painted: soft shapes laid one over the other.

Letters: T phases, N pixels; arrays may as well be `H W`.
"""

import numpy as np


def cover(distance: np.ndarray, edge: float = 1.0) -> np.ndarray:
    """How much of a pixel is covered, 0..1, by a shape whose signed `distance` (negative inside) it has; an edge is
    `edge` wide, in the same unit. A new array."""
    out = distance * np.float32(-1.0 / edge)
    out += np.float32(0.5)
    return np.clip(out, 0.0, 1.0, out=out)


def lay(canvas: np.ndarray, covered: np.ndarray, signal: np.ndarray | float) -> None:
    """Blends `signal` over `canvas` (float32, changed in place) where it is `covered` (0..1)."""
    over = np.asarray(signal, np.float32) - canvas
    over *= covered
    canvas += over


def paint(canvas: np.ndarray, distance: np.ndarray, signal: np.ndarray | float, edge: float = 1.0) -> None:
    """Lays `signal` over `canvas` within `distance`."""
    lay(canvas, cover(distance, edge), signal)
