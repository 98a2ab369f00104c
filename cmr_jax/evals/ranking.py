"""Where the first relevant item stands for each query, with exact ties and no N x N matrix.

Two scores are equal or not by one definition: the *exact score* of a pair is the sum over E of the products in the
dtype of the embeddings, always added in the same order (`exact_scores`). A matrix product adds in an order that depends
on the block, the thread and the BLAS, so it only decides the pairs whose scores differ by more than its rounding error
can explain; the few others are decided by their exact scores. The outcome is the same whatever the block, and equal
rows are equal scores.

Relevance and exclusion are both "equal ids": an item is relevant to a query when their ids of a grouping agree, and is
not in its gallery at all when their ids of `leave_out` agree (the studies of the query's own patient).

NumPy only. Letters: N queries, M items of the gallery, E embedding, B queries of a block.
"""

import dataclasses
from collections.abc import Callable, Iterable, Sequence

import numpy as np

from cmr_jax.errors import InputError

_FEW_PAIRS = 4096

# The id of each query and the id of each item (N and M); one array alone stands for both.
Grouping = np.ndarray | tuple[np.ndarray, np.ndarray]


@dataclasses.dataclass(frozen=True)
class Ranks:
    """For each query, with s its best score among relevant items (all int64, shape N).

    above_N: irrelevant items scored above s. tied_N: irrelevant items scored exactly s. hits_N: relevant items scored
    exactly s; 0 where nothing in the gallery is relevant, and then every figure of the query is NaN.
    """

    above_N: np.ndarray
    tied_N: np.ndarray
    hits_N: np.ndarray

    def expected_rank(self) -> np.ndarray:
        """Expected rank of the first hit over random orders of the ties, from 1: g + (t + r + 1) / (r + 1)."""
        return np.where(self.hits_N, self.above_N + (self.tied_N + self.hits_N + 1) / (self.hits_N + 1), np.nan)

    def hit_probability(self, k: int) -> np.ndarray:
        """P(rank of the first hit <= k) = 1 - C(t, m) / C(t + r, m), m = min(max(k - g, 0), t + r)."""
        pool = self.tied_N + self.hits_N
        draws = np.clip(k - self.above_N, 0, pool)
        miss = np.ones(len(pool))
        for i in range(int(draws.max(initial=0))):
            drawn = i < draws
            miss[drawn] *= np.maximum(self.tied_N - i, 0)[drawn] / (pool - i)[drawn]
        return np.where(self.hits_N, 1.0 - miss, np.nan)

    def expected_reciprocal(self) -> np.ndarray:
        """Expectation of 1 / rank of the first hit.

        The first hit is the y-th of the t + r tied items with P(y) = C(t + r - y, r - 1) / C(t + r, r), y = 1..t + 1;
        so P(1) = r / (t + r), P(y + 1) / P(y) = (t + 1 - y) / (t + r - y), and the expectation is sum P(y) / (g + y).
        """
        triples, inverse = np.unique(np.stack([self.above_N, self.tied_N, self.hits_N], 1), axis=0, return_inverse=True)
        out = np.empty(len(triples))
        for row, (above, tied, hits) in enumerate(triples):
            if not hits:
                out[row] = np.nan
                continue
            y = np.arange(1, tied + 1)
            steps = np.concatenate([[hits], tied + 1 - y]) / np.concatenate([[tied + hits], tied + hits - y])
            out[row] = np.sum(np.cumprod(steps) / (above + np.arange(1, tied + 2)))
        return out[inverse.reshape(-1)]


def chance_ranks(grouping: Grouping, leave_out: Grouping | None = None) -> Ranks:
    """The ranks of random scores: every item of the gallery is tied, and those of the query's group are its hits."""
    groups = pair(grouping)
    hits_N, gallery_N = _count_equal(*groups), np.full(len(groups[0]), len(groups[1]))
    if leave_out is not None:
        apart = pair(leave_out)
        gallery_N -= _count_equal(*apart)
        both = [np.stack([codes(*groups)[side], codes(*apart)[side]], 1) for side in (0, 1)]
        rows, inverse = np.unique(np.concatenate(both), axis=0, return_inverse=True)
        inverse = inverse.reshape(-1)
        hits_N = hits_N - np.bincount(inverse[len(both[0]) :], minlength=len(rows))[inverse[: len(both[0])]]
    return Ranks(np.zeros_like(hits_N), np.where(hits_N, gallery_N - hits_N, 0), hits_N)


