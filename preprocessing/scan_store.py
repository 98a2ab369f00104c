"""Header verdicts outside of memory: a parent that held them would need tens of gigabytes for a large archive.

They identify patients, so they lie in a file that has no name (removed as it is made, in the folder that TMPDIR names)
and is gone with the process. In memory stay some bytes a block: consecutive files of one study.
"""

import array
import pickle
import tempfile
import weakref
import zlib
from collections.abc import Iterable, Iterator

from cmr_jax.errors import InputError
from preprocessing.study import FileScan

_BLOCK_FILES = 64
_FAST = 1  # level of zlib

Key = tuple[str, str]  # what kind of file, and the study where that matters


class ScanStore:
    """Takes verdicts with a key each; gives all of them, or those of one key, in the order they came."""

    def __init__(self) -> None:
        try:
            self._file = tempfile.TemporaryFile()  # noqa: SIM115 - closed with this object
        except OSError as error:
            raise _no_room(error) from None
        weakref.finalize(self, self._file.close)
        self._ends = array.array("Q", [0])
        self._blocks: dict[str, dict[str, array.array[int]]] = {}
        self._waiting: list[FileScan] = []
        self._key: Key = ("", "")

    def add(self, key: Key, scan: FileScan) -> None:
        """Raises InputError where the folder of temporary files is full."""
        if key != self._key or len(self._waiting) >= _BLOCK_FILES:
            self._flush()
            self._key = key
        self._waiting.append(scan)

    def _flush(self) -> None:
        if not self._waiting:
            return
        block = zlib.compress(pickle.dumps(self._waiting, protocol=5), _FAST)
        try:
            self._file.seek(self._ends[-1])
            self._file.write(block)
            self._file.flush()
        except OSError as error:
            raise _no_room(error) from None
        kind, name = self._key
        self._blocks.setdefault(kind, {}).setdefault(name, array.array("Q")).append(len(self._ends) - 1)
        self._ends.append(self._ends[-1] + len(block))
        self._waiting = []

    def _read(self, numbers: Iterable[int]) -> Iterator[FileScan]:
        for number in numbers:
            self._file.seek(self._ends[number])
            block = self._file.read(self._ends[number + 1] - self._ends[number])
            yield from pickle.loads(zlib.decompress(block))  # our own bytes, which no other process can reach

    def __iter__(self) -> Iterator[FileScan]:
        self._flush()
        return self._read(range(len(self._ends) - 1))

    def names(self, kind: str) -> list[str]:
        """Of the keys of that kind."""
        self._flush()
        return list(self._blocks.get(kind, ()))

    def scans(self, key: Key) -> "Scans":
        return Scans(self, key)

    def of(self, key: Key) -> Iterator[FileScan]:
        self._flush()
        return self._read(self._blocks.get(key[0], {}).get(key[1], ()))


class Scans:
    """The verdicts of one key, read from the store each time they are asked for."""

    def __init__(self, store: ScanStore, key: Key):
        self._store, self._key = store, key

    def __iter__(self) -> Iterator[FileScan]:
        return self._store.of(self._key)


def _no_room(error: OSError) -> InputError:
    return InputError(
        f"the folder for temporary files cannot be written ({error.strerror}): name another one in TMPDIR, with about"
        " 300 bytes free for every DICOM file"
    )
