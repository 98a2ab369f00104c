"""Which rows train, choose and test: by split, and never the same patient twice."""

import numpy as np

from cmr_jax.errors import InputError
from cmr_jax.evals.export import Embeddings


def split_rows(
    embeddings: Embeddings, train_split: str, test_split: str, *, must_train: bool
) -> tuple[dict[str, np.ndarray], list[str]]:
    """Rows of `training`, `validation` and `test`, and notes. A patient who is tested neither trains nor chooses.

    Raises InputError for an unknown split, and where nobody is left to train on.
    """
    patients = np.array(embeddings.patients())
    test = embeddings.rows(test_split)
    found = {"training": embeddings.rows(train_split) if must_train else np.arange(0)}
    found["validation"] = np.setdiff1d(np.flatnonzero(np.array(embeddings.ids["split"]) == "val"), found["training"])
    tested = np.isin(patients, patients[test])
    notes = [
        f"{count} {name} studies are of patients who are tested too: they are left out; split by patient"
        for name, rows in found.items()
        if test_split != "val" or name == "training"
        if (count := np.count_nonzero(tested[rows]))
    ]
    found = {name: rows[~tested[rows]] for name, rows in found.items()}
    if must_train and not len(found["training"]):
        raise InputError(
            f"every patient of split {train_split!r} is also in {test_split!r}: nobody is left to train on"
        )
    return found | {"test": test}, notes
