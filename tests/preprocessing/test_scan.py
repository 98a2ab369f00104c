import os
import pathlib
import shutil

import numpy as np
import pydicom
import pytest
from pydicom.dataset import Dataset
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    EnhancedMRImageStorage,
    ImplicitVRLittleEndian,
    RLELossless,
    SecondaryCaptureImageStorage,
)

from preprocessing import pixels, scan
from preprocessing.study import TIME_KEYS
from tests.preprocessing.tiny_dicom import SAX, coded, mr_dataset, save


def scan_one(folder: pathlib.Path, data: Dataset, name: str = "a.dcm"):
    save(data, folder / name)
    return scan.scan_file(folder, name)


def test_a_classic_image_becomes_a_candidate(tmp_path):
    one = scan_one(tmp_path, mr_dataset(coded(2, 3), place=7.0, TriggerTime=12.5, InstanceNumber=4, PatientSex="F"))
    assert (one.status, one.study_uid, one.vendor, one.sex) == ("", "1.2.3", "ge", "F")
    (frame,) = one.frames
    assert (frame.rows, frame.cols, frame.spacing) == (16, 16, (1.5, 1.5))
    assert frame.time("TriggerTime") == frame.trigger_ms == 12.5
    assert frame.time("InstanceNumber") == 4
    assert np.isnan(frame.time("TemporalPositionIndex"))


@pytest.mark.parametrize("syntax", [None, ImplicitVRLittleEndian])
def test_the_short_way_to_the_pixels_gives_what_pydicom_gives(tmp_path, syntax):
    data = mr_dataset(np.arange(16 * 12, dtype=np.int16).reshape(16, 12) - 50)
    if syntax:
        data.file_meta.TransferSyntaxUID = syntax
    one = scan_one(tmp_path, data)
    assert one.layout is not None
    expected = pydicom.dcmread(tmp_path / "a.dcm").pixel_array
    np.testing.assert_array_equal(pixels.read(tmp_path, one)[0], expected)


def test_compressed_pixels_go_to_the_decoder(tmp_path):
    data = mr_dataset(coded(1, 2))
    data.compress(RLELossless, generate_instance_uid=False)
    one = scan_one(tmp_path, data)
    assert one.layout is not None and one.layout.syntax == RLELossless
    np.testing.assert_array_equal(pixels.read(tmp_path, one)[0], coded(1, 2))


def test_a_corrupt_compressed_frame_is_undecodable_and_nothing_worse(tmp_path):
    data = mr_dataset(coded(1, 2))
    data.compress(RLELossless, generate_instance_uid=False)
    data.PixelData = data.PixelData[:20] + bytes(len(data.PixelData) - 20)
    one = scan_one(tmp_path, data)
    with pytest.raises(pixels.Undecodable), scan.quiet_pydicom():
        pixels.read(tmp_path, one)


def enhanced(count: int) -> Dataset:
    data = mr_dataset(np.concatenate([coded(0, p) for p in range(count)]), SOPClassUID=EnhancedMRImageStorage)
    data.Rows, data.NumberOfFrames = 16, count
    data.ImagePositionPatient, data.PixelSpacing = [7, 7, 7], [7, 7]  # the groups stand over these
    del data.ImageOrientationPatient
    measures, plane, position = Dataset(), Dataset(), Dataset()
    measures.PixelSpacing, plane.ImageOrientationPatient, position.ImagePositionPatient = (
        [1.2, 1.3],
        list(SAX),
        [9, 9, 9],
    )
    shared = Dataset()
    shared.PixelMeasuresSequence, shared.PlaneOrientationSequence = [measures], [plane]
    shared.PlanePositionSequence = [position]
    data.SharedFunctionalGroupsSequence = [shared]
    each = []
    for index in range(count):
        group, cardiac, own = Dataset(), Dataset(), Dataset()
        cardiac.NominalCardiacTriggerDelayTime = float(100 * (count - index))
        group.CardiacSynchronizationSequence = [cardiac]
        if index:
            own.ImagePositionPatient = [0, 0, index]
            group.PlanePositionSequence = [own]
        each.append(group)
    data.PerFrameFunctionalGroupsSequence = each
    return data


