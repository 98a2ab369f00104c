"""The report scrubber: what `scrub_rules` finds in any text, and the names and numbers of the study's own header.

Names are compared without case and accents, whole and in parts, with the spellings that keyboards without umlauts make;
names that are also terms of cardiology, or plain words of a report, stay where the text uses them as such.
"""

import functools
import importlib
import itertools
import re
import unicodedata
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from cmr_jax.errors import InputError
from preprocessing.scrub_rules import RULES

Scrubber = Callable[..., Any]
Span = tuple[int, int]

# Names that are also terms of cardiology.
EPONYMS = frozenset(
    "fallot fontan fabry anderson mustard senning ross swan ganz takotsubo ebstein eisenmenger marfan loeffler löffle"
    "r"
    " chagas glenn rastelli jatene bentall blalock taussig waterston potts norwood damus kaye stansel kawasaki takayas"
    "u"
    " ehlers danlos loeys dietz turner noonan holt oram barth danon pompe friedreich becker duchenne dressler brugada"
    " uhl scimitar simpson bernoulli doppler valsalva beutel kreuzfeld sievers stanford debakey lown wolff parkinson"
    " mosteller libman sacks".split()
)
_BEFORE_TERM = re.compile(
    r"\b(?:tetralogy of|status post|s/p|post|after|previous|prior|failing|failed|modified"
    r"|bidirectional|extracardiac|classic"
    r"|hemi|total|completion|morbus|m\.|biplane|the|syndrome of|disease of)[ -]+$",
    re.IGNORECASE,
)
_AFTER_TERM = re.compile(
    r"(?:'s|’s)?[ -]+(?:procedure|operation|repair|circulation|disease|syndrome|anomaly"
    r"|cardiomyopathy|catheter|shunt|switch"
    r"|baffle|physiology|conduit|tetralogy|pathway|arteritis|ataxia|muscular|dystrophy|rule|equation"
    r"|man(?:oeuv|euv)er|ganz"
    r"|taussig|danlos|dietz|oram|kaye|stansel|completion|palliation|patients?\b|like|type|method"
    r"|fabry|criteria|formula"
    r"|endocarditis|anastomosis|pattern|classification|sign|white|sacks|surgery|tunnel)",
    re.IGNORECASE,
)
# Surnames and given names that are words of a report: a name only beside another one, a title or what persons do.
COMMON_WORDS = frozenset(
    "long short white wall small rest young max may art ray gad mark grant page rose sharp best green brown black gra"
    "y"
    " grey strong rich price hall field fields wood stone bell cook cross day bright good hand heart head king lane la"
    "w"
    " little love low major march mild minor more noble north south east west park parks pool poor power rice root rus"
    "h"
    " spring stress summer winter swift tall thin valve vessel walker waters weeks wise ward first last case loss bas"
    "e"
    " apex strain score cord dense flow high left right normal mean peak post real ring septum view volume wide april"
    " june august augusta dawn faith grace hope joy sunny sandy clay cliff dale glen heath miles pace rod rob will bil"
    "l"
    " case chase frank guy jack pat sue victor severe moderate late early gold silver fine new old large scar".split()
)
# Parts of names that name nobody.
NOBODY = frozenset(
    "van von der den de del della di da dos du la le el al bin ibn ben abu st san santa zu zur ter ten und and the of"
    " jr sr ii iii iv dr prof mr mrs ms miss md phd sir herr frau mme med anon anonymous anonymized anonymised unknow"
    "n"
    " patient test name none null na phantom volunteer subject control clinic clinics hospital cardiology radiology"
    " medicine medical center centre department cardiac mri cmr imaging research study unit outpatient inpatien"
    "t".split()
)
_TITLE_BEFORE = re.compile(r"(?:Mr|Mrs|Ms|Miss|Dr|Prof|Mme|Herr|Frau|Pan|Pani|Patient|patient|Pt)\b\.?[ \t]+$")
_PERSON_AFTER = re.compile(
    r"[ \t]+(?:was (?:seen|scanned|referred|admitted|imaged)|attended|presented|presents|underwent|returned|tolerated"
    r"|completed|denies|complain)"
)
_ABBREVIATIONS = frozenset("LV RV LA RA MR AR AS PS TR PR MS TS CT PA AV AF HR BP IV ED ES".split())
_BETWEEN_NAMES = re.compile(r"(?:['’]s)?[ \t]*[,-]?[ \t]*(?:[A-Z]\.[ \t]*){0,2}")
# What makes an identifier the name of an institution, and the words that many of them share.
_PLACE = re.compile(
    r"\b(?:hospitals?|hospice|infirmary|clinics?|klinik(?:um)?|krankenhaus|spital|h[oô]pital|university|universit\w+"
    r"|medical|health|institute?|practice|surgery|ward|associates)\b",
    re.IGNORECASE,
)
_ANY_PLACE = frozenset(
    "general university universitats universitat memorial regional district national city county royal community"
    " teaching children childrens children's saint hospitals infirmary klinik klinikum krankenhaus spital hopital"
    " universitatsklinikum institute institut practice surgery associates health healthcare trust foundation heart"
    " vascular cardiovascular cardiac chest lung diagnostic diagnostics imaging radiology system systems group services"
    " service school college main campus building floor emergency intensive care coronary stress perfusion contrast"
    " veterans affairs army navy women womens men's international federal private public academic central upper lower"
    " magnetic resonance scanner mobile invasive internal thoracic surgical acute stroke disease failure rhythm valve"
    " congenital adult paediatric pediatric ventricular function follow-up".split()
)
_LETTERS = {"ß": "ss", "ø": "o", "ł": "l", "đ": "d", "ð": "d", "þ": "th", "æ": "ae", "œ": "oe", "ı": "i", "’": "'"}
_TYPED = {"ä": "ae", "ö": "oe", "ü": "ue", "ø": "oe", "å": "aa", "đ": "dj"}
_SHORTEST_NUMBER = 5
_SHORTEST_CODE = 4


