"""Small files in the layout of each public benchmark become records with its official split and labels."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cmr_jax.data import records, schema
from cmr_jax.errors import InputError
from preprocessing import check, public, write
from preprocessing.public import layouts, make, nifti, plan
from tests.preprocessing.public import layouts as written

_VOXEL_ML = 1.5 * 1.5 * 10 / 1000
_LV = {"lv_edv_ml": f"{100 * _VOXEL_ML:.1f}", "lv_esv_ml": f"{40 * _VOXEL_ML:.1f}", "lvef_percent": "60.0"}

# Of each benchmark and study, in the order of the cases: split, labels, what the record says of the study, views.
EXPECTED: dict[str, list[tuple[str, dict[str, str], dict[str, str], list[str]]]] = {
    "acdc": [
        ("train", {"group": "DCM", **_LV}, {}, ["cine_sax"]),
        ("train", {"group": "NOR", **_LV}, {}, ["cine_sax"]),
        ("test", {"group": "HCM", **_LV}, {}, ["cine_sax"]),
    ],
    "mnms": [
        ("train", {"group": "HCM", "centre": "1", **_LV}, {"sex": "F", "age": "51", "vendor": "siemens"}, ["cine_sax"]),
        ("train", {"group": "NOR", "centre": "4", "lvef_percent": ""}, {"sex": "M", "vendor": "ge"}, ["cine_sax"]),
        ("val", {"group": "DCM", "centre": "2", **_LV}, {"vendor": "philips"}, ["cine_sax"]),
        ("test", {"group": "NOR", "centre": "5", **_LV}, {"vendor": "canon", "age": "90"}, ["cine_sax"]),
    ],
    "mnms2": [
        ("train", {"group": "NOR", "field_strength_t": "1.5", **_LV}, {"vendor": "siemens"}, ["cine_sax", "cine_4ch"]),
        ("val", {"group": "TRI", "scanner": "SignaExcite", **_LV}, {"vendor": "ge"}, ["cine_sax", "cine_4ch"]),
        ("test", {"group": "LV", "field_strength_t": "3.0"}, {"vendor": "philips"}, ["cine_sax", "cine_4ch"]),
    ],
    "emidec": [
        ("test", {"pathological": "", "lvef_echo_percent": "60"}, {"sex": "M", "age": "70"}, ["lge_sax"]),
        ("train", {"pathological": "no", "lvef_echo_percent": "60"}, {"sex": "F"}, ["lge_sax"]),
        ("train", {"pathological": "yes"}, {"sex": "M"}, ["lge_sax"]),
    ],
    "kaggle": [
        ("train", {"lv_esv_ml": "108.3", "lv_edv_ml": "246.7", "lvef_percent": "56.1"}, {"sex": "F", "age": "59"}, []),
        ("val", {"lvef_percent": "50.0"}, {}, []),
        ("test", {"lv_esv_ml": "30.0", "lv_edv_ml": "90.0", "lvef_percent": "66.7"}, {}, ["cine_sax", "cine_4ch"]),
    ],
    "sunnybrook": [
        ("train", {"group": "HF-I"}, {"sex": "M", "age": "53"}, ["cine_sax"]),
        ("val", {"group": "HF-I"}, {}, ["cine_sax"]),
        ("test", {"group": "HF-I"}, {"sex": "F"}, ["cine_sax"]),
        ("train", {"group": "N"}, {}, ["cine_sax"]),
    ],
}


def _made(dataset: str, tmp_path: Path) -> tuple[Path, dict[str, Any]]:
    root = tmp_path / "published"
    root.mkdir()
    written.WRITERS[dataset](root)
    out = tmp_path / "out"
    return out, make.make(dataset, root, out, tmp_path / "key", image_size=32)


def _examples(out: Path) -> dict[str, tuple[str, records.Example]]:
    found = {}
    for split in schema.SPLITS:
        rows = records.Split(out, split)
        found |= {rows[row]["study_id"]: (split, rows[row]) for row in range(len(rows))}
    return found


@pytest.mark.parametrize("dataset", sorted(EXPECTED))
def test_a_benchmark_becomes_records_with_its_official_split_and_labels(dataset: str, tmp_path: Path):
    out, manifest = _made(dataset, tmp_path)
    assert not check.file_problems(out, manifest)
    assert not check.record_problems(out, manifest)
    examples = _examples(out)
    cases = layouts.LAYOUTS[dataset](tmp_path / "published")
    assert len(cases) == len(EXPECTED[dataset]) == len(examples)
    pseudonyms = _pseudonyms(tmp_path)
    for case, (split, labels, facts, views) in zip(cases, EXPECTED[dataset], strict=True):
        found_split, example = examples[pseudonyms.name("study", plan.study_name(dataset, case))]
        assert found_split == split == case.split
        found = dict(zip(example["label/name"], example["label/value"], strict=True))
        assert labels.items() <= found.items()
        assert facts.items() <= {name: example[name] for name in ("sex", "age", "vendor")}.items()
        assert not views or list(example["series/view"]) == views
        assert example["report"] == plan.TEXT
        assert example["frames"].std() > 5
    rows = write.read_table(out / "files.csv")[1]
    assert {row["status"] for row in rows} == {"used", "ignored"}
    assert manifest["counts"]["files_seen"] == sum(path.is_file() for path in (tmp_path / "published").rglob("*"))
    assert manifest["split_rule"] == "as the publisher of the benchmark gives it"


def _pseudonyms(tmp_path: Path) -> Any:
    from preprocessing import deid

    return deid.Pseudonyms(deid.load_key(tmp_path / "key", create=False))


def test_frames_of_a_nifti_stand_slice_by_slice_and_phase_by_phase(tmp_path: Path):
    """The file's own x runs to the right of the picture, y down; times come from the header."""
    out, _ = _made("acdc", tmp_path)
    _, example = next(iter(_examples(out).values()))
    (frames,) = schema.split_series(example)
    assert frames.shape[:2] == (written.SLICES, written.PHASES)
    assert np.allclose(example["frame_time_ms"][: written.PHASES], 40.0 * np.arange(written.PHASES), atol=0.01)
    assert example["series/slice_gap_mm"] == pytest.approx([10.0])
    middle = frames[1, 0].astype(int)
    left, right = middle[8:24, 8:14], middle[8:24, 18:24]
    # 200 fills x 2-5, y 4-11; 500 only y 4-5 of x 10-13.
    assert (left > 60).sum() > 2 * (right > 60).sum() > 0
    bright = [frames[1, t].max() for t in range(written.PHASES)]
    assert bright == sorted(bright) and bright[-1] > bright[0]


