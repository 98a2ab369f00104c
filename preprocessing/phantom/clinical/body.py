"""Slices through the still body: the solids of `chest`, compiled for any plane.

On a plane a quadric is a polynomial of second degree in the two pixel coordinates, so each piece is the product of two
thin matrices. Distances are in widths of a slice's edge, as in `cut`.

Letters: K quadrics, H W pixels.
"""

import numpy as np

from preprocessing.phantom.clinical.chest import ENDLESS, Chest, solids
from preprocessing.phantom.clinical.tissue import Palette

REGIONS = ("skin", "wall", "cavity", "abdomen")


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
        matrix = np.einsum("kia,ki,kib->kab", turn, half**-2.0, turn)
        self._quadrics = np.stack([matrix, matrix @ matrix], 1)  # of the value and of its squared slope, K 2 3 3
        self._spread = np.einsum("kia,ki,kib->kab", turn, half**2.0, turn)
        waves = np.random.default_rng(chest.seed + 1)
        self._waves = waves.normal(0.0, 1.0, (8, 3)) * np.array([0.035] * 4 + [0.28] * 4)[:, None]
        self._phases = waves.uniform(0.0, 2.0 * np.pi, 8)
        self._wobble, self._mottle = waves.uniform(0.5, 2.5), waves.uniform(0.004, 0.02)

    def _waves_at(self, point: np.ndarray, row: np.ndarray, column: np.ndarray, step: np.ndarray) -> np.ndarray:
        """Four slow and four fast plane waves summed, `2 H W`: sin(a + b) of one angle a row and one a column."""
        down = (self._waves @ column) * step[:, None] + (self._waves @ point + self._phases)
        along = (self._waves @ row)[:, None] * step
        rows = np.stack([np.sin(down), np.cos(down)], -1).astype(np.float32).reshape(len(step), 2, 8)
        columns = np.stack([np.cos(along), np.sin(along)], 1).astype(np.float32).reshape(2, 8, len(step))
        return rows.swapaxes(0, 1) @ columns

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
        edge = 1.0 / (1.15 * spacing)
        slow, fast = self._waves_at(point, row, column, step)
        wobble = np.float32(self._wobble * edge) * slow
        seen, first, last = self._boxes(point, np.stack([np.cross(row, column), column, row]), spacing, size)
        form = self._forms(point, row, column, step, edge)
        power = np.stack([np.ones(size), step, step**2]).astype(np.float32)
        region = self._regions(form, power, wobble, edge)
        nearest = {name: float(distance.min()) for name, distance in region.items()}
        canvas = np.full((size, size), palette["gas"], np.float32)
        for number in map(int, np.flatnonzero(seen)):
            solid = self._solids[number]
            inset = np.float32(solid.inset * edge)
            if solid.region and nearest[solid.region] + inset > 0.5:
                continue
            box = (slice(None), slice(None))
            if solid.half.min() < ENDLESS:
                box = slice(first[number, 0], last[number, 0]), slice(first[number, 1], last[number, 1])
                inside = _distance(form[number][..., box[0]], power[:, box[1]])
                if solid.half.min() > 12.0:
                    inside += wobble[box]
                if solid.region:
                    np.maximum(inside, region[solid.region][box] + inset, out=inside)
            else:
                inside = region[solid.region] + inset
            _paint(canvas[box], inside, palette[solid.tissue] * (1.0 if whole else solid.part))
        fast *= np.float32(self._mottle)
        fast += np.float32(1.0)
        canvas *= fast
        return canvas

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

    def _regions(self, form: np.ndarray, power: np.ndarray, wobble: np.ndarray, edge: float) -> dict[str, np.ndarray]:
        """Signed distance to each of `REGIONS`, `H W`."""
        trunk, right, left = (_distance(form[len(self._solids) + i], power) for i in range(3))
        skin = trunk + np.float32(0.4) * wobble
        region = {"skin": skin, "wall": skin + np.float32(self.chest.fat * edge)}
        region["cavity"] = region["wall"] + np.float32(self.chest.wall * edge)
        region["abdomen"] = np.maximum(np.minimum(right, left) + wobble, region["cavity"])
        return region

    def _forms(
        self, point: np.ndarray, row: np.ndarray, column: np.ndarray, step: np.ndarray, edge: float
    ) -> np.ndarray:
        """What `_distance` takes: coefficients of 1, u, u² (mm along a row) on each row, `K 2 3 H` float32.

        They are of half the quadric's value above 1, in widths of the edge, and of the squared slope of the whole.
        """
        off = point - self._centre
        at = np.einsum("kqab,kb->kqa", self._quadrics, off)
        mrow, mcolumn = self._quadrics @ row, self._quadrics @ column
        terms = np.zeros((len(off), 2, 3, 3))  # by the power of u and of v (mm down a column)
        terms[:, :, 0, 0] = (at @ off[..., None])[..., 0]
        terms[:, 0, 0, 0] -= 1.0
        terms[:, :, 1, 0], terms[:, :, 0, 1] = 2.0 * at @ row, 2.0 * at @ column
        terms[:, :, 2, 0], terms[:, :, 1, 1], terms[:, :, 0, 2] = mrow @ row, 2.0 * mrow @ column, mcolumn @ column
        terms[:, 0] *= 0.5 * edge
        return (terms @ np.stack([np.ones_like(step), step, step**2])).astype(np.float32)


def _distance(form: np.ndarray, power: np.ndarray) -> np.ndarray:
    """Signed distance to a quadric, to first order, where `power` is 1, u, u² (`3 W`): `H W` float32."""
    value, slope = form[0].T @ power, form[1].T @ power
    np.maximum(slope, np.float32(1e-12), out=slope)
    np.sqrt(slope, out=slope)
    value /= slope
    return value


def _paint(canvas: np.ndarray, inside: np.ndarray, signal: float) -> None:
    """Lays `signal` over `canvas` (`H W`, changed in place) where `inside` (overwritten) is negative."""
    np.subtract(np.float32(0.5), inside, out=inside)
    np.clip(inside, np.float32(0.0), np.float32(1.0), out=inside)
    over = np.float32(signal) - canvas
    over *= inside
    canvas += over
