import json
from pathlib import Path

import numpy as np
import pytest
import tokenizers
import tokenizers.processors

from cmr_jax.data.tokenizer import SENTENCEPIECE, WORDPIECE, Tokenizer, saved_tokenizer
from cmr_jax.errors import InputError
from tests import datasets

WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "left", "ventricle", "di", "##lated", "##s", "no", ".", "e"]


@pytest.fixture
def vocab(tmp_path: Path) -> Path:
    (tmp_path / "vocab.txt").write_text("\n".join(WORDS) + "\n")
    return tmp_path / "vocab.txt"


def test_wordpiece_takes_the_longest_pieces(vocab: Path):
    tokenizer = Tokenizer(vocab)
    assert tokenizer.vocab_size == len(WORDS)
    assert tokenizer.encode("Left ventricles dilated.") == [5, 6, 9, 7, 8, 11]
    assert tokenizer.encode("left atrium") == [5, 1]
    assert tokenizer.encode("") == []
    assert tokenizer.encode("é") == [12], "lower case goes with accents stripped, as in BERT"


def test_frame_has_the_vocabularys_own_ends_and_padding(vocab: Path):
    tokenizer = Tokenizer(vocab)
    ids, mask = tokenizer.frame([5, 6], 6)
    assert ids.tolist() == [2, 5, 6, 3, 0, 0] and ids.dtype == np.int32
    assert mask.tolist() == [True] * 4 + [False] * 2
    ids, mask = tokenizer.frame([5] * 600, 512)
    assert ids[0] == 2 and ids[-1] == 3 and mask.all()


@pytest.mark.parametrize(("lower", "first"), [(True, 5), (False, 1)])
def test_case_is_as_the_folder_says(vocab: Path, lower: bool, first: int):
    (vocab.parent / "tokenizer_config.json").write_text(json.dumps({"do_lower_case": lower}))
    assert Tokenizer(vocab).encode("Left")[0] == first


def test_a_vocabulary_with_capitals_keeps_them(vocab: Path):
    vocab.write_text("\n".join([*WORDS, "Left"]))
    assert Tokenizer(vocab).encode("Left left") == [len(WORDS), 5]


@pytest.mark.parametrize("kind", [WORDPIECE, SENTENCEPIECE])
def test_saved_and_opened_again_it_is_the_same(vocab: Path, tmp_path: Path, kind: str):
    data = datasets.write_dataset(tmp_path / "data", {"train": 2})
    tokenizer = Tokenizer(vocab if kind == WORDPIECE else data / SENTENCEPIECE)
    folder = tmp_path / "saved"
    folder.mkdir()
    tokenizer.save(folder)
    assert [p.name for p in folder.iterdir()] == [kind]
    again = saved_tokenizer(folder)
    text = "the left ventricle is dilated"
    assert again.encode(text) == tokenizer.encode(text) and again.sha256 == tokenizer.sha256
    assert again.vocab_size == tokenizer.vocab_size


def test_a_foreign_tokenizer_json_neither_cuts_nor_pads_nor_adds_ends(vocab: Path, tmp_path: Path):
    Tokenizer(vocab).save(tmp_path)
    theirs = tokenizers.Tokenizer.from_file(str(tmp_path / WORDPIECE))
    theirs.enable_truncation(4)
    theirs.enable_padding(length=8)
    theirs.post_processor = tokenizers.processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    theirs.save(str(tmp_path / WORDPIECE))
    assert Tokenizer(tmp_path / WORDPIECE).encode("left " * 6) == [5] * 6
    assert Tokenizer(tmp_path / WORDPIECE).encode("left") == [5]


@pytest.mark.parametrize("name", ["tokenizer.model", "tokenizer.json", "vocab.txt"])
@pytest.mark.parametrize("content", [None, b"", b"\x00\xffnonsense"])
def test_what_is_no_tokenizer_is_refused(tmp_path: Path, name: str, content: bytes | None):
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError):
        Tokenizer(tmp_path / name)
