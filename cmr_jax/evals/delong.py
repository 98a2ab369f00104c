"""DeLong's test of two areas under the ROC curve that were measured on the same studies.

DeLong, DeLong and Clarke-Pearson, Biometrics 1988, with the placement values from midranks (Sun and Xu, IEEE Signal
Processing Letters 2014). It takes the studies as independent: where patients repeat, believe the paired bootstrap over
patients that stands beside it. NumPy and SciPy only.
"""

import math

import numpy as np


def compare(truth_N: np.ndarray, one_N: np.ndarray, two_N: np.ndarray) -> dict[str, float]:
    """`difference` of the AUROC of the scores `one_N` less that of `two_N`, its standard error `se`, and two-sided `p`.

    p is 1 where the two order the studies alike, NaN where a class has fewer than two studies.
    """
    positives, negatives = int(truth_N.sum()), int((~truth_N).sum())
    if min(positives, negatives) < 2:
        return dict.fromkeys(("difference", "se", "p"), float("nan"))
    of_positives, of_negatives = zip(*(_placements(truth_N, score_N) for score_N in (one_N, two_N)), strict=True)
    difference_P, difference_M = of_positives[0] - of_positives[1], of_negatives[0] - of_negatives[1]
    difference = float(difference_P.mean())
    error = float(np.sqrt(difference_P.var(ddof=1) / positives + difference_M.var(ddof=1) / negatives))
    if error == 0:
        return {"difference": difference, "se": 0.0, "p": 1.0 if difference == 0 else 0.0}
    return {"difference": difference, "se": error, "p": math.erfc(abs(difference) / error / math.sqrt(2))}


def _placements(truth_N: np.ndarray, score_N: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """For each positive the share of negatives below it, for each negative the share of positives above; ties half."""
    from scipy import stats  # late, as scikit-learn in protocols.py

    everyone = stats.rankdata(score_N)
    positive, negative = score_N[truth_N], score_N[~truth_N]
    below = (everyone[truth_N] - stats.rankdata(positive)) / len(negative)
    above = 1 - (everyone[~truth_N] - stats.rankdata(negative)) / len(positive)
    return below, above
