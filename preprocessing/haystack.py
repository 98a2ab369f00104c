"""Artefacts as text to be searched: whole files in pieces, what they hold compressed, and text written another way.

One needle form suffices for ASCII, UTF-16 and base64, because here the hay is turned, not the needle: lower case, NULs
taken out (UTF-16 of either order becomes ASCII), and base64 decoded at each of its alignments.
"""

import base64
import gzip
import io
import json
import os
import re
import struct
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

import zstandard

PIECE_BYTES = 1 << 24
OVERLAP_BYTES = 1 << 12
_MOST_INFLATED_BYTES = 1 << 30
_BASE64 = re.compile(rb"[A-Za-z0-9+/_-]{8,}(?:\r?\n[A-Za-z0-9+/_-]{4,})*")
_URL_SAFE = bytes.maketrans(b"-_", b"+/")
_ZSTD_MAGIC = b"\x28\xb5\x2f\xfd"
_GZIP_MAGIC = b"\x1f\x8b\x08"
_PNG_MAGIC = b"\x89PNG\r\n\x1a\n"
_NUMBERS = (".npy", ".npz")
_JSON = (".json", ".jsonl", ".index")


def files(folder: Path) -> list[Path]:
    """Every file and symbolic link below `folder` (or the file itself), sorted; links are not followed."""
    if not folder.is_dir():
        return [folder]
    found = []
    for root, folders, names in os.walk(folder):
        found += [Path(root, name) for name in (*names, *(f for f in folders if Path(root, f).is_symlink()))]
    return sorted(found)


def is_numbers(path: Path) -> bool:
    """Whether the file is mostly numbers: any few letters turn up in them by chance."""
    named = path.suffix in _NUMBERS or (".tfrecord-" in path.name and path.suffix != ".index")
    return named or ("checkpoints" in path.parts and path.suffix not in (".json", ".md", ".txt"))


def pieces(path: Path) -> Iterator[tuple[bytes, bool]]:
    """(bytes, whether they are mostly numbers) of a file: as it lies there, then what it holds compressed.

    Raises OSError where it cannot be read.
    """
    if path.is_symlink():
        yield os.fsencode(path.readlink()), False
        return
    numbers = is_numbers(path)
    if path.suffix in _JSON and path.stat().st_size < PIECE_BYTES:
        yield _without_numbers(path.read_bytes()), False
        return
    with path.open("rb") as file:
        head = file.read(8)
        yield from ((piece, numbers) for piece in _overlapping(file))
        file.seek(0)
        if head == _PNG_MAGIC:
            yield from _png(file.read())
        elif head[:4] == b"PK\x03\x04":
            yield from _zip(path)
        elif head[:3] == _GZIP_MAGIC:
            with gzip.open(file) as inflated:
                yield from ((piece, numbers) for piece in _overlapping(inflated))  # pyright: ignore[reportArgumentType]
        else:
            yield from ((piece, numbers) for piece in _zstd_frames(file))


def _without_numbers(data: bytes) -> bytes:
    """JSON (lines) with its numbers left out: offsets, sizes and losses meet record numbers by chance alone."""

    def plain(text: bytes) -> bytes:
        value: Any = json.loads(text, parse_int=lambda _: 0, parse_float=lambda _: 0)
        return json.dumps(value, ensure_ascii=False).encode()

    try:
        return plain(data)
    except ValueError:
        try:
            return b"\n".join(plain(line) for line in data.splitlines() if line.strip())
        except ValueError:
            return data


def _overlapping(file: IO[bytes]) -> Iterator[bytes]:
    """The whole of `file` in pieces that share their borders, so that nothing hides on one."""
    file.seek(0)
    tail = b""
    read = 0
    while (piece := file.read(PIECE_BYTES)) and read < _MOST_INFLATED_BYTES * 64:
        read += len(piece)
        yield tail + piece
        tail = piece[-OVERLAP_BYTES:]


def _png(data: bytes) -> Iterator[tuple[bytes, bool]]:
    """Picture data and every compressed chunk of text."""
    pixels, place = [], 8
    while place + 8 <= len(data):
        length, kind = struct.unpack(">I4s", data[place : place + 8])
        chunk = data[place + 8 : place + 8 + length]
        place += 12 + length
        if kind == b"IDAT":
            pixels.append(chunk)
        elif kind in (b"zTXt", b"iTXt", b"iCCP"):
            # The compressed part follows one of the first NULs.
            starts = [m.end() for m in re.finditer(rb"\0", chunk)]
            yield from ((inflated, False) for start in starts[:6] for inflated in _inflate(chunk[start:]))
            yield from ((inflated, False) for start in starts[:6] for inflated in _inflate(chunk[start + 1 :]))
    yield from ((inflated, True) for inflated in _inflate(b"".join(pixels)))


def _inflate(data: bytes) -> Iterator[bytes]:
    try:
        yield zlib.decompressobj().decompress(data, _MOST_INFLATED_BYTES)
    except zlib.error:
        return


def _zip(path: Path) -> Iterator[tuple[bytes, bool]]:
    with zipfile.ZipFile(path) as archive:
        for member in archive.infolist():
            with archive.open(member) as file:
                yield from ((piece, is_numbers(Path(member.filename))) for piece in _overlapping(file))


def _zstd_frames(file: IO[bytes]) -> Iterator[bytes]:
    """What every Zstandard frame in the file inflates to; a magic number that is none by chance gives nothing."""
    for piece in _overlapping(file):
        for match in re.finditer(re.escape(_ZSTD_MAGIC), piece):
            reader = zstandard.ZstdDecompressor().stream_reader(io.BytesIO(piece[match.start() :]))
            try:
                yield reader.read(PIECE_BYTES)
            except zstandard.ZstdError:
                continue


def views(data: bytes) -> Iterator[tuple[str, str]]:
    """(how it was read, lower-case text, one character a byte) for each way that text may stand in `data`."""
    yield "text", _lower(data)
    if b"\0" in data:
        yield "UTF-16", _lower(data.replace(b"\0", b""))
    decoded = b"\0\1\0".join(_base64_decoded(data))
    if decoded:
        yield "base64", _lower(decoded)
        yield "base64 of UTF-16", _lower(decoded.replace(b"\0", b""))


def _base64_decoded(data: bytes) -> Iterator[bytes]:
    for match in _BASE64.finditer(data):
        run = match[0].replace(b"\n", b"").replace(b"\r", b"").translate(_URL_SAFE)
        for start in range(4):
            body = run[start:]
            body = body[: len(body) - (len(body) % 4 == 1)]  # one character alone is no byte
            yield base64.b64decode(body + b"=" * (-len(body) % 4))


def _lower(data: bytes) -> str:
    return data.decode("latin-1").lower()
