"""What each disease makes of a healthy heart, by its severity of 0 to 1: volumes, walls, motion, scars, relaxation.

Sizes are our choice within what clinical reports show and are fitted to no table (relaxation times as at 1.5 T).
Severity is continuous and starts where a reader would begin to see it, so that neighbouring grades look alike and mild
disease is nearly healthy.
"""

import dataclasses
from collections.abc import Callable

import numpy as np

from preprocessing.phantom.clinical.population import Healthy, Person
from preprocessing.phantom.clinical.segments import TERRITORIES
from preprocessing.phantom.findings import Scar


@dataclasses.dataclass
class Plan:
    """The heart to be built; diseases change it one after the other. Units as in `Findings`; fractions 0..1."""

    bsa: float
    edv: float
    ef: float
    rv_ef: float
    atrium: float
    heart_rate: float
    thicken: np.ndarray  # 17, factor on the healthy wall
    least_wall: np.ndarray  # 17, mm: the wall is at least so thick
    motion: np.ndarray  # 17
    rv_edv: float = 0.0  # 0: what the left ventricle's stroke volume asks for
    right_atrium: float = 1.0  # against normal
    aspect: float = 1.0  # length over width against normal
    shortening: float = 1.0  # against what the fraction would give
    torsion: float = 1.0
    flattening: float = 0.0
    rv_bulge: float = 0.0
    aneurysm_segment: int = 0
    trabeculae: float = 0.0
    effusion: float = 0.0
    t1: float = 960.0
    t2: float = 50.0
    lesion_t1: float = 0.0  # added where a scar is
    lesion_t2: float = 0.0
    uptake: float = 0.45  # of contrast agent by muscle without scar
    stiff: float = 0.0  # 0 fills early, 1 by the atrial kick
    fibrillation: float = 0.02  # chances
    ectopy: float = 0.05
    scars: list[Scar] = dataclasses.field(default_factory=list)


def start(rng: np.random.Generator, who: Person, base: Healthy) -> Plan:
    """A healthy heart's plan. Native T1 is a little longer in women."""
    return Plan(
        bsa=who.bsa,
        edv=base.edv,
        ef=base.ef,
        rv_ef=base.rv_ef,
        atrium=base.atrium,
        heart_rate=base.heart_rate,
        thicken=1.0 + rng.normal(0.0, 0.03, 17),
        least_wall=np.zeros(17),
        motion=1.0 + rng.normal(0.0, 0.05, 17),
        t1=float(rng.normal(950.0 if who.sex == "M" else 975.0, 22.0)),
        t2=float(rng.normal(49.5, 1.6)),
        stiff=float(np.clip((who.age - 45.0) / 60.0, 0.0, 0.7)),
    )


def _of(*numbers: int) -> np.ndarray:
    return np.array(numbers) - 1


def _some(rng: np.random.Generator, among: tuple[int, ...], count: int) -> tuple[int, ...]:
    chosen = rng.permutation(np.array(among))[: max(count, 1)]
    return tuple(sorted(int(n) for n in chosen))


def _dilated(rng: np.random.Generator, plan: Plan, s: float) -> None:
    plan.edv = max(plan.edv, plan.bsa * (106.0 + 88.0 * s + rng.normal(0.0, 5.0)))
    plan.ef = min(plan.ef, 0.47 - 0.31 * s + rng.normal(0.0, 0.02))
    plan.thicken *= 1.15 - 0.05 * s
    plan.aspect *= 0.93 - 0.12 * s
    plan.rv_ef -= 0.16 * s
    plan.atrium *= 1.15 + 0.45 * s
    plan.right_atrium *= 1.0 + 0.2 * s
    plan.torsion *= 1.0 - 0.6 * s
    plan.t1 += 20.0 + 40.0 * s
    plan.fibrillation += 0.15
    plan.heart_rate += 8.0 * s
    if rng.random() < 0.2 + 0.3 * s:
        plan.scars.append(Scar("mid-wall", _some(rng, (2, 3, 8, 9), int(rng.integers(2, 5))), 0.3))
        plan.lesion_t1 = max(plan.lesion_t1, 90.0)


