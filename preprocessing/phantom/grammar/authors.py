"""The authors of clinical phantoms' reports: each a set of habits that stays the same from report to report.

Invented, after the ways that hospitals and societies (SCMR reporting guidelines, Hundley et al., JCMR 2022) lay reports
out. Which phrases each prefers is drawn from the name (`rules`).
"""

import dataclasses
import datetime
from collections.abc import Mapping

from preprocessing.phantom.grammar.reading import Reading

_USUAL = ("INDICATION", "TECHNIQUE", "COMPARISON", "FINDINGS", "IMPRESSION")
_SHORT, _WORDS = ("2ch", "3ch", "4ch"), ("two-chamber", "three-chamber", "four-chamber")
_TOPICS = ("quality", "left", "wall", "motion", "right", "atrium", "lge", "maps", "fluid", "change")


@dataclasses.dataclass(frozen=True)
class Author:
    """`layout`: prose, lines (a line a structure, with its name), bullets or paragraphs. `table`: how measurements are
    set: "" (in the text only), list, pipe, columns or ranges (columns with normal ranges). `fraction`: exact, five
    (rounded to five) or range. `negatives`: how often what is absent is named. `hedging` 0..1. `typos` a word."""

    name: str
    layout: str = "prose"
    topics: tuple[str, ...] = _TOPICS
    headings: tuple[str, str, str, str, str] = _USUAL
    inline: bool = False  # text on the line of its heading
    table: str = ""
    table_first: bool = True
    fraction: str = "exact"
    percent: str = "{}%"
    ml: str = "mL"
    squared: str = "m2"
    british: bool = False
    numbered: str = "number"  # how the impression is set: number, prose or bullets
    impression_first: bool = False
    template: float = 0.5  # how often a normal heart gets the stock text
    negatives: float = 0.7
    hedging: float = 0.0
    typos: float = 0.001
    dates: str = "%Y-%m-%d"
    capitals: bool = False  # titles of lines in capitals
    numbered_segments: bool = False  # gives the numbers of segments beside their names
    planes: tuple[str, str, str] = ("2-chamber", "3-chamber", "4-chamber")


AUTHORS = (
    Author(
        "core lab",
        layout="lines",
        table="ranges",
        inline=True,
        typos=0.0,
        squared="m²",
        template=0.1,
        numbered_segments=True,
        planes=_SHORT,
    ),
    Author("dictated", typos=0.003, negatives=0.8, numbered="prose", dates="%B %d, %Y", template=0.6),
    Author(
        "british",
        layout="paragraphs",
        headings=("Clinical details", "Protocol", "Previous studies", "Findings", "Conclusion"),
        table="list",
        percent="{} %",
        ml="ml",
        british=True,
        hedging=0.1,
        dates="%d/%m/%Y",
    ),
    Author(
        "terse",
        layout="bullets",
        headings=("HISTORY", "PROTOCOL", "PRIOR STUDIES", "FINDINGS", "SUMMARY"),
        inline=True,
        fraction="exact",
        ml="cc",
        negatives=0.35,
        numbered="bullets",
        typos=0.004,
        template=0.7,
        dates="%m/%d/%Y",
        planes=_SHORT,
    ),
    Author(
        "cautious",
        headings=("REASON FOR EXAM", "TECHNIQUE", "COMPARISON", "FINDINGS", "OPINION"),
        inline=True,
        fraction="range",
        percent="{} percent",
        hedging=0.3,
        negatives=0.85,
        topics=("quality", "left", "motion", "wall", "lge", "maps", "right", "atrium", "fluid", "change"),
        dates="%d %B %Y",
        planes=_WORDS,
    ),
    Author(
        "form",
        layout="lines",
        capitals=True,
        headings=("CLINICAL INDICATION", "SEQUENCES", "COMPARISON", "RESULTS", "CONCLUSION"),
        table="pipe",
        table_first=False,
        ml="ml",
        percent="{} %",
        squared="m²",
        british=True,
        negatives=1.0,
        template=0.3,
        dates="%d.%m.%Y",
    ),
    Author(
        "conclusion first",
        headings=("INDICATION", "PROCEDURE", "COMPARISON", "FINDINGS", "IMPRESSION"),
        impression_first=True,
        layout="paragraphs",
        table="columns",
        topics=("left", "right", "atrium", "motion", "wall", "fluid", "lge", "maps", "change", "quality"),
    ),
    Author(
        "estimator",
        fraction="five",
        headings=("Reason for study", "Technique", "Comparison", "Findings", "Impression"),
        topics=("left", "motion", "wall", "right", "atrium", "fluid", "lge", "maps", "quality", "change"),
        negatives=0.5,
        hedging=0.15,
        typos=0.002,
        numbered="prose",
        template=0.65,
        dates="%b %Y",
    ),
    Author(
        "measurer",
        layout="lines",
        headings=("Clinical history", "Methods", "Previous examinations", "Findings", "Assessment"),
        table="list",
        topics=("left", "wall", "right", "atrium", "motion", "lge", "maps", "fluid", "quality", "change"),
        british=True,
        ml="ml",
        squared="m2",
        numbered="bullets",
        hedging=0.05,
        dates="%d-%m-%Y",
        numbered_segments=True,
    ),
    Author(
        "narrator",
        headings=("HISTORY AND INDICATION", "SCAN PROTOCOL", "COMPARISON STUDY", "CARDIAC FINDINGS", "CONCLUSIONS"),
        layout="paragraphs",
        topics=("quality", "left", "motion", "right", "wall", "atrium", "lge", "maps", "fluid", "change"),
        percent="{}%",
        negatives=0.9,
        hedging=0.2,
        typos=0.0015,
        numbered="prose",
        template=0.2,
        dates="%d %b %Y",
        planes=_WORDS,
    ),
)


