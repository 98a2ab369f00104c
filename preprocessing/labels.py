"""Findings from the words of a report: which are said to be present, absent or uncertain, how severe and where.

A sentence becomes tokens (`phrases`); cues set the state of what follows or precedes them until something ends their
scope, after ConText (Harkema et al., J Biomed Inform 2009); structures are joined with what is said of them. Only the
findings and the impression speak of this study; where the two contradict, the impression wins, and an addendum wins
over both.
"""

import dataclasses
import re
from collections.abc import Iterator

from preprocessing import phrases, relations, scopes, sections
from preprocessing.phrases import Table, Token

SPEAKING = ("findings", "impression")
_RANK = {"absent": 0, "uncertain": 1, "present": 2}
_SEVERITY_RANK = ("", "trace", "mild", "mild-moderate", "moderate", "moderate-severe", "severe")
_PLACED = ("late_enhancement", "fibrosis", "myocardial_infarction", "lv_hypertrophy", "non_compaction")
_SAME_AS = {"low_alone": "low", "good": "normal"}  # of a measure
_NOT_AN_END = re.compile(r"(?:\b(?:[A-Z]|Dr|approx|vs|e\.g|i\.e|resp|No)|^\s*\d{1,2})$")
_END = re.compile(r"[.!?](?=\s|$)|\n+")


@dataclasses.dataclass(frozen=True)
class Finding:
    """What a report says of one finding. `state`: present, absent or uncertain."""

    name: str
    state: str
    severity: str = ""
    location: str = ""
    section: str = ""
    addendum: bool = False


def extract(text: str, table: Table) -> list[Finding]:
    """One finding a name, in the order of their names; names of which nothing is said are left out."""
    best: dict[str, tuple[tuple[int, ...], Finding]] = {}
    for block in sections.split(text):
        if block.section not in SPEAKING:
            continue
        for found in read(block.text, table):
            one = dataclasses.replace(found, section=block.section, addendum=block.addendum > 0)
            rank = (
                block.addendum,
                SPEAKING.index(block.section),
                _RANK[one.state],
                _SEVERITY_RANK.index(one.severity),
            )
            if one.name not in best or rank > best[one.name][0]:
                best[one.name] = (rank, one)
    return [best[name][1] for name in sorted(best)]


def read(text: str, table: Table) -> list[Finding]:
    """Every mention in `text`, in its order; a name may come several times."""
    found: list[Finding] = []  # with the state "sign" at first, where only a sign of a finding is spoken of
    topic: tuple[str, ...] = ()
    heading: tuple[str, ...] = ()
    for sentence, starts_line in _sentences(text):
        tokens = table.tokens(sentence)
        first = next((t.values for t in tokens if t.kind == "subject" and t.values != (phrases.ELSEWHERE,)), ())
        if starts_line:
            heading = first if relations.is_heading(tokens) else ()
        topic = heading or topic
        found += _Sentence(table, tokens, topic).findings()
        topic = first or topic
    named = {one.name for one in found if one.state != "sign"}
    return [
        dataclasses.replace(one, state="present") if one.state == "sign" else one
        for one in found
        if one.state != "sign" or one.name not in named
    ]


def _sentences(text: str) -> Iterator[tuple[str, bool]]:
    """(sentence, whether it starts a line)"""
    start, starts_line = 0, True
    for end in _END.finditer(text):
        if end[0] == "." and _NOT_AN_END.search(text[start : end.start()]):
            continue
        at_line_end = end[0][0] == "\n"
        if (said := text[start : end.start()] + "?" * (end[0] == "?")).strip(" ?"):
            # A line that goes on in lower case was only wrapped.
            if at_line_end and text[end.end() :].lstrip(" ")[:1].islower() and "\n\n" not in end[0]:
                continue
            yield said.replace("\n", " "), starts_line
        start, starts_line = end.end(), at_line_end
    if text[start:].strip():
        yield text[start:].replace("\n", " "), starts_line


def _leaflets(table: Table, tokens: list[Token]) -> list[Token]:
    """The tokens, with "tricuspid" as a finding where it is said of the aortic valve: "Aortic valve: tricuspid"."""
    out, of = list(tokens), ""
    for at, token in enumerate(tokens):
        after = tokens[at + 1].kind if at + 1 < len(tokens) else ""
        said = at > 0 and tokens[at - 1].kind == "verb" and of == "aortic_valve"
        if token.text.lower() == "tricuspid" and said and after not in ("finding", "attribute", "subject", "severity"):
            kind, values = table.entries.get(("trileaflet",), ("word", ("tricuspid",)))
            out[at] = Token(kind, values, token.text, token.start)
        elif token.kind == "subject":
            of = token.values[0]
    return out


