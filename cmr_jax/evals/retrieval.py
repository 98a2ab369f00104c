"""How well an image finds its report among all reports, and a report its image.

Names: `image_to_text/R@5` (percent), `…/MedR`, `…/MeanR` (ranks from 1), `…/MRR` (fraction). Plain figures accept only
the study's own partner; those under `duplicate_aware/` accept every study with the same report, since a "normal study"
report cannot tell normal studies apart. Ties score the expectation over random orders. Chance is the exact expectation
of random scores. NumPy only.

Letters: N studies, E embedding.
"""

import dataclasses
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np

from cmr_jax.errors import InputError
from cmr_jax.evals import bootstrap, by_label
from cmr_jax.evals.export import Embeddings
from cmr_jax.evals.ranking import Ranks, chance_ranks, check_embeddings, rank_queries

KS = (1, 5, 10, 50)
DIRECTIONS = ("image_to_text", "text_to_image")
DUPLICATE_AWARE = "duplicate_aware/"
IMAGE_TO_IMAGE = "image_to_image"

Watch = Callable[[str, Iterable[int]], Iterable[int]]


@dataclasses.dataclass(frozen=True)
class Retrieval:
    """`figures`: each figure X, and X/ci95 as [low, high] or None. `ranks`: by `direction` with its prefix, and
    `chance` with its prefix."""

    figures: dict[str, Any]
    ranks: dict[str, Ranks]
    notes: tuple[str, ...]


def metrics(
    image_NE: np.ndarray,
    text_NE: np.ndarray,
    *,
    relevant_ids: Sequence[Any] | np.ndarray | None = None,
    ks: Sequence[int] = KS,
) -> dict[str, float]:
    """The point figures of both directions.

    Args:
      image_NE, text_NE: float arrays, row i of both is study i. Scores are dot products: give unit rows for cosines.
      relevant_ids: N ids (report hashes); studies with equal ids are hits of one another in the figures under
        `duplicate_aware/`, which are given only with `relevant_ids`.
      ks: the depths of R@k; may exceed N.

    Raises:
      InputError: shapes disagree, a depth is below 1, or rows hold NaN or infinity (they are named).
    """
    image_NE, text_NE = np.asarray(image_NE), np.asarray(text_NE)
    ranks = _all_ranks(image_NE, text_NE, relevant_ids, lambda _, steps: steps)
    if not ks or min(ks) < 1:
        raise InputError("every depth k of R@k must be 1 or more")
    figures = {"n_studies": float(len(image_NE))}
    for name, found in ranks.items():
        means, medians = _per_query(name, found, ks)
        figures |= {key: float(values.mean()) for key, values in means.items()}
        figures |= {key: float(np.median(values)) for key, values in medians.items()}
    return figures


def evaluate(
    embeddings: Embeddings,
    *,
    labels: Sequence[str] = (),
    draws: int = 1000,
    seed: int = 0,
    watch: Watch = lambda _, steps: steps,
) -> Retrieval:
    """All figures of all rows of `embeddings` with patient-bootstrap intervals; with `labels` also by label.

    Raises InputError for an unknown label. `watch(what, steps)` wraps each long loop.
    """
    codes = {name: embeddings.label(name) for name in labels}
    ranks = _all_ranks(embeddings.image_NE, embeddings.text_NE, embeddings.reports(), watch)
    means: dict[str, np.ndarray] = {}
    medians: dict[str, np.ndarray] = {}
    exact: dict[str, float] = {}
    for name, found in ranks.items():
        of_mean, of_median = _per_query(name, found, KS)
        if "chance" in name:
            exact |= {key: float(values.mean()) for key, values in of_mean.items()}
            exact |= {key: float(np.median(values)) for key, values in of_median.items()}
        else:
            means |= of_mean
            medians |= of_median
    notes = list(embeddings.notes)
    if codes:
        by_mean, by_chance, more = _by_label(embeddings, codes, watch)
        means |= by_mean
        exact |= by_chance
        notes += more
    patients = embeddings.patients()
    found_intervals = bootstrap.intervals(means, medians, patients, draws=draws, seed=seed)
    figures: dict[str, Any] = {"n_studies": len(embeddings), "n_patients": len(set(patients))}
    for key in found_intervals:
        figures[key] = float(np.nanmean(means[key])) if key in means else float(np.median(medians[key]))
        figures[f"{key}/ci95"] = found_intervals[key]
    return Retrieval(figures | exact, ranks, tuple(notes))


