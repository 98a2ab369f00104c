"""Position tables at another size, by linear interpolation."""

import math

import numpy as np


def _weights(old: int, new: int, ends: bool) -> np.ndarray:
    """`new old`: row i mixes the two old places nearest to new place i. With `ends` the first and last places stay
    (Frozen-in-Time's rule for frames); without, places are the centres of equal cells (the rule for images)."""
    place = np.linspace(0, old - 1, new) if ends else (np.arange(new) + 0.5) * old / new - 0.5
    place = np.clip(place, 0, old - 1)
    low = np.minimum(place.astype(int), max(old - 2, 0))
    out = np.zeros((new, old))
    out[np.arange(new), low] = 1 - (place - low)
    out[np.arange(new), np.minimum(low + 1, old - 1)] += place - low
    return out


def time(table_TD: np.ndarray, new: int) -> np.ndarray:
    """`T D` to `new D`, first and last rows kept."""
    return (_weights(len(table_TD), new, ends=True) @ table_TD).astype(table_TD.dtype)


def text(table_LD: np.ndarray, new: int) -> np.ndarray:
    """Fewer places are the first ones, as they are; more are stretched over the old."""
    return table_LD[:new] if new <= len(table_LD) else time(table_LD, new)


def grid(table_PD: np.ndarray, new: int) -> np.ndarray:
    """CLS and a square grid of patches to CLS and a square grid, `new` rows in all.

    Raises:
      ValueError: where one of the two grids is not square.
    """
    old_side, new_side = math.isqrt(len(table_PD) - 1), math.isqrt(new - 1)
    if old_side**2 != len(table_PD) - 1 or new_side**2 != new - 1:
        raise ValueError(f"{len(table_PD)} and {new} rows are not CLS and square grids of patches")
    weights = _weights(old_side, new_side, ends=False)
    square = table_PD[1:].reshape(old_side, old_side, -1)
    moved = np.einsum("ai,bj,ijd->abd", weights, weights, square).reshape(new - 1, -1)
    return np.concatenate([table_PD[:1], moved.astype(table_PD.dtype)])