def said_fraction(author: Author, reading: Reading) -> tuple[int, int]:
    """The lowest and highest left ventricular ejection fraction (percent) that `author` states for `reading`: equal
    where one number is. What was estimated by eye is never given to the point."""
    return _bounds(_style(author, reading), int(reading.numbers["lvef"]))


def _bounds(style: str, lvef: int) -> tuple[int, int]:
    if style == "exact":
        return lvef, lvef
    if style == "five":
        return 5 * round(lvef / 5), 5 * round(lvef / 5)
    low = 5 * (lvef // 5)
    return low, low + 5


def fraction(author: Author, reading: Reading, lvef: float) -> str:
    """Another ejection fraction (percent), an earlier one, in the way that `author` gives that of `reading`."""
    return _written(author, *_bounds(_style(author, reading), round(lvef)))


def _style(author: Author, reading: Reading) -> str:
    return "five" if reading.method == "visual" and author.fraction == "exact" else author.fraction


def _written(author: Author, low: int, high: int) -> str:
    return author.percent.format(low if low == high else f"{low}-{high}")


def values(author: Author, reading: Reading) -> dict[str, str]:
    """The numbers of `reading` with their units, as `author` writes them, by name."""
    n = reading.numbers
    units = {
        **dict.fromkeys(("edv", "esv", "sv", "rv_edv", "rv_esv", "la", "ra"), author.ml),
        **dict.fromkeys(
            ("edvi", "esvi", "rv_edvi", "rv_esvi", "lai", "rai"), f"{author.ml}/{author.squared}".replace("cc", "ml")
        ),
        **{
            "mass": "g",
            "massi": f"g/{author.squared}",
            "wall_max": "mm",
            "effusion": "mm",
            "heart_rate": "bpm",
            "output": "L/min",
        },
        **dict.fromkeys(("t1", "t1_max", "t2", "t2_max"), "ms"),
    }
    out = {name: f"{n[name]:g} {unit}" for name, unit in units.items() if name in n}
    out["bsa"] = f"{n['bsa']:.2f} {author.squared}"
    if "edv" in n:
        out["sized"] = ""
    if "lvef" in n:
        out["lvef"] = _written(author, *said_fraction(author, reading))
    if "rvef" in n:
        out["rvef"] = author.percent.format(n["rvef"])
    return out


def date(author: Author, day: str) -> str:
    """`day` (YYYYMMDD) as `author` writes dates."""
    return datetime.datetime.strptime(day, "%Y%m%d").strftime(author.dates)


# American to British; the longest first where one holds another.
_BRITISH: Mapping[str, str] = {
    "ischemi": "ischaemi",
    "edema": "oedema",
    "dyspnea": "dyspnoea",
    "etiology": "aetiology",
    "hypokinesis": "hypokinesia",
    "dyskinesis": "dyskinesia",
    "akinesis": "akinesia",
    "dilation": "dilatation",
    "visualized": "visualised",
    "localized": "localised",
    "color": "colour",
    "hemodynamic": "haemodynamic",
    "center": "centre",
}


def spelt(author: Author, text: str) -> str:
    """`text` in the spelling of `author`."""
    if author.british:
        for american, british in _BRITISH.items():
            text = text.replace(american, british).replace(american.capitalize(), british.capitalize())
    return text
