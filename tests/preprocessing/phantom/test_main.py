"""The command: the same files for any number of workers, and one clear line for a user's mistake."""

import csv
import hashlib
import pathlib
import subprocess
import sys

import pytest

from preprocessing.phantom import study
from preprocessing.phantom.__main__ import generate

SMALL = ("--slices=3", "--phases=4", "--matrix=32")


def _run(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "preprocessing.phantom", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)


def _digest(folder: pathlib.Path) -> dict[str, str]:
    files = sorted(p for p in folder.rglob("*") if p.is_file())
    return {str(p.relative_to(folder)): hashlib.sha256(p.read_bytes()).hexdigest() for p in files}


def _rows(path: pathlib.Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_same_files_for_one_and_two_workers(tmp_path: pathlib.Path):
    two = _run(f"--out={tmp_path / 'two'}", "--studies=6", "--seed=4", "--num_workers=2", *SMALL)
    assert two.returncode == 0, two.stderr
    assert "6 studies in" in two.stdout
    generate(tmp_path / "one", study.Settings(studies=6, seed=4, slices=3, phases=4, matrix=32))
    generate(tmp_path / "other", study.Settings(studies=6, seed=5, slices=3, phases=4, matrix=32))
    one = _digest(tmp_path / "one")
    assert len(one) == 6 * (6 * 4 + 3) + 2
    assert one == _digest(tmp_path / "two")
    assert not set(one.values()) & set(_digest(tmp_path / "other").values())

    reports, truth = _rows(tmp_path / "one" / "reports.csv"), _rows(tmp_path / "one" / "truth.csv")
    assert list(reports[0]) == ["study_uid", "patient_id", "report", "group"]
    assert [r["study_uid"] for r in reports] == [t["study_uid"] for t in truth]
    columns = "study_uid patient_id group severity lvef edv_ml esv_ml wall_mm mass_g rv_edv_ml rv_ef territory sex age"
    assert set(columns.split()) <= set(truth[0])
    for row in truth:
        by_volume = 100 * (1 - float(row["esv_ml"]) / float(row["edv_ml"]))
        assert float(row["lvef"]) == pytest.approx(by_volume, abs=0.01)


def test_a_larger_set_begins_with_the_smaller_one(tmp_path: pathlib.Path):
    for name, studies in (("few", 2), ("more", 4)):
        generate(tmp_path / name, study.Settings(studies=studies, seed=4, slices=3, phases=4, matrix=32))
    few, more = _digest(tmp_path / "few"), _digest(tmp_path / "more")
    pictures = {name: value for name, value in few.items() if name.endswith(".dcm")}
    assert pictures and pictures.items() <= more.items()


def test_part_of_the_patients_comes_back():
    for part in (0.0, 0.25, 1.0):
        seen = study.visits(study.Settings(studies=1000, patients_with_two_studies=part))
        patients = {visit.patient for visit in seen}
        again = {visit.patient for visit in seen if visit.visit == 1}
        assert len(seen) == 1000
        assert len(again) / len(patients) == pytest.approx(part, abs=0.05)
        groups = [visit.group for visit in seen if visit.visit == 0]
        assert max(map(groups.count, set(groups))) - min(map(groups.count, set(groups))) <= 1


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ((), "--out and --studies"),
        (("--out={out}",), "--out and --studies"),
        (("--out={out}", "--studies=0"), "studies"),
        (("--out={out}", "--studies=many"), "studies"),
        (("--out={out}", "--studies=2", "--vendor=acme"), "vendor"),
        (("--out={out}", "--studies=2", "--patients_with_two_studies=1.5"), "patients_with_two_studies"),
        (("--out={out}", "--studies=2", "--matrx=64"), "matrx"),
        (("--out={out}", "--studies=2", "--without=scanner"), "--without goes with --variety sketch"),
        (("--out={full}", "--studies=2"), "not empty"),
        (("--out={full}/file", "--studies=2"), "is a file"),
        (("--out={full}/file/below", "--studies=2"), "--out"),
    ],
)
def test_mistakes_end_in_one_line_and_exit_2(tmp_path: pathlib.Path, arguments: tuple[str, ...], says: str):
    full = tmp_path / "full"
    full.mkdir()
    (full / "file").write_text("here before")
    out = tmp_path / "out"
    done = _run(*(a.format(out=out, full=full) for a in arguments))
    assert done.returncode == 2
    lines = done.stderr.strip().splitlines()
    assert len(lines) == 1 and says in lines[0], done.stderr
    assert not out.exists() and [p.name for p in full.iterdir()] == ["file"]
