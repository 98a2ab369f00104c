"""Physiology: the formulas meet their targets and conserve what a heart conserves."""

import dataclasses

import numpy as np
import pytest

from preprocessing.phantom import anatomy, study, truth

SETTINGS = study.Settings(studies=30, seed=5, phases=20)


@pytest.fixture(scope="module")
def drawn() -> list[truth.Truth]:
    return [study.draw(SETTINGS, visit)[0] for visit in study.visits(SETTINGS)]


def test_every_group_is_drawn(drawn):
    groups = {"normal", "dilated", "hypertrophic", "infarcted", "right-ventricular"}
    assert {built.targets.group for built in drawn} == groups == set(truth.GROUPS)


def test_myocardial_volume_is_conserved(drawn):
    for built in drawn:
        volume = anatomy.volumes(built.subject.heart, built.contracted).myocardium
        assert np.ptp(volume) / volume.mean() < 0.02


def test_heart_meets_its_targets(drawn):
    at = np.array([0.0, 1.0])
    for built in drawn:
        exact = anatomy.volumes(built.subject.heart, at)
        assert exact.lv[0] == pytest.approx(built.targets.edv, rel=0.01)
        assert exact.rv[0] == pytest.approx(built.targets.rv_edv, rel=0.01)
        assert 1.0 - exact.lv[1] / exact.lv[0] == pytest.approx(built.targets.ef, abs=0.015)
        assert 1.0 - exact.rv[1] / exact.rv[0] == pytest.approx(built.targets.rv_ef, abs=0.015)


def test_cycle_runs_from_full_to_empty_and_back(drawn):
    heart = dataclasses.replace(drawn[0].subject.heart, delay=0.0)
    wave = anatomy.contraction(heart, 200)
    assert wave[0] == 0.0
    assert wave.max() == pytest.approx(1.0, abs=1e-3)
    assert wave.argmax() / 200 == pytest.approx(heart.systole, abs=0.01)
    assert np.abs(np.diff(wave)).max() < 0.05
    late = anatomy.contraction(dataclasses.replace(heart, delay=0.1), 20)
    assert late.argmin() == 18


@pytest.mark.parametrize("phases", [4, 8, 10, 25, 30])
def test_the_number_of_phases_does_not_change_the_truth(phases: int):
    for number, group in enumerate(truth.GROUPS):
        targets = truth.diseased(np.random.default_rng(number), truth.draw(np.random.default_rng(number), group))
        built = truth.build(np.random.default_rng(1), np.random.default_rng(2), targets, phases)
        assert built.lvef / 100 == pytest.approx(targets.ef, abs=0.005)
        assert built.edv == pytest.approx(targets.edv, rel=0.01)
        assert 0.2 <= built.subject.heart.systole <= 0.5


def test_the_ends_of_the_cycle_tell_what_all_its_phases_tell(drawn):
    for built in drawn:
        every = anatomy.volumes(built.subject.heart, built.contracted)
        assert (built.edv, built.esv) == pytest.approx((every.lv.max(), every.lv.min()), rel=1e-9)
        assert (built.rv_edv, built.rv_esv) == pytest.approx((every.rv.max(), every.rv.min()), rel=1e-9)
        assert built.mass == pytest.approx(every.myocardium.mean() * anatomy.MYOCARDIUM_G_PER_ML, rel=1e-9)


def test_walls_thicken_where_they_live_and_not_where_they_died(drawn):
    normal = next(b for b in drawn if b.targets.group == "normal").subject.heart
    thicker = anatomy.wall_thickness(normal, 1.0) / anatomy.wall_thickness(normal, 0.0)
    assert thicker.min() > 1.2
    infarcted = next(b for b in drawn if b.targets.group == "infarcted").subject.heart
    ratio = anatomy.wall_thickness(infarcted, 1.0) / anatomy.wall_thickness(infarcted, 0.0)
    sector = int((infarcted.infarct_theta + np.pi) % (2 * np.pi) / (2 * np.pi) * 18)
    level = int(infarcted.infarct_zeta > 0.6)
    assert ratio[level, sector] < 1.15
    assert ratio[level, sector] < ratio[level, (sector + 9) % 18]


def test_ranges_are_those_of_adults():
    many = dataclasses.replace(SETTINGS, studies=200)
    normal = [b for v in study.visits(many) if v.group == "normal" for b in [study.draw(many, v)[0]]]
    assert len(normal) >= 30
    for built in normal:
        assert 52.0 < built.lvef < 73.0
        assert 55.0 < built.edv / built.targets.bsa < 101.0
        assert 30.0 < built.mass / built.targets.bsa < 90.0
        assert built.wall_max < 12.0
        assert 44.0 < built.rv_ef < 68.0


def test_progression_is_the_same_heart_a_little_changed():
    twice = dataclasses.replace(SETTINGS, patients_with_two_studies=1.0)
    seen = study.visits(twice)
    for first, second in zip(seen[::2], seen[1::2], strict=True):
        assert (first.patient, first.group) == (second.patient, second.group)
        (a, who_a, _), (b, who_b, prior) = study.draw(twice, first), study.draw(twice, second)
        assert who_a.patient_id == who_b.patient_id and who_a.patient_name == who_b.patient_name
        assert who_a.study_uid != who_b.study_uid and who_a.study_date < who_b.study_date and prior == who_a.study_date
        assert a.targets.territory == b.targets.territory
        assert 0.0 < abs(a.edv - b.edv) < 0.35 * a.edv
        assert abs(a.targets.severity - b.targets.severity) < 0.5
