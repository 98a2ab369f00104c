"""Canaries: whether any string that identifies a patient in the source stands in any artefact.

`collect` reads every header and the report table into needles, `findings` searches artefacts for all of them in one
pass. What is told of a finding is the artefact and the kind of attribute, never the string.
"""

import dataclasses
import datetime
import functools
import json
import re
import urllib.parse
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import ahocorasick
import pydicom

from cmr_jax.data import records, schema
from cmr_jax.errors import InputError
from preprocessing import deid, descriptions, haystack, identifiers, reports, scan, scrub
from preprocessing.parallel import Workers, progress
from preprocessing.scrub_rules import RULES

# Free text and names of things; coded strings and numbers tell nobody apart.
_TEXT_REPRESENTATIONS = frozenset("PN LO SH LT ST UT UC AE UI DA DT UR".split())
# Attributes that leave on purpose, or say how a picture was made and nothing of whom.
_HARMLESS = frozenset(
    """Manufacturer ManufacturerModelName SoftwareVersions SequenceName ReceiveCoilName TransmitCoilName CodeMeaning
    CodeValue CodingSchemeDesignator CodingSchemeVersion ContrastBolusAgent ConvolutionKernel SOPClassUID
    ReferencedSOPClassUID MediaStorageSOPClassUID TransferSyntaxUID ImplementationClassUID ImplementationVersionName
    CodingSchemeUID ContextGroupExtensionCreatorUID ContextUID DimensionOrganizationUID WindowCenterWidthExplanation
    LUTExplanation DataSetType ResonantNucleus ImagedNucleus MRAcquisitionType PrivateCreator
    """.split()
)
_FEWEST_LETTERS, _FEWEST_DIGITS, _FEWEST_MIXED, _FEWEST_OF_TEXT = 4, 6, 5, 8
_FEWEST_AMONG_NUMBERS = 9
_LONGEST = 200
_RECORDS_AT_ONCE = 32
_SCAN_CHUNK = 32
_TEXT_COLUMNS = ("report",)
# What our tables, rules and reasons say of any study, whoever it is of.
_SAID_OF_ALL = frozenset(
    """above absent acquisition across annotation another aside beyond bits brightness burned bytes cannot code
    colour complete compressed copy core could count counts crosses datasets date decoded decoder deflated
    depths description descriptions deviation dict dilation dimensions distributions dtype dysfunction empty
    encoding ended exceed exit extra failed feature features featuresdict fewer fileformat filepathtemplate
    fingerprint float flowchart format geometry gives greyscale grows header hmac hypertrophy identified
    implausible integer json knows lacks largest later length limit location longer lvef made medians memory
    mermaid missing mosaic myocardial names nominalcardiactriggerdelaytime nominalpercentageofcardiacphase
    numbers numbytes numpy orders orthogonal over parallel patients percent percentile pictures pixel pixels
    preprocessed present process processed promises pseudonym pydicom pythonclassname range read regular removed
    repeated request said saturated schema seen sentencepiece sequence several severity shape shard shardlengths
    shards shares side size splits starts state still stored structured syntax table tables
    temporalpositionindex tensor tensorflow text tfrecord than that this tokenizer took trained transfer
    triggertime uint unreadable upper usable values version versions vocab what whole with without worker""".split()
)
_IDENTIFIER_COLUMN = re.compile(
    r"(?i)name|phys|doctor|refer|mrn|id\b|_id|uid|number|dob|birth|date|phone|mail|addr|zip|post"
)

Strings = frozenset[tuple[str, str]]  # (kind, text)


@dataclasses.dataclass
class Needles:
    """`kinds` of every form that is searched for; `left_out`: how many strings are no evidence, and why."""

    kinds: dict[str, str]
    strings: int
    left_out: Counter[str]


def header_strings(root: Path, path: str) -> Strings:
    """Every string of one file that may identify somebody, its path included. Never raises for what it contains."""
    found = {("path", piece) for part in Path(path).parts for piece in {part, Path(part).stem}}
    try:
        with scan.quiet_pydicom():
            header = pydicom.dcmread(root / path, stop_before_pixels=True)
            preamble = (getattr(header, "preamble", None) or b"").decode("latin-1")
            found |= {("preamble", text) for text in re.findall(r"[ -~]{5,}", preamble)}
            meta = getattr(header, "file_meta", None)
            for part in (header, meta) if meta is not None else (header,):
                for keyword, representation, value in identifiers.elements(part):
                    if representation in _TEXT_REPRESENTATIONS and keyword not in _HARMLESS:
                        kind = f"{keyword} attribute" if keyword in ("private", "unknown") else keyword
                        found |= {(kind, text[:_LONGEST]) for text in identifiers.texts(value)}
    except (KeyboardInterrupt, SystemExit):
        raise
    except BaseException:  # no DICOM, or damaged: what could be read is taken, the path at least
        pass
    return frozenset(found)


