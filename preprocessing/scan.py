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

from preprocessing import attributes, decode, deid, quick_header
from preprocessing.study import NAN, TIME_KEYS, FileScan, Frame, PixelLayout

_MR_CLASSES = (
    "1.2.840.10008.5.1.4.1.1.4",  # MR Image
    "1.2.840.10008.5.1.4.1.1.4.1",  # Enhanced MR Image
    "1.2.840.10008.5.1.4.1.1.4.4",  # Legacy Converted Enhanced MR Image
)
# Basic Text, Enhanced, Comprehensive, Comprehensive 3D, Extensible: documents that a person writes.
_SR_CLASSES = tuple(f"1.2.840.10008.5.1.4.1.1.88.{last}" for last in ("11", "22", "33", "34", "35"))
STRUCTURED_REPORT = "structured report"
_NATIVE_LITTLE_ENDIAN = ("1.2.840.10008.1.2", "1.2.840.10008.1.2.1")
_BIG_ENDIAN = "1.2.840.10008.1.2.2"
_DEFLATED = b"1.2.840.10008.1.2.1.99"
_UNDEFINED_LENGTH = 0xFFFFFFFF
_MAX_INFLATED_BYTES = 1 << 28
_INFLATE_STEP = 1 << 22
_MAX_PIXELS_OF_A_FILE = 1 << 30
_MAX_FRAMES_OF_A_FILE = 1 << 16
_FIRST_BYTES = 4096

_KEYWORDS = """
    SOPClassUID SOPInstanceUID StudyInstanceUID SeriesInstanceUID SeriesNumber AcquisitionNumber InstanceNumber
    AccessionNumber PatientID PatientSex PatientAge PatientBirthDate StudyDate InstitutionName
    Modality Manufacturer SeriesDescription ImageType ComplexImageComponent ScanningSequence SequenceVariant
    BurnedInAnnotation EchoTime ImagePositionPatient ImageOrientationPatient PixelSpacing
    TemporalPositionIndex TemporalPositionIdentifier NominalCardiacTriggerDelayTime TriggerTime
    NominalPercentageOfCardiacPhase AcquisitionTime AcquisitionDateTime
    NumberOfFrames Rows Columns SamplesPerPixel PhotometricInterpretation BitsAllocated BitsStored PixelRepresentation
    RescaleSlope RescaleIntercept RescaleType RealWorldValueMappingSequence
    SharedFunctionalGroupsSequence PerFrameFunctionalGroupsSequence
""".split()

_NO_ITEM = quick_header.Header({}, implicit=False)


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


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:
        return False  # then it is a file that cannot be read


def list_files(root: Path) -> list[str]:
    """Paths of everything below `root` that is not a folder, relative and sorted; each folder is entered once."""
    seen: set[tuple[int, int]] = set()
    found: list[str] = []
    folders = [""]
    while folders:
        folder = folders.pop()
        try:
            about = (root / folder).stat()
            if (about.st_dev, about.st_ino) in seen:
                continue
            seen.add((about.st_dev, about.st_ino))
            with os.scandir(root / folder) as entries:
                inside = [(_is_folder(entry), str(Path(folder, entry.name))) for entry in entries]
        except OSError:
            found.append(folder or ".")  # an unreadable folder counts as one unreadable entry
            continue
        found += [path for is_folder, path in inside if not is_folder]
        folders += sorted((path for is_folder, path in inside if is_folder), reverse=True)
    return sorted(found)


def scan_file(root: Path, path: str) -> FileScan:
    """Reads the header of `root/path`. Never raises for anything the file contains."""
    place = root / path
    try:
        about = place.stat()
    except OSError:
        return FileScan(path, 0, 0, "rejected", "unreadable")
    size, mtime = about.st_size, about.st_mtime_ns
    try:
        with quiet_pydicom():
            return _read(place, path, about)
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


