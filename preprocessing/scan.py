"""Headers first: every file below a folder becomes a verdict and, where it is a usable MR image, its frames.

Only attributes named here are read, and `force` is never used. Nothing a file contains may stop the run.
"""

import contextlib
import logging
import math
import os
import stat
import struct
import warnings
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pydicom
from pydicom import config
from pydicom.errors import InvalidDicomError

from preprocessing import deid
from preprocessing.study import NAN, TIME_KEYS, FileScan, Frame, PixelLayout

_MR_CLASSES = (
    "1.2.840.10008.5.1.4.1.1.4",  # MR Image
    "1.2.840.10008.5.1.4.1.1.4.1",  # Enhanced MR Image
    "1.2.840.10008.5.1.4.1.1.4.4",  # Legacy Converted Enhanced MR Image
)
_NATIVE_LITTLE_ENDIAN = ("1.2.840.10008.1.2", "1.2.840.10008.1.2.1")
_DEFLATED = b"1.2.840.10008.1.2.1.99"
_MAX_INFLATED_BYTES = 1 << 28
_MAX_PIXELS_OF_A_FILE = 1 << 30
_FIRST_BYTES = 4096

_KEYWORDS = """
    SOPClassUID SOPInstanceUID StudyInstanceUID SeriesInstanceUID SeriesNumber AcquisitionNumber InstanceNumber
    AccessionNumber PatientID PatientSex PatientAge PatientBirthDate StudyDate
    Modality Manufacturer SeriesDescription ImageType ComplexImageComponent ScanningSequence SequenceVariant
    BurnedInAnnotation EchoTime ImagePositionPatient ImageOrientationPatient PixelSpacing
    TemporalPositionIndex TemporalPositionIdentifier NominalCardiacTriggerDelayTime TriggerTime
    NominalPercentageOfCardiacPhase AcquisitionTime AcquisitionDateTime
    NumberOfFrames Rows Columns SamplesPerPixel PhotometricInterpretation BitsAllocated BitsStored PixelRepresentation
    SharedFunctionalGroupsSequence PerFrameFunctionalGroupsSequence
""".split()


class _Refused(Exception):
    """Carries (status, reason) of a file that is not a candidate."""


@contextlib.contextmanager
def quiet_pydicom() -> Iterator[None]:
    """Silences pydicom: invalid UIDs and dates are normal, and its messages quote paths and values."""
    logger = logging.getLogger("pydicom")
    before = (logger.level, config.settings.reading_validation_mode)
    logger.setLevel(logging.CRITICAL + 1)
    config.settings.reading_validation_mode = config.IGNORE
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(before[0])
        config.settings.reading_validation_mode = before[1]


def list_files(root: Path) -> list[str]:
    """Paths of everything below `root` that is not a folder, relative and sorted; each folder is entered once."""
    seen: set[tuple[int, int]] = set()
    found: list[str] = []

    def walk(folder: Path) -> None:
        try:
            about = folder.stat()
            if (about.st_dev, about.st_ino) in seen:
                return
            seen.add((about.st_dev, about.st_ino))
            entries = sorted(folder.iterdir())
        except OSError:
            found.append(str(folder.relative_to(root)))  # an unreadable folder counts as one unreadable entry
            return
        for path in entries:
            if path.is_dir():
                walk(path)
            else:
                found.append(str(path.relative_to(root)))

    walk(root)
    return sorted(found)


def scan_file(root: Path, path: str) -> FileScan:
    """Reads the header of `root/path`. Never raises for anything the file contains."""
    try:
        about = (root / path).stat()
    except OSError:
        return FileScan(path, 0, 0, "rejected", "unreadable")
    size, mtime = about.st_size, about.st_mtime_ns
    try:
        with quiet_pydicom():
            return _read(root, path, about)
    except _Refused as refused:
        return FileScan(path, size, mtime, *refused.args)
    except (KeyboardInterrupt, SystemExit):
        raise
    except InvalidDicomError:
        return FileScan(path, size, mtime, "rejected", "not a DICOM file")
    except OSError:
        return FileScan(path, size, mtime, "rejected", "unreadable")
    except BaseException as error:  # decoders written in other languages raise outside of Exception
        return FileScan(path, size, mtime, "rejected", f"unreadable header ({type(error).__name__})")


