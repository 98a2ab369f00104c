"""Figures of a yes-or-no question, for many weightings of the same studies at once.

A resample is a weighting: a study drawn twice weighs 2. One call gives the figures of all resamples, and the point
figures are those of equal weights. A figure that is undefined (no positive study, no negative study) is NaN.
NumPy only.

Letters: N studies, R weightings, G groups of equal scores.
"""

import numpy as np

FIGURES = (
    "AUROC",
    "AUPRC",
    "prevalence",
    "accuracy",
    "F1",
    "sensitivity",
    "specificity",
    "Brier",
    "calibration_slope",
    "calibration_intercept",
)
_NEWTON_STEPS = 50
_NEWTON_TOLERANCE = 1e-8
_LOGIT_LIMIT = 1e-7


def figures(
    truth_N: np.ndarray,
    score_N: np.ndarray,
    probability_N: np.ndarray | None,
    threshold: float,
    weights_RN: np.ndarray,
) -> dict[str, np.ndarray]:
    """FIGURES by name, R float64 each.

    Args:
      truth_N: bool.
      score_N: orders the studies (AUROC, AUPRC) and is positive where >= `threshold`; threshold NaN: not decided.
      probability_N: for Brier and calibration; None where the score is no probability.
      weights_RN: float64, not negative.
    """
    out: dict[str, np.ndarray] = {name: np.full(len(weights_RN), np.nan) for name in FIGURES}
    out["prevalence"] = _ratio(weights_RN @ truth_N, weights_RN.sum(axis=1))
    out["AUROC"], out["AUPRC"] = areas(truth_N, score_N, weights_RN)
    if np.isfinite(threshold):
        said_N = score_N >= threshold
        hit_R, missed_R = weights_RN @ (truth_N & said_N), weights_RN @ (truth_N & ~said_N)
        false_R, right_R = weights_RN @ (~truth_N & said_N), weights_RN @ (~truth_N & ~said_N)
        out["accuracy"] = _ratio(hit_R + right_R, weights_RN.sum(axis=1))
        out["F1"] = _ratio(2 * hit_R, 2 * hit_R + false_R + missed_R)
        out["sensitivity"] = _ratio(hit_R, hit_R + missed_R)
        out["specificity"] = _ratio(right_R, right_R + false_R)
    if probability_N is not None:
        out["Brier"] = _ratio(weights_RN @ (probability_N - truth_N) ** 2, weights_RN.sum(axis=1))
        slope_R, intercept_R = calibration(truth_N, probability_N, weights_RN)
        out["calibration_slope"], out["calibration_intercept"] = slope_R, intercept_R
    return out


def areas(truth_N: np.ndarray, score_N: np.ndarray, weights_RN: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Areas under the ROC curve (ties count half) and the precision-recall curve (average precision), R each."""
    order = np.argsort(-score_N, kind="stable")
    starts = np.flatnonzero(np.diff(score_N[order], prepend=np.inf))
    positive_RG = np.add.reduceat((weights_RN * truth_N)[:, order], starts, axis=1)
    negative_RG = np.add.reduceat((weights_RN * ~truth_N)[:, order], starts, axis=1)
    true_RG, false_RG = np.cumsum(positive_RG, axis=1), np.cumsum(negative_RG, axis=1)
    all_positive_R, all_negative_R = true_RG[:, -1], false_RG[:, -1]
    # Each positive beats the negatives that come after its group, and half of those within.
    beaten_RG = all_negative_R[:, None] - false_RG + negative_RG / 2
    roc_R = _ratio((positive_RG * beaten_RG).sum(axis=1), all_positive_R * all_negative_R)
    precision_RG = np.nan_to_num(_ratio(true_RG, true_RG + false_RG))
    precision_R = _ratio((positive_RG * precision_RG).sum(axis=1), all_positive_R)
    return roc_R, np.where(all_negative_R > 0, precision_R, np.nan)


def calibration(
    truth_N: np.ndarray, probability_N: np.ndarray, weights_RN: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Slope and intercept, R each, of the logistic regression of truth on logit(probability) (Cox 1958); 1 and 0 are
    ideal. NaN where the probabilities separate the classes, so that there is no such fit."""
    clipped_N = np.clip(probability_N, _LOGIT_LIMIT, 1 - _LOGIT_LIMIT)
    logit_N = np.log(clipped_N / (1 - clipped_N))
    # Newton's method on the standardised logit, so that probabilities in a narrow band are as easy as others.
    centre, width = logit_N.mean(), max(float(logit_N.std()), 1e-12)
    x_N = (logit_N - centre) / width
    fit_R2 = np.zeros((len(weights_RN), 2))
    fitted_R = np.zeros(len(weights_RN), bool)
    open_R = np.arange(len(weights_RN))
    for _ in range(_NEWTON_STEPS):
        if not len(open_R):
            break
        step, solvable = _newton_step(truth_N, x_N, weights_RN[open_R], fit_R2[open_R])
        fit_R2[open_R] += step
        arrived = solvable & (np.abs(step).max(axis=1) < _NEWTON_TOLERANCE)
        fitted_R[open_R[arrived]] = True
        open_R = open_R[solvable & ~arrived]
    slope_R = np.where(fitted_R, fit_R2[:, 0], np.nan) / width
    return slope_R, fit_R2[:, 1] - slope_R * centre


def _newton_step(
    truth_N: np.ndarray, x_N: np.ndarray, weights_RN: np.ndarray, fit_R2: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """The step of (slope, intercept) from `fit_R2`, and whether there is one."""
    expected = 1 / (1 + np.exp(-np.clip(fit_R2[:, :1] * x_N + fit_R2[:, 1:], -500, 500)))
    residual, spread = weights_RN * (truth_N - expected), weights_RN * expected * (1 - expected)
    a, b, c = spread @ x_N**2, spread @ x_N, spread.sum(axis=1)
    u, v = residual @ x_N, residual.sum(axis=1)
    determinant = a * c - b * b
    solvable = determinant > 1e-12 * np.maximum(a * c, 1e-300)
    step = np.stack([c * u - b * v, a * v - b * u], 1) / np.where(solvable, determinant, np.inf)[:, None]
    return step, solvable


def youden_threshold(truth_N: np.ndarray, score_N: np.ndarray) -> float:
    """The score that, as the least positive one, has the largest sensitivity + specificity (the highest such score).

    NaN without a positive or without a negative study, and where a score is NaN.
    """
    if truth_N.all() or not truth_N.any() or not np.isfinite(score_N).all():
        return float("nan")
    order = np.argsort(-score_N, kind="stable")
    last = np.append(np.diff(score_N[order]) != 0, True)
    gain = np.cumsum(truth_N[order]) / truth_N.sum() - np.cumsum(~truth_N[order]) / (~truth_N).sum()
    return float(score_N[order][last][np.argmax(gain[last])])


def _ratio(above: np.ndarray, below: np.ndarray) -> np.ndarray:
    return np.divide(above, below, out=np.full(np.shape(above), np.nan), where=below > 0)
