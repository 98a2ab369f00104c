"""How a plane cuts the beating heart: signed distances to the ventricles' surfaces along its points.

Distances are in widths of a surface's own edge, negative inside. The edge is as wide as a pixel and the slice's
thickness together: it is the pictures' antialiasing and their partial volume.

Letters: T phases, N points, Z levels and A angles of the tables (see `heart`).
"""

import dataclasses

import numpy as np

from preprocessing.phantom.clinical import heart as hearts
from preprocessing.phantom.clinical import trabeculae
from preprocessing.phantom.clinical.heart import Beat

_FINE = 384  # angles of the tables that pictures look up


@dataclasses.dataclass(frozen=True)
class Slice:
    """How a plane cuts the heart: `normal` in the heart's frame, in-plane edge and thickness in mm."""

    normal: np.ndarray
    edge: float
    thickness: float


class Tables:
    """The surfaces of a beat, ready to be looked up at any height and angle."""

    def __init__(self, beat: Beat):
        self.beat = beat
        layer = trabeculae.layer(beat)
        self.packed = layer.packed.astype(np.float32)[:, None]  # part of the trabecular layer that is muscle, T 1
        surfaces = (beat.endo2, beat.epi2, beat.right2, layer.inner2)
        self.endo2, self.epi2, self.right2, self.inner2 = (finer(table) for table in surfaces)

    def at(self, zeta: np.ndarray, column: np.ndarray, *tables: np.ndarray) -> list[np.ndarray]:
        """Values of `tables` at levels `zeta` (`T N`) and angles `column` (`N`, of `_FINE`), each `T N` float32."""
        level = np.clip(zeta, 0.0, np.float32(1.0 - 1e-6)) * np.float32(hearts.LEVELS - 1)
        low = level.astype(np.intp)
        level -= low
        low *= _FINE
        low += column
        low += (np.arange(len(zeta)) * (hearts.LEVELS * _FINE))[:, None]
        high = low + _FINE
        out = []
        for table in tables:
            value = table.take(low)
            step = table.take(high)
            step -= value
            step *= level
            value += step
            out.append(value)
        return out


def finer(table: np.ndarray) -> np.ndarray:
    """`T Z A` with more angles in between, flat, for `Tables.at`."""
    times = _FINE // table.shape[-1]
    after = np.roll(table, -1, -1)
    part = (np.arange(times, dtype=np.float32) / times)[None, None, None]
    return np.ascontiguousarray(table[..., None] * (1.0 - part) + after[..., None] * part, np.float32).ravel()


class Cut:
    """The heart along the points of one plane: everything that does not move is worked out once.

    Args:
        local: `N 3`, points in the heart's frame, mm.
    """

    def __init__(self, heart: hearts.Heart, cut: Slice, local: np.ndarray):
        self.heart = heart
        self.local = local.astype(np.float32)
        self.x, self.y, self.z = (np.ascontiguousarray(column) for column in self.local.T)
        self.squared = self.x**2 + self.y**2
        self.theta = np.arctan2(self.y, self.x)
        self.column = np.rint(self.theta * (_FINE / (2.0 * np.pi))).astype(np.intp) % _FINE
        # First-order distance to r² = surface², whose slope along z matters near the tips.
        zeta = self.z / np.float32(heart.length)
        wide = heart.radius + float(heart.wall.mean())
        slope = np.float32(1.6 * wide**2 / heart.length) * (np.minimum(zeta, np.float32(1.0)) - np.float32(0.25))
        steep = np.float32(0.5) / np.sqrt(self.squared + slope**2 + np.float32(4.0))
        nx, ny, nz = (abs(float(v)) for v in cut.normal)
        # A slanting surface is smeared over as much of the plane as the slice is thick.
        lean = (nx * np.abs(self.x) + ny * np.abs(self.y) + nz * np.abs(slope)) * (2.0 * steep)
        self.side = (1.0 / (cut.edge + 0.8 * cut.thickness * lean)).astype(np.float32)
        self.steep = (steep * self.side).astype(np.float32)
        self.axial = np.float32(1.0 / (cut.edge * max(1.0 - nz, 0.1) + cut.thickness * max(nz, 0.1)))
        self.right_rough = self._right_rough()

    def _right_rough(self) -> np.ndarray:
        """How far trabeculae reach in from the right ventricle's wall, mm, `N`."""
        count, phase = self.heart.trabeculae_count, self.z * np.float32(0.11)
        waves = np.sin(count * self.theta + phase) * (0.75 + 0.5 * np.sin(2.0 * self.theta + 0.4 * phase + count))
        waves = waves + np.float32(0.7) * np.sin((count + 5) * self.theta - 1.7 * phase + 2)
        waves = waves + np.float32(0.4) * np.sin((2 * count + 3) * self.theta + 2.3 * phase)
        waves = 0.6 * np.maximum(waves + np.float32(0.25), 0.0)
        return (waves * self.heart.trabeculae_right).astype(np.float32)


@dataclasses.dataclass(frozen=True)
class Surfaces:
    """Signed distances in edges of the ventricles at each phase, `T N`, and where along the axis a point lies."""

    now: np.ndarray  # T 1
    zeta: np.ndarray
    endo2: np.ndarray
    epi2: np.ndarray
    endo: np.ndarray
    inner: np.ndarray  # to the core of blood within the trabecular layer
    packed: np.ndarray  # T 1, part of that layer that is muscle
    epi_side: np.ndarray
    above: np.ndarray
    in_rv: np.ndarray
    rv_above: np.ndarray
    left_base: np.ndarray  # T 1, mm
    right_base: np.ndarray


def surfaces(cut: Cut, tables: Tables) -> Surfaces:
    beat, length = tables.beat, np.float32(cut.heart.length)
    left_base = beat.left_base.astype(np.float32)[:, None]
    right_base = beat.right_base.astype(np.float32)[:, None]
    zeta = (cut.z - left_base) / (length - left_base)
    endo2, epi2, inner2 = tables.at(zeta, cut.column, tables.endo2, tables.epi2, tables.inner2)
    rv_zeta = (cut.z - right_base) / (length - right_base)
    (outer2,) = tables.at(rv_zeta, cut.column, tables.right2)
    outer2 += epi2
    epi_side = (cut.squared - epi2) * cut.steep
    np.maximum(epi_side, (zeta - np.float32(1.0)) * (length * cut.axial), out=epi_side)
    in_rv = (cut.squared - outer2) * cut.steep
    np.maximum(in_rv, -epi_side, out=in_rv)
    np.maximum(in_rv, (rv_zeta - np.float32(hearts.RV_LENGTH)) * (length * cut.axial), out=in_rv)
    return Surfaces(
        now=beat.contracted.astype(np.float32)[:, None],
        zeta=zeta,
        endo2=endo2,
        epi2=epi2,
        endo=(cut.squared - endo2) * cut.steep,
        inner=(cut.squared - inner2) * cut.steep,
        packed=tables.packed,
        epi_side=epi_side,
        above=(left_base - cut.z) * cut.axial,
        in_rv=in_rv,
        rv_above=(right_base - cut.z) * cut.axial,
        left_base=left_base,
        right_base=right_base,
    )
