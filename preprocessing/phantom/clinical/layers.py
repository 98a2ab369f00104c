"""The beating heart along the points of a plane, as soft layers painted one over the other.

A layer is a signed distance in widths of its own edge (negative inside) and a tissue. Pictures blend the layers over
that edge; label maps take the sign. Both come from the same distances.

Letters: T phases, N points. LPS: patient coordinates, mm, towards left, posterior and head.
"""

import dataclasses
import itertools
from collections.abc import Iterator

import numpy as np

from preprocessing.phantom.clinical import heart as hearts
from preprocessing.phantom.clinical.cut import Cut, Surfaces
from preprocessing.phantom.scene import Pose

# Labels of the label map; those of `scene`, and the pulmonary trunk.
LV, MYOCARDIUM, RV, LA, RA, AORTA, PAPILLARY, PULMONARY = 1, 2, 3, 4, 5, 6, 7, 8

_RV_WALL_MM = 3.0
_ATRIAL_WALL_MM = 2.0
UPPER_MM = 14.0  # below the valves a plane may still show what is above them
_ATRIAL_CUT = 0.4  # of an atrium's half axis: how far below its widest part the valve lies


@dataclasses.dataclass(frozen=True)
class Layer:
    """`distance` broadcasts to `T N`; `label` 0 paints without naming; `part` dims or brightens (number or `T N`);
    `filled` is the part of its place that it takes (number or `T 1`), the rest stays what it was."""

    tissue: str
    distance: np.ndarray
    label: int = 0
    part: float | np.ndarray = 1.0
    filled: float | np.ndarray = 1.0


@dataclasses.dataclass(frozen=True)
class Parts:
    """What some points of a plane can show over a beat."""

    upper: bool = False  # the valves' planes and what is above them
    outer: bool = True  # the left ventricle's outside: fat, pericardium, the right ventricle
    cavity: bool = True  # of the left ventricle


def seen(cut: Cut, at: Surfaces) -> Parts:
    """What a plane can show."""
    return Parts(upper=float(cut.z.min()) < float(max(at.left_base.max(), at.right_base.max())) + UPPER_MM)


def heart_layers(
    cut: Cut, at: Surfaces, pose: Pose, parts: Parts, *, fat_mm: float, effusion_mm: float, swirl: float = 0.0
) -> Iterator[Layer]:
    """The heart at each phase, what surrounds it first.

    Args:
        swirl: how unevenly the blood shines, as a part.
    """
    blood = _swirling(cut, swirl, at) if swirl else 1.0
    if parts.outer:
        yield from _around(cut, at, pose, parts, fat_mm, effusion_mm, blood)
        yield Layer("myocardium", np.maximum(at.epi_side, at.above) if parts.upper else at.epi_side, MYOCARDIUM)
    else:
        yield Layer("myocardium", np.full((1, 1), -1.0, np.float32), MYOCARDIUM)
    if parts.cavity:
        cavity = np.maximum(at.endo, at.above) if parts.upper else at.endo
        yield Layer("blood", cavity, LV, blood)
        yield Layer("myocardium", np.maximum(cavity, -at.inner), PAPILLARY, filled=at.packed)
        yield Layer("muscle", np.maximum(_papillary(cut, at), cavity), PAPILLARY)
    if parts.upper:
        # The leaflets close while the ventricles squeeze; in diastole they fold away.
        closed = np.where(at.now > 0.25, np.float32(1.1), np.float32(0.4)) * cut.axial
        for plane, inside in ((at.above, at.endo), (at.rv_above, at.in_rv)):
            yield Layer("muscle", np.maximum(_sheet(plane, closed), inside), 0, 1.2)


def _around(
    cut: Cut, at: Surfaces, pose: Pose, parts: Parts, fat_mm: float, effusion_mm: float, blood: float | np.ndarray
) -> Iterator[Layer]:  # fmt: skip
    """What lies around the left ventricle."""
    rv = np.maximum(at.in_rv, at.rv_above) if parts.upper else at.in_rv
    whole, upper = whole_heart(cut, at, pose, parts)
    whole = whole - np.float32(effusion_mm + 0.8) * cut.side
    yield Layer("fat", whole - fat_thickness(cut, fat_mm) * cut.side)
    yield Layer("fluid" if effusion_mm > 1.0 else "muscle", whole)
    yield from upper
    wall = rv - _RV_WALL_MM * cut.side
    yield Layer("muscle", np.maximum(wall, at.rv_above) if parts.upper else wall)
    yield Layer("blood", rv, RV, 0.96 * blood)
    yield Layer("muscle", np.maximum(rv, -at.in_rv - cut.right_rough * cut.side))


