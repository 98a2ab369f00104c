"""How a letter is set: headings, lines, bullets, tables of measurements, letterhead, addendum; spelling and typos."""

import re
from collections.abc import Mapping, Sequence

import numpy as np

from preprocessing.phantom import reports
from preprocessing.phantom.findings import Findings
from preprocessing.phantom.grammar import authors
from preprocessing.phantom.grammar.authors import Author
from preprocessing.phantom.grammar.reading import Reading
from preprocessing.phantom.reports import Sections

_SECTIONS: tuple[str, ...] = ("indication", "technique", "comparison", "findings", "impression")
_TITLES = {
    "quality": "Quality",
    "left": "Left ventricle",
    "wall": "Myocardium",
    "motion": "LV wall motion",
    "right": "Right ventricle",
    "atrium": "Atria",
    "lge": "Tissue characterization",
    "maps": "Mapping",
    "fluid": "Pericardium",
    "change": "Change",
}
# In capitals some of them would be taken for headings of sections; "": no title.
_CAPITAL_TITLES = {"quality": "", "lge": "MYOCARDIAL TISSUE", "change": "", "atrium": "ATRIA"}
_PARAGRAPHS = (("quality", "left", "wall", "motion"), ("right", "atrium"), ("lge", "maps"), ("fluid", "change"))
# Name in a table, absolute value, indexed value.
_ROWS = (
    ("LVEF", "lvef", ""),
    ("LV EDV", "edv", "edvi"),
    ("LV ESV", "esv", "esvi"),
    ("LV SV", "sv", ""),
    ("Output", "output", ""),
    ("LV mass", "mass", "massi"),
    ("RVEF", "rvef", ""),
    ("RV EDV", "rv_edv", "rv_edvi"),
    ("RV ESV", "rv_esv", "rv_esvi"),
    ("LA volume", "la", "lai"),
    ("RA volume", "ra", "rai"),
    ("BSA", "bsa", ""),
    ("Heart rate", "heart_rate", ""),
)
# Normal ranges of men and women, volumes and mass by body surface (Petersen et al., JCMR 2017; Kawel-Boehm et al.,
# JCMR 2020), drawn to the limits that readings are graded by.
RANGES: Mapping[str, Mapping[str, str]] = {
    "LVEF": {"M": "51-70", "F": "51-73"},
    "LV EDV": {"M": "58-108", "F": "56-102"},
    "LV ESV": {"M": "19-50", "F": "16-44"},
    "LV mass": {"M": "35-72", "F": "28-57"},
    "RVEF": {"M": "45-68", "F": "45-71"},
    "RV EDV": {"M": "60-112", "F": "57-108"},
    "LA volume": {"M": "22-55", "F": "22-55"},
}
_TYPO_WORD = re.compile(r"(?<![\w-])[a-z]{6,}(?![\w-])")
# A slip here would turn the meaning, which a proof-reader catches.
_SAFE = frozenset(
    ("without", "imaging", "cannot", "excluded", "exclude", "normal", "previously", "possible", "probable")
)


def listed(parts: Sequence[str]) -> str:
    return parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} and {parts[-1]}"


def enumerated(statements: Sequence[str], style: str) -> str:
    """The impression: `style` is number, bullets or prose; a single statement is never numbered."""
    if style == "prose" or len(statements) == 1:
        return " ".join(statements)
    marks = [f"{n}. " if style == "number" else "- " for n in range(1, len(statements) + 1)]
    return "\n".join(mark + text for mark, text in zip(marks, statements, strict=True))


def findings(topics: Mapping[str, Sequence[str]], author: Author) -> str:
    """The statements of `topics` as `author` sets them."""
    if author.layout == "lines":
        return "\n".join(_titled(topic, " ".join(said), author.capitals) for topic, said in topics.items())
    if author.layout == "bullets":
        return "\n".join(f"- {' '.join(said)}" for said in topics.values())
    if author.layout == "paragraphs":
        groups = [[t for t in topics if t in group] for group in _PARAGRAPHS]
        groups.sort(key=lambda group: min((list(topics).index(t) for t in group), default=99))
        return "\n\n".join(" ".join(s for t in group for s in topics[t]) for group in groups if group)
    return " ".join(sentence for said in topics.values() for sentence in said)


def _titled(topic: str, text: str, capitals: bool) -> str:
    """A line with its title, which the text does not repeat: "Quality: good."."""
    if not capitals:
        return f"{_TITLES[topic]}: {text.removeprefix('Image quality is ')}"
    title = _CAPITAL_TITLES.get(topic, _TITLES[topic].upper())
    return f"{title}: {text}" if title else text


def table(author: Author, found: Findings, reading: Reading) -> str:
    """The measurements that were made, one a line; "" for an author who gives none, or where nothing was measured."""
    if not author.table or "edv" not in reading.numbers:
        return ""
    words = authors.values(author, reading)
    rows = [
        (name, words[value], words.get(index, ""), RANGES.get(name, {}).get(found.sex, ""))
        for name, value, index in _ROWS
        if value in words
    ]
    return "\n".join(_row(author.table, *row) for row in rows)


def _row(style: str, name: str, value: str, index: str, normal: str) -> str:
    if style == "list":
        return f"{name}: {value}" + (f" ({index})" if index else "")
    if style == "pipe":
        return f"| {name} | {value} | {index or '-'} |"
    text = f"{name:<12}{value:<12}{index}".rstrip()
    return f"{text}  [{normal}]" if style == "ranges" and normal else text


class Letter:
    """Sets one letter."""

    def __init__(self, rng: np.random.Generator, author: Author):
        self.rng, self.author = rng, author

    def text(self, parts: Sections, *, addendum: str, patient_name: str, study_date: str, physician: str) -> str:
        """Letterhead (3 in 10), sections, addendum, signature (3 in 20)."""
        head = self.rng.random() < 0.3
        lines = reports.letterhead(patient_name, study_date) if head else []
        titles = dict(zip(_SECTIONS, self.author.headings, strict=True))
        order = list(_SECTIONS[:4])
        order.insert(0 if self.author.impression_first else 4, "impression")
        blocks = []
        for name in order:
            text = getattr(parts, name)
            if text:
                gap = " " if self.author.inline and "\n" not in text else "\n"
                blocks.append(f"{titles[name]}:{gap}{self._typed(text)}")
        lines.append(("\n" if self.author.inline else "\n\n").join(blocks))
        if addendum:
            lines += ["", f"ADDENDUM: {self._typed(addendum)}"]
        if self.rng.random() < 0.15:
            lines += reports.signature(physician)
        return "\n".join(lines)

    def _typed(self, text: str) -> str:
        """As the author's fingers have it: spelling, and a slip here and there in a long word."""
        text = authors.spelt(self.author, text)
        return _TYPO_WORD.sub(lambda m: self._slip(m[0]), text) if self.author.typos else text

    def _slip(self, word: str) -> str:
        if word in _SAFE or self.rng.random() >= self.author.typos:
            return word
        at = int(self.rng.integers(1, len(word) - 2))
        swapped = word[:at] + word[at + 1] + word[at] + word[at + 2 :]
        return (swapped, word[:at] + word[at + 1 :], word[: at + 1] + word[at:])[int(self.rng.integers(3))]
