"""The hidden truth: who the patient is, which disease at what severity, and the heart that follows from it.

Ranges are those of adults at cardiac MR: volumes indexed to body surface and ejection fractions after Kawel-Boehm et
al., Reference ranges ("normal values") for cardiovascular magnetic resonance in adults and children: 2020 update;
disease shifts them as far as clinical series show. Severity is continuous, so neighbouring grades look alike.
"""

import dataclasses
import math

import numpy as np

from preprocessing.phantom import anatomy, scene
from preprocessing.phantom.render import Subject

GROUPS = ("normal", "dilated", "hypertrophic", "infarcted", "right-ventricular")
TERRITORIES = {"anterior": np.deg2rad(-115.0), "inferior": np.deg2rad(100.0), "lateral": np.deg2rad(5.0)}


@dataclasses.dataclass(frozen=True)
class Targets:
    """What the heart is built to have; volumes in mL, thickness in mm, fractions 0..1."""

    group: str
    severity: float
    sex: str  # "M" or "F"
    age: int
    height_m: float
    weight_kg: float
    edv: float
    ef: float
    wall: float
    septum: float
    aspect: float  # cavity length over its diameter
    rv_edv: float
    rv_ef: float
    flattening: float
    atrium: float  # size of the left atrium against normal
    right_atrium: float
    territory: str  # "" where none
    heart_rate: float

    @property
    def bsa(self) -> float:
        """Body surface, m² (Mosteller)."""
        return float(np.sqrt(self.height_m * 100.0 * self.weight_kg / 3600.0))


@dataclasses.dataclass(frozen=True)
class Truth:
    """What a perfect reader of the drawn frames would measure."""

    targets: Targets
    subject: Subject
    contracted: np.ndarray  # T
    edv: float
    esv: float
    rv_edv: float
    rv_esv: float
    mass: float
    wall_max: float
    wall_min: float

    @property
    def lvef(self) -> float:
        """Percent."""
        return 100.0 * (1.0 - self.esv / self.edv)

    @property
    def rv_ef(self) -> float:
        return 100.0 * (1.0 - self.rv_esv / self.rv_edv)


def _around(rng: np.random.Generator, mean: float, deviation: float, low: float, high: float) -> float:
    return float(np.clip(rng.normal(mean, deviation), low, high))


def draw(rng: np.random.Generator, group: str) -> Targets:
    """A patient of `group` on the first visit."""
    male = bool(rng.random() < 0.55)
    height = _around(rng, 1.77 if male else 1.64, 0.07, 1.48, 1.98)
    weight = height**2 * _around(rng, 26.0, 3.5, 18.5, 37.0)
    return Targets(
        group=group,
        severity=0.0 if group == "normal" else float(rng.random()),
        sex="M" if male else "F",
        age=int(_around(rng, 54.0, 14.0, 20.0, 88.0)),
        height_m=height,
        weight_kg=weight,
        territory=str(rng.choice(list(TERRITORIES))) if group == "infarcted" else "",
        heart_rate=_around(rng, 68.0, 9.0, 48.0, 98.0),
        **_healthy(rng, male, float(np.sqrt(height * 100.0 * weight / 3600.0))),
    )


def _healthy(rng: np.random.Generator, male: bool, bsa: float) -> dict[str, float]:
    wall = _around(rng, 8.2 if male else 7.2, 0.9, 5.8, 10.2)
    return {
        "edv": bsa * _around(rng, 79.0 if male else 74.0, 9.0, 57.0, 99.0),
        "ef": _around(rng, 0.63, 0.035, 0.565, 0.71),
        "wall": wall,
        "septum": wall + _around(rng, 0.5, 0.4, 0.0, 1.3),
        "aspect": _around(rng, 1.75, 0.08, 1.55, 1.95),
        "rv_edv": bsa * _around(rng, 82.0 if male else 76.0, 9.0, 58.0, 102.0),
        "rv_ef": _around(rng, 0.58, 0.035, 0.51, 0.66),
        "flattening": 0.0,
        "atrium": _around(rng, 1.0, 0.05, 0.88, 1.1),
        "right_atrium": _around(rng, 1.0, 0.05, 0.88, 1.1),
    }


