"""Pictures to DICOM files, in the habits of three vendors, as classic MR images (`enhanced` for multi-frame ones).

Most elements never change, and most series say the same: an element of one value is encoded once, and a file is such
bytes and the few of its own, in the order of their tags (an explicit-VR dataset is nothing but its elements one after
the other).

Letters: S slices of a series, T phases of a slice, H W pixels.
"""

import dataclasses
import functools
import hashlib
import itertools
import pathlib
import struct

import numpy as np
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.filebase import DicomBytesIO
from pydicom.filewriter import write_data_element, write_file_meta_info
from pydicom.uid import UID, ExplicitVRLittleEndian, MRImageStorage

from preprocessing.phantom.render import SLICE_MM, Plane

VENDORS = ("siemens", "ge", "philips")
_MACHINES = {
    "siemens": ("SIEMENS", "MAGNETOM Avanto", "syngo MR B19"),
    "ge": ("GE MEDICAL SYSTEMS", "SIGNA HDx", "14\\LX\\MR Software release:14.0"),
    "philips": ("Philips Medical Systems", "Achieva", "3.2.3\\3.2.3.1"),
}


@dataclasses.dataclass(frozen=True)
class Identity:
    """What the headers say about an invented person and visit; dates are YYYYMMDD, times HHMMSS."""

    patient_name: str
    patient_id: str
    birth_date: str
    sex: str
    age: int
    weight_kg: float
    height_m: float
    accession: str
    physician: str
    study_uid: str
    study_date: str
    study_time: str
    vendor: str


@dataclasses.dataclass(frozen=True)
class Protocol:
    """How a series was acquired, as its headers say it; unless said otherwise a cine of the plain phantom."""

    thickness: float = SLICE_MM
    tr: str = "3.4"
    te: str = "1.6"
    flip: str = "50"
    scanning: tuple[str, ...] = ("GR",)  # ScanningSequence
    variant: tuple[str, ...] = ("SS",)  # SequenceVariant
    sequence: str = "TRUFI"  # PulseSequenceName
    inversion_ms: float | None = None
    agent: str = ""  # of contrast
    image_type: tuple[str, ...] = ()  # () for the vendor's of a cine
    slope: float | None = None  # RescaleSlope; None where the vendor writes none
    contrast: str = "UNKNOWN"  # AcquisitionContrast


@dataclasses.dataclass(frozen=True)
class SeriesPlan:
    """One series: frames `S T H W` uint16 on `S` parallel planes, each phase at `times_ms` (`S T`)."""

    description: str
    planes: list[Plane]
    frames: np.ndarray
    times_ms: np.ndarray
    interval_ms: float
    scout: bool = False
    protocol: Protocol = Protocol()


def uid(*parts: object) -> str:
    """A valid UID (2.25 and a 128-bit number) that depends on `parts` alone; always 44 characters."""
    digest = hashlib.sha256("/".join(map(str, parts)).encode()).digest()
    return f"2.25.{10**38 + int.from_bytes(digest, 'big') % (2**128 - 10**38)}"


def file_name(*parts: object) -> str:
    """A name that tells nothing."""
    return hashlib.sha256("/".join(map(str, ("file", *parts))).encode()).hexdigest()[:16]


def decimals(values: np.ndarray) -> list[str]:
    """Decimal strings of at most 16 characters."""
    return [f"{value:.6f}" for value in np.asarray(values, float)]


Value = str | int | tuple[str, ...]


def common(who: Identity, series: SeriesPlan, number: int) -> Dataset:
    """What every file of a series says."""
    return _dataset(_common(who, series, number))


def _dataset(said: dict[str, Value]) -> Dataset:
    """Of values by keyword; a tuple is of several values."""
    ds = Dataset()
    for keyword, value in said.items():
        setattr(ds, keyword, list(value) if isinstance(value, tuple) else value)
    return ds


