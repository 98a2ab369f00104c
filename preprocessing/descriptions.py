"""What a series description and the image type say: which technique, which plane, which contrast.

Scanner protocols are named by people: every rule here is a habit of some vendor or site. Words are compared in lower
case, split where letters follow digits, so that "4CH_T1map" reads "4 ch t1 map".
"""

import dataclasses
import functools
import itertools
import re
from collections.abc import Sequence

# Words of scanner protocols; any other word of a description may be a name and is never shown.
PROTOCOL_WORDS = frozenset(
    """cine trufi retro sa sax la lax ch chamber lge mde psir t1 t2 map mapping molli shmolli native post pre contrast
    perf perfusion rest stress flow venc tag tagging scout localizer survey axial transverse sagittal coronal tra sag
    cor haste fiesta bssfp ssfp tfe btfe bh nav free breathing real time rt stack aorta aortic lvot rvot pulmonary valve
    early late gad enhancement delayed tse tirm stir dark black blood fl2d fl3d gre seg ir mag phase moco dixon shim b0
    freq iipat sense grappa cs short long axis ortho ax ep2d space vibe twist angio mra ecv de hla vla kammer achse
    petit axe viability dynamic first pass pc qflow synthetic cinesax cinelax""".split()
)
_CHAMBER = ("ch", "chamber", "chambers")
_SCOUT = re.compile(
    r"scout|locali[sz]|\bloc\b|\blok\b|\bsurvey|\bpilot|\bplanning\b|\b3 ?plane|\bthree ?plane|smartbrain|\brep[eè]rage"
)
# A technique whose pictures are none of ours, whatever plane they are in.
_OTHER = re.compile(
    r"\btag|angio|\bmra\b|haste|\bdwi\b|\bstir\b|\btirm\b|dark ?blood|black ?blood|\bdb\b|\bbb\b|\btse\b|\bfse\b"
    r"|\bt2 ?star|\bt1 ?w\b|\bt2 ?w\b|\bti ?(look|test)|look ?locker|\bshim|\bb0\b|freq|coronar|\bwhole ?heart"
    r"|\bdixon|\bvibe|\btwist|\bspace\b|\bstrain\b|\bdense\b|\bspectro|\bsweep|\bcal(ib\w*)?\b|\basset ?cal"
    r"|\bir cine|cine ir\b|phoenix|\breport"
)
_ECV = re.compile(r"\becv\b|extra ?cellular")
_T1 = re.compile(r"\bt1\b|\bmolli|\bshmolli|\bsasha\b|\bsmart ?1\b")
_T2 = re.compile(r"\bt2\b|\bt2 ?prep")
_T2_STAR = re.compile(r"\bt2 ?star")
_MAPPING = re.compile(r"\bmap|\bmolli|\bshmolli|\bsasha\b|relaxo|\bsmart ?1\b")
_PERFUSION = re.compile(r"\bperf|first ?pass|\bfpp\b|\bdynamic")
_REST_STRESS = re.compile(r"\brest\b|\bstress\b|\badeno|\bregaden")
_CONDITIONS = (
    ("stress", re.compile(r"\bstress|\badeno|\bregaden|\bdobut|\bdipyr")),
    ("rest", re.compile(r"\brest\b|\bruhe\b|\brepos\b")),
    ("post", re.compile(r"\bpost\b|\bpost ?(con|gad|gd|km|cm\b)|\b(nach|after) (km|con|gad|gd)")),
    ("native", re.compile(r"\bnati(v|ve|f|vo)\b|\bpre\b|\bpre ?(con|gad|gd|km|cm\b)|\b(vor|before) (km|con|gad|gd)")),
)
_FLOW = re.compile(r"\bflow|\bvenc|\bpc\b|\bpca\b|\bpcmr|phase ?contrast|\bq ?flow|\bqf\b|\bveloc|\bfluss|\bflux\b")
_LGE = re.compile(
    r"\blge\b|\blg\b|\bmde\b|\bdge\b|\bdelay|\blate\b|psir|viab|\benhanc|hyperenh|\btardif|\brehauss|\bnarbe|\bscar\b"
    r"|\bde (sax?|lax?|\d ?ch|mag|ir|short|long|tf[ile]|trufi|flash)|\b(sax?|lax?|\d ?ch) de\b"
    r"|\bir (tfe|tfl|turbo|gre|flash)|\bir 3 ?d\b"
)
_CINE = re.compile(
    r"\bcine|trufi|fiesta|\bb ?tfe|\bs ?btfe|\bb?ssfp|\bretro\b|\bfunction|\bfunktion|\bssh ?b ?tfe|\bfgre"
)
_PLANES = (
    ("4ch", re.compile(r"\b4 ?(ch|chamber|cv|cav|kammer|kb?\b)|\bfour ?ch|\bhla\b|horizontal ?long|\b4 ?c\b")),
    ("3ch", re.compile(r"\b3 ?(ch|chamber|cv|cav|kammer|kb?\b)|\bthree ?ch|apical ?long|\b3 ?c\b")),
    ("2ch", re.compile(r"\b2 ?(ch|chamber|cv|cav|kammer|kb?\b)|\btwo ?ch|\bvla\b|vertical ?long|\b2 ?c\b")),
    ("lvot", re.compile(r"\blvot|\blv ?outflow|\bccg\b|left ?ventric\w* ?outflow")),
    ("rvot", re.compile(r"\brvot|\brv ?outflow|\brv ?in ?out|right ?ventric\w* ?outflow")),
    ("sax", re.compile(r"sax\b|\bsax|\bsa\b|\bshax|\bshort ?ax|\bkurz\w* ?achs|\bka\b|\bpetit ?axe")),
    ("lax", re.compile(r"\blax\b|\blong ?ax|\blang\w* ?achs|\bgrand ?axe|\bla\b|\brv ?lax|\bradial\b")),
)
_CHAMBERS = ("4ch", "3ch", "2ch")
_RIGHT = re.compile(r"\brv\b|\bright ?ventric")
_LEVELS = (
    ("base", re.compile(r"\bbas(e|al|is|is|aal|ale)?\b")),
    ("mid", re.compile(r"\bmid|\bmitt")),
    ("apex", re.compile(r"\bapi[ck]|\bapex")),
)


