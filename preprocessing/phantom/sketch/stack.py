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

from preprocessing.phantom.render import Plane
from preprocessing.phantom.sketch import chest, scanner
from preprocessing.phantom.sketch import heart as hearts
from preprocessing.phantom.sketch.cut import Cut, Place, Tissue
from preprocessing.phantom.sketch.heart import Beat, Heart
from preprocessing.phantom.sketch.mottling import Mottling

# What `--without` can leave out, to learn what it is good for.
PARTS = {
    "trabeculae": "muscle inside of the cavity: trabeculae and papillary muscles",
    "regions": "walls that differ: uneven outline and thickness, infarcts, late and unequal contraction",
    "reach": "slices above the valve and below the apex",
    "surroundings": "organs and vessels around the heart",
    "scanner": "coils, blur, noise, ghosts, flow, mottled tissue",
}
_REACH_MM = 84.0  # nothing beats farther from the ventricle's axis
_AT_ONCE = 5  # phases: their arrays stay in the processor's cache


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


class Painter:
    """The greys, the organs and the scanner of one study; makes its pictures."""

    def __init__(self, beat: Beat, how: Look, *, without: Collection[str] = ()):
        rng = self._rng = np.random.default_rng(how.seed)
        self._beat, self._how = beat, how
        self._edge = rng.uniform(1.0, 1.8) * how.spacing
        self._mottling = Mottling(rng)
        self._tissue = Tissue(
            muscle=rng.uniform(0.18, 0.55),
            fat=rng.uniform(0.3, 1.5),
            rv_blood=rng.uniform(0.75, 1.25),
            flow=(rng.uniform(0.0, 0.2), rng.uniform(0.0, 0.5)),
            mottled=rng.uniform(0.0, 0.1),
            filling=rng.uniform(0.0, 0.25),
            oval=rng.uniform(0.0, 2.0 * np.pi),
        )
        if "scanner" in without:
            self._tissue = dataclasses.replace(self._tissue, flow=(0.0, 0.0), mottled=0.0)
        axis = rng.uniform(-np.pi, np.pi) if rng.random() < 0.1 else beat.heart.septal - np.pi
        self._chest = chest.draw(rng, self._tissue.muscle, axis, without=without)
        self._scanner = scanner.draw(rng, without=without)

    def slice(self, s: int) -> np.ndarray:
        """Signal of slice `s` before the scanner, `T H W` float32."""
        how, phases = self._how, len(self._beat.now)
        line = (np.arange(how.size, dtype=np.float32) - (how.size - 1) / 2) * how.spacing
        x, y = np.meshgrid(line - float(how.shift[s, 0]), line - float(how.shift[s, 1]))
        z = float(how.places[s])
        still = chest.still(self._chest, self._mottling, self._rng, x, y, z, self._edge)
        frames = np.repeat(still[None], phases, 0)
        rows, columns = np.flatnonzero(np.abs(y[:, 0]) < _REACH_MM), np.flatnonzero(np.abs(x[0]) < _REACH_MM)
        box = (slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1))
        place = Place(z, how.tilt, how.thickness, self._edge)
        cut = Cut(self._beat, self._tissue, place, self._mottling, self._rng, x[box].ravel(), y[box].ravel())
        inside = still[box]
        for first in range(0, phases, _AT_ONCE):
            some = slice(first, min(first + _AT_ONCE, phases))
            canvas = np.repeat(inside.reshape(1, -1), some.stop - first, 0)
            cut.paint(canvas, some)
            frames[some, *box] = canvas.reshape(-1, *inside.shape)
        return frames

    def pictures(self) -> np.ndarray:
        """What the scanner stores, `S T H W` uint16."""
        slices = range(len(self._how.places))
        return np.stack([scanner.stored(self._scanner, self._rng, self.slice(s)) for s in slices])


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
    heart = hearts.simplified(hearts.draw(rng), without)
    moved = hearts.beat(heart, phases)
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
        "group": hearts.group(heart),
        "lvef": 100.0 * (1.0 - volume.min() / volume.max()),
        "edv_ml": volume.max(),
        "esv_ml": volume.min(),
        "wall_mm": heart.wall * (1.0 + max(heart.septum, 0.0)),
        "mass_g": hearts.mass_g(moved),
    }
    return Stack(planes[order], frames[order], truth)
