"""Files: they re-read without a complaint, hold what a cine must, and geometry plus timing put every frame in place."""

import dataclasses
import io
import pathlib
import warnings

import numpy as np
import pydicom
import pytest
from pydicom.uid import UID, EnhancedMRImageStorage, ExplicitVRLittleEndian, MRImageStorage

from preprocessing.phantom import dicom, receiver, study, truth

SETTINGS = study.Settings(studies=2, seed=11, phases=6, slices=4, matrix=48)
CLASSIC = [(vendor, False) for vendor in dicom.VENDORS]
REQUIRED = (
    "SOPClassUID SOPInstanceUID StudyInstanceUID SeriesInstanceUID FrameOfReferenceUID Modality Manufacturer StudyDate "
    "PatientName PatientID PatientBirthDate PatientSex SeriesNumber InstanceNumber ImageType ScanningSequence "
    "SequenceVariant MRAcquisitionType SliceThickness RepetitionTime EchoTime ImagePositionPatient "
    "ImageOrientationPatient PixelSpacing Rows Columns BitsAllocated BitsStored HighBit PixelRepresentation "
    "SamplesPerPixel PhotometricInterpretation PatientPosition AccessionNumber"
).split()


@pytest.fixture(scope="module", params=[*CLASSIC, ("siemens", True), ("philips", True)], ids=str)
def written(request, tmp_path_factory) -> tuple[study.Settings, study.Visit, list[pydicom.FileDataset]]:
    vendor, enhanced = request.param
    settings = dataclasses.replace(SETTINGS, vendor=vendor, enhanced=enhanced)
    visit = study.visits(settings)[0]
    out = tmp_path_factory.mktemp("phantom")
    study.make(settings, visit, out)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        files = [pydicom.dcmread(path) for path in sorted(out.rglob("*.dcm"))]
        for file in files:
            str(file)  # reads every value
    return settings, visit, files


def _frames(file: pydicom.Dataset) -> list[tuple[np.ndarray, np.ndarray, float, np.ndarray]]:
    """(position, orientation, trigger time, pixels) of every frame of a classic or an enhanced file."""
    if "PerFrameFunctionalGroupsSequence" not in file:
        time = float(file.get("TriggerTime", 0.0))
        position, orientation = file.ImagePositionPatient, file.ImageOrientationPatient
        return [(np.array(position, float), np.array(orientation, float), time, file.pixel_array)]
    out = []
    for groups, pixels in zip(file.PerFrameFunctionalGroupsSequence, file.pixel_array, strict=True):
        sync = groups.get("CardiacSynchronizationSequence")
        position = np.array(groups.PlanePositionSequence[0].ImagePositionPatient, float)
        orientation = np.array(groups.PlaneOrientationSequence[0].ImageOrientationPatient, float)
        out.append((position, orientation, sync[0].NominalCardiacTriggerDelayTime if sync else 0.0, pixels))
    return out


def test_required_attributes(written):
    settings, _, files = written
    for file in files:
        assert file.file_meta.TransferSyntaxUID == ExplicitVRLittleEndian
        assert file.file_meta.MediaStorageSOPInstanceUID == file.SOPInstanceUID
        assert file.pixel_array.dtype == np.uint16
        if settings.enhanced:
            assert file.SOPClassUID == EnhancedMRImageStorage
            assert file.NumberOfFrames == len(file.PerFrameFunctionalGroupsSequence)
            assert "PixelMeasuresSequence" in file.SharedFunctionalGroupsSequence[0]
        else:
            assert file.SOPClassUID == MRImageStorage
            missing = [name for name in REQUIRED if name not in file or file[name].value in (None, "")]
            assert not missing
    uids = [file.SOPInstanceUID for file in files]
    assert len(set(uids)) == len(uids) and all(UID(value).is_valid for value in uids)
    assert len({file.StudyInstanceUID for file in files}) == 1


def test_files_are_what_pydicom_would_write(written):
    """Elements encoded once, by study, protocol and series, or by hand are those of the library, in its order."""
    _, _, files = written
    for file in files[::5]:
        again, fresh = io.BytesIO(), pydicom.Dataset()
        for element in file:  # encoded anew from its value, not copied
            value = element.value
            fresh.add(pydicom.DataElement(element.tag, element.VR, str(value) if element.VR == "PN" else value))
        made = pydicom.FileDataset(again, fresh, file_meta=file.file_meta, preamble=file.preamble)
        made.save_as(again, enforce_file_format=True)
        assert again.getvalue() == pathlib.Path(file.filename).read_bytes()


