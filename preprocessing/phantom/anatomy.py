"""A beating heart as formulas: where its surfaces are at any moment, and how much they hold.

The heart has a frame of its own, in millimetres. `z` runs along the left ventricle's long axis from the base to the
apex, `x` points to the lateral and `y` to the inferior wall, so that a short-axis picture has `x` to the right and
`y` down. `theta = atan2(y, x)`: lateral 0, inferior 90, septum 180, anterior -90 degrees. The apex stands still at
`z = length`; the base moves towards it in systole.

Both ventricles are given by *squared* radii over `(theta, zeta)`, where `zeta` is 0 at the base and 1 at the apex.
That makes the physiology exact: the volume of a region is the integral of its squared radius, so an ejection fraction
is met by a linear equation, and the wall, stored as epicardial minus endocardial squared radius and divided by the
long-axis stretch, keeps its volume through the cycle whatever its shape (incompressible myocardium).

Letters: T phases, N points.
"""

import dataclasses
import math

import numpy as np

ENDO_WIDEST = 0.35  # the cavity is widest at this part of its half axis below the base
RV_LENGTH = 0.93  # the right ventricle ends short of the apex
MYOCARDIUM_G_PER_ML = 1.05
SEPTUM = np.pi


@dataclasses.dataclass(frozen=True)
class Heart:
    """Shape and motion; lengths in mm, angles in radians, times as parts of the cycle."""

    length: float  # base to epicardial apex at end-diastole
    cavity_part: float  # part of `length` that holds cavity; the rest is the apical wall
    radius: float  # endocardial radius where widest
    wall_free: float  # end-diastolic thickness where nothing else is said
    wall_septal: float
    septal_width: float  # of the thickened part, as an angle
    septal_flattening: float  # 0..0.5 of the squared radius, pushed in by a loaded right ventricle
    ovality: float
    squeeze: float  # part of the squared cavity radius lost at full contraction
    shortening: float  # part of the length lost at full contraction
    infarct_theta: float
    infarct_width: float
    infarct_zeta: float
    infarct_akinesia: float  # 0 moves as the rest, 1 does not move, above 1 bulges
    infarct_thinning: float
    rv_squared: float  # squared radius that the right ventricle adds at the middle of the septum, at its base
    rv_width: float  # half the angle it wraps
    rv_squeeze: float
    rv_shortening: float
    la_radius: float
    la_length: float
    ra_radius: float
    ra_length: float
    aorta_radius: float
    papillary: float  # radius of a papillary muscle as a part of the cavity's
    systole: float  # when contraction is complete
    early_filling: float  # part of the contraction undone by early filling; the atria undo the rest
    delay: float  # how far the first phase is into the cycle


def bump(angle: np.ndarray, centre: float, width: float) -> np.ndarray:
    """1 at `centre`, falling smoothly to 0 about `width` away on either side, around the circle."""
    sharpness = math.log(2.0) / (1.0 - math.cos(0.6 * width))
    return np.exp(sharpness * (np.cos(angle - centre) - 1.0))


def contraction(heart: Heart, phases: int) -> np.ndarray:
    """How far the heart has contracted at each of `phases` equal times, `T`, from 0 (end-diastole) to 1."""
    time = (np.arange(phases) / phases + heart.delay) % 1.0
    # End-diastole, end-systole, end of early filling, atrial kick, end-diastole.
    knots = np.array([0.0, heart.systole, heart.systole + 0.24, 0.86, 1.0])
    left = 1.0 - heart.early_filling
    values = np.array([0.0, 1.0, left, 0.9 * left, 0.0])
    piece = np.clip(np.searchsorted(knots, time, side="right") - 1, 0, 3)
    part = (time - knots[piece]) / (knots[piece + 1] - knots[piece])
    ease = 0.5 - 0.5 * np.cos(np.pi * part)
    return values[piece] + (values[piece + 1] - values[piece]) * ease


