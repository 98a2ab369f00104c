"""Parts of a report as extra positives (DreamLIP, arXiv 2403.17007): one section, or some of the sentences."""

import re

import numpy as np

# A full stop inside a number is followed by a digit, not by a space.
_END_OF_SENTENCE = re.compile(r"(?<=[.!?;])\s+|\n+")


def sentences(text: str) -> list[str]:
    """The sentences of `text` in order. What has no letter in it, such as the number of an item, stays with the next
    sentence (at the end of the text, with the one before)."""
    found: list[str] = []
    held = ""
    for piece in filter(None, (piece.strip() for piece in _END_OF_SENTENCE.split(text))):
        held = f"{held} {piece}".strip()
        if any(c.isalpha() for c in piece):
            found.append(held)
            held = ""
    if held:
        found[-1:] = [" ".join([*found[-1:], held])]
    return found


def draw_section(texts: list[str], rng: np.random.Generator) -> int | None:
    """The index of one of `texts` that says something; None where none does."""
    able = [i for i, text in enumerate(texts) if text.strip()]
    return able[rng.integers(len(able))] if able else None


def draw_sentences(texts: list[str], rng: np.random.Generator) -> list[str]:
    """Some of the sentences of all `texts`, in their order: any number from one to all, alike in chance."""
    found = [sentence for text in texts for sentence in sentences(text)]
    if not found:
        return []
    count = int(rng.integers(1, len(found) + 1))
    return [found[i] for i in sorted(rng.choice(len(found), count, replace=False))]
