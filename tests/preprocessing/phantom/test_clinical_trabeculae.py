"""The trabecular layer: as much of it as people have, its muscle conserved, and blood in it until systole."""

import dataclasses

import numpy as np
import pytest

from preprocessing.phantom import findings, visits
from preprocessing.phantom.clinical import camera, cut, exam, heart, layers, series, trabeculae
from preprocessing.phantom.clinical.case import Case

SETTINGS = visits.Settings(
    studies=1, seed=11, slices=12, phases=25, matrix=128, variety="clinical", patients_with_two_studies=0.0
)


def drawn(disease: str, patient: int) -> Case:
    case = exam.draw(SETTINGS, visits.Visit(patient, patient, 0, disease))[0]
    return dataclasses.replace(case, findings=dataclasses.replace(case.findings, breathing=False))


def _read(case: Case, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Pixels of a stack as acquired within the contour and those of them nearer to muscle than to blood: `T` each.

    At end-diastole and end-systole, without noise; the contour is that of the truth.
    """
    made = series.Exam(SETTINGS, case, "siemens", np.random.default_rng(seed))
    made.camera.scan = dataclasses.replace(made.camera.scan, swirl=0.0)
    beat = heart.beat(case.subject.heart, np.array([0.0, 1.0]))
    tables = cut.Tables(beat)
    within, dark = np.zeros(2), np.zeros(2)
    for plane in made.stack:
        picture = made.camera.signal(plane, beat, tables, made.palette, thickness=made.how.thickness)
        inside = np.isin(camera.label_map(case.subject, plane, beat), (layers.LV, layers.PAPILLARY))
        within += inside.sum((1, 2))
        dark += (inside & (picture < 0.5 * (1.0 + made.palette["muscle"]))).sum((1, 2))
    return within, dark


def _fraction(volume: np.ndarray) -> float:
    return 100.0 * (1.0 - float(volume[1] / volume[0]))


def test_a_reader_of_bright_blood_alone_is_off_as_in_people():
    """In 1,494 people muscle is 23 +- 3 % of the end-diastolic volume and adds 7.5 points (Chuang et al. 2012)."""
    part, added = [], []
    for number in range(8):
        within, dark = _read(drawn("normal", number), number)
        part.append(dark[0] / within[0])
        added.append(_fraction(within - dark) - _fraction(within))
    assert 0.14 < np.mean(part) < 0.25 and min(part) > 0.1 and max(part) < 0.3
    assert 6.0 < np.mean(added) < 9.5 and min(added) > 2.0 and max(added) < 14.0
    assert np.std(part) > 0.01, "people differ"


def test_non_compaction_shows_more_muscle_than_health():
    health, sick = (
        np.mean([dark[0] / within[0] for within, dark in (_read(drawn(name, n), n) for n in range(3))])
        for name in ("normal", "noncompaction")
    )
    assert sick > 1.6 * health


@pytest.mark.parametrize("disease", findings.DISEASES)
def test_the_layers_muscle_keeps_its_volume_and_leaves_blood(disease: str):
    for number in range(4):
        made = drawn(disease, number).subject.heart
        beat = heart.beat(made, np.linspace(0.0, 1.0, 7))
        layer = trabeculae.layer(beat)
        muscle = heart.volume_ml(beat.endo2 - layer.inner2, made.length - beat.left_base) * layer.packed
        assert muscle == pytest.approx(np.full(7, muscle[0]), rel=1e-3)
        if disease == "normal":
            assert muscle[0] == pytest.approx(made.trabeculae_ml, rel=0.01)
        cavity = beat.endo2 > 0.0
        assert (layer.inner2 <= beat.endo2 + 1e-3).all()
        assert (layer.inner2 > 0.05 * beat.endo2)[cavity].all()
        assert (np.diff(layer.packed) >= -1e-9).all(), "blood is pressed out of it as the heart contracts"


def test_the_layer_is_compact_in_systole_unless_the_heart_hardly_contracts():
    well, weak = drawn("normal", 0).subject.heart, drawn("dilated", 2).subject.heart
    ends = np.array([0.0, 1.0])
    assert trabeculae.layer(heart.beat(well, ends)).packed == pytest.approx([trabeculae.PACKED, 1.0])
    packed = trabeculae.layer(heart.beat(weak, ends)).packed
    assert packed[0] == pytest.approx(trabeculae.PACKED) and trabeculae.PACKED < packed[1] < 1.0


def test_the_layer_lines_the_apex_and_the_free_wall():
    for number in range(5):
        made = drawn("normal", number).subject.heart
        beat = heart.beat(made, np.zeros(1))
        depth = np.sqrt(np.maximum(beat.endo2[0], 0.0)) - np.sqrt(np.maximum(trabeculae.layer(beat).inner2[0], 0.0))
        septum = np.cos(heart.THETA - heart.SEPTUM) > 0.5
        middle = slice(heart.LEVELS // 2, 3 * heart.LEVELS // 4)
        assert depth[middle].mean() > 1.8 * depth[: heart.LEVELS // 5].mean()
        assert depth[middle][:, ~septum].mean() > 1.5 * depth[middle][:, septum].mean()
