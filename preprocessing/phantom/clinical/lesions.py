"""Scars in the wall: where each lies around, along and across it, and what segments have on average.

Letters: T phases, Z levels, A angles (see `heart`), N points.
"""

import numpy as np

from preprocessing.phantom.clinical import heart as hearts
from preprocessing.phantom.clinical import segments
from preprocessing.phantom.findings import Scar

_INSERTIONS = np.deg2rad((118.0, -118.0))  # where the right ventricle's wall meets the left's
_SOFT = 0.1  # of the border across the wall, as a part of its thickness


def extent(scar: Scar, seed: int, along: np.ndarray) -> np.ndarray:
    """How much of the wall's surface is in `scar`, `Z A`, 0..1, with a ragged border that `seed` draws."""
    rng = np.random.default_rng(seed)
    inside = np.zeros(17)
    inside[np.array(scar.segments) - 1] = 1.0
    out = segments.field(inside, hearts.THETA, along, blur=0.25, blur_along=0.09)
    if scar.pattern == "insertion":
        around = [np.exp((np.cos(hearts.THETA - at) - 1.0) * 18.0) for at in _INSERTIONS]
        out = out * np.maximum(*around)
    rough = np.zeros_like(out)
    for number in rng.integers(2, 9, 6):
        tilt, phase = rng.normal(0.0, 5.0), rng.uniform(0.0, 2.0 * np.pi)
        rough += np.sin(number * hearts.THETA + tilt * along[:, None] + phase)
    uneven = 0.35 if scar.pattern == "diffuse" else 0.12
    return np.clip(0.5 + 3.0 * (out - 0.5 + uneven * rough / 2.4 * (out > 0.02)), 0.0, 1.0)


def depth(scar: Scar, across: np.ndarray) -> np.ndarray:
    """Part that enhances at a place `across` the wall (0 endocardium, 1 epicardium), 0..1."""
    part = scar.transmurality
    if scar.pattern == "diffuse":
        return np.clip(part * (1.2 - 0.5 * across), 0.0, 1.0)
    low, high = {
        "subendocardial": (-1.0, part),
        "transmural": (-1.0, 2.0 if part > 0.95 else part),
        "mid-wall": (0.5 - 0.5 * part, 0.5 + 0.5 * part),
        "insertion": (0.5 - 0.7 * part, 0.5 + 0.7 * part),
        "subepicardial": (1.0 - part, 2.0),
    }[scar.pattern]
    rises = np.clip((across - low) / _SOFT + 0.5, 0.0, 1.0)
    return rises * np.clip((high - across) / _SOFT + 0.5, 0.0, 1.0)


def along_cavity(heart: hearts.Heart) -> np.ndarray:
    """Place along the cavity of each level, `Z`."""
    return hearts.ZETA / heart.cavity_part


def mixed(extents: list[np.ndarray], scars: tuple[Scar, ...], across: np.ndarray) -> np.ndarray:
    """How much of each point is scar, 0..1; `extents` and `across` broadcast."""
    out = np.zeros(np.broadcast_shapes(*(e.shape for e in extents), across.shape), np.float32)
    for where, scar in zip(extents, scars, strict=True):
        np.maximum(out, where * depth(scar, across), out=out)
    return out


def of_segments(heart: hearts.Heart, scars: tuple[Scar, ...], seed: int) -> np.ndarray:
    """Mean part of scar in each of the 17 segments, 0..1."""
    if not scars:
        return np.zeros(17)
    along = along_cavity(heart)
    across = (np.arange(12) + 0.5)[:, None, None] / 12.0
    mean = mixed([extent(s, seed + i, along) for i, s in enumerate(scars)], scars, across).mean(0)
    out = []
    for number in range(17):
        weight = segments.field(np.eye(17)[number], hearts.THETA, along, blur=0.02, blur_along=0.02)
        out.append(float((mean * weight).sum() / weight.sum()))
    return np.array(out)
