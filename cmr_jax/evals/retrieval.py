"""How well an image finds its report among all reports, a report its image, and either its like.

Names: `image_to_text/R@5` (percent), `…/MedR`, `…/MeanR` (ranks from 1), `…/MRR` (fraction). Plain figures accept only
the study's own partner; those under `duplicate_aware/` accept every study with the same report, since a "normal study"
report cannot tell normal studies apart. Within one kind (`image_to_image`, `text_to_text`) every study of the query's
patient is left out of its gallery, and a hit is a study with the same labels, or, for images under `duplicate_aware/`,
with the same report. Ties score the expectation over random orders. Chance is the exact expectation of random scores.
NumPy only.

Letters: N studies, M texts (one a study, or several), E embedding.
"""

import dataclasses
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np

from cmr_jax.errors import InputError
from cmr_jax.evals import bootstrap, by_label, paired
from cmr_jax.evals.both_ways import rank_both
from cmr_jax.evals.export import Embeddings
from cmr_jax.evals.labels import known_values
from cmr_jax.evals.ranking import Ranks, chance_ranks, check_embeddings, rank_queries

KS = (1, 5, 10, 50)
DIRECTIONS = ("image_to_text", "text_to_image")
WITHIN = ("image_to_image", "text_to_text")
DUPLICATE_AWARE = "duplicate_aware/"
IMAGE_TO_IMAGE = WITHIN[0]

Watch = Callable[[str, Iterable[int]], Iterable[int]]


@dataclasses.dataclass(frozen=True)
class Retrieval:
    """`figures`: each figure X, and X/ci95 as [low, high] or None. `ranks`: by `direction` with its prefix, and
    `chance` with its prefix."""

    figures: dict[str, Any]
    ranks: dict[str, Ranks]
    notes: tuple[str, ...]


