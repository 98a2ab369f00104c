"""How well a measurement (LVEF, volumes, mass) is read off the image embedding by ridge regression.

Fitted on the training split; the penalty is chosen by the least squared error on `val`, or by patient-grouped
cross-validation within the training split where `val` is too small; the test split is only scored. `MAE_of_the_mean`
is the error of always saying the training mean. `bias`, `loa_low` and `loa_high` are Bland and Altman's mean
difference (predicted less true) and limits of agreement. NumPy and scikit-learn only.

Names: `regression/label/metric`, `…/ci95` by resampled test patients with the fit held fixed.
Letters: N test studies, R resamples.
"""

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np

from cmr_jax.errors import InputError
from cmr_jax.evals import bootstrap
from cmr_jax.evals.export import Embeddings
from cmr_jax.evals.protocols import FOLDS, LEAST_VALIDATION
from cmr_jax.evals.splits import split_rows

PROTOCOL = "regression"
FIGURES = ("MAE", "MAE_of_the_mean", "R2", "Spearman", "bias", "loa_low", "loa_high")
PENALTIES = tuple(10.0**power for power in range(-1, 7))


@dataclasses.dataclass(frozen=True)
class Predicted:
    """The test studies of one measurement: rows of the embeddings, true and predicted values."""

    name: str
    rows_N: np.ndarray
    truth_N: np.ndarray
    predicted_N: np.ndarray


@dataclasses.dataclass(frozen=True)
class Regression:
    """`figures`: each figure X (None where it is undefined), and X/ci95 as [low, high] or None."""

    figures: dict[str, Any]
    predicted: tuple[Predicted, ...]
    notes: tuple[str, ...]


def parse_numbers(name: str, values: Sequence[str]) -> np.ndarray:
    """A column as float64, "" and "uncertain" as NaN; raises InputError where it holds anything that is no number."""
    out, wrong = np.full(len(values), np.nan), 0
    for row, value in enumerate(values):
        if value.strip().lower() in ("", "nan", "uncertain"):
            continue
        try:
            out[row] = float(value)
        except ValueError:
            wrong += 1
    wrong += np.count_nonzero(np.isinf(out))
    if wrong:
        raise InputError(f"label {name!r} is no measurement: {wrong} of {len(values)} values are no numbers")
    return out


def evaluate(
    embeddings: Embeddings,
    names: Sequence[str],
    *,
    train_split: str = "train",
    test_split: str = "test",
    draws: int = 1000,
    seed: int = 0,
) -> Regression:
    """Scores each measurement; raises InputError for an unknown column, one of no numbers, and no study to score."""
    columns = {name: parse_numbers(name, embeddings.label(name)) for name in names}
    patients = np.array(embeddings.patients())
    rows, notes = split_rows(embeddings, train_split, test_split, must_train=True)
    figures: dict[str, Any] = {}
    found = []
    for name, values in columns.items():
        known = {part: each[np.isfinite(values[each])] for part, each in rows.items()}
        for part, each in rows.items():
            if len(known[part]) < len(each):
                missing = len(each) - len(known[part])
                notes.append(f"{name}: {missing} of {len(each)} {part} studies have no value and are left out")
        if not len(known["test"]) or len(known["training"]) < 2:
            raise InputError(f"label {name!r}: too few training studies, or no test study, have a value")
        each, how = _predict(name, embeddings.image_NE, values, known, patients)
        notes.append(f"{PROTOCOL}/{name}: {how}")
        found.append(each)
        mean = float(values[known["training"]].mean())
        figures |= _with_intervals(each, mean, patients[each.rows_N], draws, seed)
    return Regression(figures, tuple(found), tuple(notes))


def figures_of(truth_N: np.ndarray, predicted_N: np.ndarray, mean: float, weights_RN: np.ndarray) -> dict[str, Any]:
    """FIGURES by name, R float64 each, for many weightings of the studies; NaN where undefined. `mean`: of training."""
    total_R = weights_RN.sum(axis=1)
    error_N = predicted_N - truth_N

    def average(values_N: np.ndarray) -> np.ndarray:
        return weights_RN @ values_N / total_R

    bias_R = average(error_N)
    spread_R = average(error_N**2) - bias_R**2
    sd_R = np.sqrt(np.maximum(spread_R, 0) * total_R / np.where(total_R > 1, total_R - 1, np.nan))
    variance_R = average((truth_N - truth_N.mean()) ** 2) - average(truth_N - truth_N.mean()) ** 2
    ranks_R = _correlation(_ranks(truth_N, weights_RN), _ranks(predicted_N, weights_RN), weights_RN)
    return {
        "MAE": average(np.abs(error_N)),
        "MAE_of_the_mean": average(np.abs(truth_N - mean)),
        "R2": np.where(variance_R > 1e-12, 1 - average(error_N**2) / np.maximum(variance_R, 1e-12), np.nan),
        "Spearman": ranks_R,
        "bias": bias_R,
        "loa_low": bias_R - 1.96 * sd_R,
        "loa_high": bias_R + 1.96 * sd_R,
    }


