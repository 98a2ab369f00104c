"""Figures of a transfer: measurements, groups and statements of real hearts against what a model says. NumPy only.

Names: `lvef/spearman`, `lvef/mae`, `group/auroc`, `statement/R@1`, each `X` with `X/ci95` ([low, high] or None) by
resampled studies with everything fitted held fixed, and `…/n`. A figure that is undefined (one study, one group) is
None.

Letters: N studies, K draws of each, E embedding, G groups, S statements, R resamples.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from sklearn.linear_model import Ridge
from sklearn.model_selection import GroupKFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from threadpoolctl import threadpool_limits

from cmr_jax.evals import binary, bootstrap, regression

PENALTIES = tuple(10.0**power for power in range(-1, 7))
DRAWS = 2000
_FOLDS = 5
_NAMES = {"spearman": "Spearman", "mae": "MAE", "bias": "bias", "loa_low": "loa_low", "loa_high": "loa_high"}


class Probe:
    """Ridge from embeddings to one measurement, fitted on phantoms: every draw of a study is an example of its own.

    The penalty has the least squared error in folds that keep the draws of a study together. What is predicted is the
    mean over the draws of a study.
    """

    def __init__(self, embedding_KNE: np.ndarray, value_N: np.ndarray):
        K, N, E = embedding_KNE.shape
        x, y, study = embedding_KNE.reshape(K * N, E), np.tile(value_N, K), np.tile(np.arange(N), K)
        self.mean = float(value_N.mean())
        with threadpool_limits(1):
            folds = list(GroupKFold(min(_FOLDS, N)).split(x, groups=study))
            errors = {p: np.concatenate([self._errors(p, x, y, *fold) for fold in folds]) for p in PENALTIES}
            self.penalty = min(PENALTIES, key=lambda p: float((errors[p] ** 2).mean()))
            self.mae = float(np.abs(errors[self.penalty]).mean())
            self._fit = _ridge(self.penalty).fit(x, y)

    @staticmethod
    def _errors(penalty: float, x: np.ndarray, y: np.ndarray, fit: np.ndarray, held: np.ndarray) -> np.ndarray:
        return _ridge(penalty).fit(x[fit], y[fit]).predict(x[held]) - y[held]

    def predict(self, embedding_KNE: np.ndarray) -> np.ndarray:
        K, N, E = embedding_KNE.shape
        return self._fit.predict(embedding_KNE.reshape(K * N, E)).reshape(K, N).mean(axis=0)


def _ridge(penalty: float) -> Any:
    return make_pipeline(StandardScaler(), Ridge(alpha=penalty))


def measurement(truth_N: np.ndarray, said_N: np.ndarray, mean: float, patients: Sequence[str]) -> dict[str, Any]:
    """Spearman, mean absolute error, bias and limits of agreement of the studies whose truth is known (not NaN).

    `mean`: what `mae_of_the_mean` would have one say of everybody, the mean of the phantoms.
    """
    known = np.flatnonzero(np.isfinite(truth_N))
    out: dict[str, Any] = {"n": len(known)}
    if not len(known):
        return out
    truth, said = truth_N[known], said_N[known]
    names = {**_NAMES, "mae_of_the_mean": "MAE_of_the_mean"}

    def of(weights_RN: np.ndarray) -> dict[str, np.ndarray]:
        figures = regression.figures_of(truth, said, mean, weights_RN)
        return {ours: figures[theirs] for ours, theirs in names.items()}

    return out | _with_intervals(of, [patients[int(i)] for i in known])


def groups(names: Sequence[str], score_NG: np.ndarray, of_G: Sequence[str], patients: Sequence[str]) -> dict[str, Any]:
    """How well each group's score ranks its studies above the others (`auroc/NAME`, and the mean `auroc`), and how
    often the highest score is the right group's (`accuracy`). Studies without a name are left out."""
    known = np.array([i for i, name in enumerate(names) if name], int)
    out: dict[str, Any] = {"n": len(known), "chance/accuracy": 1 / len(of_G) if len(of_G) else None}
    if len(of_G) < 2 or not len(known):
        return out
    truth_NG = np.array([[names[i] == name for name in of_G] for i in known])
    score = score_NG[known]
    right_N = score.argmax(axis=1) == truth_NG.argmax(axis=1)

    def of(weights_RN: np.ndarray) -> dict[str, np.ndarray]:
        areas = [binary.areas(truth_NG[:, g], score[:, g], weights_RN)[0] for g in range(len(of_G))]
        return {
            "auroc": np.mean(areas, axis=0),
            "accuracy": weights_RN @ right_N / weights_RN.sum(axis=1),
            **{f"auroc/{name}": area for name, area in zip(of_G, areas, strict=True)},
        }

    return out | _with_intervals(of, [patients[int(i)] for i in known])


def statements(score_NS: np.ndarray, right_N: np.ndarray, patients: Sequence[str]) -> dict[str, Any]:
    """Retrieval of the right one of S statements by each study: `R@1`, `R@5` (percent), `mean_rank`, and chance beside.

    Ties count half: the expected rank over random orders of them.
    """
    N, S = score_NS.shape
    out: dict[str, Any] = {"n": N, "gallery": S}
    if not N or S < 2:
        return out
    own_N = score_NS[np.arange(N), right_N]
    rank_N = (score_NS > own_N[:, None]).sum(axis=1) + ((score_NS == own_N[:, None]).sum(axis=1) + 1) / 2

    def of(weights_RN: np.ndarray) -> dict[str, np.ndarray]:
        total_R = weights_RN.sum(axis=1)
        hits = {f"R@{k}": 100 * (weights_RN @ (rank_N <= k)) / total_R for k in (1, 5) if k < S}
        return {**hits, "mean_rank": weights_RN @ rank_N / total_R}

    chance = {f"chance/R@{k}": 100 * k / S for k in (1, 5) if k < S}
    return out | chance | {"chance/mean_rank": (S + 1) / 2} | _with_intervals(of, patients)


def expected_value(score_NS: np.ndarray, value_S: np.ndarray, scale: float) -> np.ndarray:
    """What the statements say on the average of their softmax at `scale` (the model's own inverse temperature): a
    measurement without any probe, `N`."""
    logit_NS = scale * (score_NS - score_NS.max(axis=1, keepdims=True))
    weight_NS = np.exp(logit_NS)
    return weight_NS @ value_S / weight_NS.sum(axis=1)


def _with_intervals(of: Any, patients: Sequence[str]) -> dict[str, Any]:
    point: Mapping[str, np.ndarray] = of(np.ones((1, len(patients))))
    drawn = [of(weights_RN) for weights_RN in bootstrap.resamples(patients, DRAWS, 0)] if len(set(patients)) > 1 else []
    out: dict[str, Any] = {}
    for name, value in point.items():
        defined = bool(np.isfinite(value[0]))
        out[name] = float(value[0]) if defined else None
        known = drawn and defined
        out[f"{name}/ci95"] = bootstrap.interval(np.concatenate([each[name] for each in drawn])) if known else None
    return out
