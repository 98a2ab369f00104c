"""How a plane cuts the beating heart: signed distances to the ventricles' surfaces along its points.

Distances are in widths of a surface's own edge, negative inside. The edge is as wide as a pixel and the slice's
thickness together: it is the pictures' antialiasing and their partial volume.

Letters: T phases, N points, Z levels and A angles of the tables (see `heart`).
"""

from __future__ import annotations

import copy
import dataclasses
import functools

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
    """The surfaces of a beat, ready to be looked up at any height and angle (see `finer`)."""

    def __init__(self, beat: Beat):
        self.beat = beat
        layer = trabeculae.layer(beat)
        self.packed = layer.packed.astype(np.float32)  # part of the trabecular layer that is muscle, T
        self.endo2, self.epi2 = finer(beat.endo2), finer(beat.epi2)
        self.right2, self.inner2 = finer(beat.right2), finer(layer.inner2)

    def phase(self, number: int) -> Tables:
        """One phase alone."""
        one, out = slice(number, number + 1), copy.copy(self)
        out.beat = self.beat.phase(number)
        for name in ("packed", "endo2", "epi2", "right2", "inner2"):
            setattr(out, name, getattr(self, name)[one])
        return out


def finer(table: np.ndarray) -> np.ndarray:
    """`T Z A` with more angles in between, `T M` (each phase flat), for `Surfaces.look`."""
    times = _FINE // table.shape[-1]
    out = np.empty((*table.shape, times), np.float32)
    step = np.roll(table, -1, -1) - table
    for number in range(times):
        np.add(table, step * np.float32(number / times), out=out[..., number], casting="same_kind")
    return out.reshape(len(table), -1)


class Cut:
    """The heart along the points of one plane: everything that does not move is worked out once.

    Args:
        local: `3 N` float32, points in the heart's frame, mm.
    """

    def __init__(self, heart: hearts.Heart, cut: Slice, local: np.ndarray):
        self.heart = heart
        self.x, self.y, self.z = local
        self.squared = self.x**2 + self.y**2
        self.theta = np.arctan2(self.y, self.x)
        self.column = np.rint(self.theta * np.float32(_FINE / (2.0 * np.pi))).astype(np.int32) % _FINE
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

    def only(self, points: np.ndarray) -> Cut:
        """The cut along some of its points."""
        out = copy.copy(self)
        for name in ("x", "y", "z", "squared", "theta", "column", "side", "steep", "right_rough"):
            setattr(out, name, getattr(self, name)[points])
        return out

    def _right_rough(self) -> np.ndarray:
        """How far trabeculae reach in from the right ventricle's wall, mm, `N`."""
        count, phase = self.heart.trabeculae_count, self.z * np.float32(0.11)
        waves = np.sin(count * self.theta + phase) * (0.75 + 0.5 * np.sin(2.0 * self.theta + 0.4 * phase + count))
        waves = waves + np.float32(0.7) * np.sin((count + 5) * self.theta - 1.7 * phase + 2)
        waves = waves + np.float32(0.4) * np.sin((2 * count + 3) * self.theta + 2.3 * phase)
        waves = 0.6 * np.maximum(waves + np.float32(0.25), 0.0)
        return (waves * self.heart.trabeculae_right).astype(np.float32)


class Surfaces:
    """Signed distances in edges of the ventricles at some phases, `T N`, each worked out when it is first asked for.

    Args:
        phases: which of the beat.
    """

    def __init__(self, cut: Cut, tables: Tables, phases: slice | np.ndarray = slice(None)):
        self.cut, self.tables, self.phases = cut, tables, phases
        beat = tables.beat
        self.now = beat.contracted.astype(np.float32)[phases, None]  # T 1
        self.packed = tables.packed[phases, None]
        self.left_base = beat.left_base.astype(np.float32)[phases, None]  # mm
        self.right_base = beat.right_base.astype(np.float32)[phases, None]
        self._length = np.float32(beat.heart.length)

    def look(self, table: np.ndarray, place: tuple[np.ndarray, np.ndarray] | None = None) -> np.ndarray:
        """Values of a table (of `finer`) at the points, `T N` float32."""
        low, part = place or self._place
        flat = table[self.phases].reshape(-1)
        value = flat.take(low, mode="clip")
        step = flat.take(low + _FINE, mode="clip")
        step -= value
        step *= part
        value += step
        return value

    def _placed(self, zeta: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Where in a table the level above each point stands, and how far the point is from there to the next."""
        level = np.clip(zeta, np.float32(0.0), np.float32(1.0 - 1e-6))
        level *= np.float32(hearts.LEVELS - 1)
        low = level.astype(np.int32)
        level -= low
        low *= _FINE
        low += self.cut.column
        low += (np.arange(len(zeta), dtype=np.int32) * (hearts.LEVELS * _FINE))[:, None]
        return low, level

    @functools.cached_property
    def zeta(self) -> np.ndarray:
        """Where along the axis of the left ventricle each point lies, 0 at the valve to 1 at the apex."""
        return (self.cut.z - self.left_base) / (self._length - self.left_base)

    @functools.cached_property
    def _place(self) -> tuple[np.ndarray, np.ndarray]:
        return self._placed(self.zeta)

    @functools.cached_property
    def endo2(self) -> np.ndarray:
        return self.look(self.tables.endo2)

    @functools.cached_property
    def epi2(self) -> np.ndarray:
        return self.look(self.tables.epi2)

    def _across(self, surface2: np.ndarray) -> np.ndarray:
        """Signed distance to a surface of this squared radius."""
        out = self.cut.squared - surface2
        out *= self.cut.steep
        return out

    @functools.cached_property
    def endo(self) -> np.ndarray:
        out = self._across(self.endo2)
        if self.cut.z.max() < self._length:
            return out
        return np.maximum(out, self._past_apex, out=out)

    @functools.cached_property
    def inner(self) -> np.ndarray:
        """To the core of blood within the trabecular layer."""
        return self._across(self.look(self.tables.inner2))

    @functools.cached_property
    def _past_apex(self) -> np.ndarray:
        return (self.zeta - np.float32(1.0)) * (self._length * self.cut.axial)

    @functools.cached_property
    def epi_side(self) -> np.ndarray:
        out = self._across(self.epi2)
        return np.maximum(out, self._past_apex, out=out)

    @functools.cached_property
    def in_rv(self) -> np.ndarray:
        """To the right ventricle without its valve's plane."""
        zeta = (self.cut.z - self.right_base) / (self._length - self.right_base)
        outer2 = self.look(self.tables.right2, self._placed(zeta))
        outer2 += self.epi2
        out = self._across(outer2)
        np.maximum(out, -self.epi_side, out=out)
        zeta -= np.float32(hearts.RV_LENGTH)
        zeta *= self._length * self.cut.axial
        return np.maximum(out, zeta, out=out)

    @functools.cached_property
    def above(self) -> np.ndarray:
        """To the mitral valve's plane, negative below it."""
        return (self.left_base - self.cut.z) * self.cut.axial

    @functools.cached_property
    def rv_above(self) -> np.ndarray:
        return (self.right_base - self.cut.z) * self.cut.axial
