"""The sentencepiece vocabulary, trained on the scrubbed reports of the training split only."""

import io
import re
from collections.abc import Iterable

import sentencepiece

from cmr_jax.errors import InputError

_LONGEST_PIECE_OF_TEXT = 4000


def _sentences(texts: Iterable[str]) -> list[str]:
    lines = (line.strip() for text in texts for line in re.split(r"\n+|(?<=[.!?])\s+", text))
    return [
        line[start : start + _LONGEST_PIECE_OF_TEXT]
        for line in lines
        for start in range(0, len(line), _LONGEST_PIECE_OF_TEXT)
    ]


def train(texts: Iterable[str], vocab_size: int) -> bytes:
    """A serialized unigram model with pad 0, unk 1, bos 2, eos 3; case is folded.

    Deterministic: one thread, sentences in the order given. The vocabulary is smaller where the text cannot fill it.
    Raises InputError where there is no text at all.
    """
    sentences = _sentences(texts)
    if not sentences:
        raise InputError(
            "no study with a report fell into the training split, so no vocabulary can be trained:"
            " add studies or raise the first of --split_fractions"
        )
    model = io.BytesIO()
    characters = len({c for s in sentences for c in s})
    sentencepiece.SentencePieceTrainer.Train(  # pyright: ignore[reportAttributeAccessIssue]
        sentence_iterator=iter(sentences),
        model_writer=model,
        model_type="unigram",
        vocab_size=max(vocab_size, characters + 16),
        hard_vocab_limit=False,
        character_coverage=1.0,
        normalization_rule_name="nmt_nfkc_cf",
        num_threads=1,
        pad_id=0,
        unk_id=1,
        bos_id=2,
        eos_id=3,
        minloglevel=2,
    )
    return model.getvalue()


def load(model: bytes) -> sentencepiece.SentencePieceProcessor:
    """The processor of a serialized model; `encode` gives ids without bos and eos, which the trainer adds."""
    return sentencepiece.SentencePieceProcessor(model_proto=model)
