"""The beating heart in one slice of a sketch.

Millimetres from the ventricle's axis; z along it, `zeta` from the base (0) to the apex (1). Letters: T phases, N
pixels.
"""

import dataclasses

import numpy as np

from preprocessing.phantom.paint import cover, lay, paint
from preprocessing.phantom.sketch.heart import Beat, Walls
from preprocessing.phantom.sketch.mottling import Mottling

_FAR = np.float32(30.0)  # a distance at which nothing is painted
_RV_WALL_MM = 2.5
_ROOT_MM = 13.5  # radius of the aortic root


@dataclasses.dataclass(frozen=True)
class Tissue:
    """Greys of what beats, against the left ventricle's blood."""

    muscle: float
    fat: float
    rv_blood: float
    flow: tuple[float, float]  # unevenness of the blood, left and right
    mottled: float  # unevenness of muscle
    filling: float  # how much wider the atrium is when the ventricle is smallest
    oval: float  # way of the atrium's longer axis, radians


@dataclasses.dataclass(frozen=True)
class Place:
    """Where a slice lies, and how sharply it is seen; mm."""

    z: float
    tilt: tuple[float, float]  # of the axis along x and y
    thickness: float
    edge: float


@dataclasses.dataclass(frozen=True)
class _Outline:
    """Where surfaces are at some phases, `T N`; distances are negative inside."""

    now: np.ndarray  # T 1
    x: np.ndarray  # from the moving axis
    y: np.ndarray
    r: np.ndarray
    zeta: np.ndarray
    above: np.ndarray  # the valve's plane, positive
    beyond: np.ndarray  # of the cavity's tip, where it ends
    ended: np.ndarray  # beyond the wall's tip too
    epi: np.ndarray  # radius
    endo: np.ndarray  # radius of the blood that is seen
    right: np.ndarray  # what the right ventricle adds to `epi`


