"""The hidden truth in the words of a reader: grades by the thresholds of clinical practice."""

import dataclasses

import numpy as np

from preprocessing.phantom.truth import Truth


@dataclasses.dataclass(frozen=True)
class Reading:
    """The truth in the words of a reader: grades by the usual thresholds, "" for normal."""

    lv_size: str
    lv_function: str
    wall: str
    septal: bool
    rv_size: str
    rv_function: str
    left_atrium: str
    right_atrium: str
    territory: str
    motion: str
    thinned: bool
    flattened: bool


def grade(value: float, *limits: float) -> str:
    """ "" below the first of three rising limits, then mild, moderate, severe."""
    return ("", "mild", "moderate", "severe")[int(np.searchsorted(limits, value, side="right"))]


def read(truth: Truth) -> Reading:
    """Grades `truth` as guidelines do: volumes by body surface and sex, ejection fractions in percent."""
    who = truth.targets
    male = who.sex == "M"
    heart = truth.subject.heart
    infarcted = bool(who.territory)
    size = (who.bsa / 1.85) ** (1.0 / 3.0)
    return Reading(
        lv_size=grade(truth.edv / who.bsa, *((108.0, 130.0, 160.0) if male else (102.0, 124.0, 152.0))),
        lv_function=grade(-truth.lvef, -53.0, -41.0, -30.0),
        wall=grade(truth.wall_max, 12.0, 16.0, 20.0),
        septal=heart.wall_septal > heart.wall_free + 2.5,
        rv_size=grade(truth.rv_edv / who.bsa, *((112.0, 137.0, 165.0) if male else (108.0, 132.0, 160.0))),
        rv_function=grade(-truth.rv_ef, -47.0, -38.0, -29.0),
        left_atrium=grade(heart.la_radius / (23.0 * size), 1.13, 1.22, 1.33),
        right_atrium=grade(heart.ra_radius / (22.0 * size), 1.13, 1.24, 1.36),
        territory=who.territory,
        motion="" if not infarcted else "hypokinesis" if heart.infarct_akinesia < 0.93 else
        "akinesis" if heart.infarct_akinesia < 1.06 else "dyskinesis",
        thinned=infarcted and truth.wall_min < 0.68 * truth.wall_max,
        flattened=heart.septal_flattening > 0.1,
    )  # fmt: skip
