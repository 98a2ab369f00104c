"""Header verdicts outside of memory: what went in comes out, in order, and no file with a name holds it."""

import pathlib
import pickle
import random
import tempfile
import tracemalloc

import pytest

from cmr_jax.errors import InputError
from preprocessing import process, scan, scan_store
from preprocessing.study import FileScan, Report
from tests.preprocessing.tiny_dicom import write_cine


def drawn(count: int, seed: int) -> list[tuple[scan_store.Key, FileScan]]:
    """Runs of one study, single files, and studies that come back later."""
    draw, out = random.Random(seed), []
    while len(out) < count:
        kind, uid = draw.choice([("study", f"1.2.{draw.randrange(9)}"), ("other", ""), ("report", "1.2.3")])
        for _ in range(draw.choice([1, 1, 2, 63, 64, 65, 200])):
            out.append(((kind, uid), FileScan(f"{len(out):06d}", len(out), 7, study_uid=uid)))
    return out


@pytest.mark.parametrize("seed", range(5))
def test_all_comes_back_by_key_and_in_order(seed):
    store, given = scan_store.ScanStore(), drawn(1500, seed)
    for number, (key, one) in enumerate(given):
        store.add(key, one)
        if number % 311 == 0:  # reading in between disturbs nothing
            assert [s.path for s in store.of(key)] == [s.path for k, s in given[: number + 1] if k == key]
    assert list(store) == [one for _, one in given]
    for key in {key for key, _ in given}:
        scans = store.scans(key)
        assert list(scans) == list(scans) == [one for k, one in given if k == key]
    assert sorted(store.names("study")) == sorted({uid for (kind, uid), _ in given if kind == "study"})
    assert store.names("none") == list(store.of(("study", "none"))) == []


def test_two_readers_at_once_do_not_disturb_each_other():
    store = scan_store.ScanStore()
    for number in range(400):
        store.add(("study", str(number % 2)), FileScan(f"{number:03d}", 1, 1))
    pairs = list(zip(store.of(("study", "0")), store.of(("study", "1")), strict=True))
    assert [int(b.path) - int(a.path) for a, b in pairs] == [1] * 200


def test_no_file_has_its_name(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    store = scan_store.ScanStore()
    store.add(("study", "1.2.3"), FileScan("MRN1", 1, 1, patient_id="MRN1"))
    assert [one.patient_id for one in store] == ["MRN1"] and not list(tmp_path.iterdir())


def test_a_full_or_missing_folder_is_said(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "none"))
    with pytest.raises(InputError, match="TMPDIR"):
        scan_store.ScanStore()
    monkeypatch.setattr(tempfile, "TemporaryFile", lambda: pathlib.Path("/dev/full").open("w+b", buffering=0))  # noqa: SIM115
    store = scan_store.ScanStore()
    store.add(("study", "1"), FileScan("a", 1, 1))
    with pytest.raises(InputError, match=r"temporary files cannot be written \(No space left"):
        list(store)


@pytest.mark.parametrize("files_a_study, most", [(100, 10), (1, 400)])
def test_memory_holds_a_few_bytes_a_file(tmp_path, files_a_study, most):
    write_cine(tmp_path, slices=1, phases=1)
    data = pickle.dumps(scan.scan_file(tmp_path, "001.dcm"))
    store = scan_store.ScanStore()
    tracemalloc.start()
    try:
        used, count = [], 3000
        for number in range(2 * count):
            store.add(("study", f"1.2.840.99.{number // files_a_study:030d}"), pickle.loads(data))
            if number % count == count - 1:
                assert store.names("study")  # the last block is out
                used.append(tracemalloc.get_traced_memory()[0])
        grown = used[1] - used[0]
    finally:
        tracemalloc.stop()
    print(f"{grown / count:.1f} bytes a file")
    assert grown / count < most


def test_a_worker_gets_the_scans_themselves():
    store = scan_store.ScanStore()
    for name in "ab":
        store.add(("study", "1.2"), FileScan(name, 1, 1, patient_id=name if name == "b" else ""))
    task = process.Task("1.2", store.scans(("study", "1.2")), Report("Normal.", "", ()))
    assert task.patient == "b"
    there = pickle.loads(pickle.dumps(task))
    assert there.scans == tuple(task.scans) and there.patient == "b" and there.report == task.report