def _common(who: Identity, series: SeriesPlan, number: int) -> dict[str, Value]:
    maker, model, version = _MACHINES[who.vendor]
    kinds = ("Study", "Series", "Acquisition", "Content")
    rows, columns = series.frames.shape[-2:]
    return {
        "SpecificCharacterSet": "ISO_IR 100",
        **{f"{kind}Date": who.study_date for kind in kinds},
        **{f"{kind}Time": who.study_time for kind in kinds},
        "AccessionNumber": who.accession,
        "Modality": "MR",
        "Manufacturer": maker,
        "ManufacturerModelName": model,
        "SoftwareVersions": tuple(version.split("\\")),
        "InstitutionName": "Nowhere General Hospital",
        "ReferringPhysicianName": who.physician,
        "StudyDescription": "CARDIAC MRI",
        "SeriesDescription": series.description,
        "ProtocolName": series.description,
        "PatientName": who.patient_name,
        "PatientID": who.patient_id,
        "PatientBirthDate": who.birth_date,
        "PatientSex": who.sex,
        "PatientAge": f"{who.age:03d}Y",
        "PatientWeight": f"{who.weight_kg:.0f}",
        "PatientSize": f"{who.height_m:.2f}",
        "BodyPartExamined": "HEART",
        "DeviceSerialNumber": "00000",
        "PatientPosition": "HFS",
        "StudyInstanceUID": who.study_uid,
        "SeriesInstanceUID": uid(who.study_uid, "series", number),
        "FrameOfReferenceUID": uid(who.study_uid, "frame of reference"),
        "PositionReferenceIndicator": "",
        "StudyID": "1",
        "SeriesNumber": number,
        "AcquisitionNumber": 1,
        "MRAcquisitionType": "2D",
        "MagneticFieldStrength": "1.5",
        "SamplesPerPixel": 1,
        "PhotometricInterpretation": "MONOCHROME2",
        "Rows": rows,
        "Columns": columns,
        "BitsAllocated": 16,
        "BitsStored": 12,
        "HighBit": 11,
        "PixelRepresentation": 0,
    }


def slice_gap(series: SeriesPlan) -> float:
    """Between the middles of neighbouring slices, mm."""
    if series.scout or len(series.planes) < 2:
        return series.protocol.thickness
    return float(abs((series.planes[1].origin - series.planes[0].origin) @ series.planes[0].normal))


def _classic(who: Identity, series: SeriesPlan, number: int) -> dict[str, Value]:
    """What every file of a classic series says."""
    how = series.protocol
    low, high = np.percentile(series.frames[:, 0], (1.0, 99.0))
    kind = ("ORIGINAL", "PRIMARY", "M", "ND") if who.vendor == "siemens" else ("ORIGINAL", "PRIMARY", "OTHER")
    said: dict[str, Value] = {
        "SOPClassUID": MRImageStorage,
        "ImageType": how.image_type or kind,
        "ScanningSequence": how.scanning,
        "SequenceVariant": how.variant,
        "ScanOptions": "" if series.scout else "CG",
        "SliceThickness": f"{how.thickness:g}",
        "SpacingBetweenSlices": f"{slice_gap(series):.4f}",
        "RepetitionTime": how.tr,
        "EchoTime": how.te,
        "FlipAngle": how.flip,
        "EchoTrainLength": 1,
        "ImagedNucleus": "1H",
        "ImagingFrequency": "63.87",
        "NumberOfAverages": "1",
        "PixelSpacing": tuple(decimals(np.full(2, series.planes[0].spacing))),
        "WindowCenter": f"{(low + high) / 2:.0f}",
        "WindowWidth": f"{max(high - low, 1.0):.0f}",
    }
    if how.inversion_ms is not None:
        said["InversionTime"] = f"{how.inversion_ms:.0f}"
    if how.agent:
        said["ContrastBolusAgent"] = how.agent
    if how.slope is not None:
        said |= {"RescaleIntercept": "0", "RescaleSlope": f"{how.slope:g}", "RescaleType": "US"}
    if not series.scout:
        said["NominalInterval"] = round(series.interval_ms)
        said["HeartRate"] = round(60000.0 / series.interval_ms)
        said["CardiacNumberOfImages"] = series.frames.shape[1]
    return _common(who, series, number) | said


@functools.lru_cache(maxsize=2048)
def _encoded(keyword: str, value: Value) -> tuple[int, bytes]:
    """Tag and bytes of one top-level element in explicit VR little endian."""
    (element,) = _dataset({keyword: value})
    buffer = DicomBytesIO()
    buffer.is_little_endian, buffer.is_implicit_VR = True, False
    write_data_element(buffer, element, ["iso8859"])
    return int(element.tag), buffer.getvalue()


