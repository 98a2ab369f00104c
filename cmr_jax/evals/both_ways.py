"""The ranks of rows among columns and of columns among rows, from one matrix product in blocks.

What `ranking.rank_queries` says of each direction, by its definitions, in a third of the time. First the best relevant
score of every query is settled exactly, from the relevant pairs alone. Then each block of the product is used twice,
along its rows and along its columns: how many scores are surely above a query's best, and how many are not surely
below. Where the difference is the items whose rows equal those of the best, nothing is in doubt. Many queries in doubt
whose rows are equal ("normal study" reports) are ranked by one row of exact scores; the few others are left to
`rank_queries`.

NumPy only. Letters: N queries, M items, E embedding, B rows of a block, P pairs, G groups.
"""

import dataclasses
from collections.abc import Callable, Iterable, Iterator, Sequence

import numpy as np

from cmr_jax.evals import ranking
from cmr_jax.evals.ranking import Grouping, Pairs, Ranks

# Relevant pairs of one group from which on a product finds the best of them sooner than the exact scores of all.
_WORTH_A_PRODUCT = 256
_ROWS_OF_A_PRODUCT = 512
# Queries in doubt with equal rows from which on the exact scores of all items cost less than their part of a product.
_WORTH_EXACT = 64
# As many rows as a byte can count.
_COUNTED = 255

Watch = Callable[[Iterable[int]], Iterable[int]]


def rank_both(
    row_NE: np.ndarray,
    column_ME: np.ndarray,
    groupings: Sequence[Grouping],
    *,
    block: int = 2 * _COUNTED,
    watch: Watch = iter,
) -> tuple[list[Ranks], list[Ranks]]:
    """The ranks of each row among the columns, and of each column among the rows, once for each grouping.

    Args:
      row_NE, column_ME: float32 or float64, finite.
      groupings: ids of rows and columns; equal ids are relevant to one another.
      block: rows scored at a time; bounds the memory (block x M scores) and never changes the result.
      watch: wraps the loop over blocks, for a progress display.
    """
    dtype = np.result_type(row_NE, column_ME)
    rows, columns = np.ascontiguousarray(row_NE, dtype), np.ascontiguousarray(column_ME, dtype)
    sides = [ranking.Pairs(rows, columns), ranking.Pairs(columns, rows)]
    pairs_of = [[ranking.pair(each) for each in groupings], [ranking.pair(each)[::-1] for each in groupings]]
    counts = [
        _counts(side, other.distinct[1], ids) for side, other, ids in zip(sides, sides[::-1], pairs_of, strict=True)
    ]
    # Written over by every block: fresh pages for each would cost a tenth of the product.
    held_BM = (
        np.empty((min(block, len(rows)), len(columns)), dtype),
        np.empty((min(block, len(rows)), len(columns)), bool),
    )
    for start in watch(range(0, len(rows), block)):
        part = slice(start, start + block)
        scores_BM, mask_BM = (held[: len(rows[part])] for held in held_BM)
        np.matmul(rows[part], columns.T, out=scores_BM)
        for count in counts[0]:
            count.add_rows(part, scores_BM, mask_BM)
        for count in counts[1]:
            count.add_columns(scores_BM, mask_BM)
    found = []
    for side, other, ids, each in zip(sides, sides[::-1], pairs_of, counts, strict=True):
        ranks = [count.ranks() for count in each]
        doubtful_N = np.any([count.doubtful() for count in each], axis=0)
        _rank_equal_queries(side, other.distinct, [count.best for count in each], ranks, doubtful_N)
        doubtful = np.flatnonzero(doubtful_N)
        if len(doubtful):
            for rank, exact in zip(ranks, ranking.rank_rows(side, doubtful, ids), strict=True):
                rank.above_N[doubtful], rank.tied_N[doubtful] = exact.above_N, exact.tied_N
                rank.hits_N[doubtful] = exact.hits_N
        found.append(ranks)
    return found[0], found[1]


