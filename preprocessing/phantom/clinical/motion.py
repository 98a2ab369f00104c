"""When the heart contracts: one beat as a curve, and what arrhythmia makes of it.

Letters: T phases, S slices.
"""

import dataclasses

import numpy as np


@dataclasses.dataclass(frozen=True)
class Rhythm:
    """Times are parts of the mean cycle."""

    kind: str  # of findings.RHYTHMS
    rate: float  # beats a minute
    systole: float  # when contraction is complete
    early_filling: float  # part of the contraction undone by early filling; the atria undo the rest
    delay: float  # how far the first phase is into the cycle
    irregular: float  # standard deviation of the beats' lengths, as a part


def draw(rng: np.random.Generator, body: np.random.Generator, kind: str, rate: float, relaxation: float) -> Rhythm:
    """A rhythm of `kind`.

    Args:
        relaxation: 0 fills early as the young do, 1 fills mostly by the atrial kick (a stiff ventricle).
    """
    # Systole keeps most of its length when the heart goes faster: about 0.3 s (Weissler et al. 1968).
    systole = float(np.clip(0.22 + 0.0018 * rate + rng.normal(0.0, 0.012), 0.26, 0.48))
    early = 1.0 if kind == "fibrillation" else float(body.uniform(0.68, 0.82) - 0.35 * relaxation)
    gating = rng.random()  # retrospective gating starts at the R wave, prospective triggering some time after it
    delay = 0.0 if gating < 0.7 else float(rng.uniform(0.0, 0.1))
    irregular = {"sinus": 0.015, "ectopy": 0.12, "fibrillation": 0.18}[kind]
    return Rhythm(kind, rate, systole, early, delay, irregular)


def contraction(rhythm: Rhythm, phases: int) -> np.ndarray:
    """How far the heart has contracted at `phases` equal times, `T`, from 0 (end-diastole) to 1, both ends reached.

    The ends of systole and of diastole are moved onto frames, so that few phases do not spoil the volumes.
    """
    systole = np.clip(round(rhythm.systole * phases), 1, phases - 2) / phases
    delay = round(rhythm.delay * phases) / phases
    time = (np.arange(phases) / phases + delay) % 1.0
    filled = systole + 0.45 * (1.0 - systole)
    # End-diastole, end-systole, end of early filling, atrial kick, end-diastole.
    knots = np.array([0.0, systole, filled, 0.5 * filled + 0.5, 1.0])
    left = 1.0 - rhythm.early_filling
    values = np.array([0.0, 1.0, left, 0.95 * left, 0.0])
    piece = np.clip(np.searchsorted(knots, time + 1e-9, side="right") - 1, 0, 3)
    part = (time - knots[piece]) / (knots[piece + 1] - knots[piece])
    ease = 0.5 - 0.5 * np.cos(np.pi * np.clip(part, 0.0, 1.0))
    return values[piece] + (values[piece + 1] - values[piece]) * ease


def trigger_times(rng: np.random.Generator, rhythm: Rhythm, slices: int, phases: int) -> tuple[np.ndarray, float]:
    """Trigger times of each slice, ms, `S T`, and the mean interval: every breath-hold has a heart rate of its own."""
    interval = 60000.0 / rhythm.rate * np.exp(rng.normal(0.0, max(rhythm.irregular, 0.02), (slices, 1)))
    times = interval * (np.arange(phases) / phases + rhythm.delay * 0.2) + rng.uniform(0.0, 6.0, (slices, 1))
    return np.round(times, 2), float(interval.mean())


def smeared(rng: np.random.Generator, rhythm: Rhythm, frames: np.ndarray) -> np.ndarray:
    """Frames of one slice, `T H W`, of beats of unequal length: late phases are mixed of neighbouring moments.

    A segmented acquisition fills one picture from several beats; what lies far from the R wave fits worst.
    """
    if rhythm.kind == "sinus" or len(frames) < 4:
        return frames
    if rhythm.kind == "ectopy" and rng.random() < 0.4:  # this breath-hold had no extra beat
        return frames
    strength = 0.5 * min(rhythm.irregular / 0.18, 1.0) * float(rng.uniform(0.6, 1.0))
    late = np.linspace(0.3, 1.0, len(frames), dtype=np.float32)[:, None, None] * np.float32(strength)
    before, after = np.roll(frames, 1, 0), np.roll(frames, -2, 0)
    return frames * (1.0 - late) + np.float32(0.5) * late * (before + after)