class _Sentence:
    """The tokens of one sentence with the state of each, and how they go together."""

    def __init__(self, table: Table, tokens: list[Token], topic: tuple[str, ...]):
        tokens = _leaflets(table, tokens)
        self.table, self.tokens, self.topic = table, tokens, topic
        self.states = scopes.states(tokens)

    def findings(self) -> Iterator[Finding]:
        used: set[int] = set()
        for at, token in enumerate(self.tokens):
            if token.kind == "finding":
                for name, state in token.values:
                    yield from self._finding(name, state, at, at)
            elif token.kind == "attribute":
                for name, state in token.values:
                    yield from self._of_subjects(name, state, at, at)
            elif token.kind == "measure":
                value = self._value(at)
                if value is not None:
                    used.add(value)
                    word: str = self.tokens[value].values[0]
                    said = _SAME_AS.get(word, word)
                    for name in token.values:
                        state = self.table.attributes[name].means.get(said, "")
                        yield from self._of_subjects(name, state, at, value)
                elif relations.is_borderline(self.tokens, at):
                    for name in token.values:
                        yield from self._of_subjects(name, "uncertain", at, at)
        for at, token in enumerate(self.tokens):
            if token.kind == "value" and at not in used:
                if token.values == ("normal",):
                    yield from self._normal(at)
                elif token.values == ("low_alone",) and relations.stands_alone(self.tokens, at):
                    for name, one in self.table.attributes.items():
                        yield from self._of_subjects(name, one.means.get("low_alone", ""), at, at)

    def _finding(self, name: str, state: str, at: int, said_at: int) -> Iterator[Finding]:
        """`said_at`: the token whose cues count."""
        turned = self.states[said_at]
        if turned == "aside" or not state:
            return
        if turned == "uncertain":
            state = "uncertain"
        elif turned == "absent":
            if state == "absent":
                return  # "not normal" says that something is wrong, not what
            state = "absent"
        severity = self._severity(at) if state != "absent" else ""
        if not severity and state != "absent" and self.tokens[said_at].kind == "value":
            severity = self._severity(said_at)  # "function is mildly reduced": said of what the measure is
        location = self._location(name, at) if state != "absent" else ""
        yield Finding(name, state, severity, location)

    def _of_subjects(self, attribute: str, state: str, at: int, said_at: int) -> Iterator[Finding]:
        of = self.table.attributes[attribute].of
        places = self._subjects(at, {*of, phrases.ELSEWHERE})
        keys = [(key, place) for place in places for key in self.tokens[place].values if key in of]
        if not places:
            keys = [(key, at) for key in self.topic if key in of]
            default = self.table.attributes[attribute].default
            if not keys and default and not any(t.kind == "subject" for t in self.tokens[:at]):
                keys = [(key, at) for key in default.split("+")]
        for key, place in keys:
            own = len(places) > 1 and place < at and not relations.has_verb(self.tokens[place:at])
            turned = place if own and said_at == at else said_at
            yield from self._finding(of[key], state, place if own else at, turned)

    def _subjects(self, at: int, wanted: set[str]) -> list[int]:
        """The structures that token `at` speaks of, by place."""

        def fits(place: int) -> bool:
            return self.tokens[place].kind == "subject" and bool(wanted.intersection(self.tokens[place].values))

        following = relations.following_subject(self.tokens, at)
        if following is not None and fits(following):
            return [following, *(p for p in relations.group_after(self.tokens, following) if fits(p))]
        for place in range(at - 1, -1, -1):
            if fits(place):
                return [place, *(p for p in relations.group_before(self.tokens, place) if fits(p))]
        for place in range(at + 1, len(self.tokens)):
            if self.tokens[place].kind in ("break", "attribute", "finding", "measure"):
                break
            if fits(place):
                return [place]
        return []

    def _value(self, at: int) -> int | None:
        """The place of the value that the measure `at` is said to have."""
        after = relations.value_after(self.tokens, at)
        if after is not None:
            return after
        for place in range(at - 1, -1, -1):
            if self.tokens[place].kind in ("break", "verb"):
                return None
            if self.tokens[place].kind == "value":
                return place
        return None

    def _normal(self, at: int) -> Iterator[Finding]:
        """A structure that is called normal as a whole has nothing of what we ask about."""
        place = relations.called_normal(self.tokens, at)
        places = [] if place is None else [place, *relations.group_around(self.tokens, place, at)]
        keys = [key for p in places for key in self.tokens[p].values]
        if not places and at == 0 and relations.is_alone(self.tokens):
            keys = list(self.topic)
        for one in self.table.attributes.values():
            for key in keys:
                if one.implied and key in one.of:
                    yield from self._finding(one.of[key], "absent", at, at)

    def _severity(self, at: int) -> str:
        place = relations.severity(self.tokens, at)
        return self.tokens[place].values[0] if place is not None else ""

    def _location(self, name: str, at: int) -> str:
        if name == "aortic_dilation":
            near = [t.text.lower() for t in self.tokens if t.kind == "subject" and "aorta" in t.values]
            return ", ".join(dict.fromkeys(t for t in near if t not in ("aorta", "aortic", "thoracic aorta")))
        if name not in _PLACED:
            return ""
        first, last = relations.clause(self.tokens, at)
        return ", ".join(dict.fromkeys(t.text.lower() for t in self.tokens[first:last] if t.kind == "location"))
