import dataclasses
import itertools

import numpy as np
import pytest

from cmr_jax.config import DataConfig
from cmr_jax.data.loader import Loader, check_names, eval_rows, train_batches
from cmr_jax.data.records import Split
from cmr_jax.data.tokenizer import Tokenizer
from cmr_jax.errors import InputError
from tests import datasets, tiny


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return datasets.write_dataset(tmp_path_factory.mktemp("loader") / "data", {"train": 24, "val": 5, "test": 3})


def _loader(folder, split="train", stored=True, **data):
    config = tiny.config(folder)
    config = dataclasses.replace(config, data=dataclasses.replace(config.data, **data))
    return Loader(Split(folder, split), Tokenizer(folder / "tokenizer.model"), config, stored)


def _take(loader, count, start=0, index=0, of=1):
    batches = train_batches(loader, start_step=start, process_index=index, process_count=of)
    return list(itertools.islice(batches, count))


def test_resuming_gives_the_very_batches_that_would_have_come(folder):
    loader = _loader(folder)
    for a, b in zip(_take(loader, 4)[2:], _take(loader, 2, start=2), strict=True):
        for name in ("video_BVTHW", "tokens_BL", "row_B"):
            np.testing.assert_array_equal(getattr(a, name), getattr(b, name))


@pytest.mark.parametrize("hosts", [2, 4, 8])
def test_one_global_batch_whatever_the_number_of_hosts(folder, hosts: int):
    loader = _loader(folder)
    (whole,) = _take(loader, 1, start=3)
    parts = [_take(loader, 1, start=3, index=i, of=hosts)[0] for i in range(hosts)]
    for name in ("video_BVTHW", "row_B", "tokens_BL"):
        np.testing.assert_array_equal(getattr(whole, name), np.concatenate([getattr(p, name) for p in parts]))


def test_tokens_made_anew_from_text_equal_the_stored_ones(folder):
    rows = np.arange(6)
    stored, made = (_loader(folder, stored=s).batch(rows) for s in (True, False))
    np.testing.assert_array_equal(stored.tokens_BL, made.tokens_BL)
    assert stored.token_mask_BL.sum(axis=1).min() > 3


def test_shuffled_pairs_give_every_study_another_report_in_training_alone(folder):
    rows = np.arange(24)
    plain, shuffled = _loader(folder), _loader(folder, shuffle_pairs=True)
    np.testing.assert_array_equal(plain.batch(rows).tokens_BL, shuffled.batch(rows).tokens_BL)
    told = shuffled.batch(rows, step=0).tokens_BL
    assert (told != plain.batch(rows, step=0).tokens_BL).any(axis=1).mean() > 0.5
    assert sorted(map(bytes, told)) == sorted(map(bytes, plain.batch(rows).tokens_BL))


def test_unknown_view_names_its_nearest(folder):
    with pytest.raises(InputError, match=r"config.data.views has no 'cine_sx'; did you mean 'cine_sax'"):
        check_names(DataConfig(views=("cine_sx",)))


def test_eval_rows_cover_the_split_once():
    batches = list(eval_rows(5, 2))
    assert [rows.tolist() for rows, _ in batches] == [[0, 1], [2, 3], [4, 4]]
    assert sum(real for _, real in batches) == 5