_SPREAD = {  # in which order an occlusion takes the segments of its territory
    "LAD": (14, 13, 8, 17, 7, 2, 1),
    "RCA": (4, 10, 9, 3, 15),
    "LCx": (11, 5, 12, 6, 16),
}


def _ischaemic(rng: np.random.Generator, plan: Plan, s: float) -> None:
    territory = str(rng.choice(list(TERRITORIES), p=(0.5, 0.3, 0.2)))
    order = _SPREAD[territory]
    count = int(np.clip(round(1.5 + (len(order) - 1.0) * s + rng.normal(0.0, 0.6)), 2, len(order)))
    dead = np.array(order[:count])
    part = float(np.clip(0.3 + 0.6 * s + rng.normal(0.0, 0.15), 0.2, 1.0))
    acute = bool(rng.random() < 0.25)
    plan.motion[dead - 1] = np.minimum(plan.motion[dead - 1], 1.0 - 1.05 * part)
    border = np.setdiff1d(np.array(order), dead)
    plan.motion[border - 1] *= 0.85
    if not acute:
        plan.thicken[dead - 1] *= 1.0 - 0.5 * part * (0.4 + 0.6 * s)
    pattern = "transmural" if part > 0.75 else "subendocardial"
    plan.scars.append(Scar(pattern, tuple(sorted(map(int, dead))), part, territory))
    if territory == "LAD" and s > 0.6 and not acute and rng.random() < 0.45:
        plan.aneurysm_segment = 13
        plan.motion[_of(13, 14, 17)] = -0.25
    plan.edv *= 1.03 + 0.45 * s
    plan.ef = float(np.clip(plan.ef * (0.3 + 0.7 * np.clip(plan.motion, 0, 1).mean()) - 0.1 * s, 0.14, 0.7))
    plan.aspect *= 1.0 - 0.06 * s
    plan.atrium *= 1.0 + 0.3 * s
    plan.rv_ef -= 0.05 * s + (0.08 if territory == "RCA" else 0.0) * s
    plan.lesion_t1 = max(plan.lesion_t1, 190.0 if acute else 140.0)
    plan.lesion_t2 = max(plan.lesion_t2, 14.0 if acute else 0.0)
    plan.ectopy += 0.06


def _hypertrophic(rng: np.random.Generator, plan: Plan, s: float, thick: np.ndarray, *, most: float) -> None:
    """`thick` of the 17 segments becomes up to `most` mm; the rest follows a little."""
    wall = 13.5 + (most - 13.5) * s + rng.normal(0.0, 0.5)
    plan.least_wall[thick] = np.maximum(plan.least_wall[thick], wall * rng.uniform(0.93, 1.0, len(thick)))
    plan.thicken *= 1.08 + 0.12 * s
    plan.edv *= 0.98 - 0.13 * s
    plan.ef = float(np.clip(plan.ef + 0.04 + 0.04 * s + rng.normal(0.0, 0.02), 0.5, 0.77))
    plan.atrium *= 1.1 + 0.5 * s
    plan.t1 += 15.0 + 40.0 * s
    plan.lesion_t1 = max(plan.lesion_t1, 90.0)
    plan.shortening *= 1.0 - 0.3 * s
    plan.torsion *= 1.15
    plan.stiff = min(1.0, plan.stiff + 0.3 + 0.3 * s)
    plan.fibrillation += 0.08


def _septal(rng: np.random.Generator, plan: Plan, s: float) -> None:
    _hypertrophic(rng, plan, s, _of(2, 3, 8, 9), most=27.0)
    plan.least_wall[_of(1, 7, 14)] = np.maximum(plan.least_wall[_of(1, 7, 14)], 9.0 + 7.0 * s)
    if rng.random() < 0.3 + 0.6 * s:
        plan.scars.append(Scar("insertion", (2, 3, 8, 9), 0.4))
    if rng.random() < 0.6 * s:
        plan.scars.append(Scar("mid-wall", _some(rng, (2, 3, 8, 9), 2), 0.4))


