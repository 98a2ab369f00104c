import dataclasses

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from cmr_jax.errors import InputError
from cmr_jax.evals import classification, compare, delong, groups
from tests.evals.synthetic import embeddings, relabel, unit


def by_pairs(truth, one, two):
    """DeLong's variance from the definition: every pair of a positive and a negative."""
    wins = [(s[truth][:, None] > s[~truth]).astype(float) + 0.5 * (s[truth][:, None] == s[~truth]) for s in (one, two)]
    v10, v01 = (np.stack([w.mean(axis=axis) for w in wins]) for axis in (1, 0))
    s = np.cov(v10) / truth.sum() + np.cov(v01) / (~truth).sum()
    return wins[0].mean() - wins[1].mean(), np.sqrt(s[0, 0] + s[1, 1] - 2 * s[0, 1])


@pytest.mark.parametrize("digits", [1, 6])
def test_delong_is_the_formula_over_all_pairs(digits):
    rng = np.random.default_rng(0)
    truth = rng.random(80) < 0.4
    one, two = (np.round(rng.standard_normal(80) + each * truth, digits) for each in (1.0, 0.4))
    found = delong.compare(truth, one, two)
    difference, error = by_pairs(truth, one, two)
    assert (found["difference"], found["se"]) == pytest.approx((difference, error))
    assert found["difference"] == pytest.approx(roc_auc_score(truth, one) - roc_auc_score(truth, two))


def test_delong_of_equal_models_is_rarely_small():
    rng, small = np.random.default_rng(1), 0
    for _ in range(300):
        truth = rng.random(120) < 0.5
        base = rng.standard_normal(120) + truth
        one, two = (base + 0.7 * rng.standard_normal(120) for _ in range(2))
        small += delong.compare(truth, one, two)["p"] < 0.05
    assert 3 <= small <= 29
    assert delong.compare(truth, base, base)["p"] == 1
    assert np.isnan(delong.compare(np.array([True, False]), base[:2], base[:2])["p"])


def test_a_better_model_is_found_better_in_both_ways():
    better = embeddings(n=800, signal=0.8)
    noise = np.random.default_rng(1).standard_normal(better.image_NE.shape) / 3
    worse = dataclasses.replace(better, image_NE=unit(better.image_NE + noise))
    shuffled = worse.take(np.random.default_rng(0).permutation(800))
    one, two, notes = compare.align(better, relabel(shuffled, row=[str(row) for row in range(800)]))
    np.testing.assert_array_equal(two.image_NE, worse.image_NE)
    mine, theirs = (classification.evaluate(each, ["group"], protocols=["linear"], draws=0) for each in (one, two))
    found = compare.differences(mine, theirs, one, draws=200, seed=0)
    key = "linear/group/AUROC"
    assert found[f"other/{key}"] == pytest.approx(theirs.figures[key])
    low, high = found[f"difference/{key}/ci95"]
    assert 0 < low <= found[f"difference/{key}"] <= high and found[f"difference/{key}/p"] < 0.05
    assert 0 <= found["difference/linear/group/normal/AUROC/delong_p"] < 0.5
    assert "compared on the 800 studies" in notes[0]


def test_groups_are_scored_apart_and_small_ones_only_counted():
    source = relabel(
        embeddings(signal=0.5), sex=["F", "M"] * 200, age=[f"{30 + 7 * row % 60}" for row in range(400)],
        site=["big"] * 395 + ["tiny"] * 5,
    )  # fmt: skip
    found = classification.evaluate(source, ["group", "scar"], protocols=["linear"], draws=0)
    parts = groups.columns(source, ["sex", "age_band", "site"])
    figures, notes = groups.evaluate(source, found, parts, draws=50, seed=0)
    scored = next(each for each in found.scored if each.label.name == "scar")
    women = np.flatnonzero(np.array(source.ids["sex"])[scored.rows_N] == "F")
    expected = roc_auc_score(scored.truth_NQ[women, 0], scored.fit.score_NQ[women, 0])
    assert figures["group/sex=F/linear/scar/AUROC"] == pytest.approx(expected)
    low, high = figures["group/sex=F/linear/scar/AUROC/ci95"]
    assert low <= expected <= high
    sizes = [
        value for key, value in figures.items() if key.startswith("group/age_band") and key.endswith("scar/n_studies")
    ]
    assert sum(sizes) == len(scored.rows_N) and len(sizes) == 4
    assert (
        figures["group/site=tiny/linear/group/n_studies"] == 5 and "group/site=tiny/linear/group/AUROC" not in figures
    )
    assert notes == ["groups of fewer than 10 test studies have no figures: site=tiny"]


def test_columns_come_from_the_dataset_where_the_embeddings_lack_them(tmp_path):
    source = embeddings(n=3)
    (tmp_path / "studies.csv").write_text("study_id,site,age\nstudy2,b,90+\nstudy0,a,045Y\n")
    (tmp_path / "series.csv").write_text(
        "study_id,vendor\nstudy0,\nstudy0,siemens\nstudy0,philips\nstudy1,ge\nstudy1,\n"
    )
    found = groups.columns(source, ["site", "age_band", "vendor"], tmp_path)
    assert found == {
        "site": ["a", "unknown", "b"],
        "age_band": ["40 to 59", "unknown", "80 and over"],
        "vendor": ["siemens", "ge", "unknown"],
    }
    with pytest.raises(InputError, match="no column 'sit' for --groups; did you mean 'site'"):
        groups.columns(source, ["sit"], tmp_path)
    with pytest.raises(InputError, match=r"holds no studies\.csv"):
        groups.columns(source, ["site"], tmp_path / "nowhere")


@pytest.mark.parametrize(
    ("age", "band"),
    [("39", "under 40"), ("40", "40 to 59"), ("079Y", "60 to 79"), ("80", "80 and over"), ("3M", ""), ("", "")],
)
def test_age_bands(age, band):
    assert groups.age_band(age) == band