def whole_heart(cut: Cut, at: Surfaces, pose: Pose, parts: Parts) -> tuple[np.ndarray, list[Layer]]:
    """Signed distance to the heart and its vessels, and the layers of what is above the ventricles."""
    if not parts.upper:
        return np.minimum(at.epi_side, at.in_rv - _RV_WALL_MM * cut.side), []
    outside, upper = _upper(cut, at, pose)
    np.minimum(outside, np.maximum(at.epi_side, at.above), out=outside)
    return np.minimum(outside, np.maximum(at.in_rv, at.rv_above) - _RV_WALL_MM * cut.side, out=outside), upper


def fat_thickness(cut: Cut, fat_mm: float) -> np.ndarray:
    """Of the fat in the grooves and over the right ventricle, little of it over the lateral wall, mm, `N`."""
    return np.float32(fat_mm) * (np.float32(0.75) - np.float32(0.45) * np.cos(cut.theta - np.float32(0.3)))


def _sheet(plane: np.ndarray, half: np.ndarray) -> np.ndarray:
    """Signed distance to a sheet around `plane` of half thickness `half`; one thinner than its edge covers in part."""
    return np.abs(plane) - half + np.maximum(np.float32(0.5) - half, 0.0)


def _upper(cut: Cut, at: Surfaces, pose: Pose) -> tuple[np.ndarray, list[Layer]]:
    """Atria and great vessels: the signed distance to all of them with their walls, and their layers."""
    heart, side = cut.heart, cut.side
    left = _atrium(cut, (6.0, 9.0), heart.la_radius, heart.la_length, at.left_base)
    right = _atrium(cut, (-heart.radius - 18.0, 6.0), heart.ra_radius, heart.ra_length, at.right_base)
    aorta = _tube(cut, aorta_path(heart, pose), heart.aorta_radius) * side
    trunk = _tube(cut, pulmonary_path(heart, pose), heart.pulmonary_radius) * side
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


def _tube(cut: Cut, path: np.ndarray, radius: float) -> np.ndarray:
    """Signed distance to a tube around the polyline `path` (`K 3`), `N`, mm."""
    best = np.full(len(cut.x), np.inf, np.float32)
    points = np.stack([cut.x, cut.y, cut.z])
    for start, stop in itertools.pairwise(path.astype(np.float32)):
        along = stop - start
        off = points - start[:, None]
        part = np.clip((along / (along @ along)) @ off, np.float32(0.0), np.float32(1.0))
        off -= along[:, None] * part
        off *= off
        np.minimum(best, off.sum(0), out=best)
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


def _swirling(cut: Cut, swirl: float, at: Surfaces) -> np.ndarray:
    """Blood that shines unevenly and differently at each moment, `T N`."""
    place = cut.x * np.float32(0.09) + cut.y * np.float32(0.07) + cut.z * np.float32(0.05)
    phases = len(at.tables.beat.contracted)
    time = (np.arange(phases, dtype=np.float32) / phases * np.float32(2.0 * np.pi))[at.phases, None]
    waves = np.sin(place + time)
    waves *= np.float32(swirl)
    waves += np.float32(1.0)
    return waves


def _papillary(cut: Cut, at: Surfaces) -> np.ndarray:
    """Signed distance to the anterolateral and the posteromedial papillary muscle, which ride on the turning wall."""
    heart = cut.heart
    middle = np.sqrt(np.maximum(at.endo2, np.float32(1.0)))
    middle *= np.float32(0.72)
    turn = hearts.twist(heart, 0.5, at.now).astype(np.float32)
    off = None
    for theta in heart.papillary_theta:
        x = cut.x - np.cos(theta + turn) * middle
        y = cut.y - np.sin(theta + turn) * middle
        x *= x
        y *= y
        x += y
        off = x if off is None else np.minimum(off, x, out=off)
    assert off is not None
    along = at.zeta - np.float32(0.5)
    along *= np.float32(1.0 / 0.25)
    along *= along
    np.subtract(np.float32(1.0), along, out=along)
    out = np.sqrt(off, out=off)
    out -= np.sqrt(np.maximum(along, np.float32(0.0))) * np.float32(heart.papillary * heart.radius)
    out += (along <= 0.0) * np.float32(3.0)
    out *= cut.side
    return out
