"""Which view a series shows, which rule said so, and how that view is held upright.

Site table, then description rules (descriptions.py), then geometry, then "unknown". Directions are patient coordinates
(DICOM LPS): +x left, +y posterior, +z head.
"""

import csv
import itertools
import math
import re
from collections import Counter
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike

from cmr_jax.data import schema
from cmr_jax.errors import InputError
from preprocessing import assemble, descriptions
from preprocessing.study import Frame, Series, Vector

_FEWEST_STACK_SLICES = 3
_AXIS_ANGLE_DEG = 12.0
_LONG_AXIS_ANGLE_DEG = 60.0
_PARALLEL_DEG = 20.0
# Where a long-axis plane crosses the short axis (angle and tolerance), counted from the viewer's right hand towards the
# anterior wall. The walls of the left ventricle lie there (Cerqueira et al., Circulation 2002;105:539, figure 3) and
# the planes are laid through them by hand: four chambers from the septum and the right ventricle's margin to the
# lateral wall, two through the anterior and inferior, three through the septal-anterior and lateral-inferior.
_CROSSING_DEG = {"4ch": (10.0, 30.0), "2ch": (90.0, 20.0), "3ch": (137.0, 18.0)}

# (right, down) of each view as it is usually shown; anything else follows the anatomical plane it is nearest to.
_SHOWN = {
    "sax": ((1.0, 1.0, 0.0), (0.0, 0.0, -1.0)),  # septum left, anterior wall on top: seen from the apex
    "4ch": ((1.0, 0.0, 0.0), (0.0, 1.0, 0.0)),
    "2ch": ((0.0, 1.0, 0.0), (0.0, 0.0, -1.0)),
    "3ch": ((0.0, 1.0, 0.0), (0.0, 0.0, -1.0)),
}
_SHOWN_BY_PLANE = (
    ((0.0, 1.0, 0.0), (0.0, 0.0, -1.0)),  # sagittal
    ((1.0, 0.0, 0.0), (0.0, 0.0, -1.0)),  # coronal
    ((1.0, 0.0, 0.0), (0.0, 1.0, 0.0)),  # axial
)

_HEAD_FOOT = 2
# Techniques that are a view by themselves, whatever plane they are in.
_WHOLE_VIEWS = ("t1_map", "t2_map", "ecv_map", "perfusion", "flow")

SiteTable = tuple[tuple[re.Pattern[str], str], ...]


def read_site_table(path: Path) -> SiteTable:
    """The site's own rules, a CSV of `pattern,view` (a regular expression searched in the series description).

    Raises InputError where the file cannot be used.
    """
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            rows = list(csv.DictReader(file))
    except (OSError, UnicodeDecodeError, csv.Error):
        raise InputError("--view_table cannot be read: give a CSV with the columns pattern,view") from None
    table = []
    for number, row in enumerate(rows, 2):
        view = (row.get("view") or "").strip()
        if view not in schema.VIEWS or not row.get("pattern"):
            raise InputError(f"--view_table line {number}: needs a pattern and a view out of {', '.join(schema.VIEWS)}")
        try:
            table.append((re.compile(row["pattern"], re.IGNORECASE), view))
        except re.error:
            raise InputError(f"--view_table line {number}: the pattern is not a regular expression") from None
    if not table:
        raise InputError("--view_table holds no rule: give a CSV with the columns pattern,view")
    return tuple(table)


def _angle_deg(a: ArrayLike, b: ArrayLike) -> float:
    """Angle between two planes' normals, 0-90 degrees."""
    return math.degrees(math.acos(min(1.0, abs(float(np.dot(a, b))))))


def _along_an_axis(frame: Frame) -> bool:
    n = assemble.normal(frame)
    return min(_angle_deg(n, axis) for axis in np.eye(3)) < _AXIS_ANGLE_DEG


def label(series: list[Series], site_table: SiteTable = ()) -> None:
    """Sets view, rule, contrast and levels of every series of one study, turns each upright and orders its slices."""
    readings = [descriptions.read(one.first.description, one.first.kind, one.phases) for one in series]
    for one, reading in zip(series, readings, strict=True):
        one.view, one.view_rule = from_site_table(one.first.description, site_table) or _from_reading(reading, one)
    axis = _short_axis(series, readings)
    for one, reading in zip(series, readings, strict=True):
        if one.view_rule == "description:cine_lvot" and axis is not None and crossing(one.first, axis) == "3ch":
            one.view, one.view_rule = "cine_3ch", "geometry:lvot_crosses_as_3ch"  # some call the apical long axis so
        plane = _plane_of(one.view)
        if not one.view_rule:
            one.view, one.view_rule, plane = _by_geometry(one, reading, axis)
        if one.view.startswith(("lge", "flow")):
            one.contrast = descriptions.contrast(one.first.description, one.first.kind)
        elif one.view not in ("unknown", "scout"):
            one.contrast = descriptions.condition(one.first.description)
        if not plane and axis is not None and _angle_deg(assemble.normal(one.first), axis) < _PARALLEL_DEG:
            plane = "sax"  # maps and perfusion are mostly planned on the short axis
        assemble.place(one, upright(one.first, plane))
        one.levels = levels(one, plane)


def from_site_table(description: str, site_table: SiteTable) -> tuple[str, str] | None:
    """(view, rule) by the site's own rules; None where none fires."""
    for row, (pattern, view) in enumerate(site_table, 1):
        if pattern.search(description):
            return view, f"site:{row}"
    return None


