"""Where the model looks and how bright it sees: the window on the beating heart, found from the cine itself.

Scanners differ in where they put the heart and in how bright the chest wall near the coil is against it. Both are told
by the pictures without any contour: what moves is the heart, and the brightest of what lies around it is blood.

Letters: S slices, T phases, H W pixels.
"""

import functools
import hashlib

import numpy as np

# Spread (standard deviation) of the window that follows the motion, and of the belief that it lies in the middle; mm.
_WINDOW_MM, _PRIOR_MM = 32.0, 70.0
_TURNS = 6
# How far from the middle the left ventricle is looked for, and how far around the best place the places count; mm.
_FAR_MM, _RING_SPREAD_MM = 80.0, 11.5
# Radius of the circle that `sectors` shows, mm.
_SECTOR_MM = 60.0
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


def ring_centre(stack_STHW: np.ndarray, spacing_mm: float) -> tuple[float, float]:
    """(row, column) of the left ventricle, in pixels from the middle of the picture: of a bright, even disc within a
    dark ring, where something beats. (0, 0) for a picture without any.

    What beats most is the blood of the right ventricle, so `motion_centre` lies between the two. Every place on a
    coarse grid is asked how much darker the darkest point within a wall's reach is, in the direction where that is
    least, and how even the disc is. The weights are those that find the left ventricle of the sketches best.
    """
    S, T, H, W = stack_STHW.shape
    near = np.arange(S // 5, max(S - S // 4, S // 5 + 1))
    part = stack_STHW[near[np.unique(np.rint(np.linspace(0, len(near) - 1, 3)).astype(int))]].astype(np.float32)
    frames_FHW = np.concatenate([part[:, 0], part[:, max(T * 3 // 8, min(1, T - 1))]])
    range_SHW = part.max(axis=1) - part.min(axis=1)
    range_SHW = np.maximum(range_SHW - np.percentile(range_SHW, 60, axis=(1, 2))[:, None, None], 0)
    range_SHW = np.minimum(range_SHW / (np.percentile(range_SHW, 99, axis=(1, 2))[:, None, None] + 1e-6), 1)

    angle_K1 = np.arange(16)[:, None] * (2 * np.pi / 16)
    radius_R = np.arange(0, 51, 4.0) / spacing_mm
    down_KR, right_KR = (np.rint(f(angle_K1) * radius_R).astype(int) for f in (np.sin, np.cos))
    step, pad = max(round(6 / spacing_mm), 1), int(radius_R[-1]) + 1
    row_Y, col_X = (np.arange(n // 2 % step, n, step) for n in (H, W))
    row_Y, col_X = (c[np.abs(c - (n - 1) / 2) * spacing_mm < _FAR_MM] for c, n in ((row_Y, H), (col_X, W)))
    place_C = ((row_Y + pad)[:, None] * (W + 2 * pad) + col_X + pad).ravel()
    index_CKR = place_C[:, None, None] + down_KR * (W + 2 * pad) + right_KR

    def around(pictures: np.ndarray) -> np.ndarray:
        padded = np.pad(pictures, ((0, 0), (pad, pad), (pad, pad)), mode="edge")
        return padded.reshape(len(pictures), -1)[:, index_CKR]

    grey_FCKR, beats_FCR = around(frames_FHW), np.tile(around(range_SHW).mean(axis=2), (2, 1, 1))
    count_R = np.arange(1, len(radius_R) + 1)
    mean_FCR = grey_FCKR.mean(axis=2).cumsum(axis=2) / count_R
    spread_FCR = np.sqrt(np.maximum((grey_FCKR**2).mean(axis=2).cumsum(axis=2) / count_R - mean_FCR**2, 0))
    best_FC = np.zeros(mean_FCR.shape[:2])
    for r in range(3, len(radius_R) - 2):
        inside = mean_FCR[..., r - 2]
        wall = grey_FCKR[..., r - 1 : r + 4].min(axis=3).max(axis=2)
        score = (inside - wall - 1.4 * spread_FCR[..., r - 2]) / (inside + 20)
        score *= np.minimum(inside / 120, 1) * (0.4 + beats_FCR[..., r - 2 : r + 2].mean(axis=2)) * (r / 5) ** 0.9
        best_FC = np.maximum(best_FC, score)
    row_mm, col_mm = (row_Y - (H - 1) / 2) * spacing_mm, (col_X - (W - 1) / 2) * spacing_mm
    score_YX = best_FC.mean(axis=0).reshape(len(row_Y), len(col_X))
    score_YX = score_YX * np.exp(-0.5 * (row_mm[:, None] ** 2 + col_mm**2) / _PRIOR_MM**2)
    if not score_YX.max():
        return 0.0, 0.0
    y, x = np.unravel_index(score_YX.argmax(), score_YX.shape)
    off2_YX = (row_mm[:, None] - row_mm[y]) ** 2 + (col_mm - col_mm[x]) ** 2
    weight_YX = (score_YX * np.exp(-0.5 * off2_YX / _RING_SPREAD_MM**2)) ** 2
    weight_YX = weight_YX / weight_YX.sum()
    return float(weight_YX.sum(axis=1) @ row_mm / spacing_mm), float(weight_YX.sum(axis=0) @ col_mm / spacing_mm)


# What was found, by a digest of the stack: a study is shown many times, and the search costs more than all the rest.
Found = tuple[tuple[float, float], np.ndarray | None]
_FOUND: dict[tuple[str, str, bytes, float], Found] = {}
_MOST_FOUND = 100_000


def found_once(how: str, brightness: str, stack_STHW: np.ndarray, spacing_mm: float) -> Found:
    """The centre by `motion_centre`, `ring_centre`, or in the middle of the "image", and the `heart_levels` about it
    (None but for the brightness "heart"); remembered."""
    # A ninth of the pixels tells any two stacks apart.
    digest = hashlib.blake2b(np.ascontiguousarray(stack_STHW[..., 1::3, 1::3]), digest_size=16).digest()
    key = (how, brightness, digest, spacing_mm)
    if key not in _FOUND:
        if len(_FOUND) >= _MOST_FOUND:
            _FOUND.clear()
        centre = (0.0, 0.0)
        if how != "image":
            centre = (ring_centre if how == "ring" else motion_centre)(stack_STHW, spacing_mm)
        levels = heart_levels(stack_STHW, centre, spacing_mm) if brightness == "heart" else None
        _FOUND[key] = (centre, levels)
    return _FOUND[key]


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


def sector_window(spacing_mm: float) -> int:
    """Pixels of the square window that `sectors` reads."""
    return 2 * (int(_SECTOR_MM / spacing_mm) + 1)


# Degrees and scale of what is shown as it is.
AS_IT_IS = (0.0, 1.0)


def sectors(
    frames_THW: np.ndarray,
    size: int,
    patch: int,
    spacing_mm: float,
    pose: tuple[float, float] = AS_IT_IS,
    shift: tuple[int, int] = (0, 0),
) -> np.ndarray:
    """A window about the left ventricle by angle and radius, `T size size`: each patch of `patch` x `patch` pixels is
    one sector of the circle, the patch's pixels its radii from the centre outwards, two neighbouring angles at each.

    A patch is one token of the model, which so sees a piece of the wall and its cavity through the whole beat. `pose`
    (degrees counter-clockwise, scale) and `shift` (pixels down and right) are as in `transforms.warp`, which this
    equals but for one interpolation instead of two. Black where nothing was.
    """
    T, H, W = frames_THW.shape
    y, x = _sector_points(size, patch, spacing_mm)
    cos, sin = np.cos(np.radians(pose[0])) / pose[1], np.sin(np.radians(pose[0])) / pose[1]
    y, x = y - np.float32(shift[0]), x - np.float32(shift[1])
    from_y = np.float32(cos) * y + np.float32(sin) * x + np.float32((H - 1) / 2)
    from_x = np.float32(cos) * x - np.float32(sin) * y + np.float32((W - 1) / 2)
    top, left = np.floor(from_y), np.floor(from_x)
    down, right = from_y - top, from_x - left
    top, left = top.astype(np.intp), left.astype(np.intp)
    flat = frames_THW.reshape(T, -1)
    out = np.full((T, size * size), 0.5, np.float32)
    for below, weight_y in ((0, 1 - down), (1, down)):
        for beside, weight_x in ((0, 1 - right), (1, right)):
            inside = (top + below >= 0) & (top + below < H) & (left + beside >= 0) & (left + beside < W)
            place = np.where(inside, (top + below) * W + left + beside, 0)
            out += flat.take(place, axis=1) * np.where(inside, weight_y * weight_x, np.float32(0))
    return out.astype(np.uint8).reshape(T, size, size)


@functools.cache
def _sector_points(size: int, patch: int, spacing_mm: float) -> tuple[np.ndarray, np.ndarray]:
    """Where each pixel of `sectors` is looked for, in pixels of the window down and right from its middle: `O` each."""
    side = size // patch
    sector = np.arange(side * side).reshape(side, 1, side, 1)
    inside = np.arange(patch)[:, None] * patch + np.arange(patch)
    inside = inside.reshape(1, patch, 1, patch)
    angle = 2 * np.pi * (sector + 0.25 + 0.5 * (inside % 2)) / side**2
    radius = (inside // 2 + 0.5) * (_SECTOR_MM / (patch**2 // 2)) / spacing_mm
    y, x = ((radius * f(angle)).ravel().astype(np.float32) for f in (np.sin, np.cos))
    return y, x
