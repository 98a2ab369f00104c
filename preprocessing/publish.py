"""The second part of a run: from work files to the dataset with its tables, tokenizer, contact sheets and manifest."""

import functools
import shutil
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from cmr_jax.data import schema
from cmr_jax.errors import InputError
from preprocessing import pipeline, process, qc, splits, summary, tokenizer, write
from preprocessing.deid import Pseudonyms
from preprocessing.parallel import progress

SERIES_COLUMNS = (
    "study_id series_id view view_rule frames slices phases spacing slice_gap phase_key vendor used reason"
).split()
FILE_COLUMNS = ("file_id", "status", "reason")
STUDY_COLUMNS = ("study_id", "patient_id", "split", "site", "sex", "age")


def publish(
    out: Path, settings: process.Settings, planned: pipeline.Plan, *, vocab_size: int, studies_per_shard: int
) -> dict[str, Any]:
    """Writes the dataset from the work files; returns the manifest.

    Raises InputError where a work file is missing or no study fell into the training split.
    """
    paths = sorted(process.work_path(settings, task) for task in planned.tasks)
    missing = sum(not path.exists() for path in paths)
    if missing:
        raise InputError(f"{missing} of {len(paths)} studies are not processed yet: run the missing array tasks first")
    results = [process.load(path, with_arrays=False) for path in paths]
    if not any(result.example for result in results):
        raise InputError("no study could be used: --dry_run shows what was understood of each")
    fill = functools.partial(
        _fill, settings=settings, planned=planned, paths=paths, results=results, vocab_size=vocab_size,
        studies_per_shard=studies_per_shard,
    )  # fmt: skip
    manifest = write.publish(out, fill)
    shutil.rmtree(out / pipeline.WORK, ignore_errors=True)
    return manifest


def _fill(
    folder: Path,
    *,
    settings: process.Settings,
    planned: pipeline.Plan,
    paths: list[Path],
    results: list[process.Result],
    vocab_size: int,
    studies_per_shard: int,
) -> dict[str, Any]:
    pseudonyms = Pseudonyms(settings.key)
    kept = [(path, result) for path, result in zip(paths, results, strict=True) if result.example is not None]
    model = tokenizer.train(_training_texts(results), vocab_size)
    (folder / schema.TOKENIZER).write_bytes(model)
    shards = _write_shards(folder, settings, kept, model, studies_per_shard)
    write.write_tfds_metadata(folder, settings.image_size, shards)

    labels = [name for name, _ in planned.tasks[0].report.labels]
    counts = _write_tables(folder, pseudonyms, planned, results, labels)
    sheets = [path for path, _ in kept[: qc.STUDIES_A_PAGE * qc.MAX_PAGES]]
    qc.write_pages(folder / "qc", (_example(path) for path in sheets))
    return {
        "schema": schema.SCHEMA_VERSION,
        "image_size": settings.image_size,
        "spacing_mm": settings.spacing_mm,
        "counts": counts,
        "splits": {
            split: {"studies": sum(entry["records"] for entry in entries), "shards": entries}
            for split, entries in shards.items()
        },
        "tables": {name: write.sha256(folder / name) for name in write.TABLES},
        "tokenizer": {
            "file": schema.TOKENIZER,
            "sha256": write.sha256(folder / schema.TOKENIZER),
            "vocab_size": tokenizer.load(model).vocab_size(),
        },
        "label_names": labels,
        "key_fingerprint": pseudonyms.fingerprint,
        "split_rule": splits.rule(settings.fractions),
        "versions": write.versions(),
    }


def _write_tables(
    folder: Path,
    pseudonyms: Pseudonyms,
    planned: pipeline.Plan,
    results: Sequence[process.Result],
    labels: Sequence[str],
) -> dict[str, int]:
    """The three CSV files and summary.md; returns the counts of the manifest."""
    files = [(pseudonyms.name("file", path), status, reason) for path, status, reason in planned.others]
    files = sorted(files + [row for result in results for row in result.files])
    series = [row for result in results for row in result.series]
    studies = [result.study for result in results if result.example is not None]
    tables = {
        "files.csv": (FILE_COLUMNS, [dict(zip(FILE_COLUMNS, row, strict=True)) for row in files]),
        "series.csv": (SERIES_COLUMNS, series),
        "studies.csv": (list(dict.fromkeys((*STUDY_COLUMNS, *labels))), studies),
    }
    for name, (columns, rows) in tables.items():
        write.write_table(folder / name, columns, rows)
    status = Counter(row[1] for row in files)
    counts = {
        "files_seen": len(files),
        **{f"files_{name}": status[name] for name in ("used", "ignored", "rejected")},
        "series": sum(row["used"] == "yes" for row in series),
        "studies": len(studies),
        "patients": len({row["patient_id"] for row in studies}),
        **planned.counts,
        "studies_put_aside": len(results) - len(studies),
    }
    unmapped = sum((Counter(result.unmapped) for result in results), Counter())
    text = summary.markdown(counts, files, series, studies, unmapped)
    (folder / "summary.md").write_text(text, encoding="utf-8")
    return counts


def _example(path: Path) -> dict[str, Any]:
    example = process.load(path).example
    assert example is not None
    return example


def _training_texts(results: Sequence[process.Result]) -> Iterator[str]:
    for result in results:
        if result.example is not None and result.study["split"] == "train":
            yield from (result.example[f"section/{name}"] for name in schema.SECTIONS)


def _write_shards(
    folder: Path,
    settings: process.Settings,
    kept: list[tuple[Path, process.Result]],
    model: bytes,
    studies_per_shard: int,
) -> dict[str, list[dict[str, Any]]]:
    """Every split's shards, studies in the order of their pseudonyms; entries of the manifest by split."""
    encoder = tokenizer.load(model)
    feature_dict = write.features(settings.image_size)

    def payloads(chosen: list[Path]) -> Iterator[bytes]:
        for path in progress(chosen, len(chosen), "writing records"):
            example = _example(path)
            for name in schema.SECTIONS:
                example[f"tokens/{name}"] = encoder.encode(example[f"section/{name}"])
            yield write.serialize(feature_dict, example)

    shards = {}
    for split in schema.SPLITS:
        chosen = [path for path, result in kept if result.study["split"] == split]
        shards[split] = write.write_split(folder, split, len(chosen), payloads(chosen), studies_per_shard)
    return shards
