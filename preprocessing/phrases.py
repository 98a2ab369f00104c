"""The phrase table of the labeller: read, checked, and looked up word by word.

A sentence becomes a list of tokens; each is the longest phrase of the table that starts there, or a plain word.
"""

import dataclasses
import functools
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from cmr_jax.errors import InputError, nearest

PACKAGED = Path(__file__).with_name("label_phrases.yaml")
_CUES = (
    *("not", "not_after", "maybe", "maybe_after", "shown", "history", "history_next", "history_all", "elsewhen"),
    *("same", "break", "joint", "verb", "nothing"),
)
_ATTRIBUTE_KEYS = ("of", "present", "absent", "measures", "high", "low", "low_alone", "normal", "default", "implied")
_STATES = ("present", "absent")
_FINDING_KEYS = {"present": "present", "absent": "absent", "signs": "sign"}
_VALUES = ("normal", "good", "high", "low", "low_alone")
_WORD = re.compile(r"(?:[^\W\d_]|')+|\d+(?:\.\d+)?|[^\w\s]|_")
_SNAKE = re.compile(r"[a-z][a-z0-9_]*")
_LONGEST_ABBREVIATION = 6
ELSEWHERE = "elsewhere"


@dataclasses.dataclass(frozen=True)
class Token:
    """A phrase of a sentence. `values`: structures, (attribute, state) or measures, (finding, state), or one word."""

    kind: str
    values: tuple[Any, ...]
    text: str
    start: int


@dataclasses.dataclass(frozen=True)
class Attribute:
    """A finding that several structures can have; `means` maps a measure's value to a state.

    `default` names the structures meant where none is named ("lv+rv"). `implied`: whether a structure that is called
    normal has none of it.
    """

    of: dict[str, str]
    means: dict[str, str]
    default: str
    implied: bool = True


@dataclasses.dataclass(frozen=True)
class Table:
    """What `read` makes of a phrase file; `entries` is keyed by the words of a phrase."""

    entries: dict[tuple[str, ...], tuple[str, tuple[Any, ...]]]
    attributes: dict[str, Attribute]
    names: tuple[str, ...]
    longest: int

    def tokens(self, sentence: str) -> list[Token]:
        """The sentence as the longest phrases that fit, from left to right."""
        words = [m for m in _WORD.finditer(sentence) if m[0] != "-"]
        loud = not any(c.islower() for c in sentence)  # in a line of capitals MS and AS are no abbreviations
        out, at = [], 0
        while at < len(words):
            for count in range(min(self.longest, len(words) - at), 0, -1):
                entry = self._entry([w[0] for w in words[at : at + count]], loud)
                if entry is not None:
                    break
            else:
                count, entry = 1, ("word", (words[at][0].lower(),))
            start, stop = words[at].start(), words[at + count - 1].end()
            out.append(Token(*entry, sentence[start:stop], start))
            at += count
        return out

    def _entry(self, words: list[str], loud: bool) -> tuple[str, tuple[Any, ...]] | None:
        found = next((found for form in _forms(words) if (found := self.entries.get(form)) is not None), None)
        unsure = loud and len(words) == 1 and len(words[0]) <= 2 and found is not None and found[0] == "finding"
        return None if unsure else found


def _plain(word: str) -> str:
    return word.lower().replace("aemi", "emi").replace("aema", "ema").replace("aetio", "etio")


def _is_abbreviation(word: str) -> bool:
    return word.isalpha() and len(word) <= _LONGEST_ABBREVIATION and word[1:] != word[1:].lower()


def _forms(words: list[str]) -> Iterator[tuple[str, ...]]:
    """Spellings under which words of a report may stand in the table: as they are, plain, without a plural s."""
    lower = tuple(map(_plain, words))
    yield tuple(w if _is_abbreviation(w) else p for w, p in zip(words, lower, strict=True))
    yield tuple(w if _is_abbreviation(w) and len(w) <= 3 else p for w, p in zip(words, lower, strict=True))
    yield lower
    if len(lower[-1]) > 3 and lower[-1].endswith("s"):
        yield (*lower[:-1], lower[-1].removesuffix("s"))


def _key(phrase: str) -> tuple[str, ...]:
    words = [m[0] for m in _WORD.finditer(phrase) if m[0] != "-"]
    return tuple(w if _is_abbreviation(w) else _plain(w) for w in words)


@functools.cache
def read(path: str = "") -> Table:
    """The packaged table, changed as the file `path` says.

    Raises InputError that names the line or the entry where a file cannot be used.
    """
    content = _load(PACKAGED)
    if path:
        _merge(content, _load(Path(path)))
    return _table(content)


def _load(path: Path) -> dict[str, Any]:
    try:
        content = yaml.load(path.read_text(encoding="utf-8"), Loader=yaml.BaseLoader)  # a plain no is a word here
    except OSError as error:
        raise InputError(f"--label_phrases cannot be read ({error.strerror})") from None
    except UnicodeDecodeError:
        raise InputError("--label_phrases is not UTF-8 text") from None
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f" line {mark.line + 1}" if mark else ""
        raise InputError(f"--label_phrases{where}: not YAML ({getattr(error, 'problem', 'unreadable')})") from None
    if not isinstance(content, dict):
        raise InputError("--label_phrases must hold a mapping: subjects, attributes, findings, cues, ...")
    _check(content)
    return content


