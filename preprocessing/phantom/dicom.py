"""Pictures to DICOM files, in the habits of three vendors, as classic MR images (`enhanced` for multi-frame ones).

Most elements of a series never change, so they are encoded once; a file is those bytes and the few of its own, in the
order of their tags (an explicit-VR dataset is nothing but its elements one after the other).

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


def common(who: Identity, series: SeriesPlan, number: int) -> Dataset:
    """What every file of a series says."""
    maker, model, version = _MACHINES[who.vendor]
    ds = Dataset()
    ds.SpecificCharacterSet = "ISO_IR 100"
    ds.StudyDate = ds.SeriesDate = ds.AcquisitionDate = ds.ContentDate = who.study_date
    ds.StudyTime = ds.SeriesTime = ds.AcquisitionTime = ds.ContentTime = who.study_time
    ds.AccessionNumber = who.accession
    ds.Modality = "MR"
    ds.Manufacturer, ds.ManufacturerModelName, ds.SoftwareVersions = maker, model, version.split("\\")
    ds.InstitutionName = "Nowhere General Hospital"
    ds.ReferringPhysicianName = who.physician
    ds.StudyDescription = "CARDIAC MRI"
    ds.SeriesDescription = ds.ProtocolName = series.description
    ds.PatientName, ds.PatientID, ds.PatientBirthDate = who.patient_name, who.patient_id, who.birth_date
    ds.PatientSex, ds.PatientAge = who.sex, f"{who.age:03d}Y"
    ds.PatientWeight, ds.PatientSize = f"{who.weight_kg:.0f}", f"{who.height_m:.2f}"
    ds.BodyPartExamined = "HEART"
    ds.DeviceSerialNumber = "00000"
    ds.PatientPosition = "HFS"
    ds.StudyInstanceUID = who.study_uid
    ds.SeriesInstanceUID = uid(who.study_uid, "series", number)
    ds.FrameOfReferenceUID = uid(who.study_uid, "frame of reference")
    ds.PositionReferenceIndicator = ""
    ds.StudyID, ds.SeriesNumber, ds.AcquisitionNumber = "1", number, 1
    ds.MRAcquisitionType, ds.MagneticFieldStrength = "2D", "1.5"
    ds.SamplesPerPixel, ds.PhotometricInterpretation = 1, "MONOCHROME2"
    ds.Rows, ds.Columns = series.frames.shape[-2:]
    ds.BitsAllocated, ds.BitsStored, ds.HighBit, ds.PixelRepresentation = 16, 12, 11, 0
    return ds


def slice_gap(series: SeriesPlan) -> float:
    """Between the middles of neighbouring slices, mm."""
    if series.scout or len(series.planes) < 2:
        return series.protocol.thickness
    return float(abs((series.planes[1].origin - series.planes[0].origin) @ series.planes[0].normal))


def _classic_common(who: Identity, series: SeriesPlan, number: int) -> Dataset:
    ds, how = common(who, series, number), series.protocol
    ds.SOPClassUID = MRImageStorage
    ds.ImageType = ["ORIGINAL", "PRIMARY", "M", "ND"] if who.vendor == "siemens" else ["ORIGINAL", "PRIMARY", "OTHER"]
    if how.image_type:
        ds.ImageType = list(how.image_type)
    ds.ScanningSequence, ds.SequenceVariant = list(how.scanning), list(how.variant)
    ds.ScanOptions = "" if series.scout else "CG"
    ds.SliceThickness, ds.SpacingBetweenSlices = f"{how.thickness:g}", f"{slice_gap(series):.4f}"
    ds.RepetitionTime, ds.EchoTime, ds.FlipAngle, ds.EchoTrainLength = how.tr, how.te, how.flip, 1
    if how.inversion_ms is not None:
        ds.InversionTime = f"{how.inversion_ms:.0f}"
    if how.agent:
        ds.ContrastBolusAgent = how.agent
    if how.slope is not None:
        ds.RescaleIntercept, ds.RescaleSlope, ds.RescaleType = "0", f"{how.slope:g}", "US"
    ds.ImagedNucleus, ds.ImagingFrequency, ds.NumberOfAverages = "1H", "63.87", "1"
    ds.PixelSpacing = decimals(np.full(2, series.planes[0].spacing))
    low, high = np.percentile(series.frames[:, 0], (1.0, 99.0))
    ds.WindowCenter, ds.WindowWidth = f"{(low + high) / 2:.0f}", f"{max(high - low, 1.0):.0f}"
    if not series.scout:
        ds.NominalInterval = round(series.interval_ms)
        ds.HeartRate = round(60000.0 / series.interval_ms)
        ds.CardiacNumberOfImages = series.frames.shape[1]
    return ds


def _encode(ds: Dataset) -> dict[int, bytes]:
    """The bytes of each top-level element in explicit VR little endian, by tag."""
    out = {}
    for element in ds:
        buffer = DicomBytesIO()
        buffer.is_little_endian, buffer.is_implicit_VR = True, False
        write_data_element(buffer, element, ["iso8859"])
        out[int(element.tag)] = buffer.getvalue()
    return out


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
    constant = _encode(_classic_common(who, series, number))
    before, after = _head()
    slices, phases = series.frames.shape[:2]
    instance = np.arange(1, slices * phases + 1).reshape(slices, phases)
    if who.vendor == "philips":
        instance = rng.permutation(instance.ravel()).reshape(slices, phases)
    for s, plane in enumerate(series.planes):
        of_plane = Dataset()
        of_plane.ImagePositionPatient = decimals(plane.origin)
        of_plane.ImageOrientationPatient = decimals(np.concatenate([plane.row, plane.column]))
        of_plane.SliceLocation = f"{plane.origin @ series.planes[0].normal:.4f}"
        sops = [uid(who.study_uid, number, s, t) for t in range(phases)]
        own = [_own(who.vendor, series, sop, int(instance[s, t]), s, t) for t, sop in enumerate(sops)]
        tags = sorted(own[0])  # the same for every frame; nothing follows the pixels
        gaps = _between(constant | _encode(of_plane), tags)
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
    pixels = series.frames[s, t].astype("<u2").tobytes()
    out[0x7FE00010] = struct.pack("<HH2sHI", 0x7FE0, 0x0010, b"OW", 0, len(pixels)) + pixels
    return out


def _short(tag: int, vr: bytes, value: bytes) -> bytes:
    """One element with a length of 16 bits in explicit VR little endian, padded to an even length."""
    if len(value) % 2:
        value += b"\0" if vr == b"UI" else b" "
    return struct.pack("<HH2sH", tag >> 16, tag & 0xFFFF, vr, len(value)) + value