def check_embeddings(name: str, rows_NE: np.ndarray) -> None:
    """Raises InputError where `rows_NE` is not a float matrix, naming the rows that hold NaN or infinity."""
    if rows_NE.ndim != 2 or 0 in rows_NE.shape or rows_NE.dtype not in (np.float32, np.float64):
        raise InputError(
            f"{name} embeddings must be a float32 matrix of studies x features, not {rows_NE.dtype} {rows_NE.shape}"
        )
    bad = np.flatnonzero(~np.isfinite(rows_NE).all(axis=1))
    if len(bad):
        shown = ", ".join(map(str, bad[:10])) + (", …" if len(bad) > 10 else "")
        raise InputError(
            f"{name} embeddings hold NaN or infinity in {len(bad)} of {len(rows_NE)} rows (counted from 0): {shown}; "
            "embed these studies again or leave them out"
        )


def exact_scores(query_PE: np.ndarray, gallery_PE: np.ndarray) -> np.ndarray:
    """Scores of P pairs (row p with row p), each added in the same order whatever P is."""
    return np.multiply(query_PE, gallery_PE, order="C").sum(axis=-1)


def rank_queries(
    query_NE: np.ndarray,
    gallery_ME: np.ndarray,
    groupings: Sequence[Grouping],
    *,
    leave_out: Grouping | None = None,
    block: int = 128,
    watch: Callable[[Iterable[int]], Iterable[int]] = iter,
) -> list[Ranks]:
    """The ranks of each row of `query_NE` among the rows of `gallery_ME`, once for each grouping.

    Args:
      query_NE, gallery_ME: float32 or float64, finite.
      groupings: ids of queries and items; an item with the query's id is relevant to it.
      leave_out: ids too; an item with the query's id is not in its gallery.
      block: queries scored at a time; bounds the memory (block x M scores) and never changes the result.
      watch: wraps the loop over blocks, for a progress display.
    """
    dtype = np.result_type(query_NE, gallery_ME)
    pairs = Pairs(np.ascontiguousarray(query_NE, dtype), np.ascontiguousarray(gallery_ME, dtype))
    return rank_rows(pairs, np.arange(len(query_NE)), groupings, leave_out=leave_out, block=block, watch=watch)


def rank_rows(
    pairs: "Pairs",
    rows_N: np.ndarray,
    groupings: Sequence[Grouping],
    *,
    leave_out: Grouping | None = None,
    block: int = 128,
    watch: Callable[[Iterable[int]], Iterable[int]] = iter,
) -> list[Ranks]:
    """`rank_queries` of the queries `rows_N` alone; the ids are those of all."""
    apart = None if leave_out is None else Members(leave_out)
    members = [Members(grouping) for grouping in groupings]
    found: list[list[np.ndarray]] = [[] for _ in groupings]
    first = (np.zeros(0, np.int64), np.zeros(0, np.int64))
    for start in watch(range(0, len(rows_N), block)):
        rows_B = rows_N[start : start + block]
        scores_BM = pairs.query_NE[rows_B] @ pairs.gallery_ME.T
        if apart is not None:
            scores_BM[apart.of(rows_B)] = -np.inf
        for place, (member, out) in enumerate(zip(members, found, strict=True)):
            relevant = member.of(rows_B)
            if not place:
                first = relevant
                out.append(_rank_block(pairs, relevant, rows_B, scores_BM))
                continue
            # Most reports are nobody else's: where the same items are relevant, the ranks are those of the first.
            ranks, other = found[0][-1].copy(), _where_other(first, relevant, len(rows_B))
            if len(other):
                ranks[:, other] = _rank_block(pairs, _only(relevant, other), rows_B[other], scores_BM[other])
            out.append(ranks)
    return [Ranks(*np.concatenate(parts, axis=1)) for parts in found]