def _read(place: Path, path: str, about: os.stat_result) -> FileScan:
    if not stat.S_ISREG(about.st_mode):
        raise _Refused("rejected", "not a regular file")
    if about.st_size == 0:
        raise _Refused("rejected", "empty file")
    if place.name.upper() == "DICOMDIR":
        raise _Refused("ignored", "DICOMDIR")
    with place.open("rb", buffering=quick_header.FIRST_BYTES) as file:  # what is wanted of most files in one read
        if _DEFLATED in (head := file.read(_FIRST_BYTES)):
            _refuse_bombs(head + file.read())
        file.seek(0)
        header, pixels_at = quick_header.read(file, _KEYWORDS) or (None, 0)
        file.seek(pixels_at)
        if header is None:
            header = pydicom.dcmread(file, stop_before_pixels=True, specific_tags=list(_KEYWORDS))
        if reason := _not_an_image(header):
            if reason == STRUCTURED_REPORT and attributes.text(header, "StudyInstanceUID"):
                return _structured_report(header, path, about)
            raise _Refused("ignored", reason)
        syntax = attributes.text(header.file_meta, "TransferSyntaxUID")
        if syntax == _DEFLATED.decode():
            return _candidate(header, path, about, syntax, None, b"")
        pixels_at = file.tell()
        element = file.read(12)
    if element[:4] not in (b"\xe0\x7f\x10\x00", b"\x7f\xe0\x00\x10"):
        raise _Refused("rejected", "no integer pixel data" if element else "no pixel data")
    return _candidate(header, path, about, syntax, pixels_at, element)


def _refuse_bombs(data: bytes) -> None:
    """Inflates a deflated file piece by piece, keeping nothing, before pydicom does so without a bound."""
    if data[128:136] != b"DICM\x02\x00\x00\x00":
        raise _Refused("rejected", "deflated data without a file header")
    start = 144 + struct.unpack("<I", data[140:144])[0]  # the first element gives the length of the header behind it
    inflate = zlib.decompressobj(-zlib.MAX_WBITS)
    rest, grown = data[start:], 0
    while rest and not inflate.eof:
        grown += len(inflate.decompress(rest, _INFLATE_STEP))
        rest = inflate.unconsumed_tail
        if grown >= _MAX_INFLATED_BYTES:
            raise _Refused("rejected", "deflated data grows beyond the limit")


def _not_an_image(header: Any) -> str:
    """Why this object is not a greyscale MR image without burned-in text; "" if it is one."""
    sop_class = attributes.text(header, "SOPClassUID") or attributes.text(header.file_meta, "MediaStorageSOPClassUID")
    image_type = [t.upper() for t in attributes.texts(header, "ImageType")]
    if sop_class in _SR_CLASSES:
        return STRUCTURED_REPORT
    if sop_class not in _MR_CLASSES and (sop_class or attributes.text(header, "Modality") != "MR"):
        return "not MR"
    if attributes.integer(header, "SamplesPerPixel", 1) != 1:
        return "colour image"
    if attributes.text(header, "PhotometricInterpretation") not in ("MONOCHROME1", "MONOCHROME2", ""):
        return "not greyscale"
    if attributes.text(header, "BurnedInAnnotation").upper() == "YES":
        return "burned-in annotation"
    if any("MOSAIC" in part for part in image_type):
        return "mosaic"
    return ""


def _structured_report(header: Any, path: str, about: os.stat_result) -> FileScan:
    """Not an image, and yet of use to `sr`: it may be the report of its study."""
    return FileScan(
        path,
        about.st_size,
        about.st_mtime_ns,
        "ignored",
        STRUCTURED_REPORT,
        study_uid=attributes.text(header, "StudyInstanceUID"),
        accession=attributes.text(header, "AccessionNumber"),
        patient_id=attributes.text(header, "PatientID"),
    )