def table_strings(path: Path, kept_columns: Sequence[str]) -> Strings:
    """Of the report table: all columns but `kept_columns` (asked for as labels), and what the rules find in reports."""
    found: set[tuple[str, str]] = set()
    # The raw rows: what the table is good for as reports was checked when the dataset was made.
    for row in reports._rows(path):
        for name, value in row.items():
            if name in _TEXT_COLUMNS:
                found |= {
                    ("text of a report", match[0].strip()[:_LONGEST])
                    for rule, by in RULES
                    if by in ("[contact]", "[id]", "[date]", "[address]")
                    for match in rule.finditer(value)
                }
            elif name not in kept_columns and not _is_said(name, value, row.get("report", "")):
                kind = name if name in (*reports._LINK_COLUMNS, "patient_id") else "that was not asked for"
                found |= {(f"column of --reports {kind}", value.strip()[:_LONGEST])}
                if kind != name:
                    found.add(("name of a column of --reports", name[:_LONGEST]))
    return frozenset(found)


def _is_said(column: str, value: str, report: str) -> bool:
    """Whether a column that is not named like an identifier holds what its own report says, as a diagnosis does."""
    return not _IDENTIFIER_COLUMN.search(column) and value.strip().casefold() in report.casefold()


def collect(
    dicom_dir: Path, table: Path | None, kept_columns: Sequence[str], workers: Workers, per_folder: int = 0
) -> Needles:
    """The needles of everything below `dicom_dir` and of the report table.

    `per_folder`: how many headers of a folder are read, evenly spread (0: all). Raises InputError where there is no
    file.
    """
    paths = scan.list_files(dicom_dir)
    if not paths:
        raise InputError("--dicom_dir holds no file")
    chosen = _sampled(paths, per_folder) if per_folder else paths
    strings: set[tuple[str, str]] = set()
    read = functools.partial(header_strings, dicom_dir)
    for one in progress(workers.map(read, chosen, _SCAN_CHUNK), len(chosen), "collecting identifiers"):
        strings |= one
    if table is not None:
        strings |= table_strings(table, kept_columns)
    return needles(strings)


