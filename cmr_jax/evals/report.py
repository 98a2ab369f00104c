"""What the evaluation binaries leave behind: JSON, Markdown tables, a list of failures; whole or not at all."""

import contextlib
import csv
import json
import os
import pathlib
import sys
import tempfile
import time
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from tqdm import tqdm

from cmr_jax.errors import InputError
from cmr_jax.evals import binary, by_label
from cmr_jax.evals.bootstrap import LEVEL
from cmr_jax.evals.export import Embeddings
from cmr_jax.evals.retrieval import DIRECTIONS, DUPLICATE_AWARE, IMAGE_TO_IMAGE, KS, Retrieval

if TYPE_CHECKING:
    # Only for annotations: it brings scikit-learn, which takes longer to import than retrieval takes to score.
    from cmr_jax.evals.classification import Classification

_PLAIN_LINE_EVERY = 10.0
_FAILURE_COLUMNS = ("protocol", "label", "row", "study_id", "true", "predicted", "score_of_predicted")


@contextlib.contextmanager
def staged(out: str | os.PathLike[str]) -> Iterator[pathlib.Path]:
    """A scratch folder whose files are moved to `out` when the block ends well; after an error `out` is as before."""
    target = pathlib.Path(out)
    if target.exists() and not target.is_dir():
        raise InputError("--out is a file: give a folder")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        scratch = tempfile.TemporaryDirectory(prefix=".report-", dir=target.parent)
    except OSError as error:
        raise InputError("cannot write beside --out: choose a folder that can be written") from error
    with scratch as name:
        yield pathlib.Path(name)
        target.mkdir(exist_ok=True)
        for file in sorted(pathlib.Path(name).iterdir()):
            file.replace(target / file.name)


def progress(what: str, steps: Iterable[Any]) -> Iterator[Any]:
    """A bar on a terminal; elsewhere a plain line every ten seconds, so that quick work stays silent."""
    counted: Collection[Any] = steps if isinstance(steps, Collection) else list(steps)
    if sys.stderr.isatty():
        yield from tqdm(counted, desc=what, leave=False)
        return
    said = time.monotonic()
    for done, step in enumerate(counted):
        if time.monotonic() - said > _PLAIN_LINE_EVERY:
            said = time.monotonic()
            print(f"{what}: {done} of {len(counted)}", file=sys.stderr, flush=True)
        yield step


def write_json(path: pathlib.Path, figures: Mapping[str, Any], embeddings: Embeddings, **more: Any) -> None:
    content = {**figures, **more, "provenance": embeddings.provenance()}
    path.write_text(json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False) + "\n", encoding="utf-8")


def write_failures(path: pathlib.Path, embeddings: Embeddings, found: "Classification") -> None:
    """The wrongly classified test studies, the surest mistakes first."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(_FAILURE_COLUMNS)
        for scored in found.scored:
            classes, questions = scored.label.classes, scored.label.questions
            wrong = []
            for place, row in enumerate(scored.rows_N):
                truth, said = int(scored.truth_N[place]), int(scored.predicted_N[place])
                if said < 0 or said == truth:
                    continue
                # Of a yes-or-no label only the score of yes is there; a low one speaks for no.
                score = float(scored.fit.score_NQ[place, questions.index(said) if said in questions else 0])
                sure = score if said in questions else -score
                names = (scored.protocol, scored.label.name, row, embeddings.ids["study_id"][row])
                wrong.append((sure, (*names, classes[truth], classes[said], f"{score:.6g}")))
            writer.writerows(line for _, line in sorted(wrong, key=lambda each: -each[0]))


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table with columns padded so that it reads well on a terminal too."""
    lines = [[cell.replace("|", "\\|") for cell in line] for line in [header, *rows]]
    widths = [max(len(line[place]) for line in lines) for place in range(len(header))]
    lines.insert(1, ["-" * width for width in widths])
    return "\n".join(
        "| " + " | ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)) + " |" for line in lines
    )


