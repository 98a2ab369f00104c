"""One patient on one day: the heart that meets the plan of its diseases, the body around it, and what is there to find.

Letters: T phases.
"""

import dataclasses

import numpy as np

from preprocessing.phantom import anatomy
from preprocessing.phantom.clinical import diseases, heart, layers, lesions, motion, segments
from preprocessing.phantom.clinical.chest import Chest
from preprocessing.phantom.clinical.population import Healthy, Person
from preprocessing.phantom.findings import SERIES, Findings, Scar
from preprocessing.phantom.scene import Pose

_NORMAL_SQUEEZE = 0.5  # of a healthy heart: what the motion of segments is judged against
_MOTIONS = ((-0.06, "dyskinetic"), (0.28, "akinetic"), (0.7, "hypokinetic"))
# Healthy thickness of the wall against its mean: thick at the base and in the septum, thin at the tip.
_WALLS = np.array([1.05, 1.15, 1.12, 1.0, 1.0, 1.02, 0.98, 1.05, 1.05, 0.98, 0.95, 0.97, 0.9, 0.95, 0.9, 0.9, 0.6])
# Muscle of the left cavity's trabeculae against the healthy end-diastolic volume, where the right ventricle's reach in
# by 1.4 and by 3.8 mm: who has much in one has much in the other. With the papillary muscles pictures show 16 % (the
# conserved muscle that shows as much as in people, 23 %, would add more points to the fraction than it does in them).
_TRABECULAE = (0.06, 0.125)
_AS_MEASURED = np.array([1.0] * 6 + [0.96] * 6 + [0.83] * 4 + [1.0])  # thickness across a wall against along the radius


@dataclasses.dataclass(frozen=True)
class Subject:
    """One heart in one body: what pictures are made of. Relaxation times in ms."""

    heart: heart.Heart
    chest: Chest
    pose: Pose
    effusion: float  # mm
    scars: tuple[Scar, ...]
    scar_seed: int
    t1: float  # native, of muscle
    t2: float
    lesion_t1: float  # added where a scar is
    lesion_t2: float
    uptake: float  # of contrast agent by muscle without scar


@dataclasses.dataclass(frozen=True)
class Case:
    """Everything about a visit that is not a picture."""

    findings: Findings
    subject: Subject
    rhythm: motion.Rhythm
    contracted: np.ndarray  # T


def build(
    day: np.random.Generator,
    body: np.random.Generator,
    sick: np.random.Generator,
    who: Person,
    base: Healthy,
    phases: int,
) -> Case:
    """The case of `who`.

    Args:
        day: what differs from day to day (position on the table, rhythm, which series were made).
        body: what stays with the patient (the axes of the heart, proportions).
        sick: how the diseases took this patient.
    """
    plan = diseases.plan(sick, who, base)
    kinds = ("fibrillation", "ectopy", "sinus")
    chance = sick.random()
    kind = kinds[int(np.searchsorted([plan.fibrillation, plan.fibrillation + plan.ectopy], chance, side="right"))]
    made = heart.fitted(_shape(body, plan, base), edv=plan.edv, ef=plan.ef, rv_edv=plan.rv_edv, rv_ef=plan.rv_ef)
    made = _with_atria(made, plan, who)
    rate = plan.heart_rate * float(day.normal(1.0, 0.06)) + (14.0 if kind == "fibrillation" else 0.0)
    rhythm = motion.draw(day, body, kind, float(np.clip(rate, 42.0, 125.0)), plan.stiff)
    chest, pose = _place(day, body, who, made)
    subject = Subject(
        heart=made,
        chest=chest,
        pose=pose,
        effusion=plan.effusion,
        scars=tuple(plan.scars),
        scar_seed=int(body.integers(1 << 31)),
        t1=plan.t1,
        t2=plan.t2,
        lesion_t1=plan.lesion_t1,
        lesion_t2=plan.lesion_t2,
        uptake=plan.uptake,
    )
    contracted = motion.contraction(rhythm, phases)
    breathing = bool(day.random() < 0.15)
    found = _findings(who, subject, plan, rhythm, contracted, _acquired(day), breathing)
    return Case(found, subject, rhythm, contracted)


