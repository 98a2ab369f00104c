"""Figures as tables: retrieval, classification, few shots, measurements, groups and comparisons."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from cmr_jax.evals import binary, by_label
from cmr_jax.evals.retrieval import DIRECTIONS, DUPLICATE_AWARE, IMAGE_TO_IMAGE, KS, WITHIN, Retrieval

if TYPE_CHECKING:
    # Only for annotations.
    from cmr_jax.evals.classification import Classification

_RANKS = (*(f"R@{k}" for k in KS), "MedR", "MeanR", "MRR")


@dataclasses.dataclass(frozen=True)
class Table:
    """A title, and cells of text: every row is as long as the header."""

    title: str
    header: Sequence[str]
    rows: Sequence[Sequence[str]]

    def markdown(self) -> str:
        """A Markdown table with columns padded so that it reads well on a terminal too."""
        return table(self.header, self.rows)


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table, padded."""
    lines = [[cell.replace("|", "\\|") for cell in line] for line in [header, *rows]]
    widths = [max(len(line[place]) for line in lines) for place in range(len(header))]
    lines.insert(1, ["-" * width for width in widths])
    return "\n".join(
        "| " + " | ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)) + " |" for line in lines
    )


def retrieval_tables(found: Retrieval) -> list[Table]:
    """The plain and the duplicate-aware figures, those within one kind, and where there are labels those by label."""
    out, figures = [], found.figures
    single = f"{DIRECTIONS[0]}/chance/R@1" not in figures
    for title, prefix in (("Own partner only", ""), ("Studies with the same report are hits", DUPLICATE_AWARE)):
        columns = [f"{prefix}{way}" for way in (*DIRECTIONS, "chance")]
        header = ["", "image to text", "text to image", "chance"]
        if not single:
            columns = [f"{prefix}{way}{end}" for way in DIRECTIONS for end in ("", "/chance")]
            header = ["", "image to text", "chance", "text to image", "chance"]
        out.append(Table(title, header, [[n, *(cell(figures, f"{c}/{n}") for c in columns)] for n in _RANKS]))
    within = [(f"{DUPLICATE_AWARE}{IMAGE_TO_IMAGE}", "same report"), *((way, "same labels") for way in WITHIN)]
    rows = [
        [
            f"{key.rsplit('/', 1)[-1].replace('_', ' ')}, {what}",
            name,
            *(cell(figures, f"{key}{c}/{name}") for c in ("", "/chance")),
        ]
        for key, what in within
        if f"{key}/R@1" in figures
        for name in _RANKS
    ]
    if rows:
        out.append(Table("Another patient's study of the same kind is a hit", ["", "", "value", "chance"], rows))
    ways = [way for way in (*DIRECTIONS, *WITHIN) if f"{way}/{by_label.MEASURES[0]}" in figures]
    rows = [
        [way.replace("_", " "), name, cell(figures, f"{way}/{name}"), cell(figures, f"{way}/chance/{name}")]
        for way in ways
        for name in by_label.MEASURES
    ]
    if rows:
        out.append(Table("Studies with the same labels are hits", ["", "", "value", "chance"], rows))
    return [*out, *comparison_tables(figures)]


def classification_tables(found: "Classification", figures: Sequence[str] = binary.FIGURES) -> list[Table]:
    """Each label: a row a protocol, and for several classes a row a class."""
    by_name: dict[str, list[list[str]]] = {}
    for scored in found.scored:
        rows = by_name.setdefault(scored.label.name, [])
        prefixes = [scored.prefix(), *(scored.prefix(question) for question in range(len(scored.label.questions)))]
        for prefix in dict.fromkeys(prefixes):
            who = scored.protocol if prefix == scored.prefix() else f"  {prefix.split('/', 2)[2][:-1]}"
            rows.append([who, *(cell(found.figures, prefix + name) for name in figures)])
    header = ["", *(name.replace("_", " ") for name in figures)]
    return [Table(f"Label {name}", header, rows) for name, rows in by_name.items()]


