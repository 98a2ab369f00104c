"""The still body around the heart: chest wall, lungs and their vessels, diaphragm, upper abdomen, spine.

Every piece is a quadric (ellipsoid or elliptic cylinder) clipped by regions. On a plane a quadric is a polynomial of
second degree in the two pixel coordinates, so all pieces of a body are one matrix product.

Letters: K quadrics, H W pixels, N = H W.
"""

import dataclasses

import numpy as np

from preprocessing.phantom.clinical.tissue import Palette

_ENDLESS = 1e5  # half axis of a cylinder, mm
REGIONS = ("skin", "wall", "cavity", "abdomen")


@dataclasses.dataclass(frozen=True)
class Chest:
    """The body around the heart; mm."""

    centre: np.ndarray  # LPS
    half_width: float
    half_depth: float
    fat: float  # thickness under the skin
    wall: float  # muscle and ribs
    epicardial_fat: float
    diaphragm: float  # S of its right dome
    breasts: float  # size, 0 none
    seed: int  # of everything else


@dataclasses.dataclass(frozen=True)
class Solid:
    """`part` of the signal of `tissue` in the quadric and, where a region is named, `inset` mm within that region."""

    tissue: str
    part: float
    centre: np.ndarray
    half: np.ndarray
    region: str = ""
    inset: float = 0.0
    turn: np.ndarray | None = None  # rows: its axes in LPS


def _axes(along: np.ndarray) -> np.ndarray:
    """Three unit rows, the first along `along`."""
    along = along / np.linalg.norm(along)
    x, y, z = along
    other = np.array([y, -x, 0.0] if abs(z) < 0.9 else [0.0, z, -y])
    u, v, w = other / np.sqrt(other @ other)
    return np.array([along, (u, v, w), (y * w - z * v, z * u - x * w, x * v - y * u)])


def _rod(part: float, start: np.ndarray, stop: np.ndarray, radius: float, region: str, inset: float) -> Solid:
    half = np.array([0.55 * np.linalg.norm(stop - start), radius, radius])
    return Solid("blood", part, 0.5 * (start + stop), half, region, inset, _axes(stop - start))


def _lungs(rng: np.random.Generator, wide: float, deep: float, heart: np.ndarray) -> list[Solid]:
    """Vessels fan out from the hila and are seen as bright dots and branches."""
    out = []
    bright = 0.75 * rng.uniform(0.5, 1.0)
    for side in (-1.0, 1.0):
        hilum = np.array([side * 32.0, 22.0, heart[2] + 42.0])
        for _ in range(20):
            reach = np.array([side * rng.uniform(0.1, 0.75) * wide, rng.uniform(-0.75, 0.75) * deep, 0.0])
            reach[2] = rng.uniform(-110.0, 60.0)
            start, stop = hilum + rng.uniform(0.0, 0.55) * reach, hilum + reach
            out.append(_rod(bright, start, stop, rng.uniform(1.2, 3.4), "cavity", 4.0))
    return out


