"""A column of label values as numbers: which classes there are and which value is the positive one."""

import dataclasses
from collections.abc import Sequence

import numpy as np

from cmr_jax.errors import InputError

MISSING = -1
# (negative, positive), compared without case.
_YES_OR_NO = (("0", "1"), ("no", "yes"), ("absent", "present"), ("false", "true"), ("negative", "positive"))
_UNCERTAIN = "uncertain"  # as good as missing, where the other values are absent and present
_MOST_CLASSES = 20
_MOST_NUMBERS = 10


@dataclasses.dataclass(frozen=True)
class Label:
    """`codes` index `classes`, MISSING where the study has no value. `positive`: the class asked about, None where each
    class is asked about in turn."""

    name: str
    classes: tuple[str, ...]
    codes: np.ndarray
    positive: int | None

    @property
    def questions(self) -> tuple[int, ...]:
        """The classes that are scored against the rest."""
        return tuple(range(len(self.classes))) if self.positive is None else (self.positive,)


def known_values(values: Sequence[str]) -> list[str]:
    """The values without spaces around them; "" for "uncertain" beside absent or present, which is no answer."""
    cleaned = [value.strip() for value in values]
    if {value.lower() for value in cleaned} & {"absent", "present"}:
        return ["" if value.lower() == _UNCERTAIN else value for value in cleaned]
    return cleaned


def parse_label(name: str, values: Sequence[str]) -> Label:
    """Reads a column; "" is missing, and so is "uncertain" beside absent or present.

    0/1, no/yes, absent/present, false/true, negative/positive are yes-or-no labels.

    Raises InputError where the column has a single other value or none, or is a measurement rather than a class.
    """
    cleaned = known_values(values)
    classes = tuple(sorted({value for value in cleaned if value}))
    for pair in _YES_OR_NO:
        if classes and {value.lower() for value in classes} <= set(pair):
            codes = [pair.index(value.lower()) if value else MISSING for value in cleaned]
            return Label(name, pair, np.array(codes), 1)
    if len(classes) < 2:
        raise InputError(f"label {name!r} has {len(classes)} value(s) in these studies: nothing to tell apart")
    most = _MOST_NUMBERS if all(_is_number(value) for value in classes) else _MOST_CLASSES
    if len(classes) > most:
        raise InputError(
            f"label {name!r} has {len(classes)} different values, more than {most}: it is a measurement or free text; "
            "give a column of classes"
        )
    return Label(name, classes, np.array([classes.index(value) if value else MISSING for value in cleaned]), None)


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def is_measurement(values: Sequence[str]) -> bool:
    """True for a column of numbers that has more different ones than a column of classes may."""
    given = {value.strip() for value in values} - {"", _UNCERTAIN}
    return len(given) > _MOST_NUMBERS and all(_is_number(value) for value in given)
