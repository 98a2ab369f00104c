"""Short-axis stacks drawn flat and at random: hearts that teach to measure, not hearts of a population.

Where `scene` builds one careful body, this draws every shape and grey from ranges wider than life, so that a picture of
a real scanner is one more draw (domain randomisation, arXiv 1703.06907). What holds as in life is what a fraction is
measured by: a cavity that shortens and narrows within a wall of constant mass, seen in slices of which some may lie
beyond its base or its apex. The ejection fraction is drawn evenly from 8 to 78 %.

Millimetres; x to the right, y down the picture, z along the axis from the mitral valve at end-diastole to the apex.
Letters: S slices, T phases, N pixels, H W of a picture.
"""

import dataclasses

import numpy as np

from preprocessing.phantom.anatomy import MYOCARDIUM_G_PER_ML
from preprocessing.phantom.render import Plane

_REACH_MM = 84.0  # nothing beats farther from the ventricle's axis
_WAVES = 40  # of a texture


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
        gradient=rng.normal(0.05, 0.12),
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
        trabeculae=rng.uniform(0.0, 0.1),
        loose=rng.uniform(0.1, 0.7),
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

    def squared(self, theta: np.ndarray, zeta: np.ndarray) -> np.ndarray:
        """Squared radius of the cavity over angles and `zeta` (0 base .. 1 apex), whose first axis is T or 1."""
        h = self.heart
        now, late = (c.reshape(-1, *(1,) * (zeta.ndim - 1)).astype(np.float32) for c in (self.now, self.late))
        outline = np.ones_like(theta)
        for order, (a, b) in enumerate(h.shape, 2):
            outline = outline + a * np.cos(order * theta) + b * np.sin(order * theta)
        along = np.where(zeta > h.widest, (zeta - h.widest) / (1.0 - h.widest), 0.4 * (h.widest - zeta))
        full = h.radius**2 * outline * (1.0 - np.clip(along, 0.0, 1.5) ** h.taper)
        late_part = 0.5 + 0.5 * np.cos(theta - h.lag[1])
        squeezed = now + late_part * (late - now)
        moving = 1.0 + h.gradient * (zeta - 0.5)
        if h.akinesia:
            angle, width, place, spread_z = h.infarct
            off = (theta - angle + np.pi) % (2 * np.pi) - np.pi
            moving = moving - h.akinesia * np.exp(-((off / width) ** 2) - ((zeta - place) / spread_z) ** 2)
        return full * np.maximum(1.0 - self.squeeze * squeezed * moving, 0.02)

    def surfaces(self, theta: np.ndarray, zeta: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Squared radius of the cavity and of the whole, `T ...`: the wall's volume stays, so it thickens as the cavity
        narrows and shortens."""
        h = self.heart
        now = self.now.reshape(-1, *(1,) * (zeta.ndim - 1)).astype(np.float32)
        endo2 = np.maximum(self.squared(theta, zeta), 0.0)
        full = np.sqrt(np.maximum(_relaxed(self, theta, zeta), 0.0))
        ring = (full + _thickness(h, theta, zeta)) ** 2 - full**2
        return endo2, endo2 + ring / (1.0 - h.shortening * now)

    def volumes(self) -> np.ndarray:
        """mL at each phase, `T`."""
        theta = (np.arange(48) + 0.5) / 48 * 2 * np.pi
        zeta = (np.arange(40)[None, :, None] + 0.5) / 40
        area = np.maximum(self.squared(theta, zeta), 0.0).mean((1, 2)) * np.pi
        return area * self.heart.length * (1.0 - self.heart.shortening * self.now) / 1000.0


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


@dataclasses.dataclass(frozen=True)
class Look:
    """How one study is seen: the place of its slices, its greys, its scanner."""

    size: int
    spacing: float
    places: np.ndarray  # S, z
    gap: float
    thickness: float
    shift: np.ndarray  # S 2, of the heart in the picture
    tilt: tuple[float, float]
    seed: int


def look(rng: np.random.Generator, heart: Heart, slices: int, size: int) -> Look:
    """A stack of 4 to `slices` slices, over the whole heart and beyond, or over its middle alone."""
    count = int(rng.integers(4, max(slices, 4) + 1))
    if rng.random() < 0.45:
        first, last = rng.uniform(0.05, 0.35), rng.uniform(0.6, 0.9)
    else:
        first, last = rng.uniform(-0.45, 0.12), rng.uniform(0.85, 1.15)
    gap = (last - first) * heart.length / (count - 1)
    spacing = rng.uniform(270.0, 390.0) / size
    place = rng.normal(0.0, 18.0, 2)
    breath = rng.normal(0.0, float(rng.choice([0.5, 2.0, 4.0])), (count, 2))
    drift = rng.normal(0.0, 0.12, 2)
    places = first * heart.length + gap * np.arange(count)
    shift = place + breath + drift * (places - 0.5 * heart.length)[:, None]
    tilt = (float(rng.normal(0, 0.07)), float(rng.normal(0, 0.07)))
    return Look(
        size, spacing, places, gap, float(rng.choice([6.0, 8.0, 10.0])), shift, tilt, int(rng.integers(1 << 31))
    )


def _cover(distance: np.ndarray, edge: float) -> np.ndarray:
    return np.clip(0.5 - distance / np.float32(edge), 0.0, 1.0)


def _paint(canvas: np.ndarray, distance: np.ndarray, signal: np.ndarray | float, edge: float) -> None:
    canvas += _cover(distance, edge) * (np.asarray(signal, np.float32) - canvas)


class Painter:
    """The greys, the organs and the scanner of one study; makes its pictures."""

    def __init__(self, beat: Beat, how: Look):
        rng = np.random.default_rng(how.seed)
        self.beat, self.how, self._rng = beat, how, rng
        self.muscle = rng.uniform(0.18, 0.55)
        self.lung = rng.uniform(0.0, 0.15)
        self.fat = rng.uniform(0.3, 1.5)
        self.liver = rng.uniform(0.2, 0.65)
        self.rv_blood = rng.uniform(0.75, 1.25)
        self.edge = rng.uniform(1.0, 1.8) * how.spacing
        self.axis = rng.uniform(-np.pi, np.pi) if rng.random() < 0.1 else float(beat.heart.septal - np.pi)
        self.flow = rng.uniform(0.0, 0.2), rng.uniform(0.0, 0.5)  # unevenness of the blood, left and right
        k = rng.normal(0.0, 1.0, (_WAVES, 2)) * rng.choice([0.04, 0.1, 0.25, 0.5], _WAVES)[:, None]
        self.waves = k.astype(np.float32), rng.uniform(0, 2 * np.pi, _WAVES).astype(np.float32)
        self.blobs = [self._blob(rng) for _ in range(int(rng.integers(4, 14)))]
        self.vessels = [
            (rng.normal(0, 70, 2), rng.normal(0, 0.7, 2), rng.uniform(1.0, 4.0), rng.uniform(0.3, 1.1))
            for _ in range(int(rng.integers(0, 16)))
        ]
        turn = self.axis + rng.normal(0, 0.3)
        self.wall_way = turn - np.pi + 0.25 * np.pi + rng.normal(0, 0.3)  # towards the chest wall: up and left
        self.wall_at = rng.uniform(50, 100), rng.uniform(130, 330)
        self.wall_part = rng.uniform(4, 18), rng.uniform(3, 40), rng.uniform(0.5, 2.2)
        self.floor_way = 0.5 * np.pi + self.axis + rng.normal(0, 0.3)
        self.floor_at = rng.uniform(30, 70) if rng.random() < 0.85 else 500.0
        self.shade = rng.normal(0.0, 1.0, 5) * np.array([0.35, 0.35, 0.2, 0.2, 0.2]) * rng.uniform(0.0, 1.6)
        self.blur = rng.uniform(-0.04, 0.2, 2)
        self.noise = float(rng.lognormal(np.log(0.025), 0.6))
        self.gain = float(rng.lognormal(np.log(300.0), 0.4))
        self.ghost = rng.uniform(0.02, 0.12) if rng.random() < 0.2 else 0.0
        self.bow = rng.uniform(0.02, 0.09) if rng.random() < 0.4 else 0.0
        self.texture = rng.uniform(0.0, 0.1), rng.uniform(0.0, 0.35)  # of muscle, of what stands still
        self.flicker = rng.uniform(0.0, 0.05)
        self.filling = rng.uniform(0.0, 0.25)  # how much wider the atrium is when the ventricle is smallest

    def _blob(self, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, np.ndarray, float, float]:
        grey = float(rng.choice([rng.uniform(0.0, 0.2), rng.uniform(0.2, 0.6), rng.uniform(0.6, 1.6)]))
        return rng.normal(0, 65, 2), rng.normal(0, 0.8, 2), rng.uniform(8, 45, 2), rng.uniform(0, np.pi), grey

    def _texture(self, x: np.ndarray, y: np.ndarray) -> np.ndarray:
        """Mottling about 0, deviation about 1."""
        k, phase = self.waves
        some = self._rng.integers(0, _WAVES, 14)
        out = np.zeros_like(x)
        for i in some:
            out += np.sin(k[i, 0] * x + k[i, 1] * y + phase[i])
        return out * np.float32(0.38)

    def _still(self, x: np.ndarray, y: np.ndarray, z: float) -> np.ndarray:
        """What does not beat, `H W`; x and y from the ventricle's axis."""
        out = np.full_like(x, self.lung)
        edge = self.edge
        for at, way, half, turn, grey in self.blobs:
            dx, dy = x - np.float32(at[0] + way[0] * z * 0.5), y - np.float32(at[1] + way[1] * z * 0.5)
            c, s = np.float32(np.cos(turn)), np.float32(np.sin(turn))
            u, v = (c * dx + s * dy) / np.float32(half[0]), (c * dy - s * dx) / np.float32(half[1])
            _paint(out, (np.sqrt(u * u + v * v) - 1) * np.float32(half.min()), grey, edge)
        # The diaphragm, with what lies under it.
        c, s = np.float32(np.cos(self.floor_way)), np.float32(np.sin(self.floor_way))
        below = c * x + s * y
        along = c * y - s * x
        bent = np.float32(self.floor_at - 0.15 * z) + np.float32(0.002) * along**2
        _paint(out, bent - below, self.liver, edge)
        for at, way, radius, grey in self.vessels:
            dx, dy = x - np.float32(at[0] + way[0] * z), y - np.float32(at[1] + way[1] * z)
            _paint(out, np.sqrt(dx * dx + dy * dy) - np.float32(radius), grey, edge)
        # The chest wall: a large circle about a point on the far side.
        c, s = np.float32(np.cos(self.wall_way)), np.float32(np.sin(self.wall_way))
        distance, radius = self.wall_at
        off = np.float32(radius - distance)
        outside = np.sqrt((x + c * off) ** 2 + (y + s * off) ** 2) - np.float32(radius - 0.15 * z)
        muscle, fat, bright = self.wall_part
        _paint(out, -outside, self.muscle, edge)
        _paint(out, np.float32(muscle) - outside, bright, edge)
        _paint(out, np.float32(muscle + fat) - outside, 0.0, edge)
        return out * (1 + np.float32(self.texture[1]) * self._texture(x, y) * np.float32(0.6))

    def slice(self, s: int) -> np.ndarray:
        """Signal of slice `s` before noise, `T H W`."""
        how, T = self.how, len(self.beat.now)
        line = (np.arange(how.size, dtype=np.float32) - np.float32((how.size - 1) / 2)) * np.float32(how.spacing)
        x, y = np.meshgrid(line - np.float32(how.shift[s, 0]), line - np.float32(how.shift[s, 1]))
        z = float(how.places[s])
        still = self._still(x, y, z)
        frames = np.repeat(still[None], T, 0)
        rows = np.flatnonzero(np.abs(y[:, 0]) < _REACH_MM)
        cols = np.flatnonzero(np.abs(x[0]) < _REACH_MM)
        box = (slice(rows[0], rows[-1] + 1), slice(cols[0], cols[-1] + 1))
        inner = frames[:, box[0], box[1]]
        shape = inner.shape
        canvas = inner.reshape(T, -1).copy()
        self._heart(canvas, x[box].ravel(), y[box].ravel(), z)
        frames[:, box[0], box[1]] = canvas.reshape(shape)
        return frames

    def _heart(self, canvas: np.ndarray, x: np.ndarray, y: np.ndarray, z0: float) -> None:
        heart, beat, rng, edge = self.beat.heart, self.beat, self._rng, self.edge
        now = beat.now.astype(np.float32)[:, None]
        mottled = self._texture(x, y)
        tone = self.muscle * (1 + np.float32(self.texture[0]) * mottled)
        z = z0 + np.float32(self.how.tilt[0]) * x + np.float32(self.how.tilt[1]) * y
        x = x - np.float32(heart.sway[0]) * now
        y = y - np.float32(heart.sway[1]) * now
        r = np.sqrt(x * x + y * y)
        theta0 = np.arctan2(y[0], x[0])
        base = np.float32(heart.shortening * heart.length) * now
        zeta = (z - base) / (np.float32(heart.length) - base)
        above = base - z  # positive above the valve
        cavity2, epi2 = (a.astype(np.float32) for a in beat.surfaces(theta0, zeta))
        cap = np.clip(
            1 - (np.maximum(zeta - 1, 0) * heart.length / np.maximum(heart.wall * heart.apical_wall, 3.0)) ** 2, 0, 1
        )
        epi = np.sqrt(np.where(zeta > 1, epi2 * cap, epi2)).astype(np.float32)
        # Contours are drawn around trabeculae. Their muscle lies between blood while the ventricle is wide and is
        # pressed into a layer of wall when it is small: the blood that is seen shrinks by more than the cavity.
        layer = heart.trabeculae * heart.radius**2 * (heart.loose + (1 - heart.loose) * now)
        endo = np.sqrt(np.maximum(cavity2 - layer.astype(np.float32), np.float32(0.2) * cavity2))
        for order, amplitude, phase in heart.rough:
            turn = order * theta0 + phase + 0.11 * order * z0
            endo = endo * (1 + np.float32(amplitude) * np.sin(turn).astype(np.float32))
        beyond = np.where(zeta > 1, np.float32(30.0), np.float32(0.0))
        epi_side = r - epi + np.where(cap <= 0, np.float32(30.0), np.float32(0.0))

        width, half, power, skew, reach = heart.rv
        off = (theta0 - heart.septal - skew + np.pi) % (2 * np.pi) - np.pi
        crescent = np.maximum(1 - (off / half) ** 2, 0.0) ** power
        rv_along = np.clip((zeta + 0.35) / (reach + 0.35), 0, 1)
        rv_wide = width * crescent * np.sqrt(np.maximum(1 - rv_along**2.2, 0)) * (1 - heart.rv_squeeze * now * 0.6)
        rv_wide = rv_wide.astype(np.float32)
        outer = epi + rv_wide
        fat, fat_c, fat_s = heart.fat
        fatty = fat * (1 + fat_c * np.cos(theta0) + fat_s * np.sin(theta0)).astype(np.float32)
        gone = np.where((cap <= 0) & (rv_wide <= 0.5), np.float32(30.0), np.float32(0.0))
        rv_wall = np.float32(2.5)
        _paint(canvas, r - outer - rv_wall - 1.0 - fatty + gone, self.fat, edge)
        _paint(canvas, r - outer - rv_wall - 1.0 + gone, self.muscle * 0.5, edge)
        _paint(canvas, r - outer - rv_wall + gone, tone, edge)
        time = (np.arange(len(canvas), dtype=np.float32) / len(canvas) * np.float32(2 * np.pi))[:, None]
        place = x[0] * np.float32(0.09) + y[0] * np.float32(0.07)
        swirl = np.sin(place + time + np.float32(rng.uniform(0, 6))) + np.float32(0.6) * np.sin(
            time + np.float32(rng.uniform(0, 6))
        )
        rv_tone = self.rv_blood * (1 + np.float32(self.flow[1]) * swirl) * (1 + np.float32(0.12) * mottled)
        in_rv = np.maximum(r - outer, -epi_side)
        _paint(canvas, in_rv + np.where(rv_wide < 1.0, np.float32(5.0), np.float32(0.0)), rv_tone, edge)

        blood = 1 + np.float32(self.flow[0]) * swirl * np.float32(0.7)
        axial = self.how.thickness  # a thick slice sees the valve's plane as a blend
        _paint(canvas, np.where(above > axial, np.float32(30), epi_side), tone, edge)
        # Above the valve: atrium, which fills as the ventricle empties, and aortic root; thin walled.
        open_ = _cover(-above, axial)
        if open_.max() > 0:
            oval = np.float32(0.85 + 0.12 * np.sin(2 * theta0 + self.waves[1][0]))
            atrium = heart.radius * oval * (1 + self.filling * now)
            root = np.float32(0.45 * heart.radius), heart.septal + 0.9
            dx, dy = x - root[0] * np.float32(np.cos(root[1])), y - root[0] * np.float32(np.sin(root[1]))
            aorta = np.sqrt(dx * dx + dy * dy) - np.float32(13.5)
            top = canvas.copy()
            _paint(top, r - epi * np.float32(0.95), self.fat * 0.6, edge)
            _paint(top, r - atrium - 2.0, tone, edge)
            _paint(top, r - atrium, blood * np.float32(0.95), edge)
            _paint(top, aorta - 1.6, tone, edge)
            _paint(top, aorta, blood, edge)
            canvas += open_ * (top - canvas)
        closed = 1 - open_
        canvas += closed * _cover(r - endo + beyond, edge) * (blood - canvas)
        for angle, radius, way, middle in heart.papillary:
            turn = angle + heart.torsion * now * middle
            dx = x - np.cos(turn).astype(np.float32) * endo * np.float32(way)
            dy = y - np.sin(turn).astype(np.float32) * endo * np.float32(way)
            size = radius * heart.radius * np.sqrt(np.maximum(1 - ((zeta - middle) / 0.33) ** 2, 0))
            there = np.sqrt(dx * dx + dy * dy) - size + np.where(size <= 0.5, np.float32(9), np.float32(0))
            canvas += closed * _cover(there, edge) * (tone - canvas)

    def pictures(self) -> np.ndarray:
        """What the scanner stores, `S T H W` uint16."""
        return np.stack([self._stored(self.slice(s)) for s in range(len(self.how.places))])

    def _stored(self, frames: np.ndarray) -> np.ndarray:
        rng, size = self._rng, self.how.size
        for axis, weight in zip((1, 2), self.blur, strict=True):
            moved = np.moveaxis(frames, axis, 0)
            out = moved.copy()
            out[1:-1] += np.float32(weight) * (moved[:-2] + moved[2:] - 2 * moved[1:-1])
            frames = np.moveaxis(out, 0, axis)
        if self.ghost:
            frames = frames + np.float32(self.ghost) * np.roll(frames - frames.mean(0), size // 3, axis=1)
        line = np.linspace(-1, 1, size, dtype=np.float32)
        x, y = line, line[:, None]
        a, b, c, d, e = self.shade.astype(np.float32)
        frames = frames * np.exp(a * x + b * y + c * x * y + d * x * x + e * y * y)
        if self.flicker:
            frames = frames * (1 + np.float32(self.flicker) * rng.standard_normal((len(frames), 1, 1), np.float32))
        noise = np.float32(self.noise)
        real = frames + noise * rng.standard_normal(frames.shape, np.float32)
        out = np.hypot(real, noise * rng.standard_normal(frames.shape, np.float32))
        if self.bow:
            out = out * (np.abs(x) < 1 - 2 * self.bow * y * y)
        return np.clip(np.rint(self.gain * out), 0, 4095).astype(np.uint16)


def _thickness(heart: Heart, theta: np.ndarray, zeta: np.ndarray) -> np.ndarray:
    """Of the relaxed wall, mm."""
    thick = heart.wall * (1 + heart.septum * np.maximum(np.cos(theta - heart.septal), 0))
    thick = thick * (1 + (heart.apical_wall - 1) * np.clip(zeta, 0, 1))
    if heart.akinesia:
        angle, width, place, spread = heart.infarct
        off = (theta - angle + np.pi) % (2 * np.pi) - np.pi
        thick = thick * (1 - 0.4 * np.exp(-((off / width) ** 2) - ((zeta - place) / spread) ** 2))
    return thick


def _relaxed(beat: Beat, theta: np.ndarray, zeta: np.ndarray) -> np.ndarray:
    """Squared radius of the relaxed cavity where each pixel's tissue lies, `T ...`."""
    return dataclasses.replace(beat, squeeze=0.0).squared(theta, zeta).astype(np.float32)


@dataclasses.dataclass(frozen=True)
class Stack:
    """Frames `S T H W` uint16 on `planes`, and the row of truth.csv."""

    planes: list[Plane]
    frames: np.ndarray
    truth: dict[str, float | str]


def draw_stack(rng: np.random.Generator, *, slices: int, phases: int, size: int) -> Stack:
    """One study: a heart, its beat, its stack of 4 to `slices` slices of `size` x `size` pixels."""
    heart = draw(rng)
    moved = beat(heart, phases)
    how = look(rng, heart, slices, size)
    frames = Painter(moved, how).pictures()
    along = np.array([0.62, -0.62, -0.48])  # the axis, LPS: to the left, the front and the feet
    along /= np.linalg.norm(along)
    row = np.cross(along, [0.0, 0.0, -1.0])
    row /= -np.linalg.norm(row) if row[0] < 0 else np.linalg.norm(row)
    column = np.cross(along, row)
    column = column if column[2] < 0 else -column
    corner = -0.5 * (size - 1) * how.spacing * (row + column)
    planes = [Plane("sax", corner + z * along, row, column, how.spacing, size) for z in how.places]
    order = slice(None, None, -1) if rng.random() < 0.3 else slice(None)
    volume = moved.volumes()
    return Stack(planes[order], frames[order], {
        "group": _group(heart), "lvef": 100.0 * (1.0 - volume.min() / volume.max()), "edv_ml": volume.max(),
        "esv_ml": volume.min(), "wall_mm": heart.wall * (1.0 + max(heart.septum, 0.0)), "mass_g": _mass(moved),
    })  # fmt: skip


def _mass(beat: Beat) -> float:
    heart = beat.heart
    theta = (np.arange(48) + 0.5) / 48 * 2 * np.pi
    zeta = (np.arange(40)[None, :, None] + 0.5) / 40
    full = np.sqrt(np.maximum(_relaxed(beat, theta, zeta), 0.0))
    ring = ((full + _thickness(heart, theta, zeta)) ** 2 - full**2).mean() * np.pi
    return float(ring * heart.length / 1000.0 * MYOCARDIUM_G_PER_ML)


def _group(heart: Heart) -> str:
    if heart.akinesia and heart.ef < 0.5:
        return "infarcted"
    if heart.ef < 0.45:
        return "dilated"
    return "hypertrophic" if heart.wall * (1.0 + max(heart.septum, 0.0)) > 13.0 else "normal"
