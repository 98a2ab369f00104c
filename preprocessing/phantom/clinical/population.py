"""Who comes to the scanner: people, how their healthy hearts would be, and how often each disease is met.

Healthy ranges are those of adults with papillary muscles counted to the cavity: ejection fraction 58 ± 5 % in men and
61 ± 5 % in women, mass 53 ± 9 and 42 ± 7 g/m² (Petersen et al., JCMR 2017;19:18, one of the largest studies within the
reference ranges of Kawel-Boehm et al., JCMR 2020;22:87); end-diastolic volume 81 ± 12 and 76 ± 10 mL/m² (the 2015
edition of those ranges, which may count papillary muscles to the mass). Fraction of the right ventricle (55 and 58 ± 5
%) and volume of the left atrium (38 ± 8 mL/m²) are near the ranges' but were not taken from a table. Both ventricles
eject the same volume.
"""

import dataclasses

import numpy as np

# What is found in a referral centre. EuroCMR (Bruder et al., JCMR 2013;15:9; 27,781 exams) gives the questions asked:
# coronary disease and viability 49 %, myocarditis and cardiomyopathies 32 %. How many exams show nothing, and the split
# among the cardiomyopathies, are assumptions of ours, with the rare ones often enough to be learned.
PREVALENCE = {
    "normal": 0.30,
    "ischaemic": 0.25,
    "dilated": 0.15,
    "hypertrophic_septal": 0.06,
    "hypertrophic_apical": 0.02,
    "hypertrophic_concentric": 0.03,
    "amyloid": 0.03,
    "myocarditis": 0.06,
    "sarcoid": 0.03,
    "arvc": 0.02,
    "rv_overload": 0.03,
    "noncompaction": 0.02,
}
# Which second disease each may come with, and how often it does.
_SECOND = {
    "ischaemic": ("hypertrophic_concentric", "dilated"),
    "dilated": ("noncompaction", "ischaemic", "rv_overload"),
    "hypertrophic_septal": ("ischaemic",),
    "hypertrophic_concentric": ("ischaemic",),
    "amyloid": ("ischaemic",),
    "myocarditis": ("dilated",),
    "sarcoid": ("rv_overload",),
}
_MIXED = 0.12


@dataclasses.dataclass(frozen=True)
class Person:
    """Somebody on the day of the scan; severities are 0..1."""

    sex: str  # "M" or "F"
    age: int
    height_m: float
    weight_kg: float
    diseases: tuple[tuple[str, float], ...]

    @property
    def bsa(self) -> float:
        """Body surface, m² (Mosteller)."""
        return float(np.sqrt(self.height_m * 100.0 * self.weight_kg / 3600.0))


@dataclasses.dataclass(frozen=True)
class Healthy:
    """What this heart has without disease: mL, g, fractions 0..1, mL of the left atrium at its largest."""

    edv: float
    ef: float
    mass: float
    rv_ef: float
    atrium: float
    heart_rate: float


def around(rng: np.random.Generator, mean: float, deviation: float, widest: float = 2.0) -> float:
    """A normal draw, taken again while it lies more than `widest` deviations off: healthy is within the range."""
    while True:
        off = rng.normal()
        if abs(off) <= widest:
            return float(mean + deviation * off)


def leading_disease(rng: np.random.Generator) -> str:
    return str(rng.choice(list(PREVALENCE), p=list(PREVALENCE.values())))


def person(rng: np.random.Generator, disease: str) -> Person:
    """A patient whose leading disease is `disease`; ages and sexes do not tell which."""
    male = bool(rng.random() < 0.57)
    height = around(rng, 1.77 if male else 1.64, 0.07)
    weight = height**2 * float(np.clip(22.0 + rng.gamma(2.2, 2.2), 18.0, 42.0))
    age = int(np.clip(rng.normal(55.0, 16.0), 18.0, 89.0))
    severity = 0.0 if disease == "normal" else float(rng.beta(1.3, 1.3))
    diseases = [(disease, severity)]
    others = _SECOND.get(disease, ())
    mixed = rng.random() < _MIXED
    second = (str(rng.choice(others)) if others else "", float(rng.uniform(0.1, 0.6)))
    if mixed and second[0]:
        diseases.append(second)
    return Person("M" if male else "F", age, height, weight, tuple(diseases))


def progressed(rng: np.random.Generator, before: Person, years: float) -> Person:
    """The same patient `years` later: severity drifts, mostly upwards."""
    drift = rng.normal(0.06, 0.1)
    diseases = tuple((name, float(np.clip(s + (drift if s else 0.0), 0.0, 1.0))) for name, s in before.diseases)
    weight = before.weight_kg * float(rng.normal(1.0, 0.03))
    return dataclasses.replace(before, diseases=diseases, age=min(before.age + int(years), 89), weight_kg=weight)


def healthy(rng: np.random.Generator, who: Person) -> Healthy:
    """Large hearts are heavy ones: volume and mass go together, so that no healthy wall is as thin as paper."""
    male = who.sex == "M"
    large = around(rng, 0.0, 1.0)
    heavy = 0.6 * large + 0.8 * around(rng, 0.0, 1.0)
    return Healthy(
        edv=who.bsa * (81.0 + 12.0 * large if male else 76.0 + 10.0 * large),
        ef=around(rng, 0.58 if male else 0.61, 0.05, 1.7),
        mass=who.bsa * (53.0 + 9.0 * heavy if male else 42.0 + 7.0 * heavy),
        rv_ef=around(rng, 0.55 if male else 0.58, 0.05, 1.7),
        atrium=who.bsa * around(rng, 38.0, 8.0, 1.7),
        heart_rate=float(np.clip(rng.normal(69.0, 10.0), 46.0, 105.0)),
    )
