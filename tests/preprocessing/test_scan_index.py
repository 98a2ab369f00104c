"""The private index of headers: what it may be taken for, and what it must never do."""

import dataclasses
import os

import pytest

from cmr_jax.errors import InputError
from preprocessing import pipeline, scan, scan_index
from preprocessing.parallel import Workers
from preprocessing.study import Report
from tests.preprocessing.tiny_dicom import write_cine


@pytest.fixture
def scanned(tmp_path):
    root = tmp_path / "dicom"
    write_cine(root, slices=2, phases=2)
    (root / "notes.txt").write_text("no DICOM")
    paths = scan.list_files(root)
    scans = [scan.scan_file(root, path) for path in paths]
    scan_index.save(tmp_path / "index", scans)
    return root, paths, scans, tmp_path / "index"


def load(index, root, paths):
    """What the index knows and is still so, by path."""
    stored = scan_index.Index(index)
    known = scan_index.known(stored, root, paths)
    return {one.path: one for at, one in scan_index.among(stored, paths) if known[at]}


def same(one, other) -> bool:
    """Equal but for NaN, which is never equal to itself."""
    return repr(dataclasses.astuple(one)) == repr(dataclasses.astuple(other))


def test_what_is_stored_comes_back_as_it_was_and_for_its_owner_only(scanned):
    root, paths, scans, index = scanned
    found = load(index, root, paths)
    assert sorted(found) == [p for p in paths if p != "notes.txt"]  # rejected: tried again
    assert all(same(found[s.path], s) for s in scans if s.path in found)
    assert index.stat().st_mode & 0o777 == 0o600


def test_changed_and_missing_files_are_read_again(scanned):
    root, paths, _, index = scanned
    os.utime(root / paths[0], ns=(1, 1))
    (root / paths[1]).write_bytes((root / paths[1]).read_bytes() + b"x")
    (root / paths[2]).unlink()
    assert sorted(load(index, root, paths)) == [paths[3]]


def test_an_index_of_other_code_is_not_used(scanned, monkeypatch):
    root, paths, _, index = scanned
    monkeypatch.setattr(scan_index, "_layout", lambda: "another")
    assert load(index, root, paths) == {}
    assert load(index.with_name("none"), root, paths) == {}


class Evil:
    def __reduce__(self):
        return os.system, ("echo run",)


def test_no_code_that_a_file_names_is_run(scanned, capfd):
    root, paths, _, index = scanned
    index.write_bytes(scan_index._MAGIC + b"".join(map(scan_index._packed, (scan_index._layout(), [Evil()]))))
    with pytest.raises(InputError, match="damaged"):
        load(index, root, paths)
    assert "run" not in capfd.readouterr().out


@pytest.mark.parametrize("damage", ["cut", "flip", "other"])
def test_damage_is_said(scanned, damage):
    root, paths, _, index = scanned
    data = index.read_bytes()
    middle = len(data) // 2
    spoilt = {
        "cut": data[:middle],
        "flip": data[:middle] + bytes([data[middle] ^ 8]) + data[middle + 1 :],
        "other": b"x",
    }
    index.write_bytes(spoilt[damage])
    with pytest.raises(InputError, match="--scan_index"):
        load(index, root, paths)


def test_a_place_that_cannot_be_written_is_said(scanned, tmp_path):
    with pytest.raises(InputError, match="--scan_index cannot be written"):
        scan_index.save(tmp_path / "none" / "index", scanned[2])


def test_files_new_between_known_ones_come_in_their_order(scanned):
    """A run with an index, parts of which are of no use any more, plans just what a run without one does."""
    root, paths, _, index = scanned
    write_cine(root / "001.a", slices=1, phases=2)
    write_cine(root / "zz", slices=1, phases=1)
    os.utime(root / paths[2], ns=(1, 1))
    told = {"uid:1.2.3": Report("Normal.", "", ())}
    plain = pipeline.plan(root, told, Workers(0))
    for _ in range(2):  # the index of the first round is whole
        planned = pipeline.plan(root, told, Workers(0), index)
        assert repr([tuple(task.scans) for task in planned.tasks]) == repr([tuple(t.scans) for t in plain.tasks])
        assert list(planned.others) == list(plain.others) == [("notes.txt", "rejected", "not a DICOM file")]
    assert len(load(index, root, scan.list_files(root))) == len(paths) - 1 + 3
