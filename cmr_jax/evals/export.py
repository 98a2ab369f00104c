"""Embeddings as plain files: the seam between the part that needs JAX and the part that scores.

A folder holds `image.npy` and `text.npy` (float32, N x E, row i of both is study i), `ids.csv` (`row, study_id,
patient_id, split, report_hash`, then one column a label) and `manifest.json` (at least `{"schema": 1, "n": N}`).

Where a study has several texts, `texts.csv` (`row, study_id`) says whose text each row of
`text.npy` is; every study has at least one.

Unit length: what we write is of unit length. Embeddings made elsewhere may not be; since scores are cosines, `load`
scales rows that are off by more than 1e-3 to unit length and says so in `notes`. A row of zeros has no direction: it
stays as it is and ties with everything.
"""

import csv
import dataclasses
import errno
import json
import os
import pathlib
import shutil
import tempfile
from collections.abc import Sequence
from typing import Any

import numpy as np

from cmr_jax.errors import InputError, nearest
from cmr_jax.evals.ranking import check_embeddings

SCHEMA_VERSION = 1
COLUMNS = ("row", "study_id", "patient_id", "split", "report_hash")
PROVENANCE = ("checkpoint_step", "checkpoint_sha256", "config_sha256", "data_manifest_sha256")
ALL_SPLITS = "all"
_FILES = ("image.npy", "text.npy", "ids.csv", "manifest.json")
_TEXTS = "texts.csv"
_UNIT_TOLERANCE = 1e-3


@dataclasses.dataclass(frozen=True)
class Embeddings:
    """N studies: `image_NE` and `text_NE` float32, `ids` the columns of ids.csv (N strings each) by name.

    `text_studies`: where studies have several texts, the study (row of `image_NE`) of each row of `text_NE`; else None.
    """

    image_NE: np.ndarray
    text_NE: np.ndarray
    ids: dict[str, list[str]]
    manifest: dict[str, Any]
    notes: tuple[str, ...] = ()
    text_studies: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.image_NE)

    @property
    def labels(self) -> list[str]:
        return [name for name in self.ids if name not in COLUMNS]

    def label(self, name: str) -> list[str]:
        """The values of a label column; raises InputError naming the nearest where there is none."""
        if name not in self.labels:
            raise InputError(f"no label column {name!r} in the embeddings{nearest(name, self.labels)}")
        return self.ids[name]

    def patients(self) -> list[str]:
        """The patient of each row; a row without one stands for itself."""
        return [patient or f"row {row}" for row, patient in enumerate(self.ids["patient_id"])]

    def reports(self) -> list[str]:
        """The report hash of each row; a row without one equals no other."""
        return [report or f"row {row}" for row, report in enumerate(self.ids["report_hash"])]

    def studies_of_texts(self) -> np.ndarray:
        """The study (row) of each text."""
        return np.arange(len(self)) if self.text_studies is None else self.text_studies

    def provenance(self) -> dict[str, str]:
        return {name: str(self.manifest.get(name) or "unknown") for name in PROVENANCE}

    def rows(self, split: str) -> np.ndarray:
        """The rows of `split` ("all": every row); raises InputError where there is none."""
        splits = np.array(self.ids["split"])
        rows = np.arange(len(self)) if split == ALL_SPLITS else np.flatnonzero(splits == split)
        if not len(rows):
            known = ", ".join(sorted(set(self.ids["split"]))) or "none"
            raise InputError(f"no study of split {split!r} in the embeddings; its splits: {known}")
        return rows

    def take(self, rows: np.ndarray) -> "Embeddings":
        """The studies `rows`, in that order."""
        ids = {name: [column[row] for row in rows] for name, column in self.ids.items()}
        if self.text_studies is None:
            return dataclasses.replace(self, image_NE=self.image_NE[rows], text_NE=self.text_NE[rows], ids=ids)
        place_N = np.full(len(self), -1)
        place_N[rows] = np.arange(len(rows))
        texts = np.flatnonzero(place_N[self.text_studies] >= 0)
        studies = place_N[self.text_studies[texts]]
        return dataclasses.replace(
            self, image_NE=self.image_NE[rows], text_NE=self.text_NE[texts], ids=ids, text_studies=studies
        )