def _read(root: Path, path: str, about: os.stat_result) -> FileScan:
    if not stat.S_ISREG(about.st_mode):
        raise _Refused("rejected", "not a regular file")
    if about.st_size == 0:
        raise _Refused("rejected", "empty file")
    if Path(path).name.upper() == "DICOMDIR":
        raise _Refused("ignored", "DICOMDIR")
    with (root / path).open("rb") as file:
        if _DEFLATED in (head := file.read(_FIRST_BYTES)):
            _refuse_bombs(head + file.read())
        file.seek(0)
        header = pydicom.dcmread(file, stop_before_pixels=True, specific_tags=list(_KEYWORDS))
        if reason := _not_an_image(header):
            raise _Refused("ignored", reason)
        syntax = str(getattr(header.file_meta, "TransferSyntaxUID", ""))
        if syntax == _DEFLATED.decode():
            return _candidate(header, path, about, syntax, None, b"")
        pixels_at = file.tell()
        element = file.read(12)
    if element[:4] not in (b"\xe0\x7f\x10\x00", b"\x7f\xe0\x00\x10"):
        raise _Refused("rejected", "no integer pixel data" if element else "no pixel data")
    return _candidate(header, path, about, syntax, pixels_at, element)


def _refuse_bombs(data: bytes) -> None:
    """Inflates a deflated file into a bounded buffer before pydicom does so without a bound."""
    if data[128:136] != b"DICM\x02\x00\x00\x00":
        raise _Refused("rejected", "deflated data without a file header")
    start = 144 + struct.unpack("<I", data[140:144])[0]  # the first element gives the length of the header behind it
    inflate = zlib.decompressobj(-zlib.MAX_WBITS)
    if len(inflate.decompress(memoryview(data)[start:], _MAX_INFLATED_BYTES)) == _MAX_INFLATED_BYTES:
        raise _Refused("rejected", "deflated data grows beyond the limit")


def _text(dataset: Any, keyword: str) -> str:
    value = dataset.get(keyword)
    return "" if value is None else str(value).strip("\0 ")


def _texts(dataset: Any, keyword: str) -> tuple[str, ...]:
    value = dataset.get(keyword)
    if value is None or value == "":
        return ()
    return tuple(str(v) for v in value) if not isinstance(value, str) else (value,)


def _number(dataset: Any, keyword: str) -> float:
    """NaN where the attribute is absent or is not a finite number."""
    try:
        value = float(dataset.get(keyword))
    except (TypeError, ValueError, OverflowError):
        return NAN
    return value if math.isfinite(value) else NAN


def _integer(dataset: Any, keyword: str, default: int = 0) -> int:
    value = _number(dataset, keyword)
    return default if math.isnan(value) else int(value)


def _not_an_image(header: Any) -> str:
    """Why this object is not a greyscale MR image without burned-in text; "" if it is one."""
    sop_class = _text(header, "SOPClassUID") or str(getattr(header.file_meta, "MediaStorageSOPClassUID", ""))
    image_type = [t.upper() for t in _texts(header, "ImageType")]
    if sop_class not in _MR_CLASSES and (sop_class or _text(header, "Modality") != "MR"):
        return "not MR"
    if _integer(header, "SamplesPerPixel", 1) != 1:
        return "colour image"
    if _text(header, "PhotometricInterpretation") not in ("MONOCHROME1", "MONOCHROME2", ""):
        return "not greyscale"
    if _text(header, "BurnedInAnnotation").upper() == "YES":
        return "burned-in annotation"
    if any("MOSAIC" in part for part in image_type):
        return "mosaic"
    return ""


def _candidate(
    header: Any, path: str, about: os.stat_result, syntax: str, pixels_at: int | None, element: bytes
) -> FileScan:
    study_uid = _text(header, "StudyInstanceUID")
    if not study_uid:
        raise _Refused("rejected", "no StudyInstanceUID")
    rows, cols = _integer(header, "Rows"), _integer(header, "Columns")
    count = max(1, _integer(header, "NumberOfFrames", 1))
    allocated = _integer(header, "BitsAllocated")
    if rows < 1 or cols < 1 or allocated not in (8, 16, 32) or not _text(header, "PhotometricInterpretation"):
        raise _Refused("rejected", "no usable image size or pixel format")
    if rows * cols * count > _MAX_PIXELS_OF_A_FILE:
        raise _Refused("rejected", "implausible image size")
    layout = None
    if pixels_at is not None and syntax in _NATIVE_LITTLE_ENDIAN:
        implicit = syntax == _NATIVE_LITTLE_ENDIAN[0]
        length = struct.unpack("<I", element[4:8] if implicit else element[8:12])[0]
        start = pixels_at + (8 if implicit else 12)
        need = rows * cols * count * allocated // 8
        if length < need or about.st_size - start < need:
            raise _Refused("rejected", "pixel data cut short")
        sign = "i" if _integer(header, "PixelRepresentation") else "u"
        layout = PixelLayout(start, f"<{sign}{allocated // 8}")
    return FileScan(
        path,
        about.st_size,
        about.st_mtime_ns,
        study_uid=study_uid,
        accession=_text(header, "AccessionNumber"),
        patient_id=_text(header, "PatientID"),
        sex=deid.sex(_text(header, "PatientSex")),
        age=deid.age(_text(header, "PatientAge"), _text(header, "PatientBirthDate"), _text(header, "StudyDate")),
        vendor=deid.vendor(_text(header, "Manufacturer")),
        bits_stored=min(_integer(header, "BitsStored", allocated) or allocated, allocated),
        inverted=_text(header, "PhotometricInterpretation") == "MONOCHROME1",
        layout=layout,
        frames=_frames(header, path, rows, cols, count),
    )


