"""Clinical hearts: what masks measure is the truth, muscle keeps its mass, and the drawn people are those of tables."""

import dataclasses

import numpy as np
import pytest

from preprocessing.phantom import findings, render, visits
from preprocessing.phantom.clinical import camera, exam, heart, layers, lesions, population, segments
from preprocessing.phantom.clinical.case import Case

SETTINGS = visits.Settings(studies=1, seed=5, phases=16, variety="clinical", patients_with_two_studies=0.0)


def drawn(disease: str, patient: int = 0, settings: visits.Settings = SETTINGS) -> Case:
    return exam.draw(settings, visits.Visit(patient, patient, 0, disease))[0]


@pytest.fixture(scope="module")
def cases() -> dict[str, Case]:
    return {disease: drawn(disease, number) for number, disease in enumerate(findings.DISEASES)}


def _masks(case: Case, gap: float, spacing: float, contracted: np.ndarray) -> tuple[np.ndarray, float]:
    """Label maps `S T H W` of an ideal stack across the whole heart, and the volume of a voxel in mL."""
    subject, size = case.subject, int(230 / spacing)
    beat = heart.beat(subject.heart, contracted)
    maps = []
    for z in np.arange(-10.0, subject.heart.length + 10.0, gap):
        centre = subject.pose.to_patient(np.array([-22.0, 0.0, z]))
        plane = render.oriented("sax", centre, -subject.pose.axes[2], spacing, size)
        maps.append(camera.label_map(subject, plane, beat))
    return np.stack(maps), gap * spacing**2 / 1000.0


def _measured(case: Case, gap: float, spacing: float, contracted: np.ndarray) -> dict[str, np.ndarray]:
    maps, voxel = _masks(case, gap, spacing, contracted)
    names = {"lv": (layers.LV, layers.PAPILLARY), "rv": (layers.RV,), "wall": (layers.MYOCARDIUM,)}
    return {name: np.isin(maps, labels).sum((0, 2, 3)) * voxel for name, labels in names.items()}


def test_volumes_measured_on_masks_are_the_truth(cases):
    for disease, case in cases.items():
        found = case.findings
        ends = np.array([case.contracted.min(), case.contracted.max()])
        got = _measured(case, 2.0, 1.5, ends)
        assert got["lv"] == pytest.approx([found.edv_ml, found.esv_ml], rel=0.03, abs=2.0), disease
        assert got["rv"] == pytest.approx([found.rv_edv_ml, found.rv_esv_ml], rel=0.04, abs=2.0), disease
        assert got["wall"] * heart.MYOCARDIUM_G_PER_ML == pytest.approx(found.mass_g, rel=0.03), disease
        assert 100.0 * (1.0 - got["lv"][1] / got["lv"][0]) == pytest.approx(found.lvef, abs=1.5), disease


def test_a_stack_as_acquired_measures_the_truth_within_its_slices(cases):
    for disease in ("normal", "dilated", "hypertrophic_septal"):
        case = cases[disease]
        got = _measured(case, 8.0, 2.5, np.array([case.contracted.min(), case.contracted.max()]))["lv"]
        assert got == pytest.approx([case.findings.edv_ml, case.findings.esv_ml], rel=0.08, abs=4.0), disease


def test_muscle_keeps_its_mass_over_the_cycle_on_masks(cases):
    for disease in ("normal", "ischaemic", "hypertrophic_apical", "amyloid", "rv_overload"):
        case = cases[disease]
        wall = _measured(case, 1.0, 1.3, case.contracted[::3])["wall"]
        assert np.ptp(wall) / wall.mean() <= 0.02, disease


def test_a_beat_meets_its_fractions_whatever_the_number_of_phases():
    for phases in (8, 20, 25, 30):
        found = drawn("normal", 3, dataclasses.replace(SETTINGS, phases=phases)).findings
        assert found.lvef == pytest.approx(drawn("normal", 3).findings.lvef, abs=0.7)


@pytest.mark.parametrize(
    ("sex", "ef", "edv", "mass"), [("M", (58, 5), (81, 12), (53, 9)), ("F", (61, 5), (76, 10), (42, 7))]
)
def test_the_normal_population_is_that_of_the_tables(sex, ef, edv, mass):
    found = [drawn("normal", number).findings for number in range(160)]
    found = [f for f in found if f.sex == sex]
    assert len(found) > 50
    for values, (mean, deviation) in (
        ([f.lvef for f in found], ef),
        ([f.edv_ml / f.bsa_m2 for f in found], edv),
        ([f.mass_g / f.bsa_m2 for f in found], mass),
    ):
        assert np.mean(values) == pytest.approx(mean, abs=0.35 * deviation)
        assert 0.6 * deviation < np.std(values) < 1.15 * deviation
        assert np.abs(np.array(values) - mean).max() < 2.7 * deviation


def test_both_ventricles_eject_the_same_in_health():
    for number in range(20):
        found = drawn("normal", number).findings
        assert found.rv_edv_ml - found.rv_esv_ml == pytest.approx(found.edv_ml - found.esv_ml, rel=0.06)


