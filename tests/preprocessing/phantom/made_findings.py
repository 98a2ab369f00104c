"""Findings for the tests of reports: hearts of every disease with what they bring along, and any set of series."""

import dataclasses

import numpy as np

from preprocessing.phantom.findings import DISEASES, MOTIONS, PATTERNS, RHYTHMS, SERIES, Findings, Scar

_TERRITORIES = {"LAD": (1, 2, 7, 8, 13, 14, 17), "RCA": (3, 4, 9, 10, 15), "LCx": (5, 6, 11, 12, 16)}
_USUAL = frozenset(("cine_sax", "cine_2ch", "cine_3ch", "cine_4ch"))


def acquired(rng: np.random.Generator) -> frozenset[str]:
    """Mostly what a protocol has; else anything at all."""
    if rng.random() < 0.3:
        return frozenset(name for name in SERIES if rng.random() < 0.5)
    lge = {name for name in SERIES if name.startswith("lge_")} if rng.random() < 0.7 else set()
    maps = {name for name in ("t1_map", "t2_map") if rng.random() < 0.5}
    return _USUAL | lge | maps


def draw(rng: np.random.Generator) -> Findings:
    """A patient: plausible rather than right."""
    disease = str(rng.choice(DISEASES))
    s = 0.0 if disease == "normal" else float(rng.random())
    sex = "M" if rng.random() < 0.5 else "F"
    height, bmi = rng.uniform(1.55, 1.9), rng.uniform(20.0, 33.0)
    bsa = (height * 100 * bmi * height**2 / 3600) ** 0.5
    edv, lvef = bsa * rng.normal(78, 8), rng.normal(63, 3)
    rv_edv, rv_ef = bsa * rng.normal(80, 8), rng.normal(58, 3)
    healthy = Findings(
        acquired=acquired(rng),
        diseases=((disease, s),),
        sex=sex,
        age=int(rng.integers(20, 85)),
        height_m=height,
        weight_kg=bmi * height**2,
        heart_rate=rng.uniform(50, 95),
        rhythm=str(rng.choice(["sinus", "ectopy", "fibrillation"], p=[0.85, 0.08, 0.07])),
        lvef=lvef,
        edv_ml=edv,
        esv_ml=edv * (1 - lvef / 100),
        mass_g=bsa * rng.normal(60, 6),
        rv_ef=rv_ef,
        rv_edv_ml=rv_edv,
        rv_esv_ml=rv_edv * (1 - rv_ef / 100),
        left_atrium_ml=bsa * rng.normal(40, 6),
        right_atrium_ml=bsa * rng.normal(42, 4),
        wall_mm=tuple(rng.normal(8.5, 0.7, 17)),
        motion=("normal",) * 17,
        t1_ms=tuple(rng.normal(965, 12, 17)),
        t2_ms=tuple(rng.normal(48, 1.2, 17)),
        breathing=bool(rng.random() < 0.1),
        effusion_mm=float(rng.uniform(3, 25)) if rng.random() < 0.1 else 0.0,
    )
    if rng.random() < 0.3:
        day = f"20{rng.integers(10, 20)}{rng.integers(1, 13):02d}{rng.integers(1, 29):02d}"
        healthy = dataclasses.replace(
            healthy, prior_date=day, prior_lvef=float(np.clip(lvef + rng.normal(0, 8), 15, 75))
        )
    heart = _ill(rng, healthy, disease, s)
    if disease != "normal" and rng.random() < 0.1:  # a mixture
        other, milder = str(rng.choice(DISEASES[1:])), 0.7 * s
        if other != disease:
            heart = _ill(rng, dataclasses.replace(heart, diseases=(*heart.diseases, (other, milder))), other, milder)
    return heart


def anything(rng: np.random.Generator) -> Findings:
    """Findings that no patient has: every field anywhere in its range, whatever the others say."""

    def some() -> tuple[int, ...]:
        return tuple(sorted(int(n) for n in rng.choice(17, int(rng.integers(1, 18)), replace=False) + 1))

    def scar() -> Scar:
        return Scar(str(rng.choice(PATTERNS)), some(), float(rng.random()), str(rng.choice(["", "LAD", "RCA", "LCx"])))

    names = rng.permutation(DISEASES)[: int(rng.integers(1, 4))]
    prior = bool(rng.random() < 0.5)
    edv, rv_edv, lvef, rv_ef = rng.uniform(30, 600), rng.uniform(30, 600), rng.uniform(3, 88), rng.uniform(3, 88)
    return Findings(
        acquired=frozenset(name for name in SERIES if rng.random() < 0.6),
        diseases=tuple((str(name), float(rng.random())) for name in names),
        sex=str(rng.choice(["M", "F"])),
        age=int(rng.integers(18, 100)),
        height_m=rng.uniform(1.4, 2.1),
        weight_kg=rng.uniform(35, 180),
        heart_rate=rng.uniform(35, 140),
        rhythm=str(rng.choice(RHYTHMS)),
        lvef=lvef,
        edv_ml=edv,
        esv_ml=edv * (1 - lvef / 100),
        mass_g=rng.uniform(40, 500),
        rv_ef=rv_ef,
        rv_edv_ml=rv_edv,
        rv_esv_ml=rv_edv * (1 - rv_ef / 100),
        left_atrium_ml=rng.uniform(15, 400),
        right_atrium_ml=rng.uniform(15, 400) if rng.random() < 0.7 else None,
        septal_flattening=bool(rng.random() < 0.5),
        rv_bulging=bool(rng.random() < 0.5),
        wall_mm=tuple(rng.uniform(2, 30, 17)),
        motion=tuple(map(str, rng.choice(MOTIONS, 17))),
        scars=tuple(scar() for _ in range(int(rng.integers(4)))),
        t1_ms=tuple(rng.uniform(800, 1400, 17)),
        t2_ms=tuple(rng.uniform(35, 90, 17)),
        aneurysm=bool(rng.random() < 0.5),
        trabeculated=bool(rng.random() < 0.5),
        effusion_mm=rng.uniform(0, 40),
        breathing=bool(rng.random() < 0.5),
        prior_date="20190228" if prior else "",
        prior_lvef=rng.uniform(5, 80) if prior else None,
    )


