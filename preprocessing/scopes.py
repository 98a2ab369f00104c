"""What the cues of one sentence reach: which of its words are denied, doubted or set aside.

Everything works on the tokens of `phrases.Table.tokens` and their places.
"""

from collections.abc import Sequence

from preprocessing.phrases import Token

_MENTIONS = ("finding", "attribute", "measure")
# A title is no longer than this, its colon included.
_TITLE = 4
_METHOD = ("imaging", "images", "image", "sequence", "sequences", "acquisition", "acquisitions", "protocol")
_UNDONE = ("performed", "done", "acquired", "assessed", "evaluated", "given", "available", "obtained", "included")
_DOUBTS = ("not", "cannot", "can't", "difficult", "hard", "impossible", "unable", "insufficient")


def states(tokens: Sequence[Token]) -> list[str]:
    """ "" (as it stands), "absent", "uncertain" or "aside" for every token, as the cues around it say."""
    if any(t.values == ("history_all",) for t in tokens if t.kind == "history_all"):
        return ["aside"] * len(tokens)
    out = _forward(tokens)
    for place in range(title := _title(tokens)):
        out[place] = _said_below(tokens[title + 1 :]) or out[place]
    for at in range(len(tokens) - 1):
        if tokens[at].kind == "finding" and tokens[at + 1].text.lower() in _METHOD:
            out[at] = "aside"  # what was done, not what was seen
    for at in range(len(tokens)):
        if said := _said_behind(tokens, at):
            for place in _reached_back(tokens, at):
                if out[place] in ("", "absent", "uncertain") or (
                    out[place] == "old" and _alone(tokens[place + 1 : at])
                ):
                    out[place] = said
    out = ["aside" if state == "old" else state for state in out]
    for first, last in _elsewhen(tokens):
        out[first:last] = ["aside"] * (last - first)
    return out


def _title(tokens: Sequence[Token]) -> int:
    """How many words of a finding stand before a colon that begins the sentence, as in "LGE: no scar"; else 0."""
    colon = next((at for at, token in enumerate(tokens[:_TITLE]) if token.text == ":"), 0)
    return colon if {t.kind for t in tokens[:colon]} <= {"finding", "location", "word"} else 0


def _said_below(tokens: Sequence[Token]) -> str:
    """What the words behind a title say of it: "absent" where they begin by denying, "aside" where nothing was done."""
    rest = [t for t in tokens if t.kind != "break" and t.values not in (("the",), ("a",), ("an",))]
    if not rest:
        return ""
    if rest[0].kind == "not":
        undone = len(rest) > 1 and rest[1].text.lower() in _UNDONE
        return "aside" if undone else "absent"
    return "absent" if rest[0].kind == "value" and rest[0].values == ("normal",) else ""


def _said_behind(tokens: Sequence[Token], at: int) -> str:
    """What the cue `at` says of the words before it: "absent", "uncertain" or ""."""
    token = tokens[at]
    doubted = any(t.text.lower() in _DOUBTS for t in tokens[max(0, at - 4) : at])
    if token.kind == "maybe_after" or (token.text == "?" and at == len(tokens) - 1):
        return "uncertain"
    if token.kind == "not_after":
        if doubted and not _rules_out(token):
            return ""  # "has not entirely resolved"
        return "uncertain" if doubted else "absent"
    return "absent" if _not_shown(tokens, at) else ""


def _rules_out(token: Token) -> bool:
    return any(word in token.text.lower() for word in ("exclu", "ruled", "rules"))


def _not_shown(tokens: Sequence[Token], at: int) -> bool:
    """Whether "not" stands behind its finding: "is not convincingly demonstrated", "was not confirmed"."""
    if tokens[at].kind != "not" or not tokens[at].text.lower().endswith(("not", "n't")):
        return False
    behind = [t for t in tokens[at + 1 : at + 5] if t.text.lower() not in ("be", "been") and t.text[-2:] != "ly"]
    return bool(behind) and behind[0].kind == "shown"


def _alone(between: Sequence[Token]) -> bool:
    """Whether nothing else is spoken of between a finding and the cue behind it."""
    return all(t.kind in ("verb", "word", "shown") for t in between)


def _of_this_study(tokens: Sequence[Token], at: int) -> bool:
    """Whether an old finding is one of this study: "consistent with previous myocarditis"."""
    before = [t for t in tokens[max(0, at - 2) : at] if t.values not in (("a",), ("an",))]
    if tokens[at].text.lower() not in ("prior", "previous", "past") or not before:
        return False
    return before[-1].kind in ("not", "maybe") or before[-1].text.lower().endswith((" with", " of"))


