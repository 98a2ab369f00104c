"""A beating heart as tables: the squared radii of its surfaces at each phase, level and angle.

The frame and the idea are those of `anatomy` (squared radii, so that volumes are sums and a wall of constant volume
thickens as the cavity narrows and shortens), but each surface is free: 17 segments move and thicken on their own, the
wall twists, the septum flattens, the right ventricle bulges. Pictures, masks and the truth all read the same tables.

Letters: T phases, Z levels from base (0) to apex (1), A angles around the axis.
"""

import dataclasses

import numpy as np

from preprocessing.phantom.clinical import segments

LEVELS, ANGLES = 41, 96
ENDO_WIDEST = 0.3  # the cavity is widest at this part of its half axis below the base
RV_LENGTH = 0.94  # the right ventricle ends short of the apex
MYOCARDIUM_G_PER_ML = 1.05
SEPTUM = np.pi
_INWARDS_ABOVE = 9.0  # mm: a thicker wall takes its room from the cavity
THETA = (np.arange(ANGLES) / ANGLES * 2.0 * np.pi).astype(np.float64)
ZETA = np.arange(LEVELS) / (LEVELS - 1.0)


@dataclasses.dataclass(frozen=True)
class Heart:
    """Shape and motion; lengths in mm, angles in radians. Arrays of segments have 17 entries."""

    length: float  # base to epicardial apex at end-diastole
    tip: float  # muscle beyond the cavity's tip
    radius: float  # endocardial radius where widest
    wall: np.ndarray  # 17, at end-diastole
    motion: np.ndarray  # 17: 1 as the healthy part, 0 does not move, below 0 bulges
    squeeze: float  # part of the squared cavity radius lost at full contraction where motion is 1
    shortening: float  # part of the length lost at full contraction
    torsion: float  # by how much the apex turns against the base
    flattening: float  # 0..0.5 of the squared radius, pushed in by a loaded right ventricle
    lumps: tuple[tuple[float, float], ...]  # amplitude and phase of the cavity's 2nd, 3rd, ... harmonic
    aneurysm: tuple[float, float, float]  # angle, place along, part of the squared radius that bulges out
    rv_squared: float  # squared radius that the right ventricle adds at the middle of the septum, at its base
    rv_half_angle: float
    rv_skew: float  # angle by which it hangs below the middle of the septum
    rv_power: float  # below 1 a full, above 1 a slender crescent
    rv_squeeze: float
    rv_shortening: float
    rv_bulge: float  # of a patch of its free wall that does not contract (ARVC), as a part of the squared radius
    la_radius: float
    la_length: float
    ra_radius: float
    ra_length: float
    aorta_radius: float
    pulmonary_radius: float
    papillary: float  # radius of a papillary muscle as a part of the cavity's
    papillary_theta: tuple[float, float]  # the anterolateral's and the posteromedial's
    trabeculae_ml: float  # muscle of the left cavity's trabeculae (see `trabeculae`)
    trabeculae_apical: float  # by how many mm they reach further in the apical half (non-compaction)
    trabeculae_right: float  # how far those of the right ventricle reach in, mm
    trabeculae_count: int  # around the circle

    @property
    def cavity_part(self) -> float:
        """Part of `length` that holds cavity."""
        return 1.0 - self.tip / self.length


@dataclasses.dataclass(frozen=True)
class Wall:
    """What belongs to a piece of muscle, wherever it moves to: `Z A`. Squared radii in mm²."""

    cavity: np.ndarray  # squared endocardial radius at end-diastole; negative beyond the tip
    ring: np.ndarray  # epicardial minus endocardial squared radius at end-diastole
    motion: np.ndarray


