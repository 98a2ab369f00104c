"""What lies at a point: the beating heart and the still chest around it, as soft layers painted one over the other.

A layer is a signed distance in millimetres (negative inside) and a signal. Pictures blend the layers with an edge as
wide as a pixel, which is their antialiasing; label maps take the sign. Both come from the same distances.

Letters: T phases, N points. LPS: patient coordinates, mm, towards left, posterior and head.
"""

import dataclasses
import itertools
from collections.abc import Iterator

import numpy as np

from preprocessing.phantom import anatomy

# Labels of the label map.
LV, MYOCARDIUM, RV, LA, RA, AORTA, PAPILLARY = 1, 2, 3, 4, 5, 6, 7

# Signal of balanced steady-state free precession at 1.5 T against blood (fluid and fat bright, muscle grey, air dark).
BLOOD, MUSCLE, FAT, LUNG, LIVER, MARROW, FLUID, VALVE = 1.0, 0.32, 0.85, 0.05, 0.40, 0.50, 1.1, 0.45

_RV_WALL_MM = 3.0
_ATRIAL_WALL_MM = 2.0


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
    """`distance` is `N` (still) or `T N`; `label` 0 paints without naming."""

    signal: float
    distance: np.ndarray
    label: int = 0


def _shift(point: np.ndarray, x: float, y: float, z: float) -> np.ndarray:
    return point + np.array([x, y, z])


def _norm(vectors: np.ndarray) -> np.ndarray:
    """Length of `N 3`, never quite 0."""
    return np.sqrt(np.einsum("ni,ni->n", vectors, vectors) + np.float32(1e-9))


def _ellipsoid(points: np.ndarray, centre: np.ndarray, half: np.ndarray) -> np.ndarray:
    """Signed distance to an axis-parallel ellipsoid, to first order; an infinite half axis makes a cylinder."""
    scaled = (points - centre.astype(np.float32)) * (1.0 / half).astype(np.float32)
    radius = _norm(scaled)
    slope = _norm(scaled * (1.0 / half).astype(np.float32))
    return (radius - 1.0) * radius / slope


def _tube(points: np.ndarray, path: np.ndarray, radius: float) -> np.ndarray:
    """Signed distance to a tube around the polyline `path` (`K 3`)."""
    path = path.astype(np.float32)
    best = np.full(points.shape[:-1], np.inf, np.float32)
    for start, stop in itertools.pairwise(path):
        along = stop - start
        off = points - start
        part = np.clip(off @ (along / (along @ along)), 0.0, 1.0)
        best = np.minimum(best, _norm(off - part[..., None] * along))
    return best - radius


