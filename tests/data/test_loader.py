import dataclasses
import itertools

import numpy as np
import pytest

from cmr_jax.config import Config, DataConfig, ModelConfig
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


def test_unknown_view_names_its_nearest():
    with pytest.raises(InputError, match=r"config.data.views has no 'cine_sx'; did you mean 'cine_sax'"):
        check_names(Config(data=DataConfig(views=("cine_sx",))))


def test_unknown_number_names_its_nearest():
    with pytest.raises(InputError, match=r"config.model.numbers has no 'lvef'; did you mean 'rvef_percent'|'lvef_per"):
        check_names(Config(model=ModelConfig(numbers=("lvef",))))


def test_eval_rows_cover_the_split_once():
    batches = list(eval_rows(5, 2))
    assert [rows.tolist() for rows, _ in batches] == [[0, 1], [2, 3], [4, 4]]
    assert sum(real for _, real in batches) == 5


FIELDS = ("video_BVTHW", "video_mask_BVT", "view_BV", "part_tokens_BL", "part_token_mask_BL", "part_id_B")


@pytest.mark.parametrize("sampling", ["section", "sentence"])
def test_hidden_views_and_parts_of_text_follow_seed_and_step_alone(folder, sampling: str):
    loader = _loader(folder, view_dropout=0.5, text_sampling=sampling)
    whole, later = _take(loader, 2, start=3)
    halves = [_take(loader, 1, start=3, index=i, of=2)[0] for i in range(2)]
    for name in FIELDS:
        np.testing.assert_array_equal(getattr(whole, name), np.concatenate([getattr(h, name) for h in halves]))
    assert whole.video_mask_BVT.any(axis=(1, 2)).all()
    rows = np.arange(24)
    first, second = loader.batch(rows, step=1), loader.batch(rows, step=2)
    assert (first.video_mask_BVT != second.video_mask_BVT).any()
    assert (whole.row_B != later.row_B).any()


def test_view_dropout_hides_in_training_alone_and_leaves_the_other_draws_as_they_were(folder):
    rows = np.arange(24)
    plain, hiding = _loader(folder), _loader(folder, view_dropout=0.5)
    np.testing.assert_array_equal(plain.batch(rows).video_BVTHW, hiding.batch(rows).video_BVTHW)
    before, after = plain.batch(rows, step=0), hiding.batch(rows, step=0)
    there = after.video_mask_BVT.any(axis=2)
    assert 0.4 < there.mean() < 0.95
    # The SAX slices are always both hidden or both there: a view goes as a whole.
    np.testing.assert_array_equal(there[:, 0], there[:, 1])
    every = there.all(axis=1)
    assert every.any()
    np.testing.assert_array_equal(before.video_BVTHW[every], after.video_BVTHW[every])


def test_hidden_views_of_an_evaluation(folder):
    loader = dataclasses.replace(_loader(folder, split="val"), hidden_views=("cine_sax",))
    batch = loader.batch(np.arange(5))
    assert batch.video_mask_BVT.any(axis=2).tolist() == [[False, False, True]] * 5
    assert not batch.video_BVTHW[:, :2].any()


def _with_two_sections(folder, **data):
    """The loader over studies that say more than one thing in more than one section."""
    loader = _loader(folder, **data)

    class Told:
        name = "train"

        def __len__(self):
            return len(loader.split)

        def __getitem__(self, row):
            texts = {"findings": "The left ventricle is of normal size. There is septal hypertrophy.",
                     "impression": "Inferior wall motion abnormality."}  # fmt: skip
            tokens = {f"tokens/{k}": np.array(loader.tokenizer.encode(v), np.int64) for k, v in texts.items()}
            return {**loader.split[row], **{f"section/{k}": v for k, v in texts.items()}, **tokens}

    text = dataclasses.replace(loader.config.model.text, length=64)
    model = dataclasses.replace(loader.config.model, text=text)
    config = dataclasses.replace(loader.config, model=model)
    return dataclasses.replace(loader, split=Told(), config=config), loader.tokenizer


@pytest.mark.parametrize("stored", [True, False])
def test_a_part_is_one_of_the_sections(folder, stored: bool):
    told, tokenizer = _with_two_sections(folder, text_sampling="section", stored=stored)
    batch = told.batch(np.arange(24), step=0)
    sections = ("The left ventricle is of normal size. There is septal hypertrophy.",
                "Inferior wall motion abnormality.")  # fmt: skip
    want = {tokenizer.frame(tokenizer.encode(text), 64)[0].tobytes() for text in sections}
    assert {row.tobytes() for row in batch.part_tokens_BL} == want
    # Equal parts are one another's positives, and the whole text is still there.
    assert len(np.unique(batch.part_id_B)) == 2
    assert len(np.unique(batch.text_id_B)) == 1 and batch.text_id_B[0] not in batch.part_id_B


def test_a_part_is_some_of_the_sentences(folder):
    told, tokenizer = _with_two_sections(folder, text_sampling="sentence")
    batch = told.batch(np.arange(24), step=0)
    one = tokenizer.frame(tokenizer.encode("There is septal hypertrophy."), 64)[0]
    assert any((row == one).all() for row in batch.part_tokens_BL)
    assert len(np.unique(batch.part_id_B)) > 3
    assert (batch.part_token_mask_BL.sum(axis=1) <= batch.token_mask_BL.sum(axis=1)).all()


def test_evaluation_reads_the_whole_text_and_has_no_part(folder):
    told, _ = _with_two_sections(folder, text_sampling="sentence")
    batch = told.batch(np.arange(3))
    assert batch.part_tokens_BL is None and batch.part_id_B is None


def test_parts_come_from_the_shuffled_partner_too(folder):
    plain, shuffled = (_loader(folder, text_sampling="section", shuffle_pairs=s) for s in (False, True))
    rows = np.arange(24)
    a, b = plain.batch(rows, step=0), shuffled.batch(rows, step=0)
    # Every report of this dataset is one section: the part is the text.
    np.testing.assert_array_equal(a.part_id_B, a.text_id_B)
    np.testing.assert_array_equal(b.part_id_B, b.text_id_B)
    assert (a.part_id_B != b.part_id_B).any()


def _with_numbers(folder, **data):
    loader = _loader(folder, **data)

    class Told:
        def __len__(self):
            return len(loader.split)

        def __getitem__(self, row):
            return {
                **loader.split[row],
                "label/name": ["lvef_percent", "lv_mass_g", "oedema"],
                "label/value": [f"{20 + row}", "99", "absent"],
                "label/source": ["text", "table", "text"],
            }

    model = dataclasses.replace(loader.config.model, numbers=("lv_mass_g", "lvef_percent"))
    return dataclasses.replace(loader, split=Told(), config=dataclasses.replace(loader.config, model=model))


def test_numbers_are_those_of_the_text_in_units_of_the_schema(folder):
    rows = np.arange(24)
    batch = _with_numbers(folder).batch(rows, step=0)
    assert np.isnan(batch.number_BQ[:, 0]).all()  # of the user's table
    np.testing.assert_allclose(batch.number_BQ[:, 1] * 15 + 50, 20 + rows, rtol=1e-5)


def test_numbers_come_from_the_shuffled_partner_and_not_to_evaluation(folder):
    rows = np.arange(24)
    shuffled = _with_numbers(folder, shuffle_pairs=True)
    told = shuffled.batch(rows, step=0).number_BQ[:, 1] * 15 + 50
    assert (np.abs(told - (20 + rows)) > 0.5).mean() > 0.5
    assert shuffled.batch(rows).number_BQ is None
    assert _loader(folder).batch(rows, step=0).number_BQ is None