def load(hook: str) -> Scrubber | None:
    """The site's own scrubber, `module:function`, called with the text after ours; None for "".

    Raises InputError where it cannot be imported.
    """
    if not hook:
        return None
    module, _, name = hook.partition(":")
    try:
        function = getattr(importlib.import_module(module), name)
    except Exception:  # a site's module may do anything on import, and its message may quote anything
        raise InputError("--scrubber cannot be imported: give it as module:function, importable from here") from None
    if not callable(function):
        raise InputError("--scrubber is not a function: give it as module:function")
    return function


class HookFailed(Exception):
    """A site's scrubber raised, or gave no text. Says nothing of what it was given."""


def apply_hook(hook: Scrubber, text: str) -> str:
    """`hook(text)`. Raises HookFailed, without cause or content, where that raises or is no text."""
    try:
        scrubbed = hook(text)
    except (KeyboardInterrupt, SystemExit):
        raise
    except BaseException:
        scrubbed = None
    if not isinstance(scrubbed, str):
        raise HookFailed
    return scrubbed


def scrub(text: str, names: Iterable[str], ids: Iterable[str]) -> str:
    """`text` without what identifies: the study's own `ids`, the rules, the study's own `names` (whole or in parts)."""
    text = unicodedata.normalize("NFC", text.replace("\r\n", "\n").replace("\r", "\n"))
    names, ids = list(names), list(ids)
    names += [word for place in ids if _PLACE.search(place) for word in _place_words(place)]
    ids += [part for name in names for part in parts(name) if any(c.isdigit() for c in part)]
    text = _replaced(text, _id_spans(text, ids), "[id]")
    for pattern, by in RULES:
        text = pattern.sub(by, text)
    text = _replaced(text, _name_spans(text, names), "[name]")
    text = re.sub(r"(?<=\[name\]),?[ \t]+(?:[A-ZÀ-Þ]\.[ \t]*){1,3}(?=\s|$)", "", text)
    return re.sub(r"\n{3,}", "\n\n", re.sub(r"[ \t]+", " ", text)).strip()


