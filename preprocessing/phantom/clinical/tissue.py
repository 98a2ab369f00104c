"""What each tissue gives in each sequence: the sequence's equation with relaxation times at 1.5 T.

Native times after Stanisz et al. 2005 (muscle, blood, liver, marrow, fat), Messroghli et al. 2006 (myocardium) and
Kawel-Boehm et al. 2020; muscle-like tissue loses a part to magnetisation transfer in balanced sequences (Bieri and
Scheffler 2006), which the equation does not hold. Every study draws its own times around these: a model should not
learn one scanner's greys.
"""

import dataclasses

import numpy as np

# T1 ms, T2 ms, proton density against blood, part left by magnetisation transfer, part of contrast agent taken up.
_TIMES = {
    "blood": (1550.0, 250.0, 1.0, 1.0, 1.0),
    "muscle": (960.0, 50.0, 0.9, 0.85, 0.45),
    "skeletal": (1000.0, 40.0, 0.9, 0.68, 0.25),
    "fat": (280.0, 75.0, 0.95, 1.0, 0.0),
    "liver": (580.0, 46.0, 0.9, 0.95, 0.5),
    "spleen": (1050.0, 70.0, 0.9, 0.8, 0.7),
    "kidney": (950.0, 75.0, 0.95, 0.85, 1.3),
    "marrow": (550.0, 50.0, 0.7, 0.9, 0.3),
    "fluid": (3000.0, 1200.0, 1.1, 1.0, 0.05),
    "disc": (1200.0, 50.0, 0.7, 0.8, 0.1),
    "bone": (1000.0, 10.0, 0.25, 0.6, 0.1),
    "bowel": (1300.0, 120.0, 0.8, 0.9, 0.1),
    "lung": (1200.0, 40.0, 0.22, 1.0, 0.4),
    "gas": (1000.0, 10.0, 0.01, 1.0, 0.0),
}
Palette = dict[str, float]  # signal (or ms) of each tissue; negative where fat is in opposed phase


@dataclasses.dataclass(frozen=True)
class Tissues:
    """Times of one person's tissues: each `{name: (T1 ms, T2 ms, density, transfer, uptake)}`."""

    times: dict[str, tuple[float, float, float, float, float]]


def draw(rng: np.random.Generator, muscle_t1: float, muscle_t2: float) -> Tissues:
    """One person's tissues around the published times; the myocardium's are given, ms."""
    out = {}
    for name, (t1, t2, density, transfer, uptake) in _TIMES.items():
        spread = rng.lognormal(0.0, 0.05, 3)
        out[name] = (t1 * spread[0], t2 * spread[1], density * spread[2], transfer, uptake)
    out["muscle"] = (muscle_t1, muscle_t2, *out["muscle"][2:])
    return Tissues(out)


def bssfp(t1: float, t2: float, flip_deg: float, tr: float) -> float:
    """Steady state of balanced SSFP at the centre of its pass band, echo at half of TR; against the equilibrium."""
    flip = np.deg2rad(flip_deg)
    e1, e2 = np.exp(-tr / t1), np.exp(-tr / t2)
    state = np.sin(flip) * (1.0 - e1) / (1.0 - (e1 - e2) * np.cos(flip) - e1 * e2)
    return float(state * np.exp(-0.5 * tr / t2))


def cine(rng: np.random.Generator, tissues: Tissues, flip_deg: float, tr: float) -> Palette:
    """Greys of a balanced cine against blood, which inflow brightens by a drawn amount.

    With an echo at half of TR fat precesses into the opposite phase (water and fat cancel where they meet: a dark
    line), unless TR and centre frequency say otherwise.
    """
    raw = {n: d * mt * bssfp(t1, t2, flip_deg, tr) for n, (t1, t2, d, mt, _) in tissues.times.items()}
    blood = raw["blood"] * float(rng.uniform(0.7, 1.05))
    out = {name: float(np.clip(value / blood, 0.005, 2.5)) for name, value in raw.items()}
    out["muscle"] = float(np.clip(out["muscle"], 0.25, 0.5))
    out["blood"] = 1.0
    if rng.random() < 0.8:
        out["fat"] *= -1.0
    return out


def relaxed(t1: float, uptake: float, agent: float) -> float:
    """T1 in ms after contrast agent that shortens blood's relaxation by `agent` (1/s), of which tissue takes a part."""
    return 1000.0 / (1000.0 / t1 + uptake * agent)


def inversion_recovery(t1: float, ti: float, interval: float) -> float:
    """Longitudinal magnetisation `ti` ms after an inversion that comes every `interval` ms; against the equilibrium."""
    return float(1.0 - 2.0 * np.exp(-ti / t1) + np.exp(-interval / t1))


def null(t1: float, interval: float) -> float:
    """The inversion time, ms, at which tissue of `t1` gives no signal."""
    return float(t1 * np.log(2.0 / (1.0 + np.exp(-interval / t1))))


def late(
    tissues: Tissues, *, agent: float, interval: float, off_ms: float, scar_uptake: float, muscle_uptake: float
) -> tuple[Palette, float]:
    """Signed greys of late enhancement against scar's, and the inversion time, ms.

    The operator nulls healthy muscle; muscle that takes up agent everywhere (amyloid) stays bright.

    Args:
        agent: relaxation that the contrast agent adds to blood, 1/s.
        interval: between inversions, ms.
        off_ms: by how much the operator missed the null point.
        scar_uptake: part of the agent that scar takes up (its distribution volume against blood's).
        muscle_uptake: part that this heart's muscle takes up.
    """
    t1_muscle, t2, density, transfer, uptake = tissues.times["muscle"]
    ti = null(relaxed(t1_muscle, uptake, agent), interval) + off_ms
    times = tissues.times | {"muscle": (t1_muscle, t2, density, transfer, muscle_uptake)}

    def signal(t1: float, density: float, part: float) -> float:
        return density * inversion_recovery(relaxed(t1, part, agent), ti, interval)

    raw = {name: signal(t1, density, part) for name, (t1, _, density, _, part) in times.items()}
    raw["scar"] = signal(1050.0, 0.95, scar_uptake)
    scale = abs(raw["scar"])
    return {name: float(np.clip(value / scale, -1.5, 2.0)) for name, value in raw.items()}, ti


def map_values(tissues: Tissues, which: int) -> Palette:
    """T1 (`which` 0) or T2 (1) of each tissue, ms; lung and gas have too little signal for a fit."""
    out = {name: times[which] for name, times in tissues.times.items()}
    return out | {"gas": 0.0, "lung": 0.15 * out["lung"]}
