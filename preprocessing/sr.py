"""Reports that lie among the images as DICOM Structured Reports: their tree as text with headers.

Only what the tree contains is read: no observer, no context, no reference. The names it carries go to the scrubber.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pydicom

from preprocessing import identifiers, sections
from preprocessing.scan import quiet_pydicom
from preprocessing.study import FileScan, Report

_CHILDREN = ("CONTAINS", "HAS PROPERTIES", "INFERRED FROM")
_DEEPEST = 24
_MOST_CHARACTERS = 200_000


def read(root: Path, scan: FileScan) -> tuple[str, Report | None]:
    """(order among the reports of a study, report); None where the file holds no text or cannot be read."""
    try:
        with quiet_pydicom():
            document = pydicom.dcmread(root / scan.path)
            text = compose(document)
            names = tuple(dict.fromkeys(identifiers.names(document)))
            order = "".join(str(document.get(k, "")) for k in ("ContentDate", "ContentTime"))
    except (KeyboardInterrupt, SystemExit):
        raise
    except BaseException:  # whatever a damaged tree raises costs this report alone
        return "", None
    if not text.strip():
        return order, None
    return order, Report(text, scan.patient_id, (), names=names)


def lost(scan: FileScan, why: str) -> tuple[str, Report | None]:
    """The answer for a file that ended its worker."""
    return "", None


def compose(document: Any) -> str:
    """The text of a structured report: a heading a container, a line an item.

    Headings that `sections` knows stand in capitals, so that they start a section; others do not end one.
    """
    out: list[str] = []
    size = 0
    for line in _lines(document, 0):
        size += len(line)
        if size > _MOST_CHARACTERS:
            break
        out.append(line)
    return "\n".join(out)


def _lines(item: Any, depth: int) -> Iterator[str]:
    kind = str(item.get("ValueType", ""))
    heading = _meaning(item, "ConceptNameCodeSequence")
    said = _said(item, kind)
    if kind == "CONTAINER" and depth:
        if sections.section_of(heading):
            yield f"{heading.upper()}:"
        elif heading:
            yield f"{heading.capitalize()}:"
    elif said and kind == "TEXT":
        yield f"{heading.upper()}: {said}" if sections.section_of(heading) else said
    elif said:
        yield f"{heading.capitalize()}: {said}" if heading else said
    if depth >= _DEEPEST:
        return
    for child in item.get("ContentSequence") or ():
        if str(child.get("RelationshipType", "")) in _CHILDREN:
            yield from _lines(child, depth + 1)


def _said(item: Any, kind: str) -> str:
    if kind == "TEXT":
        return " ".join(str(item.get("TextValue", "")).split())
    if kind == "CODE":
        return _meaning(item, "ConceptCodeSequence")
    if kind == "NUM":
        measured = item.get("MeasuredValueSequence") or ()
        if not measured:
            return ""
        units = measured[0].get("MeasurementUnitsCodeSequence") or ()
        unit = str(units[0].get("CodeValue", "")) if units else ""
        return f"{measured[0].get('NumericValue', '')} {unit if unit != '1' else ''}".strip()
    return ""


def _meaning(item: Any, sequence: str) -> str:
    codes = item.get(sequence) or ()
    return " ".join(str(codes[0].get("CodeMeaning", "")).split()) if codes else ""