def fold(text: str) -> tuple[str, list[int]]:
    """Lower case without accents, and for each of its characters the place it came from."""
    out: list[str] = []
    places: list[int] = []
    for place, char in enumerate(text):
        plain = _fold_char(char)
        out.append(plain)
        places += [place] * len(plain)
    return "".join(out), places


@functools.lru_cache(maxsize=4096)
def _fold_char(char: str) -> str:
    if char.isascii():
        return char.lower()
    low = char.lower()
    if low in _LETTERS:
        return _LETTERS[low]
    return "".join(c for c in unicodedata.normalize("NFKD", low) if not unicodedata.combining(c))


def _place_words(place: str) -> list[str]:
    """Of the name of an institution the words that no other has: Brookmead of Brookmead General Hospital."""
    words = re.findall(r"[^\W\d_][\w'’-]{3,}", place)
    return [w for w in words if fold(w)[0] not in _ANY_PLACE | NOBODY | COMMON_WORDS | EPONYMS and w[0].isupper()]


def spellings(name: str) -> set[str]:
    """`name` folded, as it is written with and without umlauts: Müller is muller and mueller, Mueller is muller too."""
    low = name.lower()
    folded = fold(low)[0]
    typed = fold("".join(_TYPED.get(c, c) for c in low))[0]
    plain = re.sub(r"(?<=[aou])e", "", folded) if re.search(r"[aou]e", folded) else folded
    return {folded, typed, plain}


def parts(name: str) -> list[str]:
    """Components of a person's name as DICOM has them, then their words and the halves of double names."""
    components = [c.strip(" .") for c in re.split(r"[\^=,;/|]+", name)]
    words = [w.strip(".") for c in components for w in c.split()]
    halves = [h for w in words for h in re.split(r"-", w) if len(h) >= 3]
    found = dict.fromkeys(p for p in (*components, *words, *halves) if len(p) >= 2)
    return [p for p in found if p.lower() not in NOBODY and not all(w.lower() in NOBODY for w in p.split())]


def _matches(folded: str, places: list[int], spelling: str) -> Iterator[Span]:
    if not any(c.isalnum() for c in spelling):
        return  # strokes or points where a name should be: an empty pattern would match everywhere
    letters = [re.escape(word) for word in re.split(r"[\s'\-]+", spelling) if word]
    # The line before stays its own: words of one name stand on one line.
    pattern = r"[ \t'\-]{0,2}".join(letters)
    for match in re.finditer(rf"(?<!\w){pattern}(?!\w)", folded):
        yield places[match.start()], places[match.end() - 1] + 1


def _name_spans(text: str, names: Iterable[str]) -> list[Span]:
    folded, places = fold(text)
    sure: set[Span] = set()
    perhaps: set[Span] = set()
    for name in names:
        for part in parts(name):
            found = {span for spelling in spellings(part) for span in _matches(folded, places, spelling)}
            if " " in part:
                sure |= found
            elif part.lower() in COMMON_WORDS or len(part) == 2:
                perhaps |= {(a, b) for a, b in found if text[a].isupper() and (len(part) > 2 or text[b - 1].islower())}
            elif fold(part)[0] in EPONYMS or part.lower() in EPONYMS:
                sure |= {span for span in found if not _is_term(text, *span)}
            else:
                sure |= found
        sure |= _initial_spans(text, name)
    two_letters = {(a, b) for a, b in perhaps if b - a == 2}
    sure |= two_letters
    waiting = perhaps - two_letters
    while joined := {span for span in waiting if _beside(text, span, sure | waiting) or _is_person(text, *span)}:
        sure |= joined
        waiting -= joined
    return _joined(text, sure)


def _is_term(text: str, start: int, end: int) -> bool:
    if _TITLE_BEFORE.search(text, max(0, start - 12), start):
        return False
    return bool(_AFTER_TERM.match(text, end) or _BEFORE_TERM.search(text[max(0, start - 24) : start]))


