"""A new dataset takes the place of the old one: written in a hidden folder, then moved in, the manifest last.

Whoever reads at any moment sees the old dataset whole, the new one whole, or no manifest, which every reader calls
unfinished. A swap that was stopped is finished (`heal`) by whatever command comes next.
"""

import contextlib
import errno
import fcntl
import json
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from cmr_jax.data import schema
from cmr_jax.errors import InputError

STAGING = ".staging"
OLD = ".old"
WORK = ".work"
LOCK = f"{WORK}/lock"
_OURS = (
    schema.TOKENIZER, "features.json", "dataset_info.json", "files.csv", "series.csv", "studies.csv", "findings.csv",
    "tokens.csv", "summary.md", "qc",
)  # fmt: skip


def publish(out: Path, fill: Callable[[Path], dict[str, Any]]) -> dict[str, Any]:
    """Lets `fill(folder)` write everything into a hidden folder and give the manifest, then moves it into `out`.

    Where `fill` fails, what `out` held before stands untouched. Raises InputError where another process does the same.
    """
    with locked(out):
        heal(out)
        staging = out / STAGING
        shutil.rmtree(staging, ignore_errors=True)
        staging.mkdir(parents=True)
        try:
            manifest = fill(staging)
            partial = staging / f"{schema.MANIFEST}.partial"
            partial.write_text(json.dumps(manifest, indent=2, sort_keys=True) + "\n", encoding="utf-8")
            _sync(staging)
            partial.rename(staging / schema.MANIFEST)  # from here on a stopped swap is finished, not begun anew
        except BaseException:
            shutil.rmtree(staging, ignore_errors=True)
            raise
        _move_in(out)
    return manifest


def heal(out: Path) -> None:
    """Finishes a swap that was stopped, and clears away what a stopped writer left."""
    staging = out / STAGING
    if (staging / schema.MANIFEST).exists():
        _move_in(out)
    elif (out / schema.MANIFEST).exists():
        # The manifest is the last to come: with it in place only the old files can be left over.
        for name in (STAGING, OLD):
            shutil.rmtree(out / name, ignore_errors=True)
    else:
        shutil.rmtree(staging, ignore_errors=True)


def _move_in(out: Path) -> None:
    """Moves the old files out, then the complete new ones in. May be called again at any point of itself."""
    staging, old = out / STAGING, out / OLD
    new = _names_of(staging)
    old.mkdir(exist_ok=True)
    for path in _published(out):
        if path.name not in new or (staging / path.name).exists():  # else a stopped swap has moved it in already
            _replace(path, old / path.name)
    for path in sorted(staging.iterdir(), key=lambda p: p.name == schema.MANIFEST):
        _replace(path, out / path.name)
    staging.rmdir()
    shutil.rmtree(old)


def _names_of(staging: Path) -> set[str]:
    """The names that the new dataset is made of, moved already or not."""
    manifest = json.loads((staging / schema.MANIFEST).read_text(encoding="utf-8"))
    shards = [shard["name"] for split in manifest["splits"].values() for shard in split["shards"]]
    return {*manifest["tables"], *_OURS, *shards, *map(schema.index_name, shards)}


def _replace(path: Path, target: Path) -> None:
    if target.is_dir():
        shutil.rmtree(target)
    path.rename(target)


def _published(out: Path) -> list[Path]:
    """The dataset's files in `out`, manifest first, so that a half-moved dataset never looks whole."""
    found = [p for p in sorted(out.iterdir()) if p.name in _OURS or p.name.startswith(f"{schema.DATASET_NAME}-")]
    manifest = out / schema.MANIFEST
    return [manifest, *found] if manifest.exists() else found


def _sync(folder: Path) -> None:
    """Every byte on the disk before any name changes, so that a power cut cannot leave a manifest over holes."""
    for path in [*(p for p in folder.rglob("*")), folder]:
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


@contextlib.contextmanager
def locked(out: Path) -> Iterator[None]:
    """Keeps a second process from publishing into `out`. File systems without locks go without."""
    (out / LOCK).parent.mkdir(parents=True, exist_ok=True)
    with (out / LOCK).open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno in (errno.EWOULDBLOCK, errno.EACCES):
                raise InputError("another process is publishing into this folder: wait for it") from None
        yield