def _item(groups: list[Any], sequence: str) -> Any:
    """The first item of `sequence` in the first group (per frame before shared) that holds one."""
    for group in groups:
        items = group.get(sequence)
        if items:
            return items[0]
    return pydicom.Dataset()


def _frames(header: Any, path: str, rows: int, cols: int, count: int) -> tuple[Frame, ...]:
    shared = list(header.get("SharedFunctionalGroupsSequence") or ())[:1]
    each = list(header.get("PerFrameFunctionalGroupsSequence") or ())
    return tuple(
        _frame(header, [*each[index : index + 1], *shared], path, index, rows, cols, count) for index in range(count)
    )


def _frame(header: Any, groups: list[Any], path: str, index: int, rows: int, cols: int, count: int) -> Frame:
    """One frame; functional groups stand over the attributes of the file (classic images carry no groups)."""

    def pick(sequence: str, keyword: str) -> Any:
        item = _item(groups, sequence)
        return item if keyword in item else header

    position = _vector(pick("PlanePositionSequence", "ImagePositionPatient"), "ImagePositionPatient", 3)
    cosines = _vector(pick("PlaneOrientationSequence", "ImageOrientationPatient"), "ImageOrientationPatient", 6)
    spacing = _vector(pick("PixelMeasuresSequence", "PixelSpacing"), "PixelSpacing", 2)
    right, down = cosines[:3], cosines[3:]
    if (
        min(spacing) <= 0
        or abs(math.hypot(*right) - 1) > 0.02
        or abs(math.hypot(*down) - 1) > 0.02
        or abs(sum(a * b for a, b in zip(right, down, strict=True))) > 0.02
    ):
        raise _Refused("rejected", "no usable geometry")
    frame_type = _item(groups, "MRImageFrameTypeSequence")
    component = _text(frame_type, "ComplexImageComponent") or _text(header, "ComplexImageComponent")
    kind = (
        *(_texts(frame_type, "FrameType") or _texts(header, "ImageType")),
        component,
        *_texts(header, "ScanningSequence"),
        *_texts(header, "SequenceVariant"),
    )
    echo = _number(_item(groups, "MREchoSequence"), "EffectiveEchoTime")
    return Frame(
        file=path,
        index=index,
        sop_uid=_text(header, "SOPInstanceUID"),
        series_uid=_text(header, "SeriesInstanceUID"),
        series_number=_integer(header, "SeriesNumber"),
        acquisition=_integer(header, "AcquisitionNumber"),
        description=_text(header, "SeriesDescription"),
        rows=rows,
        cols=cols,
        position=(position[0], position[1], position[2]),
        right=(right[0], right[1], right[2]),
        down=(down[0], down[1], down[2]),
        spacing=(spacing[0], spacing[1]),
        echo=_number(header, "EchoTime") if math.isnan(echo) else echo,
        kind=kind,
        times=_times(header, groups, index, count),
    )


def _vector(dataset: Any, keyword: str, length: int) -> tuple[float, ...]:
    try:
        values = tuple(float(v) for v in dataset.get(keyword))
    except (TypeError, ValueError, OverflowError):
        values = ()
    if len(values) != length or not all(math.isfinite(v) for v in values):
        raise _Refused("rejected", "no usable geometry")
    return values


def _times(header: Any, groups: list[Any], index: int, count: int) -> tuple[float, ...]:
    content = _item(groups, "FrameContentSequence")
    cardiac = _item(groups, "CardiacSynchronizationSequence")
    values = dict.fromkeys(TIME_KEYS, NAN)
    for key in TIME_KEYS[:4]:
        candidates = (_number(source, key) for source in (content, cardiac, header))
        values[key] = next((v for v in candidates if not math.isnan(v)), NAN)
    if math.isnan(values["TemporalPositionIndex"]):
        values["TemporalPositionIndex"] = _number(header, "TemporalPositionIdentifier")
    moment = _text(content, "FrameAcquisitionDateTime") or _text(header, "AcquisitionDateTime")
    values["AcquisitionTime"] = _seconds(moment[8:] or _text(header, "AcquisitionTime"))
    # Frames of one file are told apart by their place in it.
    values["InstanceNumber"] = _number(header, "InstanceNumber") if count == 1 else float(index)
    return tuple(values[key] for key in TIME_KEYS)


def _seconds(text: str) -> float:
    """`HHMMSS.FFFFFF` as seconds after midnight; NaN where it is not a time."""
    clock = text.split("+")[0].split("-")[0].replace(":", "").strip()
    try:
        return int(clock[:2]) * 3600 + int(clock[2:4]) * 60 + float(clock[4:])
    except ValueError:
        return NAN
