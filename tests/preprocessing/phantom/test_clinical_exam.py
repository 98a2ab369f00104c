"""Clinical exams: files are valid, our own preprocessing knows every series, and tissues shine as in real pictures."""

import csv
import dataclasses
import hashlib
import pathlib
import re
import subprocess
import sys
import warnings

import numpy as np
import pydicom
import pytest
from pydicom.uid import EnhancedMRImageStorage, ExplicitVRLittleEndian, MRImageStorage

from preprocessing.phantom import dicom, findings, render, visits
from preprocessing.phantom.__main__ import generate
from preprocessing.phantom.clinical import camera, exam, heart, layers, motion, planes, scanner, series, tissue
from preprocessing.phantom.clinical.case import Case
from tests.preprocessing.phantom.test_dicom import REQUIRED

SMALL = visits.Settings(
    studies=3, seed=2, slices=5, phases=6, matrix=48, variety="clinical", patients_with_two_studies=0.0
)
ALL = frozenset(findings.SERIES)


def everything(case: Case) -> Case:
    """`case` with every series acquired."""
    return dataclasses.replace(case, findings=dataclasses.replace(case.findings, acquired=ALL, breathing=False))


def drawn(disease: str, patient: int = 0, settings: visits.Settings = SMALL) -> Case:
    return everything(exam.draw(settings, visits.Visit(patient, patient, 0, disease))[0])


def _digest(folder: pathlib.Path) -> dict[str, str]:
    files = sorted(p for p in folder.rglob("*") if p.is_file())
    return {str(p.relative_to(folder)): hashlib.sha256(p.read_bytes()).hexdigest() for p in files}


@pytest.fixture(
    scope="module", params=[*((v, False) for v in dicom.VENDORS), ("siemens", True), ("philips", True)], ids=str
)
def written(request, tmp_path_factory, monkeypatch_module) -> tuple[visits.Settings, list[pydicom.FileDataset]]:
    vendor, enhanced = request.param
    settings = dataclasses.replace(SMALL, vendor=vendor, enhanced=enhanced)
    out = tmp_path_factory.mktemp("clinical")
    monkeypatch_module.setattr(exam, "draw", _drawing_everything(exam.draw))
    exam.make(settings, visits.Visit(0, 0, 0, "ischaemic"), out)
    monkeypatch_module.undo()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        files = [pydicom.dcmread(path) for path in sorted(out.rglob("*.dcm"))]
        for file in files:
            str(file)  # reads every value
    return settings, files


@pytest.fixture(scope="module")
def monkeypatch_module():
    with pytest.MonkeyPatch.context() as patch:
        yield patch


def _drawing_everything(draw):
    def drawing(settings, visit):
        case, who = draw(settings, visit)
        return everything(case), who

    return drawing


def test_required_attributes(written):
    settings, files = written
    for file in files:
        assert file.file_meta.TransferSyntaxUID == ExplicitVRLittleEndian
        assert file.pixel_array.dtype == np.uint16
        if settings.enhanced:
            assert file.SOPClassUID == EnhancedMRImageStorage
            assert file.NumberOfFrames == len(file.PerFrameFunctionalGroupsSequence)
        else:
            assert file.SOPClassUID == MRImageStorage
            missing = [name for name in REQUIRED if name not in file or file[name].value in (None, "")]
            assert not missing
    uids = [file.SOPInstanceUID for file in files]
    assert len(set(uids)) == len(uids)
    assert len({file.StudyInstanceUID for file in files}) == 1


def test_vendors_keep_their_habits(written):
    settings, files = written
    if settings.enhanced:
        return
    group: dict[str, list[pydicom.Dataset]] = {}
    for file in files:
        group.setdefault(file.SeriesInstanceUID, []).append(file)
    stacks = [g for g in group.values() if len({tuple(f.ImagePositionPatient) for f in g}) > 1]
    cines = [g for g in group.values() if g[0].get("CardiacNumberOfImages", 1) == settings.phases]
    assert len(cines) == (3 + settings.slices if settings.vendor == "siemens" else 4)
    assert len(stacks) == 4 + (settings.vendor != "siemens")  # scout, enhancement, two maps, and the cine's
    late = [f for f in files if "InversionTime" in f]
    assert len(late) == settings.slices + 3 and all(200 < f.InversionTime < 500 and f.ContrastBolusAgent for f in late)
    t2 = [f for f in files if "T2 MAP" in f.ImageType]
    assert len(t2) == 3 and {float(f.RescaleSlope) for f in t2} == {0.1 if settings.vendor == "siemens" else 1.0}


