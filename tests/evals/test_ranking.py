import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cmr_jax.errors import InputError
from cmr_jax.evals import ranking
from cmr_jax.evals.ranking import Ranks, chance_ranks, rank_queries
from tests.evals.synthetic import unit


def brute_force(scores: np.ndarray, relevant: np.ndarray, depths: list[int]) -> tuple[float, float, list[float]]:
    """Expected rank, expected 1 / rank and P(rank <= k) of the first hit over every order of the items."""
    ranks = []
    for order in itertools.permutations(range(len(scores))):
        ranked = sorted(order, key=lambda item: -scores[item])  # stable: ties stay in the order of the permutation
        ranks.append(1 + next(place for place, item in enumerate(ranked) if relevant[item]))
    found = np.array(ranks)
    return found.mean(), (1 / found).mean(), [float((found <= k).mean()) for k in depths]


def by_definition(
    query: np.ndarray, gallery: np.ndarray, group: np.ndarray, item_group: np.ndarray | None = None
) -> Ranks:
    out = []
    for row in range(len(query)):
        scores = ranking.exact_scores(np.repeat(query[row : row + 1], len(gallery), 0), gallery)
        mine = (group if item_group is None else item_group) == group[row]
        if not mine.any():
            out.append((0, 0, 0))
            continue
        best = scores[mine].max()
        out.append(((scores > best).sum(), (scores[~mine] == best).sum(), (scores[mine] == best).sum()))
    return Ranks(*np.array(out).T)


def assert_same(found: Ranks, expected: Ranks) -> None:
    for name in ("above_N", "tied_N", "hits_N"):
        np.testing.assert_array_equal(getattr(found, name), getattr(expected, name), err_msg=name)


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 6).flatmap(lambda n: st.tuples(
    st.lists(st.tuples(st.integers(-1, 1), st.integers(-1, 1)), min_size=n, max_size=n),
    st.lists(st.tuples(st.integers(-1, 1), st.integers(-1, 1)), min_size=n, max_size=n),
    st.lists(st.integers(0, 2), min_size=n, max_size=n))))  # fmt: skip
def test_agrees_with_an_oracle_that_permutes_ties(case):
    query, gallery, group = (np.array(part) for part in case)
    depths = [1, 2, 3, 50]
    (found,) = rank_queries(query.astype(np.float32), gallery.astype(np.float32), [group])
    for row in range(len(query)):
        rank, reciprocal, recall = brute_force(gallery @ query[row], group == group[row], depths)
        assert found.expected_rank()[row] == pytest.approx(rank)
        assert found.expected_reciprocal()[row] == pytest.approx(reciprocal)
        assert [found.hit_probability(k)[row] for k in depths] == pytest.approx(recall)


def rows_of(count: int):
    return st.lists(st.tuples(st.integers(-1, 1), st.integers(-1, 1)), min_size=count, max_size=count)


def ids_of(count: int):
    return st.lists(st.integers(0, 2), min_size=count, max_size=count)


@settings(max_examples=60, deadline=None)
@given(st.tuples(st.integers(1, 4), st.integers(1, 6)).flatmap(lambda shape: st.tuples(
    rows_of(shape[0]), rows_of(shape[1]), ids_of(shape[0]), ids_of(shape[1]), ids_of(shape[0]),
    ids_of(shape[1]))))  # fmt: skip
def test_rectangular_many_to_many_with_items_left_out_agrees_with_the_oracle(case):
    query, gallery, group, item_group, apart, item_apart = (np.array(part) for part in case)
    depths = [1, 2, 3, 50]
    leave_out = (apart, item_apart)
    (found,) = rank_queries(
        query.astype(np.float32), gallery.astype(np.float32), [(group, item_group)], leave_out=leave_out, block=2
    )
    chance = chance_ranks((group, item_group), leave_out)
    for row in range(len(query)):
        here = item_apart != apart[row]
        relevant = (item_group == group[row])[here]
        for ranks, scores in ((found, gallery[here] @ query[row]), (chance, np.zeros(here.sum()))):
            got = [ranks.expected_rank()[row], ranks.expected_reciprocal()[row]]
            got += [ranks.hit_probability(k)[row] for k in depths]
            if relevant.any():
                rank, reciprocal, recall = brute_force(scores, relevant, depths)
                assert got == pytest.approx([rank, reciprocal, *recall])
            else:
                assert np.isnan(got).all()


@pytest.mark.parametrize("spread", [1.0, 1e-6])
def test_every_block_gives_the_same_ranks(spread):
    # With the small spread all scores lie within the rounding error of a matrix product.
    rng = np.random.default_rng(1)
    n, e = 150, 96
    query = unit(np.ones(e) + spread * rng.standard_normal((n, e)))
    gallery = unit(np.ones(e) + spread * rng.standard_normal((n, e)))
    gallery[40:90] = gallery[40]
    gallery[100] = gallery[3]
    group = rng.integers(60, size=n)
    expected = [by_definition(query, gallery, each) for each in (np.arange(n), group)]
    assert expected[0].tied_N.max() >= 49
    for block in (1, 7, 64, n):
        for found, want in zip(rank_queries(query, gallery, [np.arange(n), group], block=block), expected, strict=True):
            assert_same(found, want)


def test_many_doubtful_pairs_take_the_path_that_scores_equal_rows_once():
    rng = np.random.default_rng(2)
    gallery = unit(rng.standard_normal((300, 8)))
    gallery[50:250] = gallery[50]
    gallery[20:40] = -gallery[50]
    query = unit(rng.standard_normal((300, 8)))
    query[60:] = query[60]
    group = np.arange(300) // 2
    assert_same(rank_queries(query, gallery, [group])[0], by_definition(query, gallery, group))


def test_scores_one_bit_apart_are_no_tie():
    below = np.nextafter(np.float32(1), np.float32(0))
    image = np.array([[1, 0], [1, 0]], np.float32)
    text = np.array([[1, 0], [below, 0]], np.float32)
    (found,) = rank_queries(image, text, [np.arange(2)])
    np.testing.assert_array_equal(found.expected_rank(), [1, 2])
    np.testing.assert_array_equal(found.tied_N, [0, 0])


def test_negative_zero_equals_zero():
    image, text = np.array([[1.0], [1.0]], np.float32), np.array([[0.0], [-0.0]], np.float32)
    np.testing.assert_array_equal(rank_queries(image, text, [np.arange(2)])[0].tied_N, [1, 1])


def test_chance_is_the_rank_of_a_constant_score():
    group = np.array([0, 0, 0, 1, 2])
    flat = np.ones((5, 3), np.float32)
    assert_same(chance_ranks(group), rank_queries(flat, flat, [group])[0])


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_rows_that_are_not_finite_are_named(bad):
    rows = np.ones((30, 2), np.float32)
    rows[[4, 17], 1] = bad
    with pytest.raises(InputError, match=r"image embeddings hold NaN or infinity in 2 of 30 rows.*: 4, 17;"):
        ranking.check_embeddings("image", rows)


def test_embeddings_whose_scores_would_overflow_are_refused():
    huge = np.full((3, 2), 1e30, np.float32)
    with pytest.raises(InputError, match="unit length"):
        rank_queries(huge, huge, [np.arange(3)])
