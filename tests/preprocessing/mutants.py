"""DICOM files broken in every way that the table of faults names, from healthy ones in every codec."""

import os
import pathlib
import struct
import zlib
from collections.abc import Callable
from typing import Any

import imagecodecs
import numpy as np
import pydicom
from pydicom.encaps import encapsulate
from pydicom.tag import Tag
from pydicom.uid import UID, DeflatedExplicitVRLittleEndian, ExplicitVRBigEndian, ImplicitVRLittleEndian, RLELossless

from preprocessing.scan import quiet_pydicom
from tests.preprocessing.tiny_dicom import coded, mr_dataset, save

_JPEG = "1.2.840.10008.1.2.4."
_ENCODERS: dict[str, Callable[[np.ndarray], Any]] = {
    _JPEG + "70": lambda a: imagecodecs.jpeg8_encode(a, lossless=True, predictor=1),
    _JPEG + "80": imagecodecs.jpegls_encode,
    _JPEG + "90": lambda a: imagecodecs.jpeg2k_encode(a, codecformat="j2k", reversible=True, level=0),
    _JPEG + "201": lambda a: imagecodecs.htj2k_encode(a, reversible=True),
}
SYNTAXES = ("", ImplicitVRLittleEndian, ExplicitVRBigEndian, DeflatedExplicitVRLittleEndian, RLELossless, *_ENCODERS)
_MARKER = b"\xe0\x7f\x10\x00"
_BOMB_BYTES = 300 << 20
# (attribute, raw values that a scanner would not write): empty, absurd, overlong, not of the type.
_NONSENSE: tuple[tuple[str, tuple[bytes, ...]], ...] = (
    ("Rows", (b"\0\0", b"\xff\xff", b"\x01")),
    ("Columns", (b"\0\0", b"\xff\xff", b"\x10\x00\x10\x00")),
    ("BitsAllocated", (b"\0\0", b"\x0c\x00", b"\xff\xff")),
    ("BitsStored", (b"\0\0", b"\xff\xff", b"\x40\x00")),
    ("PixelRepresentation", (b"\xff\xff", b"")),
    ("SamplesPerPixel", (b"\0\0", b"\xff\xff")),
    ("NumberOfFrames", (b"1A", b"999999999999", b"-5", b"NaN ", b"2147483647")),
    ("PixelSpacing", (b"NaN\\NaN ", b"1e400\\1", b"0\\0 ", b"a\\b ", b"-1\\-1 ")),
    ("ImageOrientationPatient", (b"1\\0\\0\\1\\0\\0 ", b"NaN\\0\\0\\0\\1\\0", b"1\\0 ")),
    ("ImagePositionPatient", (b"1e400\\0\\0", b"\\\\ ", b"1e308\\1e308\\-1e308 ")),
    ("TriggerTime", (b"NaN ", b"1e400 ", b"-inf", b"x" * 64)),
    ("InstanceNumber", (b"99999999999999999999", b"1.5 ", b"zwei")),
    ("AcquisitionTime", (b"99:99:99", b"240000.9999999", b"\xff\xfe")),
    ("PatientAge", (b"999Y", b"0x1Y", b"\0\0\0\0")),
    ("StudyDate", (b"00000000", b"99999999", b"2012-1-1")),
    ("SeriesDescription", (b"\xff" * 64, b"<script>", b"\x1b[2J", b"a" * 5000)),
    ("StudyInstanceUID", (b"", b"../../etc/passwd", b"\0" * 8)),
    ("PhotometricInterpretation", (b"", b"MONOCHROME9 ", b"\xff\xff")),
    ("ImageType", (b"\\\\\\\\", b"MOSAIC", b"")),
    ("SpecificCharacterSet", (b"NO_SUCH_SET ", b"ISO 2022 IR 87\\ISO 2022 IR 13")),
)


def _bytes(data: pydicom.Dataset, folder: pathlib.Path) -> bytes:
    with quiet_pydicom():
        path = save(data, folder / "healthy.tmp")
    content = path.read_bytes()
    path.unlink()
    return content