def chest_layers(chest: Chest, pose: Pose, points: np.ndarray) -> Iterator[Layer]:
    """Everything that stands still at LPS `points` (`N 3`), skin first; the background (air) is 0."""
    centre = chest.centre
    at = (points - centre).astype(np.float32)
    wide, deep = chest.half_width, chest.half_depth
    skin = _ellipsoid(at, np.zeros(3), np.array([wide, deep, np.inf]))
    yield Layer(FAT, skin)
    yield Layer(MUSCLE, skin + chest.fat)
    cavity = skin + chest.fat + 16.0
    yield Layer(LUNG, cavity)
    heart = pose.to_patient(np.array([0.0, 0.0, 25.0])) - centre
    mediastinum = _ellipsoid(at, np.array([-2.0, 8.0, 0.0]), np.array([31.0, 66.0, np.inf]))
    yield Layer(FAT * 0.65, np.maximum(mediastinum, cavity))
    # Vessels of the lungs, seen as fine bright branches.
    for side in (-1.0, 1.0):
        hilum = np.array([side * 30.0, 25.0, heart[2] + 45.0])
        for reach in ((55.0, -35.0, 30.0), (60.0, 30.0, -20.0), (40.0, 45.0, 35.0), (62.0, -10.0, -55.0)):
            end = hilum + np.array([side * reach[0] * wide / 170.0, reach[1] * deep / 115.0, reach[2]])
            yield Layer(BLOOD * 0.7, np.maximum(_tube(at, np.stack([hilum, end]), 2.6), cavity + 4.0))
    dome = chest.diaphragm - 0.0028 * ((at[..., 0] + 0.4 * wide) ** 2 + (at[..., 1] * 1.2) ** 2)
    left_dome = chest.diaphragm - 12.0 - 0.0028 * ((at[..., 0] - 0.4 * wide) ** 2 + (at[..., 1] * 1.2) ** 2)
    below = np.minimum(points[..., 2] - dome, points[..., 2] - left_dome)
    yield Layer(LIVER, np.maximum(below, cavity + 2.0))
    stomach = np.array([0.45 * wide, -10.0, chest.diaphragm - centre[2] - 62.0])
    yield Layer(0.62, np.maximum(_ellipsoid(at, stomach, np.array([42.0, 40.0, 45.0])), cavity + 4.0))
    spine = np.array([0.0, 0.62 * deep, 0.0])
    bone = _ellipsoid(at, spine, np.array([19.0, 16.0, np.inf]))
    yield Layer(MUSCLE, _ellipsoid(at, _shift(spine, 0.0, 22.0, 0.0), np.array([46.0, 24.0, np.inf])))
    yield Layer(MARROW, bone)
    discs = np.abs((at[..., 2] + 400.0) % 30.0 - 15.0) - 3.0
    yield Layer(MUSCLE * 0.8, np.maximum(discs, bone))
    yield Layer(FLUID, _ellipsoid(at, _shift(spine, 0.0, 24.0, 0.0), np.array([7.0, 6.0, np.inf])))
    yield Layer(BLOOD, _ellipsoid(at, _shift(spine, 24.0, -16.0, 0.0), np.array([11.5, 11.5, np.inf])))
    ra = pose.to_patient(np.array([-42.0, 0.0, -25.0])) - centre
    caval = np.stack([_shift(ra, -4.0, 6.0, -160.0), _shift(ra, -2.0, 4.0, 0.0), _shift(ra, -8.0, 6.0, 160.0)])
    yield Layer(BLOOD * 0.9, _tube(at, caval, 10.5))


