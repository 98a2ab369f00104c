"""The user's table of reports, the sections of a report, and the hash that finds reports that say the same."""

import csv
import io
import json
import re
from collections.abc import Sequence
from pathlib import Path

from cmr_jax.data import schema
from cmr_jax.errors import InputError
from preprocessing.deid import Pseudonyms
from preprocessing.study import Report

_LINK_COLUMNS = ("study_uid", "accession_number")
_HEADERS = {
    "indication": (
        "indication|indications|clinical indication|reason for exam|reason for examination|reason for study"
        "|reason for the exam|reason for the study|history|clinical history|clinical information|clinical details"
        "|patient history"
    ),
    "technique": "technique|techniques|protocol|procedure|methods|sequences|scan technique|imaging technique",
    "comparison": "comparison|comparisons|comparison study|prior studies|prior study|previous studies",
    "findings": "findings|finding|results|result|report|description|observations",
    "impression": (
        "impression|impressions|conclusion|conclusions|summary|opinion|interpretation|assessment|final impression"
    ),
}
_SECTION_OF = {name: section for section, names in _HEADERS.items() for name in names.split("|")}
_NAMES = "|".join(sorted(map(re.escape, _SECTION_OF), key=len, reverse=True))
# A header starts its line, or stands in capitals anywhere; a colon follows, or nothing else on its line.
CAPITAL_HEADER = rf"(?<![\w-])(?:{_NAMES.upper()})[ \t]*:"
_HEADER = re.compile(rf"^[ \t]*(?i:{_NAMES})[ \t]*(?::|(?=\n|\Z))|{CAPITAL_HEADER}", re.MULTILINE)


def read(path: Path, label_columns: Sequence[str]) -> dict[str, Report]:
    """Reports by every name a study can be linked with: `uid:…` and `accession:…`.

    Several rows of one study are joined in their order (addenda); later labels override earlier ones that are empty.
    Raises InputError where the file is missing, empty, unreadable, or lacks a column.
    """
    rows = _rows(path)
    if not rows:
        raise InputError("--reports holds no report: give a CSV with a header line, or JSON lines")
    columns = {name for row in rows for name in row}
    if "report" not in columns:
        raise InputError("--reports has no column 'report'")
    if not columns.intersection(_LINK_COLUMNS):
        raise InputError("--reports needs a column 'study_uid' or 'accession_number' to link reports with studies")
    for name in label_columns:
        if name not in columns:
            known = ", ".join(sorted(columns - {"report", *_LINK_COLUMNS}))
            raise InputError(
                f"--label_columns: --reports has no column {name!r}; it has {known or 'no further columns'}"
            )
    found: dict[str, Report] = {}
    for row in rows:
        report = Report(
            text=row.get("report", "").strip(),
            patient_id=row.get("patient_id", "").strip(),
            labels=tuple((name, row.get(name, "").strip()) for name in label_columns),
        )
        for column, kind in zip(_LINK_COLUMNS, ("uid", "accession"), strict=True):
            if value := row.get(column, "").strip():
                name = f"{kind}:{value}"
                found[name] = _join(found[name], report) if name in found else report
    if not any(report.text for report in found.values()):
        raise InputError("--reports holds no text: every 'report' field is empty or has no study to go with")
    return found


def _rows(path: Path) -> list[dict[str, str]]:
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError:
        raise InputError("--reports is not UTF-8 text: save it as UTF-8") from None
    except OSError as error:
        raise InputError(f"--reports cannot be read ({error.strerror})") from None
    if "\0" in text:
        raise InputError("--reports is not a text file")
    if text.lstrip().startswith("{"):
        return _json_rows(text)
    csv.field_size_limit(1 << 27)
    try:
        return [{k: v or "" for k, v in row.items() if k} for row in csv.DictReader(io.StringIO(text, newline=""))]
    except csv.Error:
        raise InputError("--reports is neither CSV nor JSON lines") from None


def _json_rows(text: str) -> list[dict[str, str]]:
    rows = []
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
            rows.append({str(k): "" if v is None else str(v) for k, v in row.items()})
        except (ValueError, AttributeError):
            raise InputError(f"--reports line {number} is not a JSON object") from None
    return rows


def _join(first: Report, second: Report) -> Report:
    texts = [first.text] if second.text in first.text else [first.text, second.text]
    labels = tuple((name, new or old) for (name, old), (_, new) in zip(first.labels, second.labels, strict=True))
    return Report("\n\n".join(t for t in texts if t), first.patient_id or second.patient_id, labels)


def find(reports: dict[str, Report], study_uid: str, accession: str) -> Report | None:
    """The report of a study, by its UID or else its accession number; None without one, or without text."""
    report = reports.get(f"uid:{study_uid}") or reports.get(f"accession:{accession}")
    return report if report is not None and report.text else None


def sections(text: str) -> dict[str, str]:
    """The text of every section of `schema.SECTIONS`; what stands before the first header counts as findings."""
    parts: dict[str, list[str]] = {name: [] for name in schema.SECTIONS}
    current, start = "findings", 0
    for match in _HEADER.finditer(text):
        parts[current].append(text[start : match.start()].strip())
        current = _SECTION_OF[match[0].rstrip(": \t").strip().lower()]
        start = match.end()
    parts[current].append(text[start:].strip())
    return {name: "\n".join(p for p in found if p) for name, found in parts.items()}


def content_hash(pseudonyms: Pseudonyms, text: str) -> str:
    """Equal for reports whose findings and impression say the same words (case, space and punctuation aside).

    Keyed: a plain hash of a standard phrase could be looked up.
    """
    by_name = sections(text)
    said = " ".join((by_name["findings"], by_name["impression"])).strip() or text
    return pseudonyms.name("report", " ".join(re.findall(r"\w+(?:[.,]\d+)?|%", said.casefold())))