def healthy(folder: pathlib.Path, syntax: str, size: int = 16, **attributes: object) -> bytes:
    """A whole file of two coded frames side by side, in `syntax`."""
    image = np.hstack([coded(1, 2), coded(3, 4)])
    if size > 16:
        image = np.tile(image, (size // 16, size // 16))
    data = mr_dataset(image, **{"BitsStored": 12, "HighBit": 11, **attributes})
    data.StudyDate, data.PatientAge, data.SeriesDescription, data.AcquisitionTime = "20200101", "053Y", "cine", "101010"
    data.NumberOfFrames, data.SpecificCharacterSet = 1, "ISO_IR 100"
    if syntax in _ENCODERS:
        data.PixelData = encapsulate([bytes(_ENCODERS[syntax](image))])
        data["PixelData"].is_undefined_length = True
    elif syntax == RLELossless:
        data.compress(RLELossless, generate_instance_uid=False, encoding_plugin="pydicom")
    elif syntax == ExplicitVRBigEndian:
        data.PixelData = image.byteswap().tobytes()
    if syntax:
        data.file_meta.TransferSyntaxUID = UID(syntax)
    return _bytes(data, folder)


def jpegls(folder: pathlib.Path, code: int, study_uid: str, phase: int) -> bytes:
    """A JPEG-LS file of one phase of a slice whose first pixel is `code`."""
    image = coded(0, phase)
    image[0, 0] = code
    data = mr_dataset(image, StudyInstanceUID=study_uid, TriggerTime=20.0 * phase, InstanceNumber=phase + 1)
    data.PixelData = encapsulate([bytes(imagecodecs.jpegls_encode(image))])
    data["PixelData"].is_undefined_length = True
    data.file_meta.TransferSyntaxUID = UID(_JPEG + "80")
    return _bytes(data, folder)


def cut(data: bytes, rng: np.random.Generator) -> bytes:
    return data[: int(rng.integers(1, len(data)))]


def flip(data: bytes, rng: np.random.Generator) -> bytes:
    out = bytearray(data)
    for at in rng.integers(len(out), size=int(rng.integers(1, 20))):
        out[at] ^= 1 << int(rng.integers(8))
    return bytes(out)


def fuzz_header(data: bytes, rng: np.random.Generator) -> bytes:
    """Random bytes behind the preamble."""
    out = bytearray(data)
    for at in rng.integers(132, max(133, min(len(out), 1400)), size=int(rng.integers(1, 40))):
        out[at] = int(rng.integers(256))
    return bytes(out)


def nonsense(data: bytes, rng: np.random.Generator) -> bytes:
    """One attribute holds what no scanner writes (files of explicit VR, little endian; others get random bytes)."""
    keyword, values = _NONSENSE[int(rng.integers(len(_NONSENSE)))]
    value = values[int(rng.integers(len(values)))]
    tag = Tag(keyword)
    mark = struct.pack("<HH", tag.group, tag.element)
    at = data.find(mark, 132)
    if at < 0 or not data[at + 4 : at + 6].isalpha():
        return fuzz_header(data, rng)
    length = struct.unpack("<H", data[at + 6 : at + 8])[0]
    return data[: at + 6] + struct.pack("<H", len(value)) + value + data[at + 8 + length :]


def garbage_pixels(data: bytes, rng: np.random.Generator) -> bytes:
    """The second half of the pixels is noise: an RLE frame with absurd segments, a code that was never written."""
    at = data.rfind(_MARKER) + 12
    start = at + (len(data) - at) // 4
    return data[:start] + rng.bytes(len(data) - start)


def lying_length(data: bytes, rng: np.random.Generator) -> bytes:
    """The pixel element claims gigabytes, or nothing."""
    at = data.rfind(_MARKER)
    if at < 0:
        return cut(data, rng)
    claim = int(rng.choice([0, 1, 0x7FFFFFFF, 0xE8000000, 0xFFFFFFFE, 0xFFFFFFFF]))
    return data[: at + 8] + struct.pack("<I", claim) + data[at + 12 :]


def deep_sequences(data: bytes, rng: np.random.Generator) -> bytes:
    depth = int(rng.integers(300, 5000))
    opening = b"\x00\x52\x29\x92SQ\x00\x00\xff\xff\xff\xff" + b"\xfe\xff\x00\xe0\xff\xff\xff\xff"
    at = max(data.rfind(_MARKER), 132)
    return data[:at] + opening * depth + data[at:]


def noise(data: bytes, rng: np.random.Generator) -> bytes:
    """No DICOM at all: text, nothing, another format, bytes."""
    kinds = (
        b"",
        b"This is a text file.\n" * 9,
        b"\x89PNG\r\n\x1a\n" + bytes(100),
        rng.bytes(3000),
        bytes(128) + b"DICM",
    )
    return kinds[int(rng.integers(len(kinds)))]


BYTES = (cut, flip, fuzz_header, nonsense, garbage_pixels, lying_length, deep_sequences, noise)
PLACES = ("loop", "dangling", "pipe", "folder without entry", "bomb")


def bomb(folder: pathlib.Path) -> bytes:
    """A deflated file of a few hundred kilobytes that grows to hundreds of megabytes."""
    data = healthy(folder, DeflatedExplicitVRLittleEndian)
    start = 144 + struct.unpack("<I", data[140:144])[0]
    deflate = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
    plain = zlib.decompress(data[start:], -zlib.MAX_WBITS)
    body = deflate.compress(plain[:-512]) + b"".join(deflate.compress(bytes(1 << 20)) for _ in range(_BOMB_BYTES >> 20))
    return data[:start] + body + deflate.flush()


def place(folder: pathlib.Path, name: str, kind: str, bomb_bytes: bytes) -> int:
    """Puts something that is no regular readable file, or a bomb; returns how many entries of files.csv it makes."""
    path = folder / name
    match kind:
        case "loop":
            path.symlink_to(path.name)
        case "dangling":
            path.symlink_to("nowhere")
        case "pipe":
            os.mkfifo(path)
        case "folder without entry":
            (path / "empty").mkdir(parents=True)
            (path / "up").symlink_to(folder)  # a loop of folders
            return 0
        case "bomb":
            path.write_bytes(bomb_bytes)
    return 1


def bases(folder: pathlib.Path, study_uid: str, real: list[pathlib.Path]) -> list[bytes]:
    """Healthy files of one study in every syntax, and real ones that were given its id."""
    found = [
        healthy(folder, syntax, StudyInstanceUID=study_uid, InstanceNumber=n, TriggerTime=20.0 * n)
        for n, syntax in enumerate(SYNTAXES)
    ]
    for path in real:
        with quiet_pydicom():
            data = pydicom.dcmread(path)
            data.StudyInstanceUID = study_uid
            found.append(_bytes(data, folder))
    return found
