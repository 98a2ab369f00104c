"""The second part of a run: from work files to the dataset with its tables, tokenizer, contact sheets and manifest."""

import dataclasses
import functools
import hashlib
import heapq
import itertools
import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from cmr_jax.data import records, schema
from cmr_jax.errors import InputError
from preprocessing import audit, kept, pipeline, process, qc, splits, summary, swap, text_labels, tokenizer, write
from preprocessing.deid import Pseudonyms
from preprocessing.parallel import progress

LEVELS = ("level_mean", "level_std", "saturated_percent")
SERIES_COLUMNS = (
    "study_id series_id view contrast view_rule frames slices phases spacing slice_gap phase_key vendor used reason"
    " description"
).split()
FILES = "files.csv"
FILE_COLUMNS = ("file_id", "status", "reason", "study_id")
STUDY_COLUMNS = ("study_id", "patient_id", "split", "site", "sex", "age")
TOKEN_COLUMNS = ("study_id", *schema.SECTIONS)
_FRAMES_MEASURED = 16


@dataclasses.dataclass
class _Measured:
    """What only the records tell, gathered while they are written."""

    levels: dict[str, tuple[str, ...]] = dataclasses.field(default_factory=dict)  # of a series, each of LEVELS
    tokens: dict[str, tuple[int, ...]] = dataclasses.field(default_factory=dict)  # of a study, in each of SECTIONS


@dataclasses.dataclass(frozen=True)
class Options:
    """What publishing needs to know beyond the settings of the work."""

    rule: splits.Rule
    vocab_size: int
    studies_per_shard: int
    retrain_tokenizer: bool = False


class _Results:
    """The results of all studies without their frames, read anew at each turn: together they would not fit memory."""

    def __init__(self, published: kept.Published, paths: Sequence[Path]):
        self._published, self._paths = published, paths

    def __len__(self) -> int:
        return len(self._paths)

    def __iter__(self) -> Iterator[process.Result]:
        return (kept.load(self._published, path, with_arrays=False) for path in self._paths)


@dataclasses.dataclass(frozen=True)
class _Job:
    """All that one publication works on; `paths` and `results` go together."""

    out: Path
    settings: process.Settings
    planned: pipeline.Plan
    options: Options
    paths: list[Path]
    results: _Results
    published: kept.Published
    made_of: str

    @property
    def pseudonyms(self) -> Pseudonyms:
        return Pseudonyms(self.settings.key)


def made_of(settings: process.Settings, planned: pipeline.Plan, options: Options) -> str:
    """A fingerprint of all that a publication depends on: with an equal one there is nothing to do."""
    pseudonyms = Pseudonyms(settings.key)
    work = sorted(process.work_path(settings, task).name for task in planned.tasks)
    others = hashlib.sha256()  # in the order of the plan, which is that of paths and studies
    for verdict in planned.others:
        others.update(repr(verdict).encode())  # repr escapes the bytes of odd names
    parts = (work, others.hexdigest(), planned.counts, dataclasses.astuple(options), write.versions())
    return pseudonyms.name("publication", repr(parts))


def publish(
    out: Path, settings: process.Settings, planned: pipeline.Plan, options: Options, published: kept.Published
) -> dict[str, Any]:
    """Writes the dataset from the work files; returns the manifest.

    Raises InputError where a work file is missing, no study fell into the training split, or the splits are not apart.
    """
    paths = sorted(process.work_path(settings, task) for task in planned.tasks)
    missing, usable = 0, False
    for path in progress(paths, len(paths), "looking at the work"):
        try:
            usable |= kept.load(published, path, with_arrays=False).example is not None
        except FileNotFoundError:
            missing += 1
    if missing:
        raise InputError(f"{missing} of {len(paths)} studies are not processed yet: run the missing array tasks first")
    if not usable:
        raise InputError("no study could be used: --dry_run shows what was understood of each")
    results = _Results(published, paths)
    job = _Job(out, settings, planned, options, paths, results, published, made_of(settings, planned, options))
    manifest = swap.publish(out, functools.partial(_fill, job=job))
    kept.keep(settings.work_dir, paths)
    return manifest


