"""What one reader measures and sees of a clinical phantom: the truth with a reader's error, and only where pictures
show it.

The error is that of experts against one another: 2.5 points of ejection fraction, 4 % of left ventricular volumes
(Suinesiaputra et al., JCMR 2015; Bhuva et al., Circ Cardiovasc Imaging 2019), more of mass, right ventricle and
atrium.
"""

import dataclasses
from collections.abc import Collection, Mapping, Sequence

import numpy as np

from preprocessing.phantom.findings import Findings, Scar
from preprocessing.phantom.grammar.segments import shown
from preprocessing.phantom.reading import grade

# Upper limits of normal, mild and moderate, of men and women; volumes by body surface in mL/m².
LIMITS = {
    "lv_size": {"M": (108.0, 130.0, 160.0), "F": (102.0, 124.0, 152.0)},
    "rv_size": {"M": (112.0, 137.0, 165.0), "F": (108.0, 132.0, 160.0)},
    "la_size": {"M": (55.0, 66.0, 78.0), "F": (55.0, 66.0, 78.0)},
    "ra_size": {"M": (52.0, 62.0, 74.0), "F": (52.0, 62.0, 74.0)},
    "wall": {"M": (12.0, 16.0, 20.0), "F": (12.0, 16.0, 20.0)},
}
LV_LOW, RV_LOW = (-53.0, -41.0, -30.0), (-47.0, -38.0, -29.0)
HYPERDYNAMIC = 72.0
# Native times at 1.5 T (Kawel-Boehm et al., JCMR 2020, with the deviations of one scanner); women's T1 is longer.
T1_HIGH_MS, T2_HIGH_MS = {"M": 1010.0, "F": 1035.0}, 55.0
_FOCAL = {"t1": 45.0, "t2": 4.5}  # ms above the rest of the wall that a reader sees on a map
_THIN = 0.7  # of the usual thickness of the same heart
_NEAR = 0.015  # of a limit: two grades are named
_NEARLY = 3.0  # points of ejection fraction below the limit that a reader calls borderline or low normal
_JUST = 1.03  # so far above the first limit a reader says borderline
_SPOKEN_OF_MM = 3.0  # less pericardial fluid is physiological
_MOST = 0.6  # of the segments: the ventricle as a whole
_THICKER = 1.3  # one region against another, to call hypertrophy asymmetric
_REGIONS = {"septal": (2, 3, 8, 9, 14), "lateral": (5, 6, 11, 12, 16), "apical": (13, 14, 15, 16, 17)}


@dataclasses.dataclass(frozen=True)
class Reading:
    """`numbers` as they will be stated (mL, g, mm, ms, percent, mL/m², g/m²; rounded), of what was measured only.

    `grades`: "", "borderline", "mild", "mild to moderate", "moderate", "moderate to severe", "severe" of what was seen
    (lv_size, lv_function, wall, rv_size, rv_function, la_size, ra_size). `method`: how the ejection fraction was had:
    "volumetry", "biplane", "visual" or "" where no cine was acquired. `raised`: the segments where a map ("t1", "t2")
    is above normal; missing without a map.
    """

    numbers: Mapping[str, float]
    grades: Mapping[str, str]
    method: str
    shape: str  # of thick walls: "septal", "apical", "concentric"
    thickest: tuple[int, ...]
    thin: tuple[int, ...]
    motion: Mapping[str, tuple[int, ...]]  # segments by motion, all but "normal"
    scars: tuple[Scar, ...]
    raised: Mapping[str, tuple[int, ...]]


def read(rng: np.random.Generator, findings: Findings) -> Reading:
    """Draws the errors of one reader, always the same number of them, and reads with them."""
    error = rng.normal(size=13).clip(-2.5, 2.5)
    seen = shown(findings.acquired, "cine")
    method = _method(findings.acquired)
    numbers = {"bsa": round(findings.bsa_m2, 2), "heart_rate": round(findings.heart_rate)}
    if method:
        numbers |= _left(findings, method, error)
    numbers |= _right(findings, error) | _atria(findings, error)
    walls = {s: findings.wall_mm[s - 1] + 0.4 * error[8] for s in sorted(seen)}
    if walls:
        numbers["wall_max"] = round(max(walls.values()))
    if findings.effusion_mm + 0.5 * error[9] >= _SPOKEN_OF_MM and method:
        numbers["effusion"] = round(findings.effusion_mm + 0.5 * error[9])
    scars = tuple(_scar(scar, findings.acquired, 0.05 * error[7]) for scar in findings.scars)
    maps = _maps(findings, error)
    grades = _grades(findings, numbers, error)
    motion = _motion(findings, seen, normal=not grades.get("lv_function"))
    return Reading(
        numbers=numbers | maps[0],
        grades=grades,
        method=method,
        shape=_shape(walls),
        thickest=_thickest(walls),
        thin=_thin(walls, motion, scars),
        motion=motion,
        scars=tuple(scar for scar in scars if scar.segments),
        raised=maps[1],
    )