def meta(sop_class: str, sop_instance: str) -> FileMetaDataset:
    """The file's own header."""
    made = FileMetaDataset()
    made.MediaStorageSOPClassUID, made.MediaStorageSOPInstanceUID = UID(sop_class), UID(sop_instance)
    made.TransferSyntaxUID = ExplicitVRLittleEndian
    return made


@functools.cache
def _head() -> tuple[bytes, bytes]:
    """Everything before the dataset of a classic file, as it is before and after the instance's UID.

    UIDs are of one length, so that lengths in the head hold for each of them.
    """
    buffer, stand_in = DicomBytesIO(), uid("stand-in")
    buffer.write(b"\0" * 128 + b"DICM")
    write_file_meta_info(buffer, meta(MRImageStorage, stand_in))
    before, _, after = buffer.getvalue().partition(stand_in.encode())
    return before, after


def _between(elements: dict[int, bytes], tags: list[int]) -> list[bytes]:
    """The bytes of `elements` that belong before each of `tags` (ascending) and after the one before it."""
    ranges = itertools.pairwise([0, *tags])
    return [b"".join(elements[tag] for tag in sorted(elements) if low <= tag < high) for low, high in ranges]


def write_classic(
    folder: pathlib.Path, who: Identity, series: SeriesPlan, number: int, rng: np.random.Generator
) -> None:
    """One file a frame."""
    constant = dict(_encoded(*item) for item in _classic(who, series, number).items())
    before, after = _head()
    slices, phases = series.frames.shape[:2]
    instance = np.arange(1, slices * phases + 1).reshape(slices, phases)
    if who.vendor == "philips":
        instance = rng.permutation(instance.ravel()).reshape(slices, phases)
    for s, plane in enumerate(series.planes):
        where, turned = decimals(plane.origin), decimals(np.concatenate([plane.row, plane.column]))
        of_plane = {
            0x00200032: _short(0x00200032, b"DS", "\\".join(where).encode()),
            0x00200037: _short(0x00200037, b"DS", "\\".join(turned).encode()),
            0x00201041: _short(0x00201041, b"DS", f"{plane.origin @ series.planes[0].normal:.4f}".encode()),
        }
        sops = [uid(who.study_uid, number, s, t) for t in range(phases)]
        own = [_own(who.vendor, series, sop, int(instance[s, t]), s, t) for t, sop in enumerate(sops)]
        tags = sorted(own[0])  # the same for every frame; nothing follows the pixels
        gaps = _between(constant | of_plane, tags)
        for sop, elements in zip(sops, own, strict=True):
            body = [part for gap, tag in zip(gaps, tags, strict=True) for part in (gap, elements[tag])]
            (folder / f"{file_name(sop)}.dcm").write_bytes(b"".join([before, sop.encode(), after, *body]))


def _own(vendor: str, series: SeriesPlan, sop: str, instance: int, s: int, t: int) -> dict[int, bytes]:
    """The elements of one frame alone. Encoded by hand: for a few short ones pydicom takes longer than the pictures."""
    out = {0x00080018: _short(0x00080018, b"UI", sop.encode()), 0x00200013: _short(0x00200013, b"IS", b"%d" % instance)}
    if not series.scout:
        time = float(series.times_ms[s, t])
        out[0x00181060] = _short(0x00181060, b"DS", f"{time:.2f}".encode())
        if vendor == "ge":
            out[0x00209153] = _short(0x00209153, b"FD", struct.pack("<d", time))
        if vendor == "philips":
            out[0x00209128] = _short(0x00209128, b"UL", struct.pack("<I", t + 1))
    pixels = series.frames[s, t].astype("<u2", copy=False).tobytes()
    out[0x7FE00010] = struct.pack("<HH2sHI", 0x7FE0, 0x0010, b"OW", 0, len(pixels)) + pixels
    return out


def _short(tag: int, vr: bytes, value: bytes) -> bytes:
    """One element with a length of 16 bits in explicit VR little endian, padded to an even length."""
    if len(value) % 2:
        value += b"\0" if vr == b"UI" else b" "
    return struct.pack("<HH2sH", tag >> 16, tag & 0xFFFF, vr, len(value)) + value