def _fill(folder: Path, *, job: _Job) -> dict[str, Any]:
    split_of = _split_of(job)
    model, trained_with = _tokenizer(job, split_of)
    (folder / schema.TOKENIZER).write_bytes(model)
    feature_dict = write.features(job.settings.image_size, job.settings.bits)
    measured = _Measured()
    shards = _write_shards(folder, job, split_of, model, feature_dict, measured)
    write.write_tfds_metadata(folder, feature_dict, shards)
    names = _write_tables(folder, job, split_of, measured)
    manifest = {
        "schema": schema.SCHEMA_VERSION,
        "image_size": job.settings.image_size,
        "bits": job.settings.bits,
        "spacing_mm": job.settings.spacing_mm,
        "studies_per_shard": job.options.studies_per_shard,
        "splits": {
            split: {"studies": sum(entry["records"] for entry in entries), "shards": entries}
            for split, entries in shards.items()
        },
        "tokenizer": {
            "file": schema.TOKENIZER,
            "sha256": write.sha256(folder / schema.TOKENIZER),
            "vocab_size": tokenizer.load(model).vocab_size(),
            "trained_with": trained_with,
        },
        "label_names": [name for name in write.read_table(folder / "studies.csv")[0] if name not in STUDY_COLUMNS],
        "key_fingerprint": job.pseudonyms.fingerprint,
        "split_rule": job.options.rule.words(),
        "versions": write.versions(),
        "made_of": job.made_of,
        "counts": {**job.planned.counts, "studies_put_aside": len(job.results) - len(split_of)},
    }
    return finish(folder, manifest, names)


def finish(folder: Path, manifest: dict[str, Any], names: Iterable[str]) -> dict[str, Any]:
    """Writes what people read of a dataset in `folder`, from its tables `names` and records; completes the manifest."""
    tables = {
        name: write.Rows(folder / name) if name == FILES else write.read_table(folder / name)[1] for name in names
    }
    manifest["counts"] = summary.counts(tables, manifest["counts"])
    (folder / "summary.md").write_text(summary.page(manifest, tables), encoding="utf-8")
    qc.write_pages(folder / "qc", _first_examples(folder, manifest))
    qc.write_distributions(folder / "qc" / qc.DISTRIBUTIONS, tables["series.csv"])
    manifest["tables"] = {name: write.sha256(folder / name) for name in (*names, "summary.md")}
    return manifest


def _first_examples(folder: Path, manifest: dict[str, Any]) -> Iterator[records.Example]:
    """The first studies of the dataset whatever their split; a study id is as good as drawn."""
    fields = schema.fields_of(manifest)

    def by_id(split: dict[str, Any]) -> Iterator[tuple[str, bytes]]:
        for shard in split["shards"]:
            for payload in write.payloads(folder, shard["name"]):
                yield write.study_id(payload), payload

    in_order = heapq.merge(*map(by_id, manifest["splits"].values()))
    for _, payload in itertools.islice(in_order, qc.STUDIES_A_PAGE * qc.MAX_PAGES):
        yield records.decode(payload, fields)


def _split_of(job: _Job) -> dict[str, str]:
    """Study id to split, for the studies that have a record."""
    by_uid = splits.assign_all(job.options.rule, job.pseudonyms, job.planned.tasks)
    by_id = {job.pseudonyms.name("study", uid): split for uid, split in by_uid.items()}
    return {result.study_id: by_id[result.study_id] for result in job.results if result.example is not None}


def _tokenizer(job: _Job, split_of: dict[str, str]) -> tuple[bytes, str]:
    """The serialized model, and a fingerprint of the settings it depends on.

    The published one stays as long as these do: with it adding a study changes no other study's tokens, and a
    checkpoint goes on fitting the dataset.
    """
    options = job.options
    parts = (job.settings.scrubber, options.vocab_size, options.rule, job.settings.fingerprint_parts()[:2])
    fingerprint = job.pseudonyms.name("tokenizer", repr(parts))
    try:
        before = records.load_manifest(job.out)["tokenizer"]
        stored = (job.out / schema.TOKENIZER).read_bytes()
    except (InputError, OSError, KeyError):
        before, stored = {}, b""
    intact = stored and before.get("sha256") == write.digest(stored) and before.get("trained_with") == fingerprint
    if intact and not options.retrain_tokenizer:
        return stored, fingerprint
    texts = (
        result.example[f"section/{name}"]
        for result in job.results
        if result.example is not None and split_of[result.study_id] == "train"
        for name in schema.SECTIONS
    )
    return tokenizer.train(texts, options.vocab_size), fingerprint


