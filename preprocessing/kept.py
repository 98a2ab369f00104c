"""What a finished run leaves of its work, so that the next one does only what is new.

A work file is as large as its record. Once its record is published, the frames need not lie there twice: the rest of
the work file stays (a few kilobytes a study), and the frames are read back out of the record when they are needed.
"""

import csv
import hashlib
from pathlib import Path
from typing import Any

from cmr_jax.data import records
from cmr_jax.errors import InputError
from preprocessing import process, swap

SUFFIX = ".kept"
_DIGEST = "frames_sha256"


class Published:
    """The frames of the dataset that `out` holds, by study; empty where it holds none that is whole enough to open."""

    def __init__(self, out: Path):
        self._splits: dict[str, records.Split] = {}
        self._rows: dict[str, tuple[str, int]] = {}
        try:
            self._open(out)
        except (InputError, OSError, ValueError, KeyError):
            self._rows = {}

    def _open(self, out: Path) -> None:
        manifest = records.load_manifest(out)
        ids: dict[str, list[str]] = {name: [] for name in manifest["splits"]}
        with (out / "studies.csv").open(newline="", encoding="utf-8") as file:
            for row in csv.DictReader(file):
                ids[row["split"]].append(row["study_id"])
        for name, theirs in ids.items():
            try:
                self._splits[name] = records.Split(out, name)
            except InputError:
                continue  # a split with a missing shard: its studies are made anew
            self._rows |= {study_id: (name, row) for row, study_id in enumerate(sorted(theirs))}

    def frames(self, study_id: str, digest: str) -> Any:
        """The frames of a study, or None where no record holds the frames of that SHA-256."""
        if study_id not in self._rows:
            return None
        split, row = self._rows[study_id]
        try:
            example = self._splits[split][row]
        except (InputError, ValueError, IndexError):
            return None
        good = example["study_id"] == study_id and _sha256(example["frames"]) == digest
        return example["frames"] if good else None


def _sha256(frames: Any) -> str:
    return hashlib.sha256(frames.data).hexdigest()


def done(published: Published, path: Path) -> bool:
    """Whether the work file at `path` is there, or what is kept of it and the record that holds its frames.

    The work file of a study that failed is removed here: what was wrong with disk, memory or code may be mended.
    """
    if path.exists():
        failed = not process.load(path, with_arrays=False).study
        path.unlink() if failed else None
        return not failed
    short = path.with_suffix(SUFFIX)
    return short.exists() and _restored(published, process.load(short)) is not None


def load(published: Published, path: Path, *, with_arrays: bool = True) -> process.Result:
    """The content of the work file at `path`, whole or kept.

    Raises FileNotFoundError where it is neither there nor restorable.
    """
    if path.exists():
        return process.load(path, with_arrays=with_arrays)
    result = process.load(path.with_suffix(SUFFIX), with_arrays=with_arrays)
    if not with_arrays:
        return result
    restored = _restored(published, result)
    if restored is None:
        raise FileNotFoundError(f"{path.name}: the record of this work is gone")
    return restored


def _restored(published: Published, result: process.Result) -> process.Result | None:
    if result.example is None:
        return result
    frames = published.frames(result.study_id, result.example.pop(_DIGEST))
    if frames is None:
        return None
    result.example["frames"] = frames
    return result


def keep(work_dir: Path, paths: list[Path]) -> None:
    """After publishing: shortens the work files of `paths`, and removes all work that is not part of the dataset.

    A study that failed is not kept, so that the next run tries it again.
    """
    wanted = {path.with_suffix(SUFFIX).name for path in paths}
    for path in paths:
        if path.exists():
            result = process.load(path)
            if result.example is not None:
                result.example[_DIGEST] = _sha256(result.example.pop("frames"))
                process.save(result, path.with_suffix(SUFFIX))
            path.unlink()
    for path in work_dir.iterdir():
        if path.suffix in (".npz", ".partial", SUFFIX) and path.name not in wanted:
            path.unlink()


def forget(out: Path, study_ids: set[str]) -> None:
    """Removes whatever is kept, or still in work, of these studies."""
    work = out / swap.WORK
    for path in work.iterdir() if work.is_dir() else ():
        if path.name.split("-")[0] in study_ids:
            path.unlink()
