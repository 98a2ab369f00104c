"""How the words of one sentence belong together: which structure a finding is of, which value a measure has, what is
severe.

Everything works on the tokens of `phrases.Table.tokens` and their places.
"""

from collections.abc import Sequence

from preprocessing.phrases import Token

_NEAR = 6
_UNSURE = ("borderline", "equivocal", "questionable", "marginal", "doubtful")


def is_heading(tokens: Sequence[Token]) -> bool:
    """Whether a line starts with a structure and a colon: "Mitral valve: ..."."""
    colon = next((p for p, t in enumerate(tokens) if t.text == ":"), len(tokens))
    return colon <= _NEAR and any(t.kind == "subject" for t in tokens[:colon])


def is_alone(tokens: Sequence[Token]) -> bool:
    """Whether a sentence says a single thing: "Normal."."""
    return all(t.kind in ("value", "word", "severity") and t.text.isalpha() for t in tokens) and len(tokens) <= 2


def has_verb(tokens: Sequence[Token]) -> bool:
    return any(t.kind == "verb" for t in tokens)


def following_subject(tokens: Sequence[Token], at: int) -> int | None:
    """The structure right behind `at` ("dilated left atrium"), or behind "of" ("dilation and stenosis of the ...")."""
    place = at + 1
    if place < len(tokens) and tokens[place].kind == "subject" and tokens[at].kind == "attribute":
        return place
    while place < len(tokens) and tokens[place].kind in ("attribute", "measure", "joint", "finding", "not"):
        if tokens[place].text in (",", ":"):
            return None
        place += 1
    if place >= len(tokens) or tokens[place].values not in (("of",), ("involving",), ("affecting",), ("across",)):
        return None
    while place < len(tokens) and tokens[place].kind == "word":
        place += 1
    return place if place < len(tokens) and tokens[place].kind == "subject" else None


def group_after(tokens: Sequence[Token], place: int) -> list[int]:
    """Further structures of a list that starts with `place`: "of the aortic and mitral valves"."""
    found, at = [], place + 1
    while at < len(tokens) and (tokens[at].kind == "joint" or tokens[at].values in (("the",), ("both",))):
        at += 1
        if at < len(tokens) and tokens[at].kind == "subject":
            after = tokens[at + 1].kind if at + 1 < len(tokens) else ""
            if after in ("attribute", "measure", "verb", "value"):
                break
            found.append(at)
            at += 1
    return found


def group_before(tokens: Sequence[Token], place: int) -> list[int]:
    """Structures listed before `place`: "mild aortic and moderate mitral regurgitation"."""
    found, at = [], place - 1
    joined = False
    while at >= 0:
        token = tokens[at]
        if token.kind == "joint" and token.text not in ("with", ":"):
            joined = True
        elif token.kind == "subject" and joined:
            found.append(at)
            joined = False
        elif token.kind not in ("severity", "not") and token.values not in (("the",), ("valve",)):
            break
        at -= 1
    return found


def group_around(tokens: Sequence[Token], place: int, at: int) -> list[int]:
    return group_before(tokens, place) if place < at else group_after(tokens, place)


def value_after(tokens: Sequence[Token], at: int) -> int | None:
    """The value that follows a measure: "size and function are mildly reduced", not one that goes with a later word."""
    for place in range(at + 1, min(len(tokens), at + 12)):
        token = tokens[place]
        owner = token.kind == "subject" and _is_owner(tokens[at + 1 : place])
        if token.kind in ("break", "subject", "attribute", "finding") and not owner:
            return None
        if token.kind == "value":
            return place if not _goes_on(tokens, place) else None
    return None


def _is_owner(between: Sequence[Token]) -> bool:
    """Whether a structure belongs to the measure before it: "function of the left ventricle"."""
    return any(t.values == ("of",) for t in between) and not any(t.kind in ("verb", "value") for t in between)


