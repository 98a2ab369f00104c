"""One exam with a series of every view we know, from DICOM to record, tables, preview and contact sheet."""

import csv
import itertools
import pathlib
import subprocess
import sys
from typing import Any

import numpy as np
import pytest

from cmr_jax.data import records, schema
from tests.preprocessing.tiny_dicom import PROJECT, SAX, coded, mr_dataset, orthonormal, save, write_reports

RIGHT, DOWN = orthonormal(SAX)
AXIAL = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0)


def along(degrees: float) -> tuple[float, ...]:
    """A long axis that crosses the short axis at this angle."""
    across = np.cos(np.radians(degrees)) * RIGHT - np.sin(np.radians(degrees)) * DOWN
    return (*across, *np.cross(RIGHT, DOWN))


M, P, PSIR = ["ORIGINAL", "PRIMARY", "M"], ["ORIGINAL", "PRIMARY", "P"], ["DERIVED", "PRIMARY", "PSIR"]
# Description, image type, plane, slices, phases, then what it must become: view and contrast.
EXAM: tuple[tuple[str, list[str], Any, int, int, str, str], ...] = (
    ("localizer", M, AXIAL, 3, 1, "scout", ""),
    ("cine_sax", M, SAX, 9, 8, "cine_sax", ""),
    ("cine_2ch", M, along(90), 1, 8, "cine_2ch", ""),
    ("cine_3ch", M, along(137), 1, 8, "cine_3ch", ""),
    ("cine_4ch", M, along(10), 1, 8, "cine_4ch", ""),
    ("cine long axis", M, along(50), 1, 8, "cine_lax", ""),
    ("cine_rvot", M, AXIAL, 1, 8, "cine_rvot", ""),
    ("cine_lvot", M, along(60), 1, 8, "cine_lvot", ""),
    ("LGE_sax", M, SAX, 6, 1, "lge_sax", "magnitude"),
    ("LGE_sax", PSIR, SAX, 6, 1, "lge_sax", "psir"),
    ("LGE_2ch", M, along(90), 1, 1, "lge_2ch", "magnitude"),
    ("LGE_3ch_PSIR", M, along(137), 1, 1, "lge_3ch", "psir"),
    ("LGE_4ch", PSIR, along(10), 1, 1, "lge_4ch", "psir"),
    ("LGE long axis", M, along(50), 2, 1, "lge_lax", "magnitude"),
    ("T1 map native", ["DERIVED", "PRIMARY", "T1 MAP"], SAX, 3, 1, "t1_map", "native"),
    ("T1 map post", ["DERIVED", "PRIMARY", "T1 MAP"], SAX, 3, 1, "t1_map", "post"),
    ("T2 map", ["DERIVED", "PRIMARY", "T2 MAP"], SAX, 3, 1, "t2_map", ""),
    ("ECV map", ["DERIVED", "PRIMARY", "ECV"], SAX, 1, 1, "ecv_map", ""),
    ("perfusion stress", M, SAX, 3, 10, "perfusion", "stress"),
    ("perfusion rest", M, SAX, 3, 10, "perfusion", "rest"),
    ("flow aorta", M, AXIAL, 1, 8, "flow", "magnitude"),
    ("flow aorta", P, AXIAL, 1, 8, "flow", "phase"),
    ("bespoke trick", M, AXIAL, 2, 3, "unknown", ""),
)
MAP_VALUES = {"t1_map": 1200.0, "t2_map": 48.0, "ecv_map": 27.0}


def write(folder: pathlib.Path) -> None:
    for number, (description, kind, plane, slices, phases, view, _) in enumerate(EXAM):
        for s, p in itertools.product(range(slices), range(phases)):
            image = coded(s, p)
            more: dict[str, Any] = {}
            if view in MAP_VALUES:  # stored as tenths, and a display rescale says so
                image = np.full((16, 16), round(10 * MAP_VALUES[view]), np.uint16)
                more = {"RescaleSlope": 0.1, "RescaleIntercept": 0, "BitsStored": 16}
            if view == "perfusion":
                more = {"TriggerTime": 120.0 + 2.5 * (7 * p % 3), "AcquisitionTime": f"1001{p:02d}.{s}"}
            elif phases > 1:
                more = {"TriggerTime": 40.0 * p}
            data = mr_dataset(
                image, cosines=plane, place=-8.0 * s - 100.0 * number * (plane is AXIAL),  # no two of them in one place
                StudyInstanceUID="1.2.840.7", SeriesNumber=number + 1,
                SeriesInstanceUID=f"1.2.840.7.{number}", SeriesDescription=description, ImageType=kind,
                InstanceNumber=p * slices + s + 1, SOPInstanceUID=f"1.2.840.8.{number}.{s}.{p}", **more,
            )  # fmt: skip
            save(data, folder / f"{number:02d}-{s}-{p}.dcm")


