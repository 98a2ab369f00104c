"""Retrieval measured by labels: are the nearest studies of the same kind?

An item is relevant to a query when they agree in every named label; its gain is the share of the labels in which they
agree. Ties score the expectation over random orders (McSherry and Najork, ECIR 2008): at each place of a run of tied
items stands their mean relevance. Queries without any relevant item do not count (NaN). NumPy only.

Letters: N studies, E embedding, Q labels, B queries of a block.
"""

from collections.abc import Callable, Iterable

import numpy as np

from cmr_jax.evals.ranking import distinct_rows

DEPTH = 10
MEASURES = ("mAP", f"P@{DEPTH}", f"nDCG@{DEPTH}")
_BLOCK = 64


def measure(
    query_NE: np.ndarray,
    gallery_NE: np.ndarray,
    codes_NQ: np.ndarray,
    *,
    leave_out_N: np.ndarray | None = None,
    watch: Callable[[Iterable[int]], Iterable[int]] = iter,
) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Average precision, precision at 10 (of 10, however small the gallery) and nDCG at 10 of each query.

    Args:
      codes_NQ: equal numbers for equal values of a label.
      leave_out_N: items with the query's number are not in its gallery (the studies of one patient).

    Returns:
      By the names of MEASURES, N float64 fractions each: as scored, and expected of random scores.
    """
    # Equal rows are scored once, so that they tie exactly; blocks are cut at fixed places and padded to one shape, so
    # that a pair is always added up in the same way.
    first, set_N = distinct_rows(gallery_NE)
    distinct_ET = np.ascontiguousarray(gallery_NE[first].T)
    parts = []
    for start in watch(range(0, len(query_NE), _BLOCK)):
        rows_B = np.arange(start, min(start + _BLOCK, len(query_NE)))
        padded = np.zeros((_BLOCK, query_NE.shape[1]), query_NE.dtype)
        padded[: len(rows_B)] = query_NE[rows_B]
        scores_BN = (padded @ distinct_ET)[: len(rows_B), set_N]
        gain_BN = np.mean([codes_N[rows_B, None] == codes_N for codes_N in codes_NQ.T], axis=0)
        absent_BN = np.zeros(scores_BN.shape, bool)
        if leave_out_N is not None:
            absent_BN = leave_out_N[rows_B, None] == leave_out_N
            scores_BN[absent_BN], gain_BN[absent_BN] = -np.inf, 0.0
        size_B = np.count_nonzero(~absent_BN, axis=1)
        parts.append(np.stack([*_scored(scores_BN, gain_BN), *_chance(size_B, gain_BN)]))
    values = np.concatenate(parts, axis=1)
    half = len(MEASURES)
    return dict(zip(MEASURES, values[:half], strict=True)), dict(zip(MEASURES, values[half:], strict=True))


def _scored(scores_BN: np.ndarray, gain_BN: np.ndarray) -> list[np.ndarray]:
    order = np.argsort(-scores_BN, axis=1)
    scores, gain = (np.take_along_axis(array, order, axis=1) for array in (scores_BN, gain_BN))
    relevant = (gain == 1.0).astype(np.float64)
    place = np.broadcast_to(np.arange(scores.shape[1]), scores.shape)
    first = np.ones(scores.shape, bool)
    first[:, 1:] = scores[:, 1:] != scores[:, :-1]
    starts = np.flatnonzero(first)
    size = np.diff(starts, append=first.size)

    def run_mean(values: np.ndarray) -> np.ndarray:
        return np.repeat(np.add.reduceat(values.reshape(-1), starts) / size, size).reshape(values.shape)

    n = np.repeat(size, size).reshape(scores.shape)
    offset = place - np.repeat(place.reshape(-1)[starts], size).reshape(scores.shape)
    share, share_gain = run_mean(relevant), run_mean(gain)
    # Relevant items before the run: the expected count before this place less the expected count within the run.
    before = np.cumsum(share, axis=1) - share * (offset + 1)
    within = offset * (share * n - 1) / np.maximum(n - 1, 1)
    total = relevant.sum(axis=1)
    precision = (share * (before + 1 + within) / (place + 1)).sum(axis=1)
    discount = _discount(scores.shape[1])
    dcg = share_gain[:, :DEPTH] @ discount
    found = share[:, :DEPTH].sum(axis=1) / DEPTH
    return [_where(total, precision, total), _where(total, found, 1.0), _where(total, dcg, _ideal(gain) @ discount)]


def _chance(size_B: np.ndarray, gain_BN: np.ndarray) -> list[np.ndarray]:
    """The expectations when all `size_B` items of the gallery tie."""
    total = (gain_BN == 1.0).sum(axis=1)
    harmonic = np.concatenate([[0.0], np.cumsum(1.0 / np.arange(1, gain_BN.shape[1] + 1))])[size_B]
    n = np.maximum(size_B, 1)
    precision = (harmonic + (total - 1) / np.maximum(n - 1, 1) * (n - harmonic)) / n
    found = np.minimum(n, DEPTH) * total / n / DEPTH
    discount = _discount(gain_BN.shape[1])
    reached = np.concatenate([[0.0], np.cumsum(discount)])[np.minimum(n, len(discount))]
    dcg = gain_BN.sum(axis=1) / n * reached
    return [_where(total, precision, 1.0), _where(total, found, 1.0), _where(total, dcg, _ideal(gain_BN) @ discount)]


def _discount(items: int) -> np.ndarray:
    return 1.0 / np.log2(np.arange(min(items, DEPTH)) + 2)


def _ideal(gain_BN: np.ndarray) -> np.ndarray:
    return -np.sort(-gain_BN, axis=1)[:, :DEPTH]


def _where(total_B: np.ndarray, value_B: np.ndarray, divisor_B: np.ndarray | float) -> np.ndarray:
    known = total_B > 0
    return np.where(known, value_B, np.nan) / np.where(known, divisor_B, 1.0)