def _rank_equal_queries(
    side: Pairs,
    distinct: tuple[np.ndarray, np.ndarray],
    bests: Sequence["_Best"],
    ranks: Sequence[Ranks],
    doubtful_N: np.ndarray,
) -> None:
    """Ranks the doubtful queries of each class that has many, and takes them from `doubtful_N`. `distinct`: the first
    query of each class, and the class of each query."""
    first_D, class_N = distinct
    items = np.arange(len(side.gallery_ME))
    for each in np.flatnonzero(np.bincount(class_N[doubtful_N], minlength=len(first_D)) >= _WORTH_EXACT):
        exact_M = np.sort(side.exact_each(np.full(len(items), first_D[each]), items))
        queries = np.flatnonzero(doubtful_N & (class_N == each))
        for best, rank in zip(bests, ranks, strict=True):
            below, not_above = (np.searchsorted(exact_M, best.best_N[queries], end) for end in ("left", "right"))
            rank.above_N[queries] = len(items) - not_above
            rank.tied_N[queries] = not_above - below - best.hits_N[queries]
        doubtful_N[queries] = False


@dataclasses.dataclass
class _Best:
    """Of each query: its best exact relevant score (infinite: none), the relevant items that have it, and all items
    whose rows equal those of such items."""

    best_N: np.ndarray
    hits_N: np.ndarray
    level_N: np.ndarray


@dataclasses.dataclass
class _Count:
    """Of the queries `asked`: the scores above `high`, which are surely above the best, and those from `low` on, which
    are not surely below. `others` have the rows and the best of the queries `as_those`, which are asked for them too.
    `first`: what counts the rest, whose best is the same there."""

    best: _Best
    high_N: np.ndarray
    low_N: np.ndarray
    asked: np.ndarray
    others: np.ndarray
    as_those: np.ndarray
    first: "_Count | None"
    above_N: np.ndarray
    near_N: np.ndarray

    def add_rows(self, part: slice, scores_BM: np.ndarray, mask_BM: np.ndarray) -> None:
        start, stop, _ = part.indices(len(self.high_N))
        here = self.asked[np.searchsorted(self.asked, start) : np.searchsorted(self.asked, stop)]
        if len(here) < stop - start:
            scores_BM, mask_BM = scores_BM[here - start], mask_BM[: len(here)]
        np.greater(scores_BM, self.high_N[here, None], out=mask_BM)
        self.above_N[here] = ranking.count_rows(mask_BM)
        np.greater_equal(scores_BM, self.low_N[here, None], out=mask_BM)
        self.near_N[here] = ranking.count_rows(mask_BM)

    def add_columns(self, scores_BM: np.ndarray, mask_BM: np.ndarray) -> None:
        here = self.asked
        if len(here) < len(self.high_N):
            scores_BM, mask_BM = scores_BM[:, here], np.empty((len(scores_BM), len(here)), bool)
        np.greater(scores_BM, self.high_N[here], out=mask_BM)
        self.above_N[here] += _count_columns(mask_BM)
        np.greater_equal(scores_BM, self.low_N[here], out=mask_BM)
        self.near_N[here] += _count_columns(mask_BM)

    def counted(self) -> tuple[np.ndarray, np.ndarray]:
        """Above and near of all queries."""
        if self.first is None:
            return self.above_N, self.near_N
        above_N, near_N = self.first.above_N.copy(), self.first.near_N.copy()
        above_N[self.others], near_N[self.others] = self.above_N[self.as_those], self.near_N[self.as_those]
        return above_N, near_N

    def doubtful(self) -> np.ndarray:
        """True for queries whose level or near scores are not all those of rows equal to the best's."""
        above_N, near_N = self.counted()
        return near_N - above_N > self.best.level_N

    def ranks(self) -> Ranks:
        """The ranks of the queries that are not doubtful."""
        best = self.best
        return Ranks(self.counted()[0], best.level_N - best.hits_N, best.hits_N)


def _counts(side: Pairs, query_class_N: np.ndarray, groupings: Sequence[tuple[np.ndarray, np.ndarray]]) -> list[_Count]:
    dtype, size = side.query_NE.dtype, len(side.query_NE)
    infinity = dtype.type(np.inf)
    out: list[_Count] = []
    for ids in groupings:
        best = _settle(side, query_class_N, *ids)
        asked = others = as_those = np.arange(size)
        if out:
            others = np.flatnonzero(best.best_N != out[0].best.best_N)
            # Of a group of equal reports all have the same best: one of them is asked.
            alike = np.stack([query_class_N[others], np.unique(best.best_N[others], return_inverse=True)[1]], axis=1)
            _, some, place = np.unique(alike, axis=0, return_index=True, return_inverse=True)
            as_those = others[some[place.reshape(-1)]]
            asked = np.sort(others[some])
        high_N = np.nextafter((best.best_N + side.slack_N).astype(dtype), infinity)
        low_N = np.nextafter((best.best_N - side.slack_N).astype(dtype), -infinity)
        zeros = [np.zeros(size, np.int64) for _ in range(2)]
        out.append(_Count(best, high_N, low_N, asked, others, as_those, out[0] if out else None, *zeros))
    return out