def _apical(rng: np.random.Generator, plan: Plan, s: float) -> None:
    _hypertrophic(rng, plan, s, _of(13, 14, 15, 16, 17), most=23.0)
    if rng.random() < 0.3 + 0.5 * s:
        plan.scars.append(Scar("mid-wall", _some(rng, (13, 14, 15, 16), 3), 0.45))


def _concentric(rng: np.random.Generator, plan: Plan, s: float) -> None:
    _hypertrophic(rng, plan, s, np.arange(12), most=18.5)
    plan.least_wall[12:16] = np.maximum(plan.least_wall[12:16], 9.0 + 7.0 * s)
    if rng.random() < 0.5 * s:
        plan.scars.append(Scar("mid-wall", _some(rng, (4, 5, 10, 11), 2), 0.3))


def _amyloid(rng: np.random.Generator, plan: Plan, s: float) -> None:
    wall = 12.2 + 5.5 * s + rng.normal(0.0, 0.4)
    plan.least_wall[:12] = np.maximum(plan.least_wall[:12], wall * rng.uniform(0.95, 1.0, 12))
    plan.least_wall[12:16] = np.maximum(plan.least_wall[12:16], 0.8 * wall)
    plan.edv *= 0.95 - 0.12 * s
    plan.ef -= 0.02 + 0.2 * s
    plan.rv_ef -= 0.02 + 0.14 * s
    plan.motion[:6] *= 0.85 - 0.3 * s  # the base suffers first, the apex is spared
    plan.motion[12:] *= 1.15
    plan.shortening *= 0.8 - 0.4 * s
    plan.torsion *= 1.0 - 0.4 * s
    plan.atrium *= 1.25 + 0.45 * s
    plan.right_atrium *= 1.15 + 0.25 * s
    plan.t1 += 95.0 + 130.0 * s
    plan.t2 += 2.0
    plan.uptake += 0.2 + 0.3 * s
    plan.lesion_t1 = max(plan.lesion_t1, 60.0)
    plan.effusion = float(rng.uniform(3.0, 11.0)) if rng.random() < 0.55 else 0.0
    plan.stiff = 1.0
    plan.fibrillation += 0.25
    plan.scars.append(Scar("diffuse", tuple(range(1, 18)), 0.5 + 0.5 * s))


def _myocarditis(rng: np.random.Generator, plan: Plan, s: float) -> None:
    hit = _some(rng, (5, 11, 6, 12, 4, 10, 16), int(2 + 4 * s))
    plan.scars.append(Scar("subepicardial", hit, 0.3 + 0.25 * s))
    plan.motion[np.array(hit) - 1] *= 0.95 - 0.5 * s
    plan.ef = min(plan.ef, 0.61 - 0.22 * s + rng.normal(0.0, 0.02))
    plan.edv *= 1.0 + 0.18 * s
    plan.thicken *= 1.04
    plan.t1 += 20.0 + 30.0 * s
    plan.t2 += 1.5 + 2.5 * s
    plan.lesion_t1, plan.lesion_t2 = max(plan.lesion_t1, 130.0), max(plan.lesion_t2, 12.0 + 6.0 * s)
    plan.effusion = max(plan.effusion, float(rng.uniform(3.0, 9.0)) if rng.random() < 0.35 else 0.0)
    plan.heart_rate += 12.0 * s
    plan.ectopy += 0.05


