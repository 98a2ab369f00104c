"""Taking studies out of a dataset, and entering them in the list that keeps them out.

`removed.csv` of the dataset holds a pseudonym a line, of a study or of a patient. Every later run leaves out what it
names; to undo a removal, delete its line and run again.
"""

import os
import shutil
from collections.abc import Collection
from pathlib import Path
from typing import Any

from cmr_jax.data import records, schema
from preprocessing import kept, publish, removed, swap, write


def add(out: Path, entries: Collection[tuple[str, str]]) -> None:
    """Enters `entries` in the list: it appears whole, and before the studies go."""
    partial = out / f".{removed.LIST}.{os.getpid()}.partial"
    rows = sorted(removed.read(out) | set(entries))
    write.write_table(partial, removed.COLUMNS, [dict(zip(removed.COLUMNS, row, strict=True)) for row in rows])
    partial.replace(out / removed.LIST)


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