def diseased(rng: np.random.Generator, healthy: Targets) -> Targets:
    """`healthy` as its group and severity make it."""
    s, bsa = healthy.severity, healthy.bsa
    if healthy.group == "dilated":
        return dataclasses.replace(
            healthy,
            edv=bsa * (112.0 + 78.0 * s + rng.normal(0.0, 4.0)),
            ef=0.46 - 0.29 * s + rng.normal(0.0, 0.02),
            wall=healthy.wall * 0.94,
            septum=healthy.wall * 0.95,
            aspect=healthy.aspect - 0.2 - 0.2 * s,
            rv_edv=healthy.rv_edv * (1.0 + 0.15 * s),
            rv_ef=healthy.rv_ef - 0.12 * s,
            atrium=healthy.atrium * (1.1 + 0.25 * s),
        )
    if healthy.group == "hypertrophic":
        wall = 13.5 + 11.0 * s + rng.normal(0.0, 0.5)
        concentric = rng.random() < 0.3
        return dataclasses.replace(
            healthy,
            edv=healthy.edv * (0.95 - 0.15 * s),
            ef=_around(rng, 0.66 + 0.06 * s, 0.025, 0.6, 0.76),
            wall=wall - 1.0 if concentric else healthy.wall + 1.0 + 2.5 * s,
            septum=wall,
            atrium=healthy.atrium * (1.1 + 0.2 * s),
        )
    if healthy.group == "infarcted":
        return dataclasses.replace(
            healthy,
            edv=healthy.edv * (1.12 + 0.4 * s),
            ef=0.52 - 0.22 * s + rng.normal(0.0, 0.02),
            aspect=healthy.aspect - 0.1 * s,
            atrium=healthy.atrium * (1.03 + 0.15 * s),
        )
    if healthy.group == "right-ventricular":
        return dataclasses.replace(
            healthy,
            edv=healthy.edv * (0.95 - 0.15 * s),
            ef=healthy.ef - 0.03 * s,
            rv_edv=bsa * (119.0 + 70.0 * s + rng.normal(0.0, 4.0)),
            rv_ef=0.44 - 0.22 * s + rng.normal(0.0, 0.02),
            flattening=0.15 + 0.3 * s,
            right_atrium=healthy.right_atrium * (1.15 + 0.25 * s),
        )
    return healthy


def progressed(rng: np.random.Generator, before: Targets, years: float) -> Targets:
    """The same patient `years` later, before `diseased` is applied: severity drifts, mostly upwards."""
    drift = 0.0 if before.group == "normal" else rng.normal(0.08, 0.1)
    return dataclasses.replace(
        before,
        severity=float(np.clip(before.severity + drift, 0.0, 1.0)),
        age=before.age + int(years),
        weight_kg=before.weight_kg * rng.normal(1.0, 0.02),
        edv=before.edv * rng.normal(1.0, 0.02),
        ef=before.ef + rng.normal(0.0, 0.01),
        heart_rate=_around(rng, before.heart_rate, 5.0, 48.0, 98.0),
    )


def build(rng: np.random.Generator, body: np.random.Generator, targets: Targets, phases: int) -> Truth:
    """The heart that meets `targets`, and what it measures at `phases` frames.

    Args:
        rng: what differs from day to day (position on the table, timing).
        body: what stays with the patient (the axes of the heart, proportions); seeded by the patient alone.
    """
    heart = _on_frames(_fit(_shape(rng, body, targets), targets), phases)
    chest, pose = _place(rng, body, targets, heart)
    contracted = anatomy.contraction(heart, phases)
    # Cavities only shrink as the heart contracts and muscle keeps its volume, so the ends of the cycle tell all.
    measured = anatomy.volumes(heart, np.array([contracted.min(), contracted.max()]))
    wall = anatomy.wall_thickness(heart, float(contracted.min()))
    return Truth(
        targets=targets,
        subject=Subject(heart, chest, pose),
        contracted=contracted,
        edv=float(measured.lv.max()),
        esv=float(measured.lv.min()),
        rv_edv=float(measured.rv.max()),
        rv_esv=float(measured.rv.min()),
        mass=float(measured.myocardium.mean() * anatomy.MYOCARDIUM_G_PER_ML),
        wall_max=float(wall.max()),
        wall_min=float(wall.min()),
    )