def wall(heart: Heart) -> Wall:
    """The relaxed left ventricle. A prolate spheroid cut off above its widest part, out of round as `heart` says."""
    outline = 1.0 - heart.flattening * bump(THETA, SEPTUM, 1.2)
    for number, (amplitude, phase) in enumerate(heart.lumps, 2):
        outline = outline + amplitude * np.cos(number * THETA - phase)
    along = ZETA / heart.cavity_part
    inner = (along * (1.0 + ENDO_WIDEST) - ENDO_WIDEST)[:, None]
    angle, place, bulge = heart.aneurysm
    patch = np.exp(-(((along - place) / 0.22) ** 2))[:, None] * bump(THETA, angle, 1.0)
    cavity = heart.radius**2 * (1.0 - inner**2) * outline * (1.0 + bulge * patch)
    thick = segments.field(heart.wall, THETA, along, blur_along=0.13)
    # Hypertrophy grows inwards for the most part: the cavity loses what the outline does not gain.
    outwards = np.minimum(thick, _INWARDS_ABOVE) + 0.35 * np.maximum(thick - _INWARDS_ABOVE, 0.0)
    reach = np.sqrt(np.maximum(cavity, 0.0))
    filled = np.maximum(reach - (thick - outwards), 0.3 * reach) ** 2
    gained = np.maximum(cavity, 0.0) - filled
    cavity = np.where(cavity > 0.0, filled, cavity)
    widest = ENDO_WIDEST * heart.cavity_part / (1.0 + ENDO_WIDEST)
    outer = ((ZETA - widest) / (1.0 - widest))[:, None]
    ring = (heart.radius + outwards) ** 2 * (1.0 - outer**2) - heart.radius**2 * np.maximum(1.0 - inner**2, 0.0)
    # A wall keeps its thickness, not its area, where the cavity is out of round.
    ring = np.maximum(ring, 0.0) * np.sqrt(np.maximum(outline * (1.0 + bulge * patch), 0.1))
    return Wall(cavity, ring + gained, segments.field(heart.motion, THETA, along))


def bump(angle: np.ndarray, centre: float, width: float) -> np.ndarray:
    """1 at `centre`, falling smoothly to 0 about `width` away on either side, around the circle."""
    sharpness = float(np.log(2.0) / (1.0 - np.cos(0.6 * width)))
    return np.exp(sharpness * (np.cos(angle - centre) - 1.0))


def twist(heart: Heart, zeta: np.ndarray | float, contracted: np.ndarray) -> np.ndarray:
    """By which angle the wall at `zeta` has turned (broadcast): the base a little one way, the apex the other.

    Seen from the apex the apex turns counter-clockwise in systole (Russel et al., Eur J Echocardiogr 2009;10:i39).
    """
    return -heart.torsion * (1.3 * zeta - 0.3) * contracted


def _carried(fields: list[np.ndarray], turn: np.ndarray) -> list[np.ndarray]:
    """Fields of the wall (`Z A`) where the wall has turned by `turn` (`T Z`): `T Z A` each."""
    back = np.arange(ANGLES) - turn[..., None] * (ANGLES / (2.0 * np.pi))
    low = np.floor(back).astype(np.intp)
    part = (back - low).astype(np.float32)
    rows = np.arange(turn.shape[1])[:, None] * ANGLES
    first, second = rows + low % ANGLES, rows + (low + 1) % ANGLES
    out = []
    for values in fields:
        flat = values.astype(np.float32).ravel()
        at = flat[first]
        out.append(at + part * (flat[second] - at))
    return out


@dataclasses.dataclass(frozen=True)
class Beat:
    """The tables at each phase, `T Z A` float32, mm²; `contracted` is `T`, 0 (end-diastole) to 1.

    The outline of the right ventricle is `epi2` at the same place plus `right2`, over levels of its own.
    """

    heart: Heart
    contracted: np.ndarray
    endo2: np.ndarray
    epi2: np.ndarray
    right2: np.ndarray

    @property
    def left_base(self) -> np.ndarray:
        """`z` of the mitral valve's plane, mm, `T`."""
        return self.heart.length * self.heart.shortening * self.contracted

    @property
    def right_base(self) -> np.ndarray:
        return self.heart.length * self.heart.rv_shortening * self.contracted

    def phase(self, number: int) -> "Beat":
        """One phase alone."""
        one = slice(number, number + 1)
        return Beat(self.heart, self.contracted[one], self.endo2[one], self.epi2[one], self.right2[one])


