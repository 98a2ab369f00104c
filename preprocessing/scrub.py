"""The report scrubber: header block, the study's own identifiers, dates, contacts, long numbers, signatures."""

import importlib
import re
from collections.abc import Callable, Iterable
from typing import Any

from cmr_jax.errors import InputError
from preprocessing import reports

Scrubber = Callable[..., Any]

# Names that are also terms of cardiology; they stay where the text uses them as such.
_EPONYMS = (
    "fallot fontan fabry mustard senning ross swan ganz takotsubo ebstein eisenmenger marfan loeffler chagas glenn"
    " rastelli jatene bentall blalock taussig waterston potts norwood damus kaye stansel kawasaki takayasu ehlers"
    " danlos loeys dietz turner noonan holt oram barth danon pompe friedreich becker duchenne dressler brugada uhl"
    " scimitar simpson bernoulli doppler valsalva"
).split()
_EPONYM_NOUNS = (
    r"(?:procedure|operation|repair|circulation|disease|syndrome|anomaly|cardiomyopathy|catheter|shunt|switch|baffle"
    r"|physiology|conduit|tetralogy|pathway|arteritis|ataxia|muscular|dystrophy|rule|equation|manoeuvre|maneuver|ganz"
    r"|taussig|danlos|dietz|oram|kaye|stansel|completion|palliation|patient|like)"
)
_MONTHS = (
    "January February March April May June July August September October November December"
    " Jan Feb Mar Apr Jun Jul Aug Sep Sept Oct Nov Dec"
).split()
_MONTH = rf"(?:{'|'.join(_MONTHS)}|{'|'.join(_MONTHS).upper()})\b\.?"
_DAY = r"\d{1,2}(?:st|nd|rd|th)?"
_HEADER_FIELD = (
    r"(?:patient(?:'s)?(?:\s+(?:name|id|number))?|name|mrn|medical record(?:\s+(?:number|no))?|dob|date of birth"
    r"|birth date|accession(?:\s+(?:number|no))?|account(?:\s+(?:number|no))?"
    r"|referring(?:\s+(?:physician|doctor|provider))?|ordering(?:\s+(?:physician|provider))?"
    r"|attending(?:\s+physician)?|(?:exam|study|report|visit)\s+date"
    r"|date(?:\s+of\s+(?:exam|examination|study|service|report))?"
    r"|address|phone|tel|fax|ssn|nhs(?:\s+(?:number|no))?|hospital|ward)"
)
# Written in one line, a report must not lose its sections to the field before them.
_REST_OF_FIELD = rf"[^\n]*?(?=\n|\Z|{reports.CAPITAL_HEADER})"
_SIGNED = (
    r"(?i:(?:electronically\s+)?(?:signed|dictated|verified|approved|authenticated|transcribed|reported|interpreted|read)"
    r"(?:\s+electronically)?\s+by\b\s*:?)"
)
# Capitalised words that are no header of a section.
_PERSON = r"(?:[ \t]*(?>[A-Z][\w'’-]*+\.?)(?![ \t]*:),?){1,4}"
_TITLED = r"(?:[A-Z]\.[ \t]*)*(?>[A-Z][\w'’-]++)(?:[ \t]+(?>[A-Z][\w'’-]++)(?![ \t]*:))?"
_RULES: tuple[tuple[str, str], ...] = (
    (rf"(?m)^[ \t]*(?i:{_HEADER_FIELD})[ \t]*[:#]{_REST_OF_FIELD}", ""),
    (rf"\b{_SIGNED}{_PERSON}", "[name]"),
    (r"(?i)\b[\w.+-]+@[\w-]+(?:\.[\w-]+)+", "[contact]"),
    (r"(?i)\bhttps?://\S+", "[contact]"),
    (r"\b(?:\d+\.){4,}\d+\b", "[id]"),
    (r"\b\d{4}[-/.](?:0?[1-9]|1[0-2])[-/.](?:0?[1-9]|[12]\d|3[01])\b", "[date]"),
    (r"\b(?:0?[1-9]|[12]\d|3[01])[-/.](?:0?[1-9]|[12]\d|3[01])[-/.](?:19|20)?\d\d\b", "[date]"),
    (rf"(?i)\b(?:{_DAY}[\s-]+(?:of\s+)?)?{_MONTH}[\s-]+(?:{_DAY},?\s+)?(?:19|20)\d\d\b", "[date]"),
    # Without a year only as months are written: "segment 2 may be" is no date.
    (rf"\b(?:{_DAY}[ -]{_MONTH}|{_MONTH}\s+{_DAY}\b)", "[date]"),
    (r"(?<!\d)(?:\+\d{1,3}[-. ]?)?\(?\d{3}\)?[-. ]\d{3}[-. ]\d{4}(?!\d)", "[contact]"),
    (r"\b[A-Za-z]{0,5}[-]?\d{6,}\b", "[id]"),
    (r"(?i)\b(?:9\d|1[0-2]\d)(?=[ -]*(?:years?|yrs?|y/?o\b|y\.o\.))", "over 89"),
    (rf"\b(?:Dr|Prof|Mr|Mrs|Ms|Miss)\.?[ \t]+{_TITLED}", "[name]"),
    (r"\b[A-Z][\w'’-]+(?:,?[ \t]+[A-Z][\w'’-]*\.?){0,2},?[ \t]+(?:MD|M\.D\.|FRCR|FRCP|PhD)\b", "[name]"),
)


def load(hook: str) -> Scrubber | None:
    """The site's own scrubber, `module:function`, called with the text after ours; None for "".

    Raises InputError where it cannot be imported.
    """
    if not hook:
        return None
    module, _, name = hook.partition(":")
    try:
        function = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError, ValueError):
        raise InputError("--scrubber cannot be imported: give it as module:function, importable from here") from None
    if not callable(function):
        raise InputError("--scrubber is not a function: give it as module:function")
    return function


def scrub(text: str, names: Iterable[str], ids: Iterable[str]) -> str:
    """`text` without what identifies: rules above, then the study's own `names` (whole or in parts) and `ids`."""
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    for identifier in sorted({i.strip() for i in ids if len(i.strip()) >= 3}, key=len, reverse=True):
        text = re.sub(rf"(?i)(?<!\w){re.escape(identifier)}(?!\w)", "[id]", text)
    for pattern, by in _RULES:
        text = re.sub(pattern, by, text)
    parts = {part for name in names for part in re.split(r"[\^=,\s]+", name) if len(part) >= 2}
    for part in sorted(parts, key=len, reverse=True):
        text = _scrub_name(text, part)
    return re.sub(r"\n{3,}", "\n\n", re.sub(r"[ \t]+", " ", text)).strip()


def _scrub_name(text: str, part: str) -> str:
    # Two letters are a word in many languages: only as they are written in names.
    exact = part if len(part) > 2 else part.capitalize()
    flags = "(?i)" if len(part) > 2 else ""
    keep = rf"(?!(?:'s|’s)?[ -]+{_EPONYM_NOUNS})" if part.lower() in _EPONYMS else ""
    before = r"(?<!tetralogy of )" if part.lower() == "fallot" else ""
    return re.sub(rf"{flags}{before}(?<!\w){re.escape(exact)}(?!\w){keep}", "[name]", text)
