import itertools

import numpy as np
import pytest
from sklearn.metrics import average_precision_score, ndcg_score

from cmr_jax.evals import by_label


def brute_force(scores: list[int], gain: np.ndarray) -> list[float]:
    """mAP, P@10, nDCG@10 averaged over every order of the tied items."""
    runs = [[item for item, each in enumerate(scores) if each == level] for level in sorted(set(scores), reverse=True)]
    ideal = sorted(gain, reverse=True)[:10]
    discount = 1 / np.log2(np.arange(10) + 2)
    seen = []
    for orders in itertools.product(*(itertools.permutations(run) for run in runs)):
        ranked = gain[[item for run in orders for item in run]]
        hits = ranked == 1
        precision = (np.cumsum(hits) / np.arange(1, len(hits) + 1))[hits].mean()
        top = ranked[:10]
        seen.append(
            [
                precision,
                hits[:10].sum() / 10,
                (top * discount[: len(top)]).sum() / (ideal * discount[: len(ideal)]).sum(),
            ]
        )
    return np.mean(seen, axis=0).tolist()


@pytest.mark.parametrize("seed", range(6))
def test_agrees_with_an_oracle_that_permutes_ties(seed):
    rng = np.random.default_rng(seed)
    n = int(rng.integers(4, 14))
    # Runs of at most four ties, one of them across the tenth place.
    scores = [1, 1, 2, 3, 3, 4, 5, 9, 9, 9, 6, 7, 8][:n] if seed % 2 else [9, 8, 2, 2, 2, 2, 7, 6, 5, 4, 3, 3, 1][:n]
    codes = rng.integers(2, size=(n, 2))
    gallery = np.array(scores, np.float32)[:, None]
    found, _ = by_label.measure(np.ones((n, 1), np.float32), gallery, codes)
    for row in range(n):
        gain = (codes == codes[row]).mean(axis=1)
        assert [found[name][row] for name in by_label.MEASURES] == pytest.approx(brute_force(scores, gain))


def test_chance_is_the_expectation_of_constant_scores():
    rng = np.random.default_rng(0)
    codes, patients = rng.integers(3, size=(30, 2)), np.arange(30) // 2
    flat = np.ones((30, 4), np.float32)
    scored, chance = by_label.measure(flat, flat, codes, leave_out=patients)
    for name in by_label.MEASURES:
        np.testing.assert_allclose(scored[name], chance[name], rtol=1e-12)
        assert np.isfinite(chance[name]).any()


def test_without_ties_it_is_what_scikit_learn_says():
    rng = np.random.default_rng(1)
    query, gallery = rng.standard_normal((2, 90, 5)).astype(np.float32)
    codes = rng.integers(3, size=(90, 1))
    found, _ = by_label.measure(query, gallery, codes)
    scores = query @ gallery.T
    for row in range(90):
        relevant = (codes[:, 0] == codes[row, 0]).astype(float)
        assert found["mAP"][row] == pytest.approx(average_precision_score(relevant, scores[row]), abs=1e-12)
        assert found["nDCG@10"][row] == pytest.approx(ndcg_score(relevant[None], scores[row][None], k=10), abs=1e-12)


def test_a_query_without_a_relevant_item_does_not_count():
    rng = np.random.default_rng(2)
    rows = rng.standard_normal((5, 3)).astype(np.float32)
    found, chance = by_label.measure(rows, rows, np.array([[0], [0], [0], [1], [0]]), leave_out=np.arange(5))
    for values in (*found.values(), *chance.values()):
        np.testing.assert_array_equal(np.isnan(values), [False, False, False, True, False])


def test_equal_rows_tie_exactly_however_far_apart_they_stand():
    rng = np.random.default_rng(3)
    gallery = rng.standard_normal((200, 33)).astype(np.float32)
    gallery[::7] = gallery[0]
    codes = (np.arange(200)[:, None] % 7 == 0).astype(int)
    codes[::14] = 2
    found, _ = by_label.measure(gallery, gallery, codes)
    order = rng.permutation(200)
    again, _ = by_label.measure(gallery[order], gallery[order], codes[order])
    for name in by_label.MEASURES:
        np.testing.assert_allclose(again[name], found[name][order], rtol=1e-9)


@pytest.mark.parametrize("seed", range(4))
def test_other_items_than_queries_with_some_left_out_agree_with_the_oracle(seed):
    rng = np.random.default_rng(seed)
    scores = [1, 1, 2, 3, 3, 4, 5, 9, 9, 9, 6, 7, 8, 2]
    gallery = np.array(scores, np.float32)[:, None]
    queries, items = rng.integers(2, size=(3, 3)), rng.integers(2, size=(14, 3))
    apart = (np.array([0, 1, 2]), rng.integers(5, size=14))
    found, chance = by_label.measure(np.ones((3, 1), np.float32), gallery, queries, items, leave_out=apart)
    flat, _ = by_label.measure(np.ones((3, 1), np.float32), np.ones_like(gallery), queries, items, leave_out=apart)
    for row in range(3):
        here = np.flatnonzero(apart[1] != apart[0][row])
        gain = (items[here] == queries[row]).mean(axis=1)
        got = [found[name][row] for name in by_label.MEASURES]
        if (gain == 1).any():
            assert got == pytest.approx(brute_force([scores[item] for item in here], gain))
        else:
            assert np.isnan(got).all()
        assert [chance[name][row] for name in by_label.MEASURES] == pytest.approx(
            [flat[name][row] for name in by_label.MEASURES], nan_ok=True
        )
