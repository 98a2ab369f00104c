"""The ways to get class scores from frozen embeddings. NumPy and scikit-learn only; scikit-learn is imported where it
fits, for it takes longer to import than a mistyped label takes to report.

Letters: N studies of the test split, M those that choose, E embedding, Q classes in question.
"""

import dataclasses
import warnings
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from cmr_jax.errors import InputError
from cmr_jax.evals.binary import youden_threshold
from cmr_jax.evals.labels import Label

REGULARISATION = (1e-4, 1e-3, 1e-2, 1e-1, 1.0, 10.0)
NEIGHBOURS = (1, 5, 10, 20, 50)
FOLDS = 5
LEAST_VALIDATION = 20

# Below this many numbers in hand, threads of the BLAS only wait for one another: 20 times slower on a busy machine.
_WORTH_THREADS = 2**22

# The number of studies to fit on -> a scikit-learn classifier.
Candidate = Callable[[int], Any]


@dataclasses.dataclass(frozen=True)
class Task:
    """A label and the rows that train, choose and test; all of them have a value."""

    label: Label
    image_NE: np.ndarray
    train: np.ndarray
    val: np.ndarray
    test: np.ndarray
    patients: np.ndarray


@dataclasses.dataclass(frozen=True)
class Fit:
    """Scores of the test studies (a column of NaN: the class cannot be scored), the same as probabilities (NaN: it
    could not be calibrated), and the threshold of each class (NaN: none could be chosen)."""

    score_NQ: np.ndarray
    probability_NQ: np.ndarray
    threshold_Q: np.ndarray
    notes: tuple[str, ...]


def linear(task: Task) -> Fit:
    """Logistic regression (multinomial) on standardised features; C is chosen."""
    return _probe(task, "C", {c: lambda _, c=c: _logistic(c) for c in REGULARISATION})


def knn(task: Task) -> Fit:
    """Share of each class among the k nearest training studies by cosine; k is chosen."""
    from sklearn.neighbors import KNeighborsClassifier

    return _probe(task, "k", {k: lambda n, k=k: KNeighborsClassifier(min(k, n), metric="cosine") for k in NEIGHBOURS})


def zero_shot(task: Task, prompts: dict[str, Any], vectors: dict[str, np.ndarray]) -> Fit:
    """Cosine of the image with the mean prompt of each class; for a yes-or-no label less that of its negative prompts.

    Thresholds, and the probabilities behind Brier and calibration (logistic regression on the score), come from the
    validation split; without one there are none. `vectors`: the text embedding of each sentence.
    """
    label = task.label
    wanted = [[vectors[text] for text in texts] for texts in sentences_of(label, prompts)]
    direction_EQ = np.stack([_mean_direction(wanted[q]) for q in label.questions], axis=1)
    if label.positive is not None and wanted[1 - label.positive]:
        direction_EQ -= _mean_direction(wanted[1 - label.positive])[:, None]
    if direction_EQ.shape[0] != task.image_NE.shape[1]:
        raise InputError(f"the text tower gives {direction_EQ.shape[0]} features, the images {task.image_NE.shape[1]}")
    score = task.image_NE.astype(np.float64) @ direction_EQ
    threshold_Q = np.full(len(label.questions), np.nan)
    probability_NQ = np.full((len(task.test), len(label.questions)), np.nan)
    for place, question in enumerate(label.questions):
        truth_M, score_M = label.codes[task.val] == question, score[task.val, place]
        if len(truth_M) < LEAST_VALIDATION or truth_M.all() or not truth_M.any():
            continue
        threshold_Q[place] = youden_threshold(truth_M, score_M)
        platt = _logistic(1e6)
        platt.fit(score_M[:, None], truth_M)
        probability_NQ[:, place] = platt.predict_proba(score[task.test, place, None])[:, 1]
    return Fit(score[task.test], probability_NQ, threshold_Q, ())


def default_prompts(label: Label) -> dict[str, list[str]]:
    """One sentence a class; for a yes-or-no label only the positive one, as in the published protocol."""

    def sentence(words: str) -> str:
        return f"Cardiac MRI shows {words.replace('_', ' ')}."

    if label.positive is not None:
        return {label.classes[label.positive]: [sentence(label.name)]}
    return {name: [sentence(name)] for name in label.classes}


def sentences_of(label: Label, prompts: dict[str, Any]) -> list[list[str]]:
    """The sentences of each class, in the order of `label.classes`; [] for an unnamed negative of a yes-or-no label.

    Raises InputError where the entry of the label does not name its classes or holds no sentences.
    """
    given = prompts.get(label.name)
    if isinstance(given, (str, list)) and label.positive is not None:
        given = {label.classes[label.positive]: given}
    if given is not None and not isinstance(given, dict):
        raise InputError(f"the prompts of label {label.name!r} must name its classes: {', '.join(label.classes)}")
    named = {str(name): [text] if isinstance(text, str) else text for name, text in (given or {}).items()}
    unknown = sorted(set(named) - set(label.classes))
    if unknown:
        raise InputError(
            f"the prompts of label {label.name!r} name {unknown[0]!r}; its classes are {', '.join(label.classes)}"
        )
    sentences = default_prompts(label) | named
    for texts in sentences.values():
        if not isinstance(texts, list) or not texts or not all(isinstance(text, str) and text for text in texts):
            raise InputError(f"the prompts of a class of label {label.name!r} must be one or more sentences")
    return [sentences.get(name, []) for name in label.classes]


def _logistic(c: float) -> Any:
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    return make_pipeline(StandardScaler(), LogisticRegression(C=c, max_iter=2000))