def _on_frames(heart: anatomy.Heart, phases: int) -> anatomy.Heart:
    """Moves the ends of systole and diastole onto frames, so that few phases do not flatter or spoil the volumes."""
    systole = np.clip(round(heart.systole * phases), 1, phases // 2) / phases
    return dataclasses.replace(heart, systole=float(systole), delay=round(heart.delay * phases) / phases)


def _shape(rng: np.random.Generator, body: np.random.Generator, targets: Targets) -> anatomy.Heart:
    """Proportions; sizes and squeeze are set by `_fit`."""
    s = targets.severity
    size = (targets.bsa / 1.85) ** (1.0 / 3.0)
    infarcted = bool(targets.territory)
    systole = float(np.clip(0.30 + 0.0011 * targets.heart_rate + rng.normal(0.0, 0.01), 0.3, 0.45))
    return anatomy.Heart(
        length=2.0 * targets.aspect / 0.94,
        cavity_part=0.94,
        radius=1.0,
        wall_free=targets.wall,
        wall_septal=targets.septum,
        septal_width=1.3,
        septal_flattening=targets.flattening,
        ovality=body.normal(0.0, 0.02),
        squeeze=0.0,
        shortening=float(np.clip(0.26 * targets.ef + rng.normal(0.0, 0.006), 0.03, 0.2)),
        infarct_theta=float(TERRITORIES[targets.territory]) + body.normal(0.0, 0.1) if infarcted else 0.0,
        infarct_width=1.1 + 0.5 * s,
        infarct_zeta=(0.75 if targets.territory == "anterior" else 0.5) if infarcted else 0.5,
        infarct_akinesia=0.85 + 0.3 * s if infarcted else 0.0,
        infarct_thinning=0.35 + 0.25 * s if infarcted else 0.0,
        rv_squared=1.0,
        rv_width=math.radians(body.normal(84.0, 3.0)) + 0.25 * targets.flattening,
        rv_squeeze=0.0,
        rv_shortening=float(np.clip(0.38 * targets.rv_ef + rng.normal(0.0, 0.006), 0.04, 0.26)),
        la_radius=23.0 * size * targets.atrium,
        la_length=46.0 * size * targets.atrium,
        ra_radius=22.0 * size * targets.right_atrium,
        ra_length=42.0 * size * targets.right_atrium,
        aorta_radius=13.5 * size,
        papillary=body.uniform(0.15, 0.19),
        systole=systole,
        early_filling=body.uniform(0.65, 0.8),
        delay=float(rng.choice([0.0, 0.0, 0.05, 0.1])),
    )


def _fit(heart: anatomy.Heart, targets: Targets) -> anatomy.Heart:
    """Scales `heart` to the target volumes and sets its squeeze; the volumes are linear in both, so no search."""
    unit = anatomy.integrals(heart)[0]
    scale = float(targets.edv / unit) ** (1.0 / 3.0)
    heart = dataclasses.replace(heart, length=heart.length * scale, radius=heart.radius * scale)
    full, moving, right = anatomy.integrals(heart)
    left_over = full * (1.0 - targets.ef) / (1.0 - heart.shortening)
    return dataclasses.replace(
        heart,
        squeeze=float(np.clip((full - left_over) / moving, 0.0, 0.88)),
        rv_squared=float(targets.rv_edv / right),
        rv_squeeze=float(np.clip(1.0 - (1.0 - targets.rv_ef) / (1.0 - heart.rv_shortening), 0.0, 0.85)),
    )


def _place(
    rng: np.random.Generator, body: np.random.Generator, targets: Targets, heart: anatomy.Heart
) -> tuple[scene.Chest, scene.Pose]:
    """The body on the table and the heart in it, its apex to the left, front and feet."""
    across, down, along = anatomy.axes(body, roll=0.12)
    stout = targets.weight_kg / targets.height_m**2 / 26.0
    centre = np.array([rng.normal(0.0, 6.0), rng.normal(0.0, 8.0), rng.normal(0.0, 25.0)])
    half_depth = 112.0 * targets.height_m / 1.72 * stout**0.5
    off = np.array([26.0 + body.normal(0.0, 5.0), -0.16 * half_depth + body.normal(0.0, 4.0), 0.0])
    middle = centre + off
    chest = scene.Chest(
        centre=centre,
        half_width=168.0 * targets.height_m / 1.72 * stout**0.4,
        half_depth=half_depth,
        fat=float(np.clip(14.0 * stout**3 * (1.25 if targets.sex == "F" else 1.0), 5.0, 45.0)),
        epicardial_fat=float(np.clip(3.5 * stout**2, 2.0, 8.0)),
        diaphragm=float(centre[2] - 26.0 - 0.2 * heart.length + rng.normal(0.0, 4.0)),
    )
    return chest, scene.Pose(middle - 0.5 * heart.length * along, np.stack([across, down, along]))