def _goes_on(tokens: Sequence[Token], place: int) -> bool:
    """Whether the value stands before a measure of its own: "and reduced function", "normal RV size"."""
    for token in tokens[place + 1 : place + 5]:
        if token.kind == "measure":
            return True
        if token.kind not in ("subject", "word", "location") or token.values in (("at",), ("in",), ("of",), ("for",)):
            return False
    return False


def called_normal(tokens: Sequence[Token], at: int) -> int | None:
    """The structure that the value `at` calls normal as a whole."""
    after = at + 1
    while after < len(tokens) and tokens[after].kind == "word" and tokens[after].text.isalpha():
        if tokens[after].text.lower() not in ("appearing", "looking", "the", "structurally", "native"):
            break
        after += 1
    if after < len(tokens) and tokens[after].kind == "subject":
        behind = tokens[after + 1] if after + 1 < len(tokens) else None
        return (
            after if behind is None or behind.kind in ("joint", "break", "verb") or not behind.text.isalpha() else None
        )
    before = at - 1
    while before >= 0 and (tokens[before].kind == "verb" or _is_adverb(tokens, before)):
        before -= 1
    if before == at - 1 and before >= 0 and tokens[before].kind == "subject":
        behind = tokens[at + 1] if at + 1 < len(tokens) else None
        return before if behind is None or not behind.text.isalpha() else None
    if before < at - 1 and before >= 0 and tokens[before].kind == "subject" and has_verb(tokens[before:at]):
        return before
    return None


def _is_adverb(tokens: Sequence[Token], at: int) -> bool:
    """ "structurally", or the "and" of "structurally and functionally"."""
    joins = at > 0 and tokens[at].text.lower() == "and" and tokens[at - 1].text.lower().endswith("ly")
    return joins or tokens[at].text.lower().endswith("ly")


def is_borderline(tokens: Sequence[Token], at: int) -> bool:
    """Whether the measure `at` has no value but a doubt: "borderline RV function", "LV size: borderline"."""
    before = next((t for t in reversed(tokens[max(0, at - 3) : at]) if t.kind != "subject" and t.text != "in"), None)
    behind = next((t for t in tokens[at + 1 : at + 5] if t.kind not in ("verb", "word", "subject")), None)
    return any(t is not None and t.text.lower().split()[-1] in _UNSURE for t in (before, behind))


def stands_alone(tokens: Sequence[Token], at: int) -> bool:
    """Whether the value `at` is said of a structure itself: "is impaired", "impaired LV", not "impaired LV strain"."""
    rest = [t for t in tokens[at + 1 : at + 3] if t.kind != "subject"]
    if rest and rest[0].kind not in ("joint", "break") and rest[0].text[0].isalpha():
        return False
    if at + 1 < len(tokens) and tokens[at + 1].kind == "subject":
        return True
    before = at - 1
    while before >= 0 and (tokens[before].kind not in ("word", "subject") or _is_adverb(tokens, before)):
        before -= 1
    return before < 0 or tokens[before].kind == "subject"


def severity(tokens: Sequence[Token], at: int) -> int | None:
    """The severity said of the token `at`: before it in its own statement, or right behind ("is mild", "(mild)")."""
    for place in range(at - 1, max(-1, at - 1 - _NEAR), -1):
        token = tokens[place]
        if token.kind == "severity":
            return place
        if token.kind in ("finding", "attribute", "break", "verb", "value") or token.text in (",", ";"):
            break
    for place in range(at + 1, min(len(tokens), at + _NEAR)):
        token = tokens[place]
        if token.kind == "severity":
            later = tokens[place + 1].kind if place + 1 < len(tokens) else ""
            return place if later not in ("finding", "attribute", "measure", "subject", "value") else None
        if token.kind in ("finding", "break", "joint", "value"):
            break
    return None


def clause(tokens: Sequence[Token], at: int) -> tuple[int, int]:
    """First and last (exclusive) place of the statement around `at`."""
    first, last = at, at + 1
    while first > 0 and tokens[first - 1].kind not in ("break", "not"):
        first -= 1
    while last < len(tokens) and tokens[last].kind not in ("break", "not", "finding"):
        last += 1
    return first, last
