"""The studies nearest to a text or to a study. NumPy only."""

import numpy as np

from cmr_jax.errors import InputError
from cmr_jax.evals.export import Embeddings
from cmr_jax.evals.ranking import check_embeddings


def nearest(
    query_E: np.ndarray, gallery_NE: np.ndarray, top: int, leave_out_N: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Rows and cosines of the `top` nearest rows of the gallery, best first; of equal scores the earlier row first.

    Fewer where the gallery, less the rows that `leave_out_N` marks, has fewer. The gallery is of unit length.
    """
    if query_E.shape != gallery_NE.shape[1:]:
        raise InputError(f"the query has {query_E.shape[-1]} features and the embeddings {gallery_NE.shape[1]}")
    check_embeddings("query", query_E[None])
    score_N = gallery_NE @ (query_E / max(float(np.linalg.norm(query_E)), 1e-12)).astype(gallery_NE.dtype)
    rows = np.arange(len(score_N)) if leave_out_N is None else np.flatnonzero(~leave_out_N)
    best = np.argsort(-score_N[rows], kind="stable")[:top]
    return rows[best], score_N[rows[best]]


def row_of(embeddings: Embeddings, study: str) -> int:
    """The row of a study; raises InputError where the folder has not got it."""
    try:
        return embeddings.ids["study_id"].index(study)
    except ValueError:
        raise InputError("--study is not in the column study_id of ids.csv; give a pseudonym of it") from None


def of_patient(embeddings: Embeddings, patient: str) -> np.ndarray:
    """Marks the studies of `patient`."""
    return np.array(embeddings.patients()) == patient