def _abdomen(rng: np.random.Generator, wide: float, deep: float, top: float) -> list[Solid]:
    out = [Solid("fat", rng.uniform(0.5, 0.9), np.zeros(3), np.full(3, _ENDLESS), "abdomen", 1.0)]

    def organ(tissue: str, centre: list[float], half: list[float], inset: float = 2.0) -> None:
        size = rng.lognormal(0.0, 0.1)
        out.append(
            Solid(
                tissue, 1.0, np.array(centre) + rng.normal(0.0, 6.0, 3), size * np.array(half), "abdomen", inset,
                _axes(np.array([1.0, 0.0, 0.0]) + rng.normal(0.0, 0.15, 3)),
            )
        )  # fmt: skip

    for _ in range(7):  # bowel: a wall and whatever it holds
        at = [rng.uniform(-0.6, 0.6) * wide, rng.uniform(-0.7, 0.2) * deep, top - rng.uniform(70.0, 150.0)]
        half = rng.uniform(12.0, 28.0, 3)
        out.append(Solid("skeletal", 1.0, np.array(at), half + 3.0, "abdomen", 2.0))
        out.append(Solid(str(rng.choice(["gas", "bowel", "fluid", "fat"])), 1.0, np.array(at), half, "abdomen", 2.0))
    for side in (-1.0, 1.0):
        at = [side * 0.36 * wide, 0.42 * deep, top - 125.0 + 10.0 * side]
        organ("kidney", at, [29.0, 29.0, 56.0])
        out.append(Solid("fluid", 0.6, out[-1].centre, 0.5 * out[-1].half, "abdomen", 2.0))
    organ("spleen", [0.66 * wide, 0.3 * deep, top - 62.0], [30.0, 48.0, 48.0])
    organ("liver", [-0.36 * wide, -5.0, top - 80.0], [0.74 * wide, 0.8 * deep, 88.0])
    organ("liver", [0.12 * wide, -0.38 * deep, top - 58.0], [rng.uniform(50.0, 95.0), 42.0, 55.0])
    for _ in range(9):
        start = np.array([-0.2 * wide, 10.0, top - 45.0]) + rng.normal(0.0, 10.0, 3)
        stop = start + np.array(
            [rng.uniform(-0.5, 0.3) * wide, rng.uniform(-0.5, 0.4) * deep, rng.uniform(-60.0, 25.0)]
        )
        out.append(_rod(0.8, start, stop, rng.uniform(1.5, 4.0), "abdomen", 5.0))
    at = np.array([0.42 * wide, rng.uniform(-30.0, 20.0), top - rng.uniform(42.0, 72.0)])
    half = rng.uniform(26.0, 52.0, 3)
    out.append(Solid("skeletal", 1.0, at, half + 4.0, "abdomen", 1.0))
    out.append(Solid(str(rng.choice(["gas", "bowel", "fluid", "fat"])), 1.0, at, half, "abdomen", 4.0))
    air = at + np.array([0.0, -0.4 * half[1], 5.0])
    out.append(Solid("gas", 1.0, air, half * rng.uniform(0.2, 0.7), "abdomen", 4.0))
    return out


def solids(chest: Chest, heart: np.ndarray, axis: np.ndarray) -> list[Solid]:
    """Everything that stands still, relative to `chest.centre`, in the order of painting.

    Args:
        heart: middle of the heart, LPS relative to `chest.centre`.
        axis: the left ventricle's long axis, pointing to the apex.
    """
    rng = np.random.default_rng(chest.seed)
    wide, deep = chest.half_width, chest.half_depth
    top = chest.diaphragm - chest.centre[2]
    everywhere, endless = np.zeros(3), np.full(3, _ENDLESS)
    out = []
    if chest.breasts:
        for side in (-1.0, 1.0):
            half = chest.breasts * np.array([66.0, 27.0, 70.0])
            out.append(Solid("fat", 1.0, np.array([side * 0.48 * wide, -0.88 * deep, heart[2] - 10.0]), half))
    out.append(Solid("fat", 1.0, everywhere, endless, "skin"))
    out.append(Solid("skeletal", 1.0, everywhere, endless, "skin", chest.fat))
    out.append(Solid("fat", 0.6, everywhere, endless, "wall", 0.75 * chest.wall))
    for number in range(7):  # ribs, obliquely around, cut by an oblique plane as spots and bars
        height = heart[2] - 95.0 + 30.0 * number + rng.normal(0.0, 3.0)
        slope = _axes(np.array([0.0, -0.45, -1.0]))[::-1]
        half = np.array([_ENDLESS, _ENDLESS, rng.uniform(4.0, 6.5)])
        out.append(Solid("marrow", rng.uniform(0.4, 1.0), np.array([0.0, 0.0, height]), half, "wall", 3.0, slope))
    out.append(Solid("lung", 1.0, everywhere, endless, "cavity"))
    out += _lungs(rng, wide, deep, heart)
    plume = np.array([rng.uniform(14.0, 30.0), rng.uniform(40.0, 70.0), 95.0])
    out.append(Solid("fat", rng.uniform(0.5, 1.0), np.array([-6.0, 4.0, heart[2] + 55.0]), plume, "cavity"))
    out.append(Solid("blood", 0.9, np.array([-4.0, -2.0, heart[2] + 72.0]), np.array([15.0, 14.0, 55.0]), "cavity"))
    out.append(Solid("blood", 0.95, np.array([14.0, 12.0, heart[2] + 60.0]), np.array([34.0, 12.0, 12.0]), "cavity"))
    pad = np.array([42.0, 26.0, 42.0]) * (0.6 + 0.1 * chest.epicardial_fat)
    out.append(Solid("fat", 0.9, heart + np.array([-22.0, -30.0, -14.0]), pad, "cavity", 0.0))
    for _ in range(rng.integers(1, 4)):  # fat pads around the heart
        way = np.array([rng.uniform(-1.0, 0.3), rng.uniform(-1.0, 0.2), rng.uniform(-0.8, 0.1)])
        at = heart + 48.0 * way / np.linalg.norm(way) + rng.uniform(-15.0, 45.0) * axis
        half = chest.epicardial_fat / 4.0 * rng.uniform(10.0, 30.0, 3)
        out.append(Solid("fat", rng.uniform(0.7, 1.0), at, half, "cavity", 0.0))
    out += _abdomen(rng, wide, deep, top)
    spine = np.array([0.0, 0.62 * deep, 0.0])
    back = np.array([46.0, 24.0, _ENDLESS])
    out.append(Solid("skeletal", 1.0, spine + np.array([0.0, 22.0, 0.0]), back))
    out.append(Solid("marrow", 1.0, spine, np.array([19.0, 16.0, _ENDLESS])))
    for number in range(9):
        out.append(
            Solid(
                "disc", 1.0, spine + np.array([0.0, 0.0, heart[2] - 140.0 + 31.0 * number]), np.array([18.0, 15.0, 3.5])
            )
        )
    out.append(Solid("fluid", 1.0, spine + np.array([0.0, 24.0, 0.0]), np.array([7.0, 6.0, _ENDLESS])))
    radius = rng.uniform(9.5, 14.0)
    out.append(Solid("blood", 1.0, spine + np.array([24.0, -16.0, 0.0]), np.array([radius, radius, _ENDLESS])))
    caval = heart + np.array([-38.0, 12.0, 0.0])
    out.append(Solid("blood", 0.85, np.array([caval[0], caval[1], 0.0]), np.array([11.0, 9.0, _ENDLESS])))
    return out


