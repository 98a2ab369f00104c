"""How figures of several training seeds are shown."""

import statistics
from collections.abc import Sequence


def mean_of_seeds(values: Sequence[float], digits: int) -> str:
    """`mean (lowest to highest)`; the mean alone where all are equal, as chance is, and nothing without values."""
    if not values:
        return ""
    text = f"{statistics.mean(values):.{digits}f}"
    return text if len(set(values)) == 1 else f"{text} ({min(values):.{digits}f} to {max(values):.{digits}f})"
