import numpy as np
import pytest
from scipy import stats
from sklearn import metrics
from sklearn.linear_model import Ridge

from cmr_jax.errors import InputError
from cmr_jax.evals import regression
from tests.evals.synthetic import embeddings, relabel


def with_lvef(noise: float = 3.0, seed: int = 0, **options):
    source = embeddings(**options)
    direction = np.random.default_rng(9).standard_normal(source.image_NE.shape[1])
    value = 55 + 15 * source.image_NE @ direction + noise * np.random.default_rng(seed).standard_normal(len(source))
    return relabel(source, lvef_percent=[f"{each:.1f}" for each in value]), np.round(value, 1)


def test_it_is_ridge_of_scikit_learn_with_the_penalty_that_validation_chooses():
    # Noise for which training, validation and test would each choose a penalty of their own.
    source, value = with_lvef(noise=10.0, seed=1)
    found = regression.evaluate(source, ["lvef_percent"], draws=0)
    train, val, test = np.arange(240), np.arange(240, 300), np.arange(300, 400)
    x = source.image_NE.astype(np.float64)
    x = (x - x[train].mean(axis=0)) / x[train].std(axis=0)
    fits = [Ridge(alpha=each).fit(x[train], value[train]) for each in regression.PENALTIES]
    _, best, _ = choices = [
        min(fits, key=lambda fit, rows=rows: ((fit.predict(x[rows]) - value[rows]) ** 2).mean())
        for rows in (train, val, test)
    ]
    assert len({each.alpha for each in choices}) == 3
    predicted = best.predict(x[test])
    np.testing.assert_allclose(found.predicted[0].predicted_N, predicted)
    error = predicted - value[test]
    expected = {
        "MAE": metrics.mean_absolute_error(value[test], predicted),
        "MAE_of_the_mean": np.abs(value[test] - value[train].mean()).mean(),
        "R2": metrics.r2_score(value[test], predicted),
        "Spearman": stats.spearmanr(value[test], predicted)[0],
        "bias": error.mean(),
        "loa_low": error.mean() - 1.96 * error.std(ddof=1),
        "loa_high": error.mean() + 1.96 * error.std(ddof=1),
    }
    assert {name: found.figures[f"regression/lvef_percent/{name}"] for name in regression.FIGURES} == pytest.approx(
        expected
    )
    assert found.figures["regression/lvef_percent/R2"] > 0.5
    assert any(f"ridge penalty = {best.alpha:g}, chosen on val" in note for note in found.notes)


def test_weights_repeat_studies():
    rng = np.random.default_rng(1)
    truth, said = rng.integers(40, 60, size=(2, 50)).astype(float)
    weights = rng.integers(3, size=(4, 50)).astype(float)
    found = regression.figures_of(truth, said, 50.0, weights)
    for row, weight in enumerate(weights.astype(int)):
        again = regression.figures_of(
            np.repeat(truth, weight), np.repeat(said, weight), 50.0, np.ones((1, weight.sum()))
        )
        assert {k: v[row] for k, v in found.items()} == pytest.approx({k: v[0] for k, v in again.items()})


def test_intervals_hold_their_figure_and_shuffled_values_explain_nothing():
    source, value = with_lvef()
    found = regression.evaluate(source, ["lvef_percent"], draws=200).figures
    for name in regression.FIGURES:
        low, high = found[f"regression/lvef_percent/{name}/ci95"]
        assert low <= found[f"regression/lvef_percent/{name}"] <= high
    shuffled = relabel(source, lvef_percent=[str(each) for each in np.random.default_rng(0).permutation(value)])
    null = regression.evaluate(shuffled, ["lvef_percent"], draws=200).figures
    low, high = null["regression/lvef_percent/Spearman/ci95"]
    assert low <= 0 <= high
    assert null["regression/lvef_percent/MAE"] > 0.9 * null["regression/lvef_percent/MAE_of_the_mean"]


def test_missing_values_are_left_out_and_without_validation_patients_choose():
    source, _ = with_lvef()
    column = [value if row % 4 else "" for row, value in enumerate(source.ids["lvef_percent"])]
    rows = np.flatnonzero(np.array(source.ids["split"]) != "val")
    found = regression.evaluate(relabel(source, lvef_percent=column).take(rows), ["lvef_percent"], draws=0)
    assert found.figures["regression/lvef_percent/n"] == 75
    assert any("cross-validation in the training split" in note for note in found.notes)
    assert "lvef_percent: 25 of 100 test studies have no value and are left out" in found.notes


def test_no_patient_is_on_both_sides_of_a_fold():
    train = np.random.default_rng(0).permutation(100)[:60]
    patients = np.array([f"patient{row // 3}" for row in range(100)])
    folds = regression._folds(train, patients)
    assert len(folds) == regression.FOLDS
    for fit, held in folds:
        assert not set(patients[fit]) & set(patients[held]) and set(fit) | set(held) == set(train)
    assert sorted(np.concatenate([held for _, held in folds])) == sorted(train)


@pytest.mark.parametrize(
    ("column", "message"),
    [(["1", "high"] * 200, "200 of 400 values are no numbers"), (["1"] * 300 + [""] * 100, "no test study"),
     (["inf"] * 400, "no numbers")],
)  # fmt: skip
def test_what_is_no_measurement_is_refused(column, message):
    with pytest.raises(InputError, match=message):
        regression.evaluate(relabel(embeddings(), x=column), ["x"])
