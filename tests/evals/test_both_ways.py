"""Both directions at once say what the definition says of each."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cmr_jax.evals import both_ways
from cmr_jax.evals.both_ways import rank_both
from cmr_jax.evals.ranking import rank_queries
from tests.evals.synthetic import unit
from tests.evals.test_ranking import assert_same, by_definition, ids_of, rows_of


@settings(max_examples=80, deadline=None)
@given(st.tuples(st.integers(1, 5), st.integers(1, 6)).flatmap(lambda shape: st.tuples(
    rows_of(shape[0]), rows_of(shape[1]), ids_of(shape[0]), ids_of(shape[1]), st.integers(1, 6))))  # fmt: skip
def test_agrees_with_the_definition_for_rectangular_many_to_many_inputs_full_of_ties(case):
    one, two, group, item_group, block = case
    one, two = np.array(one, np.float32), np.array(two, np.float32)
    grouping = (np.array(group), np.array(item_group))
    plain = (np.arange(len(one)), np.arange(len(two)))
    for wanted, (there, back) in zip(
        [plain, grouping], zip(*rank_both(one, two, [plain, grouping], block=block), strict=True), strict=True
    ):
        assert_same(there, by_definition(one, two, *wanted))
        assert_same(back, by_definition(two, one, *wanted[::-1]))


@pytest.mark.parametrize("spread", [1.0, 1e-6])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("worth", [1, 10_000])
@pytest.mark.parametrize("worth_exact", [1, 20, 10_000])
def test_every_block_and_way_to_the_best_gives_the_same_ranks(spread, dtype, worth, worth_exact, monkeypatch):
    # With the small spread all scores lie within the rounding error of a matrix product.
    monkeypatch.setattr(both_ways, "_WORTH_A_PRODUCT", worth)
    monkeypatch.setattr(both_ways, "_ROWS_OF_A_PRODUCT", 7)
    monkeypatch.setattr(both_ways, "_WORTH_EXACT", worth_exact)
    rng = np.random.default_rng(1)
    n, e = 150, 96
    one, two = (unit(np.ones(e) + spread * rng.standard_normal((n, e))).astype(dtype) for _ in range(2))
    two[40:90] = two[40]
    two[100] = two[3]
    one[20:50] = one[20]
    groups = [np.arange(n), rng.integers(20, size=n), np.where(np.arange(n) < 70, -1, np.arange(n))]
    wanted = [[by_definition(a, b, each) for each in groups] for a, b in ((one, two), (two, one))]
    for block in (1, 64, 2 * n):
        for found, want in zip(rank_both(one, two, groups, block=block), wanted, strict=True):
            for each, expected in zip(found, want, strict=True):
                assert_same(each, expected)


def test_it_leaves_few_queries_to_the_slow_way(monkeypatch):
    # Half of the reports are one and the same: equal rows are known to tie and are not compared pair by pair.
    asked = []
    slow = both_ways.ranking.rank_rows

    def counted(side, rows, ids, **more):
        asked.append(len(rows))
        return slow(side, rows, ids, **more)

    monkeypatch.setattr(both_ways.ranking, "rank_rows", counted)
    rng = np.random.default_rng(0)
    text = rng.standard_normal((600, 64)).astype(np.float32)
    text[:300] = text[0]
    image, text = unit(text + rng.standard_normal((600, 64))), unit(text)
    hashes = np.maximum(np.arange(600) - 300, -1)
    there, back = rank_both(image, text, [np.arange(600), hashes])
    assert sum(asked) < 60
    monkeypatch.undo()
    for found, (one, two) in ((there, (image, text)), (back, (text, image))):
        for each, want in zip(found, rank_queries(one, two, [np.arange(600), hashes]), strict=True):
            assert_same(each, want)


def test_equal_queries_in_doubt_are_ranked_without_a_product_of_their_own(monkeypatch):
    # One report for all, and images that no product can tell apart: every report is in doubt.
    rng = np.random.default_rng(2)
    image = unit(np.ones(64) + 1e-6 * rng.standard_normal((150, 64))).astype(np.float32)
    text = np.repeat(image[:1], 150, axis=0)
    groups = [np.arange(150), np.arange(150) // 3]
    wanted = [rank_queries(text, image, groups), rank_queries(image, text, groups)]
    monkeypatch.setattr(both_ways.ranking, "rank_rows", lambda *_, **__: pytest.fail("was asked query by query"))
    for found, want in zip(rank_both(text, image, groups), wanted, strict=True):
        for each, expected in zip(found, want, strict=True):
            assert_same(each, expected)


def test_queries_with_equal_rows_and_equal_best_are_counted_once(monkeypatch):
    columns = []
    count = both_ways._count_columns

    def counted(mask):
        columns.append(mask.shape[1])
        return count(mask)

    monkeypatch.setattr(both_ways, "_count_columns", counted)
    rng = np.random.default_rng(3)
    text = rng.standard_normal((300, 32)).astype(np.float32)
    text[:200] = text[0]
    image, text = unit(text + rng.standard_normal((300, 32))), unit(text)
    rank_both(image, text, [np.arange(300), np.maximum(np.arange(300) - 199, 0)])
    assert columns == [300, 300, 1, 1]  # above and near, plain; then of all equal reports once


def test_one_product_serves_both_directions(monkeypatch):
    # Counted, not timed: scores of N x M once, beside those of the doubtful queries.
    class Counted(np.ndarray):
        scored = 0

        def __array_ufunc__(self, ufunc, method, *inputs, **more):
            plain = [np.asarray(each) for each in inputs]
            if ufunc is np.matmul:
                Counted.scored += len(plain[0]) * plain[1].shape[1]
            return getattr(ufunc, method)(*plain, **more)

    rng = np.random.default_rng(0)
    one, two = (unit(rng.standard_normal((400, 32))) for _ in range(2))
    keep = np.ascontiguousarray
    monkeypatch.setattr(both_ways.np, "ascontiguousarray", lambda *args: keep(*args).view(Counted))
    rank_both(one, two, [np.arange(400)])
    assert 400 * 400 <= Counted.scored < 1.5 * 400 * 400
