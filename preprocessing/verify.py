"""Reads a finished dataset again, byte by byte: `python -m preprocessing.verify --data DIR`.

Exits 0 where everything is as the manifest says, 1 naming everything that is not, 2 where there is no dataset.
"""

import csv
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from absl import flags

from cmr_jax import cli
from cmr_jax.data import records, schema
from cmr_jax.errors import InputError
from preprocessing import write
from preprocessing.parallel import progress

_DATA = flags.DEFINE_string("data", None, "Folder that preprocessing.run made.", required=True)

EXIT_DAMAGED = 1


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


def record_problems(folder: Path, manifest: dict[str, Any]) -> list[str]:
    """What is wrong inside the records of undamaged files: shapes, counts, ids, patients on two sides of a split."""
    problems: list[str] = []
    studies: dict[str, tuple[str, str]] = {}
    split_of: dict[str, str] = {}
    for name, split in manifest["splits"].items():
        for row, example in progress(_examples(folder, name, problems), split["studies"], f"reading {name}"):
            where = f"{name} record {row}"
            problems += [f"{where}: {what}" for what in example_problems(example)]
            if example["study_id"] in studies:
                problems.append(f"{where}: study {example['study_id']} stands twice")
            studies[example["study_id"]] = (example["patient_id"], name)
            patient = example["patient_id"]
            if split_of.setdefault(patient, name) != name:
                problems.append(f"{where}: patient {patient} is in split {split_of[patient]} too")
    with (folder / "studies.csv").open(newline="", encoding="utf-8") as file:
        listed = {row["study_id"]: (row["patient_id"], row["split"]) for row in csv.DictReader(file)}
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


def _main() -> int:
    """Verifies `--data`; returns the exit code."""
    folder = Path(_DATA.value)
    manifest = records.load_manifest(folder)
    problems = file_problems(folder, manifest) or record_problems(folder, manifest)
    for problem in problems:
        print(problem, file=sys.stderr)
    if problems:
        print(f"damaged: {len(problems)} findings", file=sys.stderr)
        return EXIT_DAMAGED
    shards = sum(len(split["shards"]) for split in manifest["splits"].values())
    print(f"ok: {manifest['counts']['studies']} studies in {shards} shards")
    return 0


def main() -> None:
    """The console script cmr-verify."""
    cli.run(_main)


if __name__ == "__main__":
    main()
