"""The beating heart along the points of a plane, as soft layers painted one over the other.

Distances are in widths of a surface's own edge, negative inside. The edge is as wide as a pixel and, where a surface
slants through the slice, as what the slice's thickness smears of it: antialiasing and partial volume in one.

Letters: T phases, N points.
"""

import dataclasses
import math
from collections.abc import Iterator

import numpy as np

from preprocessing.phantom import anatomy, scene
from preprocessing.phantom.scene import BLOOD, FAT, FLUID, MUSCLE, VALVE, Layer

_RV_WALL_MM, _ATRIAL_WALL_MM, _AORTIC_WALL_MM = 3.0, 2.0, 1.5
_LEFT_ATRIUM, _RIGHT_ATRIUM = (4.0, 9.0), (-42.0, 4.0)  # x and y of their axes, mm


@dataclasses.dataclass(frozen=True)
class Slice:
    """How a plane cuts: its unit `normal` in the heart's frame, the edge in the plane and the thickness, mm."""

    normal: np.ndarray
    edge: float
    thickness: float

    def sharpness(self, lean: np.ndarray | float) -> np.ndarray:
        """Edges per mm of a surface whose distance changes by `lean` (`N`) for each mm along the normal, `N`."""
        return 1.0 / np.sqrt(self.edge**2 + (self.thickness * lean) ** 2)

    def lean(self, x: np.ndarray, y: np.ndarray, z: np.ndarray) -> np.ndarray:
        """`lean` of a surface whose distance grows along `x y z` (of any length but little), `N`."""
        nx, ny, nz = map(float, self.normal)
        return (nx * x + ny * y + nz * z) / np.sqrt(x**2 + y**2 + z**2 + 4.0)

    @property
    def axial(self) -> float:
        """Edges per mm of a surface across the long axis."""
        return float(self.sharpness(self.normal[2]))


@dataclasses.dataclass(frozen=True)
class Solid:
    """What lies within a curved surface and on one side of a flat one: signed distances in edges, `T N`."""

    curved: np.ndarray
    flat: np.ndarray
    side: np.ndarray  # edges per mm of the curved surface, `N`

    def distance(self) -> np.ndarray:
        return np.maximum(self.curved, self.flat)

    def grown(self, mm: float, axial: float) -> np.ndarray:
        """Signed distance when both surfaces move out by `mm`; `axial`: edges per mm of the flat one."""
        return np.maximum(self.curved - mm * self.side, self.flat - mm * axial)


class Cut:
    """A heart along the points of a plane: all that does not move, worked out once.

    Args:
        local: `N 3`, points in the heart's frame, mm. Their precision is that of everything that follows.
        fat_mm: epicardial fat.
    """

    def __init__(self, heart: anatomy.Heart, pose: scene.Pose, across: Slice, local: np.ndarray, fat_mm: float):
        self.heart, self.across, self.fat_mm = heart, across, fat_mm
        at = np.ascontiguousarray(local.T)
        self.x, self.y, self.z = x, y, z = at
        self.squared = x**2 + y**2
        self.shape = anatomy.Ventricles(heart, np.arctan2(y, x))
        # First-order distance to r² = surface², whose slope along z matters near the tips.
        slope = 1.6 * (heart.radius + heart.wall_free) ** 2 / heart.length * (z / heart.length - 0.25)
        self.side = across.sharpness(across.lean(x, y, slope))
        self.steep = 0.5 * self.side / np.sqrt(self.squared + slope**2 + 4.0)
        # Atria, aorta and valves lie above the bases, and so does what surrounds them.
        lowest = max(heart.length * max(heart.shortening, heart.rv_shortening), 6.0 + heart.aorta_radius)
        self.upper = bool(z.size) and float(z.min()) < lowest + fat_mm + 1.5 * across.thickness
        if self.upper:
            self.left_atrium = _Atrium(self, _LEFT_ATRIUM, heart.la_radius, heart.la_length)
            self.right_atrium = _Atrium(self, _RIGHT_ATRIUM, heart.ra_radius, heart.ra_length)
            fork, ends = _aorta_path(heart, pose)
            aorta = scene.branches(at, fork, ends, heart.aorta_radius)
            behind = scene.branches(at + across.normal.astype(at.dtype)[:, None], fork, ends, heart.aorta_radius)
            self.aorta_side = across.sharpness(behind - aorta)
            self.aorta = aorta * self.aorta_side


