"""The phases of one slice in the order of the heart, and what is done where some are missing (rules 4 to 6 of the field
notes).

Nothing is copied in silence: a missing phase gets a stand-in that is marked and counted, or its slice is dropped.
"""

import dataclasses
import math
from collections import Counter, defaultdict
from collections.abc import Callable

import numpy as np

from preprocessing.study import TIME_KEYS, WEAK_TIME_KEYS, Drop, Frame

# Fewer frames than this at a place, told apart by clock or instance number alone, are repeats and not a heart beat.
FEWEST_PHASES = 5
# Of the phases of a slice, and in a row: more are not made up.
_MOST_MISSING = 0.1
_LONGEST_HOLE = 2
# Of times after the R wave: smaller steps are the jitter of pictures taken once a beat, at one moment of it.
_SHORTEST_PHASE_MS = 5.0
# Times that reach further count through many beats, as in perfusion: a hole is a beat that was skipped.
_LONGEST_BEAT_MS = 3000.0
_AFTER_R_WAVE = ("NominalCardiacTriggerDelayTime", "TriggerTime")
# Part of a phase by which the first phases of slices may lie apart.
_SAME_START = 0.75
REPEAT = "repeated acquisition, a later or more complete one is used"

PixelHash = Callable[[Frame], bytes]


def usable(values: list[float]) -> bool:
    return not any(math.isnan(v) for v in values) and len(set(values)) == len(values)


def recency(run: list[Frame]) -> tuple[float, ...]:
    """Series number before the clock: examinations may pass midnight."""
    clock = [f.time("AcquisitionTime") for f in run]
    latest = -math.inf if any(math.isnan(c) for c in clock) else max(clock)
    return max(f.series_number for f in run), latest, max(f.acquisition for f in run)


@dataclasses.dataclass
class Phases:
    """The frames of one slice in heart order; `gaps` says that the times show a hole."""

    frames: list[Frame]
    key: str = ""
    gaps: bool = False


def order(frames: list[Frame], drops: list[Drop], pixel_hash: PixelHash | None) -> Phases:
    """Orders the phases of one slice by the first trustworthy key (rule 4) and removes doubles (rule 5)."""
    frames = _without_copies(frames, drops)
    if len(frames) == 1:
        return Phases(frames)
    fallback: Phases | None = None
    for key in TIME_KEYS:
        values = [f.time(key) for f in frames]
        if any(math.isnan(v) for v in values) or _is_jitter(key, values):
            continue
        if len(set(values)) < len(values):
            if key not in WEAK_TIME_KEYS and _names_phases(values):
                return order(_one_of_each(frames, key, drops, pixel_hash), drops, pixel_hash)
            continue
        ordered = sorted(frames, key=lambda f: f.time(key))
        steps = np.diff(sorted(values)) / np.median(np.diff(sorted(values)))
        if steps.max() <= 1.5:
            return Phases(ordered, key)
        # A hole is a whole number of steps wide; anything else is no clock of the heart, and a later key may be.
        whole_steps = len(frames) >= FEWEST_PHASES and np.abs(steps - np.round(steps)).max() < 0.2
        if whole_steps and key not in WEAK_TIME_KEYS and not _through_beats(key, values):
            return Phases(ordered, key, gaps=True)
        fallback = fallback or Phases(ordered, key)
    return _checked(fallback) if fallback else Phases([])


def _is_jitter(key: str, values: list[float]) -> bool:
    if key not in _AFTER_R_WAVE or len(values) < FEWEST_PHASES or len(set(values)) == 1:
        return False
    return float(np.median(np.diff(sorted(set(values))))) < _SHORTEST_PHASE_MS


def _through_beats(key: str, values: list[float]) -> bool:
    return key in _AFTER_R_WAVE and max(values) - min(values) > _LONGEST_BEAT_MS


