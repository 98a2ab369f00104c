"""One study of the clinical variety from beginning to end: the patient, the case, the files, the rows of the tables."""

import dataclasses
import datetime
import pathlib

import numpy as np

from preprocessing.phantom import dicom, enhanced, people
from preprocessing.phantom.clinical import case as cases
from preprocessing.phantom.clinical import planes, population, series
from preprocessing.phantom.clinical.case import Case
from preprocessing.phantom.findings import Findings
from preprocessing.phantom.grammar import letter
from preprocessing.phantom.visits import HABIT, Settings, Visit, stream

# Each kind of chance has a stream of its own, so that more words or planes never change another patient's heart.
_PATIENT, _BODY, _SICK, _PROGRESS, _DAY, _PICTURES, _FILES, _LETTER = range(100, 108)


def draw(settings: Settings, visit: Visit) -> tuple[Case, dicom.Identity]:
    """The case and the headers of a visit; a second visit knows what the first one found."""
    rng = stream(settings, _PATIENT, visit.patient)
    who = population.person(rng, visit.group)
    base = population.healthy(rng, who)
    name = people.name(rng, who.sex)
    vendor = people.vendor(rng, settings)
    date = datetime.date(2015, 1, 1) + datetime.timedelta(days=int(rng.integers(2500)))
    birth = datetime.date(date.year - who.age, 1, 1) - datetime.timedelta(days=int(rng.integers(1, 364)))
    phases = settings.phases if settings.phases != HABIT else planes.PHASES[vendor]
    before, first = None, ""
    if visit.visit:
        before = _built(settings, visit.patient, 0, who, base, phases).findings
        first = f"{date:%Y%m%d}"
        later = stream(settings, _PROGRESS, visit.patient)
        days = int(later.integers(150, 1100))
        date += datetime.timedelta(days=days)
        who = population.progressed(later, who, days / 365.25)
    built = _built(settings, visit.patient, visit.visit, who, base, phases)
    if before is not None:
        # What the earlier letter said, not what was true then.
        said = letter.plan(stream(settings, _LETTER, visit.patient, 0), before).reading.numbers.get("lvef")
        known = dataclasses.replace(built.findings, prior_date=first, prior_lvef=said)
        built = dataclasses.replace(built, findings=known)
    identity = people.identity(
        settings,
        visit,
        stream(settings, _LETTER, visit.patient, visit.visit, 1),
        patient_name=name,
        birth=birth,
        date=date,
        sex=who.sex,
        age=who.age,
        weight_kg=who.weight_kg,
        height_m=who.height_m,
        vendor=vendor,
    )
    return built, identity


def _built(
    settings: Settings, patient: int, visit: int, who: population.Person, base: population.Healthy, phases: int
) -> Case:
    day = stream(settings, _DAY, patient, visit)
    body, sick = stream(settings, _BODY, patient), stream(settings, _SICK, patient)
    return cases.build(day, body, sick, who, base, phases)


def pictures(settings: Settings, visit: Visit, built: Case, vendor: str) -> list[dicom.SeriesPlan]:
    """The series of a visit, as `draw` gave it."""
    return series.series_of(settings, built, vendor, stream(settings, _PICTURES, visit.patient, visit.visit))


def make(settings: Settings, visit: Visit, out: pathlib.Path) -> tuple[dict[str, object], dict[str, object]]:
    """Writes the files of one study under `out` and returns its rows of reports.csv and truth.csv."""
    built, who = draw(settings, visit)
    rng = stream(settings, _FILES, visit.patient, visit.visit)
    folder = out / "dicom" / dicom.file_name(who.study_uid)
    folder.mkdir(parents=True)
    write = enhanced.write if settings.enhanced else dicom.write_classic
    for number, plan in enumerate(pictures(settings, visit, built, who.vendor), 1):
        write(folder, who, plan, number, rng)
    text = letter.compose(
        stream(settings, _LETTER, visit.patient, visit.visit),
        built.findings,
        patient_name=who.patient_name,
        study_date=who.study_date,
        physician=who.physician,
    )
    ids = {"study_uid": who.study_uid, "patient_id": who.patient_id}
    row = truth_row(built.findings, who.vendor)
    return {**ids, "report": text, "group": row["group"]}, {**ids, **row}


def truth_row(found: Findings, vendor: str) -> dict[str, object]:
    """What truth.csv says beside the study's ids. Lists of segments are joined by blanks."""
    first, *rest = found.diseases
    second, severity2 = rest[0] if rest else ("", 0.0)
    numbers = {
        "severity": first[1],
        "severity2": severity2,
        "lvef": found.lvef,
        "edv_ml": found.edv_ml,
        "esv_ml": found.esv_ml,
        "wall_mm": max(found.wall_mm[:16]),
        "wall_min_mm": min(found.wall_mm[:16]),
        "mass_g": found.mass_g,
        "rv_edv_ml": found.rv_edv_ml,
        "rv_esv_ml": found.rv_esv_ml,
        "rv_ef": found.rv_ef,
        "la_ml": found.left_atrium_ml,
        "ra_ml": found.right_atrium_ml,
        "bsa_m2": found.bsa_m2,
        "heart_rate": found.heart_rate,
        "effusion_mm": found.effusion_mm,
        "scar_transmurality": max((scar.transmurality for scar in found.scars), default=0.0),
    }
    maps = {"t1_ms": found.t1_ms, "t2_ms": found.t2_ms}
    return {
        "group": first[0],
        "disease2": second,
        "territory": next((scar.territory for scar in found.scars if scar.territory), ""),
        "sex": found.sex,
        "age": found.age,
        "vendor": vendor,
        "rhythm": found.rhythm,
        "scar": int(bool(found.scars)),
        "scar_pattern": " ".join(dict.fromkeys(scar.pattern for scar in found.scars)),
        "scar_segments": " ".join(map(str, sorted({n for scar in found.scars for n in scar.segments}))),
        "motion": " ".join(found.motion),
        "aneurysm": int(found.aneurysm),
        "trabeculated": int(found.trabeculated),
        "septal_flattening": int(found.septal_flattening),
        "rv_bulging": int(found.rv_bulging),
        "breathing": int(found.breathing),
        "acquired": " ".join(sorted(found.acquired)),
        **{name: f"{np.mean(values):.2f}" if values else "" for name, values in maps.items()},
        **{name: f"{value:.4f}" for name, value in numbers.items()},
    }