@dataclasses.dataclass(frozen=True)
class _Sides:
    """The two kinds of rows, and the study of each text. Image i is of study i."""

    image_NE: np.ndarray
    text_ME: np.ndarray
    study_M: np.ndarray

    def of(self, direction: str) -> tuple[np.ndarray, np.ndarray]:
        """The embeddings that ask, and those that are asked."""
        rows = {"image": self.image_NE, "text": self.text_ME}
        asking, asked = direction.split("_to_")
        return rows[asking], rows[asked]

    def ids(self, direction: str, study_ids_N: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """An id of each study as ids of the queries and the items of `direction`."""
        ids = {"image": study_ids_N, "text": study_ids_N[self.study_M]}
        asking, asked = direction.split("_to_")
        return ids[asking], ids[asked]


@dataclasses.dataclass
class _Values:
    """One value a query, by the figure whose mean or median it is; `exact` figures are no mean of queries."""

    means: dict[str, np.ndarray] = dataclasses.field(default_factory=dict)
    medians: dict[str, np.ndarray] = dataclasses.field(default_factory=dict)
    exact: dict[str, float] = dataclasses.field(default_factory=dict)
    ranks: dict[str, Ranks] = dataclasses.field(default_factory=dict)
    notes: list[str] = dataclasses.field(default_factory=list)

    def add(self, name: str, ranks: Ranks, ks: Sequence[int]) -> None:
        self.ranks[name] = ranks
        expected_N = ranks.expected_rank()
        self.means |= {f"{name}/R@{k}": 100.0 * ranks.hit_probability(k) for k in ks}
        self.means |= {f"{name}/MeanR": expected_N, f"{name}/MRR": ranks.expected_reciprocal()}
        self.medians[f"{name}/MedR"] = expected_N

    def add_chance(self, name: str, ranks: Ranks, ks: Sequence[int]) -> None:
        alone = _Values()
        alone.add(name, ranks, ks)
        self.ranks[name] = ranks
        self.exact |= alone.points()

    def points(self) -> dict[str, float]:
        found = {name: float(np.nanmean(values)) for name, values in self.means.items()}
        return found | {name: float(np.nanmedian(values)) for name, values in self.medians.items()} | self.exact


def metrics(
    image_NE: np.ndarray,
    text_NE: np.ndarray,
    *,
    relevant_ids: Sequence[Any] | np.ndarray | None = None,
    ks: Sequence[int] = KS,
    text_studies: Sequence[int] | np.ndarray | None = None,
) -> dict[str, float]:
    """The point figures of both directions.

    Args:
      image_NE, text_NE: float arrays, row i of both is study i. Scores are dot products: give unit rows for cosines.
      relevant_ids: N ids (report hashes); studies with equal ids are hits of one another in the figures under
        `duplicate_aware/`, which are given only with `relevant_ids`.
      ks: the depths of R@k; may exceed N.
      text_studies: where a study has several texts, the row of `image_NE` that each row of `text_NE` belongs to.

    Raises:
      InputError: shapes disagree, a depth is below 1, or rows hold NaN or infinity (they are named).
    """
    if not ks or min(ks) < 1:
        raise InputError("every depth k of R@k must be 1 or more")
    sides = _sides(np.asarray(image_NE), np.asarray(text_NE), text_studies)
    values = _Values()
    _add_pairs(values, sides, relevant_ids, ks, lambda _, steps: steps)
    return {"n_studies": float(len(sides.image_NE)), **values.points()}


def evaluate(
    embeddings: Embeddings,
    *,
    labels: Sequence[str] = (),
    draws: int = 1000,
    seed: int = 0,
    other: Embeddings | None = None,
    watch: Watch = lambda _, steps: steps,
) -> Retrieval:
    """All figures of all rows of `embeddings` with patient-bootstrap intervals; with `labels` also by label.

    With `other`, embeddings of another model, both are scored on the studies that both have, and each figure X also has
    `other/X`, `difference/X` (this less other) with its paired interval, and `difference/X/p`.

    Raises InputError for an unknown label, and for `other` without a study in common. `watch(what, steps)` wraps each
    long loop.
    """
    if other is None:
        return _with_intervals(embeddings, _measure(embeddings, labels, watch), draws, seed)
    embeddings, other, notes = paired.common_studies(embeddings, other)
    mine, theirs = _measure(embeddings, labels, watch), _measure(other, labels, watch)
    found = _with_intervals(embeddings, mine, draws, seed)
    figures = found.figures | _differences(embeddings, mine, theirs, draws, seed)
    return Retrieval(figures, found.ranks, (*found.notes, *notes))


def _sides(image_NE: np.ndarray, text_ME: np.ndarray, text_studies: Any) -> _Sides:
    check_embeddings("image", image_NE)
    check_embeddings("text", text_ME)
    if text_studies is None:
        if image_NE.shape != text_ME.shape:
            raise InputError(
                f"image embeddings are {image_NE.shape} and text embeddings {text_ME.shape}: they must agree"
            )
        return _Sides(image_NE, text_ME, np.arange(len(image_NE)))
    study_M = np.asarray(text_studies)
    if image_NE.shape[1] != text_ME.shape[1]:
        raise InputError(f"image embeddings are {image_NE.shape} and text embeddings {text_ME.shape} wide: not alike")
    if study_M.shape != (len(text_ME),) or study_M.dtype.kind not in "iu":
        raise InputError(f"{len(text_ME)} texts need as many text_studies, whole numbers in one dimension")
    if study_M.min() < 0 or study_M.max() >= len(image_NE):
        raise InputError(f"text_studies must be rows of the {len(image_NE)} image embeddings, counted from 0")
    return _Sides(image_NE, text_ME, study_M)


def _add_pairs(values: _Values, sides: _Sides, report_ids: Any, ks: Sequence[int], watch: Watch) -> None:
    """The figures of both directions, and their chance."""
    groups = {"": np.arange(len(sides.image_NE))}
    if report_ids is not None:
        groups[DUPLICATE_AWARE] = np.asarray(report_ids)
        if groups[DUPLICATE_AWARE].shape != (len(sides.image_NE),):
            raise InputError(f"{len(sides.image_NE)} studies need as many relevant_ids, in one dimension")
    single = np.array_equal(sides.study_M, np.arange(len(sides.image_NE)))
    there = [sides.ids(DIRECTIONS[0], group) for group in groups.values()]
    both = rank_both(*sides.of(DIRECTIONS[0]), there, watch=lambda steps: watch("image to text and back", steps))
    for direction, found in zip(DIRECTIONS, both, strict=True):
        ids = [sides.ids(direction, group) for group in groups.values()]
        for prefix, group_ids, ranks in zip(groups, ids, found, strict=True):
            values.add(prefix + direction, ranks, ks)
            # Where every study has one text, chance is the same both ways and has one name.
            if single and direction == DIRECTIONS[0]:
                values.add_chance(f"{prefix}chance", chance_ranks(group_ids), ks)
            elif not single:
                values.add_chance(f"{prefix}{direction}/chance", chance_ranks(group_ids), ks)


def _measure(embeddings: Embeddings, labels: Sequence[str], watch: Watch) -> _Values:
    columns = {name: known_values(embeddings.label(name)) for name in labels}
    sides = _sides(embeddings.image_NE, embeddings.text_NE, embeddings.text_studies)
    values = _Values(notes=list(embeddings.notes))
    reports, patients = np.array(embeddings.reports()), np.array(embeddings.patients())
    _add_pairs(values, sides, reports, KS, watch)
    _add_within(values, sides, IMAGE_TO_IMAGE, DUPLICATE_AWARE, reports, patients, np.arange(len(embeddings)), watch)
    if columns:
        _add_labels(values, embeddings, sides, columns, patients, watch)
    return values


def _add_within(
    values: _Values,
    sides: _Sides,
    direction: str,
    prefix: str,
    group_N: np.ndarray,
    patient_N: np.ndarray,
    rows: np.ndarray,
    watch: Watch,
) -> None:
    """The ranks of `direction` among the `rows` (queries and items, of one kind), own patient left out."""
    # Queries and items are the same rows of the same kind, so one array stands for both.
    ids, apart = sides.ids(direction, group_N)[0][rows], sides.ids(direction, patient_N)[0][rows]
    chance = chance_ranks(ids, apart)
    name, counted = prefix + direction, int(np.count_nonzero(chance.hits_N))
    if not counted:
        values.notes.append(f"{name}: no study has another patient's of its kind to find, so there are no figures")
        return
    values.notes.append(f"{name}: {counted} of {len(chance.hits_N)} have another patient's of their kind to find")
    query_NE, gallery_NE = (side[rows] for side in sides.of(direction))
    (ranks,) = rank_queries(query_NE, gallery_NE, [ids], leave_out=apart, watch=lambda steps: watch(name, steps))
    size = len(sides.of(direction)[0])
    values.add(name, _spread(ranks, rows, size), KS)
    values.add_chance(f"{name}/chance", chance, KS)


def _spread(ranks: Ranks, rows: np.ndarray, size: int) -> Ranks:
    """The ranks of the queries `rows` of `size`; the others have no hit and so do not count."""
    out = np.zeros((3, size), np.int64)
    out[:, rows] = ranks.above_N, ranks.tied_N, ranks.hits_N
    return Ranks(*out)


def _add_labels(
    values: _Values,
    embeddings: Embeddings,
    sides: _Sides,
    columns: dict[str, list[str]],
    patients: np.ndarray,
    watch: Watch,
) -> None:
    """Figures of the studies that have all labels; the others do not count."""
    known_N = np.all([[value != "" for value in column] for column in columns.values()], axis=0)
    codes_NQ = np.stack([np.unique(np.array(column), return_inverse=True)[1] for column in columns.values()], 1)
    values.notes.append(f"measures by {', '.join(columns)}: {known_N.sum()} of {len(known_N)} studies have the labels")
    if not known_N.any():
        return
    kind_N = np.unique(codes_NQ, axis=0, return_inverse=True)[1].reshape(-1)
    for direction in (*DIRECTIONS, *WITHIN):
        asking, asked = sides.ids(direction, np.arange(len(embeddings)))
        queries, items = np.flatnonzero(known_N[asking]), np.flatnonzero(known_N[asked])
        apart = (patients[asking[queries]], patients[asked[items]]) if direction in WITHIN else None
        query_NE, gallery_NE = sides.of(direction)
        scored, expected = by_label.measure(
            query_NE[queries],
            gallery_NE[items],
            codes_NQ[asking[queries]],
            codes_NQ[asked[items]],
            leave_out=apart,
            watch=lambda steps, what=direction: watch(f"{what} by label", steps),
        )
        if not np.isfinite(scored[by_label.MEASURES[0]]).any():
            values.notes.append(f"{direction}: no study has another of its kind to find, so there are none by label")
            continue
        for measure, each in scored.items():
            spread = np.full(len(query_NE), np.nan)
            spread[queries] = each
            values.means[f"{direction}/{measure}"] = spread
            values.exact[f"{direction}/chance/{measure}"] = float(np.nanmean(expected[measure]))
        if direction in WITHIN:
            _add_within(values, sides, direction, "", kind_N, patients, queries, watch)


def _draws(embeddings: Embeddings, values: _Values, draws: int, seed: int) -> dict[str, np.ndarray]:
    """The figure of each draw. A text is drawn with its study's patient, however many texts there are."""
    patients = embeddings.patients()
    of_text = [patients[study] for study in embeddings.studies_of_texts()]
    found: dict[str, np.ndarray] = {}
    for asking, owners in (("image", patients), ("text", of_text)):
        means, medians = (
            {name: each for name, each in some.items() if f"/{asking}_to_" in f"/{name}"}
            for some in (values.means, values.medians)
        )
        found |= bootstrap.draw_figures(means, medians, owners, draws=draws, seed=seed)
    return found


def _with_intervals(embeddings: Embeddings, values: _Values, draws: int, seed: int) -> Retrieval:
    points, drawn = values.points(), _draws(embeddings, values, draws, seed)
    figures: dict[str, Any] = {"n_studies": len(embeddings), "n_patients": len(set(embeddings.patients()))}
    if embeddings.text_studies is not None:
        figures["n_texts"] = len(embeddings.text_NE)
    for name in [*values.means, *values.medians]:
        figures[name] = points[name]
        figures[f"{name}/ci95"] = bootstrap.interval(drawn[name])
    return Retrieval(figures | values.exact, values.ranks, tuple(values.notes))


def _differences(embeddings: Embeddings, mine: _Values, theirs: _Values, draws: int, seed: int) -> dict[str, Any]:
    """`other/X`, `difference/X`, its interval and p. Patients are drawn alike for both, so the difference is paired."""
    points, others = mine.points(), theirs.points()
    drawn, drawn_other = (_draws(embeddings, each, draws, seed) for each in (mine, theirs))
    out: dict[str, Any] = {}
    for name in drawn:
        if name in drawn_other:
            out |= paired.difference(name, points[name], others[name], drawn[name] - drawn_other[name])
    return out