def _aorta_path(heart: anatomy.Heart, pose: scene.Pose) -> tuple[np.ndarray, np.ndarray]:
    """Its bend, and its ends: the outflow tract at the anteroseptal base, and upwards; in the heart's frame."""
    head = pose.axes @ np.array([0.0, 0.0, 1.0])
    start = np.array([-0.5 * heart.radius, -0.5 * heart.radius, 6.0])
    bend = start + np.array([-6.0, -8.0, -30.0])
    return bend, np.stack([start, bend + 70.0 * head])


class _Atrium:
    """An atrium that hangs between its fixed roof at `z = -length` and a moving valve.

    The roof stands still, so the atrium fills while the ventricle empties.
    """

    def __init__(self, cut: Cut, axis: tuple[float, float], radius: float, length: float):
        x, y = cut.x - axis[0], cut.y - axis[1]
        self._z, self._length, self._across2 = cut.z, length, (x**2 + y**2) / radius**2
        self._side = cut.across.sharpness(cut.across.lean(x, y, cut.z + 0.4 * length))
        self._scale = radius * self._side

    def solid(self, floor: np.ndarray, below: np.ndarray) -> Solid:
        """When the valve is at `z = floor` (`T 1`, mm), which is `below` away (`T N`, edges)."""
        half = 0.6 * (floor + self._length)
        along = (self._z - (floor - 0.65 * half)) * (1.0 / half)
        return Solid((np.sqrt(self._across2 + along**2) - 1.0) * self._scale, below, self._side)


class Surfaces:
    """The surfaces along a cut at contraction `T`: signed distances in edges, `T N`."""

    def __init__(self, cut: Cut, contracted: np.ndarray):
        heart, z, axial = cut.heart, cut.z, cut.across.axial
        self.cut = cut
        self.now = now = contracted.astype(z.dtype)[:, None]
        left_base, right_base = anatomy.base(heart, now)
        self.above, self.rv_above = (left_base - z) * axial, (right_base - z) * axial
        self.zeta = (z - left_base) * (1.0 / (heart.length - left_base))
        self.endo2, epi2 = cut.shape.left(self.zeta, now)
        self.endo = (cut.squared - self.endo2) * cut.steep
        self.epi = Solid((cut.squared - epi2) * cut.steep, self.above, cut.side)
        rv_zeta = (z - right_base) * (1.0 / (heart.length - right_base))
        outer2 = np.maximum(epi2, 0.0) + cut.shape.right(rv_zeta, now)
        in_rv = np.maximum((cut.squared - outer2) * cut.steep, -self.epi.curved)
        beyond = (rv_zeta - anatomy.RV_LENGTH) * (heart.length * axial)
        self.rv = Solid(np.maximum(in_rv, beyond), self.rv_above, cut.side)
        if cut.upper:
            # The ventricles are painted over the atria: where the slice holds both, no gap may be left between them.
            overlap = 0.5 * (1.0 - cut.across.edge * axial)
            self.left_atrium = cut.left_atrium.solid(left_base, -self.above - overlap)
            self.right_atrium = cut.right_atrium.solid(right_base, -self.rv_above - overlap)

    def whole(self, mm: float) -> np.ndarray:
        """The heart with all its walls and `mm` around it, `T N`."""
        cut, axial = self.cut, self.cut.across.axial
        whole = np.minimum(self.epi.grown(mm, axial), self.rv.grown(mm + _RV_WALL_MM, axial))
        if cut.upper:
            whole = np.minimum(whole, self.left_atrium.grown(mm + _ATRIAL_WALL_MM, axial))
            whole = np.minimum(whole, self.right_atrium.grown(mm + _ATRIAL_WALL_MM, axial))
            whole = np.minimum(whole, cut.aorta - (mm + _AORTIC_WALL_MM) * cut.aorta_side)
        return whole

    def papillary(self) -> np.ndarray:
        """The anterolateral and the posteromedial papillary muscle, which ride on the wall, `T N`."""
        cut, heart = self.cut, self.cut.heart
        wall2 = np.maximum(self.endo2, 1.0)
        towards = np.maximum(*(math.cos(theta) * cut.x + math.sin(theta) * cut.y for theta in (-0.75, 1.85)))
        off2 = cut.squared + 0.74**2 * wall2 - np.sqrt(wall2) * (2.0 * 0.74 * towards)
        along = 1.0 - ((self.zeta - 0.55) * (1.0 / 0.24)) ** 2
        tapered = np.copysign(np.sqrt(np.abs(along)), along)  # negative beyond the tips
        return (np.sqrt(np.maximum(off2, 0.0)) - heart.papillary * heart.radius * tapered) * cut.side


