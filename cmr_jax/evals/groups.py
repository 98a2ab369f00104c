"""Figures of parts of the test studies: by sex, age band, vendor, site or any other column.

A column is looked for in ids.csv, then in studies.csv and series.csv of the dataset. `age_band` is made of `age`.
Thresholds are those chosen for everybody. NumPy only.
"""

import csv
import os
import pathlib
import re
from collections.abc import Sequence
from typing import Any

import numpy as np

from cmr_jax.errors import InputError, nearest
from cmr_jax.evals import bootstrap
from cmr_jax.evals.classification import Classification, Scored, weighted_figures
from cmr_jax.evals.export import Embeddings

FIGURES = ("AUROC", "AUPRC", "sensitivity", "specificity", "prevalence")
UNKNOWN = "unknown"
AGE_BAND = "age_band"
LEAST = 10
_MOST_VALUES = 30
_BANDS = ((40, "under 40"), (60, "40 to 59"), (80, "60 to 79"), (1000, "80 and over"))
_TABLES = ("studies.csv", "series.csv")


def columns(
    embeddings: Embeddings, names: Sequence[str], data: str | os.PathLike[str] | None = None
) -> dict[str, list[str]]:
    """The value of each study by column; "unknown" where there is none.

    Raises InputError for a column that neither ids.csv nor the dataset has, and for one of too many values.
    """
    tables = [embeddings.ids, *(_of_dataset(embeddings, data) if names else [])]
    found = {}
    for name in names:
        source = "age" if name == AGE_BAND else name
        column = next((table[source] for table in tables if source in table), None)
        if column is None:
            known = {each for table in tables for each in table}
            raise InputError(
                f"no column {source!r} for --groups{nearest(source, known)}; "
                "--data=DIR adds those of the dataset's studies.csv"
            )
        values = [(age_band(value) if name == AGE_BAND else value.strip()) or UNKNOWN for value in column]
        if len(set(values)) > _MOST_VALUES:
            raise InputError(
                f"column {name!r} has {len(set(values))} values, more than {_MOST_VALUES}: too many groups"
            )
        found[name] = values
    return found


def age_band(age: str) -> str:
    """The band of an age in years ("45", "045Y", "90+"); "" where it is none, as of months and days."""
    match = re.fullmatch(r"\s*0*(\d{1,3})(\.\d+)?\s*[Yy+]?\s*", age)
    return next(name for limit, name in _BANDS if int(match[1]) < limit) if match else ""


def evaluate(
    embeddings: Embeddings, found: Classification, groups: dict[str, list[str]], *, draws: int, seed: int
) -> tuple[dict[str, Any], list[str]]:
    """`group/column=value/protocol/label/metric` with `…/ci95`, `…/n_studies`, and notes.

    Parts of fewer than ten studies have their count only.
    """
    patients, figures, notes = np.array(embeddings.patients()), {}, []
    small: set[str] = set()
    for scored in found.scored:
        for name, column in groups.items():
            values = np.array(column)[scored.rows_N]
            for value in sorted(set(values)):
                prefix, places = f"group/{name}={value}/", np.flatnonzero(values == value)
                figures[f"{prefix}{scored.prefix()}n_studies"] = len(places)
                if len(places) < LEAST:
                    small.add(f"{name}={value}")
                    continue
                part = scored.take(places)
                figures |= {
                    prefix + key: each for key, each in _figures(part, patients[part.rows_N], draws, seed).items()
                }
    if small:
        notes.append(f"groups of fewer than {LEAST} test studies have no figures: {', '.join(sorted(small))}")
    return figures, notes


def _figures(part: Scored, patients_N: np.ndarray, draws: int, seed: int) -> dict[str, Any]:
    wanted = [part.prefix() + name for name in FIGURES]
    point = weighted_figures(part, np.ones((1, len(patients_N))))
    enough = len(set(patients_N)) > 1 and draws > 0
    drawn = [weighted_figures(part, w) for w in bootstrap.resamples(list(patients_N), draws, seed)] if enough else []
    out: dict[str, Any] = {}
    for key in wanted:
        value = float(point[key][0])
        out[key] = value if np.isfinite(value) else None
        known = drawn and np.isfinite(value)
        out[f"{key}/ci95"] = bootstrap.interval(np.concatenate([each[key] for each in drawn])) if known else None
    return out


def _of_dataset(embeddings: Embeddings, data: str | os.PathLike[str] | None) -> list[dict[str, list[str]]]:
    """The columns of the dataset's tables, one value a study of the embeddings: the first that is not empty."""
    if data is None:
        return []
    if not pathlib.Path(data, _TABLES[0]).is_file():
        raise InputError(f"--data holds no {_TABLES[0]}: give the --out of preprocessing.run")
    found = []
    for table in _TABLES:
        path = pathlib.Path(data, table)
        if not path.is_file():
            continue
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file)
            names = [name for name in reader.fieldnames or [] if name != "study_id"]
            by_study: dict[str, dict[str, str]] = {}
            for line in reader:
                mine = by_study.setdefault(line["study_id"], {})
                for name in names:
                    mine[name] = mine.get(name) or (line[name] or "")
        found.append(
            {name: [by_study.get(study, {}).get(name, "") for study in embeddings.ids["study_id"]] for name in names}
        )
    return found