def _complain(entry: str, what: str) -> InputError:
    return InputError(f"--label_phrases {entry}: {what}")


def _check(content: dict[str, Any]) -> None:
    known = ("subjects", "attributes", "findings", "cues", "values", "severities", "locations")
    for part, inside in content.items():
        if part not in known:
            raise _complain(str(part), f"unknown part{nearest(str(part), known)}")
        if part == "locations":
            _check_list(part, inside)
            continue
        if not isinstance(inside, dict):
            raise _complain(part, "must be a mapping")
        for name, its in inside.items():
            entry = f"{part}.{name}"
            allowed = {"cues": _CUES, "values": _VALUES}.get(part)
            if allowed and name not in allowed:
                raise _complain(entry, f"unknown{nearest(str(name), allowed)}")
            if part in ("attributes", "findings"):
                _check_states(entry, str(name), its, _ATTRIBUTE_KEYS if part == "attributes" else tuple(_FINDING_KEYS))
            else:
                _check_list(entry, its)


def _check_states(entry: str, name: str, its: Any, allowed: tuple[str, ...]) -> None:
    if not isinstance(its, dict):
        raise _complain(entry, "must be a mapping, as {present: [phrase, ...]}")
    if not all(_SNAKE.fullmatch(part) for part in name.split("+")):
        raise _complain(entry, "a name is lower case with underscores")
    for key, value in its.items():
        if key not in allowed:
            raise _complain(f"{entry}.{key}", f"unknown{nearest(str(key), allowed)}")
        if key in (*_FINDING_KEYS, "measures"):
            _check_list(f"{entry}.{key}", value)
        elif key == "of" and not (isinstance(value, dict) and all(isinstance(v, str) for v in value.values())):
            raise _complain(f"{entry}.of", "must map structures to names of findings")
        elif key in _VALUES and value not in _STATES:
            raise _complain(f"{entry}.{key}", "must be present or absent")


def _check_list(entry: str, phrases: Any) -> None:
    if not isinstance(phrases, list):
        raise _complain(entry, "must be a list of phrases")
    for phrase in phrases:
        if not isinstance(phrase, str) or not _key(phrase.removeprefix("-")):
            raise _complain(entry, f"{phrase!r} is not a phrase")


def _merge(base: dict[str, Any], more: dict[str, Any]) -> None:
    """Adds the lists of `more` to those of `base`; "-phrase" takes one away."""
    for key, value in more.items():
        if isinstance(value, dict):
            _merge(base.setdefault(key, {}), value)
        elif isinstance(value, list):
            gone = {_key(phrase[1:]) for phrase in value if phrase.startswith("-")}
            kept = [phrase for phrase in base.get(key, []) if _key(phrase) not in gone]
            base[key] = kept + [phrase for phrase in value if not phrase.startswith("-")]
        else:
            base[key] = value


def _table(content: dict[str, Any]) -> Table:
    entries: dict[tuple[str, ...], tuple[str, tuple[Any, ...]]] = {}
    said_by: dict[tuple[str, ...], str] = {}

    def add(where: str, phrases: list[str], kind: str, values: tuple[Any, ...]) -> None:
        for phrase in phrases:
            key = _key(phrase)
            if said_by.get(key, where) != where and entries[key] != (kind, values):
                raise _complain(where, f"{phrase!r} stands under {said_by[key]} too")
            entries[key], said_by[key] = (kind, values), where

    for keys, phrases in content["subjects"].items():
        add(f"subjects.{keys}", phrases, "subject", tuple(keys.split("+")))
    attributes = {}
    for name, its in content["attributes"].items():
        means = {value: its[value] for value in _VALUES if value in its}
        attributes[name] = Attribute(
            its.get("of", {}), means, its.get("default", ""), its.get("implied", "yes") != "no"
        )
        for state in _STATES:
            add(f"attributes.{name}.{state}", its.get(state, []), "attribute", ((name, state),))
        add(f"attributes.{name}.measures", its.get("measures", []), "measure", (name,))
    for name, its in content["findings"].items():
        for key, state in _FINDING_KEYS.items():
            values = tuple((part, state) for part in name.split("+"))
            add(f"findings.{name}.{key}", its.get(key, []), "finding", values)
    for part in ("cues", "values", "severities"):
        for name, phrases in content[part].items():
            kind, values = {"cues": (name, (name,)), "values": ("value", (name,))}.get(part, ("severity", (name,)))
            add(f"{part}.{name}", phrases, "word" if kind == "nothing" else kind, values)
    add("locations", content["locations"], "location", ())
    names = {name for one in attributes.values() for name in one.of.values()}
    names |= {part for name in content["findings"] for part in name.split("+")}
    return Table(entries, attributes, tuple(sorted(names)), max(map(len, entries)))