class Ventricles:
    """The surfaces of both ventricles over angles `theta` (`N`), prepared once and asked at many phases.

    Works in the precision of `theta`, provided that levels and contraction are of the same and `heart` of plain floats.
    """

    def __init__(self, heart: Heart, theta: np.ndarray):
        self.heart = heart
        ring = (heart.radius + heart.wall_free) ** 2 - heart.radius**2
        septal = (heart.radius + heart.wall_septal) ** 2 - heart.radius**2
        self._shape = 1.0 + heart.ovality * np.cos(2.0 * theta) - heart.septal_flattening * bump(theta, SEPTUM, 1.3)
        # A wall keeps its thickness, not its area, where the cavity is out of round.
        thicker = 1.0 + (septal / ring - 1.0) * bump(theta, SEPTUM, heart.septal_width)
        self._wall = thicker * np.sqrt(self._shape)
        self._infarct = bump(theta, heart.infarct_theta, heart.infarct_width)
        away = (theta - SEPTUM + np.pi) % (2.0 * np.pi) - np.pi
        self._wrap = np.maximum(1.0 - (away / heart.rv_width) ** 2, -1.0)

    def infarct(self, zeta: np.ndarray) -> np.ndarray:
        return self._infarct * np.exp(-(((zeta - self.heart.infarct_zeta) / 0.38) ** 2))

    def cavity(self, zeta: np.ndarray) -> np.ndarray:
        """Squared endocardial radius at end-diastole, mm²; negative beyond the tip of the cavity."""
        return self._round_cavity(zeta) * self._shape

    def _round_cavity(self, zeta: np.ndarray) -> np.ndarray:
        """A prolate spheroid cut off above its widest part."""
        along = zeta * ((1.0 + ENDO_WIDEST) / self.heart.cavity_part) - ENDO_WIDEST
        return self.heart.radius**2 * (1.0 - along**2)

    def _ring(self, zeta: np.ndarray, round_cavity: np.ndarray) -> np.ndarray:
        """Epicardial minus endocardial squared radius at end-diastole of a round heart without an infarct, mm²."""
        heart = self.heart
        widest = ENDO_WIDEST * heart.cavity_part / (1.0 + ENDO_WIDEST)
        along = (zeta - widest) * (1.0 / (1.0 - widest))
        outer = (heart.radius + heart.wall_free) ** 2 * (1.0 - along**2)
        return outer - np.maximum(round_cavity, 0.0)

    def left(self, zeta: np.ndarray, contracted: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Squared endocardial and epicardial radius, mm², at contraction 0..1 (broadcast against `zeta`)."""
        heart = self.heart
        round_cavity = self._round_cavity(zeta)
        wall = self._ring(zeta, round_cavity) * self._wall
        squeeze = heart.squeeze * contracted
        if heart.infarct_akinesia or heart.infarct_thinning:  # most hearts have none: spare them the exponential
            infarct = self.infarct(zeta)
            squeeze = squeeze * (1.0 - heart.infarct_akinesia * infarct)
            wall = wall * (1.0 - heart.infarct_thinning * infarct)
        endo = round_cavity * self._shape * (1.0 - squeeze)
        return endo, np.maximum(endo, 0.0) + wall / (1.0 - heart.shortening * contracted)

    def right(self, zeta: np.ndarray, contracted: np.ndarray) -> np.ndarray:
        """Squared radius that the right ventricle adds to the left's epicardium, mm²; negative outside of it."""
        heart = self.heart
        along = 1.0 - np.maximum(zeta / RV_LENGTH, 0.0) ** 1.4
        inside = heart.rv_squared * (1.0 - heart.rv_squeeze * contracted)
        # Outside is where either is negative, and also where both are.
        return inside * np.minimum(self._wrap * along, self._wrap * np.abs(along))


def base(heart: Heart, contracted: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """`z` of the left and of the right ventricle's base, mm."""
    left = heart.length * heart.shortening * contracted
    right = heart.length * heart.rv_shortening * contracted
    return left, right


def _grid() -> tuple[np.ndarray, np.ndarray, float]:
    theta = (np.arange(120) + 0.5) / 120 * 2.0 * np.pi
    zeta = (np.arange(240)[:, None] + 0.5) / 240
    return theta, zeta, 2.0 * np.pi / 120 / 240


@dataclasses.dataclass(frozen=True)
class Volumes:
    """Millilitres at each phase, `T`. The left cavity includes its papillary muscles."""

    lv: np.ndarray
    rv: np.ndarray
    myocardium: np.ndarray


def integrals(heart: Heart) -> tuple[float, float, float]:
    """End-diastolic left volume, the part of it that full `squeeze` would remove, and right volume; mL."""
    theta, zeta, cell = _grid()
    shape = Ventricles(heart, theta)
    cavity = np.maximum(shape.cavity(zeta), 0.0)
    moving = cavity * (1.0 - heart.infarct_akinesia * shape.infarct(zeta))
    right = np.maximum(shape.right(zeta, np.zeros(())), 0.0)
    scale = 0.5 * cell * heart.length / 1000.0
    return cavity.sum() * scale, moving.sum() * scale, right.sum() * scale


def volumes(heart: Heart, contracted: np.ndarray) -> Volumes:
    """Integrates the surfaces: what a reader with perfect contours would find.

    Args:
        contracted: `T`, from `contraction`.
    """
    theta, zeta, cell = _grid()
    shape = Ventricles(heart, theta)
    at = contracted[:, None, None]
    endo, epi = shape.left(zeta, at)
    endo, epi = np.maximum(endo, 0.0), np.maximum(epi, 0.0)
    right = np.maximum(shape.right(zeta, at), 0.0)
    left_length = heart.length * (1.0 - heart.shortening * contracted)
    right_length = heart.length * (1.0 - heart.rv_shortening * contracted)
    scale = 0.5 * cell / 1000.0
    return Volumes(
        lv=endo.sum((1, 2)) * left_length * scale,
        rv=right.sum((1, 2)) * right_length * scale,
        myocardium=(epi - endo).sum((1, 2)) * left_length * scale,
    )


def wall_thickness(heart: Heart, contracted: float) -> np.ndarray:
    """Mean thickness, mm, of 18 equal sectors (`theta` from -180 degrees up) x 2 levels (mid, apical): `2 18`."""
    theta = (np.arange(72) + 0.5) / 72 * 2.0 * np.pi - np.pi
    zeta = np.array([0.4, 0.7])[:, None]
    endo, epi = Ventricles(heart, theta).left(zeta, np.full((), contracted))
    return (np.sqrt(np.maximum(epi, 0)) - np.sqrt(np.maximum(endo, 0))).reshape(2, 18, 4).mean(-1)


def axes(body: np.random.Generator, *, roll: float) -> np.ndarray:
    """How a heart lies: unit vectors across, down and along it in LPS (`3 3`), the apex to the left, front and feet.

    It is turned about itself by a standard deviation of `roll` (radians).
    """
    azimuth = np.deg2rad(body.normal(-46.0, 8.0))
    elevation = np.deg2rad(body.normal(-24.0, 7.0))
    along = np.array([np.cos(azimuth) * np.cos(elevation), np.sin(azimuth) * np.cos(elevation), np.sin(elevation)])
    feet = np.array([0.0, 0.0, -1.0])
    down = feet - (feet @ along) * along
    down /= np.linalg.norm(down)
    across = np.cross(down, -along)
    turn = body.normal(0.0, roll)
    across, down = np.cos(turn) * across + np.sin(turn) * down, np.cos(turn) * down - np.sin(turn) * across
    return np.stack([across, down, along])
