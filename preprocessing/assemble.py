"""From loose frames to series of S slices x T phases, by geometry and heart phase (rules 1-6 of the field notes).

Series UIDs decide nothing here but which frames belong to the same repeat of a measurement, and descriptions only what
is no repeat of one another: late enhancement of a cine, rest of stress, a native map of one after contrast.
"""

import math
from collections import defaultdict
from collections.abc import Iterable

import numpy as np

from preprocessing import descriptions, phases
from preprocessing.study import NAN, TIME_KEYS, WEAK_TIME_KEYS, Drop, Frame, Series, Vector

_SAME_COSINE = 0.01
_SAME_SPACING_MM = 0.002
_SAME_ECHO_MS = 0.2
_SAME_POSITION_MM = 0.25


def assemble(frames: Iterable[Frame], pixel_hash: phases.PixelHash | None = None) -> tuple[list[Series], list[Drop]]:
    """Builds the series of one study. Every frame ends in exactly one series or one drop.

    `pixel_hash` tells copies from repeats where two frames claim one slice and phase; without it (headers only)
    both count as repeats.
    """
    ordered = sorted(frames, key=lambda f: (f.sop_uid, f.file, f.index))
    series: list[Series] = []
    drops: list[Drop] = []
    for group in _groups(ordered):
        for part in _by_phase_count(_repeats(_positions(group), drops)):
            built = _build(part, drops, pixel_hash)
            if built is not None:
                series.append(built)
    return series, drops


def _dot(a: Vector, b: Vector) -> float:
    return sum(x * y for x, y in zip(a, b, strict=True))


def normal(frame: Frame) -> Vector:
    """Unit normal of the image plane, right x down: it points away from the viewer."""
    n = np.cross(frame.right, frame.down)
    n = n / np.linalg.norm(n)
    return float(n[0]), float(n[1]), float(n[2])


def _close(a: Iterable[float], b: Iterable[float], tolerance: float) -> bool:
    return all(abs(x - y) <= tolerance or (math.isnan(x) and math.isnan(y)) for x, y in zip(a, b, strict=True))


def _groups(frames: list[Frame]) -> list[list[Frame]]:
    """Frames that could be slices and phases of one measurement. Comparing with a tolerance, not by rounding: two
    equal orientations may straddle any rounding edge."""
    groups: list[list[Frame]] = []
    techniques: list[str] = []
    by_kind: dict[tuple[object, ...], list[int]] = defaultdict(list)
    for frame in frames:
        said = descriptions.condition(frame.description), descriptions.contrast(frame.description, frame.kind)
        technique = descriptions.technique(frame.description, frame.kind)
        candidates = by_kind[(frame.rows, frame.cols, frame.kind, said)]
        for number in candidates:
            first = groups[number][0]
            if (
                _close((*frame.right, *frame.down), (*first.right, *first.down), _SAME_COSINE)
                and _close(frame.spacing, first.spacing, _SAME_SPACING_MM)
                and _close((frame.echo,), (first.echo,), _SAME_ECHO_MS)
                and (technique == techniques[number] or not technique or not techniques[number])
            ):
                groups[number].append(frame)
                techniques[number] = techniques[number] or technique
                break
        else:
            candidates.append(len(groups))
            groups.append([frame])
            techniques.append(technique)
    return groups


def _positions(group: list[Frame]) -> list[list[Frame]]:
    """Frames slice by slice, along the normal of the group's first frame."""
    axis = normal(group[0])
    along = sorted(group, key=lambda f: (_dot(f.position, axis), f.sop_uid, f.file, f.index))
    slices: list[list[Frame]] = []
    last = -math.inf
    for frame in along:
        place = _dot(frame.position, axis)
        if place - last > _SAME_POSITION_MM:
            slices.append([])
        slices[-1].append(frame)
        last = place
    return slices


def _strong_order(frames: list[Frame]) -> bool:
    """Whether a true time of the heart, not only a clock or counter, tells all frames apart."""
    return any(phases.usable([f.time(key) for f in frames]) for key in TIME_KEYS if key not in WEAK_TIME_KEYS)


