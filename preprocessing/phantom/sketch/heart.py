"""The left ventricle of `sketch`: a cavity that shortens and narrows within a wall of constant mass.

Millimetres; z along the axis, `zeta` from the base (0) to the apex (1). Letters: T phases, N pixels.
"""

import dataclasses
from collections.abc import Collection

import numpy as np

from preprocessing.phantom.anatomy import MYOCARDIUM_G_PER_ML


@dataclasses.dataclass(frozen=True)
class Heart:
    """A left ventricle and what hangs on it."""

    ef: float  # asked for, 0..1
    length: float  # of the cavity
    radius: float  # of the cavity at its widest
    widest: float  # where, as a part of the length
    taper: float  # power of the way to the apex
    wall: float
    septum: float  # more of the wall at the septum, as a part
    apical_wall: float  # wall at the apex, as a part of that at the base
    septal: float  # angle of the septum's middle
    shape: np.ndarray  # `K 2`: cosine and sine of the 2nd, 3rd, ... harmonic of the cavity's outline
    shortening: float
    gradient: float  # how much more the apex contracts than the base
    akinesia: float
    infarct: tuple[float, float, float, float]  # angle, width, place along the axis, its spread
    lag: tuple[float, float]  # of the wall around an angle, parts of the cycle
    systole: float
    filling: float  # part of the contraction undone by early filling
    early: float  # how long early filling takes, parts of the cycle
    delay: float
    torsion: float
    sway: tuple[float, float]  # how the axis moves with the contraction
    papillary: np.ndarray  # `K 4`: angle, radius, place on the way to the wall, place along the axis
    rough: np.ndarray  # `K 3`: harmonic, amplitude, phase of the trabeculae
    trabeculae: float  # muscle of theirs in the cavity, as a part of its widest area
    loose: float  # part of it that already looks like wall at end-diastole
    rv: tuple[float, float, float, float, float]  # width, half angle, power, skew, length as a part
    rv_squeeze: float
    fat: tuple[float, float, float]  # thickness, and how it changes with cosine and sine


def draw(rng: np.random.Generator) -> Heart:
    ef = rng.uniform(0.08, 0.78)
    # A dilated ventricle is more often a weak one, a thick one more often a strong one; far from always.
    radius = float(np.clip(rng.normal(33.5 - 13.0 * ef, 4.0), 17.0, 42.0))
    thick = rng.random() < 0.2 + 0.25 * ef
    infarcted = rng.random() < 0.4 * (1.1 - ef)
    septal = np.pi + rng.normal(0.0, 0.35)
    count = int(rng.integers(5))
    orders = np.arange(2, 7)
    harmonics = rng.normal(0.0, 1.0, (5, 2)) * (0.05 / orders**0.8)[:, None] * rng.uniform(0.3, 1.5)
    base = 2.0 if rng.random() < 0.75 else rng.uniform(0.0, 4.0)
    apart = [septal + np.pi + sign * rng.uniform(0.6, 1.5) for sign in (-1.0, 1.0)]
    angles = (apart + list(rng.uniform(0.0, 2.0 * np.pi, 3)))[: round(base)]
    papillary = np.array(
        [[a, rng.uniform(0.1, 0.27), rng.uniform(0.62, 0.98), rng.uniform(0.35, 0.65)] for a in angles]
    ).reshape(-1, 4)
    rough = np.stack(
        [rng.integers(6, 22, count).astype(float), rng.uniform(0.01, 0.06, count), rng.uniform(0, 2 * np.pi, count)], 1
    )
    return Heart(
        ef=ef,
        length=float(np.clip(radius * rng.uniform(2.6, 3.8), 60.0, 125.0)),
        radius=radius,
        widest=rng.uniform(0.05, 0.35),
        taper=rng.uniform(1.7, 3.0),
        wall=float(rng.uniform(10.0, 19.0) if thick else rng.uniform(5.0, 11.5)),
        septum=float(rng.uniform(-0.15, 0.3) + (rng.uniform(0.0, 0.6) if thick else 0.0)),
        apical_wall=rng.uniform(0.5, 1.1),
        septal=septal,
        shape=harmonics,
        shortening=float(np.clip(0.27 * ef + rng.normal(0.0, 0.03), 0.01, 0.24)),
        gradient=_gradient(rng, ef, infarcted),
        akinesia=float(rng.uniform(0.5, 1.25)) if infarcted else 0.0,
        infarct=(rng.uniform(0, 2 * np.pi), rng.uniform(0.5, 1.6), rng.uniform(0.3, 0.95), rng.uniform(0.2, 0.5)),
        lag=(float(rng.uniform(0.0, 0.12)) if rng.random() < 0.25 else 0.0, rng.uniform(0, 2 * np.pi)),
        systole=rng.uniform(0.27, 0.47),
        filling=rng.uniform(0.55, 0.95),
        early=rng.uniform(0.14, 0.3),
        delay=float(np.clip(rng.normal(0.0, 0.025), -0.06, 0.06)),
        torsion=rng.uniform(0.0, 0.35),
        sway=(rng.normal(0.0, 2.0), rng.normal(0.0, 2.0)),
        papillary=papillary,
        rough=rough,
        # Wide on purpose: how much of it lies within a contour differs between hearts and between readers.
        trabeculae=rng.uniform(0.0, 0.2),
        loose=rng.uniform(0.0, 0.6),
        rv=(
            rng.uniform(14, 52),
            rng.uniform(1.0, 1.9),
            rng.uniform(0.5, 1.3),
            rng.normal(0, 0.25),
            rng.uniform(0.6, 1),
        ),
        rv_squeeze=rng.uniform(0.1, 0.65),
        fat=(float(rng.choice([0.0, rng.uniform(0.5, 8.0)])), rng.uniform(-0.5, 0.5), rng.uniform(-0.5, 0.5)),
    )


