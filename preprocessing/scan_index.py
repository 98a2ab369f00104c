"""The private index of headers: what was read of every file, so that array tasks and later runs need not read it again.

It holds what identifies patients, so it belongs with the DICOM and the key: never inside the dataset, mode 0600.
"""

import dataclasses
import io
import itertools
import os
import pickle
import struct
import weakref
import zlib
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, BinaryIO

from cmr_jax.errors import InputError
from preprocessing import study
from preprocessing.study import FileScan

_KIND = b"cmr scan index "
# Blocks follow, each a length and a compressed pickle: the layout, then verdicts; one of length 0 is the end.
_MAGIC = _KIND + b"2\n"
_LENGTH = struct.Struct("<I")
_BLOCK_FILES = 512
_OURS = ("FileScan", "Frame", "PixelLayout")


def _layout() -> str:
    """Of the classes stored: an index of other code is not read."""
    return repr([(name, [f.name for f in dataclasses.fields(getattr(study, name))]) for name in _OURS])


class _Restricted(pickle.Unpickler):
    """Makes our plain records and nothing else: a pickle may name any code otherwise."""

    def find_class(self, module_name: str, global_name: str) -> Any:
        if module_name == study.__name__ and global_name in _OURS:
            return getattr(study, global_name)
        raise pickle.UnpicklingError("not an index of ours")


class Index:
    """What the index at `path` holds, block by block; nothing where there is no index, or one of other code.

    Reads the file that was there at the start, whatever another task puts in its place. Raises InputError where it
    cannot be read or is no index; damage is told while it is read.
    """

    def __init__(self, path: Path):
        self._file: BinaryIO | None = None
        try:
            file = path.open("rb")
        except FileNotFoundError:
            return
        except OSError as error:
            raise InputError(f"--scan_index cannot be read ({error.strerror})") from None
        weakref.finalize(self, file.close)
        magic = file.read(len(_MAGIC))
        if not magic.startswith(_KIND):
            raise InputError("--scan_index is another kind of file: name a new one")
        if magic == _MAGIC:
            self._file = file

    def __iter__(self) -> Iterator[FileScan]:
        if self._file is None:
            return
        self._file.seek(len(_MAGIC))
        try:
            if _block(self._file) != _layout():
                return
            while scans := _block(self._file):
                yield from scans
        except (zlib.error, pickle.UnpicklingError, EOFError, ValueError, TypeError, AttributeError, IndexError):
            raise InputError("--scan_index is damaged: delete it, it will be made anew") from None


def _block(file: BinaryIO) -> Any:
    """None at the end."""
    head = file.read(_LENGTH.size)
    if len(head) < _LENGTH.size:
        raise EOFError
    data = file.read(_LENGTH.unpack(head)[0])
    return _Restricted(io.BytesIO(zlib.decompress(data))).load() if data else None


def known(index: Iterable[FileScan], root: Path, paths: Sequence[str]) -> bytearray:
    """1 for each of the sorted `paths` that `index` holds and that has not changed below `root` (size and time)."""
    found = bytearray(len(paths))
    for at, scan in among(index, paths):
        found[at] = _unchanged(root / scan.path, scan)
    return found


def among(index: Iterable[FileScan], paths: Sequence[str]) -> Iterator[tuple[int, FileScan]]:
    """(place in `paths`, verdict) of every file of `index` that is there; both are sorted by path."""
    at = 0
    for scan in index:
        while at < len(paths) and paths[at] < scan.path:
            at += 1
        if at < len(paths) and paths[at] == scan.path:
            yield at, scan


def _unchanged(path: Path, scan: FileScan) -> bool:
    try:
        about = path.stat()
    except OSError:
        return False
    return (about.st_size, about.st_mtime_ns) == (scan.size, scan.mtime_ns)


def save(path: Path, scans: Iterable[FileScan]) -> None:
    """Writes the index of `scans`, sorted by path, whole or not at all, readable by its owner only.

    Rejected files are not kept, so that what could not be opened, or crashed its reader, is tried again.
    Raises InputError where it cannot be written.
    """
    kept = (scan for scan in scans if scan.status != "rejected")
    partial = path.with_name(f"{path.name}.{os.getpid()}.partial")
    try:
        descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(_MAGIC + _packed(_layout()))
            for block in itertools.batched(kept, _BLOCK_FILES):
                file.write(_packed(block))
            file.write(_LENGTH.pack(0))
        partial.replace(path)
    except OSError as error:
        partial.unlink(missing_ok=True)
        raise InputError(f"--scan_index cannot be written ({error.strerror})") from None


def _packed(what: Any) -> bytes:
    data = zlib.compress(pickle.dumps(what, protocol=5), 1)
    return _LENGTH.pack(len(data)) + data