def _all_ranks(image_NE: np.ndarray, text_NE: np.ndarray, report_ids: Any, watch: Watch) -> dict[str, Ranks]:
    check_embeddings("image", image_NE)
    check_embeddings("text", text_NE)
    if image_NE.shape != text_NE.shape:
        raise InputError(f"image embeddings are {image_NE.shape} and text embeddings {text_NE.shape}: they must agree")
    groups = {"": np.arange(len(image_NE))}
    if report_ids is not None:
        groups[DUPLICATE_AWARE] = np.asarray(report_ids)
        if groups[DUPLICATE_AWARE].shape != (len(image_NE),):
            raise InputError(f"{len(image_NE)} studies need as many relevant_ids, in one dimension")
    ranks = {}
    for direction, query_NE, gallery_NE in ((DIRECTIONS[0], image_NE, text_NE), (DIRECTIONS[1], text_NE, image_NE)):
        found = rank_queries(
            query_NE, gallery_NE, list(groups.values()), watch=lambda steps, what=direction: watch(what, steps)
        )
        ranks |= {prefix + direction: each for prefix, each in zip(groups, found, strict=True)}
    return ranks | {f"{prefix}chance": chance_ranks(group) for prefix, group in groups.items()}


def _per_query(name: str, ranks: Ranks, ks: Sequence[int]) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """One value a query: those whose mean is the figure, and those whose median is."""
    expected_N = ranks.expected_rank()
    means = {f"{name}/R@{k}": 100.0 * ranks.hit_probability(k) for k in ks}
    means |= {f"{name}/MeanR": expected_N, f"{name}/MRR": ranks.expected_reciprocal()}
    return means, {f"{name}/MedR": expected_N}


def _by_label(
    embeddings: Embeddings, labels: dict[str, list[str]], watch: Watch
) -> tuple[dict[str, np.ndarray], dict[str, float], list[str]]:
    """Measures by label of the studies that have all of them; NaN for the others.

    In `image_to_image` the gallery of a query lacks every study of its patient: another study of the same heart is no
    evidence that alike findings look alike.
    """
    known = np.all([[value != "" for value in column] for column in labels.values()], axis=0)
    rows = np.flatnonzero(known)
    codes_NQ = np.stack([np.unique(np.array(column)[rows], return_inverse=True)[1] for column in labels.values()], 1)
    _, patient_N = np.unique(np.array(embeddings.patients())[rows], return_inverse=True)
    image_NE, text_NE = embeddings.image_NE[rows], embeddings.text_NE[rows]
    means: dict[str, np.ndarray] = {}
    chance: dict[str, float] = {}
    notes = [f"measures by {', '.join(labels)}: {len(rows)} of {len(known)} studies have the labels"]
    for name, query_NE, gallery_NE, leave_out_N in (
        (DIRECTIONS[0], image_NE, text_NE, None),
        (DIRECTIONS[1], text_NE, image_NE, None),
        (IMAGE_TO_IMAGE, image_NE, image_NE, patient_N),
    ):
        if not len(rows):
            break
        scored, expected = by_label.measure(
            query_NE,
            gallery_NE,
            codes_NQ,
            leave_out_N=leave_out_N,
            watch=lambda steps, what=name: watch(f"{what} by label", steps),
        )
        usable = np.isfinite(scored[by_label.MEASURES[0]])
        if not usable.any():
            notes.append(f"{name}: no study has another of its kind to find, so there are no measures by label")
            continue
        for measure, values in scored.items():
            means[f"{name}/{measure}"] = np.full(len(known), np.nan)
            means[f"{name}/{measure}"][rows] = values
            chance[f"{name}/chance/{measure}"] = float(np.nanmean(expected[measure]))
    return means, chance, notes