@dataclasses.dataclass(frozen=True)
class Group:
    """Layers to paint one over the other; of the result counts what lies on one side of a flat surface (`T N`).

    Where a slice holds both sides, each layer cut by itself would let shine through it what it hides altogether.
    """

    layers: Iterator[Layer]
    flat: np.ndarray | None = None


def heart_groups(cut: Cut, contracted: np.ndarray) -> Iterator[Group]:
    """The heart along `cut` at contraction `T`, the fat around it first."""
    at = Surfaces(cut, contracted)
    yield Group(_around(at))
    yield Group(_right_ventricle(at), at.rv_above if cut.upper else None)
    yield Group(_left_ventricle(at), at.above if cut.upper else None)
    if cut.upper:
        yield Group(_leaflets(at))


def _around(at: Surfaces) -> Iterator[Layer]:
    """What lies around and above the ventricles."""
    cut, axial = at.cut, at.cut.across.axial
    yield Layer(FAT, at.whole(cut.fat_mm))
    yield Layer(FLUID * 0.35, at.whole(1.0))  # the pericardium, a thin dark line in the fat
    if cut.upper:
        yield Layer(MUSCLE, at.right_atrium.grown(_ATRIAL_WALL_MM, axial))
        yield Layer(MUSCLE, at.left_atrium.grown(_ATRIAL_WALL_MM, axial))
        yield Layer(BLOOD * 0.93, at.right_atrium.distance(), scene.RA)
        yield Layer(BLOOD * 0.97, at.left_atrium.distance(), scene.LA)
        yield Layer(MUSCLE, np.maximum(cut.aorta - _AORTIC_WALL_MM * cut.aorta_side, at.left_atrium.flat))
        yield Layer(BLOOD, np.maximum(cut.aorta, at.left_atrium.flat), scene.AORTA)


def _right_ventricle(at: Surfaces) -> Iterator[Layer]:
    yield Layer(MUSCLE, at.rv.curved - _RV_WALL_MM * at.cut.side)
    yield Layer(BLOOD * 0.95, at.rv.curved, scene.RV)


def _left_ventricle(at: Surfaces) -> Iterator[Layer]:
    yield Layer(MUSCLE, at.epi.curved, scene.MYOCARDIUM)
    yield Layer(BLOOD, at.endo, scene.LV)
    yield Layer(MUSCLE, np.maximum(at.papillary(), at.endo), scene.PAPILLARY)


def _leaflets(at: Surfaces) -> Iterator[Layer]:
    """They close while the ventricles squeeze; in diastole they fold away."""
    across = at.cut.across
    half = np.where(at.now > 0.25, 1.1, 0.4).astype(at.now.dtype)
    # A sheet thinner than its edge covers a part of each pixel, and the less the further it is smeared.
    half = (0.5 + half / across.edge) * (across.edge * across.axial) - 0.5
    for plane, inside in ((at.above, at.endo), (at.rv_above, at.rv.curved)):
        yield Layer(VALVE, np.maximum(np.abs(plane) - half, inside))


def touched(cut: Cut) -> np.ndarray:
    """Which points the heart or its fat may cover at any phase, `N` bool.

    Surfaces sweep a few millimetres between the contractions that are asked; the margin is for those.
    """
    return (Surfaces(cut, np.array([0.0, 0.5, 1.0])).whole(cut.fat_mm + 4.0) < 0.5).any(0)
