"""Two models on the same test studies: differences with paired intervals, and DeLong's test of the areas.

Names: `other/X`, `difference/X` (this less other) with `…/ci95` and `…/p` from patients drawn alike for both, and
`difference/X/delong_p` for an AUROC of one question. NumPy and SciPy only.
"""

import dataclasses
from typing import Any

import numpy as np

from cmr_jax.evals import binary, bootstrap, delong, paired
from cmr_jax.evals.classification import Classification, Scored, weighted_figures
from cmr_jax.evals.export import Embeddings


def align(one: Embeddings, two: Embeddings) -> tuple[Embeddings, Embeddings, list[str]]:
    """The studies that both have; labels and splits are those of `one`. Raises InputError as
    `paired.common_studies` does."""
    first, second, notes = paired.common_studies(one, two)
    return first, dataclasses.replace(second, ids=first.ids), notes


def differences(
    mine: Classification, theirs: Classification, embeddings: Embeddings, *, draws: int, seed: int
) -> dict[str, Any]:
    """All figures that both have, of the same rows of the same (aligned) embeddings."""
    patients, others = np.array(embeddings.patients()), {each.prefix(): each for each in theirs.scored}
    out: dict[str, Any] = {}
    for one in mine.scored:
        two = others.get(one.prefix())
        if two is not None:
            out |= _differences(one, two, patients[one.rows_N], draws, seed)
    return out


def _differences(one: Scored, two: Scored, patients_N: np.ndarray, draws: int, seed: int) -> dict[str, Any]:
    points = [weighted_figures(each, np.ones((1, len(patients_N)))) for each in (one, two)]
    enough = len(set(patients_N)) > 1 and draws > 0
    drawn: list[dict[str, np.ndarray]] = []
    for weights_RN in bootstrap.resamples(list(patients_N), draws, seed) if enough else ():
        both = [weighted_figures(each, weights_RN) for each in (one, two)]
        drawn.append({name: both[0][name] - both[1][name] for name in both[0]})
    out: dict[str, Any] = {}
    for name, value in points[0].items():
        difference_R = np.concatenate([each[name] for each in drawn]) if drawn else np.zeros(0)
        out |= paired.difference(name, float(value[0]), float(points[1][name][0]), difference_R)
    for question, truth_N in enumerate(one.truth_NQ.T):
        scores = [each.fit.score_NQ[:, question] for each in (one, two)]
        if all(np.isfinite(each).all() for each in scores):
            p = delong.compare(truth_N, *scores)["p"]
            out[f"difference/{one.prefix(question)}{binary.FIGURES[0]}/delong_p"] = p if np.isfinite(p) else None
    return out
