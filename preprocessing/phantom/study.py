"""One study from beginning to end: draw the truth, lay the planes, make the pictures, write files and table rows.

Everything is a pure function of the seed and the study's number, so any number of workers makes the same files.
"""

import dataclasses
import datetime
import pathlib

import numpy as np

from preprocessing.phantom import dicom, enhanced, people, render, reports, truth
from preprocessing.phantom.clinical import exam
from preprocessing.phantom.sketch.stack import draw_stack
from preprocessing.phantom.visits import VARIETIES, Settings, Visit, stream, visits

__all__ = ["VARIETIES", "Settings", "Visit", "draw", "make", "sections_of", "series_of", "truth_row", "visits"]

# What operators type; "silent" is a name without the plane, so that geometry must tell.
_DESCRIPTIONS = {
    "siemens": {"sax": ("cine_trufi_sax", "sa_cine_stack"), "2ch": ("cine_trufi_2ch",), "3ch": ("cine_trufi_3ch",),
                "4ch": ("cine_trufi_4ch",), "silent": "cine_trufi_retro", "scout": "localizer"},
    "ge": {"sax": ("SAX FIESTA", "FIESTA SHORT AXIS"), "2ch": ("2CH FIESTA",), "3ch": ("3CH FIESTA", "LVOT FIESTA"),
           "4ch": ("4CH FIESTA",), "silent": "FIESTA CINE", "scout": "3-PL LOC"},
    "philips": {"sax": ("sBTFE_BH SA", "B-TFE_SA_MS"), "2ch": ("sBTFE_BH_2ch",), "3ch": ("sBTFE_BH_3ch",),
                "4ch": ("sBTFE_BH_4ch",), "silent": "sBTFE_BH", "scout": "SURVEY"},
}  # fmt: skip
# Each kind of chance has a stream of its own, so that more words or planes never change another patient's heart.
_STREAM_PATIENT, _STREAM_BODY, _STREAM_PROGRESS, _STREAM_STUDY, _STREAM_PICTURES, _STREAM_FILES = range(6)
_STREAM_REPORT, _STREAM_INDICATION, _STREAM_LETTER, _STREAM_SKETCH, _STREAM_NOISE = range(6, 11)


def draw(settings: Settings, visit: Visit) -> tuple[truth.Truth, dicom.Identity, str]:
    """The truth and the headers of a visit, and the date of the visit before ("" where there is none)."""
    rng = stream(settings, _STREAM_PATIENT, visit.patient)
    targets = truth.draw(rng, visit.group)
    sick = rng.integers(1 << 32)
    first = datetime.date(2015, 1, 1) + datetime.timedelta(days=int(rng.integers(2500)))
    birth = datetime.date(first.year - targets.age, 1, 1) - datetime.timedelta(days=int(rng.integers(1, 364)))
    name = people.name(rng, targets.sex)
    vendor = people.vendor(rng, settings)
    date = first
    if visit.visit:
        later = stream(settings, _STREAM_PROGRESS, visit.patient)
        days = int(later.integers(150, 1100))
        date = first + datetime.timedelta(days=days)
        targets = truth.progressed(later, targets, days / 365.25)
    targets = truth.diseased(np.random.default_rng(sick), targets)
    day = stream(settings, _STREAM_STUDY, visit.patient, visit.visit)
    body = stream(settings, _STREAM_BODY, visit.patient)
    built = truth.build(day, body, targets, settings.phases)
    identity = people.identity(
        settings,
        visit,
        day,
        patient_name=name,
        birth=birth,
        date=date,
        sex=targets.sex,
        age=targets.age,
        weight_kg=targets.weight_kg,
        height_m=targets.height_m,
        vendor=vendor,
    )
    return built, identity, f"{first:%Y%m%d}" if visit.visit else ""


def _times(rng: np.random.Generator, interval_ms: float, slices: int, phases: int) -> tuple[np.ndarray, float]:
    """Trigger times of each slice, `S T`: every breath-hold has a heart rate of its own."""
    interval = interval_ms * rng.normal(1.0, 0.02, (slices, 1))
    times = interval * np.arange(phases) / phases + rng.uniform(0.0, 8.0, (slices, 1))
    return np.round(times, 2), float(interval.mean())


