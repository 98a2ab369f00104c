"""Reports to token ids: the sentencepiece model that preprocessing trained beside the shards, or the WordPiece
vocabulary of a published text model. Both behind one interface."""

import hashlib
import json
from pathlib import Path
from typing import Protocol

import numpy as np
import sentencepiece
import tokenizers
from tokenizers import decoders, models, normalizers, pre_tokenizers

from cmr_jax.errors import InputError

SENTENCEPIECE, WORDPIECE = "tokenizer.model", "tokenizer.json"
# Where a Hugging Face folder has its words, and whether they are lower case.
VOCAB, VOCAB_CONFIG = "vocab.txt", "tokenizer_config.json"
_SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]")


class _Pieces(Protocol):
    """What one kind of model does."""

    pad: int
    first: int
    last: int
    vocab_size: int

    def encode(self, text: str) -> list[int]: ...


class Tokenizer:
    def __init__(self, path: str | Path):
        """Loads `tokenizer.model` (sentencepiece), `tokenizer.json` (WordPiece, as `save` writes it), or a published
        `vocab.txt`, with the `tokenizer_config.json` beside it where there is one.

        Raises:
          InputError: where it is missing or not what its name says.
        """
        path = Path(path)
        try:
            self._raw = _wordpiece(path) if path.name == VOCAB else path.read_bytes()
            self._is_wordpiece = path.suffix in (".txt", ".json")
            self._pieces: _Pieces = (_WordPiece if self._is_wordpiece else _SentencePiece)(self._raw)
        except InputError:
            raise
        except Exception as error:  # tokenizers raises bare Exception
            if not isinstance(error, OSError | RuntimeError | ValueError | KeyError) and type(error) is not Exception:
                raise
            raise InputError(f"no readable tokenizer {path.name!r} there: preprocess again, or name another") from None
        self.sha256 = hashlib.sha256(self._raw).hexdigest()

    @property
    def vocab_size(self) -> int:
        return self._pieces.vocab_size

    @property
    def file_name(self) -> str:
        """The name that `save` gives the file."""
        return WORDPIECE if self._is_wordpiece else SENTENCEPIECE

    def save(self, folder: Path) -> None:
        """Writes the one file that `Tokenizer` needs to be the same again."""
        (folder / self.file_name).write_bytes(self._raw)

    def encode(self, text: str) -> list[int]:
        return self._pieces.encode(text)

    def frame(self, tokens: list[int], length: int) -> tuple[np.ndarray, np.ndarray]:
        """`<s> tokens </s>` ([CLS], [SEP]) cut and padded to `length`: int32 ids `L`, and the mask `L` that is False on
        padding."""
        ids = [self._pieces.first, *tokens[: length - 2], self._pieces.last]
        out = np.full(length, self._pieces.pad, np.int32)
        out[: len(ids)] = ids
        return out, np.arange(length) < len(ids)

    def encode_sections(self, sections: dict[str, str], names: tuple[str, ...]) -> list[int]:
        """The tokens of the named sections, one after the other."""
        return [token for name in names for token in self.encode(sections[name])]


def saved_tokenizer(folder: Path) -> Tokenizer:
    """The tokenizer that `Tokenizer.save` left in `folder`.

    Raises:
      InputError: where there is none.
    """
    return Tokenizer(folder / (WORDPIECE if (folder / WORDPIECE).exists() else SENTENCEPIECE))


class _SentencePiece:
    def __init__(self, raw: bytes):
        if not raw:  # which sentencepiece takes for a model
            raise ValueError("empty file")
        self._model = sentencepiece.SentencePieceProcessor(model_proto=raw)
        self.pad, self.first, self.last = 0, self._model.bos_id(), self._model.eos_id()
        self.vocab_size = self._model.vocab_size()

    def encode(self, text: str) -> list[int]:
        return self._model.encode(text)


class _WordPiece:
    def __init__(self, raw: bytes):
        self._model = tokenizers.Tokenizer.from_str(raw.decode())
        # Cutting and padding are ours; a saved setting of them must not do it twice.
        self._model.no_truncation()
        self._model.no_padding()
        self.pad, _, self.first, self.last = (self._id(token) for token in _SPECIAL)
        self.vocab_size = self._model.get_vocab_size()

    def _id(self, token: str) -> int:
        found = self._model.token_to_id(token)
        if found is None:
            raise InputError(f"the WordPiece vocabulary lacks {token}")
        return found

    def encode(self, text: str) -> list[int]:
        return self._model.encode(text, add_special_tokens=False).ids


def _wordpiece(path: Path) -> bytes:
    """BERT's tokenizer over the words of a `vocab.txt`, as the JSON of the `tokenizers` library.

    Lower case as `do_lower_case` beside it says; where nothing says, as a vocabulary without a capital letter does.
    """
    words = path.read_text(encoding="utf-8").splitlines()
    vocab = {word: i for i, word in enumerate(words)}
    if missing := [token for token in _SPECIAL if token not in vocab]:
        raise InputError(f"{path.name!r} lacks {missing[0]}: it is no WordPiece vocabulary")
    beside = path.with_name(VOCAB_CONFIG)
    settings = json.loads(beside.read_text()) if beside.exists() else {}
    lower = settings.get("do_lower_case", not any(w != w.lower() for w in words if not w.startswith("[")))
    made = tokenizers.Tokenizer(models.WordPiece(vocab, unk_token="[UNK]", max_input_chars_per_word=100))
    made.normalizer = normalizers.BertNormalizer(lowercase=lower)
    made.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    made.decoder = decoders.WordPiece()
    made.add_special_tokens([token for token in (*_SPECIAL, "[MASK]") if token in vocab])
    return made.to_str().encode()