def test_a_rectangular_field_keeps_pixels_in_their_places():
    case = drawn("normal", 3, dataclasses.replace(SMALL, matrix=64))
    made = series.Exam(dataclasses.replace(SMALL, matrix=64), case, "siemens", np.random.default_rng(2))
    plan = made.cine("4ch")
    for axis in (0, 1):
        made.kept, made.phase_axis = 0.75, axis
        less = made._cropped(plan)
        assert less.frames.shape[2:] == ((48, 64), (64, 48))[axis]
        off = (less.planes[0].origin - plan.planes[0].origin) / plan.planes[0].spacing
        row, column = (round(float(off @ way)) for way in (plan.planes[0].column, plan.planes[0].row))
        assert (row, column) == ((8, 0), (0, 8))[axis]
        np.testing.assert_array_equal(less.frames[0, :, 5, 6], plan.frames[0, :, 5 + row, 6 + column])


def test_maps_hold_milliseconds():
    settings = dataclasses.replace(SMALL, matrix=160)
    case = drawn("normal", 4, settings)
    for vendor in dicom.VENDORS:
        made = series.Exam(settings, case, vendor, np.random.default_rng(0))
        made.how = dataclasses.replace(made.how, misplaced=0.0)
        for which, wanted in (("t1_map", case.subject.t1), ("t2_map", case.subject.t2)):
            plan = made.mapped(which)
            names = camera.label_map(case.subject, plan.planes[1], made.still)[0]
            assert plan.protocol.slope is not None
            middle = np.median(plan.frames[1, 0][names == layers.MYOCARDIUM]) * plan.protocol.slope
            assert middle == pytest.approx(wanted, rel=0.09)


EXPECTED = {
    "scout": (1, 1, 1), "cine_2ch": (1, 6), "cine_3ch": (1, 6), "cine_4ch": (1, 6), "cine_sax": (5, 6),
    "lge_2ch": (1, 1), "lge_3ch": (1, 1), "lge_4ch": (1, 1), "lge_sax": (5, 1), "t1_map": (3, 1), "t2_map": (3, 1),
}  # fmt: skip


