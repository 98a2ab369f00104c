"""The 17 segments of the left ventricle as smooth fields over its wall.

Segments after Cerqueira et al., Circulation 2002;105:539: 1-6 basal, 7-12 middle, 13-16 apical, 17 the tip. Angles are
those of `anatomy`: lateral 0, inferior 90, septum 180, anterior -90 degrees.

Letters: Z levels from base to apex, A angles.
"""

import numpy as np

_SIX_DEG = (-90.0, -150.0, 150.0, 90.0, 30.0, -30.0)
_FOUR_DEG = (-90.0, 180.0, 90.0, 0.0)
# Where the rings end, as parts of the cavity's length; the tip is the muscle beyond the cavity.
_RINGS = (1.0 / 3.0, 2.0 / 3.0)
TERRITORIES = {  # after the same paper, figure 4
    "LAD": (1, 2, 7, 8, 13, 14, 17),
    "RCA": (3, 4, 9, 10, 15),
    "LCx": (5, 6, 11, 12, 16),
}
NAMES = (
    "basal anterior", "basal anteroseptal", "basal inferoseptal", "basal inferior", "basal inferolateral",
    "basal anterolateral", "mid anterior", "mid anteroseptal", "mid inferoseptal", "mid inferior",
    "mid inferolateral", "mid anterolateral", "apical anterior", "apical septal", "apical inferior",
    "apical lateral", "apex",
)  # fmt: skip


def centre(segment: int) -> tuple[float, float]:
    """Angle (radians) and place along the cavity (0 base, 1 its tip) of the middle of `segment` (1-17)."""
    if segment == 17:
        return 0.0, 1.0
    ring, index = divmod(segment - 1, 6)
    angle = _FOUR_DEG[index] if ring == 2 else _SIX_DEG[index]
    return float(np.deg2rad(angle)), (1.0 + 2.0 * ring) / 6.0


def _sectors(theta: np.ndarray, blur: float) -> tuple[np.ndarray, np.ndarray]:
    """Part of each of six and of four sectors at `theta` (`A`), summing to 1: `6 A` and `4 A`."""
    out = []
    for centres in (_SIX_DEG, _FOUR_DEG):
        half = np.pi / len(centres)
        off = np.abs((theta - np.deg2rad(centres)[:, None] + np.pi) % (2.0 * np.pi) - np.pi)
        out.append(np.clip((half - off) / (2.0 * blur) + 0.5, 0.0, 1.0))
    return out[0], out[1]


def field(
    values: np.ndarray, theta: np.ndarray, along: np.ndarray, *, blur: float = 0.2, blur_along: float = 0.07
) -> np.ndarray:
    """A value of each segment as a continuous field over the wall, `Z A`.

    Args:
        values: 17, of segment 1 first.
        theta: `A`, radians.
        along: `Z`, 0 at the base to 1 at the cavity's tip, above 1 in the muscle beyond.
        blur: half the width of a border around the circle, radians; `blur_along` along the axis.
    """
    six, four = _sectors(theta, blur)
    rings = np.stack([values[0:6] @ six, values[6:12] @ six, values[12:16] @ four, np.full(len(theta), values[16])])
    edges = np.array([*_RINGS, 1.0])
    passed = np.clip((along[:, None] - edges) / (2.0 * blur_along) + 0.5, 0.0, 1.0)  # Z 3
    weight = np.concatenate([np.ones((len(along), 1)), passed], 1) - np.concatenate(
        [passed, np.zeros((len(along), 1))], 1
    )
    return weight @ rings