def _motion(findings: Findings, seen: Collection[int], *, normal: bool) -> dict[str, tuple[int, ...]]:
    """Segments by how they move, all but normally. Nobody calls a ventricle hypokinetic that ejects normally."""
    out = {
        name: found
        for name in ("hypokinetic", "akinetic", "dyskinetic")
        if (found := tuple(s for s in sorted(seen) if findings.motion[s - 1] == name))
    }
    if normal and len(out.get("hypokinetic", ())) > _MOST * len(seen):
        del out["hypokinetic"]
    return out


def _method(acquired: Collection[str]) -> str:
    if "cine_sax" in acquired:
        return "volumetry"
    if {"cine_2ch", "cine_4ch"} <= set(acquired):
        return "biplane"
    return "visual" if any(name.startswith("cine_") for name in acquired) else ""


def _left(findings: Findings, method: str, error: np.ndarray) -> dict[str, float]:
    """Volumes that agree with one another after rounding: stroke volume, ejection fraction, indices."""
    edv = round(findings.edv_ml * (1.0 + 0.04 * error[0]))
    fraction = float(np.clip(findings.lvef + 2.5 * error[1], 5.0, 85.0)) / 100.0
    esv = round(edv * (1.0 - fraction))
    lvef = round(100.0 * (edv - esv) / edv)
    if method == "visual":
        return {"lvef": lvef}
    bsa = findings.bsa_m2
    output = round((edv - esv) * round(findings.heart_rate) / 1000.0, 1)
    out = {
        "lvef": lvef,
        "output": output,
        "edv": edv,
        "esv": esv,
        "sv": edv - esv,
        "edvi": round(edv / bsa),
        "esvi": round(esv / bsa),
    }
    if method == "volumetry":
        mass = round(findings.mass_g * (1.0 + 0.05 * error[2]))
        out |= {"mass": mass, "massi": round(mass / bsa)}
    return out


def _right(findings: Findings, error: np.ndarray) -> dict[str, float]:
    if "cine_sax" not in findings.acquired:
        return {}
    edv, fraction = _right_raw(findings, error)
    edv = round(edv)
    esv = round(edv * (1.0 - fraction))
    bsa = findings.bsa_m2
    return {"rvef": round(100.0 * (edv - esv) / edv), "rv_edv": edv, "rv_esv": esv, "rv_edvi": round(edv / bsa),
            "rv_esvi": round(esv / bsa)}  # fmt: skip


def _right_raw(findings: Findings, error: np.ndarray) -> tuple[float, float]:
    fraction = float(np.clip(findings.rv_ef + 3.0 * error[3], 5.0, 85.0)) / 100.0
    return findings.rv_edv_ml * (1.0 + 0.05 * error[4]), fraction


def _atria(findings: Findings, error: np.ndarray) -> dict[str, float]:
    """The left atrium from two planes, the right one from the one that shows it."""
    out = {}
    if {"cine_2ch", "cine_4ch"} <= set(findings.acquired):
        volume = round(findings.left_atrium_ml * (1.0 + 0.06 * error[5]))
        out |= {"la": volume, "lai": round(volume / findings.bsa_m2)}
    if "cine_4ch" in findings.acquired and findings.right_atrium_ml is not None:
        volume = round(findings.right_atrium_ml * (1.0 + 0.06 * error[12]))
        out |= {"ra": volume, "rai": round(volume / findings.bsa_m2)}
    return out