def test_a_second_run_changes_nothing_and_another_key_is_refused(tmp_path: Path):
    out, manifest = _made("emidec", tmp_path)
    before = {path.name: path.stat().st_mtime_ns for path in out.iterdir() if path.is_file()}
    assert make.make("emidec", tmp_path / "published", out, tmp_path / "key", image_size=32) == manifest
    assert before == {path.name: path.stat().st_mtime_ns for path in out.iterdir() if path.is_file()}
    (tmp_path / "other").write_text("f" * 32)
    with pytest.raises(InputError, match="not the key"):
        make.make("emidec", tmp_path / "published", out, tmp_path / "other", image_size=32)


def test_a_damaged_image_costs_its_own_case_alone(tmp_path: Path):
    written.acdc(root := tmp_path / "published")
    broken = root / "training" / "patient002" / "patient002_4d.nii.gz"
    broken.write_bytes(broken.read_bytes()[:200])
    manifest = make.make("acdc", root, tmp_path / "out", tmp_path / "key", image_size=32)
    assert manifest["counts"]["studies"] == 2
    assert manifest["counts"]["files_rejected"] == 1


@pytest.mark.parametrize("dataset", sorted(EXPECTED))
def test_another_folder_is_refused_in_words(dataset: str, tmp_path: Path):
    (tmp_path / "something.txt").write_text("no benchmark")
    with pytest.raises(InputError, match="--root"):
        layouts.LAYOUTS[dataset](tmp_path)


def test_a_nifti_turns_into_patient_coordinates(tmp_path: Path):
    affine = np.array([[0, -2.0, 0, 10], [1.5, 0, 0, 20], [0, 0, 8.0, 30], [0, 0, 0, 1]])
    written.nii(tmp_path / "a.nii", written.heart(0), affine=affine)
    one = nifti.scan_file(tmp_path, "a.nii", "cine sax")
    first, second = one.frames[0], one.frames[1]
    assert first.right == pytest.approx((0, -1, 0)) and first.down == pytest.approx((1, 0, 0))
    assert first.spacing == pytest.approx((2.0, 1.5))
    assert first.position == pytest.approx((-10, -20, 30)) and second.position == pytest.approx((-10, -20, 38))
    values = nifti.stored(tmp_path / "a.nii")
    assert values.shape == (written.SLICES * written.PHASES, written.SIZE, written.SIZE)
    assert np.array_equal(values[1], written.heart(0)[:, :, 1, 0].T)


def test_the_command_explains_a_wrong_folder(tmp_path: Path):
    def run(root: Path, out: Path) -> "subprocess.CompletedProcess[str]":
        words = [sys.executable, "-m", "preprocessing.public", "--dataset=acdc", f"--root={root}", f"--out={out}"]
        return subprocess.run([*words, f"--key_file={tmp_path / 'key'}"], capture_output=True, text=True, check=False)

    (tmp_path / "empty").mkdir()
    for root, out in ((tmp_path / "none", tmp_path / "o"), (tmp_path / "empty", tmp_path / "o")):
        done = run(root, out)
        assert done.returncode == 2
        assert done.stderr.count("\n") == 1 and "--root" in done.stderr
        assert not out.exists()


def test_the_command_knows_every_layout():
    assert set(public.NAMES) == set(layouts.LAYOUTS)