def _gradient(rng: np.random.Generator, ef: float, infarcted: bool) -> float:
    """How much more the apex contracts than the base. Where the anterior descending artery was closed the whole apex
    stands still, all around, while the base goes on: an infarct of one side alone does not show that."""
    if ef < 0.55 and rng.random() < (0.5 if infarcted else 0.15):
        return float(rng.uniform(-1.5, 0.0))
    return float(rng.normal(0.05, 0.12))


def simplified(heart: Heart, without: Collection[str]) -> Heart:
    """`heart` without some of its parts (names as in `sketch.PARTS`), all else as it was drawn."""
    if "trabeculae" in without:
        heart = dataclasses.replace(heart, papillary=heart.papillary[:0], rough=heart.rough[:0], trabeculae=0.0)
    if "regions" in without:
        round_ = np.zeros_like(heart.shape)
        heart = dataclasses.replace(heart, shape=round_, septum=0.0, gradient=0.0, akinesia=0.0, lag=(0.0, 0.0))
    return heart


def contraction(heart: Heart, phases: int, late: float = 0.0) -> np.ndarray:
    """0 (end-diastole) to 1, `T`."""
    time = (np.arange(phases) / phases + heart.delay - late) % 1.0
    knots = np.array([0.0, heart.systole, heart.systole + heart.early, 0.88, 1.0])
    left = 1.0 - heart.filling
    values = np.array([0.0, 1.0, left, left, 0.0])
    piece = np.clip(np.searchsorted(knots, time, side="right") - 1, 0, len(knots) - 2)
    ease = 0.5 - 0.5 * np.cos(np.pi * (time - knots[piece]) / (knots[piece + 1] - knots[piece]))
    return values[piece] + (values[piece + 1] - values[piece]) * ease


@dataclasses.dataclass(frozen=True)
class Beat:
    """Where the surfaces of `heart` are at each phase."""

    heart: Heart
    squeeze: float
    now: np.ndarray  # T, contraction
    late: np.ndarray  # T, of the late wall

    def volumes(self) -> np.ndarray:
        """mL at each phase, `T`."""
        theta, zeta = _grid()
        walls = Walls(self, theta)
        area = walls.cavity(zeta, walls.relaxed(zeta)).mean((1, 2)) * np.pi
        return area * self.heart.length * (1.0 - self.heart.shortening * self.now) / 1000.0


def _grid() -> tuple[np.ndarray, np.ndarray]:
    """Angles and places along the axis over which a volume is summed."""
    return (np.arange(48) + 0.5) / 48 * 2 * np.pi, (np.arange(40)[None, :, None] + 0.5) / 40