def test_enhanced_frames_take_shared_groups_overridden_by_their_own(tmp_path):
    one = scan_one(tmp_path, enhanced(3))
    assert [f.position for f in one.frames] == [(9, 9, 9), (0, 0, 1), (0, 0, 2)]
    assert [f.trigger_ms for f in one.frames] == [300, 200, 100]
    assert {f.spacing for f in one.frames} == {(1.2, 1.3)}
    np.testing.assert_array_equal(pixels.read(tmp_path, one)[2], coded(0, 2))


def test_an_empty_functional_group_in_a_classic_image_is_harmless(tmp_path):
    data = mr_dataset(coded(0, 0))
    data.PerFrameFunctionalGroupsSequence = [Dataset()]
    assert scan_one(tmp_path, data).status == ""


@pytest.mark.parametrize(
    ("attributes", "status", "reason"),
    [
        ({"SOPClassUID": SecondaryCaptureImageStorage}, "ignored", "not MR"),
        ({"BurnedInAnnotation": "YES"}, "ignored", "burned-in annotation"),
        ({"ImageType": ["ORIGINAL", "PRIMARY", "M", "MOSAIC"]}, "ignored", "mosaic"),
        ({"SamplesPerPixel": 3}, "ignored", "colour image"),
        ({"PhotometricInterpretation": "PALETTE COLOR"}, "ignored", "not greyscale"),
        ({"StudyInstanceUID": ""}, "rejected", "no StudyInstanceUID"),
        ({"PixelSpacing": [0, 0]}, "rejected", "no usable geometry"),
        ({"ImageOrientationPatient": [1, 0, 0, 1, 0, 0]}, "rejected", "no usable geometry"),
        ({"ImagePositionPatient": None}, "rejected", "no usable geometry"),
        ({"Rows": 60000, "Columns": 60000}, "rejected", "implausible image size"),
        ({"Rows": 17}, "rejected", "pixel data cut short"),
        ({"BitsAllocated": 12}, "rejected", "no usable image size or pixel format"),
        ({"PhotometricInterpretation": ""}, "rejected", "no usable image size or pixel format"),
    ],
)
def test_what_is_kept_out_has_its_reason(tmp_path, attributes, status, reason):
    one = scan_one(tmp_path, mr_dataset(coded(0, 0), **attributes))
    assert (one.status, one.reason) == (status, reason)


def test_numbers_that_are_none_count_as_absent(tmp_path):
    data = mr_dataset(coded(0, 0))
    data.TriggerTime = "77777"
    path = save(data, tmp_path / "a.dcm")
    path.write_bytes(path.read_bytes().replace(b"77777", b"1e400"))
    one = scan.scan_file(tmp_path, "a.dcm")
    assert one.status == ""
    assert np.isnan(one.frames[0].time("TriggerTime"))


def test_junk_is_rejected_and_never_raises(tmp_path):
    (tmp_path / "empty").touch()
    (tmp_path / "text.txt").write_text("hello")
    (tmp_path / "DICOMDIR").write_text("hello")
    whole = save(mr_dataset(coded(0, 0)), tmp_path / "whole.dcm").read_bytes()
    (tmp_path / "cut.dcm").write_bytes(whole[:-10])
    (tmp_path / "cut_in_header.dcm").write_bytes(whole[:500])
    (tmp_path / "cut_before_pixels.dcm").write_bytes(whole[: whole.index(b"\xe0\x7f\x10\x00")])
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "dangling").symlink_to(tmp_path / "nowhere")
    verdicts = {p: scan.scan_file(tmp_path, p) for p in scan.list_files(tmp_path)}
    assert {p: v.reason for p, v in verdicts.items() if v.status} == {
        "empty": "empty file",
        "text.txt": "not a DICOM file",
        "DICOMDIR": "DICOMDIR",
        "cut.dcm": "pixel data cut short",
        "cut_before_pixels.dcm": "no pixel data",
        "cut_in_header.dcm": "no pixel data",
        "pipe": "not a regular file",
        "dangling": "unreadable",
    }