def _predict(
    name: str, image_NE: np.ndarray, values: np.ndarray, rows: dict[str, np.ndarray], patients: np.ndarray
) -> tuple[Predicted, str]:
    from threadpoolctl import threadpool_limits

    x, train, val, test = image_NE.astype(np.float64), rows["training"], rows["validation"], rows["test"]
    with threadpool_limits(1):
        if len(val) >= LEAST_VALIDATION:
            where, folds = "val", [(train, val)]
        else:
            where, folds = "cross-validation in the training split", _folds(train, patients)
        if not folds:
            penalty, where = 1e3, "nothing: a single training patient"
        else:
            penalty = min(PENALTIES, key=lambda each: _loss(each, x, values, folds))
        predicted = _fit(penalty, x[train], values[train]).predict(x[test])
    return Predicted(name, test, values[test], predicted), f"ridge penalty = {penalty:g}, chosen on {where}"


def _folds(train: np.ndarray, patients: np.ndarray) -> list[tuple[np.ndarray, np.ndarray]]:
    count = min(FOLDS, len(set(patients[train])))
    if count < 2:
        return []
    from sklearn.model_selection import GroupKFold

    split = GroupKFold(count).split(train, groups=patients[train])
    return [(train[fit], train[held]) for fit, held in split]


def _loss(penalty: float, x: np.ndarray, values: np.ndarray, folds: list[tuple[np.ndarray, np.ndarray]]) -> float:
    squares = [(_fit(penalty, x[fit], values[fit]).predict(x[held]) - values[held]) ** 2 for fit, held in folds]
    return float(np.concatenate(squares).mean())


def _fit(penalty: float, x: np.ndarray, y: np.ndarray) -> Any:
    from sklearn.linear_model import Ridge  # late, as in protocols.py
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    return make_pipeline(StandardScaler(), Ridge(alpha=penalty)).fit(x, y)


def _with_intervals(each: Predicted, mean: float, patients_N: np.ndarray, draws: int, seed: int) -> dict[str, Any]:
    point = figures_of(each.truth_N, each.predicted_N, mean, np.ones((1, len(patients_N))))
    drawn: list[dict[str, np.ndarray]] = []
    if len(set(patients_N)) > 1 and draws:
        for weights_RN in bootstrap.resamples(list(patients_N), draws, seed):
            drawn.append(figures_of(each.truth_N, each.predicted_N, mean, weights_RN))
    out: dict[str, Any] = {f"{PROTOCOL}/{each.name}/n": len(patients_N)}
    for name, values in point.items():
        key, value = f"{PROTOCOL}/{each.name}/{name}", float(values[0])
        out[key] = value if np.isfinite(value) else None
        known = drawn and np.isfinite(value)
        out[f"{key}/ci95"] = bootstrap.interval(np.concatenate([part[name] for part in drawn])) if known else None
    return out


def _ranks(values_N: np.ndarray, weights_RN: np.ndarray) -> np.ndarray:
    """Midranks of the values, each repeated by its weight: `R N`."""
    _, group_N = np.unique(values_N, return_inverse=True)
    order = np.argsort(group_N, kind="stable")
    starts = np.flatnonzero(np.diff(group_N[order], prepend=-1))
    in_group_RG = np.add.reduceat(weights_RN[:, order], starts, axis=1)
    middle_RG = np.cumsum(in_group_RG, axis=1) - (in_group_RG - 1) / 2
    return middle_RG[:, group_N]


def _correlation(a_RN: np.ndarray, b_RN: np.ndarray, weights_RN: np.ndarray) -> np.ndarray:
    total_R = weights_RN.sum(axis=1, keepdims=True)
    a, b = (each - (weights_RN * each).sum(axis=1, keepdims=True) / total_R for each in (a_RN, b_RN))
    both = np.sqrt((weights_RN * a**2).sum(axis=1) * (weights_RN * b**2).sum(axis=1))
    return np.divide((weights_RN * a * b).sum(axis=1), both, out=np.full(len(both), np.nan), where=both > 0)