def _shape(body: np.random.Generator, plan: diseases.Plan, base: Healthy) -> heart.Heart:
    """The heart before its volumes are met: proportions, and the wall that disease leaves of the healthy one's mass."""
    aspect = 1.72 * float(body.lognormal(0.0, 0.05))
    rough = heart.Heart(
        length=2.0 * aspect,
        tip=0.0,
        radius=1.0,
        wall=7.5 * _WALLS,
        motion=np.ones(17),
        squeeze=0.45,
        shortening=float(np.clip(0.27 * base.ef, 0.04, 0.2)),
        torsion=float(body.uniform(0.14, 0.3)) * plan.torsion,
        flattening=0.0,
        lumps=tuple((body.normal(0.0, 0.02), body.uniform(0.0, 6.28)) for _ in range(4)),
        aneurysm=(0.0, 0.0, 0.0),
        rv_squared=1.0,
        rv_half_angle=float(np.deg2rad(body.normal(78.0, 4.0))),
        rv_skew=float(body.normal(0.1, 0.1)),
        rv_power=float(body.uniform(0.55, 0.95)),
        rv_squeeze=0.4,
        rv_shortening=0.2,
        rv_bulge=plan.rv_bulge,
        la_radius=22.0,
        la_length=44.0,
        ra_radius=22.0,
        ra_length=42.0,
        aorta_radius=float(body.normal(14.5, 1.2)) * (plan.bsa / 1.85) ** 0.4,
        pulmonary_radius=float(body.normal(12.0, 1.0)) * (1.0 + 0.6 * plan.flattening),
        papillary=float(body.uniform(0.13, 0.21)),
        papillary_theta=(-0.75 + float(body.normal(0.0, 0.12)), 1.85 + float(body.normal(0.0, 0.15))),
        trabeculae_ml=0.0,
        trabeculae_apical=plan.trabeculae,
        trabeculae_right=0.8 + 1.2 * float(body.uniform(0.5, 2.5)),
        trabeculae_count=int(body.integers(6, 12)),
    )
    rough = dataclasses.replace(rough, length=24.0 * rough.length, radius=24.0, tip=4.5)
    well = heart.fitted(rough, edv=base.edv, ef=base.ef, rv_edv=base.edv, rv_ef=base.rv_ef, mass=base.mass)
    wall = np.maximum(well.wall * plan.thicken, plan.least_wall / _AS_MEASURED)
    angle, along = segments.centre(plan.aneurysm_segment) if plan.aneurysm_segment else (0.0, 0.0)
    return dataclasses.replace(
        well,
        length=well.length * plan.aspect,
        tip=float(np.clip(wall[16], 2.5, 16.0)),
        wall=wall,
        motion=plan.motion,
        shortening=float(np.clip(0.27 * plan.ef * plan.shortening, 0.02, 0.2)),
        flattening=plan.flattening,
        aneurysm=(angle, along, 0.3) if plan.aneurysm_segment else (0.0, 0.0, 0.0),
        # A cavity that grows takes its trabeculae along in part.
        trabeculae_ml=float(np.interp(well.trabeculae_right, (1.4, 3.8), _TRABECULAE) * np.sqrt(base.edv * plan.edv)),
        rv_half_angle=well.rv_half_angle + 0.3 * plan.flattening,
        rv_shortening=float(np.clip(0.38 * plan.rv_ef, 0.04, 0.26)),
    )


def _with_atria(made: heart.Heart, plan: diseases.Plan, who: Person) -> heart.Heart:
    """Atria of the planned size when they are fullest, at end-systole; twice as long as wide."""

    def radius(volume: float, floor: float) -> float:
        low, high = 5.0, 70.0
        for _ in range(30):
            middle = 0.5 * (low + high)
            low, high = (middle, high) if layers.atrium_ml(middle, 2.0 * middle, floor) < volume else (low, middle)
        return low

    left = radius(plan.atrium, made.length * made.shortening)
    right = radius(41.0 * who.bsa * plan.right_atrium, made.length * made.rv_shortening)
    return dataclasses.replace(made, la_radius=left, la_length=2.0 * left, ra_radius=right, ra_length=2.0 * right)


def _acquired(day: np.random.Generator) -> frozenset[str]:
    """Which series were made: every exam has a short axis, most have long axes, contrast agent and maps less often."""
    out = {"cine_sax"}
    out |= {f"cine_{view}" for view in ("2ch", "3ch", "4ch") if day.random() < 0.95}
    if day.random() < 0.8:
        out.add("lge_sax")
        out |= {f"lge_{view}" for view in ("2ch", "3ch", "4ch") if day.random() < 0.8}
    out |= {name for name, part in (("t1_map", 0.55), ("t2_map", 0.45)) if day.random() < part}
    assert out <= set(SERIES)
    return frozenset(out)


