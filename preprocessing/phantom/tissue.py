"""Signal of tissues: the equation of the sequence with relaxation times at 1.5 T, against blood.

Times after Stanisz et al. 2005 (muscle, blood, liver, marrow, fat) and Messroghli et al. 2006 (myocardium); muscle-like
tissue loses a part to magnetisation transfer in balanced sequences (Bieri and Scheffler 2006), which the equation does
not hold. Every study draws its own palette around these: a model should not learn one scanner's greys.
"""

import dataclasses

import numpy as np

# T1 ms, T2 ms, proton density against blood, part left by magnetisation transfer.
TIMES = {
    "blood": (1500.0, 250.0, 1.0, 1.0),
    "muscle": (1000.0, 48.0, 0.9, 0.85),
    "skeletal": (1000.0, 40.0, 0.9, 0.68),
    "fat": (290.0, 75.0, 0.95, 1.0),
    "liver": (580.0, 46.0, 0.85, 0.75),
    "spleen": (1050.0, 70.0, 0.9, 0.8),
    "kidney": (950.0, 75.0, 0.95, 0.85),
    "marrow": (550.0, 50.0, 0.7, 0.9),
    "fluid": (3000.0, 1200.0, 1.1, 1.0),
    "disc": (1200.0, 50.0, 0.7, 0.8),
}


def bssfp(t1: float, t2: float, flip_deg: float, tr: float) -> float:
    """Steady state of balanced SSFP at the centre of its pass band, echo at half of TR; against the equilibrium."""
    flip = np.deg2rad(flip_deg)
    e1, e2 = np.exp(-tr / t1), np.exp(-tr / t2)
    state = np.sin(flip) * (1.0 - e1) / (1.0 - (e1 - e2) * np.cos(flip) - e1 * e2)
    return float(state * np.exp(-0.5 * tr / t2))


@dataclasses.dataclass(frozen=True)
class Palette:
    """Signal of each tissue against blood; fat is negative where the scanner shows it in opposed phase."""

    muscle: float
    skeletal: float
    fat: float
    liver: float
    spleen: float
    kidney: float
    marrow: float
    fluid: float
    disc: float
    lung: float
    valve: float
    blood: float = 1.0


def cine(rng: np.random.Generator, flip_deg: float, tr: float) -> Palette:
    """A study's own greys of a balanced cine; inflow brightens the blood by a drawn amount.

    With an echo at half of TR, fat precesses into the opposite phase (water and fat cancel where they meet: a dark
    line) unless TR and centre frequency say otherwise.
    """
    raw = {}
    for name, (t1, t2, density, transfer) in TIMES.items():
        t1, t2 = t1 * rng.lognormal(0.0, 0.06), t2 * rng.lognormal(0.0, 0.1)
        raw[name] = density * transfer * bssfp(t1, t2, flip_deg, tr) * float(rng.lognormal(0.0, 0.08))
    blood = raw.pop("blood") * float(rng.uniform(0.7, 1.2))
    out = {name: float(np.clip(value / blood, 0.05, 3.0)) for name, value in raw.items()}
    out["muscle"] = float(np.clip(out["muscle"], 0.25, 0.6))
    if rng.random() < 0.8:
        out["fat"] *= -1.0
    return Palette(lung=float(rng.uniform(0.02, 0.09)), valve=float(rng.uniform(0.3, 0.7)), **out)