def _mean_direction(prompt_PE: Sequence[np.ndarray]) -> np.ndarray:
    rows = np.asarray(prompt_PE, np.float64)
    rows = rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12)
    mean = rows.mean(axis=0)
    return mean / max(float(np.linalg.norm(mean)), 1e-12)


def _probe(task: Task, what: str, candidates: dict[Any, Candidate]) -> Fit:
    from threadpoolctl import threadpool_limits

    with threadpool_limits(1 if task.image_NE.size < _WORTH_THREADS else None):
        return _choose_and_fit(task, what, candidates)


def _choose_and_fit(task: Task, what: str, candidates: dict[Any, Candidate]) -> Fit:
    """Fits each candidate, keeps the one of least log loss where it is chosen, and scores the test split with it."""
    label = task.label
    codes = label.codes[task.train]
    if len(np.unique(codes)) < 2:
        return unscored(task, "fewer than two classes in the training split")
    features = task.image_NE.astype(np.float64)
    if val_is_enough(task):
        where, truth_M = "val", label.codes[task.val]
        chosen = {
            value: _probabilities(candidate, features[task.train], codes, features[task.val], label)
            for value, candidate in candidates.items()
        }
    elif (folds := _fold_count(codes, task.patients[task.train])) < 2:
        return unscored(task, f"too few training patients to choose {what}, and too few validation studies")
    else:
        where, truth_M = "cross-validation in the training split", codes
        chosen = {value: _out_of_fold(candidate, features, task, folds) for value, candidate in candidates.items()}
    present = np.unique(codes)
    best = min(chosen, key=lambda value: log_loss_of(truth_M, chosen[value][:, present], present))
    probability_NC = _probabilities(candidates[best], features[task.train], codes, features[task.test], label)
    questions = list(label.questions)
    threshold_Q = [youden_threshold(truth_M == q, chosen[best][:, q]) for q in questions]
    probability_NQ = probability_NC[:, questions]
    return Fit(probability_NQ, probability_NQ, np.array(threshold_Q), (f"{what} = {best:g}, chosen on {where}",))


def val_is_enough(task: Task) -> bool:
    """At least 20 validation studies, with each class that training has."""
    return len(task.val) >= LEAST_VALIDATION and set(task.label.codes[task.train]) <= set(task.label.codes[task.val])


def held_out(task: Task) -> tuple[np.ndarray, np.ndarray, str] | None:
    """Rows that fit and rows that choose, of different patients, and what the latter are: `val`, or where that is too
    small a part of the training split. None where that has too few patients too."""
    if val_is_enough(task):
        return task.train, task.val, "val"
    from sklearn.model_selection import StratifiedGroupKFold

    codes, patients = task.label.codes[task.train], task.patients[task.train]
    folds = _fold_count(codes, patients)
    if folds < 2:
        return None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # as in _out_of_fold
        split = StratifiedGroupKFold(folds, shuffle=True, random_state=0).split(codes, codes, patients)
        fit, held = next(split)
    return task.train[fit], task.train[held], f"one in {folds} of the training patients"


def unscored(task: Task, reason: str) -> Fit:
    """No scores, and why."""
    nothing_NQ = np.full((len(task.test), len(task.label.questions)), np.nan)
    return Fit(nothing_NQ, nothing_NQ, np.full(len(task.label.questions), np.nan), (reason,))


def _probabilities(
    candidate: Candidate, x: np.ndarray, codes: np.ndarray, to_score: np.ndarray, label: Label
) -> np.ndarray:
    """Fits and scores; one column a class of the label, NaN for classes that training lacks."""
    out = np.full((len(to_score), len(label.classes)), np.nan)
    present = np.unique(codes)
    if len(present) == 1:
        out[:, present] = 1.0
        return out
    from sklearn.exceptions import ConvergenceWarning

    model = candidate(len(x))
    with warnings.catch_warnings():
        # A fit that is cut after 2,000 steps is still a candidate; the choice judges it by its log loss.
        warnings.simplefilter("ignore", ConvergenceWarning)
        model.fit(x, codes)
    out[:, model.classes_] = model.predict_proba(to_score)
    return out


def _out_of_fold(candidate: Candidate, features: np.ndarray, task: Task, folds: int) -> np.ndarray:
    """Each training study scored by a fit without its patient; a class that a fold's training lacks scores 0."""
    from sklearn.model_selection import StratifiedGroupKFold

    codes, patients = task.label.codes[task.train], task.patients[task.train]
    out = np.zeros((len(codes), len(task.label.classes)))
    x = features[task.train]
    with warnings.catch_warnings():
        # It warns of classes rarer than the folds; those are scored as well as they can be.
        warnings.simplefilter("ignore", UserWarning)
        parts = list(StratifiedGroupKFold(folds, shuffle=True, random_state=0).split(x, codes, patients))
    for fit, held in parts:
        out[held] = np.nan_to_num(_probabilities(candidate, x[fit], codes[fit], x[held], task.label))
    return out


def _fold_count(codes: np.ndarray, patients: np.ndarray) -> int:
    """As many folds as the rarest class has patients, 5 at most; classes of a single patient do not limit it."""
    patients_of = [len(set(patients[codes == code])) for code in np.unique(codes)]
    return min([FOLDS, *(count for count in patients_of if count > 1)]) if max(patients_of, default=0) > 1 else 0


def log_loss_of(truth_M: np.ndarray, probability_MC: np.ndarray, present: np.ndarray) -> float:
    """The log loss of the studies whose class is one of `present`, the classes of the columns."""
    from sklearn.metrics import log_loss

    known = np.isin(truth_M, present)
    clipped = np.clip(probability_MC[known], 1e-6, None)
    return float(log_loss(truth_M[known], clipped / clipped.sum(axis=1, keepdims=True), labels=present))
