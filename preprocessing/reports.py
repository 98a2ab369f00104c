"""The user's table of reports, how several of one study are joined, and the hash that finds those that say the same."""

import csv
import dataclasses
import io
import json
import re
from collections.abc import Collection, Sequence
from pathlib import Path

from cmr_jax.errors import InputError
from preprocessing import sections
from preprocessing.deid import Pseudonyms
from preprocessing.study import Report

_LINK_COLUMNS = ("study_uid", "accession_number")
_REPORTS, _LABELS = "--reports", "--label_table"  # flags, for messages
_DELIMITERS = ",;\t|"
_ADDENDUM = "ADDENDUM"


def read(
    path: Path, label_columns: Sequence[str], site_column: str = "", elsewhere: Collection[str] = ()
) -> dict[str, Report]:
    """Reports by every name a study can be linked with: `uid:…` and `accession:…`.

    Several rows of one study are joined in their order, the later ones marked as addenda; a later label that is not
    empty overrides an earlier one. Label columns that a label table has (`elsewhere`) may be missing.
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
        if name not in columns and name not in elsewhere:
            known = ", ".join(sorted(columns - {"report", *_LINK_COLUMNS}))
            raise InputError(
                f"--label_columns: --reports has no column {name!r}; it has {known or 'no further columns'}"
            )
    if site_column and site_column not in columns:
        raise InputError(f"--site_column: --reports has no column {site_column!r}")
    found: dict[str, Report] = {}
    for row in rows:
        report = Report(
            text=row.get("report", "").strip(),
            patient_id=row.get("patient_id", "").strip(),
            labels=tuple((name, row.get(name, "").strip()) for name in label_columns),
            site=row.get(site_column, "").strip(),
        )
        for name in _names(row):
            found[name] = join(found[name], report) if name in found else report
    if not any(report.text for report in found.values()):
        raise InputError("--reports holds no text: every 'report' field is empty or has no study to go with")
    return found


Labels = tuple[tuple[str, str], ...]


def read_labels(path: Path, columns: Sequence[str]) -> dict[str, Labels]:
    """The labels of a table of their own, by every name a study can be linked with, as `read` has them; of several rows
    of a study the last value that is not empty counts.

    Raises InputError where the file is missing, unreadable, or has none of `columns`, or nothing to link them with.
    """
    rows = _rows(path, _LABELS)
    known = {name for row in rows for name in row}
    if not known.intersection(_LINK_COLUMNS):
        raise InputError(f"{_LABELS} needs a column 'study_uid' or 'accession_number' to link labels with studies")
    wanted = [name for name in columns if name in known]
    if not wanted:
        raise InputError(f"{_LABELS} has none of the columns that --label_columns names")
    found: dict[str, Labels] = {}
    for row in rows:
        labels = tuple((name, row.get(name, "").strip()) for name in wanted)
        for name in _names(row):
            found[name] = _over(found.get(name, ()), labels)
    return found


def labelled(report: Report, labels: dict[str, Labels], study_uid: str, accession: str) -> Report:
    """`report` with the labels that a table of their own gives its study, by accession number or else (and over that)
    by UID."""
    merged = report.labels
    for name in (f"accession:{accession}", f"uid:{study_uid}"):
        merged = _over(merged, labels.get(name, ()))
    return dataclasses.replace(report, labels=merged)


def _over(first: Labels, later: Labels) -> Labels:
    """Both; a later value that is not empty stands over an earlier one."""
    merged = dict(first)
    for name, value in later:
        merged[name] = value or merged.get(name, "")
    return tuple(merged.items())


def _names(row: dict[str, str]) -> list[str]:
    pairs = zip(_LINK_COLUMNS, ("uid", "accession"), strict=True)
    return [f"{kind}:{value}" for column, kind in pairs if (value := row.get(column, "").strip())]


def _rows(path: Path, flag: str = _REPORTS) -> list[dict[str, str]]:
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError:
        raise InputError(f"{flag} is not UTF-8 text (Latin-1 or a spreadsheet?): save it as CSV UTF-8") from None
    except OSError as error:
        raise InputError(f"{flag} cannot be read ({error.strerror})") from None
    if "\0" in text:
        raise InputError(f"{flag} is not a text file")
    return _json_rows(text, flag) if text.lstrip().startswith("{") else _csv_rows(text, flag)


def _csv_rows(text: str, flag: str) -> list[dict[str, str]]:
    """Fields may be quoted and hold line ends; the delimiter is the one that the header line uses.

    Raises InputError where a row has more fields than the header: an unquoted comma in a report would cut it short.
    """
    csv.field_size_limit(1 << 27)
    first = text.split("\n", 1)[0].rstrip("\r")
    delimiter = max(
        _DELIMITERS, key=lambda d: (f"{d}report{d}" in f"{d}{first.replace(chr(34), '')}{d}", first.count(d))
    )
    reader = csv.DictReader(io.StringIO(text, newline=""), delimiter=delimiter, restkey="")
    rows = []
    try:
        reader.fieldnames = [name.strip() for name in reader.fieldnames or ()]
        for number, row in enumerate(reader, 1):
            if "" in row and any(row[""]):
                raise InputError(
                    f"{flag} row {number} has more fields than the header: quote texts that hold {delimiter!r}"
                )
            rows.append({k: v or "" for k, v in row.items() if k})
    except csv.Error:
        raise InputError(f"{flag} is neither CSV nor JSON lines") from None
    return rows


def _json_rows(text: str, flag: str) -> list[dict[str, str]]:
    rows = []
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
            rows.append({str(k): "" if v is None else str(v) for k, v in row.items()})
        except (ValueError, AttributeError):
            raise InputError(f"{flag} line {number} is not a JSON object") from None
    return rows


def join(first: Report, second: Report) -> Report:
    """Both as one; the second is an addendum to the first, unless the first says it already."""
    texts = [text for text in (first.text, second.text) if text]
    if second.text and second.text in first.text:
        texts = [first.text]
    elif len(texts) == 2 and not second.text.upper().startswith(_ADDENDUM):
        texts[1] = f"{_ADDENDUM}:\n{second.text}"
    later = dict(second.labels)
    labels = tuple((name, later.get(name) or old) for name, old in first.labels)
    return Report(
        "\n\n".join(texts),
        first.patient_id or second.patient_id,
        labels,
        first.site or second.site,
        (*first.names, *second.names),
    )


def row(reports: dict[str, Report], study_uid: str, accession: str) -> Report | None:
    """The table's word on a study, by its UID or else its accession number, even where it holds no text."""
    return reports.get(f"uid:{study_uid}") or reports.get(f"accession:{accession}")


def find(reports: dict[str, Report], study_uid: str, accession: str) -> Report | None:
    """The report of a study, as `row`; None without one, or without text."""
    report = row(reports, study_uid, accession)
    return report if report is not None and report.text else None


def with_text(known: Report | None, read: Report) -> Report:
    """`read`, with the labels, the patient and the site that the table gives its study."""
    if known is None:
        return read
    return dataclasses.replace(known, text=read.text, names=read.names, patient_id=known.patient_id or read.patient_id)


def content_hash(pseudonyms: Pseudonyms, text: str) -> str:
    """Equal for reports whose findings and impression say the same words (case, space and punctuation aside).

    Keyed: a plain hash of a standard phrase could be looked up.
    """
    by_name = sections.sections(text)
    said = " ".join((by_name["findings"], by_name["impression"])).strip() or text
    return pseudonyms.name("report", " ".join(re.findall(r"\w+(?:[.,]\d+)?|%", said.casefold())))
