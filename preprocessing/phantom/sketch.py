"""Short-axis stacks drawn flat and at random: hearts that teach to measure, not hearts of a population.

Where `scene` builds one careful body, this draws every shape and grey from ranges wider than life, so that a picture of
a real scanner is one more draw (domain randomisation, arXiv 1703.06907). What holds as in life is what a fraction is
measured by: a cavity that shortens and narrows within a wall of constant mass, seen in slices of which some may lie
beyond its base or its apex. The ejection fraction is drawn evenly from 8 to 78 %.

Millimetres; x to the right, y down the picture, z along the axis from the mitral valve at end-diastole to the apex.
Letters: S slices, T phases, N pixels, H W of a picture.
"""

import dataclasses
from collections.abc import Collection

import numpy as np

from preprocessing.phantom import sketch_heart
from preprocessing.phantom.render import Plane
from preprocessing.phantom.sketch_heart import Beat, Heart

# What `--without` can leave out, to learn what it is good for.
PARTS = {
    "trabeculae": "muscle inside of the cavity: trabeculae and papillary muscles",
    "regions": "walls that differ: uneven outline and thickness, infarcts, late and unequal contraction",
    "reach": "slices above the valve and below the apex",
    "surroundings": "organs and vessels around the heart",
    "scanner": "coils, blur, noise, ghosts, flow, mottled tissue",
}
_REACH_MM = 84.0  # nothing beats farther from the ventricle's axis
_WAVES = 40  # of a texture


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


def look(rng: np.random.Generator, heart: Heart, slices: int, size: int, *, without: Collection[str] = ()) -> Look:
    """A stack of 4 to `slices` slices, over the whole heart and beyond, or over its middle alone."""
    count = int(rng.integers(4, max(slices, 4) + 1))
    if rng.random() < 0.45 or "reach" in without:
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

    def __init__(self, beat: Beat, how: Look, *, without: Collection[str] = ()):
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
        if "surroundings" in without:
            self.blobs, self.vessels, self.floor_at = [], [], 500.0
        if "scanner" in without:
            self.shade, self.blur, self.noise = np.zeros(5), np.zeros(2), 0.005
            self.ghost = self.bow = self.flicker = 0.0
            self.texture = self.flow = (0.0, 0.0)

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


@dataclasses.dataclass(frozen=True)
class Stack:
    """Frames `S T H W` uint16 on `planes`, and the row of truth.csv."""

    planes: list[Plane]
    frames: np.ndarray
    truth: dict[str, float | str]


def draw_stack(
    rng: np.random.Generator, *, slices: int, phases: int, size: int, without: Collection[str] = ()
) -> Stack:
    """One study: a heart, its beat, its stack of 4 to `slices` slices of `size` x `size` pixels; `without` names PARTS
    that are left out, while all others are drawn as they would have been."""
    heart = sketch_heart.simplified(sketch_heart.draw(rng), without)
    moved = sketch_heart.beat(heart, phases)
    how = look(rng, heart, slices, size, without=without)
    frames = Painter(moved, how, without=without).pictures()
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
    truth = {
        "group": sketch_heart.group(heart),
        "lvef": 100.0 * (1.0 - volume.min() / volume.max()),
        "edv_ml": volume.max(),
        "esv_ml": volume.min(),
        "wall_mm": heart.wall * (1.0 + max(heart.septum, 0.0)),
        "mass_g": sketch_heart.mass_g(moved),
    }
    return Stack(planes[order], frames[order], truth)
