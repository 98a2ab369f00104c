"""A cine worked out in groups of points and a few phases at a time is the cine worked out whole."""

import dataclasses

import numpy as np
import pytest

from preprocessing.phantom import findings, visits
from preprocessing.phantom.clinical import body, camera, cut, exam, parts, scanner, series

SETTINGS = visits.Settings(studies=1, seed=21, slices=8, phases=12, matrix=96, variety="clinical", vendor="mixed")


def _exam(number: int) -> series.Exam:
    case, who = exam.draw(SETTINGS, visits.Visit(number, number, 0, findings.DISEASES[number % 12]))
    return series.Exam(SETTINGS, case, who.vendor, np.random.default_rng(number))


def test_a_cine_made_in_parts_is_that_made_whole(monkeypatch):
    for number in range(12):
        made = _exam(number)
        for plane in [*made.stack[::2], made._long("2ch"), made._long("3ch"), made._long("4ch")]:
            pictures = []
            for few, cached in ((camera._FEW, 3000), (1 << 30, 1 << 30)):
                monkeypatch.setattr(camera, "_FEW", few)
                monkeypatch.setattr(camera, "_CACHED", cached)
                pictures.append(made.camera.signal(plane, made.beat, made.tables, made.palette, thickness=8.0))
                monkeypatch.undo()
            np.testing.assert_allclose(*pictures, atol=1e-5)


def test_most_of_a_plane_is_spared_most_of_the_work():
    made = _exam(0)
    subject = made.case.subject
    plane = made.stack[len(made.stack) // 2]
    section = camera._cut(subject, plane, camera.in_heart(subject, plane), 8.0)
    found = parts.groups(section, made.tables, subject.pose, fat_mm=4.0, effusion_mm=0.0)
    points = np.concatenate([points for points, _ in found])
    assert len(np.unique(points)) == len(points) < 0.15 * plane.size**2
    around = sum(len(points) for points, what in found if what.outer)
    assert around < 0.9 * len(points) and not any(what.upper for _, what in found)


def test_the_still_phase_is_one_of_the_beat():
    made = _exam(3)
    again = cut.Tables(made.still)
    for name in ("endo2", "epi2", "right2", "inner2", "packed"):
        np.testing.assert_array_equal(getattr(made.still_tables, name), getattr(again, name))


def test_coils_shade_as_points_say():
    made = _exam(1)
    scan, plane = dataclasses.replace(made.camera.scan, evenness=0.4, banding=0.5), made.stack[2]
    points, heart = plane.points(), made.camera._heart

    def near(where: np.ndarray) -> np.ndarray:
        off = where[..., None, :] - scan.coils
        return scan.floor + (1.0 / (0.12 + (off**2).sum(-1) / scan.coil_mm**2)).sum(-1)

    wanted = (near(points) / near(heart)) ** 0.6
    np.testing.assert_allclose(scanner.sensitivity(scan, plane, heart), wanted, rtol=1e-4)
    off = points - heart
    turns = off @ scan.band_way / np.linalg.norm(scan.band_way) / scan.band_mm + (off**2).sum(-1) / scan.band_mm**2
    wanted = 1.0 - 0.5 * np.maximum(-np.cos(2.0 * np.pi * turns), 0.0) ** 8
    np.testing.assert_allclose(scanner.bands(scan, plane, heart), wanted, atol=1e-3)


@pytest.mark.parametrize("name", ["sax", "4ch"])
def test_distances_to_solids_are_those_of_their_quadrics(name: str):
    made = _exam(2)
    still, plane = made.camera._body, made.stack[3] if name == "sax" else made._long(name)
    step = np.arange(plane.size) * plane.spacing
    point = plane.origin - made.case.subject.chest.centre
    form = still._forms(point, plane.row, plane.column, step, 0.25)
    power = np.stack([np.ones(plane.size), step, step**2]).astype(np.float32)
    near = 0
    for number, solid in enumerate(still._solids):
        off = plane.points() - made.case.subject.chest.centre - solid.centre
        scaled = off @ (np.eye(3) if solid.turn is None else solid.turn).T / solid.half
        slope = np.sqrt(((scaled / solid.half) ** 2).sum(-1))
        wanted = 0.25 * 0.5 * ((scaled**2).sum(-1) - 1.0) / np.maximum(slope, 1e-6)
        close = np.abs(wanted) < 2.0
        near += close.sum()
        got = body._distance(form[number], power)
        np.testing.assert_allclose(got[close], wanted[close], atol=0.02)
    assert near > 5000