def beat(heart: Heart, contracted: np.ndarray, right: np.ndarray | None = None) -> Beat:
    """The surfaces of `heart` at contractions `T`.

    Args:
        right: contraction of the right ventricle, `T`; None where it beats with the left.
    """
    now = np.asarray(contracted, float)
    piece = wall(heart)
    turn = twist(heart, ZETA[None], now[:, None])
    cavity, ring, motion = _carried([piece.cavity, piece.ring, piece.motion], turn)
    endo2 = emptied(heart, cavity, motion, now)
    epi2 = np.maximum(endo2, 0.0) + ring / (
        np.float32(1.0) - np.float32(heart.shortening) * now.astype(np.float32)[:, None, None]
    )
    return Beat(heart, now, endo2, epi2, _right(heart, now if right is None else right))


def emptied(heart: Heart, cavity: np.ndarray, motion: np.ndarray, now: np.ndarray) -> np.ndarray:
    """Squared endocardial radius (`T Z A`) of pieces of the wall at contractions `now` (`T`)."""
    at = now.astype(np.float32)[:, None, None]
    left_over = np.maximum(np.float32(1.0) - np.float32(heart.squeeze) * at * motion, np.float32(0.02))
    return np.where(cavity > 0.0, cavity * left_over, cavity)


def _right(heart: Heart, contracted: np.ndarray) -> np.ndarray:
    """Squared radius that the right ventricle adds to the left's epicardium, `T Z A`; negative outside of it."""
    away = (THETA - SEPTUM + heart.rv_skew + np.pi) % (2.0 * np.pi) - np.pi
    wrap = 1.0 - (away / heart.rv_half_angle) ** 2
    wrap = np.where(wrap > 0.0, np.maximum(wrap, 0.0) ** heart.rv_power, np.maximum(wrap, -1.0))
    along = 1.0 - (ZETA / RV_LENGTH) ** 1.5
    along = along * (1.0 - 0.55 * np.exp(-((ZETA / 0.15) ** 2)))  # narrows towards the tricuspid valve
    shape = heart.rv_squared * np.where(along[:, None] < 0.0, -np.abs(wrap), wrap) * np.abs(along)[:, None]
    patch = np.exp(-(((ZETA - 0.25) / 0.18) ** 2))[:, None] * bump(THETA, SEPTUM + 0.55, 0.6)
    moving = heart.rv_squeeze * (1.0 - 1.15 * (heart.rv_bulge > 0.0) * patch)
    shape = shape * (1.0 + heart.rv_bulge * patch)
    at = np.asarray(contracted)[:, None, None]
    return (shape * (1.0 - at * moving)).astype(np.float32)


def carried(made: Beat, fields: list[np.ndarray]) -> list[np.ndarray]:
    """Fields of the wall (`Z A`) where the beat has turned it to: `T Z A` each."""
    return _carried(fields, twist(made.heart, ZETA[None], made.contracted[:, None]))


@dataclasses.dataclass(frozen=True)
class Volumes:
    """Millilitres at each phase, `T`. The left cavity includes its papillary muscles and trabeculae."""

    lv: np.ndarray
    rv: np.ndarray
    myocardium: np.ndarray


_TRAPEZOID = np.concatenate([[0.5], np.ones(LEVELS - 2), [0.5]]) / (LEVELS - 1.0)


def volume_ml(table: np.ndarray, length: np.ndarray | float) -> np.ndarray:
    """Volume (mL) within squared radii `T Z A` over `length` mm, `T`; without `T` of one moment."""
    area = 0.5 * table.mean(-1, dtype=float) * 2.0 * np.pi
    return (area * _TRAPEZOID).sum(-1) * length / 1000.0


def volumes(made: Beat) -> Volumes:
    """Integrates the surfaces: what a reader with perfect contours would find."""
    left, right = made.heart.length - made.left_base, made.heart.length - made.right_base
    endo2 = np.maximum(made.endo2, 0.0)
    return Volumes(
        lv=volume_ml(endo2, left),
        rv=volume_ml(np.maximum(made.right2, 0.0), right),
        myocardium=volume_ml(made.epi2 - endo2, left),
    )


