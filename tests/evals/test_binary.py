import numpy as np
import pytest
from sklearn import metrics
from sklearn.linear_model import LogisticRegression

from cmr_jax.evals import binary


@pytest.fixture(name="case")
def make_case():
    rng = np.random.default_rng(0)
    truth = rng.random(200) < 0.3
    # Rounded, so that there are ties within and between the classes.
    probability = np.round(1 / (1 + np.exp(-(1.5 * rng.standard_normal(200) + truth - 1))), 2)
    return truth, probability, rng.integers(3, size=(5, 200)).astype(float)


def test_every_figure_is_what_scikit_learn_says_with_weights(case):
    truth, p, weights = case
    found = binary.figures(truth, p, p, 0.4, weights)
    logit = np.log(np.clip(p, 1e-7, 1 - 1e-7) / (1 - np.clip(p, 1e-7, 1 - 1e-7)))
    for row, w in enumerate(weights):
        said = p >= 0.4
        line = LogisticRegression(C=np.inf, tol=1e-10, max_iter=1000).fit(logit[:, None], truth, sample_weight=w)
        expected = {
            "AUROC": metrics.roc_auc_score(truth, p, sample_weight=w),
            "AUPRC": metrics.average_precision_score(truth, p, sample_weight=w),
            "prevalence": np.average(truth, weights=w),
            "accuracy": metrics.accuracy_score(truth, said, sample_weight=w),
            "F1": metrics.f1_score(truth, said, sample_weight=w),
            "sensitivity": metrics.recall_score(truth, said, sample_weight=w),
            "specificity": metrics.recall_score(~truth, ~said, sample_weight=w),
            "Brier": metrics.brier_score_loss(truth, p, sample_weight=w),
            "calibration_slope": line.coef_[0, 0],
            "calibration_intercept": line.intercept_[0],
        }
        assert set(expected) == set(binary.FIGURES)
        assert {name: found[name][row] for name in expected} == pytest.approx(expected, rel=1e-4, abs=1e-6)


def test_a_weight_of_two_is_a_study_twice(case):
    truth, p, weights = case
    twice = np.repeat(np.arange(200), weights[0].astype(int))
    found = binary.figures(truth, p, p, 0.4, weights[:1])
    again = binary.figures(truth[twice], p[twice], p[twice], 0.4, np.ones((1, len(twice))))
    for name in binary.FIGURES:
        assert found[name][0] == pytest.approx(again[name][0], rel=1e-7)


def test_calibration_is_found_where_probabilities_lie_in_a_narrow_band():
    rng = np.random.default_rng(1)
    logit = -1.5 + 1e-6 * rng.standard_normal(4000)
    truth = rng.random(4000) < 1 / (1 + np.exp(-(4e5 * (logit + 1.5) - 1)))
    slope, intercept = binary.calibration(truth, 1 / (1 + np.exp(-logit)), np.ones((1, 4000)))
    assert slope[0] == pytest.approx(4e5, rel=0.25)
    assert intercept[0] == pytest.approx(4e5 * 1.5, rel=0.25)


def test_calibration_is_found_where_some_probabilities_are_0_and_1():
    probability = np.repeat([0.0, 0.2, 0.4, 0.6, 1.0], [60, 12, 6, 4, 18])
    truth = np.concatenate(
        [np.zeros(60), np.repeat([0, 1], [11, 1]), np.repeat([0, 1], [4, 2]), [0, 1, 1, 1], np.ones(18)]
    )
    slope, intercept = binary.calibration(truth.astype(bool), probability, np.ones((1, 100)))
    clipped = np.clip(probability, 1e-7, 1 - 1e-7)
    line = LogisticRegression(C=np.inf, tol=1e-10, max_iter=10000).fit(np.log(clipped / (1 - clipped))[:, None], truth)
    assert (slope[0], intercept[0]) == pytest.approx((line.coef_[0, 0], line.intercept_[0]), rel=1e-3)


def test_separated_classes_have_no_calibration():
    truth = np.array([False, False, True, True])
    found = binary.figures(truth, np.array([0.1, 0.2, 0.8, 0.9]), np.array([0.1, 0.2, 0.8, 0.9]), 0.5, np.ones((1, 4)))
    assert found["AUROC"] == 1 and found["accuracy"] == 1
    assert np.isnan(found["calibration_slope"]) and np.isnan(found["calibration_intercept"])


@pytest.mark.parametrize("value", [True, False])
def test_one_class_alone_leaves_the_areas_undefined(value):
    truth, p = np.full(5, value), np.linspace(0.1, 0.9, 5)
    found = binary.figures(truth, p, p, 0.5, np.ones((2, 5)))
    assert np.isnan(found["AUROC"]).all() and np.isnan(found["AUPRC"]).all()
    assert np.isnan(found["specificity" if value else "sensitivity"]).all()
    assert found["prevalence"].tolist() == [float(value)] * 2


def test_without_a_threshold_there_is_no_decision(case):
    truth, p, weights = case
    found = binary.figures(truth, p, None, float("nan"), weights)
    for name in ("accuracy", "F1", "sensitivity", "specificity", "Brier", "calibration_slope"):
        assert np.isnan(found[name]).all()
    assert np.isfinite(found["AUROC"]).all()


def test_the_threshold_has_the_largest_sum_of_sensitivity_and_specificity(case):
    truth, p, _ = case
    chosen = binary.youden_threshold(truth, p)
    sums = {t: (p >= t)[truth].mean() + (p < t)[~truth].mean() for t in set(p)}
    assert sums[chosen] == pytest.approx(max(sums.values()))
    assert np.isnan(binary.youden_threshold(np.ones(3, bool), p[:3]))
    tied = np.array([True, True, False, False, False])
    assert binary.youden_threshold(tied, np.array([0.9, 0.5, 0.5, 0.5, 0.1])) == 0.9
