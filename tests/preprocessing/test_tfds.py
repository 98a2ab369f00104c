"""Outsiders open the dataset with tensorflow-datasets and find what our reader finds."""

import numpy as np
import pytest

from cmr_jax.data import records, schema


def flat(nested: dict, prefix: str = "") -> dict:
    out = {}
    for name, value in nested.items():
        out |= flat(value, f"{prefix}{name}/") if isinstance(value, dict) else {prefix + name: value}
    return out


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::ImportWarning")
def test_builder_from_directory_gives_back_what_our_reader_gives(cohort):
    import tensorflow_datasets as tfds

    out = cohort.root / "out"
    builder = tfds.builder_from_directory(str(out))
    assert set(builder.info.splits) == {"train", "test"}  # no study fell into val
    for split in builder.info.splits:
        ours = records.Split(out, split)
        theirs = list(tfds.as_numpy(builder.as_dataset(split=split)))  # pyright: ignore[reportCallIssue]
        assert len(theirs) == len(ours) == builder.info.splits[split].num_examples > 0
        by_id = {flat(example)["study_id"].decode(): flat(example) for example in theirs}
        for row in range(len(ours)):
            mine = ours[row]
            example = by_id[mine["study_id"]]
            assert set(example) == set(mine) == set(schema.fields(32))
            for name, value in mine.items():
                other = example[name]
                if isinstance(value, str):
                    assert other.decode() == value
                elif isinstance(value, list):
                    assert [v.decode() for v in other] == value
                else:
                    assert other.dtype == value.dtype
                    np.testing.assert_array_equal(other, value)