def save(embeddings: Embeddings, folder: str | os.PathLike[str]) -> None:
    """Writes `embeddings` to `folder` whole or not at all, in place of embeddings that stand there.

    Raises InputError where the embeddings are inconsistent, `folder` holds anything but embeddings, or there is no
    room for them.
    """
    try:
        _save(embeddings, folder)
    except OSError as error:
        why = error.strerror or os.strerror(errno.ENOSPC)  # NumPy raises a bare one where an array is cut short
        raise InputError(
            f"the embeddings cannot be written ({why}): what the folder held before stands; mend that, then run again"
        ) from None


def _save(embeddings: Embeddings, folder: str | os.PathLike[str]) -> None:
    target = pathlib.Path(folder)
    embeddings = _checked(embeddings)
    if target.exists() and (not target.is_dir() or {entry.name for entry in target.iterdir()} - {*_FILES, _TEXTS}):
        raise InputError("the output folder holds other files than embeddings: choose a new folder")
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".embeddings-", dir=target.parent) as scratch:
        stage = pathlib.Path(scratch, "new")
        stage.mkdir()
        np.save(stage / "image.npy", embeddings.image_NE)
        np.save(stage / "text.npy", embeddings.text_NE)
        with (stage / "ids.csv").open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            names = [*COLUMNS, *embeddings.labels]
            writer.writerow(names)
            writer.writerows(zip(*(embeddings.ids[name] for name in names), strict=True))
        if embeddings.text_studies is not None:
            _write_texts(stage / _TEXTS, embeddings)
        manifest = {**embeddings.manifest, "schema": SCHEMA_VERSION, "n": len(embeddings)}
        (stage / "manifest.json").write_text(json.dumps(manifest, indent=2) + "\n", encoding="utf-8")
        if target.exists():
            shutil.move(target, pathlib.Path(scratch, "old"))
        stage.rename(target)


def load(folder: str | os.PathLike[str]) -> Embeddings:
    """Reads and checks a folder of embeddings; raises InputError naming what is wrong with it."""
    source = pathlib.Path(folder)
    if not source.is_dir():
        raise InputError(f"no folder of embeddings at {str(source)!r}; make one with python -m cmr_jax.bin.embed")
    for name in _FILES:
        if not (source / name).is_file():
            raise InputError(f"the folder of embeddings has no {name}; it needs {', '.join(_FILES)}")
    manifest = _read_manifest(source / "manifest.json")
    image_NE, notes = _unit_rows("image", _read_array(source / "image.npy"))
    text_NE, more = _unit_rows("text", _read_array(source / "text.npy"))
    ids = _read_ids(source / "ids.csv")
    texts = _read_texts(source / _TEXTS, ids) if (source / _TEXTS).is_file() else None
    return _checked(Embeddings(image_NE, text_NE, ids, manifest, (*notes, *more), texts))


def obtain(
    *,
    embeddings: str | None,
    workdir: str | None,
    checkpoint: str | None,
    data: str | None,
    splits: Sequence[str],
    step: int | None,
) -> Embeddings:
    """Embeddings from their folder, or made now from a model and a data set (only then is JAX imported)."""
    if embeddings:
        return load(embeddings)
    if not (workdir or checkpoint) or not data:
        raise InputError("give --embeddings=DIR, or --workdir=DIR (or --checkpoint=DIR) together with --data=DIR")
    from cmr_jax.evals import embed

    return embed.embed_dataset(workdir=workdir, checkpoint=checkpoint, data=data, splits=tuple(splits), step=step)


def _checked(embeddings: Embeddings) -> Embeddings:
    check_embeddings("image", embeddings.image_NE)
    check_embeddings("text", embeddings.text_NE)
    texts = embeddings.text_studies
    if embeddings.image_NE.shape[1] != embeddings.text_NE.shape[1] or (
        texts is None and len(embeddings.image_NE) != len(embeddings.text_NE)
    ):
        raise InputError(
            f"image.npy is {embeddings.image_NE.shape} and text.npy {embeddings.text_NE.shape}: row i of both must be "
            f"study i (or a {_TEXTS} say whose each text is), and both need the same number of features"
        )
    if texts is not None and len(texts) != len(embeddings.text_NE):
        raise InputError(f"{_TEXTS} has {len(texts)} rows and text.npy {len(embeddings.text_NE)}: they must agree")
    if texts is not None and len(np.unique(texts)) != len(embeddings.image_NE):
        raise InputError(f"{_TEXTS} gives no text to some studies; leave these studies out of the folder")
    missing = [name for name in COLUMNS if name not in embeddings.ids]
    if missing:
        raise InputError(f"ids.csv has no column {', '.join(missing)}; it needs {', '.join(COLUMNS)}")
    counts = {len(column) for column in embeddings.ids.values()}
    if counts != {len(embeddings)}:
        raise InputError(f"ids.csv has {max(counts)} rows and image.npy {len(embeddings)}: they must agree")
    if embeddings.ids["row"] != [str(row) for row in range(len(embeddings))]:
        raise InputError("the column row of ids.csv must count 0, 1, 2, … in the order of the arrays")
    if embeddings.manifest.get("n", len(embeddings)) != len(embeddings):
        raise InputError(f"manifest.json says n = {embeddings.manifest['n']} and image.npy has {len(embeddings)} rows")
    return embeddings