def _repeats(slices: list[list[Frame]], drops: list[Drop]) -> list[list[Frame]]:
    """Keeps one measurement where a place was measured several times: the most complete, of equals the last."""
    kept = []
    for frames in slices:
        runs: dict[object, list[Frame]] = defaultdict(list)
        for frame in frames:
            runs[(frame.series_number, frame.series_uid)].append(frame)
        one_each = all(len(run) == 1 for run in runs.values())
        if len(runs) == 1:
            runs = _by_acquisition(frames)
        elif one_each and _strong_order(frames):
            runs = {None: frames}
        if len(runs) > 1:
            chosen = max(runs.values(), key=lambda run: (len(run), phases.recency(run)))
            for run in runs.values():
                if run is not chosen:
                    drops.extend(Drop(f, phases.REPEAT) for f in run)
            frames = chosen
        kept.append(frames)
    return kept


def _by_acquisition(frames: list[Frame]) -> dict[object, list[Frame]]:
    """Runs by acquisition number, where these look like repeats and not like the phases of one measurement."""
    runs: dict[object, list[Frame]] = defaultdict(list)
    for frame in frames:
        runs[frame.acquisition].append(frame)
    many_each = min(len(run) for run in runs.values()) >= phases.FEWEST_PHASES
    few_and_untimed = len(frames) < phases.FEWEST_PHASES and not _strong_order(frames)
    return runs if many_each or few_and_untimed else {None: frames}


def _by_phase_count(slices: list[list[Frame]]) -> list[list[list[Frame]]]:
    """Parts a scout that shares its geometry with a cine: single frames of other series are no ragged slices."""
    single = [s for s in slices if len(s) == 1]
    multi = [s for s in slices if len(s) > 1]
    names = {f.series_uid for s in multi for f in s}
    apart = [s for s in single if s[0].series_uid not in names]
    together = [s for s in slices if len(s) > 1 or s[0].series_uid in names]
    return [part for part in (together, apart) if part]


def _build(slices: list[list[Frame]], drops: list[Drop], pixel_hash: phases.PixelHash | None) -> Series | None:
    """One series of the slices that have every phase, or nearly; the others are dropped with their reason."""
    ordered = []
    for frames in slices:
        found = phases.order(frames, drops, pixel_hash)
        if not found.frames:
            drops.extend(Drop(f, "no key orders the phases of this slice") for f in frames)
        else:
            ordered.append(found)
    if not ordered:
        return None
    filled = [phases.filled(one) for one in ordered]
    counts = [len(one.frames) for one in filled if not one.gaps]
    if not counts:
        drops.extend(Drop(f, "slice lacks phases") for one in ordered for f in one.frames)
        return None
    count = max(set(counts), key=lambda c: (c * counts.count(c), c))
    complete = []
    for before, one in zip(ordered, filled, strict=True):
        if not one.gaps and len(one.frames) == count:
            complete.append(one)
        else:
            what = "lacks" if one.gaps or len(one.frames) < count else "has extra"
            drops.extend(Drop(f, f"slice {what} phases") for f in before.frames)
    kept = phases.starting_together(complete, drops)
    notes = []
    if len(kept) < len(slices):
        notes.append("slices with other phases left out")
    if made := sum(f.missing for p in kept for f in p.frames):
        notes.append(f"{made} missing phases interpolated in time")
    return Series([p.frames for p in kept], phase_key=kept[0].key, notes=tuple(notes))


def place(series: Series, flips: tuple[bool, bool, bool]) -> None:
    """Sets `series.orientation` and orders its slices from the far side to the viewer of the turned image.

    For a short-axis stack shown in the usual way (seen from the apex) that is base to apex.
    """
    right, down = turned(series.first, flips)
    toward = -np.cross(right, down)
    toward = toward / np.linalg.norm(toward)
    series.orientation = flips
    series.frames.sort(key=lambda one_slice: float(np.dot(one_slice[0].position, toward)))
    along = np.array([np.dot(one_slice[0].position, toward) for one_slice in series.frames])
    series.slice_position_mm = (along - along[0]).astype(np.float32)


def turned(frame: Frame, flips: tuple[bool, bool, bool]) -> tuple[np.ndarray, np.ndarray]:
    """The (right, down) directions of the image after transpose, row flip, column flip."""
    transpose, flip_rows, flip_cols = flips
    right, down = np.array(frame.right), np.array(frame.down)
    if transpose:
        right, down = down, right
    return (-right if flip_cols else right), (-down if flip_rows else down)


def times_ms(series: Series) -> np.ndarray:
    """Milliseconds after the R wave of every frame, `S*T` float32; NaN where unknown."""
    return np.array([f.trigger_ms for f in series.flat()] or [NAN], np.float32)
