"""Retrieval measured by labels: are the nearest studies of the same kind?

An item is relevant to a query when they agree in every named label; its gain is the share of the labels in which they
agree. Ties score the expectation over random orders (McSherry and Najork, ECIR 2008): at each place of a run of tied
items stands their mean relevance. Queries without any relevant item do not count (NaN). NumPy only.

Letters: N queries, M items, E embedding, Q labels, B queries of a block, C kinds (distinct combinations of labels).
"""

from collections.abc import Callable, Iterable

import numpy as np

from cmr_jax.evals.ranking import Grouping, Members, distinct_rows

DEPTH = 10
MEASURES = ("mAP", f"P@{DEPTH}", f"nDCG@{DEPTH}")
_BLOCK = 64
_DISCOUNT = 1.0 / np.log2(np.arange(DEPTH) + 2)


def measure(
    query_NE: np.ndarray,
    gallery_ME: np.ndarray,
    query_codes_NQ: np.ndarray,
    item_codes_MQ: np.ndarray | None = None,
    *,
    leave_out: Grouping | None = None,
    watch: Callable[[Iterable[int]], Iterable[int]] = iter,
) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Average precision, precision at 10 (of 10, however small the gallery) and nDCG at 10 of each query.

    Args:
      query_codes_NQ, item_codes_MQ: equal numbers for equal values of a label; one array where both are the same.
      leave_out: items with the query's id are not in its gallery (the studies of one patient).

    Returns:
      By the names of MEASURES, N float64 fractions each: as scored, and expected of random scores.
    """
    item_codes_MQ = query_codes_NQ if item_codes_MQ is None else item_codes_MQ
    # Equal rows are scored once, so that they tie exactly; blocks are cut at fixed places and padded to one shape, so
    # that a pair is always added up in the same way.
    first, set_M = distinct_rows(gallery_ME)
    distinct_ET = np.ascontiguousarray(gallery_ME[first].T)
    relevance = _Relevance(query_codes_NQ, item_codes_MQ, leave_out)
    harmonic = np.concatenate([[0.0], np.cumsum(1.0 / np.arange(1, len(gallery_ME) + 1))])
    parts = []
    for start in watch(range(0, len(query_NE), _BLOCK)):
        rows_B = np.arange(start, min(start + _BLOCK, len(query_NE)))
        padded = np.zeros((_BLOCK, query_NE.shape[1]), query_NE.dtype)
        padded[: len(rows_B)] = query_NE[rows_B]
        scores_BM = (padded @ distinct_ET)[: len(rows_B)]
        if len(first) < len(set_M):
            scores_BM = np.take(scores_BM, set_M, axis=1)
        scores_BM[relevance.absent(rows_B)] = -np.inf
        levels_BL = relevance.levels(rows_B)
        ideal_B = _ideal_dcg(levels_BL)
        scored = _scored(scores_BM, relevance, rows_B, harmonic)
        parts.append(np.stack([*_normalised(*scored, levels_BL, ideal_B), *_chance(levels_BL, ideal_B, harmonic)]))
    values = np.concatenate(parts, axis=1)
    half = len(MEASURES)
    return dict(zip(MEASURES, values[:half], strict=True)), dict(zip(MEASURES, values[half:], strict=True))


class _Relevance:
    """Who is relevant to whom, without a matrix of all pairs: by kinds of studies, since kinds are few."""

    def __init__(self, query_NQ: np.ndarray, item_MQ: np.ndarray, leave_out: Grouping | None):
        kinds_CQ, inverse = np.unique(np.concatenate([query_NQ, item_MQ]), axis=0, return_inverse=True)
        self._query_N, self._item_M = inverse.reshape(-1)[: len(query_NQ)], inverse.reshape(-1)[len(query_NQ) :]
        self._query_NQ, self._item_MQ, self._kinds_CQ = query_NQ, item_MQ, kinds_CQ
        self._members = Members((self._query_N, self._item_M))
        self._apart = None if leave_out is None else Members(leave_out)
        self._count_C = np.bincount(self._item_M, minlength=len(kinds_CQ))

    def absent(self, rows_B: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Pairs (index into `rows_B`, item) that are no part of the gallery."""
        nothing = np.zeros(0, np.int64)
        return (nothing, nothing) if self._apart is None else self._apart.of(rows_B)

    def of(self, rows_B: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Pairs (index into `rows_B`, item) that agree in every label, sorted by the first."""
        return self._members.of(rows_B)

    def agreement(self, rows_P: np.ndarray, items_P: np.ndarray) -> np.ndarray:
        """In how many labels each pair agrees."""
        return (self._query_NQ[rows_P] == self._item_MQ[items_P]).sum(axis=1)

    def levels(self, rows_B: np.ndarray) -> np.ndarray:
        """How many items of the gallery agree with each query in 0, 1, … Q labels: `B Q+1`."""
        labels = self._kinds_CQ.shape[1]
        agree_BC = (self._query_NQ[rows_B][:, None] == self._kinds_CQ).sum(axis=2)
        counts = [(agree_BC == level) @ self._count_C for level in range(labels + 1)]
        index, items = self.absent(rows_B)
        away = np.bincount(
            index * (labels + 1) + self.agreement(rows_B[index], items), minlength=len(rows_B) * (labels + 1)
        )
        return np.stack(counts, axis=1) - away.reshape(len(rows_B), labels + 1)


def _scored(
    scores_BM: np.ndarray, relevance: _Relevance, rows_B: np.ndarray, harmonic: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Sum of precisions at the relevant items, relevant items among the first ten, and DCG of them; B each."""
    # Only the scores are sorted, not their indices: the places of the relevant ones are searched among them.
    ordered_BM = np.sort(scores_BM, axis=1)
    index, items = relevance.of(rows_B)
    score = scores_BM[index, items]
    bounds = np.searchsorted(index, np.arange(len(rows_B) + 1))
    precision_B = np.zeros(len(rows_B))
    for place in range(len(rows_B)):
        mine = np.sort(score[bounds[place] : bounds[place + 1]])
        precision_B[place] = _precisions(ordered_BM[place], mine[mine > -np.inf], harmonic)
    top, top_gain = _top(scores_BM, ordered_BM, relevance, rows_B)
    return precision_B, top, top_gain


def _precisions(ordered_M: np.ndarray, relevant_R: np.ndarray, harmonic: np.ndarray) -> float:
    """The expected sum, over the relevant items, of the precision at their places; both arrays ascending.

    A run of n tied items, r of them relevant, that follows p items (R of them relevant) adds, over random orders,
    r / n * sum_j (R + 1 + d (j - 1)) / (p + j) with d = (r - 1) / (n - 1), j = 1..n: harmonic numbers sum it.
    """
    if not len(relevant_R):
        return 0.0
    last = np.append(np.flatnonzero(relevant_R[1:] != relevant_R[:-1]), len(relevant_R) - 1)
    r = np.diff(last, prepend=-1)
    value = relevant_R[last]
    upto = np.searchsorted(ordered_M, value, side="right")
    before, relevant_before = len(ordered_M) - upto, len(relevant_R) - 1 - last
    # Ties are few: only where the item below has the same score is the lower end of the run searched.
    tied = (upto > 1) & (ordered_M[np.maximum(upto - 2, 0)] == value)
    n = np.ones(len(value), np.int64)
    n[tied] = upto[tied] - np.searchsorted(ordered_M, value[tied], side="left")
    if not tied.any():
        return float(((relevant_before + 1) / (before + 1)).sum())
    slope = (r - 1) / np.maximum(n - 1, 1)
    start = relevant_before + 1
    run = n * slope + (start - slope * (before + 1)) * (harmonic[before + n] - harmonic[before])
    return float(np.where(n == 1, start / (before + 1), r / n * run).sum())


def _top(
    scores_BM: np.ndarray, ordered_BM: np.ndarray, relevance: _Relevance, rows_B: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Expected relevant items, and expected discounted gain, among the first ten of each query."""
    size, depth = len(rows_B), min(DEPTH, scores_BM.shape[1])
    least_B = np.maximum(ordered_BM[:, -depth], np.finfo(scores_BM.dtype).min)
    index, items = np.nonzero(scores_BM >= least_B[:, None])
    agreement = relevance.agreement(rows_B[index], items)
    score = scores_BM[index, items]
    order = np.lexsort((-score, index))
    index, agreement, score = index[order], agreement[order], score[order]
    labels = relevance._kinds_CQ.shape[1]
    first = np.append(True, (index[1:] != index[:-1]) | (score[1:] != score[:-1])) if len(index) else np.zeros(0, bool)
    starts = np.flatnonzero(first)
    length = np.diff(starts, append=len(index))
    place = np.arange(len(index)) - np.searchsorted(index, index)
    shown = place < DEPTH

    def at_each_place(values: np.ndarray) -> np.ndarray:
        sums = np.add.reduceat(values, starts) if len(starts) else np.zeros(0)
        return np.repeat(sums / length, length)[shown]

    relevant = at_each_place((agreement == labels).astype(np.float64))
    gain = at_each_place(agreement / labels) * _DISCOUNT[place[shown]]
    return np.bincount(index[shown], relevant, minlength=size), np.bincount(index[shown], gain, minlength=size)


def _ideal_dcg(levels_BL: np.ndarray) -> np.ndarray:
    """The largest DCG at ten that a gallery with these agreements allows."""
    reached = np.concatenate([[0.0], np.cumsum(_DISCOUNT)])
    labels = levels_BL.shape[1] - 1
    # From the best agreement down: how many of the first ten places are filled up to and with each level.
    filled_BL = np.minimum(np.cumsum(levels_BL[:, ::-1], axis=1), DEPTH)
    steps_BL = np.diff(reached[filled_BL], axis=1, prepend=0.0)
    return steps_BL @ (np.arange(labels, -1, -1) / labels)


def _normalised(
    precision_B: np.ndarray, found_B: np.ndarray, dcg_B: np.ndarray, levels_BL: np.ndarray, ideal_B: np.ndarray
) -> list[np.ndarray]:
    total_B = levels_BL[:, -1]
    known = total_B > 0
    return [
        np.where(known, value, np.nan) / np.where(known, divisor, 1.0)
        for value, divisor in ((precision_B, total_B), (found_B, DEPTH), (dcg_B, ideal_B))
    ]


def _chance(levels_BL: np.ndarray, ideal_B: np.ndarray, harmonic: np.ndarray) -> list[np.ndarray]:
    """The expectations when all items of the gallery tie."""
    size_B, total_B = levels_BL.sum(axis=1), levels_BL[:, -1]
    labels = levels_BL.shape[1] - 1
    n = np.maximum(size_B, 1)
    of_ones = harmonic[size_B]
    precision_B = total_B * (of_ones + (total_B - 1) / np.maximum(n - 1, 1) * (n - of_ones)) / n
    found_B = np.minimum(n, DEPTH) * total_B / n
    gain_B = levels_BL @ (np.arange(labels + 1) / labels)
    reached = np.concatenate([[0.0], np.cumsum(_DISCOUNT)])[np.minimum(n, DEPTH)]
    return _normalised(precision_B, found_B, gain_B / n * reached, levels_BL, ideal_B)
