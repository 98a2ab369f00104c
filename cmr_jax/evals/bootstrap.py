"""Percentile intervals by resampling patients.

Each draw takes as many patients as there are, with replacement, and all studies of each; study-level draws would give
intervals that are too narrow where patients repeat. Held fixed: the model, and the gallery that queries are ranked
against (the quantity of a query is computed once, against all studies). So an interval says how the figure would vary
with other patients as queries, not with another training run or a gallery of another size. NumPy only.

Letters: N studies, P patients, R draws in hand, F figures.
"""

from collections.abc import Iterator, Sequence

import numpy as np

LEVEL = 0.95
_CHUNK = 50


def resamples(patients: Sequence[str], draws: int, seed: int) -> Iterator[np.ndarray]:
    """How often each study is in each draw, as float64 arrays `R N` of at most 50 draws; a function of `seed`."""
    _, patient_N = np.unique(np.asarray(patients), return_inverse=True)
    patient_N = patient_N.reshape(-1)
    count = int(patient_N.max(initial=-1)) + 1
    rng = np.random.default_rng(seed)
    for start in range(0, draws, _CHUNK):
        size = min(_CHUNK, draws - start)
        drawn = rng.integers(count, size=(size, count)) + count * np.arange(size)[:, None]
        times_RP = np.bincount(drawn.reshape(-1), minlength=size * count).reshape(size, count)
        yield times_RP[:, patient_N].astype(np.float64)


def interval(draws_R: np.ndarray) -> list[float] | None:
    """The percentile interval of the draws in which the figure is defined; None where it is not in half of them."""
    defined = draws_R[np.isfinite(draws_R)]
    if not len(draws_R) or len(defined) < len(draws_R) / 2:
        return None
    tail = (1 - LEVEL) / 2
    return [float(edge) for edge in np.quantile(defined, [tail, 1 - tail])]


def weighted_median(values_N: np.ndarray, weights_RN: np.ndarray) -> np.ndarray:
    """The median of `values_N` with each value repeated by its whole-number weight, for each row of weights; NaN where
    no value has any weight."""
    order = np.argsort(values_N, kind="stable")
    upto_RN = np.cumsum(weights_RN[:, order], axis=1)
    total_R = upto_RN[:, -1:]
    lower = np.argmax(upto_RN >= (total_R + 1) // 2, axis=1)
    upper = np.argmax(upto_RN >= total_R // 2 + 1, axis=1)
    return np.where(total_R[:, 0] > 0, (values_N[order][lower] + values_N[order][upper]) / 2, np.nan)


def draw_figures(
    means: dict[str, np.ndarray],
    medians: dict[str, np.ndarray],
    patients: Sequence[str],
    *,
    draws: int,
    seed: int,
) -> dict[str, np.ndarray]:
    """The figure of each draw, R by name: the mean or median over studies of one value a study (NaN: the study does not
    count). Equal patients and seed give the same draws, so that two models can be compared draw by draw.

    Empty arrays where there are fewer than two patients or no draws.
    """
    if len(set(patients)) < 2 or draws < 1:
        return {name: np.zeros(0) for name in [*means, *medians]}
    values_NF = np.stack(list(means.values()), axis=1) if means else np.zeros((len(patients), 0))
    counted_NF = np.isfinite(values_NF)
    known_values_NF = np.where(counted_NF, values_NF, 0.0)
    counted_N = {name: np.isfinite(values_N) for name, values_N in medians.items()}
    found: dict[str, list[np.ndarray]] = {name: [] for name in [*means, *medians]}
    for weights_RN in resamples(patients, draws, seed):
        count_RF = weights_RN @ counted_NF
        sums_RF = weights_RN @ known_values_NF
        means_RF = np.divide(sums_RF, count_RF, out=np.full_like(sums_RF, np.nan), where=count_RF > 0)
        for place, name in enumerate(means):
            found[name].append(means_RF[:, place])
        for name, values_N in medians.items():
            here = counted_N[name]
            found[name].append(weighted_median(values_N[here], weights_RN[:, here]))
    return {name: np.concatenate(parts) for name, parts in found.items()}


def intervals(
    means: dict[str, np.ndarray],
    medians: dict[str, np.ndarray],
    patients: Sequence[str],
    *,
    draws: int,
    seed: int,
) -> dict[str, list[float] | None]:
    """The interval of each figure of `draw_figures`; None where there are fewer than two patients or no draws."""
    found = draw_figures(means, medians, patients, draws=draws, seed=seed)
    return {name: interval(values) for name, values in found.items()}


def p_value(differences_R: np.ndarray) -> float | None:
    """Two-sided p of no difference: twice the share of draws on the rarer side of 0, at least 1 / (R + 1); a draw of
    exactly 0 counts on both sides. None where the difference is defined in less than half of the draws."""
    defined = differences_R[np.isfinite(differences_R)]
    if not len(differences_R) or len(defined) < len(differences_R) / 2:
        return None
    rarer = min(np.count_nonzero(defined <= 0), np.count_nonzero(defined >= 0))
    return float(min(1.0, 2 * (rarer + 1) / (len(defined) + 1)))