def _sampled(paths: Sequence[str], per_folder: int) -> list[str]:
    by_folder: dict[str, list[str]] = {}
    for path in paths:
        by_folder.setdefault(str(Path(path).parent), []).append(path)
    return [p for found in by_folder.values() for p in found[:: max(1, -(-len(found) // per_folder))]]


def needles(strings: Iterable[tuple[str, str]]) -> Needles:
    """What is searched for, for each string that would be evidence: at least 4 letters, 6 digits or 5 of both, or a
    text of 8 characters, that is not made of words of reports, protocols and our own tables alone.

    Names are searched in parts too, dates in five notations, UIDs without their last component.
    """
    found = Needles({}, 0, Counter())
    common = _common_words()
    for kind, text in strings:
        taken = False
        for piece in _pieces(kind, text):
            if reason := _no_evidence(piece, common):
                found.left_out[reason] += 1
                continue
            taken = True
            for form in _forms(piece):
                found.kinds.setdefault(form, kind)
        found.strings += taken
    return found


def _pieces(kind: str, text: str) -> set[str]:
    text = " ".join(text.split())
    if re.fullmatch(r"\d{8}(?:\d{6}(?:\.\d+)?)?", text):
        return _dates(text[:8]) or {text}
    if re.fullmatch(r"\d+(?:\.\d+){3,}", text):
        known = text.startswith("1.2.840.10008.")
        cut = text.rpartition(".")[0]
        return set() if known else {cut if cut.count(".") >= 5 and len(cut) >= 20 else text}
    if "^" in text or "Name" in kind or "Physician" in kind:
        return {*scrub.parts(text), text}
    return {text}


def _dates(digits: str) -> set[str]:
    try:
        day = datetime.date(int(digits[:4]), int(digits[4:6]), int(digits[6:]))
    except ValueError:
        return set()
    return {day.strftime(form) for form in ("%Y%m%d", "%Y-%m-%d", "%d.%m.%Y", "%d/%m/%Y", "%m/%d/%Y")}


def _no_evidence(text: str, common: frozenset[str]) -> str:
    """Why `text` proves nothing where it is found; "" if it does."""
    words = re.findall(r"[^\W\d_]+|\d+", scrub.fold(text)[0])
    letters, digits = (sum(len(w) for w in words if w.isdigit() is which) for which in (False, True))
    if letters and digits:
        short = letters + digits < _FEWEST_MIXED
    elif len(words) > 1:
        short = len("".join(words)) < _FEWEST_OF_TEXT
    else:
        short = letters < _FEWEST_LETTERS and digits < _FEWEST_DIGITS
    if short:
        return "too short"
    if digits and not letters and len(set("".join(words))) == 1:
        return "common"
    # Words in common use tell nobody apart, with or without a small number ("IM-0001", "series 12").
    return "common" if all(w in common or (w.isdigit() and len(w) < _FEWEST_DIGITS) for w in words) and letters else ""


@functools.lru_cache(maxsize=1)
def _common_words() -> frozenset[str]:
    ours = " ".join((*schema.fields(16), *schema.VIEWS, *schema.SPLITS, *schema.SECTIONS, *deid.VENDORS))
    more = (
        "image images series study studies slice slices phase frame frames dicom file files data dataset demo train"
        " test valid export output input case cases scan scans record records report reports manifest summary index"
        " label labels group groups split heart cardiac magnetic resonance default routine normal abnormal male female"
        " other right left original primary derived secondary none unknown view views rule spacing vendor used reason"
        " status ignored rejected number person site siemens philips general hospital im img mr dcm ser exam body chest"
        " adult"
    )
    words = {w for text in (ours, more) for w in re.findall(r"[a-z]+|\d+", text.lower())}
    return frozenset(
        words | _SAID_OF_ALL | descriptions.PROTOCOL_WORDS | scrub.COMMON_WORDS | scrub.NOBODY | scrub.EPONYMS
    )


def _forms(text: str) -> set[str]:
    """`text` as bytes may hold it, as `haystack.views` shows bytes: lower case, one character a byte."""
    if text.isascii():
        return {text.lower()}
    out = {scrub.fold(text)[0]}
    for variant in (text, text.lower(), text.upper(), text.title()):
        escaped = (json.dumps(variant)[1:-1], urllib.parse.quote(variant))
        out |= {form.lower() for form in escaped}
        out.add(variant.encode("utf-8").decode("latin-1").lower())
        out.add(variant.encode("latin-1", "ignore").decode("latin-1").lower())
    return {form for form in out if len(form) >= _FEWEST_LETTERS and form.isprintable()}


def automaton(found: Needles) -> Any:
    """Aho-Corasick over all forms: one pass finds them all, however many they are."""
    trie = ahocorasick.Automaton()
    for form, kind in found.kinds.items():
        trie.add_word(form, (len(form), kind))
    trie.make_automaton()
    return trie


def hits(trie: Any, data: bytes, numbers: bool) -> Iterator[tuple[str, str]]:
    """(kind, how it was read) of every needle in `data`; short ones count only as words of their own, and not at all
    among numbers."""
    for how, text in haystack.views(data):
        for end, (length, kind) in trie.iter(text):
            start = end - length + 1
            if numbers and length < _FEWEST_AMONG_NUMBERS:
                continue
            needle_is_number = text[start : end + 1].isdigit()
            if length < _FEWEST_OF_TEXT or needle_is_number:
                before, after = text[start - 1 : start], text[end + 1 : end + 2]
                if (before.isascii() and before.isalnum()) or (after.isascii() and after.isalnum()):
                    continue
            yield kind, how


Finding = tuple[str, str, str]  # artefact, kind, how it was read


def _in_file(trie: Any, item: tuple[str, Path, Path]) -> list[Finding]:
    """Findings of one artefact: its name (then told by its folder alone) and its content."""
    title, root, path = item
    relative = str(path.relative_to(root)) if path != root else path.name
    in_name = dict(hits(trie, relative.encode("utf-8", "surrogateescape"), False))
    name = f"{title}: a file" if in_name else f"{title}: {relative}"
    found = [(f"{title}: name of a file", kind, how) for kind, how in in_name.items()]
    try:
        for data, numbers in haystack.pieces(path):
            found += [(name, kind, how) for kind, how in dict(reversed(list(hits(trie, data, numbers)))).items()]
    except OSError:
        found.append((name, "anything at all", "nothing: it cannot be read"))
    return sorted(set(found))


def _in_records(trie: Any, item: tuple[Path, str, int, int]) -> list[Finding]:
    """Findings in the texts of records, where short needles count too."""
    folder, split, start, stop = item
    rows = records.Split(folder, split)
    found: set[Finding] = set()
    for row in range(start, stop):
        for name, value in rows[row].items():
            texts = [value] if isinstance(value, str) else value if isinstance(value, list) else []
            text = "\n".join(str(one) for one in texts).encode()
            found |= {(f"record field {name} ({split})", kind, "text") for kind, _ in hits(trie, text, False)}
    return sorted(found)


def findings(found: Needles, data: Path, also: Sequence[Path], workers: Workers) -> tuple[list[str], int]:
    """(one line a finding, number of artefacts searched) of the dataset `data` and the folders `also`."""
    trie = automaton(found)
    places = [
        (name, folder) for name, folder in (("--data", data), *((f"--also {n}", f) for n, f in enumerate(also, 1)))
    ]
    items = [(title, folder, path) for title, folder in places for path in haystack.files(folder)]
    told: Counter[Finding] = Counter()
    search = functools.partial(_in_file, trie)
    for one in progress(workers.map(search, items), len(items), "searching artefacts"):
        told.update(one)
    parts = []
    manifest = records.load_manifest(data)
    for split, about in manifest["splits"].items():
        starts = range(0, about["studies"], _RECORDS_AT_ONCE)
        parts += [(data, split, start, min(start + _RECORDS_AT_ONCE, about["studies"])) for start in starts]
    read = functools.partial(_in_records, trie)
    for one in progress(workers.map(read, parts), len(parts), "searching records"):
        told.update(one)
    lines = [f"{where}: holds a value of {kind} (read as {how})" for where, kind, how in sorted(told)]
    return lines, len(items)