@pytest.fixture(scope="module")
def exam(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    root = tmp_path_factory.mktemp("exam")
    write(root / "dicom")
    write_reports(root / "reports.csv", [{"study_uid": "1.2.840.7", "report": "IMPRESSION: Normal study."}])
    said = run(root, f"--out={root / 'out'}", f"--key_file={root / 'key'}", "--split_fractions=1,0,0")
    assert ", 0 rejected" in said
    return root


def run(root: pathlib.Path, *more: str) -> str:
    source = (f"--dicom_dir={root / 'dicom'}", f"--reports={root / 'reports.csv'}")
    size = ("--image_size=32", "--spacing_mm=1.5", "--num_workers=0")
    done = subprocess.run(
        [sys.executable, "-m", "preprocessing.run", *source, *size, *more],
        cwd=PROJECT, capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout


EXPECTED = sorted((view, contrast, s, p) for _, _, _, s, p, view, contrast in EXAM)


def test_the_exam_has_every_view():
    assert {view for *_, view, _ in EXAM} == set(schema.VIEWS)


def test_every_series_is_in_the_record_with_its_view_contrast_and_size(exam: pathlib.Path):
    example = records.Split(exam / "out", "train")[0]
    columns = (example[f"series/{name}"] for name in ("view", "contrast", "slices", "phases"))
    assert sorted((v, c, int(s), int(p)) for v, c, s, p in zip(*columns, strict=True)) == EXPECTED
    assert "" not in example["series/view_rule"]


def test_maps_are_in_their_units_and_cines_have_their_times_and_levels(exam: pathlib.Path):
    example = records.Split(exam / "out", "train")[0]
    at_slice = at_frame = 0
    for row, frames in enumerate(schema.split_series(example)):
        view, slices, count = example["series/view"][row], frames.shape[0], frames.shape[0] * frames.shape[1]
        levels = example["slice_level"][at_slice : at_slice + slices]
        times = example["frame_time_ms"][at_frame : at_frame + count]
        at_slice, at_frame = at_slice + slices, at_frame + count
        if view in MAP_VALUES:
            value = example["series/offset"][row] + example["series/scale"][row] * float(frames[0, 0, 16, 16])
            assert value == pytest.approx(MAP_VALUES[view], abs=schema.MAPS[view].steps[8] / 2)
            assert example["series/unit"][row] == schema.MAPS[view].unit
        if view == "cine_sax":
            assert levels == ["base"] * 3 + ["mid"] * 3 + ["apex"] * 3
            np.testing.assert_allclose(times.reshape(9, 8), np.tile(40.0 * np.arange(8), (9, 1)))
        if view == "perfusion":
            assert levels == ["base", "mid", "apex"]
            assert (np.diff(frames[:, :, 18, 18].astype(int)) > 0).all()  # in the order of the beats


def test_the_tables_the_preview_and_the_sheet_tell_the_same(exam: pathlib.Path):
    with (exam / "out" / "series.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    found = sorted((r["view"], r["contrast"], int(r["slices"]), int(r["phases"])) for r in rows)
    assert found == EXPECTED and {r["used"] for r in rows} == {"yes"}
    shown = run(exam, "--dry_run")
    for view, contrast, slices, phases in EXPECTED:
        line = next(x for x in shown.splitlines() if f" {view} " in x and f" {slices}x{phases} " in x and contrast in x)
        assert line.split()[0] != "|"
    assert "? ?" in (exam / "out" / "summary.md").read_text().split("## Descriptions that no rule knows")[1]
    assert (exam / "out" / "qc" / "contact_sheet_01.png").stat().st_size > 5000
