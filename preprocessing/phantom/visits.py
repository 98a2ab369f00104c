"""Who comes when: what the flags ask for, and the visits that follow from it.

Everything is a pure function of the seed and the study's number, so any number of workers makes the same files.
"""

import dataclasses
from collections.abc import Callable

import numpy as np

from preprocessing.phantom import truth
from preprocessing.phantom.clinical import population

# "plain": whole bodies of a population. "sketch": short-axis stacks alone, of shapes and greys wider than life.
# "clinical": whole exams (cines, late enhancement, maps) of the diseases that a referral centre meets.
VARIETIES = ("plain", "sketch", "clinical")
HABIT = 0  # of slices or phases: what the heart needs and the vendor's scanner does ("clinical" alone)


@dataclasses.dataclass(frozen=True)
class Settings:
    """What the flags say."""

    studies: int
    seed: int = 0
    patients_with_two_studies: float = 0.25
    vendor: str = "mixed"
    enhanced: bool = False
    slices: int = 8
    phases: int = 20
    matrix: int = 128
    variety: str = "plain"
    without: tuple[str, ...] = ()  # of sketch.stack.PARTS


@dataclasses.dataclass(frozen=True)
class Visit:
    """Study number `study` is visit `visit` (0 or 1) of patient number `patient`, who belongs to `group`."""

    study: int
    patient: int
    visit: int
    group: str


def _in_equal_parts(rng: np.random.Generator) -> Callable[[], str]:
    """Groups in equal parts, in no order that a neighbour could be guessed from."""
    block: list[str] = []

    def draw() -> str:
        if not block:
            block.extend(map(str, rng.permutation(truth.GROUPS)))
        return block.pop()

    return draw


def visits(settings: Settings) -> list[Visit]:
    """Who comes when: of the clinical variety as often as in life, of the others every group alike."""
    rng = np.random.default_rng([settings.seed, 0xC0FFEE])
    clinical = settings.variety == "clinical"
    draw = (lambda: population.leading_disease(rng)) if clinical else _in_equal_parts(rng)
    out: list[Visit] = []
    patient = 0
    while len(out) < settings.studies:
        group = draw()
        count = 2 if rng.random() < settings.patients_with_two_studies else 1
        for visit in range(min(count, settings.studies - len(out))):
            out.append(Visit(len(out), patient, visit, group))
        patient += 1
    return out


def stream(settings: Settings, number: int, *key: int) -> np.random.Generator:
    """The generator of one kind of chance (`number`) of one patient or visit (`key`)."""
    return np.random.default_rng([settings.seed, number, *key])
