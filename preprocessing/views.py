"""Which view a series shows, which rule said so, and how that view is held upright.

Site table, then description rules, then geometry, then "unknown". Directions are patient coordinates (DICOM LPS):
+x left, +y posterior, +z head.
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
from preprocessing import assemble
from preprocessing.study import Frame, Series

# Tried in this order; a scout is a scout whatever plane it names.
_SCOUT = re.compile(r"scout|localis|localiz|\bloc\b|survey|\b3 ?plane|\bthree ?plane|smartbrain")
_NOT_CINE = re.compile(
    r"\blge\b|\bmde\b|delay|late ?(gad|enh)|psir|\bt1\b|\bt2\b|\bt2star\b|molli|shmolli|\bmap|perf|rest\b|stress"
    r"|flow|venc|\bpc\b|phase ?contrast|\btag|angio|\bmra\b|haste|\bdwi\b|\bstir\b|dark ?blood|black ?blood"
)
_VIEW_WORDS = (
    ("cine_4ch", re.compile(r"\b4 ?(ch|chamber|cv|kammer)|\bfour ?chamber|\bhla\b|horizontal long")),
    ("cine_3ch", re.compile(r"\b3 ?(ch|chamber|cv|kammer)|\bthree ?chamber|apical long")),
    ("cine_2ch", re.compile(r"\b2 ?(ch|chamber|cv|kammer)|\btwo ?chamber|\bvla\b|vertical long")),
    ("cine_sax", re.compile(r"sax\b|\bsax|\bsa\b|short ?ax")),
    ("cine_lax", re.compile(r"\blax\b|long ?ax|\bla\b")),
)
# Words of scanner protocols; any other word of a description may be a name and is never shown.
_PROTOCOL_WORDS = frozenset(
    """cine trufi retro sa sax la lax ch chamber lge mde psir t1 t2 map molli shmolli native post pre contrast perf
    perfusion rest stress flow venc tag tagging scout localizer survey axial transverse sagittal coronal tra sag cor
    haste fiesta bssfp ssfp tfe bh nav free breathing real time rt stack aorta aortic lvot rvot pulmonary valve early
    late gad enhancement delayed tse tirm stir dark black blood fl2d fl3d gre seg ir mag phase moco dixon shim b0 freq
    iipat sense grappa cs short long axis ortho ax ep2d space vibe twist angio mra""".split()
)
_FEWEST_STACK_SLICES = 3
_AXIS_ANGLE_DEG = 12.0
_LONG_AXIS_ANGLE_DEG = 60.0

# (right, down) of each view as it is usually shown; anything else follows the anatomical plane it is nearest to.
_SHOWN = {
    "cine_sax": ((1.0, 1.0, 0.0), (0.0, 0.0, -1.0)),  # septum left, anterior wall on top: seen from the apex
    "cine_4ch": ((1.0, 0.0, 0.0), (0.0, 1.0, 0.0)),
    "cine_2ch": ((0.0, 1.0, 0.0), (0.0, 0.0, -1.0)),
    "cine_3ch": ((0.0, 1.0, 0.0), (0.0, 0.0, -1.0)),
}
_SHOWN_BY_PLANE = (
    ((0.0, 1.0, 0.0), (0.0, 0.0, -1.0)),  # sagittal
    ((1.0, 0.0, 0.0), (0.0, 0.0, -1.0)),  # coronal
    ((1.0, 0.0, 0.0), (0.0, 1.0, 0.0)),  # axial
)

_HEAD_FOOT = 2

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


def _words(description: str) -> str:
    return " ".join(re.findall(r"[a-z]+\d*|\d+", description.lower().replace("_", " ")))


def shown_description(description: str) -> str:
    """The description with every word that is no protocol word masked, fit for a table."""
    words = re.findall(r"[a-z]+\d*|\d+", description.lower())
    return " ".join(w if w in _PROTOCOL_WORDS else "?" for w in words)


def from_description(description: str, phases: int, site_table: SiteTable = ()) -> tuple[str, str]:
    """(view, rule) by the words of a description; ("unknown", "") where they say nothing."""
    for row, (pattern, view) in enumerate(site_table, 1):
        if pattern.search(description):
            return view, f"site:{row}"
    words = _words(description)
    # "4CH" is cut into "4 ch" above, "SAX_b12" into "sax b12".
    if _SCOUT.search(words):
        return "scout", "description:scout"
    if _NOT_CINE.search(words):
        return "unknown", "description:not_cine"
    for view, pattern in _VIEW_WORDS:
        if pattern.search(words):
            return (view, f"description:{view}") if phases > 1 else ("unknown", "description:single_phase")
    return "unknown", ""


def _angle_deg(a: ArrayLike, b: ArrayLike) -> float:
    """Angle between two planes' normals, 0-90 degrees."""
    return math.degrees(math.acos(min(1.0, abs(float(np.dot(a, b))))))


def _along_an_axis(frame: Frame) -> bool:
    n = assemble.normal(frame)
    return min(_angle_deg(n, axis) for axis in np.eye(3)) < _AXIS_ANGLE_DEG


def label(series: list[Series], site_table: SiteTable = ()) -> None:
    """Sets view and rule of every series of one study, then turns each upright and orders its slices."""
    for one in series:
        one.view, one.view_rule = from_description(one.first.description, one.phases, site_table)
    silent = [one for one in series if not one.view_rule]
    _by_geometry(silent, [one for one in series if one.view == "cine_sax"])
    for one in series:
        assemble.place(one, upright(one.first, one.view))


def _by_geometry(silent: list[Series], known_sax: list[Series]) -> None:
    cines = [one for one in silent if one.phases > 1 and not _along_an_axis(one.first)]
    stacks = [one for one in cines if one.slices >= _FEWEST_STACK_SLICES]
    if not known_sax and stacks:
        sax = max(stacks, key=lambda one: (one.slices, one.phases))
        sax.view, sax.view_rule = "cine_sax", "geometry:largest_parallel_stack"
        known_sax = [sax]
    for one in silent:
        if one.view_rule:
            continue
        if one in cines and known_sax:
            axis = assemble.normal(known_sax[0].first)
            if _angle_deg(assemble.normal(one.first), axis) >= _LONG_AXIS_ANGLE_DEG:
                one.view, one.view_rule = "cine_lax", "geometry:across_short_axis"
                continue
        if one.phases == 1 and _along_an_axis(one.first):
            one.view, one.view_rule = "scout", "geometry:orthogonal_still"
        else:
            one.view_rule = "none"


def upright(frame: Frame, view: str) -> tuple[bool, bool, bool]:
    """Of the eight turns and flips of the pixel grid, the one nearest to how `view` is usually shown.

    Returns (transpose, flip rows, flip columns), to be applied in this order.
    """
    plane = int(np.argmax(np.abs(assemble.normal(frame))))
    if view == "cine_lax":  # shown like the long-axis view that it is nearest to
        view = "cine_4ch" if plane == _HEAD_FOOT else "cine_2ch"
    right, down = (np.array(v) / np.linalg.norm(v) for v in _SHOWN.get(view, _SHOWN_BY_PLANE[plane]))

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
    return Counter(shown_description(one.first.description) for one in series if one.view == "unknown")
