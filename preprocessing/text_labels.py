"""What the text of a report gives a study: lines of findings.csv, and labels beside those of the user's table."""

import functools
import hashlib
from collections.abc import Iterable, Sequence
from pathlib import Path

from preprocessing import labels, numbers, phrases

COLUMNS = ("study_id", "name", "state", "severity", "location", "value", "low", "high", "unit", "section")
# Raised when the same text may give other labels.
_VERSION = 3
Row = dict[str, str]


def rows(study_id: str, text: str, phrase_file: str = "") -> list[Row]:
    """The lines of findings.csv that the scrubbed report `text` gives: findings first, then numbers, by name."""
    found = [
        {
            "study_id": study_id,
            "name": one.name,
            "state": one.state,
            "severity": one.severity,
            "location": one.location,
            "section": one.section,
        }
        for one in labels.extract(text, phrases.read(phrase_file))
    ]
    measured = [
        {
            "study_id": study_id,
            "name": one.name,
            "value": f"{one.value:g}",
            "low": f"{one.low:g}",
            "high": f"{one.high:g}",
            "unit": one.unit,
            "section": one.section,
        }
        for one in numbers.extract(text)
    ]
    return [*found, *measured]


def merge(table: Sequence[tuple[str, str]], found: Iterable[Row]) -> list[tuple[str, str, str]]:
    """(name, value, source) of every label; a column of the user's table stands over the text, where it has a value."""
    said = {row["name"]: row.get("state") or row["value"] for row in found}
    merged = [(name, value, "table") for name, value in table if value or name not in said]
    taken = {name for name, _, _ in merged}
    return merged + [(name, value, "text") for name, value in sorted(said.items()) if name not in taken]


@functools.cache
def fingerprint(phrase_file: str = "") -> tuple[int, str]:
    """Changes whenever the same text may give other labels."""
    digest = hashlib.sha256(phrases.PACKAGED.read_bytes())
    if phrase_file:
        digest.update(Path(phrase_file).read_bytes())
    return _VERSION, digest.hexdigest()
