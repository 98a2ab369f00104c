"""The beating heart along the points of a plane, as soft layers painted one over the other.

A layer is a signed distance in widths of its own edge (negative inside) and a tissue. Pictures blend the layers over
that edge, which is as wide as a pixel and the slice's thickness together: their antialiasing and their partial volume.
Label maps take the sign. Both come from the same distances.

Letters: T phases, N points. LPS: patient coordinates, mm, towards left, posterior and head.
"""

import dataclasses
import itertools
from collections.abc import Iterator

import numpy as np

from preprocessing.phantom.clinical import heart as hearts
from preprocessing.phantom.clinical.heart import Beat
from preprocessing.phantom.scene import Pose

# Labels of the label map; those of `scene`, and the pulmonary trunk.
LV, MYOCARDIUM, RV, LA, RA, AORTA, PAPILLARY, PULMONARY = 1, 2, 3, 4, 5, 6, 7, 8

_RV_WALL_MM = 3.0
_ATRIAL_WALL_MM = 2.0
_ATRIAL_CUT = 0.4  # of an atrium's half axis: how far below its widest part the valve lies
_FINE = 384  # angles of the tables that pictures look up


@dataclasses.dataclass(frozen=True)
class Layer:
    """`distance` broadcasts to `T N`; `label` 0 paints without naming; `part` dims or brightens (number or `T N`)."""

    tissue: str
    distance: np.ndarray
    label: int = 0
    part: float | np.ndarray = 1.0


@dataclasses.dataclass(frozen=True)
class Slice:
    """How a plane cuts the heart: `normal` in the heart's frame, in-plane edge and thickness in mm."""

    normal: np.ndarray
    edge: float
    thickness: float


class Tables:
    """The surfaces of a beat, ready to be looked up at any height and angle."""

    def __init__(self, beat: Beat):
        self.beat = beat
        self.endo2, self.epi2, self.right2 = (finer(table) for table in (beat.endo2, beat.epi2, beat.right2))

    def at(self, zeta: np.ndarray, column: np.ndarray, *tables: np.ndarray) -> list[np.ndarray]:
        """Values of `tables` at levels `zeta` (`T N`) and angles `column` (`N`, of `_FINE`), each `T N` float32."""
        level = np.clip(zeta, 0.0, np.float32(1.0 - 1e-6)) * np.float32(hearts.LEVELS - 1)
        low = level.astype(np.intp)
        level -= low
        low *= _FINE
        low += column
        low += (np.arange(len(zeta)) * (hearts.LEVELS * _FINE))[:, None]
        high = low + _FINE
        out = []
        for table in tables:
            value = table.take(low)
            step = table.take(high)
            step -= value
            step *= level
            value += step
            out.append(value)
        return out


def finer(table: np.ndarray) -> np.ndarray:
    """`T Z A` with more angles in between, flat, for `Tables.at`."""
    times = _FINE // table.shape[-1]
    after = np.roll(table, -1, -1)
    part = (np.arange(times, dtype=np.float32) / times)[None, None, None]
    return np.ascontiguousarray(table[..., None] * (1.0 - part) + after[..., None] * part, np.float32).ravel()


