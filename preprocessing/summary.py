"""summary.md: what came in, what was left out and why, and what the records hold."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from cmr_jax.data import schema


def _table(header: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    lines = ["| " + " | ".join(header) + " |", "|" + "---|" * len(header)]
    lines += ["| " + " | ".join(str(cell) for cell in row) + " |" for row in rows]
    return "\n".join(lines)


def _by_count(counts: Mapping[Any, int]) -> list[tuple[Any, int]]:
    return sorted(counts.items(), key=lambda item: (-item[1], str(item[0])))


def series_table(rows: Sequence[Mapping[str, Any]]) -> str:
    """The lines of series.csv counted by what was understood, for people."""
    keys = ("view", "view_rule", "slices", "phases", "vendor", "used", "reason")
    counts = Counter(tuple(str(row.get(key, "")) for key in keys) for row in rows)
    return _table(("series", *keys), ((count, *values) for values, count in _by_count(counts)))


def _left_out(files: Iterable[tuple[str, str, str]]) -> str:
    reasons = Counter((status, reason) for _, status, reason in files if status != "used")
    return _table(("status", "reason", "files"), ((*key, n) for key, n in _by_count(reasons))) if reasons else "None."


def preview(
    counts: Mapping[str, int], files: Sequence[tuple[str, str, str]], series: Sequence[Mapping[str, Any]]
) -> str:
    """The table of --dry_run."""
    return "\n\n".join((_table(("count", "n"), counts.items()), _left_out(files), series_table(series)))


def markdown(
    counts: Mapping[str, int],
    files: Sequence[tuple[str, str, str]],
    series: Sequence[Mapping[str, Any]],
    studies: Sequence[Mapping[str, str]],
    unmapped: Mapping[str, int],
) -> str:
    """The whole page. Descriptions arrive masked: words that are no protocol words show as "?"."""
    split = Counter(row["split"] for row in studies)
    patients = {name: len({r["patient_id"] for r in studies if r["split"] == name}) for name in schema.SPLITS}
    parts = [
        "# What was preprocessed",
        _table(("count", "n"), counts.items()),
        "## Splits",
        _table(("split", "studies", "patients"), ((name, split[name], patients[name]) for name in schema.SPLITS)),
        "## Files left out",
        _left_out(files),
        "## Series",
        series_table(series),
        "## Descriptions that no rule knows",
        _table(("description", "series"), _by_count(unmapped)) if unmapped else "None.",
    ]
    return "\n\n".join(parts) + "\n"
