"""Two models on the same studies: the rows that both have, and what one figure less the other comes to. NumPy only."""

from typing import Any

import numpy as np

from cmr_jax.errors import InputError
from cmr_jax.evals import bootstrap
from cmr_jax.evals.export import Embeddings


def common_studies(one: Embeddings, two: Embeddings) -> tuple[Embeddings, Embeddings, list[str]]:
    """The rows of the studies that both have, in the order of `one`, and a note of what was left out.

    Raises InputError where they have none in common, or one has a study twice.
    """
    places = [{study: row for row, study in enumerate(each.ids["study_id"])} for each in (one, two)]
    if any(len(place) < len(each) for place, each in zip(places, (one, two), strict=True)):
        raise InputError("--compare needs one row a study: ids.csv has a study_id twice")
    shared = [study for study in places[0] if study in places[1]]
    if not shared:
        raise InputError("--compare: the two folders have no study in common; embed the same split with both models")
    notes = [f"compared on the {len(shared)} studies that both have ({len(one)} here, {len(two)} in the other)"]
    rows = [np.array([place[study] for study in shared]) for place in places]
    first, second = one.take(rows[0]), two.take(rows[1])
    if first.ids["patient_id"] != second.ids["patient_id"]:
        raise InputError("--compare: the two folders do not agree on the patients of the studies that both have")
    if first.ids["report_hash"] != second.ids["report_hash"]:
        notes.append("the reports of some studies differ between the two: each is scored against its own")
    return first, second, notes


def difference(name: str, mine: float, other: float, difference_R: np.ndarray) -> dict[str, Any]:
    """`other/name`, `difference/name` (mine less other), its interval and p; None where a figure is undefined.

    `difference_R`: the same of R resamples, patients drawn alike for both models, so that it is paired; may be empty.
    """
    known = bool(np.isfinite(mine) and np.isfinite(other))
    drawn_R = difference_R if known else np.zeros(0)
    return {
        f"other/{name}": other if np.isfinite(other) else None,
        f"difference/{name}": mine - other if known else None,
        f"difference/{name}/ci95": bootstrap.interval(drawn_R),
        f"difference/{name}/p": bootstrap.p_value(drawn_R),
    }
