"""What can be wrong with a dataset: changed files, records that contradict themselves, splits that are not apart."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from cmr_jax.data import records, schema
from cmr_jax.errors import InputError
from preprocessing import audit, write
from preprocessing.parallel import progress


def file_problems(folder: Path, manifest: dict[str, Any]) -> list[str]:
    """What is missing, changed or too much among the files of `folder`, by their SHA-256 in the manifest."""
    expected = dict(manifest["tables"])
    expected[manifest["tokenizer"]["file"]] = manifest["tokenizer"]["sha256"]
    for split in manifest["splits"].values():
        for shard in split["shards"]:
            expected[shard["name"]] = shard["sha256"]
            expected[schema.index_name(shard["name"])] = shard["index_sha256"]
    problems = []
    for name, digest in progress(sorted(expected.items()), len(expected), "hashing files"):
        path = folder / name
        if not path.is_file():
            problems.append(f"{name}: missing")
        elif write.sha256(path) != digest:
            problems.append(f"{name}: not what was written ({path.stat().st_size} bytes)")
    problems += [f"{name}: missing" for name in write.TFDS_FILES if not (folder / name).is_file()]
    names = sorted(path.name for path in folder.iterdir())
    extra = [n for n in names if n.startswith(f"{schema.DATASET_NAME}-") and n not in expected]
    return problems + [f"{name}: not in the manifest" for name in extra]


def unchanged(folder: Path, made_of: str) -> dict[str, Any] | None:
    """The manifest, where the dataset is whole and was made of just this; None where it must be made."""
    try:
        manifest = records.load_manifest(folder)
    except InputError:
        return None
    same = manifest.get("made_of") == made_of
    return manifest if same and not file_problems(folder, manifest) else None


def record_problems(folder: Path, manifest: dict[str, Any]) -> list[str]:
    """What is wrong inside the records of undamaged files: shapes, counts, ids, patients on two sides of a split."""
    problems: list[str] = []
    studies: dict[str, tuple[str, str]] = {}
    apart = audit.Audit()
    for name, split in manifest["splits"].items():
        for row, example in progress(_examples(folder, name, problems), split["studies"], f"reading {name}"):
            where = f"{name} record {row}"
            wrong = example_problems(example)
            problems += [f"{where}: {what}" for what in wrong]
            if example["study_id"] in studies:
                problems.append(f"{where}: study {example['study_id']} stands twice")
            studies[example["study_id"]] = (example["patient_id"], name)
            if not wrong:
                apart.add(name, example)
    rows = write.read_table(folder / "studies.csv")[1]
    listed = {row["study_id"]: (row["patient_id"], row["split"]) for row in rows}
    problems += [f"splits: {finding}" for finding in apart.findings]
    if listed != studies:
        problems.append("studies.csv: does not list the studies of the records")
    return problems


def _examples(folder: Path, split: str, problems: list[str]) -> Iterator[tuple[int, records.Example]]:
    try:
        rows = records.Split(folder, split)
    except (InputError, ValueError) as error:
        problems.append(f"{split}: {error}")
        return
    for row in range(len(rows)):
        try:
            yield row, rows[row]
        except (InputError, ValueError, IndexError) as error:
            problems.append(f"{split} record {row}: {error or type(error).__name__}")


def example_problems(example: records.Example) -> list[str]:
    """Fields of one decoded record that contradict each other."""
    slices, phases = example["series/slices"], example["series/phases"]
    per_series = [name for name in example if name.startswith("series/")]
    checks = {
        "series fields differ in length": all(len(example[name]) == len(slices) for name in per_series),
        "frames do not add up": len(example["frames"]) == int((slices * phases).sum()) > 0,
        "frame times do not add up": len(example["frame_time_ms"]) == len(example["frames"]),
        "slice positions do not add up": len(example["slice_position_mm"]) == int(slices.sum()),
        "a view is unknown to the schema": set(example["series/view"]) <= set(schema.VIEWS),
        "labels differ in length": len(example["label/name"]) == len(example["label/value"]),
        "no report": bool(example["report"]),
    }
    return [what for what, good in checks.items() if not good]