def _write_shards(
    folder: Path,
    job: _Job,
    split_of: dict[str, str],
    model: bytes,
    feature_dict: Any,
    measured: _Measured,
) -> dict[str, list[dict[str, Any]]]:
    """Every split's shards; entries of the manifest by split. Fills `measured`.

    Raises InputError where the splits are not apart.
    """
    encoder = tokenizer.load(model)
    path_of = {process.study_of(path): path for path in job.paths}
    apart = audit.Audit()
    done = iter(progress(range(len(split_of)), len(split_of), "writing records"))

    def payload(study_id: str) -> bytes:
        next(done)
        example = kept.load(job.published, path_of[study_id]).example
        assert example is not None
        apart.add(split_of[study_id], example)
        measured.levels.update(_levels(example))
        for name in schema.SECTIONS:
            example[f"tokens/{name}"] = encoder.encode(example[f"section/{name}"])
        measured.tokens[study_id] = tuple(len(example[f"tokens/{name}"]) for name in schema.SECTIONS)
        return write.serialize(feature_dict, example)

    shards = {}
    for split in schema.SPLITS:
        ids = [study_id for study_id, its in split_of.items() if its == split]
        shards[split] = write.write_split(folder, split, write.layout(ids, job.options.studies_per_shard), payload)
    if complaint := apart.complaint():
        raise InputError(f"nothing was published, {complaint}")
    return shards


def _levels(example: dict[str, Any]) -> dict[str, tuple[str, ...]]:
    """Brightness of every series in shares of the stored range, over at most _FRAMES_MEASURED of its frames."""
    found = {}
    for series_id, frames_STHW in zip(example["series/id"], schema.split_series(example), strict=True):
        top = np.iinfo(frames_STHW.dtype).max
        frames_NHW = frames_STHW.reshape(-1, *frames_STHW.shape[2:])
        some = frames_NHW[:: -(-len(frames_NHW) // _FRAMES_MEASURED)]
        values = (some.mean() / top, some.std() / top, (some == top).mean() * 100)
        found[series_id] = tuple(sys.intern(f"{value:.3f}") for value in values)
    return found


def _write_tables(folder: Path, job: _Job, split_of: dict[str, str], measured: _Measured) -> Sequence[str]:
    """The CSV files; returns their names."""
    name, same = job.pseudonyms.name, sys.intern  # of the text of millions of lines, most is said again and again
    files = [(name("file", path), same(status), same(reason), "") for path, status, reason in job.planned.others]
    given: dict[str, None] = dict.fromkeys([*STUDY_COLUMNS])
    said: set[str] = set()
    for result in job.results:
        files += [(file, same(status), same(why), result.study_id) for file, status, why in result.files]
        if result.study_id in split_of:
            given.update(dict.fromkeys(result.study))
            said.update(row["name"] for row in result.findings)
    files.sort()
    columns = [column for column in given if column in STUDY_COLUMNS or column not in said] + sorted(said)
    used = (result for result in job.results if result.study_id in split_of)
    also_used = (result for result in job.results if result.study_id in split_of)
    tables: dict[str, tuple[Sequence[str], Iterable[dict[str, Any]]]] = {
        FILES: (FILE_COLUMNS, (dict(zip(FILE_COLUMNS, row, strict=True)) for row in files)),
        "series.csv": (
            [*SERIES_COLUMNS, *LEVELS],
            (
                {**row, **dict(zip(LEVELS, measured.levels.get(row["series_id"], ()), strict=False))}
                for result in job.results
                for row in result.series
            ),
        ),
        "studies.csv": (columns, ({**result.study, "split": split_of[result.study_id]} for result in used)),
        "findings.csv": (text_labels.COLUMNS, (row for result in also_used for row in result.findings)),
        summary.TOKENS: (
            TOKEN_COLUMNS,
            (dict(zip(TOKEN_COLUMNS, (study, *said), strict=True)) for study, said in sorted(measured.tokens.items())),
        ),
    }
    for file_name, (header, rows) in tables.items():
        write.write_table(folder / file_name, header, rows)
    return list(tables)