class Cut:
    """The heart along the points of one plane: everything that does not move is worked out once.

    Args:
        local: `N 3`, points in the heart's frame, mm.
    """

    def __init__(self, heart: hearts.Heart, cut: Slice, local: np.ndarray):
        self.heart = heart
        self.local = local.astype(np.float32)
        self.x, self.y, self.z = (np.ascontiguousarray(column) for column in self.local.T)
        self.squared = self.x**2 + self.y**2
        self.theta = np.arctan2(self.y, self.x)
        self.column = np.rint(self.theta * (_FINE / (2.0 * np.pi))).astype(np.intp) % _FINE
        # First-order distance to r² = surface², whose slope along z matters near the tips.
        zeta = self.z / np.float32(heart.length)
        wide = heart.radius + float(heart.wall.mean())
        slope = np.float32(1.6 * wide**2 / heart.length) * (zeta - np.float32(0.25))
        steep = np.float32(0.5) / np.sqrt(self.squared + slope**2 + np.float32(4.0))
        nx, ny, nz = (abs(float(v)) for v in cut.normal)
        # A slanting surface is smeared over as much of the plane as the slice is thick.
        lean = (nx * np.abs(self.x) + ny * np.abs(self.y) + nz * np.abs(slope)) * (2.0 * steep)
        self.side = (1.0 / (cut.edge + 0.8 * cut.thickness * lean)).astype(np.float32)
        self.steep = (steep * self.side).astype(np.float32)
        self.axial = np.float32(1.0 / (cut.edge * max(1.0 - nz, 0.1) + cut.thickness * max(nz, 0.1)))
        self.rough, self.right_rough = self._rough(zeta)

    def _rough(self, zeta: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """How far trabeculae reach in from the left and from the right ventricle's wall, mm, `N`."""
        heart = self.heart
        count, phase = heart.trabeculae_count, self.z * np.float32(0.11)
        waves = np.sin(count * self.theta + phase) * (0.75 + 0.5 * np.sin(2.0 * self.theta + 0.4 * phase + count))
        waves = waves + np.float32(0.7) * np.sin((count + 5) * self.theta - 1.7 * phase + 2)
        waves = waves + np.float32(0.4) * np.sin((2 * count + 3) * self.theta + 2.3 * phase)
        apical = heart.trabeculae_apical / (1.0 + np.exp((0.4 - zeta) * 12.0)) if heart.trabeculae_apical else 0.0
        waves = 0.6 * np.maximum(waves + np.float32(0.25), 0.0)
        left, right = waves * (heart.trabeculae + apical), waves * (1.2 * heart.trabeculae + 0.8)
        return left.astype(np.float32), right.astype(np.float32)


@dataclasses.dataclass(frozen=True)
class Surfaces:
    """Signed distances in edges of the ventricles at each phase, `T N`, and where along the axis a point lies."""

    now: np.ndarray  # T 1
    zeta: np.ndarray
    endo2: np.ndarray
    epi2: np.ndarray
    endo: np.ndarray
    epi_side: np.ndarray
    above: np.ndarray
    in_rv: np.ndarray
    rv_above: np.ndarray
    left_base: np.ndarray  # T 1, mm
    right_base: np.ndarray


def surfaces(cut: Cut, tables: Tables) -> Surfaces:
    beat, length = tables.beat, np.float32(cut.heart.length)
    left_base = beat.left_base.astype(np.float32)[:, None]
    right_base = beat.right_base.astype(np.float32)[:, None]
    zeta = (cut.z - left_base) / (length - left_base)
    endo2, epi2 = tables.at(zeta, cut.column, tables.endo2, tables.epi2)
    rv_zeta = (cut.z - right_base) / (length - right_base)
    (outer2,) = tables.at(rv_zeta, cut.column, tables.right2)
    outer2 += epi2
    epi_side = (cut.squared - epi2) * cut.steep
    np.maximum(epi_side, (zeta - np.float32(1.0)) * (length * cut.axial), out=epi_side)
    in_rv = (cut.squared - outer2) * cut.steep
    np.maximum(in_rv, -epi_side, out=in_rv)
    np.maximum(in_rv, (rv_zeta - np.float32(hearts.RV_LENGTH)) * (length * cut.axial), out=in_rv)
    return Surfaces(
        now=beat.contracted.astype(np.float32)[:, None],
        zeta=zeta,
        endo2=endo2,
        epi2=epi2,
        endo=(cut.squared - endo2) * cut.steep,
        epi_side=epi_side,
        above=(left_base - cut.z) * cut.axial,
        in_rv=in_rv,
        rv_above=(right_base - cut.z) * cut.axial,
        left_base=left_base,
        right_base=right_base,
    )


def heart_layers(
    cut: Cut, at: Surfaces, pose: Pose, *, fat_mm: float, effusion_mm: float, swirl: float = 0.0
) -> Iterator[Layer]:
    """The heart at each phase, what surrounds it first.

    Args:
        swirl: how unevenly the blood shines, as a part.
    """
    epi = np.maximum(at.epi_side, at.above)
    rv = np.maximum(at.in_rv, at.rv_above)
    rv_wall = rv - _RV_WALL_MM * cut.side
    blood = _swirling(cut, swirl, len(at.now)) if swirl else 1.0
    atria = float(cut.z.min()) < float(max(at.left_base.max(), at.right_base.max())) + 14.0
    whole, upper = np.minimum(epi, rv_wall), []
    if atria:
        outside, upper = _upper(cut, at, pose)
        whole = np.minimum(whole, outside)
    # Fat lies in the grooves and over the right ventricle, little of it over the lateral wall.
    thick = np.float32(fat_mm) * (np.float32(0.75) - np.float32(0.45) * np.cos(cut.theta - np.float32(0.3)))
    yield Layer("fat", whole - (thick + np.float32(effusion_mm + 0.8)) * cut.side)
    yield Layer("fluid" if effusion_mm > 1.0 else "muscle", whole - np.float32(effusion_mm + 0.8) * cut.side)
    yield from upper
    yield Layer("muscle", np.maximum(rv_wall, at.rv_above))
    yield Layer("blood", rv, RV, 0.96 * blood)
    yield Layer("muscle", np.maximum(rv, -rv - cut.right_rough * cut.side))
    yield Layer("myocardium", epi, MYOCARDIUM)
    cavity = np.maximum(at.endo, at.above)
    yield Layer("blood", cavity, LV, blood)
    inner = -(at.endo + cut.rough * cut.side)
    if float(at.zeta.max()) > 0.2:
        inner = np.minimum(inner, _papillary(cut, at))
    yield Layer("muscle", np.maximum(inner, cavity), PAPILLARY)
    if atria:
        # The leaflets close while the ventricles squeeze; in diastole they fold away.
        closed = np.where(at.now > 0.25, np.float32(1.1), np.float32(0.4)) * cut.axial
        for plane, inside in ((at.above, at.endo), (at.rv_above, at.in_rv)):
            yield Layer("muscle", np.maximum(np.abs(plane) - closed, inside), 0, 1.2)


def _upper(cut: Cut, at: Surfaces, pose: Pose) -> tuple[np.ndarray, list[Layer]]:
    """Atria and great vessels: the signed distance to all of them with their walls, and their layers."""
    heart, side = cut.heart, cut.side
    left = _atrium(cut, (6.0, 9.0), heart.la_radius, heart.la_length, at.left_base)
    right = _atrium(cut, (-heart.radius - 18.0, 6.0), heart.ra_radius, heart.ra_length, at.right_base)
    aorta = _tube(cut.local, aorta_path(heart, pose), heart.aorta_radius) * side
    trunk = _tube(cut.local, pulmonary_path(heart, pose), heart.pulmonary_radius) * side
    valve, out_valve = -at.above, -at.rv_above
    out = [
        Layer("muscle", np.minimum(left, right) - _ATRIAL_WALL_MM * side),
        Layer("blood", right, RA, 0.93),
        Layer("blood", left, LA, 0.97),
        Layer("muscle", np.maximum(trunk - 1.2 * side, out_valve)),
        Layer("blood", np.maximum(trunk, out_valve), PULMONARY, 0.94),
        Layer("muscle", np.maximum(aorta - 1.5 * side, valve)),
        Layer("blood", np.maximum(aorta, valve), AORTA),
    ]
    outside = np.minimum(np.minimum(left, right) - _ATRIAL_WALL_MM * side, np.minimum(aorta, trunk) - 1.5 * side)
    return outside, out


def _atrium(cut: Cut, centre: tuple[float, float], radius: float, length: float, floor: np.ndarray) -> np.ndarray:
    """Signed distance to an atrium that hangs between its fixed roof at `z = -length` and the moving valve `floor`.

    The roof stands still, so the atrium fills while the ventricle empties.
    """
    half = (floor + np.float32(length)) * np.float32(1.0 / (1.0 + _ATRIAL_CUT))
    middle = floor - np.float32(_ATRIAL_CUT) * half
    across2 = ((cut.x - np.float32(centre[0])) ** 2 + (cut.y - np.float32(centre[1])) ** 2) / np.float32(radius**2)
    along = (cut.z - middle) / half
    body = (np.sqrt(across2 + along**2) - np.float32(1.0)) * (np.float32(radius) * cut.side)
    return np.maximum(body, (cut.z - floor) * cut.axial)


def atrium_ml(radius: float, length: float, floor: float) -> float:
    """Volume of `_atrium` when its valve stands at `z = floor`: an ellipsoid cut off near its widest part."""
    cut = _ATRIAL_CUT - _ATRIAL_CUT**3 / 3.0 + 2.0 / 3.0
    return float(np.pi * radius**2 * (floor + length) / (1.0 + _ATRIAL_CUT) * cut / 1000.0)


def _tube(points: np.ndarray, path: np.ndarray, radius: float) -> np.ndarray:
    """Signed distance to a tube around the polyline `path` (`K 3`), `N`."""
    path = path.astype(np.float32)
    best = np.full(points.shape[:-1], np.inf, np.float32)
    for start, stop in itertools.pairwise(path):
        along = stop - start
        off = points - start
        part = np.clip(off @ (along / (along @ along)), 0.0, 1.0)
        away = off - part[..., None] * along
        best = np.minimum(best, np.einsum("ni,ni->n", away, away))
    return np.sqrt(best) - np.float32(radius)


def aorta_path(heart: hearts.Heart, pose: Pose) -> np.ndarray:
    """From the outflow tract at the anteroseptal base upwards and to the right, then the arch; in the heart's frame."""
    right, back, head = pose.axes @ np.array([-1.0, 0, 0]), pose.axes @ np.array([0, 1.0, 0]), pose.axes[:, 2]
    start = np.array([-0.5 * heart.radius, -0.5 * heart.radius, 6.0])
    bend = start + np.array([-6.0, -8.0, -30.0])
    top = bend + 55.0 * head + 6.0 * right
    return np.stack([start, bend, top, top + 18.0 * head - 18.0 * right + 25.0 * back])


def pulmonary_path(heart: hearts.Heart, pose: Pose) -> np.ndarray:
    """From the right ventricle's anterior base upwards, to the left and back, in front of the aorta."""
    back, head = pose.axes @ np.array([0, 1.0, 0]), pose.axes[:, 2]
    start = np.array([-0.75 * heart.radius, -1.65 * heart.radius, 14.0])
    bend = start + np.array([4.0, -2.0, -32.0])
    return np.stack([start, bend, bend + 30.0 * head + 22.0 * back])


def _swirling(cut: Cut, swirl: float, phases: int) -> np.ndarray:
    """Blood that shines unevenly and differently at each moment, `T N`."""
    place = cut.x * np.float32(0.09) + cut.y * np.float32(0.07) + cut.z * np.float32(0.05)
    time = (np.arange(phases, dtype=np.float32) / phases * np.float32(2.0 * np.pi))[:, None]
    waves = np.sin(place) * np.cos(time) + np.cos(place) * np.sin(time)
    waves *= np.float32(swirl)
    waves += np.float32(1.0)
    return waves


def _papillary(cut: Cut, at: Surfaces) -> np.ndarray:
    """Signed distance to the anterolateral and the posteromedial papillary muscle, which ride on the turning wall."""
    heart = cut.heart
    inside = np.flatnonzero(cut.squared < at.endo2.max())
    out = np.full(at.endo.shape, np.float32(5.0))
    x0, y0 = cut.x[inside], cut.y[inside]
    middle = np.sqrt(np.maximum(at.endo2[:, inside], np.float32(1.0))) * np.float32(0.72)
    turn = hearts.twist(heart, 0.5, at.now).astype(np.float32)
    off = None
    for theta in heart.papillary_theta:
        x = x0 - np.cos(theta + turn) * middle
        y = y0 - np.sin(theta + turn) * middle
        x *= x
        y *= y
        x += y
        off = x if off is None else np.minimum(off, x)
    assert off is not None
    along = np.float32(1.0) - ((at.zeta[:, inside] - np.float32(0.5)) * np.float32(1.0 / 0.25)) ** 2
    tapered = np.sqrt(np.maximum(along, 0.0)) * np.float32(heart.papillary * heart.radius)
    out[:, inside] = (np.sqrt(off) - tapered + (along <= 0.0) * np.float32(3.0)) * cut.side[inside]
    return out