def fitted(heart: Heart, *, edv: float, ef: float, rv_edv: float, rv_ef: float, mass: float | None = None) -> Heart:
    """`heart` scaled to its volumes (mL) and with the squeeze that gives its fractions (0..1).

    The cavity's volume is linear in the squeeze as long as no segment is emptied, so a few steps suffice.

    Args:
        mass: of the left ventricle, g; None keeps the thickness of its wall.
    """
    for _ in range(7):
        full, muscle = _relaxed(heart)
        scale = (edv / full) ** (1.0 / 3.0)
        thicker = 1.0 if mass is None else mass / (muscle * MYOCARDIUM_G_PER_ML)
        heart = dataclasses.replace(
            heart, length=heart.length * scale, radius=heart.radius * scale, wall=heart.wall * thicker**0.85
        )
    heart = dataclasses.replace(heart, squeeze=_squeeze(heart, ef))
    shape = np.maximum(_right(dataclasses.replace(heart, rv_squared=1.0, rv_squeeze=1.0), np.array([0.0, 1.0])), 0.0)
    full, rest = volume_ml(shape, np.full(2, heart.length))  # the squeeze takes volume away in proportion
    wanted = (1.0 - rv_ef) / (1.0 - heart.rv_shortening)
    squeeze = (1.0 - wanted) / max(1.0 - rest / full, 0.05)
    return dataclasses.replace(heart, rv_squared=rv_edv / full, rv_squeeze=float(np.clip(squeeze, 0.0, 0.9)))


def _relaxed(heart: Heart) -> tuple[float, float]:
    """mL of the left cavity and of its wall at end-diastole. Turning moves no volume, so it is left out."""
    piece, length = wall(heart), np.array([heart.length])
    cavity, ring = (volume_ml(np.maximum(table, 0.0)[None], length)[0] for table in (piece.cavity, piece.ring))
    return float(cavity), float(ring)


def _squeeze(heart: Heart, ef: float) -> float:
    """The squeeze that empties the left cavity by `ef`: linear as long as no segment is emptied."""
    piece = wall(heart)
    shorter = np.array([heart.length * (1.0 - heart.shortening)])
    full = float(volume_ml(np.maximum(piece.cavity, 0.0)[None], np.array([heart.length]))[0])
    squeeze = 0.45
    for _ in range(8):
        tried = dataclasses.replace(heart, squeeze=squeeze)
        endo2 = emptied(tried, piece.cavity, piece.motion, np.ones(1))
        left_over = float(volume_ml(np.maximum(endo2, 0.0), shorter)[0]) / full / (1.0 - heart.shortening)
        wanted = (1.0 - ef) / (1.0 - heart.shortening)
        squeeze = float(np.clip(squeeze * (1.0 - wanted) / max(1.0 - left_over, 1e-3), 0.01, 0.93))
    return squeeze


def thickness(heart: Heart, contracted: float = 0.0) -> np.ndarray:
    """Thickness of the wall across itself, mm, at the middle of each segment: 17."""
    made = beat(heart, np.array([contracted]))
    endo = np.sqrt(np.maximum(made.endo2[0], 0.0))
    epi = np.sqrt(made.epi2[0])
    step = (heart.length - made.left_base[0]) / (LEVELS - 1.0)
    slope = np.gradient(0.5 * (endo + epi), step, axis=0)
    across = (epi - endo) / np.sqrt(1.0 + slope**2)
    out = []
    for segment in range(1, 17):
        angle, along = segments.centre(segment)
        z = round(min(along, 0.8) * heart.cavity_part * (LEVELS - 1))
        a = round((angle + float(twist(heart, along, np.array(contracted)))) / (2.0 * np.pi) * ANGLES)
        out.append(np.take(across[z], np.arange(a - 3, a + 4), mode="wrap").mean())
    return np.array([*out, heart.tip * (1.0 - heart.shortening * contracted)])