def _is_person(text: str, start: int, end: int) -> bool:
    return bool(_TITLE_BEFORE.search(text[max(0, start - 12) : start]) or _PERSON_AFTER.match(text, end))


def _beside(text: str, span: Span, others: Iterable[Span]) -> bool:
    return any(
        re.fullmatch(r",?[ \t]+", text[min(span[1], other[1]) : max(span[0], other[0])])
        for other in others
        if 0 < max(span[0], other[0]) - min(span[1], other[1]) <= 3
    )


def _initial_spans(text: str, name: str) -> set[Span]:
    """`G. Q.`, `Q., G.` and the like; without points two letters mean many things, and must do what persons do."""
    first = [p[0].upper() for c in re.split(r"[\^=]+", name)[:3] for p in c.split() if p.lower() not in NOBODY]
    orders = {"".join(first[1:] + first[:1]), "".join(first), "".join(first[1:2] + first[:1]), "".join(first[:2])}
    spans = set()
    for order in orders:
        if len(order) >= 2:
            pattern = r"(?<!\w)" + r"[ \t,]{0,2}".join(rf"{re.escape(c)}\." for c in order) + r"(?!\w)"
            spans |= {match.span() for match in re.finditer(pattern, text)}
            bare = (match.span() for match in re.finditer(rf"(?<![\w/-]){re.escape(order)}(?![\w/-])", text))
            spans |= {span for span in bare if order not in _ABBREVIATIONS and _is_person(text, *span)}
    return spans


def _joined(text: str, spans: Iterable[Span]) -> list[Span]:
    """Spans in order, with the initials at their side and what stands between two parts of one name."""
    out: list[Span] = []
    for start, end in sorted(spans):
        if before := re.search(r"(?<!\w)(?:[A-ZÀ-Þ]\.[ \t]*,?[ \t]*){1,3}$", text[max(0, start - 12) : start]):
            start -= len(before[0])
        elif bare := re.search(r"(?:\A|[\n.,;:(][ \t]*)([A-ZÀ-Þ][ \t])\Z", text[max(0, start - 5) : start]):
            start -= len(bare[1])
        if after := re.match(r",[ \t]+(?:[A-ZÀ-Þ]\.[ \t]?){1,3}(?<=\.)", text[end : end + 12]):
            end += len(after[0])
        if out and (start <= out[-1][1] or _BETWEEN_NAMES.fullmatch(text, out[-1][1], start)):
            out[-1] = (out[-1][0], max(end, out[-1][1]))
        else:
            out.append((start, end))
    return out


def _id_spans(text: str, ids: Iterable[str]) -> list[Span]:
    folded, places = fold(text)
    spans: set[Span] = set()
    for identifier in {i.strip() for i in ids}:
        plain = fold(identifier)[0]
        pieces = re.findall(r"[^\W\d_]+|\d+", plain)
        size = sum(map(len, pieces))
        # A short number may be a volume, a short word a protocol: the rules take them behind "MRN" and the like.
        least = _SHORTEST_NUMBER if "".join(pieces).isdigit() else _SHORTEST_CODE
        if size < least or all(p in NOBODY or p in COMMON_WORDS for p in pieces):
            continue
        pattern = r"[\W_]{0,2}".join(map(re.escape, pieces))
        for match in re.finditer(rf"(?<![^\W_]){pattern}(?![^\W_])", folded):
            spans.add((places[match.start()], places[match.end() - 1] + 1))
    merged: list[Span] = []
    for start, end in sorted(spans):
        if merged and start < merged[-1][1]:
            merged[-1] = (merged[-1][0], max(end, merged[-1][1]))
        else:
            merged.append((start, end))
    return merged


def _replaced(text: str, spans: Iterable[Span], by: str) -> str:
    pieces = itertools.chain.from_iterable((text[a:b], by) for a, b in _between(text, spans))
    return "".join(pieces).removesuffix(by)


def _between(text: str, spans: Iterable[Span]) -> Iterator[Span]:
    """The stretches of `text` that no span covers."""
    last = 0
    for start, end in spans:
        yield last, start
        last = end
    yield last, len(text)