def test_every_frame_goes_back_to_its_place_by_geometry_and_time_alone(written):
    settings, visit, files = written
    built, who, _ = study.draw(settings, visit)
    frames = [frame for file in files for frame in _frames(file)]
    found = 0
    for series in study.series_of(settings, visit, built, who.vendor):
        for s, plane in enumerate(series.planes):
            orientation = np.concatenate([plane.row, plane.column])
            here = [
                f for f in frames
                if np.allclose(f[0], plane.origin, atol=1e-4) and np.allclose(f[1], orientation, atol=1e-5)
            ]  # fmt: skip
            here.sort(key=lambda f: f[2])
            found += len(here)
            np.testing.assert_array_equal(np.stack([f[3] for f in here]), series.frames[s])
    assert found == len(frames)


@pytest.mark.parametrize("vendor", dicom.VENDORS)
def test_classic_files_are_those_that_pydicom_would_write(vendor: str, tmp_path: pathlib.Path):
    settings = dataclasses.replace(SETTINGS, vendor=vendor)
    study.make(settings, study.visits(settings)[0], tmp_path)
    for path in tmp_path.rglob("*.dcm"):
        read, again = pydicom.dcmread(path), io.BytesIO()
        assert read.file_meta.MediaStorageSOPInstanceUID == read.SOPInstanceUID
        read.save_as(again)
        assert again.getvalue() == path.read_bytes()


@pytest.mark.parametrize("vendor", ["ge", "siemens"])
def test_noise_moves_nothing_but_pixels(vendor: str, monkeypatch):
    settings = dataclasses.replace(SETTINGS, vendor=vendor)
    visit = study.visits(settings)[0]
    built, who, _ = study.draw(settings, visit)
    noisy = study.series_of(settings, visit, built, who.vendor)
    monkeypatch.setattr(receiver, "stored", lambda rng, frames, level: frames.astype(np.uint16))
    quiet = study.series_of(settings, visit, built, who.vendor)
    for one, other in zip(noisy, quiet, strict=True):
        assert (one.description, one.interval_ms) == (other.description, other.interval_ms)
        np.testing.assert_array_equal(one.times_ms, other.times_ms)
        assert [plane.name for plane in one.planes] == [plane.name for plane in other.planes]
        assert not np.array_equal(one.frames, other.frames)


def test_file_order_is_not_frame_order(written):
    settings, _, files = written
    times = [f[2] for file in files for f in _frames(file) if f[2] > 0]
    assert times != sorted(times)
    if settings.enhanced:
        for file in files:
            assert file.NumberOfFrames < 6 or [f[2] for f in _frames(file)] != sorted(f[2] for f in _frames(file))


def test_vendors_keep_their_habits(written):
    settings, _, files = written
    if settings.enhanced:
        return
    by_series: dict[str, list[pydicom.Dataset]] = {}
    for file in files:
        by_series.setdefault(file.SeriesInstanceUID, []).append(file)
    slices = sorted(len({tuple(f.ImagePositionPatient) for f in group}) for group in by_series.values())
    cines = [file for file in files if "TriggerTime" in file]
    assert len(cines) == (3 + settings.slices) * settings.phases and len(files) == len(cines) + 3
    if settings.vendor == "siemens":
        assert slices == [1] * (3 + settings.slices) + [3]
    else:
        assert slices == sorted([1, 1, 1, 3, settings.slices])
    assert all(("NominalCardiacTriggerDelayTime" in f) == (settings.vendor == "ge") for f in cines)
    assert all(("TemporalPositionIndex" in f) == (settings.vendor == "philips") for f in cines)
    stack = max((g for g in by_series.values() if "TriggerTime" in g[0]), key=len)
    ordered = sorted(stack, key=lambda f: (f.SliceLocation, f.TriggerTime))
    numbers = [f.InstanceNumber for f in ordered]
    if settings.vendor == "philips":
        assert numbers != sorted(numbers) and [f.TemporalPositionIndex for f in ordered[:6]] == [1, 2, 3, 4, 5, 6]


def test_headers_and_names_do_not_tell_the_group(tmp_path: pathlib.Path):
    settings = study.Settings(studies=10, seed=1, phases=4, slices=3, matrix=32, patients_with_two_studies=0.0)
    words = [*truth.GROUPS, "dilat", "hypertr", "infarct", "ventric", "hcm", "anterior", "inferior", "lateral wall"]
    for visit in study.visits(settings):
        study.make(settings, visit, tmp_path)
    files = sorted(tmp_path.rglob("*.dcm"))
    assert len(files) == 10 * ((3 + 3) * 4 + 3)
    for path in files:
        header = str(pydicom.dcmread(path, stop_before_pixels=True)).lower() + str(path.relative_to(tmp_path))
        assert not [word for word in words if word in header]


def test_uids_are_valid_and_of_one_length():
    made = [dicom.uid("a", number) for number in range(500)]
    assert len(set(made)) == 500 and {len(value) for value in made} == {44}
    assert all(UID(value).is_valid for value in made)
    assert dicom.uid("a", 1) == dicom.uid("a", 1) != dicom.uid("a", 2)
