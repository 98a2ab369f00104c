"""How much of a label can be learned from 1, 2, 4 … 32 studies a class.

An episode draws that many training studies of each class, fits, and scores all test studies. Features are centred on
the mean of the training split (no label is used) and scaled to unit length. Two ways to fit:

  prototype  the mean of each class's studies; a study is scored by its L3 distances to them. It is CMR-CLIP's protocol
             (published code), there with a row-level split.
  logistic   logistic regression, C = 1.

Figures are means over episodes. Intervals resample test patients with the episodes held fixed; `sd_episodes` says how
much one draw of studies differs from another. The mean over episodes of the area under the ROC curve is the area under
the mean of the pairwise wins, so that one matrix serves every resample. NumPy and scikit-learn only.

Letters: N test studies, T training studies, Q classes in question, C classes, K episodes, R resamples.
"""

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

from cmr_jax.evals import bootstrap
from cmr_jax.evals.protocols import Task

SHOTS = (1, 2, 4, 8, 16, 32)
EPISODES = 100
METHODS = ("prototype", "logistic")
_NORM = 3

Watch = Callable[[str, Iterable[Any]], Iterable[Any]]


def evaluate(
    task: Task, *, draws: int, seed: int, watch: Watch = lambda _, steps: steps, episodes: int = EPISODES
) -> tuple[dict[str, Any], list[str]]:
    """`few_shot/label/method_shots/AUROC` and `…/accuracy` with `…/ci95` and `…/sd_episodes`, and notes.

    A number of shots that some class has not in the training split is left out, with a note. A class that training
    lacks altogether is not asked about.
    """
    prefix = f"few_shot/{task.label.name}"
    classes, counts = np.unique(task.label.codes[task.train], return_counts=True)
    if len(classes) < 2:
        return {}, [f"{prefix}: fewer than two classes in the training split"]
    train_TE, test_NE = features(task)
    weights = list(bootstrap.resamples(list(task.patients[task.test]), draws, seed)) if draws else []
    if len(set(task.patients[task.test])) < 2:
        weights = []
    figures: dict[str, Any] = {}
    notes = []
    settings = [(method, shots) for shots in SHOTS if counts.min() >= shots for method in METHODS]
    if len(settings) < len(SHOTS) * len(METHODS):
        rarest = task.label.classes[classes[np.argmin(counts)]]
        notes.append(f"{prefix}: {counts.min()} training studies of {rarest}: no more shots than that")
    for method, shots in watch(f"few shots of {task.label.name}", settings):
        scores_KNC = episode_scores(task, train_TE, test_NE, method, shots, episodes, seed)
        for name, value in _figures(task, classes, scores_KNC, weights).items():
            figures[f"{prefix}/{method}_{shots}/{name}"] = value
    return figures, notes


def features(task: Task) -> tuple[np.ndarray, np.ndarray]:
    """Training and test features, centred on the mean of training and of unit length: `T E`, `N E` float64."""
    centre_E = task.image_NE[task.train].mean(axis=0, dtype=np.float64)
    found = []
    for rows in (task.train, task.test):
        centred = task.image_NE[rows] - centre_E
        found.append(centred / np.maximum(np.linalg.norm(centred, axis=1, keepdims=True), 1e-12))
    return found[0], found[1]


def episode_scores(
    task: Task, train_TE: np.ndarray, test_NE: np.ndarray, method: str, shots: int, episodes: int, seed: int
) -> np.ndarray:
    """Log-probabilities `K N C` of the classes that training has, in the order of their codes."""
    codes_T = task.label.codes[task.train]
    classes = np.unique(codes_T)
    members = [np.flatnonzero(codes_T == code) for code in classes]
    from threadpoolctl import threadpool_limits

    # Every number of shots draws from a stream of its own, the same for both methods.
    rng = np.random.default_rng([seed, shots])
    fit = {"prototype": _prototype, "logistic": _logistic}[method]
    out = np.empty((episodes, len(test_NE), len(classes)))
    # Fits this small only lose by threads.
    with threadpool_limits(1):
        for episode in range(episodes):
            drawn_CS = np.stack([rng.choice(rows, shots, replace=False) for rows in members])
            out[episode] = fit(train_TE[drawn_CS], test_NE)
    return out


