"""A few frames of a study for people to look at, as the model sees them. NumPy only."""

from collections.abc import Collection
from pathlib import Path

import numpy as np

from cmr_jax.data import records, schema
from cmr_jax.errors import InputError

Glimpse = list[tuple[str, np.ndarray]]
_MOST_SERIES = 5


def glimpses(data: str | Path, study_ids: Collection[str]) -> dict[str, Glimpse]:
    """Of each study that the dataset has, (view, middle frame `H W` uint8) of its first series.

    Raises InputError where the dataset is missing or damaged.
    """
    wanted = set(study_ids)
    found: dict[str, Glimpse] = {}
    for split in schema.SPLITS:
        try:
            rows = records.Split(data, split)
        except InputError:
            if split in records.load_manifest(data)["splits"]:
                raise
            continue
        for row in range(len(rows)):
            if len(found) == len(wanted):
                return found
            example = rows[row]
            if example["study_id"] in wanted:
                found[example["study_id"]] = _glimpse(example)
    return found


def _glimpse(example: records.Example) -> Glimpse:
    shown = zip(schema.split_series(example), example["series/view"], strict=True)
    middle = [(view, frames[len(frames) // 2, 0]) for frames, view in list(shown)[:_MOST_SERIES]]
    return [(view, schema.eight_bits(frame, view)) for view, frame in middle]