def heart_layers(
    heart: anatomy.Heart, chest: Chest, pose: Pose, points: np.ndarray, contracted: np.ndarray
) -> Iterator[Layer]:
    """The heart at LPS `points` (`N 3`) and contraction `T`, the fat around it first."""
    local = pose.to_heart(points).astype(np.float32)
    x, y, z = local[:, 0], local[:, 1], local[:, 2]
    squared = x**2 + y**2
    at = contracted.astype(np.float32)[:, None]
    shape = anatomy.Ventricles(heart, np.arctan2(y, x))
    left_base, right_base = anatomy.base(heart, at)
    zeta = (z - left_base) / (heart.length - left_base)
    endo2, epi2 = shape.left(zeta, at)
    rv_zeta = (z - right_base) / (heart.length - right_base)
    outer2 = np.maximum(epi2, 0.0) + shape.right(rv_zeta, at)

    # First-order distance to r² = surface², whose slope along z matters near the tips.
    slope = 1.6 * (heart.radius + heart.wall_free) ** 2 / heart.length * (zeta - 0.25)
    steep = 0.5 / np.sqrt(squared + slope**2 + 4.0)
    above, rv_above = left_base - z, right_base - z
    endo, epi_side = (squared - endo2) * steep, (squared - epi2) * steep
    epi = np.maximum(epi_side, above)
    in_rv = np.maximum(np.maximum((squared - outer2) * steep, -epi_side), (rv_zeta - anatomy.RV_LENGTH) * heart.length)
    rv = np.maximum(in_rv, rv_above)
    left_atrium = _atrium(local, (4.0, 9.0), heart.la_radius, heart.la_length, left_base)
    right_atrium = _atrium(local, (-42.0, 4.0), heart.ra_radius, heart.ra_length, right_base)
    aorta = _tube(local, _aorta_path(heart, pose).astype(np.float32), heart.aorta_radius)
    whole = np.minimum(np.minimum(epi, rv - _RV_WALL_MM), np.minimum(left_atrium, right_atrium) - _ATRIAL_WALL_MM)
    whole = np.minimum(whole, aorta - 1.5)

    yield Layer(FAT, whole - chest.epicardial_fat)
    yield Layer(FLUID * 0.35, whole - 1.0)  # the pericardium, a thin dark line in the fat
    yield Layer(MUSCLE, right_atrium - _ATRIAL_WALL_MM)
    yield Layer(MUSCLE, left_atrium - _ATRIAL_WALL_MM)
    yield Layer(MUSCLE, np.maximum(rv - _RV_WALL_MM, rv_above))
    yield Layer(BLOOD * 0.93, right_atrium, RA)
    yield Layer(BLOOD * 0.97, left_atrium, LA)
    root = np.maximum(aorta, z - left_base)
    yield Layer(MUSCLE, np.maximum(aorta - 1.5, z - left_base))
    yield Layer(BLOOD, root, AORTA)
    yield Layer(BLOOD * 0.95, rv, RV)
    yield Layer(MUSCLE, epi, MYOCARDIUM)
    yield Layer(BLOOD, np.maximum(endo, above), LV)
    yield Layer(MUSCLE, np.maximum(_papillary(heart, local, zeta, endo2), np.maximum(endo, above)), PAPILLARY)
    # The leaflets close while the ventricles squeeze; in diastole they fold away.
    closed = np.where(at > 0.25, 1.1, 0.4)
    for plane, inside in ((above, endo), (rv_above, in_rv)):
        yield Layer(VALVE, np.maximum(np.abs(plane) - closed, inside))


def _atrium(
    local: np.ndarray, centre: tuple[float, float], radius: float, length: float, floor: np.ndarray
) -> np.ndarray:
    """Signed distance to an atrium that hangs between its fixed roof at `z = -length` and the moving valve `floor`.

    The roof stands still, so the atrium fills while the ventricle empties.
    """
    half = 0.6 * (floor + length)
    middle = floor - 0.65 * half
    across2 = (local[:, 0] - centre[0]) ** 2 + (local[:, 1] - centre[1]) ** 2
    along = (local[:, 2] - middle) / half
    return np.maximum((np.sqrt(across2 / radius**2 + along**2) - 1.0) * radius, local[:, 2] - floor)


def _aorta_path(heart: anatomy.Heart, pose: Pose) -> np.ndarray:
    """From the outflow tract at the anteroseptal base upwards and to the right, in the heart's frame."""
    head = pose.axes @ np.array([0.0, 0.0, 1.0])
    start = np.array([-0.5 * heart.radius, -0.5 * heart.radius, 6.0])
    bend = _shift(start, -6.0, -8.0, -30.0)
    return np.stack([start, bend, bend + 70.0 * head])


def _papillary(heart: anatomy.Heart, local: np.ndarray, zeta: np.ndarray, endo2: np.ndarray) -> np.ndarray:
    """Signed distance to the anterolateral and the posteromedial papillary muscle, which ride on the wall."""
    radius = np.sqrt(np.maximum(endo2, 1.0))
    thick = heart.papillary * heart.radius
    off = []
    for theta in (-0.75, 1.85):
        x = local[:, 0] - 0.74 * np.float32(np.cos(theta)) * radius
        y = local[:, 1] - 0.74 * np.float32(np.sin(theta)) * radius
        off.append(x * x + y * y)
    along = 1.0 - ((zeta - 0.55) / 0.24) ** 2
    tapered = np.sqrt(np.maximum(along, 0.0))
    return np.sqrt(np.minimum(*off)) - thick * tapered + np.where(along > 0.0, np.float32(0.0), np.float32(3.0))