def _prototype(support_CSE: np.ndarray, test_NE: np.ndarray) -> np.ndarray:
    prototypes_CE = support_CSE.mean(axis=1)
    away_NC = np.stack([np.linalg.norm(test_NE - prototype, ord=_NORM, axis=1) for prototype in prototypes_CE], axis=1)
    return _log_softmax(-away_NC)


def _logistic(support_CSE: np.ndarray, test_NE: np.ndarray) -> np.ndarray:
    from sklearn.linear_model import LogisticRegression  # late, as in protocols.py

    classes, shots, width = support_CSE.shape
    codes = np.repeat(np.arange(classes), shots)
    model = LogisticRegression(C=1.0, max_iter=2000).fit(support_CSE.reshape(-1, width), codes)
    return model.predict_log_proba(test_NE)


def _log_softmax(logits_NC: np.ndarray) -> np.ndarray:
    shifted = logits_NC - logits_NC.max(axis=1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))


def _figures(
    task: Task, classes: np.ndarray, scores_KNC: np.ndarray, weights: list[np.ndarray]
) -> dict[str, float | list[float] | None]:
    truth_N = task.label.codes[task.test]
    questions = [place for place, code in enumerate(classes) if code in task.label.questions]
    areas, drawn, spreads = [], [], []
    for place in questions:
        positive_N = truth_N == classes[place]
        if positive_N.all() or not positive_N.any():
            continue
        wins_PM, each_K = _wins(positive_N, scores_KNC[:, :, place])
        areas.append(wins_PM.mean(dtype=np.float64))
        spreads.append(each_K)
        drawn.append([_weighted_area(wins_PM, positive_N, weights_RN) for weights_RN in weights])
    right_KN = classes[np.argmax(scores_KNC, axis=2)] == truth_N
    right_N = right_KN.mean(axis=0)
    right_R = [weights_RN @ right_N / weights_RN.sum(axis=1) for weights_RN in weights]
    out: dict[str, Any] = {"accuracy": float(right_N.mean()), "accuracy/ci95": _interval(right_R)}
    out["accuracy/sd_episodes"] = float(right_KN.mean(axis=1).std(ddof=1)) if len(right_KN) > 1 else None
    if areas:
        out["AUROC"] = float(np.mean(areas))
        out["AUROC/ci95"] = _interval([_mean_defined(np.stack(parts)) for parts in zip(*drawn, strict=True)])
        out["AUROC/sd_episodes"] = float(np.mean(spreads, axis=0).std(ddof=1)) if len(right_KN) > 1 else None
    return out


def _wins(positive_N: np.ndarray, scores_KN: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """How often each positive outscores each negative (a tie is half), over the episodes; and the area of each."""
    wins_PM = np.zeros((np.count_nonzero(positive_N), np.count_nonzero(~positive_N)), np.float32)
    areas_K = np.empty(len(scores_KN))
    for episode, score_N in enumerate(scores_KN):
        positive_P, negative_M = score_N[positive_N][:, None], score_N[~positive_N]
        won_PM = (positive_P > negative_M).astype(np.float32)
        won_PM += np.float32(0.5) * (positive_P == negative_M)
        areas_K[episode] = won_PM.mean(dtype=np.float64)
        wins_PM += won_PM
    return wins_PM / np.float32(len(scores_KN)), areas_K


def _weighted_area(wins_PM: np.ndarray, positive_N: np.ndarray, weights_RN: np.ndarray) -> np.ndarray:
    positive_RP, negative_RM = weights_RN[:, positive_N], weights_RN[:, ~positive_N]
    total_R = positive_RP.sum(axis=1) * negative_RM.sum(axis=1)
    won_R = ((positive_RP.astype(np.float32) @ wins_PM) * negative_RM).sum(axis=1)
    return np.divide(won_R, total_R, out=np.full(len(weights_RN), np.nan), where=total_R > 0)


def _mean_defined(values_QR: np.ndarray) -> np.ndarray:
    defined = np.isfinite(values_QR)
    total, count = np.where(defined, values_QR, 0.0).sum(axis=0), defined.sum(axis=0)
    return np.where(count > 0, total, np.nan) / np.maximum(count, 1)


def _interval(parts: list[np.ndarray]) -> list[float] | None:
    return bootstrap.interval(np.concatenate(parts)) if parts else None
