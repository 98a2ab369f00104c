"""Where the model looks and how bright it sees: the window on the beating heart, found from the cine itself.

Scanners differ in where they put the heart and in how bright the chest wall near the coil is against it. Both are told
by the pictures without any contour: what moves is the heart, and the brightest of what lies around it is blood.

Letters: S slices, T phases, H W pixels.
"""

import numpy as np

# Spread (standard deviation) of the window that follows the motion, and of the belief that it lies in the middle; mm.
_WINDOW_MM, _PRIOR_MM = 32.0, 70.0
_TURNS = 6
# Radius about the centre that is mostly heart, mm, and which percentiles of it become these levels of 255.
_HEART_MM = 36.0
_PERCENTILES, _LEVELS = (3.0, 90.0), (16.0, 170.0)


def motion_centre(stack_STHW: np.ndarray, spacing_mm: float) -> tuple[float, float]:
    """(row, column) of the centre of what beats, in pixels from the middle of the picture; (0, 0) where nothing moves.

    The centre of gravity of the squared range over the phases, all slices together, in a window that moves with it:
    a bright vessel or a ghost far away has no say.
    """
    _, T, H, W = stack_STHW.shape
    if T < 2:
        return 0.0, 0.0
    least, most = stack_STHW.min(axis=1), stack_STHW.max(axis=1)
    range_SHW = (most - least).astype(np.float32)
    # The floor of every slice is its noise; ranges beyond the heart's own would be flow and ghosts.
    floor_S = np.percentile(range_SHW, 60, axis=(1, 2))[:, None, None]
    range_SHW = np.clip(range_SHW - floor_S, 0, np.percentile(range_SHW, 99.5))
    weight_HW = (range_SHW**2).sum(axis=0)
    row_H = (np.arange(H) - (H - 1) / 2) * spacing_mm
    col_W = (np.arange(W) - (W - 1) / 2) * spacing_mm
    at, spread = np.zeros(2), _PRIOR_MM
    for _ in range(_TURNS):
        near_H = np.exp(-0.5 * ((row_H - at[0]) / spread) ** 2)
        near_W = np.exp(-0.5 * ((col_W - at[1]) / spread) ** 2)
        near_HW = weight_HW * near_H[:, None] * near_W
        total = near_HW.sum()
        if total <= 0:
            return 0.0, 0.0
        at = np.array([near_HW.sum(axis=1) @ row_H, near_HW.sum(axis=0) @ col_W]) / total
        spread = _WINDOW_MM
    return float(at[0] / spacing_mm), float(at[1] / spacing_mm)


def heart_levels(stack_STHW: np.ndarray, centre: tuple[float, float], spacing_mm: float) -> np.ndarray:
    """A look-up table of 256 uint8 that stretches the dark and the bright of the heart's surroundings to fixed levels.

    Read from every second slice and phase; the identity where the surroundings are flat.
    """
    _, _, H, W = stack_STHW.shape
    row_H = (np.arange(H) - (H - 1) / 2 - centre[0]) * spacing_mm
    col_W = (np.arange(W) - (W - 1) / 2 - centre[1]) * spacing_mm
    inside_HW = row_H[:, None] ** 2 + col_W**2 < _HEART_MM**2
    # The middle of the stack: its ends are liver, fat and vessels.
    S = len(stack_STHW)
    part = stack_STHW[S // 4 : max(S - S // 4, S // 4 + 1), ::2][..., inside_HW]
    steps = np.arange(256, dtype=np.float32)
    if not part.size:
        return steps.astype(np.uint8)
    low, high = np.percentile(part, _PERCENTILES)
    if high - low < 4:
        return steps.astype(np.uint8)
    stretched = _LEVELS[0] + (steps - low) * ((_LEVELS[1] - _LEVELS[0]) / (high - low))
    return np.rint(np.clip(stretched, 0, 255)).astype(np.uint8)


def cut(frames_THW: np.ndarray, centre: tuple[float, float], size: int) -> np.ndarray:
    """The window of `size` pixels about `centre` (row, column, from the middle), to a whole pixel: `T size size`, 0
    outside."""
    T = len(frames_THW)
    out = np.zeros((T, size, size), frames_THW.dtype)
    spans = []
    for length, off in zip(frames_THW.shape[1:], centre, strict=True):
        start = (length - size) // 2 + round(off)
        low, high = max(start, 0), max(min(start + size, length), 0)
        spans.append((slice(low, max(high, low)), slice(low - start, max(high, low) - start)))
    (rows, to_rows), (cols, to_cols) = spans
    part = frames_THW[:, rows, cols]
    if part.size:
        out[:, to_rows, to_cols] = part
    return out
