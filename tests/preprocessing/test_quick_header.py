"""The quick reader against pydicom: the same verdict and the same values, or no answer."""

import pathlib

import numpy as np
import pytest
from pydicom.dataset import Dataset
from pydicom.uid import ExplicitVRBigEndian, ImplicitVRLittleEndian

from preprocessing import quick_header, scan
from preprocessing.study import FileScan
from tests.preprocessing import mutants
from tests.preprocessing.tiny_dicom import coded, mr_dataset, save


def both(root: pathlib.Path, path: str) -> tuple[FileScan, FileScan]:
    quick = scan.scan_file(root, path)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(quick_header, "read", lambda file, keywords: None)
        return quick, scan.scan_file(root, path)


def answered(path: pathlib.Path) -> bool:
    with path.open("rb") as file:
        return quick_header.read(file, scan._KEYWORDS) is not None


def test_real_files_give_the_same(real_data):
    """By their text: a NaN is not equal to itself."""
    quick_ones = 0
    for root in (real_data / "sunnybrook" / "dicom", real_data / "odd_dicom" / "files"):
        paths = scan.list_files(root)
        for path in paths if len(paths) < 100 else paths[::4]:
            quick, slow = both(root, path)
            assert repr(quick) == repr(slow), path
            quick_ones += answered(root / path)
    assert quick_ones > 150  # it is of use


@pytest.mark.parametrize("change", mutants.BYTES)
def test_broken_files_give_the_same_or_a_reason(tmp_path, change):
    """A damaged header may be refused by the one and read by the other; values never differ."""
    base = mutants.bases(tmp_path, "1.2.3", [])
    for seed in range(60):
        rng = np.random.default_rng(seed)
        (tmp_path / "a.dcm").write_bytes(change(base[seed % len(base)], rng))
        quick, slow = both(tmp_path, "a.dcm")
        if not (quick.status and slow.status):
            assert repr(quick) == repr(slow), seed


def nested(depth: int) -> Dataset:
    data = mr_dataset(coded(0, 0))
    inner = Dataset()
    inner.StudyInstanceUID, inner.Rows = "9.9", 999  # of no concern out here
    for _ in range(depth):
        outer = Dataset()
        outer.RelatedSeriesSequence = [inner, Dataset()]
        inner = outer
    data.RelatedSeriesSequence = [inner]
    return data


@pytest.mark.parametrize("syntax", [None, ImplicitVRLittleEndian, ExplicitVRBigEndian])
@pytest.mark.parametrize("undefined", [True, False])
def test_sequences_are_stepped_over(tmp_path, syntax, undefined):
    data = nested(3)
    if syntax:
        data.file_meta.TransferSyntaxUID = syntax
    level = data
    while "RelatedSeriesSequence" in level:
        level["RelatedSeriesSequence"].is_undefined_length = undefined
        level = level.RelatedSeriesSequence[0]
        level.is_undefined_length_sequence_item = undefined
    if syntax == ExplicitVRBigEndian:
        data.PixelData = coded(0, 0).byteswap().tobytes()
    save(data, tmp_path / "a.dcm")
    quick, slow = both(tmp_path, "a.dcm")
    assert repr(quick) == repr(slow) and quick.study_uid == "1.2.3" and quick.frames[0].rows == 16
    assert answered(tmp_path / "a.dcm") == (syntax != ExplicitVRBigEndian)


def test_common_kinds_of_values_are_made_without_pydicom(tmp_path, monkeypatch):
    data = mr_dataset(coded(0, 0), NominalCardiacTriggerDelayTime=12.5, ImageType=["ORIGINAL", "PRIMARY", "M"])
    data.PerFrameFunctionalGroupsSequence = [Dataset()]  # as some vendors write it in classic images
    save(data, tmp_path / "a.dcm")
    quick, slow = both(tmp_path, "a.dcm")
    assert repr(quick) == repr(slow) and quick.frames[0].trigger_ms == 12.5
    monkeypatch.setattr(quick_header, "Dataset", lambda *_: pytest.fail("was left to pydicom"))
    assert scan.scan_file(tmp_path, "a.dcm").frames == quick.frames


@pytest.mark.parametrize("length", [100, 1 << 14, 1 << 17, 1 << 18])
def test_headers_longer_than_the_first_read_are_read_on(tmp_path, length):
    data = mr_dataset(coded(0, 0))
    data.add_new((0x0019, 0x0010), "LO", "A VENDOR")
    data.add_new((0x0019, 0x1001), "OB", bytes(length))
    save(data, tmp_path / "a.dcm")
    quick, slow = both(tmp_path, "a.dcm")
    assert repr(quick) == repr(slow) and not quick.status
    assert answered(tmp_path / "a.dcm") == (length < 1 << 18)


def test_what_is_out_of_the_ordinary_is_left_to_pydicom(tmp_path):
    path = tmp_path / "a.dcm"
    assert answered(save(mr_dataset(coded(0, 0)), path))
    assert not answered(save(mr_dataset(coded(0, 0), SpecificCharacterSet="ISO_IR 100", AccessionNumber="ä"), path))
    assert not answered(save(nested(20), path)) or not any_undefined(path)
    path.write_bytes(b"not DICOM at all")
    assert not answered(path)


def any_undefined(path: pathlib.Path) -> bool:
    return b"SQ\0\0\xff\xff\xff\xff" in path.read_bytes()


def test_elements_out_of_order_are_left_to_pydicom(tmp_path):
    """A walk that went on might take a wanted element out of a private block that only looks like a data set."""
    path = save(mr_dataset(coded(0, 0)), tmp_path / "a.dcm")
    data = path.read_bytes()
    rows, cols = (data.index(b"\x28\x00" + number + b"\x00US") for number in (b"\x10", b"\x11"))
    swapped = data[:rows] + data[cols : cols + 10] + data[rows : rows + 10] + data[cols + 10 :]
    twice = data[: cols + 10] + data[rows : cols + 10].replace(b"\x10\x00\x10\x00", b"\x10\x00\x11\x00")
    assert cols == rows + 10 and len(swapped) == len(data) and answered(path)
    for broken in (swapped, data[:cols] + data[rows : rows + 10] + data[cols:], twice + data[cols + 10 :]):
        path.write_bytes(broken)
        assert not answered(path)
        quick, slow = both(tmp_path, "a.dcm")
        assert repr(quick) == repr(slow)