class Pairs:
    """Exact scores of any (query row, gallery row), and how far a matrix product may be from them."""

    def __init__(self, query_NE: np.ndarray, gallery_ME: np.ndarray):
        self.query_NE, self.gallery_ME = query_NE, gallery_ME
        self.distinct = distinct_rows(gallery_ME)
        limits, terms = np.finfo(query_NE.dtype), query_NE.shape[1]
        norms, largest = _lengths(query_NE), _lengths(gallery_ME).max()
        if norms.max() * largest > limits.max / 4:
            raise InputError("embeddings are too large to multiply: scale them to unit length")
        # Both sums are within gamma = n u / (1 - n u) times |x| |y| of the true value, in any order of addition
        # (Higham, Accuracy and Stability of Numerical Algorithms, section 3.1); 1.01 and `tiny` cover the rest.
        unit = limits.eps / 2 * terms
        self.slack_N = 2.02 * unit / (1 - unit) * norms * largest + 4 * terms * float(limits.tiny)

    def exact(self, rows_B: np.ndarray, index_P: np.ndarray, items_P: np.ndarray) -> np.ndarray:
        """Exact scores of the queries `rows_B[index_P]` with the items `items_P`."""
        if len(items_P) <= _FEW_PAIRS:
            return exact_scores(self.query_NE[rows_B[index_P]], self.gallery_ME[items_P])
        # Items with equal rows are scored once: with thousands of identical reports they are most of the pairs.
        keys = index_P * len(self.distinct[0]) + self.distinct[1][items_P]
        place = np.zeros(len(rows_B) * len(self.distinct[0]), np.int32)
        place[keys] = 1
        wanted = np.flatnonzero(place)
        place[wanted] = np.arange(len(wanted))
        index, distinct = np.divmod(wanted, len(self.distinct[0]))
        rows, items = rows_B[index], self.distinct[0][distinct]
        return self.exact_each(rows, items)[place[keys]]

    def exact_each(self, rows_P: np.ndarray, items_P: np.ndarray) -> np.ndarray:
        """Exact scores of P pairs of a query and an item, a few at a time."""
        out = np.empty(len(rows_P), self.query_NE.dtype)
        for start in range(0, len(rows_P), _FEW_PAIRS):
            part = slice(start, start + _FEW_PAIRS)
            out[part] = exact_scores(self.query_NE[rows_P[part]], self.gallery_ME[items_P[part]])
        return out