def _checked(phases: Phases) -> Phases:
    """An uneven order against the count of the pictures: where the two differ neither is believed, and where only clock
    or count are known a hole in the count is a missing phase."""
    counts = [f.time("InstanceNumber") for f in phases.frames]
    if not usable(counts):
        return phases
    if counts != sorted(counts) and counts != sorted(counts, reverse=True):
        return Phases([])
    steps = np.abs(np.diff(counts))
    if phases.key in WEAK_TIME_KEYS and len(counts) >= FEWEST_PHASES and (steps > 1.5 * np.median(steps)).any():
        return Phases(phases.frames, phases.key, gaps=True)
    return phases


def _without_copies(frames: list[Frame], drops: list[Drop]) -> list[Frame]:
    """Drops the later of two frames that are the same frame of the same object."""
    seen: set[tuple[str, int]] = set()
    out = []
    for frame in frames:
        name = (frame.sop_uid, frame.index)
        if frame.sop_uid and name in seen:
            drops.append(Drop(frame, "copy of another frame"))
        else:
            seen.add(name)
            out.append(frame)
    return out


def _names_phases(values: list[float]) -> bool:
    """Whether values that are not unique still name phases: all equally often, or with few doubles."""
    distinct = set(values)
    return len(distinct) > 1 and (len({values.count(v) for v in distinct}) == 1 or 2 * len(distinct) > len(values))


def _one_of_each(frames: list[Frame], key: str, drops: list[Drop], pixel_hash: PixelHash | None) -> list[Frame]:
    """Of frames that share a phase, the one of the most complete acquisition, of equals the last."""
    phases: dict[float, list[Frame]] = defaultdict(list)
    for frame in frames:
        phases[frame.time(key)].append(frame)
    sizes = Counter(frame.acquisition for frame in frames)
    out = []
    for same in phases.values():
        best = max(same, key=lambda f: (sizes[f.acquisition], recency([f]), f.time("InstanceNumber"), f.sop_uid))
        out.append(best)
        for frame in same:
            if frame is not best:
                copy = pixel_hash is not None and pixel_hash(frame) == pixel_hash(best)
                drops.append(Drop(frame, "copy of another frame" if copy else REPEAT))
    return out


def starting_together(slices: list[Phases], drops: list[Drop]) -> list[Phases]:
    """Leaves out slices of the right number of phases whose first phase is another one than that of most slices: they
    lost it at one end, and by index they would be out of step."""

    def start(phases: Phases) -> float:
        if len(phases.frames) < FEWEST_PHASES or phases.key in WEAK_TIME_KEYS:
            return math.nan
        times = [f.time(phases.key) for f in phases.frames]
        return times[0] / float(np.median(np.diff(times)))

    starts = [start(phases) for phases in slices]
    if any(math.isnan(value) for value in starts):
        return slices
    late = [math.floor(value - min(starts) + 1 - _SAME_START) for value in starts]
    usual = max(sorted(set(late)), key=late.count)
    drops.extend(
        Drop(f, "slice starts at another phase")
        for by, phases in zip(late, slices, strict=True)
        if by != usual
        for f in phases.frames
        if not f.missing
    )
    return [phases for by, phases in zip(late, slices, strict=True) if by == usual]


def filled(phases: Phases) -> Phases:
    """A slice whose times show few holes, with stand-ins where frames are missing: at most one, or a tenth of its
    phases, and no more than two in a row. As it was where there are more, or where only clock or count show the holes.

    A stand-in is the frame before it, marked `missing`: its pixels are made of both neighbours when they are read.
    """
    if not phases.gaps or phases.key in WEAK_TIME_KEYS:
        return phases
    times = np.array([f.time(phases.key) for f in phases.frames])
    steps = np.diff(times)
    step = float(np.median(steps))
    holes = np.round(steps / step).astype(int) - 1
    if holes.sum() > max(1, _MOST_MISSING * len(times)) or holes.max() > _LONGEST_HOLE:
        return phases
    frames: list[Frame] = []
    for number, frame in enumerate(phases.frames):
        frames.append(frame)
        for hole in range(holes[number] if number < len(holes) else 0):
            part = (hole + 1) / (holes[number] + 1)
            following = phases.frames[number + 1]
            between = tuple(float(a + part * (b - a)) for a, b in zip(frame.times, following.times, strict=True))
            frames.append(dataclasses.replace(frame, times=between, missing=True))
    return Phases(frames, phases.key)