def _forward(tokens: Sequence[Token]) -> list[str]:
    out, state, aside = [], "", ""
    for at, token in enumerate(tokens):
        if token.kind == "break" or (token.kind == "joint" and _ends_scope(tokens, at)):
            state = aside = ""
        elif token.kind == "verb" and aside == "history":
            aside = ""
        elif token.kind == "not" and not _not_shown(tokens, at):
            doubted = _rules_out(token) or token.text.lower() == "exclude"
            doubted = doubted and any(t.text.lower() in _DOUBTS for t in tokens[max(0, at - 4) : at])
            state = "uncertain" if doubted else "absent"
        elif (token.kind == "maybe" and state != "absent") or _says_ahead(tokens, at):
            state = "uncertain"
        elif token.kind in ("history", "history_next") and not _of_this_study(tokens, at):
            aside = token.kind
        elif token.kind == "value" and token.values in (("normal",), ("good",)) and not _turned(tokens, at):
            state = ""
        out.append({"history": "aside", "history_next": "old"}.get(aside, state))
        if aside == "history_next" and token.kind in ("finding", "attribute"):
            aside = ""
    return out


def _says_ahead(tokens: Sequence[Token], at: int) -> bool:
    """Whether a cue that mostly follows its finding stands before one: "is likely dilated"."""
    ahead = [t.kind for t in tokens[at + 1 : at + 4] if t.kind != "severity"]
    return tokens[at].kind == "maybe_after" and ahead[:1] in (["attribute"], ["value"], ["finding"])


def _turned(tokens: Sequence[Token], at: int) -> bool:
    """Whether a cue stands right before, as in "not normal" or "probably normal"."""
    near = [t for t in tokens[max(0, at - 2) : at] if t.kind != "severity"]
    return any(t.kind in ("not", "maybe") for t in near)


def _ends_scope(tokens: Sequence[Token], at: int) -> bool:
    """Whether a new statement starts after the joint `at`: "no effusion, mild regurgitation"."""
    rest = [t for t in tokens[at + 1 : at + 8] if t.values not in (("the",), ("a",), ("an",))]
    while rest and rest[0].kind == "joint":
        rest = rest[1:]
    if not rest:
        return False
    if rest[0].kind == "severity":
        before = tokens[at - 1] if at else None
        return before is None or before.kind != "severity"  # "no mild, moderate or severe ..."
    if rest[0].kind in ("maybe", "history", "value"):
        return True
    count, listed = 0, ("subject", "measure", "location")
    if tokens[at].text.lower() != "or":
        listed = (*listed, "finding")
    while count < len(rest) and rest[count].kind in listed:
        count += 1
    return 0 < count < len(rest) and rest[count].kind == "verb"


def _reached_back(tokens: Sequence[Token], at: int) -> list[int]:
    """The places that a cue after the finding reaches: its own statement, over what is listed with "or"."""
    first = at - 1
    verb_seen = False
    while first >= 0:
        token = tokens[first]
        if token.kind in ("break", "not_after", "maybe_after"):
            break
        if token.kind == "verb" and first < at - 1:
            if verb_seen or any(t.kind in ("finding", "attribute") for t in tokens[first + 1 : at]):
                break
            verb_seen = True
        if token.kind == "joint" and _separates(tokens, first, at):
            break
        first -= 1
    return list(range(first + 1, at))


def _separates(tokens: Sequence[Token], joint: int, at: int) -> bool:
    """Whether what stands before the joint is a statement of its own: it has a severity, or a value, or a cue."""
    if not any(t.kind in _MENTIONS or t.kind == "subject" for t in tokens[joint + 1 : at]):
        return False
    before = tokens[:joint]
    cut = max((p for p, t in enumerate(before) if t.kind in ("break",)), default=-1)
    return any(t.kind in ("severity", "value", "not") for t in before[cut + 1 :])


def _elsewhen(tokens: Sequence[Token]) -> list[tuple[int, int]]:
    """Stretches that speak of another study."""
    found = []
    for at, token in enumerate(tokens):
        if token.kind != "elsewhen":
            continue
        first, last = at, at + 1
        while first > 0 and not _cuts(tokens[first - 1]):
            first -= 1
        while last < len(tokens) and (not _cuts(tokens[last]) or not _mentions(tokens[first:last], tokens[last])):
            last += 1
        if not any(t.kind == "same" for t in tokens[first:last]):
            found.append((first, last))
    return found


def _mentions(tokens: Sequence[Token], end: Token) -> bool:
    """Whether something was said before `end`: "on the prior study, the left ventricle was dilated" goes on."""
    return end.kind == "break" or any(t.kind in ("finding", "attribute", "measure") for t in tokens)


def _cuts(token: Token) -> bool:
    return token.kind == "break" or token.text == ","
