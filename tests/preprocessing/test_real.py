"""The Sunnybrook hearts and the odd files, as they are."""

import collections
import csv
import itertools
import pathlib
import re
import shutil
import subprocess
import sys

import numpy as np
import pytest

from cmr_jax.data import records, schema
from preprocessing import assemble, pixels, scan, views
from tests.preprocessing.tiny_dicom import PROJECT


def run(dicom: pathlib.Path, real_data: pathlib.Path, out: pathlib.Path, key: pathlib.Path) -> str:
    arguments = [f"--dicom_dir={dicom}", f"--reports={real_data / 'sunnybrook' / 'reports.csv'}", f"--out={out}"]
    arguments += [f"--key_file={key}", "--label_columns=diagnosis"]
    command = [sys.executable, "-m", "preprocessing.run", *arguments]
    done = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return done.stdout + done.stderr


@pytest.fixture(scope="module")
def published(real_data, tmp_path_factory) -> pathlib.Path:
    """Sunnybrook and the odd files in one tree; the key lies beside."""
    root = tmp_path_factory.mktemp("real")
    (root / "key").write_text("0123456789abcdef0123456789abcdef")
    (root / "tree").mkdir()
    (root / "tree" / "sunnybrook").symlink_to(real_data / "sunnybrook" / "dicom")
    shutil.copytree(real_data / "odd_dicom" / "files", root / "tree" / "odd")
    log = run(root / "tree", real_data, root / "out", root / "key")
    assert "SC-" not in log and "SCD0" not in log
    return root / "out"


def test_every_file_is_accounted_for(published):
    counts = records.load_manifest(published)["counts"]
    assert counts["files_seen"] == 568 + 56
    assert counts["files_used"] + counts["files_ignored"] + counts["files_rejected"] == counts["files_seen"]
    assert counts["studies"] == counts["patients"] == 22
    assert counts["files_used"] == 568 - 26  # 24 repeated scouts, two slices of which one phase exists
    with (published / "files.csv").open(newline="") as file:
        reasons = collections.Counter((row["status"], row["reason"]) for row in csv.DictReader(file))
    assert reasons["rejected", "not a DICOM file"] == 5
    assert reasons["rejected", "pixel data cut short"] == 1
    assert all(reason for (status, reason) in reasons if status != "used")


def test_neither_diagnosis_nor_identifier_leaves(published, real_data):
    secrets = {"SC-HF", "SC-HYP", "SC-N-", "SCD000", "SIGNA", "2.16.124"}
    for path in published.rglob("*"):
        if path.is_file():
            data = path.read_bytes()
            found = [s for s in secrets if s.encode() in data or s.encode("utf-16-le") in data]
            assert not found, path.name


def test_verify_agrees(published):
    command = [sys.executable, "-m", "preprocessing.verify", f"--data={published}"]
    done = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr


def whole_stack(real_data: pathlib.Path, patient: str):
    root = real_data / "sunnybrook" / "dicom" / patient
    scans = [scan.scan_file(root, path) for path in scan.list_files(root)]
    series, _ = assemble.assemble(frame for one in scans for frame in one.frames)
    views.label(series)
    (cine,) = [one for one in series if one.view == "cine_sax"]
    return root, {one.path: one for one in scans}, cine


def test_the_whole_stack_is_in_the_order_of_the_heart(real_data):
    """By the experts' contours: the cavity, summed over slices, is largest at phase 18, and it tapers to the apex."""
    _, _, cine = whole_stack(real_data, "SCD0000101")
    assert (cine.slices, cine.phases) == (12, 20)
    np.testing.assert_allclose(np.diff(cine.slice_position_mm), 10, atol=0.01)
    numbers = [[int(f.time("InstanceNumber")) for f in one_slice] for one_slice in cine.frames]
    assert sorted(itertools.chain(*numbers)) == list(range(1, 241))
    assert all(row == list(range(row[0], row[0] + 20)) for row in numbers)
    place = {number: (s, t) for s, row in enumerate(numbers) for t, number in enumerate(row)}
    area = np.zeros((12, 20))
    for path in (real_data / "sunnybrook" / "contours" / "SC-HF-I-1" / "i-contours").glob("*.txt"):
        x, y = np.loadtxt(path).T
        number = re.search(r"IM-0001-(\d+)-", path.name)
        assert number
        area[place[int(number[1])]] += abs(x @ np.roll(y, 1) - y @ np.roll(x, 1)) / 2 * 1.367188**2
    phases = np.flatnonzero(area.sum(0))
    assert len(phases) == 2 and area.sum(0).argmax() == 18
    assert area.sum(0)[18] * 10 / 1000 == pytest.approx(191, abs=5)  # millilitres at end-diastole
    contoured = np.flatnonzero(area[:, 18])
    assert contoured.tolist() == list(range(2, 11))  # base: none above the valve; apex: none below
    assert area[10, 18] == area[contoured, 18].min()


@pytest.mark.parametrize("patient", ["SCD0000101", "SCD0000201", "SCD0000301"])
def test_hearts_are_upright(real_data, patient):
    """The right ventricle lies left of the left one: the expert's cavity is right of the bright blood beside it. Here
    by geometry: right is the patient's left, down the feet, whatever the grid (SCD0000101 is stored by 90 degrees)."""
    root, scans, cine = whole_stack(real_data, patient)
    right, down = assemble.turned(cine.first, cine.orientation)
    assert right @ (1, 1, 0) > 0.9 and down @ (0, 0, -1) > 0.8
    assert cine.orientation[0] == (patient == "SCD0000101")
    frame = cine.frames[cine.slices // 2][0]
    values = pixels.read(root, scans[frame.file])
    image = pixels.render(values, cine, image_size=128, spacing_mm=1.5)[1][0]
    lung, liver = image[20:50, 90:].mean(), image[90:, 30:70].mean()
    assert lung < liver  # lung at the upper right, liver at the lower left


def test_the_records_hold_real_pixels(published):
    splits = [records.Split(published, name) for name in schema.SPLITS]
    found = [split[row] for split in splits for row in range(len(split))]
    assert len(found) == 22
    cines = [series for example in found for series in schema.split_series(example) if series.shape[1] == 20]
    assert sorted(series.shape[0] for series in cines) == [4, 4, 12]
    for series in cines:
        assert 20 < series.mean() < 120 and series.std() > 20
        motion = np.abs(np.diff(series.astype(int), axis=1)).mean(axis=(0, 2, 3))
        assert motion.max() < 15  # neighbours in time look alike