class Members:
    """The items of each query's group, as runs of one sorted array."""

    def __init__(self, grouping: Grouping):
        self._query_N, item_M = codes(*pair(grouping))
        self._order = np.argsort(item_M, kind="stable")
        self._counts = np.bincount(item_M, minlength=int(self._query_N.max(initial=-1)) + 1)
        self._starts = np.cumsum(self._counts) - self._counts

    def of(self, rows_B: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Pairs (index into `rows_B`, item of its group), sorted by the first."""
        counts = self._counts[self._query_N[rows_B]]
        index = np.repeat(np.arange(len(rows_B)), counts)
        within = np.arange(len(index)) - np.repeat(np.cumsum(counts) - counts, counts)
        return index, self._order[np.repeat(self._starts[self._query_N[rows_B]], counts) + within]


def _lengths(rows_NE: np.ndarray) -> np.ndarray:
    """The length of each row, float64, without a copy of them all in it."""
    parts = [rows_NE[at : at + _FEW_PAIRS].astype(np.float64) for at in range(0, len(rows_NE), _FEW_PAIRS)]
    return np.concatenate([np.linalg.norm(part, axis=1) for part in parts])


def pair(grouping: Grouping) -> tuple[np.ndarray, np.ndarray]:
    """The ids of the queries and of the items."""
    return grouping if isinstance(grouping, tuple) else (grouping, grouping)


def codes(query_N: np.ndarray, item_M: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Equal small numbers for equal ids."""
    _, inverse = np.unique(np.concatenate([query_N, item_M]), return_inverse=True)
    return np.split(inverse.reshape(-1), [len(query_N)])[0], inverse.reshape(-1)[len(query_N) :]


def _count_equal(query_N: np.ndarray, item_M: np.ndarray) -> np.ndarray:
    """How many items have the id of each query."""
    query, item = codes(query_N, item_M)
    return np.bincount(item, minlength=int(query.max(initial=-1)) + 1)[query]


def _where_other(one: tuple[np.ndarray, np.ndarray], two: tuple[np.ndarray, np.ndarray], size: int) -> np.ndarray:
    """The queries of a block that have not the very same single item in both lists of pairs."""
    single = [np.full(size, -1 - place) for place in (0, 1)]
    for item_B, (index, items) in zip(single, (one, two), strict=True):
        alone = np.bincount(index, minlength=size)[index] == 1
        item_B[index[alone]] = items[alone]
    return np.flatnonzero(single[0] != single[1])


def _only(pairs: tuple[np.ndarray, np.ndarray], rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The pairs of the queries `rows` (in order), which are counted anew from 0."""
    index, items = pairs
    place = np.full(max(int(index.max(initial=-1)), int(rows.max(initial=-1))) + 1, -1)
    place[rows] = np.arange(len(rows))
    kept = place[index] >= 0
    return place[index[kept]], items[kept]


def count_rows(mask_BM: np.ndarray) -> np.ndarray:
    """How many are true in each row; row by row NumPy counts ten times faster than along an axis."""
    return np.fromiter(map(np.count_nonzero, mask_BM), np.int64, len(mask_BM))


def segment_best(values: np.ndarray, index: np.ndarray, size: int, empty: float) -> np.ndarray:
    """The largest of the values of each index (sorted); `empty` where there are none."""
    out = np.full(size, empty, values.dtype)
    starts = np.flatnonzero(np.diff(index, prepend=-1))
    if len(starts):
        out[index[starts]] = np.maximum.reduceat(values, starts)
    return out


def _rank_block(
    pairs: Pairs, relevant: tuple[np.ndarray, np.ndarray], rows_B: np.ndarray, scores_BM: np.ndarray
) -> np.ndarray:
    size, slack_B = len(rows_B), pairs.slack_N[rows_B]
    index, items = relevant
    approximate = scores_BM[index, items].astype(np.float64)
    top_B = segment_best(approximate, index, size, np.inf)
    close = approximate >= (top_B - 2 * slack_B)[index]
    # What is left out of the gallery scores -inf; where nothing else is relevant, so does the best of them.
    close &= approximate > -np.inf
    index, items = index[close], items[close]
    exact = pairs.exact(rows_B, index, items)
    # A query without a relevant item ranks against +inf, so that nothing is above it and nothing ties.
    best_B = segment_best(exact, index, size, np.inf)
    hits_B = np.bincount(index[exact == best_B[index]], minlength=size)

    infinity = scores_BM.dtype.type(np.inf)
    high_B = np.nextafter((best_B + slack_B).astype(scores_BM.dtype), infinity)
    low_B = np.nextafter((best_B - slack_B).astype(scores_BM.dtype), -infinity)
    # A relevant item is never above best + slack, so what is above is irrelevant.
    above_BM = scores_BM > high_B[:, None]
    above_B = count_rows(above_BM)
    level_B = hits_B.copy()
    near_BM = scores_BM >= low_B[:, None]
    # Most queries have nothing in doubt but the relevant items that were settled above.
    settled_B = np.bincount(index[scores_BM[index, items] >= low_B[index]], minlength=size)
    open_B = np.flatnonzero(count_rows(near_BM) - above_B > settled_B)
    if len(open_B):
        row, items = np.nonzero(near_BM[open_B] ^ above_BM[open_B])
        index = open_B[row]
        exact = pairs.exact(rows_B, index, items)
        above_B += np.bincount(index[exact > best_B[index]], minlength=size)
        level_B[open_B] = np.bincount(index[exact == best_B[index]], minlength=size)[open_B]
    return np.stack([above_B, level_B - hits_B, hits_B])


def distinct_rows(rows_NE: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The first of each set of equal rows, and for every row which set it is in; -0 equals 0."""
    known: dict[bytes, int] = {}
    sets = [known.setdefault((row + 0.0).tobytes(), len(known)) for row in rows_NE]
    _, first = np.unique(sets, return_index=True)
    return first, np.array(sets, np.int64)