def _grades(findings: Findings, numbers: Mapping[str, float], error: np.ndarray) -> dict[str, str]:
    """By the stated numbers, or by eye where a long axis shows the chamber but does not measure it."""
    out, acquired, bsa = {}, findings.acquired, findings.bsa_m2
    if "lvef" in numbers:
        out["lv_function"] = _low(numbers["lvef"], LV_LOW)
        out["lv_size"] = _high(
            numbers.get("edvi", findings.edv_ml * (1.0 + 0.04 * error[0]) / bsa), LIMITS["lv_size"][findings.sex]
        )
        out["wall"] = _high(numbers["wall_max"], LIMITS["wall"][findings.sex], just=1.0)
    if acquired & {"cine_sax", "cine_4ch"}:
        volume, fraction = _right_raw(findings, error)
        out["rv_size"] = _high(numbers.get("rv_edvi", volume / bsa), LIMITS["rv_size"][findings.sex])
        out["rv_function"] = _low(numbers.get("rvef", 100.0 * fraction), RV_LOW)
    if acquired & {"cine_2ch", "cine_4ch"}:
        volume = findings.left_atrium_ml * (1.0 + 0.06 * error[5])
        out["la_size"] = _high(numbers.get("lai", volume / bsa), LIMITS["la_size"][findings.sex])
    if "rai" in numbers:
        out["ra_size"] = _high(numbers["rai"], LIMITS["ra_size"][findings.sex])
    return out


def _high(value: float, limits: tuple[float, float, float], just: float = _JUST) -> str:
    found = grade(value, *limits)
    if found == "mild" and value < just * limits[0]:
        return "borderline"
    return _between(found, [abs(value / limit - 1.0) for limit in limits[1:]], _NEAR)


def _low(percent: float, limits: tuple[float, float, float]) -> str:
    found = grade(-percent, *limits)
    if found == "mild" and -percent < limits[0] + _NEARLY:
        return "borderline"
    return _between(found, [abs(percent + limit) for limit in limits[1:]], 1.0)


def _between(found: str, off: Sequence[float], near: float) -> str:
    """`found`, or two grades where the value lies `near` the limit between them; `off`: from the two upper limits."""
    if found and off[0] <= near:
        return "mild to moderate"
    return "moderate to severe" if found and off[1] <= near else found


def _shape(walls: Mapping[int, float]) -> str:
    def mean(segments: Collection[int]) -> float:
        known = [walls[s] for s in segments if s in walls]
        return float(np.mean(known)) if known else 0.0

    basal = mean([s for s in walls if s <= 6])
    if basal and mean(_REGIONS["apical"]) > _THICKER * basal:
        return "apical"
    lateral = mean(_REGIONS["lateral"])
    return "septal" if lateral and mean(_REGIONS["septal"]) > _THICKER * lateral else "concentric"


def _thin(
    walls: Mapping[int, float], motion: Mapping[str, tuple[int, ...]], scars: Collection[Scar]
) -> tuple[int, ...]:
    """Segments that an infarct has thinned: the tip is thin in every heart, and so are the walls of small ones."""
    suspected = {s for name in ("akinetic", "dyskinetic") for s in motion.get(name, ())}
    suspected |= {s for scar in scars if scar.territory for s in scar.segments}
    usual = float(np.median([mm for s, mm in walls.items() if s != 17])) if walls else 0.0
    return tuple(s for s in sorted(suspected & set(walls) - {17}) if walls[s] < _THIN * usual)


def _thickest(walls: Mapping[int, float]) -> tuple[int, ...]:
    return (max(walls, key=lambda s: walls[s]),) if walls else ()


def _scar(scar: Scar, acquired: Collection[str], error: float) -> Scar:
    """The lesion as far as the acquired planes show it; no segments where they miss it."""
    seen = shown(acquired, "lge")
    depth = float(np.clip(scar.transmurality + error, 0.02, 1.0))
    return dataclasses.replace(scar, segments=tuple(s for s in scar.segments if s in seen), transmurality=depth)


def _maps(findings: Findings, error: np.ndarray) -> tuple[dict[str, float], dict[str, tuple[int, ...]]]:
    """Mean and highest segment of each map (in short axis: segments 1 to 16), and where it is above normal."""
    numbers: dict[str, float] = {}
    raised = {}
    for name, values, spread, limit in (
        ("t1", findings.t1_ms, 8.0 * error[10], T1_HIGH_MS[findings.sex]),
        ("t2", findings.t2_ms, 0.8 * error[11], T2_HIGH_MS),
    ):
        if f"{name}_map" not in findings.acquired or not values:
            continue
        read_off = np.asarray(values[:16]) + spread
        numbers |= {name: round(float(read_off.mean())), f"{name}_max": round(float(read_off.max()))}
        raised[name] = tuple(
            int(s) + 1 for s in np.flatnonzero(read_off > min(limit, float(np.median(read_off)) + _FOCAL[name]))
        )
    return numbers, raised