def test_preprocessing_knows_every_series(tmp_path: pathlib.Path, monkeypatch):
    settings = dataclasses.replace(SMALL, studies=12)
    monkeypatch.setattr(exam, "draw", _drawing_everything(exam.draw))
    generate(tmp_path / "set", settings)
    source = (f"--dicom_dir={tmp_path}/set/dicom", f"--reports={tmp_path}/set/reports.csv", "--num_workers=0")
    more = (f"--out={tmp_path}/out", f"--key_file={tmp_path}/key", "--image_size=32", "--spacing_mm=4")
    command = [sys.executable, "-m", "preprocessing.run", *source, *more]
    done = subprocess.run(command, capture_output=True, text=True, timeout=200, check=False)
    assert done.returncode == 0, done.stderr
    with (tmp_path / "out" / "series.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    by_study: dict[str, list[dict[str, str]]] = {}
    for row in rows:
        by_study.setdefault(row["study_id"], []).append(row)
    assert len(by_study) == 12
    rules = set()
    for study in by_study.values():
        seen = [row for row in study if row["view"] != "scout"]
        assert sorted(row["view"] for row in seen) == sorted(set(EXPECTED) - {"scout"}), study
        for row in seen:
            assert (int(row["slices"]), int(row["phases"])) == EXPECTED[row["view"]]
            assert row["used"] == "yes"
            rules.add(row["view_rule"].split(":")[0])
            if row["view"].startswith("lge"):
                assert row["contrast"] in ("psir", "magnitude")
            if row["view"] == "t1_map":
                assert row["contrast"] == "native"
    assert rules == {"description", "geometry", "image_type"}


def test_same_files_for_one_and_two_workers_and_tables_hold_the_truth(tmp_path: pathlib.Path):
    settings = dataclasses.replace(SMALL, studies=5, matrix=32, patients_with_two_studies=0.5)
    for name, workers in (("one", 0), ("two", 2)):
        generate(tmp_path / name, settings, workers)
    generate(tmp_path / "other", dataclasses.replace(settings, seed=9))
    assert _digest(tmp_path / "one") == _digest(tmp_path / "two")
    assert not set(_digest(tmp_path / "one").values()) & set(_digest(tmp_path / "other").values())
    with (tmp_path / "one" / "truth.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    columns = """study_uid patient_id group severity lvef edv_ml esv_ml wall_mm wall_min_mm mass_g rv_edv_ml rv_esv_ml
        rv_ef bsa_m2 heart_rate territory sex age vendor scar disease2 la_ml scar_pattern scar_segments t1_ms t2_ms"""
    for row in rows:
        assert set(columns.split()) <= set(row)
        by_volume = 100 * (1 - float(row["esv_ml"]) / float(row["edv_ml"]))
        assert float(row["lvef"]) == pytest.approx(by_volume, abs=0.01)
        assert row["group"] in findings.DISEASES
        assert ("t1_map" in row["acquired"]) == bool(row["t1_ms"])


def test_headers_and_names_do_not_tell_the_disease(tmp_path: pathlib.Path):
    words = [*findings.DISEASES[1:], "dilat", "hypertr", "infarct", "ischaem", "amyl", "scar", "lad", "rca"]
    for number, disease in enumerate(findings.DISEASES):
        exam.make(dataclasses.replace(SMALL, matrix=32, phases=4), visits.Visit(number, number, 0, disease), tmp_path)
    for path in sorted(tmp_path.rglob("*.dcm"))[::7]:
        header = str(pydicom.dcmread(path, stop_before_pixels=True)).lower() + str(path.relative_to(tmp_path))
        assert not [word for word in words if word in header]


def test_a_second_visit_knows_the_first(tmp_path: pathlib.Path):
    for number in range(6):
        first, who = exam.draw(SMALL, visits.Visit(0, number, 0, "dilated"))
        second, again = exam.draw(SMALL, visits.Visit(1, number, 1, "dilated"))
        assert who.patient_id == again.patient_id and who.study_uid != again.study_uid
        assert second.findings.prior_date == who.study_date < again.study_date
        # What the first letter says, a reader's noise and all; it need not be the truth.
        row, _ = exam.make(SMALL, visits.Visit(0, number, 0, "dilated"), tmp_path / str(number))
        said = re.findall(r"(\d+)(?: ?(?:-|–|to) ?(\d+))? ?(?:%|per ?cent)", str(row["report"]))
        prior = second.findings.prior_lvef
        assert prior is not None and abs(prior - first.findings.lvef) < 10.0
        assert any(int(low) <= prior <= int(high or low) for low, high in said), row["report"]
        assert abs(second.findings.edv_ml - first.findings.edv_ml) < 0.4 * first.findings.edv_ml


def test_late_enhancement_shows_scar_bright_and_healthy_muscle_dark():
    case = drawn("ischaemic", 0)
    scar = findings.Scar("transmural", (7, 8, 13, 14, 1, 2), 1.0, "LAD")
    case = dataclasses.replace(case, subject=dataclasses.replace(case.subject, scars=(scar,), uptake=0.45))
    made = series.Exam(dataclasses.replace(SMALL, matrix=128), case, "ge", np.random.default_rng(1))
    palette, ti = tissue.late(made.tissues, agent=2.4, interval=1700.0, off_ms=0.0, scar_uptake=1.0, muscle_uptake=0.45)
    assert abs(palette["muscle"]) < 0.02 < 0.4 < palette["blood"] and palette["scar"] == 1.0 and 250 < ti < 420
    plane = made.stack[len(made.stack) // 2]
    picture = made.camera.signal(plane, made.still, made.still_tables, palette, thickness=6.0, scar=palette["scar"])[0]
    names = camera.label_map(case.subject, plane, made.still)[0]
    local = case.subject.pose.to_heart(plane.points())
    theta = np.rad2deg(np.arctan2(local[..., 1], local[..., 0]))
    wall = names == layers.MYOCARDIUM
    anteroseptal, inferolateral = wall & (np.abs(theta + 120) < 30), wall & (np.abs(theta - 60) < 30)
    assert np.median(np.abs(picture[anteroseptal])) > 0.7 > 0.2 > np.median(np.abs(picture[inferolateral]))


def test_noise_is_rician():
    case = drawn("normal")
    scan = dataclasses.replace(
        scanner.draw(np.random.default_rng(0), case.subject.chest, "siemens", False),
        noise=0.1, gain=1000.0, blur=(0.0, 0.0), round_field=0.0, bow=0.0,
    )  # fmt: skip
    rng = np.random.default_rng(1)
    pool = scanner.Noise(rng, 4 * 64 * 64)
    air = scanner.stored(scan, pool, rng, np.zeros((4, 64, 64), np.float32), np.ones((64, 64), np.float32))
    assert air.mean() == pytest.approx(100.0 * np.sqrt(np.pi / 2), rel=0.03)


def test_a_failed_breath_hold_moves_slices_and_arrhythmia_blurs_them():
    case = drawn("normal", 1)
    settings = dataclasses.replace(SMALL, matrix=64, phases=6)
    held = series.Exam(settings, case, "ge", np.random.default_rng(3))
    failed = dataclasses.replace(case, findings=dataclasses.replace(case.findings, breathing=True))
    moved = series.Exam(settings, failed, "ge", np.random.default_rng(3))
    assert moved.how.misplaced > 3.0 > held.how.misplaced
    frames = np.random.default_rng(0).random((6, 4, 4)).astype(np.float32)
    rhythm = dataclasses.replace(case.rhythm, kind="fibrillation", irregular=0.18)
    blurred = motion.smeared(np.random.default_rng(1), rhythm, frames.copy())
    assert blurred.std(0).mean() < 0.9 * frames.std(0).mean()
    times, _ = motion.trigger_times(np.random.default_rng(2), rhythm, 12, 6)
    assert np.std(times[:, -1]) / np.mean(times[:, -1]) > 0.08


def test_views_show_what_they_are_named_for():
    settings = dataclasses.replace(SMALL, matrix=128)
    shown = set()
    for number in range(6):
        case = drawn("normal", number, settings)
        subject, rng = case.subject, np.random.default_rng(number)
        how = planes.habit(rng, subject, "siemens", False)
        beat = heart.beat(subject.heart, np.array([0.0, 1.0]))
        stack = planes.short_axis(subject, rng, how, most=16, size=128)
        middle = camera.label_map(subject, stack[len(stack) // 2], beat)[0]
        left = np.argwhere(np.isin(middle, (layers.LV, layers.PAPILLARY))).mean(0)
        right = np.argwhere(middle == layers.RV).mean(0)
        assert right[1] < left[1] - 8, "the right ventricle is on the left of the picture"
        assert (middle == layers.PAPILLARY).sum() > 6
        seen = {v: camera.label_map(subject, planes.long_axis(subject, rng, how, v, size=128), beat)[0]
                for v in ("2ch", "3ch", "4ch")}  # fmt: skip
        chambers = {name: (seen["4ch"] == name).sum() for name in (layers.LV, layers.RV, layers.LA, layers.RA)}
        assert min(chambers.values()) > 60, chambers
        assert (seen["2ch"] == layers.LA).sum() > 60 > 12 > (seen["2ch"] == layers.RA).sum()
        assert (seen["3ch"] == layers.AORTA).sum() > 20 and (seen["3ch"] == layers.LA).sum() > 60
        for plane in stack[:3]:
            shown |= set(np.unique(camera.label_map(subject, plane, beat)))
    assert layers.PULMONARY in shown and layers.AORTA in shown


def test_nothing_of_the_heart_is_seen_beyond_its_apex():
    settings = dataclasses.replace(SMALL, matrix=128)
    for number in range(60):
        case = drawn(findings.DISEASES[number % 12], number, settings)
        made = series.Exam(settings, case, "ge", np.random.default_rng(number))
        plane = made._long("4ch")
        frames = made.camera.signal(plane, made.still, made.still_tables, made.palette, thickness=8.0)
        still = made.camera._body.slice(plane.origin, plane.row, plane.column, plane.spacing, plane.size, made.palette)
        beyond = case.subject.pose.to_heart(plane.points())[..., 2] > case.subject.heart.length + 20.0
        np.testing.assert_array_equal(frames[0, beyond], still[beyond])


def test_pictures_of_crossing_planes_agree_on_their_line():
    """On the line where two planes meet, both show the same tissue."""
    case = drawn("normal", 2)
    subject = case.subject
    beat = heart.beat(subject.heart, np.array([0.0, 1.0]))
    pose = subject.pose
    for view, theta in render.LONG_AXIS.items():
        along = pose.axes[2]
        way = np.cos(theta) * pose.axes[0] + np.sin(theta) * pose.axes[1]
        z = 0.45 * subject.heart.length
        centre = pose.to_patient(np.array([0.0, 0.0, z]))
        sax = render.oriented("sax", centre, -along, 1.0, 128)
        lax = render.oriented(view, centre, np.cross(along, way), 1.0, 128)
        line = centre + np.arange(-38.0, 38.0)[:, None] * way
        said = []
        for plane in (sax, lax):
            off = line - plane.origin
            at = np.rint(off @ plane.column).astype(int), np.rint(off @ plane.row).astype(int)
            said.append(camera.label_map(subject, plane, beat)[:, at[0], at[1]])
        assert (said[0] == said[1]).mean() > 0.9