def retrieval_tables(found: Retrieval) -> list[tuple[str, str]]:
    """(title, table) of the plain, the duplicate-aware and, where there are labels, the label-aware figures."""
    out = []
    for title, prefix in (("Own partner only", ""), ("Studies with the same report are hits", DUPLICATE_AWARE)):
        names = [*(f"R@{k}" for k in KS), "MedR", "MeanR", "MRR"]
        keys = [[f"{prefix}{way}/{name}" for way in (*DIRECTIONS, "chance")] for name in names]
        rows = [[name, *(_cell(found.figures, key) for key in each)] for name, each in zip(names, keys, strict=True)]
        out.append((title, table(["", "image to text", "text to image", "chance"], rows)))
    ways = [way for way in (*DIRECTIONS, IMAGE_TO_IMAGE) if f"{way}/{by_label.MEASURES[0]}" in found.figures]
    rows = [
        [
            way.replace("_", " "),
            name,
            _cell(found.figures, f"{way}/{name}"),
            _cell(found.figures, f"{way}/chance/{name}"),
        ]
        for way in ways
        for name in by_label.MEASURES
    ]
    return [*out, ("Studies with the same labels are hits", table(["", "", "value", "chance"], rows))] if rows else out


def classification_tables(found: "Classification", figures: Sequence[str] = binary.FIGURES) -> list[tuple[str, str]]:
    """(title, table) of each label: a row a protocol, and for several classes a row a class."""
    by_name: dict[str, list[list[str]]] = {}
    for scored in found.scored:
        rows = by_name.setdefault(scored.label.name, [])
        prefixes = [scored.prefix(), *(scored.prefix(question) for question in range(len(scored.label.questions)))]
        for prefix in dict.fromkeys(prefixes):
            who = scored.protocol if prefix == scored.prefix() else f"  {prefix.split('/', 2)[2][:-1]}"
            rows.append([who, *(_cell(found.figures, prefix + name) for name in figures)])
    header = ["", *(name.replace("_", " ") for name in figures)]
    return [(f"Label {name}", table(header, rows)) for name, rows in by_name.items()]


def markdown(
    title: str,
    about: Sequence[str],
    tables: Sequence[tuple[str, str]],
    notes: Sequence[str],
    embeddings: Embeddings,
    command: str,
    plots: Sequence[str],
) -> str:
    """The page a person reads: what was scored, the figures, how they were made and how to make them again."""
    sections = [f"# {title}", *about]
    sections += [f"## {name}\n\n{text}" for name, text in tables]
    if notes:
        sections.append("## Notes\n\n" + "\n".join(f"- {note}" for note in notes))
    sections += [f"![{name}]({name})" for name in plots]
    rows = [[name.replace("_", " "), value] for name, value in embeddings.provenance().items()]
    sections.append("## Where the embeddings come from\n\n" + table(["", ""], rows))
    sections.append(f"## To make this again\n\n    {command}")
    return "\n\n".join(sections) + "\n"


def command(module: str, folders: Mapping[str, Any], options: Mapping[str, Any]) -> str:
    """The command line with options as they were and folders as capitals: paths of a hospital stay out of reports."""
    words = [f"--{name}={name.upper()}" for name, value in folders.items() if value]
    for name, value in options.items():
        if value not in (None, "", []):
            words.append(f"--{name}={','.join(value) if isinstance(value, list) else value}")
    return " ".join([f"python -m {module}", *words])


def interval_sentence(draws: int, seed: int) -> str:
    """What the brackets are."""
    if draws < 1:
        return "No intervals were asked for."
    return (
        f"In brackets: {LEVEL:.0%} percentile intervals over {draws} resamples of the patients (seed {seed}); "
        "the model, the gallery and the thresholds are held fixed."
    )


def _cell(figures: Mapping[str, Any], key: str) -> str:
    value, edges = figures.get(key), figures.get(f"{key}/ci95")
    if value is None:
        return "n/a"
    name = key.rsplit("/", 1)[1]
    form, unit = (".1f", "") if name in ("MedR", "MeanR") else (".3f", "")
    if name.startswith("R@"):
        # Chance among thousands is a small fraction of a percent.
        form, unit = (".1f" if value >= 1 else ".2g"), "%"
    return f"{value:{form}}{unit}" + (f" [{edges[0]:{form}}, {edges[1]:{form}}]" if edges else "")