def _settle(side: Pairs, query_class_N: np.ndarray, query_ids: np.ndarray, item_ids: np.ndarray) -> _Best:
    """The best relevant score of every query. Queries of one class (equal rows) and equal ids are asked once, and items
    of one class and equal ids are one."""
    query_code_N, item_code_M = ranking.codes(query_ids, item_ids)
    first_D, class_M = side.distinct
    relevant, times = np.unique(item_code_M * len(first_D) + class_M, return_counts=True)
    code, class_of = np.divmod(relevant, len(first_D))
    asked, rows, place_N = np.unique(
        query_code_N * len(query_class_N) + query_class_N, return_index=True, return_inverse=True
    )
    table = _Relevant(side, rows, asked // len(query_class_N), first_D[class_of], code)
    best = np.full(len(rows), np.inf, side.query_NE.dtype)
    hits, level = np.zeros(len(rows), np.int64), np.zeros(len(rows), np.int64)
    of_class = np.bincount(class_M, minlength=len(first_D))
    for queries, index, entry in table.parts():
        exact = side.exact_each(rows[queries][index], table.items[entry])
        top = ranking.segment_best(exact, index, len(queries), np.inf)
        is_top = exact == top[index]
        best[queries] = top
        hits[queries] = np.bincount(index[is_top], times[entry[is_top]], len(queries))
        level[queries] = np.bincount(index[is_top], of_class[class_of[entry[is_top]]], len(queries))
    place_N = place_N.reshape(-1)
    return _Best(best[place_N], hits[place_N], level[place_N])


class _Relevant:
    """The relevant pairs of the queries `rows` (of groups `group_of`) and the `items` (of groups `groups`, sorted)."""

    def __init__(
        self, side: Pairs, rows: np.ndarray, group_of: np.ndarray, items: np.ndarray, groups: np.ndarray
    ) -> None:
        self.items = items
        self._side, self._rows, self._group_of = side, rows, group_of
        count = int(max(group_of.max(initial=-1), groups.max(initial=-1))) + 1
        self._sizes_G = np.bincount(groups, minlength=count)
        self._starts_G = np.cumsum(self._sizes_G) - self._sizes_G
        self._in_product = self._sizes_G * np.bincount(group_of, minlength=count) > _WORTH_A_PRODUCT

    def parts(self) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
        """Queries (places in `rows`), and pairs of a place in those, sorted, and a place in `items`: all that may be
        the query's best."""
        alone = np.flatnonzero(~self._in_product[self._group_of])
        yield alone, *self._all_pairs(alone)
        order = np.argsort(self._group_of, kind="stable")
        for group in map(int, np.flatnonzero(self._in_product)):
            begin, end = np.searchsorted(self._group_of[order], [group, group + 1])
            for at in range(int(begin), int(end), _ROWS_OF_A_PRODUCT):
                queries = order[at : min(at + _ROWS_OF_A_PRODUCT, int(end))]
                yield queries, *self._close_pairs(queries, group)

    def _all_pairs(self, queries: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        counts = self._sizes_G[self._group_of[queries]]
        index = np.repeat(np.arange(len(queries)), counts)
        within = np.arange(len(index)) - np.repeat(np.cumsum(counts) - counts, counts)
        return index, np.repeat(self._starts_G[self._group_of[queries]], counts) + within

    def _close_pairs(self, queries: np.ndarray, group: int) -> tuple[np.ndarray, np.ndarray]:
        entry = int(self._starts_G[group]) + np.arange(int(self._sizes_G[group]))
        rows = self._rows[queries]
        scores = self._side.query_NE[rows] @ self._side.gallery_ME[self.items[entry]].T
        index, place = np.nonzero(scores >= (scores.max(axis=1) - 2 * self._side.slack_N[rows])[:, None])
        return index, entry[place]


def _count_columns(mask_BM: np.ndarray) -> np.ndarray:
    """How many are true in each column; NumPy adds bytes to bytes many times faster than bytes to longer numbers."""
    parts = [mask_BM[at : at + _COUNTED].view(np.uint8) for at in range(0, len(mask_BM), _COUNTED)]
    return sum((np.add.reduce(part, axis=0, dtype=np.uint8) for part in parts), np.zeros(mask_BM.shape[1], np.int64))
