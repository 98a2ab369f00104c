"""Short-axis cines whose pixels say which slice and phase they are, laid out in files as vendors and sites do it."""

import dataclasses
import pathlib
import random
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence as Items
from pydicom.uid import EnhancedMRImageStorage

from tests.preprocessing.tiny_dicom import SAX, coded, mr_dataset, orthonormal, save

S, T = 4, 12
_STUDY = "1.2.840.55"


@dataclasses.dataclass
class Shot:
    """One frame before it is written: what it shows, and the attributes that a scanner gives it."""

    s: int
    p: int
    attributes: dict[str, Any]
    mark: int = 0  # added to the pixels: which of several measurements this is
    flipped: bool = False  # stored upside down, so that its normal points the other way


def siemens(s: int, p: int) -> dict[str, Any]:
    """Counted phase by phase, slices base first; one clock time a slice; 12 bits."""
    return {
        "Manufacturer": "SIEMENS",
        "SeriesDescription": "cine_trufi_retro_sax",
        "ImageType": ["ORIGINAL", "PRIMARY", "M", "RETRO", "NORM", "DIS2D"],
        "TriggerTime": 31.5 * p + 2.5 * s,
        "InstanceNumber": s * T + p + 1,
        "AcquisitionTime": f"1015{10 + s:02d}.250000",
        "BitsStored": 12,
        "HighBit": 11,
    }


def ge(s: int, p: int) -> dict[str, Any]:
    """The whole stack counted through, apex first; trigger times in whole milliseconds; no image type to speak of."""
    return {
        "Manufacturer": "GE MEDICAL SYSTEMS",
        "SeriesDescription": "FIESTA CINE SA",
        "TriggerTime": int(43 * p + s),
        "InstanceNumber": (S - 1 - s) * T + p + 1,
    }


def philips(s: int, p: int) -> dict[str, Any]:
    """Counted slice by slice within a phase, with the place in time as a number of its own; rescaled for display."""
    return {
        "Manufacturer": "Philips Medical Systems",
        "SeriesDescription": "sBTFE_BH_SA",
        "ImageType": ["ORIGINAL", "PRIMARY", "M_FFE", "M", "FFE"],
        "TriggerTime": 28.75 * p,
        "TemporalPositionIdentifier": p + 1,
        "InstanceNumber": p * S + s + 1,
        "RescaleSlope": 2.25,
        "RescaleIntercept": 0,
    }


Vendor = Callable[[int, int], dict[str, Any]]
VENDORS: tuple[Vendor, ...] = (siemens, ge, philips)


def one_series(vendor: Vendor) -> list[Shot]:
    return [Shot(s, p, vendor(s, p)) for s in range(S) for p in range(T)]


def series_per_slice(vendor: Vendor) -> list[Shot]:
    shots = one_series(vendor)
    for shot in shots:
        shot.attributes |= {"SeriesInstanceUID": f"1.2.3.{shot.s}", "SeriesNumber": 20 + shot.s}
        shot.attributes |= {"InstanceNumber": shot.p + 1}
    return shots


def no_trigger_time(vendor: Vendor) -> list[Shot]:
    shots = one_series(vendor)
    for shot in shots:
        del shot.attributes["TriggerTime"]
    return shots


def bogus_trigger_time(vendor: Vendor) -> list[Shot]:
    dice = random.Random(5)
    shots = one_series(vendor)
    for shot in shots:
        shot.attributes["TriggerTime"] = round(dice.random() * 900, 2)
    return shots


def duplicate_instance_numbers(vendor: Vendor) -> list[Shot]:
    shots = one_series(vendor)
    for shot in shots:
        shot.attributes["InstanceNumber"] = shot.p // 2
    return shots


def reversed_normals(vendor: Vendor) -> list[Shot]:
    return [dataclasses.replace(shot, flipped=True) for shot in one_series(vendor)]


def mixed_magnitude_phase(vendor: Vendor) -> list[Shot]:
    """Both in one series, told apart by image type, or by the complex component where the vendor writes one."""
    magnitude, phase = one_series(vendor), one_series(vendor)
    for shot in magnitude:
        shot.attributes["InstanceNumber"] = 2 * shot.attributes["InstanceNumber"] - 1
    for shot in phase:
        shot.mark = 1
        shot.attributes["InstanceNumber"] *= 2
        if vendor is ge:
            shot.attributes["ComplexImageComponent"] = "PHASE"
        else:
            shot.attributes["ImageType"] = ["ORIGINAL", "PRIMARY", "P"]
    return magnitude + phase


