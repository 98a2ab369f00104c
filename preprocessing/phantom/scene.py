"""The beating heart at a point, as soft layers painted one over the other.

A layer is a signed distance in widths of its own edge (negative inside) and a signal. Pictures blend the layers over
that edge, which is as wide as a pixel and the slice's thickness together: their antialiasing and their partial volume.
Label maps take the sign. Both come from the same distances.

Letters: T phases, N points. LPS: patient coordinates, mm, towards left, posterior and head.
"""

import dataclasses
import itertools
from collections.abc import Iterator

import numpy as np

from preprocessing.phantom import anatomy
from preprocessing.phantom.tissue import Palette

# Labels of the label map.
LV, MYOCARDIUM, RV, LA, RA, AORTA, PAPILLARY = 1, 2, 3, 4, 5, 6, 7

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
class Layer:
    """`signal` is a number, `N` or `T N`; `distance` broadcasts to `T N`; `label` 0 paints without naming."""

    signal: float | np.ndarray
    distance: np.ndarray
    label: int = 0


@dataclasses.dataclass(frozen=True)
class Slice:
    """How a plane cuts the heart: `normal` in the heart's frame, in-plane edge and thickness in mm."""

    normal: np.ndarray
    edge: float
    thickness: float


def _norm(vectors: np.ndarray) -> np.ndarray:
    """Length of `N 3`, never quite 0."""
    return np.sqrt(np.einsum("ni,ni->n", vectors, vectors) + np.float32(1e-9))


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


class Cut:
    """The heart along the points of one plane: everything that does not move is worked out once.

    Args:
        local: `N 3`, points in the heart's frame.
    """

    def __init__(self, heart: anatomy.Heart, cut: Slice, local: np.ndarray):
        self.heart = heart
        self.x, self.y, self.z = (np.ascontiguousarray(column, np.float32) for column in local.T)
        self.squared = self.x**2 + self.y**2
        self.radius = np.sqrt(self.squared + np.float32(1e-6))
        self.theta = np.arctan2(self.y, self.x)
        self.shape = anatomy.Ventricles(heart, self.theta)
        self.local = local.astype(np.float32)
        # First-order distance to r² = surface², whose slope along z matters near the tips.
        zeta = self.z / np.float32(heart.length)
        slope = np.float32(1.6 * (heart.radius + heart.wall_free) ** 2 / heart.length) * (zeta - np.float32(0.25))
        steep = np.float32(0.5) / np.sqrt(self.squared + slope**2 + np.float32(4.0))
        nx, ny, nz = (abs(float(v)) for v in cut.normal)
        # A slanting surface is smeared over as much of the plane as the slice is thick.
        lean = (nx * np.abs(self.x) + ny * np.abs(self.y) + nz * np.abs(slope)) * (2.0 * steep)
        self.side = (1.0 / (cut.edge + 0.8 * cut.thickness * lean)).astype(np.float32)
        self.steep = steep * self.side
        self.axial = np.float32(1.0 / (cut.edge * max(1.0 - nz, 0.1) + cut.thickness * max(nz, 0.1)))
        self.tilt = np.float32(heart.tilt[0]) * self.x + np.float32(heart.tilt[1]) * self.y
        count = heart.trabeculae_count
        phase = self.z * np.float32(0.11)
        rough = np.sin(count * self.theta + phase) + np.float32(0.7) * np.sin(
            (count + 4) * self.theta - 1.7 * phase + 2
        )
        apical = heart.trabeculae_apical / (1.0 + np.exp((0.45 - zeta) * 12.0)) if heart.trabeculae_apical else 0.0
        self.rough = np.maximum(rough + np.float32(0.25), 0.0) * (0.6 * (heart.trabeculae + apical))
        self.rough = np.asarray(self.rough, np.float32)


