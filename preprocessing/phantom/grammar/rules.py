"""Phrases with alternatives, and how one is drawn: the rules of `phrases.yaml`.

A rule has several alternatives. In one, `<name>` stands for another rule, `{name}` for a value that the caller gives,
`[a|b|]` for one of the parts. An alternative that needs a value nobody gave is never drawn: what was not measured
cannot be said.
"""

import functools
import re
import zlib
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import yaml

_FILES = ("phrases.yaml", "letter.yaml")
_INNERMOST = re.compile(r"\[([^\[\]]*)\]")
_PART = re.compile(r"<([\w.]+)>|\{(\w+)\}")
_HABIT = 1.2  # how far an author prefers some phrases: the deviation of the logarithm of their weights

Rules = Mapping[str, tuple[str, ...]]


@functools.cache
def read() -> Rules:
    """The rules of the packaged files, by name."""
    content: dict[str, list[str]] = {}
    for name in _FILES:
        content |= yaml.safe_load(Path(__file__).with_name(name).read_text(encoding="utf-8"))
    return {name: tuple(alternatives) for name, alternatives in content.items()}


@functools.cache
def _favourites(author: str, rule: str, count: int) -> np.ndarray:
    """How much an author likes each alternative of a rule: always the same for the same author."""
    taste = np.random.default_rng(zlib.crc32(f"{author}/{rule}".encode()))
    return np.exp(_HABIT * taste.normal(size=count))


class Speaker:
    """Draws phrases as one author would, from `values` (names to words) and the chances of `rng`."""

    def __init__(self, rng: np.random.Generator, author: str, values: Mapping[str, str]):
        self.rng, self.author, self.values, self.rules = rng, author, dict(values), read()

    def without(self, *names: str) -> "Speaker":
        """The same author, who cannot give the values `names`; draws from the same `rng`."""
        kept = {name: value for name, value in self.values.items() if name not in names}
        return Speaker(self.rng, self.author, kept)

    def chance(self, part: float) -> bool:
        return bool(self.rng.random() < part)

    def say(self, rule: str, **values: str) -> str:
        """A phrase of `rule`; `values` stand over those of the speaker.

        Raises KeyError where there is no such rule, or nothing of it can be said with the values at hand.
        """
        known = {**self.values, **values}
        alternatives = self.rules[rule]
        open_to = [at for at, text in enumerate(alternatives) if self._possible(text, known)]
        if not open_to:
            raise KeyError(f"nothing of {rule!r} can be said with {sorted(known)}")
        weights = _favourites(self.author, rule, len(alternatives))[open_to]
        chosen = alternatives[open_to[int(self.rng.choice(len(open_to), p=weights / weights.sum()))]]
        return self._fill(chosen, known)

    def sentence(self, rule: str, **values: str) -> str:
        """`say` with a capital first and a full stop last; "" where nothing is said."""
        return as_sentence(self.say(rule, **values))

    def _possible(self, text: str, known: Mapping[str, str]) -> bool:
        while group := _INNERMOST.search(text):
            fit = [part for part in group[1].split("|") if self._possible(part, known)]
            if not fit:
                return False
            text = text[: group.start()] + text[group.end() :]
        return all(
            value in known if value else any(self._possible(inner, known) for inner in self.rules[rule])
            for rule, value in _PART.findall(text)
        )

    def _fill(self, text: str, known: Mapping[str, str]) -> str:
        while group := _INNERMOST.search(text):
            fit = [part for part in group[1].split("|") if self._possible(part, known)]
            text = text[: group.start()] + fit[int(self.rng.integers(len(fit)))] + text[group.end() :]
        return _PART.sub(lambda m: self.say(m[1], **known) if m[1] else known[m[2]], text)


def as_sentence(text: str) -> str:
    text = text.strip()
    if not text:
        return ""
    return text[0].upper() + text[1:] + ("" if text[-1] in ".?!:" else ".")