def _read_array(path: pathlib.Path) -> np.ndarray:
    try:
        array = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise InputError(f"{path.name} is not a NumPy array file, or is damaged: write it with numpy.save") from error
    if array.dtype.kind != "f":
        raise InputError(f"{path.name} holds {array.dtype}; write the embeddings as float32")
    # Where a float64 is too large for float32 it becomes infinite, and the check after this names the row.
    with np.errstate(over="ignore"):
        return array.astype(np.float32, copy=False)


def _read_manifest(path: pathlib.Path) -> dict[str, Any]:
    try:
        manifest = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise InputError('manifest.json is not JSON; it needs at least {"schema": 1, "n": N}') from error
    if not isinstance(manifest, dict) or manifest.get("schema") != SCHEMA_VERSION or "n" not in manifest:
        raise InputError(f'manifest.json needs at least {{"schema": {SCHEMA_VERSION}, "n": N}}')
    return manifest


def _read_ids(path: pathlib.Path) -> dict[str, list[str]]:
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            header, *rows = csv.reader(file)
    except (UnicodeDecodeError, csv.Error, ValueError) as error:
        raise InputError(f"{path.name} is empty or not a UTF-8 CSV file") from error
    if len(set(header)) != len(header):
        raise InputError(f"{path.name} names a column twice")
    ragged = [number for number, row in enumerate(rows, start=2) if len(row) != len(header)]
    if ragged:
        raise InputError(f"line {ragged[0]} of {path.name} does not have the {len(header)} fields of its header")
    return {name: [row[place] for row in rows] for place, name in enumerate(header)}


def _write_texts(path: pathlib.Path, embeddings: Embeddings) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(("row", "study_id"))
        for row, study in enumerate(embeddings.studies_of_texts()):
            writer.writerow((row, embeddings.ids["study_id"][study]))


def _read_texts(path: pathlib.Path, ids: dict[str, list[str]]) -> np.ndarray:
    """The study (row of ids.csv) of each text."""
    columns, place = _read_ids(path), {study: row for row, study in enumerate(ids.get("study_id", []))}
    if not {"row", "study_id"} <= set(columns):
        raise InputError(f"{_TEXTS} needs the columns row, study_id")
    if columns["row"] != [str(row) for row in range(len(columns["row"]))]:
        raise InputError(f"the column row of {_TEXTS} must count 0, 1, 2, … in the order of text.npy")
    unknown = sum(study not in place for study in columns["study_id"])
    if unknown or len(place) < len(ids.get("study_id", [])):
        raise InputError(f"{_TEXTS} names {unknown} studies that ids.csv has not, or ids.csv has one twice")
    return np.array([place[study] for study in columns["study_id"]], np.int64)


def _unit_rows(name: str, rows_NE: np.ndarray) -> tuple[np.ndarray, list[str]]:
    check_embeddings(name, rows_NE)
    length_N = np.linalg.norm(rows_NE.astype(np.float64), axis=1)
    empty = length_N == 0
    off = (np.abs(length_N - 1) > _UNIT_TOLERANCE) & ~empty
    if off.any():
        rows_NE = rows_NE.copy()
        rows_NE[off] = rows_NE[off] / length_N[off, None]
    notes = [f"{off.sum()} of {len(off)} {name} embeddings were not of unit length and were scaled to it"]
    zero = [f"{empty.sum()} of {len(off)} {name} embeddings are all zeros: they tie with everything"]
    return rows_NE, notes * bool(off.any()) + zero * bool(empty.any())
