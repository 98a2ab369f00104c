"""Planes through the subject as an operator of each vendor's scanner would lay them, and how each series is made.

Lengths in mm, times in ms.
"""

import dataclasses

import numpy as np

from preprocessing.phantom.clinical.case import Subject
from preprocessing.phantom.render import LONG_AXIS, Plane, oriented

PHASES = {"siemens": 25, "ge": 20, "philips": 30}  # of a cine, where nobody asks for another number


@dataclasses.dataclass(frozen=True)
class Habit:
    """How one operator works."""

    field: float  # of view
    thickness: float
    gap: float  # between the middles of neighbouring slices
    tr: float  # of the balanced cine
    flip_deg: float
    off_centre: float  # standard deviation of the heart's place in the picture
    tilt: float  # of the stack's slant against the axis, radians
    misplaced: float  # of the heart's place between breath-holds


def habit(rng: np.random.Generator, subject: Subject, vendor: str, breathing: bool) -> Habit:
    """An operator's habit on a scanner of `vendor`; a patient who fails to hold the breath shifts slices."""
    thickness, gap = {
        "siemens": ((8.0, 10.0), (6.0, 10.0), (8.0, 8.0)),
        "ge": ((8.0, 8.0), (8.0, 10.0), (10.0, 10.0)),
        "philips": ((8.0, 8.0), (8.0, 10.0), (10.0, 10.0)),
    }[vendor][int(rng.integers(3))]
    tr, flip = {"siemens": (2.9, 60.0), "ge": (3.6, 50.0), "philips": (3.1, 60.0)}[vendor]
    wide = 2.0 * subject.chest.half_width
    share = {"siemens": rng.uniform(0.95, 1.08), "ge": rng.uniform(0.9, 1.06), "philips": rng.uniform(0.88, 1.05)}
    return Habit(
        field=float(np.clip(wide * share[vendor], 280.0, 440.0)),
        thickness=thickness,
        gap=gap,
        tr=float(tr + rng.normal(0.0, 0.15)),
        flip_deg=float(np.clip(rng.normal(flip, 6.0), 35.0, 80.0)),
        off_centre=float(rng.choice([3.0, 8.0, 14.0])),
        tilt=float(rng.uniform(0.01, 0.06)),
        misplaced=float(rng.uniform(4.0, 7.0)) if breathing else float(rng.uniform(0.3, 1.5)),
    )


def short_axis(subject: Subject, rng: np.random.Generator, how: Habit, *, most: int, size: int) -> list[Plane]:
    """The stack from the base to the apex, at most `most` slices, its ends a little beyond the ventricle's."""
    heart, pose = subject.heart, subject.pose
    across, down, along = pose.axes
    aim = pose.to_patient(np.array([-12.0, 0.0, 0.0])) + rng.normal(0.0, how.off_centre, 3)
    tilted = along + how.tilt * (rng.normal() * across + rng.normal() * down)
    tilted /= np.linalg.norm(tilted)
    count = int(np.ceil(heart.length / how.gap)) + 1
    gap = how.gap
    if count > most:  # few slices lie farther apart, so that they still reach from end to end
        count, gap = most, float(np.round(2.0 * heart.length / (most - 0.3)) / 2.0)
    first = 0.5 * (heart.length - (count - 1) * gap) + rng.uniform(-0.25, 0.25) * gap
    middle = pose.to_heart(aim)[2]
    spacing = round(how.field / size, 4)
    return [oriented("sax", aim + (first - middle + i * gap) * tilted, -tilted, spacing, size) for i in range(count)]


def long_axis(subject: Subject, rng: np.random.Generator, how: Habit, view: str, *, size: int) -> Plane:
    """The plane of `view` ("2ch", "3ch", "4ch"), which holds the long axis but for a millimetre or two."""
    across, down, along = subject.pose.axes
    angle = LONG_AXIS[view] + rng.normal(0.0, 0.06)
    direction = np.cos(angle) * across + np.sin(angle) * down
    normal = np.cross(along, direction)
    aim = subject.pose.to_patient(np.array([-8.0, 0.0, 0.3 * subject.heart.length]))
    centre = aim + rng.normal(0.0, how.off_centre, 3)
    off = (centre - subject.pose.origin) @ normal
    centre = centre + (rng.normal(0.0, 1.5) - off) * normal
    return oriented(view, centre, normal, round(how.field / size, 4), size)


def scouts(subject: Subject, size: int, field_mm: float) -> list[Plane]:
    """Transverse, sagittal and coronal, through the heart."""
    centre = subject.pose.to_patient(np.array([0.0, 0.0, 30.0]))
    axes = np.eye(3)
    return [oriented("scout", centre, axes[i], round(field_mm / size, 4), size) for i in (2, 0, 1)]


def breath(rng: np.random.Generator, how: Habit) -> np.ndarray:
    """Where the organs lie in this breath-hold against the planning, LPS: mostly up or down."""
    return how.misplaced * rng.normal(0.0, 1.0, 3) * np.array([0.25, 0.45, 1.0])