class Walls:
    """The surfaces of `beat` at angles `theta` (`N`): what depends on the angle alone is made once.

    Places `zeta` (0 base .. 1 apex) broadcast to `T N`, with T phases of `rows`.
    """

    def __init__(self, beat: Beat, theta: np.ndarray):
        heart = beat.heart
        self._beat = beat
        outline = np.ones_like(theta)
        for order, (a, b) in enumerate(heart.shape, 2):
            outline += float(a) * np.cos(order * theta) + float(b) * np.sin(order * theta)
        self._full = heart.radius**2 * outline
        self._late = 0.5 + 0.5 * np.cos(theta - heart.lag[1])
        self._thick = heart.wall * (1 + heart.septum * np.maximum(np.cos(theta - heart.septal), 0))
        angle, width, _, _ = heart.infarct
        away = (theta - angle + np.pi) % (2 * np.pi) - np.pi
        self._dead = np.exp(-((away / width) ** 2)) if heart.akinesia else None

    def _scarred(self, zeta: np.ndarray) -> np.ndarray | None:
        """How much the infarct is felt, 0..1."""
        if self._dead is None:
            return None
        _, _, place, spread = self._beat.heart.infarct
        return self._dead * np.exp(-(((zeta - place) / spread) ** 2))

    def relaxed(self, zeta: np.ndarray) -> np.ndarray:
        """Squared radius of the relaxed cavity where the tissue at `zeta` comes from; never below 0."""
        heart = self._beat.heart
        along = np.where(zeta > heart.widest, (zeta - heart.widest) / (1.0 - heart.widest), 0.4 * (heart.widest - zeta))
        return np.maximum(self._full * (1.0 - np.clip(along, 0.0, 1.5) ** heart.taper), 0.0)

    def cavity(self, zeta: np.ndarray, relaxed: np.ndarray, rows: slice = slice(None)) -> np.ndarray:
        """Squared radius of the cavity whose relaxed one is `relaxed`."""
        heart, beat = self._beat.heart, self._beat
        now, late = (c[rows].reshape(-1, *(1,) * (zeta.ndim - 1)).astype(zeta.dtype) for c in (beat.now, beat.late))
        squeezed = now + self._late * (late - now) if heart.lag[0] else now
        moving = 1.0 + heart.gradient * (zeta - 0.5)
        scarred = self._scarred(zeta)
        if scarred is not None:
            moving = moving - heart.akinesia * scarred
        return relaxed * np.maximum(1.0 - beat.squeeze * squeezed * moving, 0.02)

    def thickness(self, zeta: np.ndarray) -> np.ndarray:
        """Of the relaxed wall, mm."""
        thick = self._thick * (1 + (self._beat.heart.apical_wall - 1) * np.clip(zeta, 0, 1))
        scarred = self._scarred(zeta)
        return thick if scarred is None else thick * (1 - 0.4 * scarred)

    def ring(self, zeta: np.ndarray, relaxed: np.ndarray) -> np.ndarray:
        """Squared radius that the relaxed wall adds."""
        thick = self.thickness(zeta)
        return thick * (2 * np.sqrt(relaxed) + thick)

    def surfaces(self, zeta: np.ndarray, rows: slice = slice(None)) -> tuple[np.ndarray, np.ndarray]:
        """Squared radius of the cavity and of the whole: the wall's volume stays, so it thickens as the cavity narrows
        and shortens."""
        beat = self._beat
        now = beat.now[rows].reshape(-1, *(1,) * (zeta.ndim - 1)).astype(zeta.dtype)
        relaxed = self.relaxed(zeta)
        endo2 = self.cavity(zeta, relaxed, rows)
        return endo2, endo2 + self.ring(zeta, relaxed) / (1.0 - beat.heart.shortening * now)


def beat(heart: Heart, phases: int) -> Beat:
    """The beat whose volumes have the heart's fraction, as nearly as its wall can."""
    now, late = contraction(heart, phases), contraction(heart, phases, heart.lag[0])
    squeeze = 1.0 - (1.0 - heart.ef) / (1.0 - heart.shortening)
    out = Beat(heart, squeeze, now, late)
    for _ in range(4):
        volume = out.volumes()
        reached = 1.0 - volume.min() / volume.max()
        out = dataclasses.replace(out, squeeze=float(np.clip(out.squeeze * heart.ef / reached, 0.0, 1.05)))
    return out


def mass_g(beat: Beat) -> float:
    """Of the wall, g."""
    theta, zeta = _grid()
    walls = Walls(beat, theta)
    ring = walls.ring(zeta, walls.relaxed(zeta)).mean() * np.pi
    return float(ring * beat.heart.length / 1000.0 * MYOCARDIUM_G_PER_ML)


def group(heart: Heart) -> str:
    """infarcted, dilated, hypertrophic or normal."""
    if heart.akinesia and heart.ef < 0.5:
        return "infarcted"
    if heart.ef < 0.45:
        return "dilated"
    return "hypertrophic" if heart.wall * (1.0 + max(heart.septum, 0.0)) > 13.0 else "normal"