def two_acquisitions_interleaved(vendor: Vendor) -> list[Shot]:
    """The same stack twice, the second at another heart rate, its counts between those of the first."""
    first, second = one_series(vendor), one_series(vendor)
    for shot in (*first, *second):
        shot.attributes["InstanceNumber"] *= 2
    for shot in second:
        shot.mark = 2
        shot.attributes["InstanceNumber"] += 1
        shot.attributes["TriggerTime"] *= 1.1
        if vendor is ge:
            shot.attributes |= {"SeriesNumber": 2, "SeriesInstanceUID": "1.2.3.99"}
        else:
            shot.attributes["AcquisitionNumber"] = 2
    return first + second


def enhanced_shuffled(vendor: Vendor) -> list[Shot]:
    return one_series(vendor)


LAYOUTS = (
    series_per_slice,
    one_series,
    enhanced_shuffled,
    no_trigger_time,
    bogus_trigger_time,
    duplicate_instance_numbers,
    reversed_normals,
    mixed_magnitude_phase,
    two_acquisitions_interleaved,
)


def pixels_of(shot: Shot) -> np.ndarray:
    image = coded(shot.s, shot.p)
    image[image > 0] += shot.mark
    return image[::-1] if shot.flipped else image


def write(folder: pathlib.Path, shots: Iterable[Shot]) -> None:
    """One file a frame, under names that say nothing of the order."""
    names = [f"IM{n:04d}" for n in range(1000)]
    random.Random(11).shuffle(names)
    for name, shot in zip(names, shots, strict=False):
        right, down = orthonormal(SAX)
        cosines = (*right, *(-down if shot.flipped else down))
        place = 10.0 * shot.s if shot.flipped else -10.0 * shot.s
        fixed = {"StudyInstanceUID": _STUDY, "SOPInstanceUID": f"1.2.9.{name[2:].lstrip('0') or '0'}"}
        save(
            mr_dataset(pixels_of(shot).copy(), cosines=cosines, place=place, **fixed, **shot.attributes), folder / name
        )


def write_enhanced(folder: pathlib.Path, shots: list[Shot], vendor: Vendor) -> None:
    """Enhanced objects with their frames shuffled: the whole stack in one, or for Siemens one a slice."""
    parts = [[x for x in shots if x.s == s] for s in range(S)] if vendor is siemens else [shots]
    for number, part in enumerate(parts):
        random.Random(number).shuffle(part)
        data = mr_dataset(pixels_of(part[0]), StudyInstanceUID=_STUDY, SeriesInstanceUID=f"1.2.4.{number}")
        data.SeriesDescription, data.Manufacturer = (
            part[0].attributes[name] for name in ("SeriesDescription", "Manufacturer")
        )
        data.SOPClassUID = data.file_meta.MediaStorageSOPClassUID = EnhancedMRImageStorage
        data.NumberOfFrames = len(part)
        data.PixelData = np.stack([pixels_of(shot) for shot in part]).tobytes()
        shared = Dataset()
        shared.PlaneOrientationSequence = Items([_item(ImageOrientationPatient=data.ImageOrientationPatient)])
        shared.PixelMeasuresSequence = Items([_item(PixelSpacing=data.PixelSpacing)])
        data.SharedFunctionalGroupsSequence = Items([shared])
        del data.ImageOrientationPatient, data.PixelSpacing, data.ImagePositionPatient
        data.PerFrameFunctionalGroupsSequence = Items([_per_frame(shot, vendor) for shot in part])
        save(data, folder / f"E{number}")


def _item(**attributes: Any) -> Dataset:
    item = Dataset()
    for name, value in attributes.items():
        setattr(item, name, value)
    return item


def _per_frame(shot: Shot, vendor: Vendor) -> Dataset:
    """The vendors differ in which of three numbers tells the phase."""
    right, down = orthonormal(SAX)
    position = [round(float(v), 4) for v in np.cross(right, down) * -10.0 * shot.s]
    group = Dataset()
    group.PlanePositionSequence = Items([_item(ImagePositionPatient=position)])
    if vendor is philips:
        group.FrameContentSequence = Items([_item(TemporalPositionIndex=shot.p + 1)])
    elif vendor is siemens:
        time = shot.attributes["TriggerTime"]
        group.CardiacSynchronizationSequence = Items([_item(NominalCardiacTriggerDelayTime=time)])
    else:
        part = 100.0 * shot.p / T
        group.CardiacSynchronizationSequence = Items([_item(NominalPercentageOfCardiacPhase=part)])
    return group