def _candidate(
    header: Any, path: str, about: os.stat_result, syntax: str, pixels_at: int | None, element: bytes
) -> FileScan:
    study_uid = attributes.text(header, "StudyInstanceUID")
    if not study_uid:
        raise _Refused("rejected", "no StudyInstanceUID")
    rows, cols = attributes.integer(header, "Rows"), attributes.integer(header, "Columns")
    count = attributes.integer(header, "NumberOfFrames", 0 if attributes.text(header, "NumberOfFrames") else 1)
    allocated = attributes.integer(header, "BitsAllocated")
    photometric = attributes.text(header, "PhotometricInterpretation")
    if min(rows, cols, count) < 1 or allocated not in (8, 16, 32) or not photometric:
        raise _Refused("rejected", "no usable image size or pixel format")
    if rows * cols * count > _MAX_PIXELS_OF_A_FILE or count > _MAX_FRAMES_OF_A_FILE:
        raise _Refused("rejected", "implausible image size")
    dtype = f"<{'i' if attributes.integer(header, 'PixelRepresentation') else 'u'}{allocated // 8}"
    layout = None
    if pixels_at is not None:
        layout = _layout(syntax, pixels_at, element, dtype, about.st_size, rows * cols * count * allocated // 8)
    return FileScan(
        path,
        about.st_size,
        about.st_mtime_ns,
        study_uid=study_uid,
        accession=attributes.text(header, "AccessionNumber"),
        patient_id=attributes.text(header, "PatientID"),
        sex=deid.sex(attributes.text(header, "PatientSex")),
        age=deid.age(
            attributes.text(header, "PatientAge"),
            attributes.text(header, "PatientBirthDate"),
            attributes.text(header, "StudyDate"),
        ),
        vendor=deid.vendor(attributes.text(header, "Manufacturer")),
        study_date=deid.day(attributes.text(header, "StudyDate")),
        institution=attributes.text(header, "InstitutionName"),
        bits_stored=bits if 1 <= (bits := attributes.integer(header, "BitsStored")) <= allocated else allocated,
        inverted=photometric == "MONOCHROME1",
        layout=layout,
        frames=_frames(header, path, rows, cols, count),
    )


def _layout(syntax: str, at: int, element: bytes, dtype: str, size: int, need: int) -> PixelLayout | None:
    """Where the pixels of a file of `size` bytes lie, whose pixel element starts `at`; None: left to pydicom."""
    if syntax == _BIG_ENDIAN:
        return None
    implicit = syntax == _NATIVE_LITTLE_ENDIAN[0]
    start = at + (8 if implicit else 12)
    if len(element) < start - at:
        raise _Refused("rejected", "pixel data cut short")
    length = struct.unpack("<I", element[4:8] if implicit else element[8:12])[0]
    if syntax in decode.SYNTAXES:
        if length != _UNDEFINED_LENGTH:
            raise _Refused("rejected", "compressed pixel data without frames")
        return PixelLayout(start, dtype, syntax)
    if syntax not in _NATIVE_LITTLE_ENDIAN:
        raise _Refused("rejected", "unknown transfer syntax" if syntax else "no transfer syntax")
    if length < need or size - start < need:
        raise _Refused("rejected", "pixel data cut short")
    return PixelLayout(start, dtype)


def _item(groups: list[Any], sequence: str) -> Any:
    """The first item of `sequence` in the first group (per frame before shared) that holds one."""
    for group in groups:
        items = attributes.get(group, sequence)
        if items:
            return items[0]
    return _NO_ITEM


def _frames(header: Any, path: str, rows: int, cols: int, count: int) -> tuple[Frame, ...]:
    shared = list(attributes.get(header, "SharedFunctionalGroupsSequence") or ())[:1]
    each = list(attributes.get(header, "PerFrameFunctionalGroupsSequence") or ())
    return tuple(
        _frame(header, [*each[index : index + 1], *shared], path, index, rows, cols, count) for index in range(count)
    )


def _frame(header: Any, groups: list[Any], path: str, index: int, rows: int, cols: int, count: int) -> Frame:
    """One frame; functional groups stand over the attributes of the file (classic images carry no groups)."""

    def pick(sequence: str, keyword: str) -> Any:
        item = _item(groups, sequence)
        return item if attributes.has(item, keyword) else header

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
    component = attributes.text(frame_type, "ComplexImageComponent") or attributes.text(header, "ComplexImageComponent")
    kind = (
        *(attributes.texts(frame_type, "FrameType") or attributes.texts(header, "ImageType")),
        component,
        *attributes.texts(header, "ScanningSequence"),
        *attributes.texts(header, "SequenceVariant"),
    )
    echo = attributes.number(_item(groups, "MREchoSequence"), "EffectiveEchoTime")
    slope, intercept, unit = _physical(header, groups)
    if (
        attributes.text(header, "PhotometricInterpretation") == "MONOCHROME1"
    ):  # pixels.read turns the stored values round
        signed, bits = attributes.integer(header, "PixelRepresentation"), attributes.integer(header, "BitsStored")
        slope, intercept = -slope, intercept + slope * (-1 if signed else (1 << max(bits, 1)) - 1)
    return Frame(
        file=path,
        index=index,
        sop_uid=attributes.text(header, "SOPInstanceUID"),
        series_uid=attributes.text(header, "SeriesInstanceUID"),
        series_number=attributes.integer(header, "SeriesNumber"),
        acquisition=attributes.integer(header, "AcquisitionNumber"),
        description=attributes.text(header, "SeriesDescription"),
        rows=rows,
        cols=cols,
        position=(position[0], position[1], position[2]),
        right=(right[0], right[1], right[2]),
        down=(down[0], down[1], down[2]),
        spacing=(spacing[0], spacing[1]),
        echo=attributes.number(header, "EchoTime") if math.isnan(echo) else echo,
        kind=kind,
        times=_times(header, groups, index, count),
        slope=slope,
        intercept=intercept,
        unit=unit,
    )


def _physical(header: Any, groups: list[Any]) -> tuple[float, float, str]:
    """(slope, intercept, unit) from stored to physical values: the real-world mapping, which maps carry, before the
    rescale, which many vendors use for display."""
    mapping = _item([*groups, header], "RealWorldValueMappingSequence")
    slope, intercept = (
        attributes.number(mapping, "RealWorldValueSlope"),
        attributes.number(mapping, "RealWorldValueIntercept"),
    )
    unit = attributes.text(_item([mapping], "MeasurementUnitsCodeSequence"), "CodeValue")
    if math.isnan(slope) or math.isnan(intercept):
        found = _item(groups, "PixelValueTransformationSequence")
        source = header if found is _NO_ITEM else found
        slope, intercept = attributes.number(source, "RescaleSlope"), attributes.number(source, "RescaleIntercept")
        unit = attributes.text(source, "RescaleType")
    if math.isnan(slope) or math.isnan(intercept) or slope == 0:
        return 1.0, 0.0, unit
    return slope, intercept, unit


def _vector(dataset: Any, keyword: str, length: int) -> tuple[float, ...]:
    try:
        values = tuple(float(v) for v in attributes.get(dataset, keyword))
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
        candidates = (attributes.number(source, key) for source in (content, cardiac, header))
        values[key] = next((v for v in candidates if not math.isnan(v)), NAN)
    if math.isnan(values["TemporalPositionIndex"]):
        values["TemporalPositionIndex"] = attributes.number(header, "TemporalPositionIdentifier")
    moment = attributes.text(content, "FrameAcquisitionDateTime") or attributes.text(header, "AcquisitionDateTime")
    values["AcquisitionTime"] = _seconds(moment[8:] or attributes.text(header, "AcquisitionTime"))
    # Frames of one file are told apart by their place in it.
    values["InstanceNumber"] = attributes.number(header, "InstanceNumber") if count == 1 else float(index)
    return tuple(values[key] for key in TIME_KEYS)


def _seconds(text: str) -> float:
    """`HHMMSS.FFFFFF` as seconds after midnight; NaN where it is not a time."""
    clock = text.split("+")[0].split("-")[0].replace(":", "").strip()
    try:
        return int(clock[:2]) * 3600 + int(clock[2:4]) * 60 + float(clock[4:])
    except ValueError:
        return NAN