def _sarcoid(rng: np.random.Generator, plan: Plan, s: float) -> None:
    septum = _some(rng, (2, 3, 8, 9), int(1 + 2 * s))
    plan.scars.append(Scar("subepicardial" if rng.random() < 0.5 else "mid-wall", septum, 0.4))
    lateral = _some(rng, (1, 5, 6, 11, 4, 12), int(1 + 3 * s))
    plan.scars.append(Scar("transmural" if rng.random() < 0.4 * s else "subepicardial", lateral, 0.35 + 0.5 * s))
    hit = np.array(septum + lateral) - 1
    plan.motion[hit] *= 0.9 - 0.6 * s
    plan.thicken[np.array(septum) - 1] *= 0.95 - 0.3 * s
    plan.ef = min(plan.ef, 0.57 - 0.26 * s + rng.normal(0.0, 0.02))
    plan.edv *= 1.05 + 0.3 * s
    plan.rv_ef -= 0.08 * s
    plan.lesion_t1, plan.lesion_t2 = max(plan.lesion_t1, 120.0), max(plan.lesion_t2, 8.0)
    plan.ectopy += 0.2


def _arvc(rng: np.random.Generator, plan: Plan, s: float) -> None:
    plan.rv_edv = plan.bsa * (108.0 + 72.0 * s + rng.normal(0.0, 5.0))
    plan.rv_ef = 0.47 - 0.22 * s + rng.normal(0.0, 0.02)
    plan.rv_bulge = 0.12 + 0.25 * s
    plan.right_atrium *= 1.1 + 0.3 * s
    plan.ef -= 0.05 * s
    plan.ectopy += 0.25
    if rng.random() < 0.25 + 0.3 * s:
        plan.scars.append(Scar("subepicardial", _some(rng, (5, 11, 4, 10), 2), 0.35))
        plan.lesion_t1 = max(plan.lesion_t1, 90.0)


def _rv_overload(rng: np.random.Generator, plan: Plan, s: float) -> None:
    plan.rv_edv = max(plan.rv_edv, plan.bsa * (106.0 + 78.0 * s + rng.normal(0.0, 5.0)))
    plan.rv_ef = min(plan.rv_ef, 0.48 - 0.24 * s + rng.normal(0.0, 0.02))
    plan.flattening = 0.12 + 0.3 * s
    plan.right_atrium *= 1.15 + 0.4 * s
    plan.edv *= 0.97 - 0.17 * s
    if rng.random() < 0.4 + 0.4 * s:
        plan.scars.append(Scar("insertion", (2, 3, 8, 9), 0.35))
        plan.lesion_t1 = max(plan.lesion_t1, 80.0)


def _noncompaction(rng: np.random.Generator, plan: Plan, s: float) -> None:
    plan.trabeculae = 6.0 + 4.0 * s
    plan.thicken[_of(10, 11, 12, 13, 15, 16)] *= 0.8
    plan.edv *= 1.05 + 0.55 * s
    plan.ef = min(plan.ef, 0.57 - 0.3 * s + rng.normal(0.0, 0.02))
    plan.aspect *= 1.0 - 0.08 * s
    plan.torsion *= 0.3 - 0.5 * s  # base and apex turn together
    plan.atrium *= 1.0 + 0.3 * s


_APPLY: dict[str, Callable[[np.random.Generator, Plan, float], None]] = {
    "dilated": _dilated,
    "ischaemic": _ischaemic,
    "hypertrophic_septal": _septal,
    "hypertrophic_apical": _apical,
    "hypertrophic_concentric": _concentric,
    "amyloid": _amyloid,
    "myocarditis": _myocarditis,
    "sarcoid": _sarcoid,
    "arvc": _arvc,
    "rv_overload": _rv_overload,
    "noncompaction": _noncompaction,
}


def plan(rng: np.random.Generator, who: Person, base: Healthy) -> Plan:
    """The heart of `who`: `base` as each of the diseases makes it, the leading one first."""
    out = start(rng, who, base)
    for name, severity in who.diseases:
        if name != "normal":
            _APPLY[name](rng, out, severity)
    out.ef = float(np.clip(out.ef, 0.1, 0.78))
    out.rv_ef = float(np.clip(out.rv_ef, 0.12, 0.7))
    if not out.rv_edv:
        out.rv_edv = out.edv * out.ef / out.rv_ef
    return out