def series_of(settings: Settings, visit: Visit, built: truth.Truth, vendor: str) -> list[dicom.SeriesPlan]:
    """Scout, long axes and short axis, in the vendor's habit."""
    rng = stream(settings, _STREAM_PICTURES, visit.patient, visit.visit)
    noisy = stream(settings, _STREAM_NOISE, visit.patient, visit.visit)
    subject = built.subject
    field = float(np.clip(2.0 * subject.chest.half_width + rng.uniform(-30.0, 20.0), 290.0, 400.0))
    noise, gain = rng.uniform(0.015, 0.045), rng.uniform(250.0, 900.0)
    sax, lax = render.plan(subject, rng, slices=settings.slices, size=settings.matrix, field_mm=field)
    if rng.random() < 0.4:
        sax.reverse()
    names = _DESCRIPTIONS[vendor]
    silent = rng.random() < 0.3
    rest = np.zeros(1)

    def shoot(planes: list[render.Plane], contracted: np.ndarray) -> np.ndarray:
        return np.stack([render.picture(subject, p, contracted, noisy, noise=noise, gain=gain) for p in planes])

    def cine(name: str, planes: list[render.Plane]) -> dicom.SeriesPlan:
        text = names["silent"] if silent else names[name][rng.integers(len(names[name]))]
        times, interval = _times(rng, 60000.0 / built.targets.heart_rate, len(planes), settings.phases)
        return dicom.SeriesPlan(text, planes, shoot(planes, built.contracted), times, interval)

    survey = render.scouts(subject, settings.matrix, 1.15 * field)
    out = [dicom.SeriesPlan(names["scout"], survey, shoot(survey, rest), np.zeros((3, 1)), 0.0, scout=True)]
    out += [cine(name, [lax[name]]) for name in rng.permutation(list(lax))]
    stack = cine("sax", sax)
    if vendor != "siemens":
        return [*out, stack]
    for s in range(len(sax)):
        one = slice(s, s + 1)
        out.append(dataclasses.replace(stack, planes=sax[one], frames=stack.frames[one], times_ms=stack.times_ms[one]))
    return out


def make(settings: Settings, visit: Visit, out: pathlib.Path) -> tuple[dict[str, object], dict[str, object]]:
    """Writes the files of one study under `out` and returns its rows of reports.csv and truth.csv."""
    if settings.variety == "clinical":
        return exam.make(settings, visit, out)
    if settings.variety == "sketch":
        return _make_sketch(settings, visit, out)
    built, who, prior = draw(settings, visit)
    rng = stream(settings, _STREAM_FILES, visit.patient, visit.visit)
    folder = out / "dicom" / dicom.file_name(who.study_uid)
    folder.mkdir(parents=True)
    write = enhanced.write if settings.enhanced else dicom.write_classic
    for number, series in enumerate(series_of(settings, visit, built, who.vendor), 1):
        write(folder, who, series, number, rng)
    text = reports.compose(
        stream(settings, _STREAM_LETTER, visit.patient, visit.visit),
        sections_of(settings, visit, built, prior),
        patient_name=who.patient_name,
        study_date=who.study_date,
        physician=who.physician,
    )
    ids = {"study_uid": who.study_uid, "patient_id": who.patient_id}
    return {**ids, "report": text, "group": built.targets.group}, {**ids, **truth_row(who, built)}


def _make_sketch(settings: Settings, visit: Visit, out: pathlib.Path) -> tuple[dict[str, object], dict[str, object]]:
    """A study of a drawn heart: one stack, and a report of what was measured."""
    _, who, _ = draw(settings, visit)
    rng = stream(settings, _STREAM_SKETCH, visit.patient, visit.visit)
    stack = draw_stack(
        rng, slices=settings.slices, phases=settings.phases, size=settings.matrix, without=settings.without
    )
    folder = out / "dicom" / dicom.file_name(who.study_uid)
    folder.mkdir(parents=True)
    interval = float(rng.uniform(550.0, 1200.0))
    times, interval = _times(rng, interval, len(stack.planes), settings.phases)
    text = _DESCRIPTIONS[who.vendor]["sax"][0]
    write = enhanced.write if settings.enhanced else dicom.write_classic
    write(folder, who, dicom.SeriesPlan(text, stack.planes, stack.frames, times, interval), 1, rng)
    ids = {"study_uid": who.study_uid, "patient_id": who.patient_id}
    common = {"sex": who.sex, "age": who.age, "vendor": who.vendor}
    said = f"FINDINGS: Left ventricular ejection fraction {stack.truth['lvef']:.0f} percent."
    numbers = {name: value if isinstance(value, str) else f"{value:.4f}" for name, value in stack.truth.items()}
    return {**ids, "report": said, "group": stack.truth["group"]}, {**ids, **common, **numbers}


def sections_of(settings: Settings, visit: Visit, built: truth.Truth, prior: str) -> reports.Sections:
    """The report of a visit, as `draw` gave it."""
    words = stream(settings, _STREAM_REPORT, visit.patient, visit.visit)
    plain = stream(settings, _STREAM_INDICATION, visit.patient, visit.visit)
    return reports.sections(words, plain, built, prior_date=prior)


def truth_row(who: dicom.Identity, built: truth.Truth) -> dict[str, object]:
    """What truth.csv says beside the study's ids."""
    targets = built.targets
    numbers = {
        "severity": targets.severity,
        "lvef": built.lvef,
        "edv_ml": built.edv,
        "esv_ml": built.esv,
        "wall_mm": built.wall_max,
        "wall_min_mm": built.wall_min,
        "mass_g": built.mass,
        "rv_edv_ml": built.rv_edv,
        "rv_esv_ml": built.rv_esv,
        "rv_ef": built.rv_ef,
        "bsa_m2": targets.bsa,
        "heart_rate": targets.heart_rate,
    }
    return {
        "group": targets.group,
        "territory": targets.territory,
        "sex": targets.sex,
        "age": targets.age,
        "vendor": who.vendor,
        "scar": int(bool(targets.territory)),
        **{name: f"{value:.4f}" for name, value in numbers.items()},
    }
