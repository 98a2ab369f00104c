"""What the evaluation binaries leave behind: JSON and a list of failures (page.py: the pages); whole or not at all."""

import contextlib
import csv
import json
import os
import pathlib
import sys
import tempfile
import time
from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from tqdm import tqdm

from cmr_jax.errors import InputError
from cmr_jax.evals import failures
from cmr_jax.evals.bootstrap import LEVEL
from cmr_jax.evals.export import Embeddings

if TYPE_CHECKING:
    # Only for annotations.
    from cmr_jax.evals.classification import Classification
    from cmr_jax.evals.regression import Regression

_PLAIN_LINE_EVERY = 10.0
_LARGEST_ERRORS = 20
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


def write_failures(
    path: pathlib.Path, embeddings: Embeddings, found: "Classification", predicted: "Regression | None" = None
) -> None:
    """The wrongly classified test studies, the surest mistakes first; of measurements the largest errors."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(_FAILURE_COLUMNS)
        for scored in found.scored:
            classes, questions = scored.label.classes, scored.label.questions
            for sure, place in failures.mistakes(scored):
                row, truth, said = scored.rows_N[place], int(scored.truth_N[place]), int(scored.predicted_N[place])
                score = sure if said in questions else -sure
                names = (scored.protocol, scored.label.name, row, embeddings.ids["study_id"][row])
                writer.writerow((*names, classes[truth], classes[said], f"{score:.6g}"))
        for each in predicted.predicted if predicted else ():
            error_N = each.predicted_N - each.truth_N
            for place in sorted(range(len(error_N)), key=lambda place: -abs(error_N[place]))[:_LARGEST_ERRORS]:
                row = each.rows_N[place]
                study, said = embeddings.ids["study_id"][row], f"{each.predicted_N[place]:.6g}"
                writer.writerow(("regression", each.name, row, study, f"{each.truth_N[place]:.6g}", said, ""))


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
