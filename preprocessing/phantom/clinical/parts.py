"""Which points of a plane show what over a beat, so that a cine works each layer out only where it can be seen.

Every surface moves along with one number, the contraction, and nearly straight: what is more than `_MARGIN` away from a
point at a few contractions from end to end is out of its sight at all others.

Letters: N points.
"""

import numpy as np

from preprocessing.phantom.clinical import layers
from preprocessing.phantom.clinical.cut import Cut, Surfaces, Tables
from preprocessing.phantom.clinical.layers import Parts
from preprocessing.phantom.scene import Pose

_LOOKS = (0.0, 0.33, 0.67, 1.0)  # contractions at which is looked
_MARGIN = 0.9  # widths of an edge, half of one being the edge itself


def groups(
    cut: Cut, tables: Tables, pose: Pose, *, fat_mm: float, effusion_mm: float
) -> list[tuple[np.ndarray, Parts]]:
    """Points (indices of `N`) and what is to be seen there; who is in none shows no heart."""
    contracted = tables.beat.contracted
    at = Surfaces(cut, tables, np.unique([np.abs(contracted - look).argmin() for look in _LOOKS]))
    parts = layers.seen(cut, at)
    whole, _ = layers.whole_heart(cut, at, pose, parts)
    around = layers.fat_thickness(cut, fat_mm) + np.float32(effusion_mm + 0.8)
    touched = whole.min(0) - around * cut.side < _MARGIN
    low = np.full(len(cut.z), True)
    if parts.upper:
        low = cut.z > _ceiling(cut, at, float(around.max()))
    inside = low & (at.epi_side.max(0) < -_MARGIN)
    hollow = at.endo.min(0) < _MARGIN
    rim = touched & low & ~inside
    found = [
        (touched & ~low, Parts(upper=True)),
        (rim, Parts(cavity=bool((rim & hollow).any()))),
        (inside & hollow, Parts(outer=False)),
        (inside & ~hollow, Parts(outer=False, cavity=False)),
    ]
    return [(np.flatnonzero(points), what) for points, what in found if points.any()]


def _ceiling(cut: Cut, at: Surfaces, around_mm: float) -> float:
    """Below this height (mm along the axis, which points to the apex) nothing of the atria and vessels is seen."""
    valves = max(float(at.left_base.max()), float(at.right_base.max())) + layers.UPPER_MM
    heart = cut.heart
    vessels = 16.0 + max(heart.aorta_radius, heart.pulmonary_radius) + around_mm + _MARGIN / float(cut.side.min())
    return max(valves, vessels)
