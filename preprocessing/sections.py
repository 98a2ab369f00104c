"""The sections of a report: where they start, by the headers that radiologists and cardiologists write."""

import dataclasses
import re

from cmr_jax.data import schema

OTHER = "other"
_HEADERS = {
    "indication": (
        "indication|indications|clinical indication|clinical indications|reason for exam|reason for examination"
        "|reason for study|reason for the exam|reason for the study|reason for referral|reason for scan|reason for test"
        "|history|clinical history|clinical information|clinical details|clinical context|clinical question"
        "|clinical background|patient history|history and indication|chief complaint|history of present illness"
        "|brief history|indication for exam|indication for study|study indication|clinical data|referral reason"
    ),
    "technique": (
        "technique|techniques|protocol|procedure|methods|sequences|scan technique|imaging technique|acquisition"
        "|imaging protocol|scan protocol|mri technique|mr technique|cmr protocol|procedures|procedure description"
        "|description of procedure|technical details|study protocol|exam technique|pulse sequences"
    ),
    "comparison": (
        "comparison|comparisons|comparison study|comparison studies|prior studies|prior study|previous studies"
        "|previous study|prior exams|prior examinations|previous examinations|compared with|comparison exam"
    ),
    "findings": (
        "findings|finding|results|result|report|description|observations|cardiac findings|imaging findings"
        "|mri findings|cmr findings|report body|detailed findings|cardiovascular findings|narrative"
        "|interpretation details"
    ),
    "impression": (
        "impression|impressions|conclusion|conclusions|summary|opinion|interpretation|assessment|final impression"
        "|diagnosis|diagnoses|final diagnosis|overall impression|summary and conclusion|key findings|bottom line"
        "|conclusion and recommendation|impression and recommendations|diagnostic impression|final conclusion"
    ),
    OTHER: (
        "medications|medication|current medications|allergies|allergy|past medical history|past surgical history"
        "|surgical history|family history|social history|family and social history|family/social history|vital signs"
        "|vitals|review of systems|physical exam|physical examination|exam|examination|labs|laboratory|laboratory data"
        "|laboratory results|laboratory studies|imaging|imaging studies|plan|disposition|recommendation|recommendations"
        "|recommended follow-up|follow-up|follow up|emergency department course|ed course|hospital course"
        "|immunizations|immunization history|gynecologic history|obstetric history|gynecological history"
        "|other history|medical history|electronically signed|electronically signed by|signed by|signature|dictated by"
        "|reported by|attending|radiologist|cardiologist|addendum|addenda|contrast|contrast agent|radiation dose|dose"
        "|complications|adverse events|sedation|disclaimer|billing|cpt codes|cpt|icd|icd-10|demographics|patient data"
        "|patient information|risk factors|cardiac risk factors|consent|critical results|communication|communications"
        "|notification|teaching statement|attestation|image quality|study quality|cc|copy to|distribution|habits"
    ),
}
_SECTION_OF = {name: section for section, names in _HEADERS.items() for name in names.split("|")}
_OURS = "|".join(
    sorted((re.escape(name) for name, section in _SECTION_OF.items() if section != OTHER), key=len, reverse=True)
)
_NAMES = "|".join(sorted(map(re.escape, _SECTION_OF), key=len, reverse=True))
# What the scrubber stops at: our five sections in capitals, as this module has always known them.
CAPITAL_HEADER = rf"(?<![\w-])(?:{_OURS.upper()})[ \t]*:"
# Marks that may surround a header: bullets, markdown, numbers, brackets.
_BEFORE = r"[ \t]*(?:[#>*_=\[-]+[ \t]*)*(?:(?:\d{1,2}|[A-Ha-h]|[IVX]{1,4})[.)][ \t]+)?(?:[*_\[]+)?"
_AFTER = r"[*_\]]*"
_LINK = r"[ \t]*(?:/|&|\+|,|\b(?i:and)\b)[ \t]*"


def _joined(names: str) -> str:
    return rf"(?:{names})(?:{_LINK}(?:{names}))?"