def _from_reading(reading: descriptions.Reading, one: Series) -> tuple[str, str]:
    """(view, rule) where the words tell it; the rule is "" where geometry has to say more."""
    rule = f"{reading.said_by}:{reading.technique}"
    if reading.technique in ("scout", *_WHOLE_VIEWS):
        return reading.technique, rule
    if reading.technique in ("other", "map_source"):
        return "unknown", rule
    if reading.technique == "lge":
        planes = {"sax", *_CROSSING_DEG}
        plane = reading.plane if reading.plane in planes else "lax" if reading.plane else ""
        return (f"lge_{plane}", f"{rule}_{plane}") if plane else ("unknown", "")
    if reading.technique == "cine" and one.phases == 1:
        return "unknown", "description:single_phase"
    if reading.technique == "cine" and reading.plane:
        return f"cine_{reading.plane}", f"{rule}_{reading.plane}"
    return "unknown", ""


def _plane_of(view: str) -> str:
    technique, _, plane = view.partition("_")
    return plane if technique in ("cine", "lge") else ""


def _short_axis(series: list[Series], readings: list[descriptions.Reading]) -> Vector | None:
    """The normal of the short axis of this heart; labels the largest parallel stack of cines where no name says it.

    Of several candidates the one with most slices and phases: a stack is the surest.
    """
    named = [one for one in series if one.view == "cine_sax"] or [one for one in series if one.view == "lge_sax"]
    if not named:
        silent = [
            one
            for one, reading in zip(series, readings, strict=True)
            if not one.view_rule and reading.technique in ("", "cine") and one.phases > 1
        ]
        named = [one for one in silent if one.slices >= _FEWEST_STACK_SLICES and not _along_an_axis(one.first)]
        if named:
            sax = max(named, key=lambda one: (one.slices, one.phases))
            sax.view, sax.view_rule = "cine_sax", "geometry:largest_parallel_stack"
            named = [sax]
    if not named:
        return None
    return assemble.normal(max(named, key=lambda one: (one.slices, one.phases)).first)


def _by_geometry(one: Series, reading: descriptions.Reading, axis: Vector | None) -> tuple[str, str, str]:
    """(view, rule, plane) of a series whose words do not tell its plane."""
    technique = "lge" if reading.technique == "lge" else "cine" if one.phases > 1 else ""
    if technique and axis is not None and not (technique == "cine" and _along_an_axis(one.first)):
        plane = crossing(one.first, axis)
        if plane:
            rule = {"sax": "parallel_to_short_axis", "lax": "across_short_axis"}.get(plane, f"crosses_as_{plane}")
            return f"{technique}_{plane}", f"geometry:{rule}", plane
    if technique == "lge":
        return "lge_lax", "description:lge", "lax"
    if one.phases == 1 and not reading.technique and _along_an_axis(one.first):
        return "scout", "geometry:orthogonal_still", ""
    return "unknown", "none", ""


def crossing(frame: Frame, axis: Vector) -> str:
    """Which plane this is to the short axis with normal `axis`: "sax", one of the long axes by where it crosses the
    short axis, "lax" where it lies between them, "" where it is neither along nor across."""
    normal = np.array(assemble.normal(frame))
    angle = _angle_deg(normal, axis)
    if angle < _PARALLEL_DEG:
        return "sax"
    if angle < _LONG_AXIS_ANGLE_DEG:
        return ""
    toward = np.array(axis) / np.linalg.norm(axis)
    up = np.array([0.0, 0.0, 1.0]) - toward * toward[_HEAD_FOOT]  # the anterior wall, as the short axis is shown
    right = np.array(_SHOWN["sax"][0]) - toward * np.dot(_SHOWN["sax"][0], toward)
    line = np.cross(toward, normal)
    up, right = up / np.linalg.norm(up), right / np.linalg.norm(right)
    degrees = math.degrees(math.atan2(float(line @ up), float(line @ right))) % 180
    for plane, (at, tolerance) in _CROSSING_DEG.items():
        if min(abs(degrees - at), 180 - abs(degrees - at)) <= tolerance:
            return plane
    return "lax"


def levels(one: Series, plane: str) -> tuple[str, ...]:
    """Of each slice, one of schema.LEVELS: equal thirds of a short-axis stack of three slices or more, base first; what
    the description says of fewer; "" in any other plane.

    A stack reaches a little past the ventricle at both ends, which the thirds do not know.
    """
    if plane != "sax":
        return ("",) * one.slices
    if one.slices < _FEWEST_STACK_SLICES:
        return (descriptions.level(one.first.description),) * one.slices
    return tuple(schema.LEVELS[1 + 3 * s // one.slices] for s in range(one.slices))


def upright(frame: Frame, plane: str) -> tuple[bool, bool, bool]:
    """Of the eight turns and flips of the pixel grid, the one nearest to how `plane` ("sax", "4ch", ...) is usually
    shown; any other name, or none, follows the anatomical plane that the frame is nearest to.

    Returns (transpose, flip rows, flip columns), to be applied in this order.
    """
    nearest = int(np.argmax(np.abs(assemble.normal(frame))))
    if plane == "lax":  # shown like the long-axis view that it is nearest to
        plane = "4ch" if nearest == _HEAD_FOOT else "2ch"
    right, down = (np.array(v) / np.linalg.norm(v) for v in _SHOWN.get(plane, _SHOWN_BY_PLANE[nearest]))

    def fit(flips: tuple[bool, bool, bool]) -> float:
        r, d = assemble.turned(frame, flips)
        return float(r @ right + d @ down)

    best = (False, False, False)
    turns = (False, True)
    for flips in itertools.product(turns, turns, turns):
        if fit(flips) > fit(best) + 1e-6:  # of equals the least change
            best = flips
    return best


def unmapped(series: list[Series]) -> Counter[str]:
    """Masked descriptions of the series whose view no rule could tell, with counts."""
    return Counter(descriptions.shown(one.first.description) for one in series if one.view == "unknown")