class Cut:
    """One slice: what does not change over the beat is made once.

    Args:
        x: of the pixels, `N` float32, from the axis at end-diastole.
        y: the same.
    """

    def __init__(
        self, beat: Beat, tissue: Tissue, place: Place, mottling: Mottling, rng: np.random.Generator,
        x: np.ndarray, y: np.ndarray,
    ):  # fmt: skip
        heart = beat.heart
        self._beat, self._tissue, self._place, self._x, self._y = beat, tissue, place, x, y
        self._z = place.z + place.tilt[0] * x + place.tilt[1] * y
        first = float(beat.now[0])
        theta = self._theta = np.arctan2(y - heart.sway[1] * first, x - heart.sway[0] * first)
        self._walls = Walls(beat, theta)
        self._rough = np.ones_like(x)
        for order, amplitude, phase in heart.rough.tolist():
            self._rough *= 1 + amplitude * np.sin(order * theta + (phase + 0.11 * order * place.z))
        width, half, power, skew, _ = heart.rv
        away = (theta - (heart.septal + skew) + np.pi) % (2 * np.pi) - np.pi
        self._crescent = width * np.maximum(1.0 - (away / half) ** 2, 0.0) ** power
        fat, along_x, along_y = heart.fat
        self._fat = fat * (1 + along_x * np.cos(theta) + along_y * np.sin(theta))
        mottled = mottling(rng, x, y)
        self._tone = tissue.muscle * (1 + tissue.mottled * mottled)
        self._rv_tone = tissue.rv_blood * (1 + 0.12 * mottled)
        self._swirl = rng.uniform(0, 6), rng.uniform(0, 6)

    def paint(self, canvas: np.ndarray, rows: slice) -> None:
        """Paints the phases `rows` over `canvas` (`T N`, of these phases, changed in place)."""
        outline = self._outline(rows)
        swirl = self._swirling(rows)
        blood = 1 + (0.7 * self._tissue.flow[0]) * swirl
        outside = outline.r - outline.epi
        outside[outline.ended] += _FAR
        self._right(canvas, outline, outside, swirl)
        place = self._place  # a thick slice sees the valve's plane as a blend
        paint(canvas, np.where(outline.above > place.thickness, _FAR, outside), self._tone, place.edge)
        opened = cover(-outline.above, place.thickness)
        if opened.any():
            top = canvas.copy()
            self._upper(top, outline, blood)
            lay(canvas, opened, top)
        closed = np.subtract(1, opened, out=opened)
        within = outline.r - outline.endo
        within[outline.beyond] += _FAR
        lay(canvas, closed * cover(within, place.edge), blood)
        self._papillary(canvas, outline, closed)

    def _outline(self, rows: slice) -> _Outline:
        beat, heart = self._beat, self._beat.heart
        now = beat.now[rows, None].astype(np.float32)
        x, y = self._x - heart.sway[0] * now, self._y - heart.sway[1] * now
        base = heart.shortening * heart.length * now
        above = base - self._z
        zeta = above / (base - heart.length)
        cavity2, epi2 = self._walls.surfaces(zeta, rows)
        beyond = zeta > 1
        if beyond.any():  # the wall closes like a dome over the tip
            tip = np.maximum(zeta - 1, 0) * (heart.length / max(heart.wall * heart.apical_wall, 3.0))
            cap = np.maximum(1 - tip * tip, 0)
            epi2 = epi2 * cap
        else:
            cap = np.ones(1, np.float32)
        # Contours are drawn around trabeculae. Their muscle lies between blood while the ventricle is wide and is
        # pressed into a layer of wall when it is small: the blood that is seen shrinks by more than the cavity.
        layer = (heart.trabeculae * heart.radius**2) * (heart.loose + (1 - heart.loose) * now)
        endo = np.sqrt(np.maximum(cavity2 - layer, 0.2 * cavity2))
        endo *= self._rough
        return _Outline(
            now=now, x=x, y=y, r=np.hypot(x, y), zeta=zeta, above=above, beyond=beyond,
            ended=np.broadcast_to(cap <= 0, zeta.shape), epi=np.sqrt(epi2), endo=endo,
            right=self._reach_of_the_right(zeta, now),
        )  # fmt: skip

    def _reach_of_the_right(self, zeta: np.ndarray, now: np.ndarray) -> np.ndarray:
        heart = self._beat.heart
        reach = heart.rv[4]
        along = np.clip((zeta + 0.35) / (reach + 0.35), 0, 1)
        wide = np.sqrt(1 - along**2.2)
        wide *= self._crescent
        wide *= 1 - 0.6 * heart.rv_squeeze * now
        return wide

    def _swirling(self, rows: slice) -> np.ndarray:
        phases = len(self._beat.now)
        time = (np.arange(phases, dtype=np.float32)[rows] / phases * np.float32(2 * np.pi))[:, None]
        place = self._x * 0.09 + self._y * 0.07
        return np.sin(place + (time + self._swirl[0])) + 0.6 * np.sin(time + self._swirl[1])

    def _right(self, canvas: np.ndarray, at: _Outline, outside: np.ndarray, swirl: np.ndarray) -> None:
        """The fat around the heart, its wall, and the right ventricle's blood."""
        tissue, edge = self._tissue, self._place.edge
        off = at.r - at.epi
        off -= at.right
        wall = off - _RV_WALL_MM
        wall[at.ended & (at.right <= 0.5)] += _FAR
        if self._beat.heart.fat[0]:
            paint(canvas, wall - (1.0 + self._fat), tissue.fat, edge)
        paint(canvas, wall - 1.0, tissue.muscle * 0.5, edge)
        paint(canvas, wall, self._tone, edge)
        np.maximum(off, -outside, out=off)
        off[at.right < 1.0] += _FAR
        paint(canvas, off, self._rv_tone * (1 + tissue.flow[1] * swirl), edge)

    def _upper(self, canvas: np.ndarray, at: _Outline, blood: np.ndarray) -> None:
        """Above the valve: the atrium, which fills as the ventricle empties, and the aortic root; thin walled."""
        heart, tissue, edge = self._beat.heart, self._tissue, self._place.edge
        oval = 0.85 + 0.12 * np.sin(2 * self._theta + tissue.oval)
        atrium = at.r - heart.radius * oval * (1 + tissue.filling * at.now)
        way = heart.septal + 0.9
        root_x, root_y = (0.45 * heart.radius * float(part) for part in (np.cos(way), np.sin(way)))
        aorta = np.hypot(at.x - root_x, at.y - root_y) - _ROOT_MM
        paint(canvas, at.r - 0.95 * at.epi, tissue.fat * 0.6, edge)
        paint(canvas, atrium - 2.0, self._tone, edge)
        paint(canvas, atrium, 0.95 * blood, edge)
        paint(canvas, aorta - 1.6, self._tone, edge)
        paint(canvas, aorta, blood, edge)

    def _papillary(self, canvas: np.ndarray, at: _Outline, closed: np.ndarray) -> None:
        heart = self._beat.heart
        for angle, radius, way, middle in heart.papillary.tolist():
            along = (at.zeta - middle) / 0.33
            size = radius * heart.radius * np.sqrt(np.maximum(1 - along * along, 0))
            thin = size <= 0.5
            if thin.all():
                continue
            turn = angle + heart.torsion * at.now * middle
            dx, dy = at.x - way * np.cos(turn) * at.endo, at.y - way * np.sin(turn) * at.endo
            there = np.hypot(dx, dy) - size
            there[thin] += _FAR
            lay(canvas, closed * cover(there, self._place.edge), self._tone)
