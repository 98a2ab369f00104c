"""Where embeddings go while they are made: memory, or files that a stopped run continues. NumPy only.

A folder holds `image.npy`, `text.npy` (memory-mapped) and `progress.json`: what is being embedded (`key`) and how many
rows from the first are done. Rows count as done only after they were flushed.
"""

import dataclasses
import json
import pathlib
from typing import Any

import numpy as np

_PROGRESS = "progress.json"
_FLUSH_EVERY = 16


@dataclasses.dataclass
class Place:
    """`image_NE`, `text_NE` float32; `done` rows from the first are there already. `first`: its place in the whole."""

    image_NE: np.ndarray
    text_NE: np.ndarray
    done: int = 0
    first: int = 0
    folder: pathlib.Path | None = None
    key: dict[str, Any] = dataclasses.field(default_factory=dict)
    _puts: int = 0

    def part(self, first: int, count: int) -> "Place":
        """The rows from `first` as a place of their own."""
        rows = slice(first, first + count)
        done = min(max(self.done - first, 0), count)
        return dataclasses.replace(
            self, image_NE=self.image_NE[rows], text_NE=self.text_NE[rows], done=done, first=first, _puts=0
        )

    def put(self, row: int, image_BE: np.ndarray, text_BE: np.ndarray) -> None:
        """Writes rows from `row` on."""
        self.image_NE[row : row + len(image_BE)], self.text_NE[row : row + len(text_BE)] = image_BE, text_BE
        self._puts += 1
        end = row + len(image_BE)
        if self.folder is not None and (self._puts % _FLUSH_EVERY == 0 or end == len(self.image_NE)):
            for rows in (self.image_NE, self.text_NE):
                if isinstance(rows, np.memmap):
                    rows.flush()
            _write(self.folder, self.key, self.first + end)


def in_memory(rows: int, width: int) -> Place:
    """A place that is gone with the process."""
    return Place(np.zeros((rows, width), np.float32), np.zeros((rows, width), np.float32))


def on_disk(folder: pathlib.Path, key: dict[str, Any], rows: int, width: int) -> Place:
    """The place at `folder`: continued where it holds the same `key` and shape, begun anew otherwise."""
    paths = [folder / "image.npy", folder / "text.npy"]
    there = done(folder, key)
    if there is not None and all(_fits(path, (rows, width)) for path in paths):
        image_NE, text_NE = (np.lib.format.open_memmap(path, mode="r+") for path in paths)
        return Place(image_NE, text_NE, done=there, folder=folder, key=key)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / _PROGRESS).unlink(missing_ok=True)
    image_NE, text_NE = (
        np.lib.format.open_memmap(path, mode="w+", dtype=np.float32, shape=(rows, width)) for path in paths
    )
    _write(folder, key, 0)
    return Place(image_NE, text_NE, folder=folder, key=key)


def _fits(path: pathlib.Path, shape: tuple[int, int]) -> bool:
    try:
        array = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError):
        return False
    return array.shape == shape and array.dtype == np.float32


def done(folder: pathlib.Path, key: dict[str, Any]) -> int | None:
    """How many rows are done at `folder`; None where nothing of this `key` is there."""
    try:
        found = json.loads((folder / _PROGRESS).read_text(encoding="utf-8"))
        return int(found["done"]) if found["key"] == json.loads(json.dumps(key)) else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _write(folder: pathlib.Path, key: dict[str, Any], done: int) -> None:
    write_json(folder / _PROGRESS, {"key": key, "done": done})


def write_json(path: pathlib.Path, content: Any) -> None:
    """Writes whole or not at all."""
    temporary = path.with_name(path.name + ".tmp")
    temporary.write_text(json.dumps(content), encoding="utf-8")
    temporary.replace(path)