@pytest.mark.parametrize("seed", range(8))
def test_a_header_with_random_bytes_never_raises(tmp_path, seed):
    data = bytearray(save(mr_dataset(coded(0, 0)), tmp_path / "a.dcm").read_bytes())
    rng = np.random.default_rng(seed)
    for at in rng.integers(128, 900, 25):
        data[at] = rng.integers(256)
    (tmp_path / "a.dcm").write_bytes(data)
    assert scan.scan_file(tmp_path, "a.dcm").status in ("", "ignored", "rejected")


@pytest.mark.parametrize("limit", [1 << 12, 1 << 28])
def test_a_deflate_bomb_is_refused_before_it_grows(tmp_path, monkeypatch, limit):
    monkeypatch.setattr(scan, "_MAX_INFLATED_BYTES", limit)
    data = mr_dataset(np.zeros((64, 64), np.uint16))
    data.file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian
    one = scan_one(tmp_path, data)
    if limit < 64 * 64 * 2:
        assert (one.status, one.reason) == ("rejected", "deflated data grows beyond the limit")
    else:
        assert one.status == ""
        with scan.quiet_pydicom():
            np.testing.assert_array_equal(pixels.read(tmp_path, one), np.zeros((1, 64, 64)))


def test_sequences_nested_without_end_are_rejected(tmp_path):
    path = save(mr_dataset(coded(0, 0)), tmp_path / "a.dcm")
    item = b"\xfe\xff\x00\xe0\xff\xff\xff\xff"
    sequence = b"\x00\x52\x29\x92SQ\x00\x00\xff\xff\xff\xff"
    raw = path.read_bytes()
    at = raw.index(b"\xe0\x7f\x10\x00")
    path.write_bytes(raw[:at] + (sequence + item) * 3000 + raw[at:])
    assert scan.scan_file(tmp_path, "a.dcm").status == "rejected"


def test_links_are_followed_once_and_loops_end(tmp_path):
    save(mr_dataset(coded(0, 0)), tmp_path / "real" / "a.dcm")
    (tmp_path / "real" / "up").symlink_to(tmp_path)
    (tmp_path / "file_link.dcm").symlink_to(tmp_path / "real" / "a.dcm")
    assert scan.list_files(tmp_path) == ["file_link.dcm", "real/a.dcm"]


def test_a_path_too_long_to_open_is_one_unreadable_file(tmp_path, monkeypatch):
    save(mr_dataset(coded(0, 0)), tmp_path / "a.dcm")
    monkeypatch.chdir(tmp_path)
    for _ in range(20):  # each step is legal, the whole is not
        os.mkdir("d" * 250)  # noqa: PTH102
        os.chdir("d" * 250)
    pathlib.Path("b.dcm").touch()
    monkeypatch.chdir(tmp_path)
    found = scan.list_files(tmp_path)
    assert len(found) == 2 and found[0] == "a.dcm"
    assert (one := scan.scan_file(tmp_path, found[1])).status == "rejected" and one.reason == "unreadable"
    shutil.rmtree(tmp_path / ("d" * 250))  # pytest would trip over it


def test_every_time_key_is_read(tmp_path):
    data = mr_dataset(coded(0, 0), TriggerTime=1, InstanceNumber=2, AcquisitionTime="010203.5")
    data.TemporalPositionIdentifier, data.NominalPercentageOfCardiacPhase = 3, 4.0
    data.NominalCardiacTriggerDelayTime = 5.0
    (frame,) = scan_one(tmp_path, data).frames
    assert dict(zip(TIME_KEYS, frame.times, strict=True)) == {
        "TemporalPositionIndex": 3,
        "NominalCardiacTriggerDelayTime": 5,
        "TriggerTime": 1,
        "NominalPercentageOfCardiacPhase": 4,
        "AcquisitionTime": 3723.5,
        "InstanceNumber": 2,
    }