def _set(values, segments, value):
    return tuple(value if n in segments else old for n, old in enumerate(values, 1))


def _function(heart: Findings, lvef: float, edv: float) -> Findings:
    return dataclasses.replace(heart, lvef=lvef, edv_ml=edv, esv_ml=edv * (1 - lvef / 100))


def _ill(rng: np.random.Generator, heart: Findings, disease: str, s: float) -> Findings:
    bsa, change = heart.bsa_m2, dataclasses.replace
    if disease == "dilated":
        heart = _function(heart, 48 - 28 * s, bsa * (108 + 80 * s))
        rv_ef = heart.rv_ef - 25 * s
        heart = change(heart, rv_ef=rv_ef, rv_esv_ml=heart.rv_edv_ml * (1 - rv_ef / 100))
        scars = (Scar("mid-wall", (2, 3, 8, 9), 0.3 + 0.2 * s),) if s > 0.5 else ()
        return change(heart, scars=scars, motion=("hypokinetic",) * 17, left_atrium_ml=bsa * (45 + 40 * s))
    if disease == "ischaemic":
        vessel = str(rng.choice(list(_TERRITORIES)))
        where = tuple(x for x in _TERRITORIES[vessel] if x > 6 or s > 0.4)
        kind = "hypokinetic" if s < 0.4 else "akinetic" if s < 0.65 else "dyskinetic"
        pattern = "transmural" if s > 0.6 else "subendocardial"
        heart = _function(heart, 56 - 28 * s, bsa * (85 + 45 * s))
        thin = _set(heart.wall_mm, where, 8 - 4 * s)
        motion = _set(heart.motion, where, kind)
        bulge = s > 0.65 and vessel == "LAD"
        return change(
            heart, scars=(Scar(pattern, where, 0.15 + 0.8 * s, vessel),), motion=motion, wall_mm=thin, aneurysm=bulge
        )
    if disease.startswith("hypertrophic") or disease == "amyloid":
        where = {"hypertrophic_septal": (2, 3, 8, 9), "hypertrophic_apical": (13, 14, 15, 16, 17)}.get(
            disease, tuple(range(1, 18))
        )
        heart = change(heart, wall_mm=_set(heart.wall_mm, where, 13.0 + 10 * s), mass_g=bsa * (75 + 40 * s))
        heart = change(heart, left_atrium_ml=bsa * (44 + 30 * s))
        if disease == "amyloid":
            t1 = tuple(x + 150 * s for x in heart.t1_ms)
            return change(
                heart, t1_ms=t1, scars=(Scar("diffuse", tuple(range(1, 17)), 0.15 + 0.6 * s),) if s > 0.05 else ()
            )
        scars = (Scar("insertion", (2, 3), 0.3), Scar("mid-wall", where[:2], 0.4)) if s > 0.5 else ()
        return change(heart, scars=scars)
    if disease == "myocarditis":
        where = (5, 11, 6)
        t2 = _set(heart.t2_ms, where if s < 0.85 else tuple(range(1, 18)), 52 + 14 * s)
        scars = (Scar("subepicardial", where, 0.15 + 0.35 * s),) if s > 0.1 else ()
        return change(heart, scars=scars, t2_ms=t2, t1_ms=_set(heart.t1_ms, where, 1030 + 130 * s))
    if disease == "sarcoid":
        scars = (Scar("mid-wall", (2, 3), 0.3 + 0.3 * s), Scar("subepicardial", (5, 11), 0.3))[: 1 + (s > 0.5)]
        return change(_function(heart, 60 - 20 * s, heart.edv_ml * (1 + 0.2 * s)), scars=scars)
    if disease in ("arvc", "rv_overload"):
        edv, ef = bsa * (108 + 70 * s), 50 - 24 * s
        heart = change(heart, rv_edv_ml=edv, rv_ef=ef, rv_esv_ml=edv * (1 - ef / 100))
        heart = change(heart, right_atrium_ml=bsa * (46 + 30 * s))
        return change(heart, rv_bulging=True) if disease == "arvc" else change(heart, septal_flattening=s > 0.2)
    if disease == "noncompaction":
        return change(_function(heart, 58 - 24 * s, bsa * (90 + 50 * s)), trabeculated=s > 0.2)
    return heart