_OPEN = r"(?:[ \t]+\([^)\n]{1,30}\))?"  # "FINDINGS (CARDIAC):"
_LINE = (
    rf"^{_BEFORE}(?P<line>(?i:{_joined(_NAMES)})){_AFTER}{_OPEN}[ \t]*"
    rf"(?:[:：]{_AFTER}|(?<=[ \t])[-–—][ \t]|[=*#_ \t-]*(?=\r?\n|\Z))"
)
_CAPITALS = rf"(?<![\w/-])(?P<capitals>{_joined(_NAMES.upper())})[ \t]*[:：]"
_SENTENCE_CASE = "|".join(name.capitalize() for name in _OURS.split("|"))
_INLINE = rf"(?:(?<=[.;!?])[ \t]+|(?<=[ \t])[*_]{{2}})(?P<inline>{_joined(_SENTENCE_CASE)})[ \t]*[:：][*_]*"
# What follows the name of a measure: "LVEDV: 227 ml".
_MEASURED = r"[ \t]*[<>~]?[ \t]*\d+(?:[.,]\d+)?[ \t]*(?:%|m[lL]|g\b|[mc]m\b|ms\b|bpm\b|[lL]/)"
# A header that nobody told us of: capitals and a colon at the start of a line.
_UNKNOWN = rf"^[ \t]*(?P<unknown>[A-Z][A-Z/&,' -]{{2,40}}[A-Z])[ \t]*[:：](?!{_MEASURED})"
_HEADER = re.compile(f"{_LINE}|{_CAPITALS}|{_INLINE}|{_UNKNOWN}", re.MULTILINE)
# Words of sub-headings inside the findings: anatomy, function, and what CMR measures.
_INSIDE = re.compile(
    r"\b(?:LEFT|RIGHT|LV|RV|LA|RA|VENTRIC\w*|ATRI\w*|VALV\w*|MITRAL|AORT\w*|TRICUSPID|PULMON\w*|PERICARD\w*|PLEURA\w*"
    r"|MYOCARD\w*|PERFUSION|ENHANCEMENT|LGE|SCAR|VIABILITY|STRESS|REST|FLOW\w*|VELOCIT\w*|T1|T2|ECV|MAPPING|EDEMA|OEDEMA|VOLUME\w*"
    r"|FUNCTION\w*|MASS|WALL|SEPT\w*|MORPHOLOGY|SIZE|CHAMBER\w*|GREAT|VESSEL\w*|VEIN\w*|VENOUS|ARTER\w*|CORONAR\w*|SHUNT|QP|THROMB\w*"
    r"|CAVA\w*|IVC|SVC|ROOT|ARCH|EXTRA-?CARDIAC|NON-?CARDIAC|EXTRACARDIAC|INCIDENTAL|CARDIAC|HEART|MEASUREMENT\w*|ANATOMY|STRAIN"
    r"|DIMENSION\w*|[LR]V(?:ED|ES|S)VI?|[LR]V(?:ED|ES)DI?|[LR]AVI?|CO|CI|EF|EJECTION|LVEF|RVEF|LUNG\w*|CHEST|MEDIASTIN\w*|LIVER|ABDOM\w*|BONE\w*|THORA\w*|MOTION|CINE|BLACK|IRON|RHYTHM)\b"
)
# Said in passing, in one line, by those who write it among the findings.
_IN_PASSING = frozenset({"image quality", "study quality"})
_ADDENDUM = re.compile(r"addend(?:um|a)", re.IGNORECASE)


@dataclasses.dataclass(frozen=True)
class Block:
    """A stretch of a report. `section` is of `schema.SECTIONS` or "other"; `start` is where its header stands;
    `addendum` counts the addenda up to it."""

    section: str
    text: str
    start: int
    addendum: int = 0


def split(text: str) -> list[Block]:
    """`text` as blocks, in its order. What stands before the first header counts as findings.

    An unknown header in capitals ("MEDICATIONS:") ends a section, unless it names what findings are made of
    ("LEFT VENTRICLE:"); what follows it is of section "other". Below another such header it is a sub-heading.
    An "ADDENDUM" starts findings anew.
    """
    blocks = []
    current, start, header, addendum = "findings", 0, 0, 0
    for match in _HEADER.finditer(text):
        section = _section(match, current)
        if not section:
            continue
        blocks.append(Block(current, text[start : match.start()].strip(), header, addendum))
        current, header, start = section, match.start(), match.end()
        if _ADDENDUM.match(_name(match)):
            current, addendum = "findings", addendum + 1
    blocks.append(Block(current, text[start:].strip(), header, addendum))
    return [block for number, block in enumerate(blocks) if block.text or number]


def _name(match: re.Match[str]) -> str:
    return match["line"] or match["capitals"] or match["inline"] or match["unknown"]


def _section(match: re.Match[str], current: str) -> str:
    """The section that a header starts in the section `current`; "" where it is a sub-heading."""
    if match["unknown"] is None:
        passing = current == "findings" and _name(match).lower() in _IN_PASSING
        return "" if passing else section_of(_name(match))
    return "" if current == OTHER or _INSIDE.search(match["unknown"]) else OTHER


def section_of(name: str) -> str:
    """The section of a header; of "Findings/Impression" that of the first name; "" where it is none we know."""
    plain = re.sub(r"\s+", " ", name.strip(" \t:*_#[]=").lower())
    if plain in _SECTION_OF:
        return _SECTION_OF[plain]
    first = re.split(r"[ \t]*(?:/|&|\+|,|\band\b)[ \t]*", plain)[0]
    return _SECTION_OF.get(first, "")


def sections(text: str) -> dict[str, str]:
    """The text of every section of `schema.SECTIONS`. What stands in other sections is in none of them."""
    parts: dict[str, list[str]] = {name: [] for name in schema.SECTIONS}
    for block in split(text):
        if block.section in parts and block.text:
            parts[block.section].append(block.text)
    return {name: "\n".join(found) for name, found in parts.items()}
