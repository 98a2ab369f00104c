"""What stored values mean, from file to record: row 7 of docs/faults.md, and maps in their units."""

import pathlib
from typing import Any

import numpy as np
import pytest
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence as Items
from pydicom.uid import EnhancedMRImageStorage, SecondaryCaptureImageStorage

from cmr_jax.data import schema
from preprocessing import process, scan
from preprocessing.study import Report
from tests.preprocessing.layouts import _item
from tests.preprocessing.tiny_dicom import mr_dataset, save

P = 6
RAMP_PHW = (np.arange(256).reshape(1, 16, 16) * 3 // 4 + np.arange(P)[:, None, None]).astype(np.uint16)  # 0 to 196
CINE = {"SeriesDescription": "cine SAX"}
T1 = {"SeriesDescription": "MOLLI T1 map SAX", "ImageType": ["DERIVED", "PRIMARY", "T1 MAP"]}


def files(folder: pathlib.Path, stored_PHW: np.ndarray, **attributes: Any) -> pathlib.Path:
    for p, image in enumerate(stored_PHW):
        save(mr_dataset(image.copy(), TriggerTime=40.0 * p, InstanceNumber=p + 1, **attributes), folder / f"{p}")
    return folder


def result_of(folder: pathlib.Path, bits: int = 16) -> process.Result:
    scans = tuple(scan.scan_file(folder, path) for path in scan.list_files(folder))
    assert {one.status for one in scans} == {""}
    settings = process.Settings(root=folder, work_dir=folder, key=b"0" * 32, image_size=16, spacing_mm=1.5, bits=bits)
    return process.build(settings, process.Task("1.2.3", scans, Report("Normal.", "", ())))


def frames_of(folder: pathlib.Path, bits: int = 16) -> np.ndarray:
    """The frames of the record in the meaning that it states."""
    example = result_of(folder, bits).example
    assert example is not None
    assert example["series/unit"] == [schema.MAPS[v].unit if v in schema.MAPS else "" for v in example["series/view"]]
    return example["series/offset"][0] + example["series/scale"][0] * example["frames"].astype(np.float64)


GREY = {
    "8 bit": (RAMP_PHW.astype(np.uint8), {}),
    "12 bit": (RAMP_PHW * 16, {"BitsStored": 12, "HighBit": 11}),
    "12 bit below an overlay": (RAMP_PHW * 16 | 0x8000, {"BitsStored": 12, "HighBit": 11}),
    "16 bit": (RAMP_PHW * 300, {}),
    "signed": (RAMP_PHW.astype(np.int16) * 100 - 9000, {}),
    "MONOCHROME1": (
        4095 - RAMP_PHW * 16,
        {"BitsStored": 12, "HighBit": 11, "PhotometricInterpretation": "MONOCHROME1"},
    ),
    "MONOCHROME1 signed": (
        (9000 - RAMP_PHW.astype(np.int16) * 100).astype(np.int16),
        {"PhotometricInterpretation": "MONOCHROME1"},
    ),
}


@pytest.mark.parametrize("case", GREY)
def test_the_same_picture_gives_the_same_record_however_it_is_stored(case, tmp_path):
    stored, attributes = GREY[case]
    want = frames_of(files(tmp_path / "plain", RAMP_PHW, **CINE))
    got = frames_of(files(tmp_path / "other", stored, **CINE, **attributes))
    assert np.ptp(want) == pytest.approx(1)
    np.testing.assert_allclose(got, want, atol=1e-4)


def enhanced(folder: pathlib.Path, stored_PHW: np.ndarray, transforms: list[Dataset], name: str, **attributes: Any):
    """One Enhanced file of one slice, with the given item in each frame's functional groups under `name`."""
    data = mr_dataset(stored_PHW[0].copy(), **attributes)
    data.SOPClassUID = data.file_meta.MediaStorageSOPClassUID = EnhancedMRImageStorage
    data.NumberOfFrames, data.PixelData = len(stored_PHW), stored_PHW.tobytes()
    groups = []
    for p, transform in enumerate(transforms):
        group = Dataset()
        group.FrameContentSequence = Items([_item(TemporalPositionIndex=p + 1)])
        setattr(group, name, Items([transform]))
        groups.append(group)
    data.PerFrameFunctionalGroupsSequence = Items(groups)
    save(data, folder / "e")
    return folder


def test_a_cine_whose_frames_are_scaled_each_by_itself(tmp_path):
    slopes = [1, 2, 4, 1, 2, 4]
    stored = np.stack([(image * 8 // slope).astype(np.uint16) for image, slope in zip(RAMP_PHW, slopes, strict=True)])
    rescale = [_item(RescaleSlope=s, RescaleIntercept=0, RescaleType="US") for s in slopes]
    folder = enhanced(tmp_path / "e", stored, rescale, "PixelValueTransformationSequence", **CINE)
    want = frames_of(files(tmp_path / "plain", RAMP_PHW * 8, **CINE))
    np.testing.assert_allclose(frames_of(folder), want, atol=4 / 1500)


def turned_alike(got: np.ndarray, want: np.ndarray) -> None:
    """Equal but for the turn, which test_views checks."""
    np.testing.assert_allclose(np.sort(got, axis=None), np.sort(want, axis=None), atol=0.051)


@pytest.mark.parametrize("mapping", ["rescale", "real world", "real world in seconds"])
def test_a_map_is_stored_in_milliseconds_by_each_frame_s_own_scale(mapping, tmp_path):
    """Three slices of a T1 map; the rescale beside a real-world mapping is for display and must not be used."""
    stored, want = RAMP_PHW[:3], []
    for s, (image, slope, offset) in enumerate(zip(stored, (8, 10, 12), (0, 40, -96), strict=True)):
        attributes: dict[str, Any] = {"RescaleSlope": slope, "RescaleIntercept": offset, "RescaleType": "ms"}
        if mapping != "rescale":
            per = 1000 if mapping.endswith("seconds") else 1
            code = _item(CodeValue="s" if per == 1000 else "ms", CodingSchemeDesignator="UCUM", CodeMeaning="time")
            real = _item(RealWorldValueSlope=slope / per, RealWorldValueIntercept=offset / per)
            real.MeasurementUnitsCodeSequence = Items([code])
            attributes = {"RealWorldValueMappingSequence": Items([real]), "RescaleSlope": 77, "RescaleIntercept": 5}
        save(mr_dataset(image, place=-10.0 * s, **T1, **attributes), tmp_path / f"{s}")
        want.append(np.maximum(image * float(slope) + offset, 0))
    turned_alike(frames_of(tmp_path), np.stack(want))


def test_an_inverted_map_keeps_its_milliseconds(tmp_path):
    attributes = {"PhotometricInterpretation": "MONOCHROME1", "RescaleSlope": 10, "RescaleIntercept": 100}
    turned_alike(frames_of(files(tmp_path, RAMP_PHW[:1], **T1, **attributes)), RAMP_PHW[:1] * 10.0 + 100)


@pytest.mark.parametrize(
    ("what", "reason"),
    [
        ({"SamplesPerPixel": 3, "PhotometricInterpretation": "RGB", "PlanarConfiguration": 0}, "colour image"),
        ({"SOPClassUID": SecondaryCaptureImageStorage}, "not MR"),
        ({"BurnedInAnnotation": "YES"}, "burned-in annotation"),
    ],
)
def test_pictures_that_may_carry_text_are_left_out_and_said(what, reason, tmp_path):
    save(mr_dataset(RAMP_PHW[0], **CINE, **what), tmp_path / "a")
    verdict = scan.scan_file(tmp_path, "a")
    assert (verdict.status, verdict.reason) == ("ignored", reason)


@pytest.mark.parametrize("view", schema.MAPS)
def test_eight_bits_keep_maps_to_half_a_step_and_count_what_is_beyond(view, tmp_path):
    step = schema.MAPS[view].steps[8]
    names = {"t1_map": "MOLLI T1 map", "t2_map": "T2 map", "ecv_map": "ECV map"}
    values = RAMP_PHW[:1] * np.uint16(2)  # 0 to 382 half steps of which some are beyond 255 steps
    attributes = {"SeriesDescription": names[view], "RescaleSlope": step, "RescaleIntercept": 0}
    result = result_of(files(tmp_path, values, **attributes), bits=8)
    assert result.example is not None
    assert (result.example["series/view"], result.example["series/unit"]) == ([view], [schema.MAPS[view].unit])
    turned_alike(result.example["frames"], np.minimum(values, 255))
    assert result.example["series/scale"].tolist() == pytest.approx([step])
    beyond = int((values > 255).sum())
    assert result.series[0]["reason"].startswith(f"{beyond} pixels above {255 * step:g} ")


def test_an_extracellular_volume_given_as_a_fraction_becomes_per_cent(tmp_path):
    attributes = {"SeriesDescription": "ECV map", "RescaleSlope": 0.002, "RescaleIntercept": 0}
    turned_alike(frames_of(files(tmp_path, RAMP_PHW[:1], **attributes)), RAMP_PHW[:1] * 0.2)


def test_both_depths_of_a_record_show_the_model_the_same(tmp_path):
    for name, attributes in (("cine", CINE), ("map", {**T1, "RescaleSlope": 10, "RescaleIntercept": 0})):
        folder = files(tmp_path / name, RAMP_PHW[: 1 if name == "map" else P], **attributes)
        shallow, deep = (result_of(folder, bits).example for bits in (8, 16))
        assert shallow is not None and deep is not None
        shown = schema.eight_bits(deep["frames"], deep["series/view"][0])
        assert shown.dtype == np.uint8 and shown.max() > 180
        np.testing.assert_allclose(shown.astype(int), shallow["frames"].astype(int), atol=1)