def test_diseases_look_as_they_are_called(cases):
    severe = {d: [drawn(d, n) for n in range(30, 50)] for d in findings.DISEASES[1:]}

    def mean(disease: str, what) -> float:
        return float(np.mean([what(case.findings) for case in severe[disease]]))

    assert mean("dilated", lambda f: f.lvef) < 38 and mean("dilated", lambda f: f.edv_ml / f.bsa_m2) > 125
    assert mean("hypertrophic_septal", lambda f: max(f.wall_mm[i] for i in (1, 2, 7, 8)) - f.wall_mm[10]) > 7
    assert mean("hypertrophic_apical", lambda f: max(f.wall_mm[12:16]) - f.wall_mm[4]) > 6
    assert mean("hypertrophic_concentric", lambda f: min(f.wall_mm[:12])) > 12
    assert mean("amyloid", lambda f: min(f.wall_mm[:12])) > 11 and mean("amyloid", lambda f: f.lvef) < 54
    assert mean("arvc", lambda f: f.rv_ef) < 42 and mean("arvc", lambda f: f.rv_edv_ml / f.bsa_m2) > 120
    assert mean("rv_overload", lambda f: f.rv_edv_ml / f.edv_ml) > 1.5
    assert all(case.subject.heart.flattening > 0.1 for case in severe["rv_overload"])
    assert all(case.findings.trabeculated for case in severe["noncompaction"])
    assert all(any(s.territory for s in case.findings.scars) for case in severe["ischaemic"])
    assert all(any(s.pattern == "subepicardial" for s in case.findings.scars) for case in severe["myocarditis"])
    for disease, group in severe.items():
        assert all(case.findings.diseases[0][0] == disease for case in group)


def test_dead_segments_move_less_than_living_ones():
    for number in range(40):
        case = drawn("ischaemic", number)
        scar = case.findings.scars[0]
        if scar.transmurality < 0.8 or len(case.findings.diseases) > 1:
            continue
        dead = np.array(scar.segments) - 1
        thicker = heart.thickness(case.subject.heart, 1.0) / heart.thickness(case.subject.heart, 0.0)
        alive = np.setdiff1d(np.arange(16), dead)
        dead = dead[dead < 16]
        assert thicker[dead].mean() < thicker[alive].mean() - 0.15
        assert set(np.array(case.findings.motion)[dead]) <= {"hypokinetic", "akinetic", "dyskinetic"}


def test_healthy_segments_are_called_normal():
    words = [word for number in range(30) for word in drawn("normal", number).findings.motion]
    assert words.count("normal") / len(words) > 0.97


def test_segments_lie_on_the_walls_that_name_them():
    """In the heart's frame x points to the lateral and y to the inferior wall."""
    for number, name in enumerate(segments.NAMES[:16], 1):
        angle, along = segments.centre(number)
        x, y = np.cos(angle), np.sin(angle)
        assert ("sept" in name) == (x < -0.4) and ("lateral" in name) == (x > 0.4), name
        assert ("anterior" in name or "antero" in name) == (y < -0.3), name
        assert ("inferior" in name or "infero" in name) == (y > 0.3), name
        assert along == pytest.approx({"b": 1 / 6, "m": 0.5, "a": 5 / 6}[name[0]])
        field = segments.field(np.eye(17)[number - 1], heart.THETA, np.array([along]))[0]
        assert abs(np.angle((field * np.exp(1j * heart.THETA)).sum() * np.exp(-1j * angle))) < 0.01, name


def test_fields_of_segments_have_their_values_in_the_middle():
    values = np.arange(17.0)
    for number in range(1, 18):
        angle, along = segments.centre(number)
        field = segments.field(values, np.array([angle]), np.array([along if number < 17 else 1.2]))
        assert field[0, 0] == pytest.approx(values[number - 1])
    ones = segments.field(np.ones(17), heart.THETA, np.linspace(0.0, 1.2, 20))
    assert ones == pytest.approx(np.ones_like(ones))


@pytest.mark.parametrize("pattern", findings.PATTERNS)
def test_scars_lie_where_their_pattern_says(pattern: str):
    part = 0.4
    scar = findings.Scar(pattern, tuple(range(1, 18)) if pattern == "diffuse" else (2, 3, 8, 9), part)
    at = lesions.depth(scar, np.array([0.02, 0.5, 0.98]))
    inner, middle, outer = at > 0.3
    wanted = {
        "subendocardial": (True, False, False), "transmural": (True, False, False), "mid-wall": (False, True, False),
        "subepicardial": (False, False, True), "insertion": (False, True, False), "diffuse": (True, True, False),
    }  # fmt: skip
    assert (inner, middle, outer) == wanted[pattern]
    share = lesions.of_segments(drawn("normal").subject.heart, (scar,), 7)
    assert share[[1, 2, 7, 8]].min() > 0.01
    if pattern != "diffuse":
        assert share[[4, 5, 10, 11, 16]].max() < 0.05


def test_the_apex_turns_against_the_base_and_the_septum_flattens(cases):
    made = dataclasses.replace(cases["normal"].subject.heart, torsion=0.3)
    base, apex = (float(heart.twist(made, z, np.array(1.0))) for z in (0.0, 1.0))
    assert base * apex < 0 and abs(apex) > 0.2
    flat = heart.beat(cases["rv_overload"].subject.heart, np.zeros(1)).endo2[0]
    level = heart.LEVELS // 3
    septum, lateral = flat[level, heart.ANGLES // 2], flat[level, 0]
    assert np.sqrt(septum) < 0.95 * np.sqrt(lateral)


def test_prevalences_are_those_that_are_stated():
    many = dataclasses.replace(SETTINGS, studies=3000)
    groups = [visit.group for visit in visits.visits(many)]
    assert set(population.PREVALENCE) == set(findings.DISEASES)
    assert sum(population.PREVALENCE.values()) == pytest.approx(1.0)
    for disease, part in population.PREVALENCE.items():
        assert groups.count(disease) / len(groups) == pytest.approx(part, abs=0.025)
    mixed = [len(drawn("ischaemic", n).findings.diseases) == 2 for n in range(150)]
    assert 0.04 < np.mean(mixed) < 0.25
