"""Numbers of a report: ejection fractions, volumes, mass, T1, T2 and ECV, with ranges, units and whose they are."""

import dataclasses
import math
import re

from preprocessing import sections

_SECTIONS = ("findings", "impression")
_LV = r"\b(?:left[ -]ventric(?:le|ular)|LV|systemic ventricle)\b"
_RV = r"\b(?:right[ -]ventric(?:le|ular)|RV)\b"
_NUMBER = r"\d+(?:[.,]\d+)?"
_CHANGED = "improv|increas|recover|ris|rose|fall|fell|decreas|declin|drop|deteriorat|worsen|reduc|went"
_TODAY = r"(?:now|currently|today)\s+"
_TO = r"(?:\s*[-–—−]\s*|\s+to\s+|\s+and\s+|\s*%\s*(?:-|–|—|to)\s*)"
# What may stand between a quantity and its number; never a comma with another quantity, never the end of a sentence.
_FILL = (
    r"(?:\s+(?:of|for|in)\s+the\s+(?:left|right)\s+ventricle)?(?:\s*\((?:EF|LVEF|RVEF|ECV|biplane|indexed|BSA|MOLLI|native|[^()\d]{1,30})\)|\s*\[[^\[\]\d]{1,12}\])?"
    r"(?:[\s:=~≈<>*_|]|(?<=approx)\.|\((?=\s*[<>~≈]?\s*\d[\d.,–-]*\s*%\s*\))|,(?=\s*(?:\d|measur|estimat|calculat|is|at|approx))|\b(?!(?:prior|previous\w*|formerly|RV\w*|LV\w*|right|left"
    r"|normal\s+range|reference|ref|change\w*|improv\w*|increased\s+by|decreased\s+by)\b)[A-Za-z]+\b|-(?=[A-Za-z\d])){1,60}?"
)
_QUANTITIES = {
    "ef_percent": (
        r"(?:(?:LV|RV|left ventricular|right ventricular|ventricular|global)?[ -]?(?:ejection[ -]fraction|\bEF)"
        r"|\b[LR]VEF)\b",
        "%",
    ),
    "edvi_ml_m2": (
        r"(?:indexed [LR]VEDV\b|\b[LR]VEDVI\b|\bEDVI\b|end[ -]diastolic volume index|indexed end[ -]diastolic volume)",
        "ml/m2",
    ),
    "esvi_ml_m2": (
        r"(?:indexed [LR]VESV\b|\b[LR]VESVI\b|\bESVI\b|end[ -]systolic volume index|indexed end[ -]systolic volume)",
        "ml/m2",
    ),
    "edv_ml": (r"(?:\b[LR]VEDV\b|\bEDV\b|end[ -]diastolic volume(?! index))", "ml"),
    "esv_ml": (r"(?:\b[LR]VESV\b|\bESV\b|end[ -]systolic volume(?! index))", "ml"),
    "massi_g_m2": (r"(?:\bLVMI\b|mass index|indexed (?:LV |myocardial )?mass)", "g/m2"),
    "mass_g": (r"(?:\bLVM\b|(?:\bLV |left ventricular |myocardial )?\bmass(?! index))", "g"),
    "t1_ms": (r"\b(?:native\s+)?T1\b(?:\s+(?:value|time|relaxation time)s?)?", "ms"),
    "t2_ms": (r"\bT2\b(?![*-]\s*(?:w|star))(?:\s+(?:value|time|relaxation time)s?)?", "ms"),
    "ecv_percent": (r"(?:\bECV\b|extracellular volume(?: fraction)?)", "%"),
}
_UNITS = {
    "%": r"(?:%|percent|per cent|pct)",
    "ml": r"(?:m[lL]|cc|cm3)(?!\s*/)",
    "ml/m2": r"(?:m[lL]\s*/\s*m(?:2|²|\^2|\*\*2))",
    "g": r"(?:g|gm|grams?)\b(?!\s*/)",
    "g/m2": r"(?:g\s*/\s*m(?:2|²|\^2|\*\*2))",
    "ms": r"(?:ms|msec|milliseconds)\b",
}
_RANGES = {
    "ef_percent": (3, 95),
    "edvi_ml_m2": (15, 500),
    "esvi_ml_m2": (3, 400),
    "edv_ml": (10, 900),
    "esv_ml": (3, 800),
    "massi_g_m2": (10, 400),
    "mass_g": (10, 900),
    "t1_ms": (300, 2500),
    "t2_ms": (10, 200),
    "ecv_percent": (5, 90),
}
_OTHER_TIME = re.compile(
    r"\b(?:prior|previous(?:ly)?|earlier|last|formerly|old|comparison|historical|baseline)\b[^.;,]{0,40}$|\b(?:compared|versus|vs\.?)"
    r"\b[^.;]{0,30}$|\bhistory of\b[^.;]{0,40}$|\b(?:normal|reference)\s+(?:range|values?|limits?)[^.;,]{0,15}$",
    re.IGNORECASE,
)
# Forms that name an earlier value before the one of today, or the ventricle behind the quantity, and what they mean.
_FORMS = (
    (
        rf"\b(?:(?:has|have)\s+)?(?:{_CHANGED})\w*\s+(?:\w+ly\s+)?from\s+{_NUMBER}\s*(?:%|ml(?:/m[2²])?|g|ms)?\s+to\s+(?=\d)",
        "is ",
    ),
    (
        rf"\b(?:prior|previous(?:ly)?|old)\s+((?:LV|RV)?[ -]?EF)\s*(?:was|of|[=:])?\s*{_NUMBER}\s*%?\s*,?\s*{_TODAY}",
        r"\1 ",
    ),
    (rf"\b(?:was|previously)\s+{_NUMBER}\s*%?\s*,?\s*(?:and\s+)?(?:is\s+)?{_TODAY}(?=\d)", "is "),
    (rf"\bEF\s*:?\s*(LV|RV)\s*:?\s*({_NUMBER}\s*%?)\s*[,/]?\s*(LV|RV)\s*:?\s*(?=\d)", r"\1EF \2, \3EF "),
)
_WIDEST_IN_BRACKETS = 10  # percent; a wider one is a normal range: "preserved (55-75 %)"
_SENTENCE = re.compile(r"(?:(?<!\d)(?<!approx)[.;](?=\s|$)|(?<=\d)[.;](?=\s+[A-Z]|\s*$)|\n)")
_TAKES_LV = ("ef_percent", "edv_ml", "esv_ml", "edvi_ml_m2", "esvi_ml_m2", "mass_g", "massi_g_m2")


