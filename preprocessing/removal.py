"""Studies that were taken out of a dataset, and the list that keeps them out.

`removed.csv` of the dataset holds a pseudonym a line, of a study or of a patient. Every later run leaves out what it
names; to undo a removal, delete its line and run again.
"""

import csv
import os
import shutil
from collections.abc import Collection
from pathlib import Path
from typing import Any

from cmr_jax.data import records, schema
from cmr_jax.errors import InputError
from preprocessing import kept, publish, swap, write
from preprocessing.deid import ID_LENGTH

LIST = "removed.csv"
_COLUMNS = ("kind", "id")
KINDS = ("study", "patient")


def read(out: Path) -> set[tuple[str, str]]:
    """(kind, pseudonym) of every line of `removed.csv`; empty without the file.

    Raises InputError where a line is not of that form: a removal must never be overlooked.
    """
    try:
        with (out / LIST).open(newline="", encoding="utf-8-sig") as file:
            rows = [tuple(cell.strip() for cell in row) for row in csv.reader(file) if any(row)]
    except FileNotFoundError:
        return set()
    except (OSError, ValueError, csv.Error):
        raise InputError(f"{LIST} of --out cannot be read as CSV") from None
    for number, row in enumerate(rows[1:], 2):
        if len(row) != 2 or row[0] not in KINDS or not is_pseudonym(row[1]):
            raise InputError(f"{LIST} of --out, line {number}: give kind,id as in study,0123456789abcdef")
    if rows and rows[0] != _COLUMNS:
        raise InputError(f"{LIST} of --out must begin with the line kind,id")
    return {(row[0], row[1]) for row in rows[1:]}


def is_pseudonym(text: str) -> bool:
    return len(text) == ID_LENGTH and all(c in "0123456789abcdef" for c in text)


def add(out: Path, entries: Collection[tuple[str, str]]) -> None:
    """Enters `entries` in the list: it appears whole, and before the studies go."""
    partial = out / f".{LIST}.{os.getpid()}.partial"
    rows = sorted(read(out) | set(entries))
    write.write_table(partial, _COLUMNS, [dict(zip(_COLUMNS, row, strict=True)) for row in rows])
    partial.replace(out / LIST)


def take_out(out: Path, gone: set[str]) -> dict[str, Any]:
    """Publishes the dataset of `out` anew without the studies `gone`; returns its manifest.

    Shards that held none of them are taken over as they are; in the others every record left keeps its bytes. The
    tokenizer stays: it holds words, and checkpoints depend on it.
    """
    manifest = swap.publish(out, lambda folder: _fill(out, folder, gone))
    kept.forget(out, gone)
    return manifest


def _fill(out: Path, folder: Path, gone: set[str]) -> dict[str, Any]:
    manifest = records.load_manifest(out)
    tables = [name for name in manifest["tables"] if name.endswith(".csv")]
    for name in tables:
        columns, rows = write.read_table(out / name)
        if name == "studies.csv":
            before = rows
        write.write_table(folder / name, columns, [row for row in rows if row.get("study_id") not in gone])
    shutil.copyfile(out / schema.TOKENIZER, folder / schema.TOKENIZER)
    for name, split in manifest["splits"].items():
        ids = [row["study_id"] for row in before if row["split"] == name]
        split["shards"] = _shards(out, folder, name, split["shards"], ids, gone, manifest["studies_per_shard"])
        split["studies"] = len(set(ids) - gone)
    feature_dict = write.features(manifest["image_size"], manifest["bits"])
    write.write_tfds_metadata(folder, feature_dict, {n: split["shards"] for n, split in manifest["splits"].items()})
    carried = manifest["counts"]
    manifest["counts"] = {**carried, "studies_removed": carried.get("studies_removed", 0) + len(gone)}
    manifest["made_of"] = ""  # so that a later run publishes anew
    return publish.finish(folder, manifest, tables)


def _shards(
    out: Path, folder: Path, split: str, entries: list[dict[str, Any]], ids: list[str], gone: set[str], per_shard: int
) -> list[dict[str, Any]]:
    """The shards of a split without the studies `gone`; entries of the manifest."""
    after = write.layout(set(ids) - gone, per_shard)
    if len(after) != len(entries):  # so few are left that the split needs fewer shards
        return write.write_split(folder, split, after, _Payloads(out, entries).find)
    made = []
    for entry, before, left in zip(entries, write.buckets(ids, len(entries)), after, strict=True):
        if before == left:
            for name in (entry["name"], schema.index_name(entry["name"])):
                _take_over(out / name, folder / name)
            made.append(entry)
        else:
            kept_payloads = (p for p in write.payloads(out, entry["name"]) if write.study_id(p) not in gone)
            made.append(write.write_shard(folder / entry["name"], kept_payloads))
    return made


class _Payloads:
    """Payloads of a split by study, asked for in the order in which they are stored."""

    def __init__(self, folder: Path, entries: list[dict[str, Any]]):
        self._stored = (payload for entry in entries for payload in write.payloads(folder, entry["name"]))

    def find(self, study_id: str) -> bytes:
        return next(payload for payload in self._stored if write.study_id(payload) == study_id)


def _take_over(source: Path, target: Path) -> None:
    """The same file under a second name where the file system can, else a copy."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)