@dataclasses.dataclass(frozen=True)
class Reading:
    """`technique`: "cine", "lge", "t1_map", "t2_map", "ecv_map", "perfusion", "flow", "scout", "map_source" (what a map
    is made of), "other", or "" where nothing is said; `plane`: "sax", "2ch", "3ch", "4ch", "lvot", "rvot", "lax" or "".
    `said_by` is "description" or "image_type"."""

    technique: str
    plane: str = ""
    said_by: str = "description"


def words(description: str) -> str:
    text = description.lower().replace("_", " ").replace("2*", "2 star")
    return " ".join(re.findall(r"[a-zàâéèêäöüß]+\d*|\d+", text))


def shown(description: str) -> str:
    """The description with every word that is no protocol word masked, fit for a table; a digit is shown before
    "ch" alone."""
    found = re.findall(r"[a-z]+\d*|\d+", description.lower())
    return " ".join(
        word if word in PROTOCOL_WORDS or (len(word) == 1 and word in "234" and following in _CHAMBER) else "?"
        for word, following in itertools.pairwise([*found, ""])
    )


def read(description: str, kind: Sequence[str], phases: int) -> Reading:
    """What is said of a series. `kind` holds the values of ImageType and the complex component; `phases` is the number
    of pictures at one place, which tells a map from the pictures it is made of."""
    said = words(description)
    if _SCOUT.search(said):
        return Reading("scout")
    plane = _plane(said)
    mapped = _map(said, kind, phases)
    if mapped is not None:
        return dataclasses.replace(mapped, plane=plane)
    if _OTHER.search(said):
        return Reading("other", plane)
    for technique, pattern in (("perfusion", _PERFUSION), ("flow", _FLOW), ("lge", _LGE)):
        if pattern.search(said):
            return Reading(technique, plane)
    if _CINE.search(said):
        return Reading("cine", plane)
    if _REST_STRESS.search(said):
        return Reading("perfusion", plane)
    if _says_velocity(kind):
        return Reading("flow", plane, "image_type")
    return Reading("cine" if plane else "", plane)


def _map(said: str, kind: Sequence[str], phases: int) -> Reading | None:
    """Image types of maps are as good as certain; a name is a map's only where there is one picture a place."""
    types = " ".join(kind).upper()
    for technique, token in (("ecv_map", "ECV"), ("t1_map", "T1"), ("t2_map", "T2")):
        if re.search(rf"(?<![A-Z0-9]){token}([ _]?MAP)?(?![A-Z0-9_])", types):
            return Reading(technique, said_by="image_type")
    if _ECV.search(said):
        return Reading("ecv_map")
    if not _MAPPING.search(said) or _T2_STAR.search(said):
        return None
    technique = "t2_map" if _T2.search(said) and not _T1.search(said) else "t1_map" if _T1.search(said) else ""
    if not technique:
        return None
    return Reading(technique if phases == 1 and "PHASE" not in types else "map_source")


def _plane(said: str) -> str:
    found = [name for name, pattern in _PLANES if pattern.search(said)]
    chambers = [name for name in found if name in _CHAMBERS]
    if len(chambers) > 1 or (chambers and _RIGHT.search(said) and "4ch" not in chambers):
        return "lax"  # a set of radial planes, or a long axis of the right ventricle
    if chambers and "sax" in found:
        return ""  # planned on one, shown in the other: geometry tells
    return found[0] if found else ""


def _says_velocity(kind: Sequence[str]) -> bool:
    return any(re.search(r"VELOCITY|PHASE MAP|^P$|PHASE CONTRAST", part.upper()) for part in kind)


@functools.lru_cache(maxsize=4096)  # asked for every frame, and frames share their descriptions
def technique(description: str, kind: tuple[str, ...]) -> str:
    """What `read` says of a series of which the phases are not known yet."""
    return read(description, kind, 1).technique


@functools.lru_cache(maxsize=4096)
def condition(description: str) -> str:
    """Under what condition the heart was seen: "stress" or "rest", "native" or "post" (after contrast agent); "" where
    nothing is said."""
    said = words(description)
    return next((name for name, pattern in _CONDITIONS if pattern.search(said)), "")


@functools.lru_cache(maxsize=4096)
def contrast(description: str, kind: tuple[str, ...]) -> str:
    """ "magnitude", "psir" or "phase"; "" where nothing is said."""
    said, types = words(description).split(), {part.upper() for part in kind}
    if types & {"PSIR"} or ({"psir", "ps"} & set(said) and not {"mag", "magnitude"} & set(said)):
        return "psir"
    if types & {"P", "PHASE", "PHASE MAP", "VELOCITY", "VELOCITY MAP"} or (
        {"phase", "pha"} & set(said) and "contrast" not in said
    ):
        return "phase"
    return "magnitude" if types & {"M", "MAGNITUDE", "M_FFE", "M_SE"} or {"mag", "magnitude"} & set(said) else ""


def level(description: str) -> str:
    """Which part of the ventricle a single slice is said to cut; "" where nothing is said."""
    said = words(description)
    return next((name for name, pattern in _LEVELS if pattern.search(said)), "")
