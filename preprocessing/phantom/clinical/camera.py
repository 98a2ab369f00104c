"""One subject before one scanner: the pictures of a study, and the masks that belong to them.

Letters: T phases, H W pixels, N = H W of the box in which something beats.
"""

from collections.abc import Iterator

import numpy as np

from preprocessing.phantom.clinical import cut as cuts
from preprocessing.phantom.clinical import heart, layers, lesions, parts, scanner
from preprocessing.phantom.clinical.body import Body
from preprocessing.phantom.clinical.case import Subject
from preprocessing.phantom.clinical.heart import Beat
from preprocessing.phantom.clinical.scanner import Scanner
from preprocessing.phantom.clinical.tissue import Palette
from preprocessing.phantom.paint import cover, lay
from preprocessing.phantom.render import Plane

STILL = np.zeros(3)
_FEW = 5  # phases that are made without looking first what is where
_CACHED = 24000  # numbers of an array of which a dozen fit into the processor's second cache


def in_heart(subject: Subject, plane: Plane, shift: np.ndarray = STILL) -> np.ndarray:
    """The pixel centres in the heart's frame, mm: `3 H W` float32.

    Args:
        shift: of the organs in this breath-hold, LPS, mm.
    """
    step = np.arange(plane.size) * plane.spacing
    origin, axes = subject.pose.to_heart(plane.origin - shift), subject.pose.axes
    down = origin[:, None] + (axes @ plane.column)[:, None] * step
    along = (axes @ plane.row)[:, None] * step
    return down.astype(np.float32)[:, :, None] + along.astype(np.float32)[:, None]


def heart_box(subject: Subject, local: np.ndarray) -> tuple[slice, slice]:
    """The rows and columns outside of which nothing beats; `local` is of `in_heart`."""
    made = subject.heart
    x, y, z = local
    reach = np.sqrt((made.radius + float(made.wall.max()) + 8.0) ** 2 + made.rv_squared) + 14.0
    roof = -max(made.la_length, made.ra_length) - 60.0
    near = (x * x + y * y < np.float32(reach**2)) & (z > roof) & (z < made.length + 14.0)
    rows, columns = np.flatnonzero(near.any(1)), np.flatnonzero(near.any(0))
    if not len(rows):
        return slice(0, 0), slice(0, 0)
    return slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1)


def _cut(subject: Subject, plane: Plane, inner: np.ndarray, thickness: float) -> cuts.Cut:
    across = cuts.Slice(subject.pose.axes @ plane.normal, 1.1 * plane.spacing, thickness)
    return cuts.Cut(subject.heart, across, inner.reshape(3, -1))


def label_map(subject: Subject, plane: Plane, beat: Beat, shift: np.ndarray = STILL) -> np.ndarray:
    """The labels of `layers` at the pixel centres of an infinitely thin slice, `T H W` uint8.

    Args:
        shift: of the organs in this breath-hold, LPS, mm.
    """
    local = in_heart(subject, plane, shift)
    out = np.zeros((len(beat.contracted), plane.size, plane.size), np.uint8)
    rows, columns = heart_box(subject, local)
    inner = local[:, rows, columns]
    if not inner.size:
        return out
    cut = _cut(subject, plane, inner, 0.0)
    at = cuts.Surfaces(cut, cuts.Tables(beat))
    flat = np.zeros((len(out), inner[0].size), np.uint8)
    for layer in layers.heart_layers(cut, at, subject.pose, layers.seen(cut, at), fat_mm=0.0, effusion_mm=0.0):
        if layer.label:
            flat[np.broadcast_to(layer.distance < 0.0, flat.shape)] = layer.label
    out[:, rows, columns] = flat.reshape(len(out), *inner.shape[1:])
    return out


def paint(
    canvas: np.ndarray, distance: np.ndarray, signal: float | np.ndarray, filled: float | np.ndarray = 1.0
) -> None:
    """Lays `signal` over `canvas` (`T N`, changed in place) within `distance`, blending over the edge of width 1.

    Args:
        filled: part of the place that it takes.
    """
    covered = cover(distance)
    covered *= filled
    lay(canvas, covered, signal)