def heart_layers(
    cut: Cut, palette: Palette, pose: Pose, contracted: np.ndarray, *, epicardial_fat: float, swirl: float = 0.0,
    muscle: float | np.ndarray | None = None,
) -> Iterator[Layer]:  # fmt: skip
    """The heart at contraction `T` (or `T 2`, see `anatomy.beat`), the fat around it first.

    Args:
        swirl: how unevenly the blood shines, as a part.
        muscle: signal of the left ventricle's wall, a number or `N`; None for the palette's.
    """
    heart = cut.heart
    now = anatomy.on_time(contracted).astype(np.float32)
    at = now[:, None]
    late = contracted[:, 1:].astype(np.float32) if contracted.ndim == 2 and heart.lag else None
    left_base, right_base = anatomy.base(heart, at)
    z = cut.z
    zeta = (z - left_base) * (np.float32(1.0) / (np.float32(heart.length) - left_base))
    endo2, epi2 = cut.shape.left(zeta, at, late)
    rv_zeta = (z - right_base) * (np.float32(1.0) / (np.float32(heart.length) - right_base))
    outer2 = np.maximum(epi2, 0.0) + cut.shape.right(rv_zeta, at)

    above = (left_base + cut.tilt - z) * cut.axial
    rv_above = (right_base - z) * cut.axial
    endo, epi_side = (cut.squared - endo2) * cut.steep, (cut.squared - epi2) * cut.steep
    epi = np.maximum(epi_side, above)
    in_rv = np.maximum((cut.squared - outer2) * cut.steep, -epi_side)
    in_rv = np.maximum(in_rv, (rv_zeta - np.float32(anatomy.RV_LENGTH)) * (heart.length * cut.axial))
    rv = np.maximum(in_rv, rv_above)
    rv_wall = rv - _RV_WALL_MM * cut.side
    whole = np.minimum(epi, rv_wall)
    blood = _swirling(cut, swirl, len(now)) if swirl else 1.0

    atria = float(z.min()) < float(left_base.max()) + 14.0
    if atria:
        left_atrium = _atrium(cut, (4.0, 9.0), heart.la_radius, heart.la_length, left_base)
        right_atrium = _atrium(cut, (-42.0, 4.0), heart.ra_radius, heart.ra_length, right_base)
        aorta = _tube(cut.local, aorta_path(heart, pose), heart.aorta_radius) * cut.side
        whole = np.minimum(whole, np.minimum(left_atrium, right_atrium) - _ATRIAL_WALL_MM * cut.side)
        whole = np.minimum(whole, aorta - 1.5 * cut.side)
        yield Layer(palette.fat, whole - epicardial_fat * cut.side)
        yield Layer(palette.muscle, np.minimum(left_atrium, right_atrium) - _ATRIAL_WALL_MM * cut.side)
        yield Layer(palette.muscle, np.maximum(rv_wall, rv_above))
        yield Layer(0.93, right_atrium, RA)
        yield Layer(0.97, left_atrium, LA)
        root = np.maximum(aorta, (z - left_base) * cut.axial)
        yield Layer(palette.muscle, np.maximum(aorta - 1.5 * cut.side, (z - left_base) * cut.axial))
        yield Layer(1.0, root, AORTA)
    else:
        yield Layer(palette.fat, whole - epicardial_fat * cut.side)
        yield Layer(palette.muscle, rv_wall)
    yield Layer(0.95 * blood, rv, RV)
    ragged = rv + np.float32(1.6) * cut.rough * cut.side
    yield Layer(0.5 * (palette.muscle + 0.95), np.maximum(rv, -ragged))
    yield Layer(palette.muscle if muscle is None else muscle, epi, MYOCARDIUM)
    cavity = np.maximum(endo, above)
    yield Layer(blood, cavity, LV)
    inner = np.minimum(_papillary(cut, zeta, endo2, at), -(endo + cut.rough * cut.side))
    yield Layer(palette.muscle, np.maximum(inner, cavity), PAPILLARY)
    if atria:
        # The leaflets close while the ventricles squeeze; in diastole they fold away.
        closed = np.where(at > 0.25, np.float32(1.1), np.float32(0.4)) * cut.axial
        for plane, inside in ((above, endo), (rv_above, in_rv)):
            yield Layer(palette.valve, np.maximum(np.abs(plane) - closed, inside))


def _swirling(cut: Cut, swirl: float, phases: int) -> np.ndarray:
    """Blood that shines unevenly and differently at each moment, `T N`."""
    place = cut.x * np.float32(0.09) + cut.y * np.float32(0.07) + cut.z * np.float32(0.05)
    time = (np.arange(phases, dtype=np.float32) / phases * 2.0 * np.pi)[:, None]
    waves = np.sin(place) * np.cos(time) + np.cos(place) * np.sin(time)
    return np.float32(1.0) + np.float32(swirl) * waves.astype(np.float32)


def _atrium(cut: Cut, centre: tuple[float, float], radius: float, length: float, floor: np.ndarray) -> np.ndarray:
    """Signed distance to an atrium that hangs between its fixed roof at `z = -length` and the moving valve `floor`.

    The roof stands still, so the atrium fills while the ventricle empties.
    """
    half = np.float32(0.6) * (floor + np.float32(length))
    middle = floor - np.float32(0.65) * half
    across2 = ((cut.x - np.float32(centre[0])) ** 2 + (cut.y - np.float32(centre[1])) ** 2) / np.float32(radius**2)
    along = (cut.z - middle) * (1.0 / half)
    body = (np.sqrt(across2 + along**2) - np.float32(1.0)) * (radius * cut.side)
    return np.maximum(body, (cut.z - floor) * cut.axial)


def aorta_path(heart: anatomy.Heart, pose: Pose) -> np.ndarray:
    """From the outflow tract at the anteroseptal base upwards and to the right, in the heart's frame."""
    head = pose.axes @ np.array([0.0, 0.0, 1.0])
    start = np.array([-0.5 * heart.radius, -0.5 * heart.radius, 6.0])
    bend = start + np.array([-6.0, -8.0, -30.0])
    return np.stack([start, bend, bend + 70.0 * head])


def _papillary(cut: Cut, zeta: np.ndarray, endo2: np.ndarray, at: np.ndarray) -> np.ndarray:
    """Signed distance to the anterolateral and the posteromedial papillary muscle, which ride on the turning wall."""
    heart = cut.heart
    middle = np.sqrt(np.maximum(endo2, 1.0)) * np.float32(0.72)
    turn = heart.torsion * heart.papillary_zeta * at
    off = None
    for theta in heart.papillary_theta:
        x = cut.x - np.cos(theta + turn) * middle
        y = cut.y - np.sin(theta + turn) * middle
        x *= x
        y *= y
        x += y
        off = x if off is None else np.minimum(off, x)
    assert off is not None
    along = np.float32(1.0) - ((zeta - np.float32(heart.papillary_zeta)) * np.float32(1.0 / 0.25)) ** 2
    tapered = np.sqrt(np.maximum(along, 0.0)) * np.float32(heart.papillary * heart.radius)
    return (np.sqrt(off) - tapered + (along <= 0.0) * np.float32(3.0)) * cut.side
