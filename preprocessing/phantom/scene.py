"""What stands still at a point of the body, and the words that it shares with the beating heart (`beating`).

A layer is a signed distance (negative inside) and a signal; one is painted over the other. Pictures blend the layers
over an edge, which is their antialiasing; label maps take the sign. Both come from the same distances.

Letters: N points, K ends. LPS: patient coordinates, mm, towards left, posterior and head.
"""

import dataclasses
from collections.abc import Iterator

import numpy as np

# Labels of the label map.
LV, MYOCARDIUM, RV, LA, RA, AORTA, PAPILLARY = 1, 2, 3, 4, 5, 6, 7

# Signal of balanced steady-state free precession at 1.5 T against blood (fluid and fat bright, muscle grey, air dark).
BLOOD, MUSCLE, FAT, LUNG, LIVER, MARROW, FLUID, VALVE = 1.0, 0.32, 0.85, 0.05, 0.40, 0.50, 1.1, 0.45


@dataclasses.dataclass(frozen=True)
class Pose:
    """Where the heart's frame lies: LPS of its origin and its unit axes as rows (`x`, `y`, `z` of `anatomy`)."""

    origin: np.ndarray
    axes: np.ndarray

    def to_heart(self, points_n3: np.ndarray) -> np.ndarray:
        return (points_n3 - self.origin) @ self.axes.T

    def to_patient(self, points_n3: np.ndarray) -> np.ndarray:
        return points_n3 @ self.axes + self.origin


@dataclasses.dataclass(frozen=True)
class Chest:
    """The body around the heart; mm."""

    centre: np.ndarray  # LPS
    half_width: float
    half_depth: float
    fat: float  # thickness under the skin
    epicardial_fat: float
    diaphragm: float  # S of its right dome


@dataclasses.dataclass(frozen=True)
class Layer:
    """`distance` is `N` in mm where a thing stands still, `T N` in edges where it beats; `label` 0 names nothing."""

    signal: float
    distance: np.ndarray
    label: int = 0


def _round(*axes: tuple[np.ndarray, float]) -> np.ndarray:
    """Signed distance to an ellipsoid, to first order, `N`; only two axes make a cylinder.

    Args:
        axes: offset from the centre (`N`) and half axis, both mm.
    """
    squared, slope = np.float32(1e-9), np.float32(1e-9)
    for off, half in axes:
        part = (off * (1.0 / half)) ** 2
        squared = squared + part
        slope = slope + part * (1.0 / half**2)
    return (squared - np.sqrt(squared)) / np.sqrt(slope)


def branches(at: np.ndarray, fork: np.ndarray, ends: np.ndarray, radius: float) -> np.ndarray:
    """Signed distance at `at` (`3 N`) to straight tubes that run from `fork` (`3`) to each of `ends` (`K 3`), `N`."""
    off = at - fork.astype(at.dtype)[:, None]
    beyond = None  # squared distance to the nearest tube's line, less that to the fork
    for along in (ends - fork).astype(at.dtype):
        squared, reach = float(along @ along), along @ off
        part = np.clip(reach * (1.0 / squared), 0.0, 1.0)
        this = part * (part * squared - 2.0 * reach)
        beyond = this if beyond is None else np.minimum(beyond, this)
    return np.sqrt(np.maximum(np.einsum("cn,cn->n", off, off) + beyond, 0.0)) - radius


def chest_layers(chest: Chest, pose: Pose, points: np.ndarray) -> Iterator[Layer]:
    """Everything that stands still at LPS `points` (`N 3`), skin first; the background (air) is 0."""
    centre, wide, deep = chest.centre, chest.half_width, chest.half_depth
    at = np.ascontiguousarray((points - centre).T, np.float32)
    x, y, z = at
    skin = _round((x, wide), (y, deep))
    yield Layer(FAT, skin)
    yield Layer(MUSCLE, skin + chest.fat)
    cavity = skin + (chest.fat + 16.0)
    yield Layer(LUNG, cavity)
    heart = pose.to_patient(np.array([0.0, 0.0, 25.0])) - centre
    yield Layer(FAT * 0.65, np.maximum(_round((x + 2.0, 31.0), (y - 8.0, 66.0)), cavity))
    yield Layer(BLOOD * 0.7, np.maximum(_lung_vessels(chest, heart[2] + 45.0, at), cavity + 4.0))
    far = 0.0028 * (1.2 * y) ** 2
    nearer_dome = np.maximum(-0.0028 * (x + 0.4 * wide) ** 2, -12.0 - 0.0028 * (x - 0.4 * wide) ** 2) - far
    yield Layer(LIVER, np.maximum(z - float(chest.diaphragm - centre[2]) - nearer_dome, cavity + 2.0))
    stomach = z - float(chest.diaphragm - centre[2] - 62.0)
    yield Layer(0.62, np.maximum(_round((x - 0.45 * wide, 42.0), (y + 10.0, 40.0), (stomach, 45.0)), cavity + 4.0))
    yield from _spine(x, y - 0.62 * deep, z)
    ra = pose.to_patient(np.array([-42.0, 0.0, -25.0])) - centre
    caval = ra + np.array([[-4.0, 6.0, -160.0], [-8.0, 6.0, 160.0]])
    yield Layer(BLOOD * 0.9, branches(at, ra + np.array([-2.0, 4.0, 0.0]), caval, 10.5))


def _lung_vessels(chest: Chest, hilum_z: float, at: np.ndarray) -> np.ndarray:
    """Signed distance to the vessels of both lungs, seen as fine bright branches, `N`."""
    reach = np.array([[55.0, -35.0, 30.0], [60.0, 30.0, -20.0], [40.0, 45.0, 35.0], [62.0, -10.0, -55.0]])
    reach *= np.array([chest.half_width / 170.0, chest.half_depth / 115.0, 1.0])
    lungs = []
    for side in (-1.0, 1.0):
        hilum = np.array([side * 30.0, 25.0, hilum_z])
        lungs.append(branches(at, hilum, hilum + reach * np.array([side, 1.0, 1.0]), 2.6))
    return np.minimum(*lungs)


def _spine(x: np.ndarray, y: np.ndarray, z: np.ndarray) -> Iterator[Layer]:
    """Muscle of the back, vertebrae with discs, canal and descending aorta; `x` and `y` from the spine's middle."""
    bone = _round((x, 19.0), (y, 16.0))
    yield Layer(MUSCLE, _round((x, 46.0), (y - 22.0, 24.0)))
    yield Layer(MARROW, bone)
    level = (z + 400.0) * (1.0 / 30.0) - 0.5
    discs = np.abs(level - np.rint(level)) * 30.0 - 3.0
    yield Layer(MUSCLE * 0.8, np.maximum(discs, bone))
    yield Layer(FLUID, _round((x, 7.0), (y - 24.0, 6.0)))
    yield Layer(BLOOD, _round((x - 24.0, 11.5), (y + 16.0, 11.5)))