class Camera:
    """Makes the pictures of one study.

    Args:
        rng: of the noise.
        count: of pixels of the largest series of frames of a plane.
    """

    def __init__(self, subject: Subject, scan: Scanner, rng: np.random.Generator, count: int):
        self.subject, self.scan, self._rng = subject, scan, rng
        self._heart = subject.pose.to_patient(np.array([0.0, 0.0, 30.0]))
        self._body = Body(subject.chest, self._heart - subject.chest.centre, subject.pose.axes[2])
        self._noise = scanner.Noise(rng, count)
        self._extents = [
            lesions.extent(scar, subject.scar_seed + i, lesions.along_cavity(subject.heart))
            for i, scar in enumerate(subject.scars)
        ]

    def signal(
        self, plane: Plane, beat: Beat, tables: cuts.Tables, palette: Palette, *, thickness: float,
        shift: np.ndarray = STILL, scar: float | None = None, whole: bool = False,
    ) -> np.ndarray:  # fmt: skip
        """Noiseless signal before the coils, `T H W` float32, in the units of `palette`.

        Args:
            thickness: of the slice, mm.
            shift: of the organs in this breath-hold, LPS, mm.
            scar: what scarred muscle gives; None where the sequence does not tell it from muscle.
            whole: maps: every tissue has its own value, whatever flows.
        """
        subject, count = self.subject, len(beat.contracted)
        still = self._body.slice(
            plane.origin - shift, plane.row, plane.column, plane.spacing, plane.size, palette, whole=whole
        )
        frames = np.repeat(still[None], count, 0)
        local = in_heart(subject, plane, shift)
        rows, columns = heart_box(subject, local)
        inner = local[:, rows, columns]
        if not inner.size:
            return frames
        cut = _cut(subject, plane, inner, thickness)
        pixels = np.arange(still.size).reshape(still.shape)[rows, columns].ravel()
        flat = frames.reshape(count, -1)
        for points, what in self._groups(cut, tables):
            part = cut if points is None else cut.only(points)
            where = pixels if points is None else pixels[points]
            step = max(1, _CACHED // len(where))
            for first in range(0, count, step):
                phases = slice(first, first + step)
                at = cuts.Surfaces(part, tables, phases)
                beating = np.repeat(still.ravel()[None, where], len(at.now), 0)
                for layer, value in self._painted(at, what, palette, scar, whole):
                    paint(beating, layer.distance, value, layer.filled)
                flat[phases, where] = beating
        return frames

    def _groups(self, cut: cuts.Cut, tables: cuts.Tables) -> list[tuple[np.ndarray | None, layers.Parts]]:
        """Points of `cut` (None for all) and what is to be seen there; to look pays for cines alone."""
        subject = self.subject
        if len(tables.beat.contracted) < _FEW:
            return [(None, layers.seen(cut, cuts.Surfaces(cut, tables)))]
        fat, effusion = subject.chest.epicardial_fat, subject.effusion
        return list(parts.groups(cut, tables, subject.pose, fat_mm=fat, effusion_mm=effusion))

    def _painted(
        self, at: cuts.Surfaces, what: layers.Parts, palette: Palette, scar: float | None, whole: bool
    ) -> Iterator[tuple[layers.Layer, float | np.ndarray]]:  # fmt: skip
        """Each layer and its signal, in the order of painting."""
        subject = self.subject
        made = layers.heart_layers(
            at.cut, at, subject.pose, what, fat_mm=subject.chest.epicardial_fat, effusion_mm=subject.effusion,
            swirl=0.0 if whole else self.scan.swirl,
        )  # fmt: skip
        muscle = None
        for layer in made:
            if layer.tissue == "myocardium":
                muscle = self._muscle(at, palette["muscle"], scar) if muscle is None else muscle
                yield layer, muscle
            else:
                yield layer, palette[layer.tissue] * (1.0 if whole else layer.part)

    def _muscle(self, at: cuts.Surfaces, healthy: float, scar: float | None) -> float | np.ndarray:
        """Signal of the left ventricle's wall, with its scars where the sequence shows them."""
        if scar is None or not self._extents:
            return healthy
        fields = [extent.astype(np.float32) for extent in self._extents]
        extents = [at.look(cuts.finer(table)) for table in heart.carried(at.tables.beat, fields)]
        inner = np.sqrt(np.maximum(at.endo2, 0.0))
        outer = np.sqrt(np.maximum(at.epi2, 1e-3))
        across = (np.sqrt(at.cut.squared) - inner) / np.maximum(outer - inner, np.float32(0.5))
        part = lesions.mixed(extents, self.subject.scars, across)
        return np.float32(healthy) + part * np.float32(scar - healthy)

    def stored(self, plane: Plane, frames: np.ndarray, *, quiet: float = 1.0, signed: bool = False) -> np.ndarray:
        """What the scanner keeps of signal `T H W` (overwritten): coil shading, artefacts, noise, gain; uint16.

        Args:
            quiet: factor on the noise.
            signed: phase-sensitive, the sign kept.
        """
        scan = self.scan
        shade = scanner.sensitivity(scan, plane, self._heart)
        if not signed:
            shade *= scanner.bands(scan, plane, self._heart)
        if scan.ghost and len(frames) > 1:
            beating = frames - frames.mean(0)
            frames += np.float32(scan.ghost) * np.roll(beating, plane.size // 3, axis=1 + int(plane.spacing * 1e4) % 2)
        return scanner.stored(scan, self._noise, self._rng, frames, shade, quiet=quiet, signed=signed)
