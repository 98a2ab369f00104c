"""Reports to token ids: the sentencepiece model that preprocessing trained beside the shards."""

import hashlib
from pathlib import Path

import numpy as np
import sentencepiece

from cmr_jax.errors import InputError


class Tokenizer:
    def __init__(self, path: str | Path):
        """Loads a sentencepiece model file.

        Raises:
          InputError: where it is missing or not a sentencepiece model.
        """
        try:
            raw = Path(path).read_bytes()
            self._model = sentencepiece.SentencePieceProcessor(model_proto=raw)
        except (OSError, RuntimeError):
            raise InputError(f"no readable sentencepiece model at {str(path)!r}: preprocess again") from None
        self.sha256 = hashlib.sha256(raw).hexdigest()

    @property
    def vocab_size(self) -> int:
        return self._model.vocab_size()

    def encode(self, text: str) -> list[int]:
        return self._model.encode(text)

    def frame(self, tokens: list[int], length: int) -> tuple[np.ndarray, np.ndarray]:
        """`<s> tokens </s>` cut and padded to `length`: int32 ids `L`, and the mask `L` that is False on padding."""
        ids = [self._model.bos_id(), *tokens[: length - 2], self._model.eos_id()]
        out = np.zeros(length, np.int32)
        out[: len(ids)] = ids
        return out, np.arange(length) < len(ids)

    def encode_sections(self, sections: dict[str, str], names: tuple[str, ...]) -> list[int]:
        """The tokens of the named sections, one after the other."""
        return [token for name in names for token in self.encode(sections[name])]