@dataclasses.dataclass(frozen=True)
class Number:
    """A number that a report gives; a range has its middle as `value`. `name` ends in its unit, e.g. `lvef_percent`."""

    name: str
    value: float
    low: float
    high: float
    unit: str
    section: str


def extract(text: str) -> list[Number]:
    """One number a name, in the order of their names. The impression comes before the findings, an addendum before
    both; of several in one section, the first counts."""
    best: dict[str, tuple[tuple[int, int], Number]] = {}
    for block in sections.split(text):
        if block.section in _SECTIONS:
            rank = (block.addendum, _SECTIONS.index(block.section))
            for number in read(block.text, block.section):
                if number.name not in best or rank > best[number.name][0]:
                    best[number.name] = (rank, number)
    return [best[name][1] for name in sorted(best)]


def read(text: str, section: str = "") -> list[Number]:
    """Every number in `text`; a name may come several times."""
    found, side = [], ""
    for sentence in _SENTENCE.split(text):
        for form, meant in _FORMS:
            sentence = re.sub(form, meant, sentence, flags=re.IGNORECASE)
        side = _side(sentence[:40]) or side
        taken: set[int] = set()
        for kind in _QUANTITIES:
            for number, start in _of_kind(kind, sentence, side, section):
                if start not in taken:
                    taken.add(start)
                    found.append(number)
    return found


def _of_kind(kind: str, sentence: str, side: str, section: str) -> list[tuple[Number, int]]:
    words, unit = _QUANTITIES[kind]
    sign = _UNITS[unit]
    found = []
    value = (
        rf"(?P<low>{_NUMBER})(?:\s*{sign}(?={_TO}\d))?(?:{_TO}(?P<high>{_NUMBER}))?"
        rf"(?:\s*(?:±|\+/-)\s*{_NUMBER})?\s*(?P<unit>{sign})?"
    )
    for match in re.finditer(rf"(?P<what>{words}){_FILL}{value}", sentence, re.IGNORECASE):
        if _OTHER_TIME.search(sentence[: match.start()]) or not _plausible(match, kind, sentence):
            continue
        low = _number(match["low"])
        high = _number(match["high"]) if match["high"] else low
        if "(" in match[0][-20:] and ")" not in match[0] and high - low > _WIDEST_IN_BRACKETS:
            continue
        if kind.startswith("ef") and high <= 1:
            low, high = low * 100, high * 100
        first, last = _RANGES[kind]
        if not (first <= low <= high <= last):
            high = low
        if not first <= low <= last:
            continue
        name = _name(
            kind, match["what"], sentence[: match.start()], sentence[match.end("what") : match.start("low")], side
        )
        middle = round((low + high) / 2, 4)
        found.append((Number(name, middle, low, high, unit, section), match.start("low")))
    return found


def _plausible(match: re.Match[str], kind: str, sentence: str) -> bool:
    """Whether the number is of this kind: its unit is not another one's."""
    rest = sentence[match.end("low") : match.end("low") + 12]
    if match["unit"] is None and re.match(r"\s*m[lL]", rest):
        return False
    if match["unit"] or match["high"]:
        return not re.match(r"\s*(?:mm|cm|m[lL]|years?|bpm)\b", rest) or kind not in ("ef_percent", "ecv_percent")
    return not re.match(r"\s*(?:mm|cm|m/s|T\b|years?|[/]\d|bpm|mmHg|[a-z]*/m|-?\s*(?:month|year|week))", rest)


def _number(text: str) -> float:
    value = float(text.replace(",", "."))
    return value if math.isfinite(value) else 0.0


def _side(text: str) -> str:
    left, right = re.search(_LV, text, re.IGNORECASE), re.search(_RV, text, re.IGNORECASE)
    if left and right:
        return "lv" if left.start() < right.start() else "rv"
    return "lv" if left else "rv" if right else ""


def _name(kind: str, what: str, before: str, between: str, side: str) -> str:
    if kind not in _TAKES_LV:
        return kind
    own = re.match(r"\s*(LV|RV|left|right)", what, re.IGNORECASE)
    near = [*re.finditer(rf"(?P<lv>{_LV})|(?P<rv>{_RV})", before, re.IGNORECASE)]
    behind = re.match(rf"\s*(?:of|for|in)\s+the\s+(?:(?P<lv>{_LV})|(?P<rv>{_RV}))", between, re.IGNORECASE)
    if own:
        whose = "rv" if own[1].lower() in ("rv", "right") else "lv"
    elif behind:
        whose = "lv" if behind["lv"] else "rv"
    elif near:
        whose = "lv" if near[-1]["lv"] else "rv"
    else:
        whose = side or "lv"
    return f"{whose}{kind}" if kind.startswith("ef") else f"{whose}_{kind}"
