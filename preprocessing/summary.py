"""summary.md and the text of --dry_run: what came in, what was left out and why, and what the records hold.

Everything is computed from the tables of the dataset, so it can be written again when a study is taken out.
Descriptions arrive masked: words that are no protocol words show as "?".
"""

from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from cmr_jax.data import schema

Row = Mapping[str, str]
Tables = Mapping[str, Sequence[Row]]
# What happened to studies on the way, in order; the rest of them are in the dataset.
STUDY_LOSSES = {
    "studies_without_report": "without a report",
    "studies_removed": "removed on request",
    "studies_without_side": "without a date or site to split by",
    "studies_put_aside": "no usable series, or failed",
}
TOKENS = "tokens.csv"
_READ = ("findings", "impression")  # what `data.sections` is unless told otherwise
_REASONS_SHOWN = 8
_VALUES_SHOWN = 12
_PREVIEW_COLUMNS = {
    "study_id": 16, "description": 32, "view": 12, "contrast": 9, "view_rule": 34, "size": 9, "spacing": 13,
    "vendor": 8, "used": 4, "reason": 0,
}  # fmt: skip


def table(header: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    """A table of Markdown."""
    lines = ["| " + " | ".join(header) + " |", "|" + "---|" * len(header)]
    lines += ["| " + " | ".join(str(cell).replace("|", "/") for cell in row) + " |" for row in rows]
    return "\n".join(lines)


def _by_count(counts: Mapping[Any, int]) -> list[tuple[Any, int]]:
    return sorted(counts.items(), key=lambda item: (-item[1], str(item[0])))


def counts(tables: Tables, carried: Mapping[str, int]) -> dict[str, int]:
    """The counts of the manifest; `carried` are those that no table tells (what happened to studies)."""
    status = Counter(row["status"] for row in tables["files.csv"])
    losses = {name: int(carried.get(name, 0)) for name in STUDY_LOSSES}
    studies = tables["studies.csv"]
    return {
        "files_seen": len(tables["files.csv"]),
        **{f"files_{name}": status[name] for name in ("used", "ignored", "rejected")},
        "series": sum(row["used"] == "yes" for row in tables["series.csv"]),
        "studies_seen": len(studies) + sum(losses.values()),
        **losses,
        "studies": len(studies),
        "patients": len({row["patient_id"] for row in studies}),
    }


def series_table(rows: Sequence[Mapping[str, Any]]) -> str:
    """The lines of series.csv counted by what was understood."""
    keys = ("view", "contrast", "view_rule", "slices", "phases", "vendor", "used", "reason")
    found = Counter(tuple(str(row.get(key, "")) for key in keys) for row in rows)
    return table(("series", *keys), ((count, *values) for values, count in _by_count(found)))


def _left_out(files: Iterable[Row]) -> str:
    reasons = Counter((row["status"], row["reason"]) for row in files if row["status"] != "used")
    return table(("status", "reason", "files"), ((*key, n) for key, n in _by_count(reasons))) if reasons else "None."


def preview(found: Mapping[str, int], files: Iterable[Row], series: Sequence[Mapping[str, Any]]) -> str:
    """What --dry_run prints: the counts, what is left out, a line a series, and the series counted by kind."""
    lines = [_line({name: name for name in _PREVIEW_COLUMNS})]
    for row in series:
        size = f"{row['slices']}x{row['phases']}" if row.get("slices") else f"{row['frames']} fr."
        lines.append(_line({**row, "size": size}))
    parts = (table(("count", "n"), found.items()), _left_out(files), "\n".join(lines), series_table(series))
    return "\n\n".join(parts)


def _line(row: Mapping[str, Any]) -> str:
    cells = (f"{row.get(name, '') or '-'!s:<{width}}" for name, width in _PREVIEW_COLUMNS.items())
    return "  ".join(cells).rstrip(" -")


def page(manifest: Mapping[str, Any], tables: Tables) -> str:
    """The whole of summary.md."""
    found, studies, series = manifest["counts"], tables["studies.csv"], tables["series.csv"]
    split = Counter(row["split"] for row in studies)
    patients = {name: len({r["patient_id"] for r in studies if r["split"] == name}) for name in schema.SPLITS}
    unknown = (row for row in series if row["used"] == "yes" and row["view"] == "unknown")
    unmapped = Counter(row["description"] or "(none)" for row in unknown)
    parts = [
        "# What was preprocessed",
        flow_chart(found, tables["files.csv"], split),
        table(("count", "n"), found.items()),
        "## Splits",
        f"Rule: {manifest['split_rule']}.",
        table(("split", "studies", "patients"), ((name, split[name], patients[name]) for name in schema.SPLITS)),
        "## Labels",
        _labels(manifest["label_names"], studies),
        "## Length of the text",
        "Tokens: medians [5th, 95th percentile] over the studies with that section. `model.text.length` counts two"
        " more; text beyond that is not read.",
        _lengths(tables.get(TOKENS, ())),
        "## Files left out",
        _left_out(tables["files.csv"]),
        "## Spacing and brightness",
        "Medians [5th, 95th percentile] over series; the pictures are in qc/distributions.png. Brightness is in shares"
        " of the stored range; a series at its upper end is cut off.",
        _distributions(series),
        "## Series",
        series_table(series),
        "## Descriptions that no rule knows",
        table(("description", "series"), _by_count(unmapped)) if unmapped else "None.",
    ]
    return "\n\n".join(parts) + "\n"


def flow_chart(found: Mapping[str, int], files: Iterable[Row], split: Mapping[str, int]) -> str:
    """A Mermaid chart of files and studies: the boxes that leave a box add up to it."""
    reasons: dict[str, Counter[str]] = defaultdict(Counter)
    for row in files:
        reasons[row["status"]][row["reason"]] += 1
    lines = ["```mermaid", "flowchart TD", f'  files["{found["files_seen"]} files"]']
    lines.append(f'  files --> used["{found["files_used"]} used"]')
    for status in ("ignored", "rejected"):
        if found[f"files_{status}"]:
            lines.append(f'  files --> {status}["{found[f"files_{status}"]} {status}{_reasons(reasons[status])}"]')
    lines.append(f'  seen["{found["studies_seen"]} studies of usable MR images"]')
    for name, words in STUDY_LOSSES.items():
        if found[name]:
            lines.append(f'  seen --> {name}["{found[name]} {words}"]')
    lines.append(f'  seen --> studies["{found["studies"]} studies of {found["patients"]} patients in the dataset"]')
    lines += [f'  studies --> {name}["{split[name]} {name}"]' for name in schema.SPLITS if split[name]]
    return "\n".join((*lines, "```"))


def _reasons(found: Mapping[str, int]) -> str:
    ordered = _by_count(found)
    shown, rest = ordered[:_REASONS_SHOWN], sum(n for _, n in ordered[_REASONS_SHOWN:])
    words = [f"{n} {reason}" for reason, n in shown] + ([f"{rest} other reasons"] if rest else [])
    return "".join("<br>" + text.replace('"', "'") for text in words)


def _labels(names: Sequence[str], studies: Sequence[Row]) -> str:
    """Every label's values by split; numbers and names of many values as a range."""
    rows = []
    for name in names:
        values = [(row["split"], row.get(name, "")) for row in studies]
        kinds = Counter(value for _, value in values if value)
        if len(kinds) > _VALUES_SHOWN:
            said = Counter(split for split, value in values if value)
            shown = [(f"{len(kinds)} values ({_range(kinds)})", said)]
        else:
            shown = [(v, Counter(s for s, value in values if value == v)) for v, _ in _by_count(kinds)]
        said = Counter(split for split, value in values if not value)
        rows += [(name, value, *(by[s] for s in schema.SPLITS)) for value, by in (*shown, ("(not said)", said))]
    return table(("label", "value", *schema.SPLITS), rows) if rows else "None."


def _range(values: Collection[str]) -> str:
    """Lowest and highest: by number where all are numbers, else by alphabet."""
    try:
        return f"{min(values, key=float)} to {max(values, key=float)}"
    except ValueError:
        return f"{min(values)} to {max(values)}"


def _lengths(tokens: Sequence[Row]) -> str:
    """Tokens of each section that a report has, and of those that a model reads by default together."""
    parts = {**{name: (name,) for name in schema.SECTIONS}, " + ".join(_READ): _READ, "all": schema.SECTIONS}
    rows = []
    for title, names in parts.items():
        counts = np.array([total for row in tokens if (total := sum(int(row[name]) for name in names))])
        low, middle, high, largest = np.percentile(counts, [5, 50, 95, 100]) if len(counts) else [0] * 4
        rows.append((title, len(counts), f"{middle:.0f} [{low:.0f}, {high:.0f}]", f"{largest:.0f}"))
    return table(("section", "studies", "tokens", "largest"), rows) if tokens else "Not known."


def _distributions(series: Sequence[Row]) -> str:
    columns = {
        "pixel mm": "spacing", "gap mm": "slice_gap", "slices": "slices", "phases": "phases",
        "mean": "level_mean", "deviation": "level_std", "at the end %": "saturated_percent",
    }  # fmt: skip
    by_view: dict[str, list[Row]] = defaultdict(list)
    for row in series:
        if row["used"] == "yes":
            by_view[row["view"]].append(row)
    rows = [
        (view, len(theirs), *(_spread(numbers(theirs, column)) for column in columns.values()))
        for view, theirs in sorted(by_view.items(), key=lambda item: schema.VIEWS.index(item[0]))
    ]
    return table(("view", "series", *columns), rows)


def numbers(rows: Iterable[Row], column: str) -> np.ndarray:
    """The numbers of a column; of `1.5x1.5` the first; what is empty is left out."""
    found = [row.get(column, "").split("x")[0] for row in rows]
    return np.array([float(text) for text in found if text])


def _spread(values: np.ndarray) -> str:
    if not len(values):
        return ""
    low, middle, high = np.percentile(values, [5, 50, 95])
    return f"{middle:.3g}" if high - low < 1e-6 else f"{middle:.3g} [{low:.3g}, {high:.3g}]"
