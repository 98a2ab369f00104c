"""Greys of clinical cines: blood and fat bright, muscle grey, lung dark, in the proportions of real pictures."""

import dataclasses
import pathlib
import re

import numpy as np
import pydicom
import pytest
from matplotlib.path import Path as Outline

from preprocessing.phantom import findings, visits
from preprocessing.phantom.clinical import camera, exam, layers, series
from preprocessing.phantom.clinical.case import Case

SMALL = visits.Settings(studies=3, seed=2, slices=5, phases=6, matrix=48, variety="clinical")
CONTOURED = {"SC-HF-I-1": "SCD0000101", "SC-HF-I-2": "SCD0000201", "SC-HF-I-4": "SCD0000301"}


def drawn(disease: str, patient: int) -> Case:
    case = exam.draw(SMALL, visits.Visit(patient, patient, 0, disease))[0]
    found = dataclasses.replace(case.findings, acquired=frozenset(findings.SERIES), breathing=False)
    return dataclasses.replace(case, findings=found)


def _medians(case: Case, seed: int) -> dict[str, float]:
    """Median of blood, muscle, fat under the skin and lung on a short-axis cine without bad luck of its scanner."""
    settings = dataclasses.replace(SMALL, matrix=128)
    made = series.Exam(settings, case, "siemens", np.random.default_rng(seed))
    made.camera.scan = dataclasses.replace(
        made.camera.scan, evenness=1.0, banding=0.0, ghost=0.0, round_field=0.0, bow=0.0
    )
    made.how = dataclasses.replace(made.how, misplaced=0.0)
    plane = made.stack[len(made.stack) // 2]
    picture = made._beating(plane)[0]
    names = camera.label_map(case.subject, plane, made.beat)[0]
    only = dict.fromkeys(made.palette, 0.0)
    still = {
        name: made.camera._body.slice(
            plane.origin, plane.row, plane.column, plane.spacing, plane.size, only | {name: 1.0}, whole=True
        )
        for name in ("fat", "lung")
    }
    away = camera.heart_box(case.subject, camera.in_heart(case.subject, plane))
    for mask in still.values():
        mask[away] = 0.0
    return {
        "blood": float(np.median(picture[names == layers.LV])),
        "muscle": float(np.median(picture[names == layers.MYOCARDIUM])),
        "fat": float(np.median(picture[still["fat"] > 0.97])),
        "lung": float(np.median(picture[still["lung"] > 0.97])),
    }


@pytest.fixture(scope="module")
def medians() -> list[dict[str, float]]:
    return [_medians(drawn("normal", number), number) for number in range(8)]


def test_tissues_are_ordered_as_in_balanced_ssfp(medians):
    for got in medians:
        assert got["lung"] < 0.75 * got["muscle"] < 0.75 * 0.6 * got["blood"], got
        assert got["fat"] > 1.4 * got["muscle"] and got["fat"] > 0.7 * got["blood"], got


def _real(folder: pathlib.Path, name: str, patient: str) -> dict[str, float]:
    """Medians within the experts' contours, and what lies to the left of the heart (lung) and shines most (fat)."""
    frames = {
        int(f.InstanceNumber): f for f in map(pydicom.dcmread, (folder / "dicom" / patient / "cine_sax").iterdir())
    }
    found: dict[str, list[float]] = {"blood": [], "muscle": [], "lung": [], "fat": []}
    for outer in sorted((folder / "contours" / name).rglob("*ocontour-manual.txt")):
        match = re.search(r"IM-\d+-(\d+)", outer.name)
        inner = pathlib.Path(str(outer).replace("o-contours", "i-contours").replace("ocontour", "icontour"))
        if not match or int(match[1]) not in frames or not inner.exists():
            continue
        frame = frames[int(match[1])]
        picture, spacing = frame.pixel_array.astype(float), float(frame.PixelSpacing[0])
        down, along = np.mgrid[: picture.shape[0], : picture.shape[1]]
        points = np.stack([along.ravel(), down.ravel()], 1)
        line, centre = np.loadtxt(outer), np.loadtxt(outer).mean(0)

        def within(file: pathlib.Path, grow: float, points=points, shape=picture.shape) -> np.ndarray:
            return Outline(np.loadtxt(file)).contains_points(points, radius=grow).reshape(shape)

        off_x, off_y = (along - centre[0]) * spacing, (down - centre[1]) * spacing
        away = np.hypot(off_x, off_y) - spacing * np.hypot(*(line - centre).T).mean()
        lateral = (away > 8) & (away < 40) & (off_x > 0) & (np.abs(off_y) < 30)
        found["blood"].append(np.median(picture[within(inner, -2)]))
        found["muscle"].append(np.median(picture[within(outer, -1) & ~within(inner, 1)]))
        found["lung"].append(float(np.percentile(picture[lateral], 20)))
        found["fat"].append(float(np.percentile(picture, 99)))
    return {tissue: float(np.median(values)) for tissue, values in found.items()}


def test_tissues_are_ordered_as_in_real_files(medians, real_data):
    real = [_real(real_data / "sunnybrook", name, patient) for name, patient in CONTOURED.items()]
    order = ["lung", "muscle", "blood"]
    for got in real + medians:
        assert sorted(order, key=lambda tissue: got[tissue]) == order, got
        assert got["fat"] > got["muscle"], got
    for tissue, margin in (("muscle", 0.06), ("lung", 0.06)):
        seen = [got[tissue] / got["blood"] for got in real]
        ours = np.median([got[tissue] / got["blood"] for got in medians])
        assert min(seen) - margin < ours < max(seen) + margin, (tissue, seen, ours)