def _motions(made: heart.Heart) -> tuple[str, ...]:
    """The motion of each segment in a reader's words, by how much of the healthy squeeze it has."""
    squeeze = made.squeeze * made.motion / _NORMAL_SQUEEZE
    return tuple(next((word for limit, word in _MOTIONS if value < limit), "normal") for value in squeeze)


def _findings(
    who: Person,
    subject: Subject,
    plan: diseases.Plan,
    rhythm: motion.Rhythm,
    contracted: np.ndarray,
    acquired: frozenset[str],
    breathing: bool,
) -> Findings:
    made = subject.heart
    measured = heart.volumes(heart.beat(made, contracted))
    part = lesions.of_segments(made, subject.scars, subject.scar_seed)
    t1 = tuple((subject.t1 + subject.lesion_t1 * part).round(1).tolist())
    t2 = tuple((subject.t2 + subject.lesion_t2 * part).round(2).tolist())
    edv, esv = float(measured.lv.max()), float(measured.lv.min())
    rv_edv, rv_esv = float(measured.rv.max()), float(measured.rv.min())
    return Findings(
        acquired=acquired,
        diseases=who.diseases,
        sex=who.sex,
        age=who.age,
        height_m=who.height_m,
        weight_kg=who.weight_kg,
        heart_rate=rhythm.rate,
        rhythm=rhythm.kind,
        lvef=100.0 * (1.0 - esv / edv),
        edv_ml=edv,
        esv_ml=esv,
        mass_g=float(measured.myocardium.mean()) * heart.MYOCARDIUM_G_PER_ML,
        rv_ef=100.0 * (1.0 - rv_esv / rv_edv),
        rv_edv_ml=rv_edv,
        rv_esv_ml=rv_esv,
        left_atrium_ml=layers.atrium_ml(made.la_radius, made.la_length, made.length * made.shortening),
        wall_mm=tuple(heart.thickness(made).round(2).tolist()),
        motion=_motions(made),
        scars=subject.scars,
        t1_ms=t1 if "t1_map" in acquired else (),
        t2_ms=t2 if "t2_map" in acquired else (),
        aneurysm=bool(plan.aneurysm_segment),
        trabeculated=plan.trabeculae > 0.0,
        effusion_mm=plan.effusion,
        breathing=breathing,
        right_atrium_ml=layers.atrium_ml(made.ra_radius, made.ra_length, made.length * made.rv_shortening),
        septal_flattening=made.flattening > 0.1,
        rv_bulging=made.rv_bulge > 0.0,
    )


def _place(day: np.random.Generator, body: np.random.Generator, who: Person, made: heart.Heart) -> tuple[Chest, Pose]:
    """The body on the table and the heart in it, its apex to the left, front and feet."""
    across, down, along = anatomy.axes(body, roll=0.1)
    stout = who.weight_kg / who.height_m**2 / 26.0
    centre = np.array([day.normal(0.0, 6.0), day.normal(0.0, 8.0), day.normal(0.0, 25.0)])
    half_depth = 112.0 * who.height_m / 1.72 * stout**0.5
    off = np.array([26.0 + body.normal(0.0, 5.0), -0.28 * half_depth + body.normal(0.0, 4.0), 0.0])
    middle = centre + off
    female = who.sex == "F"
    chest = Chest(
        centre=centre,
        half_width=168.0 * who.height_m / 1.72 * stout**0.4,
        half_depth=half_depth,
        fat=float(np.clip(13.0 * stout**2.5 * (1.25 if female else 1.0) * body.lognormal(0.0, 0.25), 4.0, 50.0)),
        wall=float(body.uniform(10.0, 20.0)),
        epicardial_fat=float(np.clip(3.5 * stout**2 * body.lognormal(0.0, 0.4), 1.0, 10.0)),
        breasts=float(body.uniform(0.5, 1.1) * stout) if female else 0.0,
        seed=int(body.integers(1 << 31)),
        diaphragm=float(centre[2] - 12.0 + day.normal(0.0, 5.0)),
    )
    return chest, Pose(middle - 0.5 * made.length * along, np.stack([across, down, along]))