def _trunk(wide: float, deep: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Centre, half axes and turn of the skin: `wide` and `deep` at the heart's height, narrower above, wider below.

    It leans back, so that the sternum slopes and the spine stands nearly upright.
    """
    below, height, lean = 125.0, 340.0, np.deg2rad(14.0)
    narrow = np.sqrt(1.0 - (below / height) ** 2)
    turn = np.array([[1, 0, 0], [0, np.cos(lean), -np.sin(lean)], [0, np.sin(lean), np.cos(lean)]])
    centre = np.array([0.0, -below * np.tan(lean), -below])
    return centre, np.array([wide / narrow, deep / narrow, height]), turn


class Body:
    """The solids of one body, compiled for any plane."""

    def __init__(self, chest: Chest, heart: np.ndarray, axis: np.ndarray):
        self.chest = chest
        self._solids = solids(chest, heart, axis)
        shapes = [(s.centre, s.half, s.turn) for s in self._solids]
        wide, deep, top = chest.half_width, chest.half_depth, chest.diaphragm - chest.centre[2]
        shapes.append(_trunk(wide, deep))
        shapes.append((np.array([-0.4 * wide, 4.0, top - 150.0]), np.array([0.95 * wide, 0.95 * deep, 150.0]), None))
        shapes.append((np.array([0.42 * wide, 4.0, top - 162.0]), np.array([0.9 * wide, 0.95 * deep, 150.0]), None))
        self._centre = np.stack([c for c, _, _ in shapes])
        turn = np.stack([np.eye(3) if t is None else t for _, _, t in shapes])
        half = np.stack([h for _, h, _ in shapes])
        self._m = np.einsum("kia,ki,kib->kab", turn, half**-2.0, turn)
        self._spread = np.einsum("kia,ki,kib->kab", turn, half**2.0, turn)
        waves = np.random.default_rng(chest.seed + 1)
        self._waves = waves.normal(0.0, 1.0, (8, 3)) * np.array([0.035] * 4 + [0.28] * 4)[:, None]
        self._phases = waves.uniform(0.0, 2.0 * np.pi, 8)
        self._wobble, self._mottle = waves.uniform(0.5, 2.5), waves.uniform(0.004, 0.02)

    def _waves_at(self, point: np.ndarray, row: np.ndarray, column: np.ndarray, step: np.ndarray) -> np.ndarray:
        """Eight plane waves, `8 H W`: sin(a + b) of one angle a row and one a column."""
        down = (self._waves @ column)[:, None] * step + (self._waves @ point + self._phases)[:, None]
        along = (self._waves @ row)[:, None] * step
        both = np.sin(down)[:, :, None] * np.cos(along)[:, None] + np.cos(down)[:, :, None] * np.sin(along)[:, None]
        return both.astype(np.float32)

    def slice(
        self, origin: np.ndarray, row: np.ndarray, column: np.ndarray, spacing: float, size: int, palette: Palette,
        *, whole: bool = False,
    ) -> np.ndarray:  # fmt: skip
        """Signal of everything that stands still on the plane's pixels, `H W` float32, in the units of `palette`.

        Args:
            origin: LPS of the centre of pixel (0, 0), mm; `row` and `column` are unit vectors.
            whole: every solid gives its tissue's whole signal (maps, whose values no flow dims).
        """
        step = np.arange(size) * spacing
        point = origin - self.chest.centre
        waves = self._waves_at(point, row, column, step)
        wobble = np.float32(self._wobble) * waves[:4].sum(0)
        seen, first, last = self._boxes(point, np.stack([np.cross(row, column), column, row]), spacing, size)
        form = self._forms(point, row, column)
        region = self._regions(form, step, wobble)
        canvas = np.full((size, size), palette["gas"], np.float32)
        edge = np.float32(1.0 / (1.15 * spacing))
        for number in map(int, np.flatnonzero(seen)):
            solid = self._solids[number]
            box = (slice(None), slice(None))
            if solid.half.min() < _ENDLESS:
                box = slice(first[number, 0], last[number, 0]), slice(first[number, 1], last[number, 1])
                inside = _distance(form[number], step[box[1]], step[box[0]])
                if solid.half.min() > 12.0:
                    inside += wobble[box]
                if solid.region:
                    inside = np.maximum(inside, region[solid.region][box] + np.float32(solid.inset))
            else:
                inside = region[solid.region] + np.float32(solid.inset)
            cover = np.clip(np.float32(0.5) - inside * edge, 0.0, 1.0)
            part = canvas[box]
            part += cover * (np.float32(palette[solid.tissue] * (1.0 if whole else solid.part)) - part)
        return canvas * (np.float32(1.0) + np.float32(self._mottle) * waves[4:].sum(0))

    def _boxes(
        self, point: np.ndarray, ways: np.ndarray, spacing: float, size: int
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Which solids the plane cuts (`K`), and first and last row and column of each (`K 2`)."""
        reach = np.sqrt(np.einsum("da,kab,db->kd", ways, self._spread, ways)) + 3.0
        off = (self._centre - point) @ ways.T
        first = np.clip(np.ceil((off - reach) / spacing), 0, size).astype(int)[:, 1:]
        last = np.clip(np.floor((off + reach) / spacing) + 1, 0, size).astype(int)[:, 1:]
        seen = (np.abs(off[:, 0]) < reach[:, 0]) & (last > first).all(1)
        return seen[: len(self._solids)], first, last

    def _regions(self, form: np.ndarray, step: np.ndarray, wobble: np.ndarray) -> dict[str, np.ndarray]:
        """Signed distance to each of `REGIONS`, `H W`."""
        count = len(self._solids)
        skin = _distance(form[count], step, step) + np.float32(0.4) * wobble
        region = {"skin": skin, "wall": skin + np.float32(self.chest.fat)}
        region["cavity"] = region["wall"] + np.float32(self.chest.wall)
        domes = np.minimum(_distance(form[count + 1], step, step), _distance(form[count + 2], step, step)) + wobble
        region["abdomen"] = np.maximum(domes, region["cavity"])
        return region

    def _forms(self, point: np.ndarray, row: np.ndarray, column: np.ndarray) -> np.ndarray:
        """Coefficients of `q` and of its squared slope in 1, u, v, u², uv, v² (mm in the plane): `K 2 6` float32."""
        off = point - self._centre
        out = []
        for matrix in (self._m, self._m @ self._m):
            at = np.einsum("kab,kb->ka", matrix, off)
            mrow, mcolumn = matrix @ row, matrix @ column
            terms = [np.einsum("ka,ka->k", off, at), 2.0 * at @ row, 2.0 * at @ column, mrow @ row]
            out.append(np.stack([*terms, 2.0 * mrow @ column, mcolumn @ column], -1))
        return np.stack(out, 1).astype(np.float32)


def _distance(form: np.ndarray, u: np.ndarray, v: np.ndarray) -> np.ndarray:
    """Signed distance to a quadric, to first order, at columns `u` and rows `v`: `V U` float32."""
    u, v = u.astype(np.float32), v.astype(np.float32)[:, None]
    value, slope = ((f[3] * u + (f[4] * v + f[1])) * u + (f[0] + f[2] * v + f[5] * v * v) for f in form)
    np.maximum(slope, np.float32(1e-12), out=slope)
    np.sqrt(slope, out=slope)
    value -= np.float32(1.0)
    value /= slope
    value *= np.float32(0.5)
    return value
