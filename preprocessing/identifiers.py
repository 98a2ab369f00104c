"""The private values of headers that a report may repeat: read where they are needed, never carried around."""

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pydicom
from pydicom.dataset import Dataset

from preprocessing.study import NIFTI, FileScan

_ID_KEYWORDS = """
    PatientID OtherPatientIDs AccessionNumber StudyID StudyInstanceUID SeriesInstanceUID InstitutionName AdmissionID
    InstitutionAddress PatientAddress PatientTelephoneNumbers StationName DeviceSerialNumber
    RequestedProcedureID ScheduledProcedureStepID PerformedProcedureStepID PlacerOrderNumberImagingServiceRequest
    FillerOrderNumberImagingServiceRequest
""".split()
# Persons that old files keep in other value representations, and the few a damaged header is asked for.
_NAME_KEYWORDS = """
    PatientName OtherPatientNames PatientBirthName PatientMotherBirthName ReferringPhysicianName
    PerformingPhysicianName RequestingPhysician OperatorsName NameOfPhysiciansReadingStudy PhysiciansOfRecord
    ResponsiblePerson ConsultingPhysicianName ScheduledPerformingPhysicianName VerifyingObserverName
""".split()
_PER_FRAME = "PerFrameFunctionalGroupsSequence"  # thousands of items, all geometry
_MOST_FILES = 24


def of_study(root: Path, scans: Sequence[FileScan]) -> tuple[list[str], list[str]]:
    """(names of persons, other identifiers) in the headers of the first file of each series, nested items included."""
    scans = [scan for scan in scans if scan.layout is None or scan.layout.syntax != NIFTI]
    first_of = {(scan.frames[0].series_uid if scan.frames else "", scan.patient_id): scan for scan in reversed(scans)}
    persons: dict[str, None] = {}
    ids: dict[str, None] = {}
    for scan in list(reversed(first_of.values()))[:_MOST_FILES]:
        header = _read(root / scan.path)
        persons.update(dict.fromkeys(names(header)))
        ids.update(dict.fromkeys(value for keyword in _ID_KEYWORDS for value in texts(header.get(keyword))))
    return list(persons), list(ids)


def _read(path: Path) -> Dataset:
    try:
        return pydicom.dcmread(path, stop_before_pixels=True)
    except Exception:  # sequences too deep or damaged: the scan did without them, and so do we
        keywords: list[Any] = [*_NAME_KEYWORDS, *_ID_KEYWORDS]
        return pydicom.dcmread(path, stop_before_pixels=True, specific_tags=keywords)


def names(header: Dataset) -> Iterator[str]:
    """Persons whom any element of `header` names."""
    for keyword in _NAME_KEYWORDS:
        yield from texts(header.get(keyword))
    for _, representation, value in elements(header):
        if representation == "PN":
            yield from texts(value)


def elements(header: Dataset, skip: tuple[str, ...] = (_PER_FRAME,)) -> Iterator[tuple[str, str, Any]]:
    """(keyword or "private", value representation, value) of every element, nested ones too, that can be read."""
    for tag in list(header.keys()):
        try:
            element = header[tag]
            keyword, representation, value = element.keyword, str(element.VR), element.value
        except Exception:  # one damaged value hides no other
            continue
        if representation == "SQ":
            if keyword not in skip:
                for item in value or ():
                    yield from elements(item, skip)
        else:
            yield keyword or ("private" if element.tag.is_private else "unknown"), representation, value


def texts(value: Any) -> Iterator[str]:
    """The non-empty values of an element as text."""
    several = not isinstance(value, (str, bytes)) and isinstance(value, Iterable) and not hasattr(value, "components")
    for one in value if several else (value,):  # type: ignore[union-attr]
        if one is not None and (text := str(one).strip("\0 ")):
            yield text