def few_shot_tables(figures: Mapping[str, Any]) -> list[Table]:
    """A row a number of shots, a column a method and figure; by label."""
    keys = [key for key in figures if key.startswith("few_shot/") and key.count("/") == 3 and "AUROC" in key]
    by_label_: dict[str, list[list[str]]] = {}
    for key in keys:
        _, label, setting, _ = key.split("/")
        method, shots = setting.rsplit("_", 1)
        base, spread = key.rsplit("/", 1)[0], figures.get(f"{key}/sd_episodes")
        by_label_.setdefault(label, []).append(
            [
                shots,
                method,
                cell(figures, key),
                f"{spread:.3f}" if spread is not None else "n/a",
                cell(figures, f"{base}/accuracy"),
            ]
        )
    header = ["shots a class", "method", "AUROC", "SD of episodes", "accuracy"]
    return [Table(f"Few shots of {label}", header, rows) for label, rows in by_label_.items()]


def regression_tables(figures: Mapping[str, Any]) -> list[Table]:
    """A row a measurement."""
    names = list(dict.fromkeys(key.split("/")[1] for key in figures if key.startswith("regression/")))
    if not names:
        return []
    shown = list(dict.fromkeys(key.split("/")[2] for key in figures if key.startswith("regression/")))
    rows = [[name, *(cell(figures, f"regression/{name}/{each}") for each in shown)] for name in names]
    return [Table("Measurements", ["", *(each.replace("_", " ") for each in shown)], rows)]


def group_tables(figures: Mapping[str, Any]) -> list[Table]:
    """A table a protocol and label, a row a group."""
    ends = "/n_studies"
    keys = [key for key in figures if key.startswith("group/") and key.endswith(ends)]
    shown = ("AUROC", "AUPRC", "sensitivity", "specificity", "prevalence")
    by_task: dict[str, list[list[str]]] = {}
    for key in keys:
        # A group's value may hold a slash; protocol and label are the last two before the figure.
        group, protocol, label = key[len("group/") : -len(ends)].rsplit("/", 2)
        base = key[: -len(ends)]
        by_task.setdefault(f"{protocol}: {label}", []).append(
            [group, str(figures[key]), *(cell(figures, f"{base}/{name}") for name in shown)]
        )
    return [Table(f"Groups, {task}", ["", "studies", *shown], sorted(rows)) for task, rows in by_task.items()]


def comparison_tables(figures: Mapping[str, Any]) -> list[Table]:
    """This model, the other, the difference with its paired interval, p, and DeLong's p."""
    names = [key[len("other/") :] for key in figures if key.startswith("other/")]
    names = [name for name in names if not name.endswith(("/prevalence", "/MeanR"))]
    if not names:
        return []

    def p_of(name: str, what: str) -> str:
        value = figures.get(f"difference/{name}/{what}")
        return "" if value is None else f"{value:.3g}"

    rows = [
        [
            name,
            *(cell(figures, key) for key in (name, f"other/{name}", f"difference/{name}")),
            p_of(name, "p"),
            p_of(name, "delong_p"),
        ]
        for name in names
    ]
    header = ["", "this", "other", "difference", "p (paired patients)", "p (DeLong)"]
    if not any(row[-1] for row in rows):  # retrieval has no areas
        header, rows = header[:-1], [row[:-1] for row in rows]
    return [Table("Compared with the other model, on the same studies", header, rows)]


def cell(figures: Mapping[str, Any], key: str) -> str:
    """`value [low, high]` as its name wants it; n/a where there is none."""
    value, edges = figures.get(key), figures.get(f"{key}/ci95")
    if value is None:
        return "n/a"
    name = key.rsplit("/", 1)[1]
    form, unit = (".1f", "") if name in ("MedR", "MeanR") else (".3f", "")
    if isinstance(value, int):
        form = "d"
    if name.startswith("R@"):
        # Chance among thousands is a small fraction of a percent.
        form, unit = (".1f" if abs(value) >= 1 or value == 0 else ".2g"), "%"
    return f"{value:{form}}{unit}" + (f" [{edges[0]:{form}}, {edges[1]:{form}}]" if edges else "")
