"""From stored values to upright 8-bit frames of a fixed size and spacing.

Letters: F frames, H W pixels of the source, O pixels of the record.
"""

import dataclasses
import hashlib
from pathlib import Path

import numpy as np
import pydicom

from cmr_jax.data import schema
from preprocessing import decode, physical
from preprocessing.study import NIFTI, FileScan, PixelLayout, Series

_PERCENTILES = (0.5, 99.5)


class Undecodable(Exception):
    """The pixels of a file cannot be had; the message is a reason for the table of files."""


def read(root: Path, scan: FileScan) -> np.ndarray:
    """Stored values of a file as `F H W`, MONOCHROME1 already inverted.

    Raises Undecodable where the decoder fails or gives another number of pixels than the header promises.
    """
    first = scan.frames[0]
    shape = (len(scan.frames), first.rows, first.cols)
    path = root / scan.path
    values = _stored(path, scan.layout, shape, scan.bits_stored)
    if values.size != shape[0] * shape[1] * shape[2]:
        raise Undecodable("decoder gives another image size than the header")
    values = _without_spare_bits(values.reshape(shape), scan.bits_stored)
    if not scan.inverted:
        return values
    signed = values.dtype.kind == "i"
    return (-1 - values) if signed else (np.array((1 << scan.bits_stored) - 1, values.dtype) - values)


def _stored(path: Path, layout: PixelLayout | None, shape: tuple[int, int, int], bits_stored: int) -> np.ndarray:
    try:
        if layout is None:
            return np.asarray(pydicom.dcmread(path).pixel_array)
        if layout.syntax == NIFTI:
            from preprocessing.public import nifti  # only the public benchmarks need its library

            return nifti.stored(path)
        if layout.syntax:
            return decode.read(path, layout, shape, bits_stored)
        return np.fromfile(path, layout.dtype, shape[0] * shape[1] * shape[2], offset=layout.offset)
    except (KeyboardInterrupt, SystemExit):
        raise
    except decode.Damaged as error:
        raise Undecodable(str(error)) from None
    except OSError:
        raise Undecodable("unreadable") from None
    except BaseException as error:  # a decoder in another language may panic outside of Exception
        raise Undecodable(f"pixels cannot be decoded ({type(error).__name__})") from None


def _without_spare_bits(values: np.ndarray, bits_stored: int) -> np.ndarray:
    """Clears (or sign-extends) bits above the stored ones: old files keep overlays there."""
    spare = values.dtype.itemsize * 8 - bits_stored
    if spare <= 0 or values.dtype.kind not in "iu" or (values.dtype.kind == "u" and not values.max() >> bits_stored):
        return values
    return (values << spare) >> spare


def content_hash(values_HW: np.ndarray) -> bytes:
    return hashlib.sha256(np.ascontiguousarray(values_HW)).digest()


def to_unit(values_FHW: np.ndarray) -> np.ndarray:
    """Float32 in [0, 1], clipped at percentiles of the whole cine: window centres would flicker from frame to frame."""
    return _stretched(values_FHW, *_limits(values_FHW))


def _limits(values_FHW: np.ndarray) -> tuple[float, float]:
    """The values that become 0 and 1; equal where the picture is flat."""
    low, high = _percentiles(values_FHW)
    return (low, high) if high > low else (float(values_FHW.min()), float(values_FHW.max()))


def _stretched(values: np.ndarray, low: float, high: float) -> np.ndarray:
    if high <= low:
        return np.zeros(values.shape, np.float32)
    unit = values.astype(np.float32)
    unit -= np.float32(low)
    unit *= np.float32(1 / (high - low))
    return np.clip(unit, 0, 1, out=unit)


def _percentiles(values: np.ndarray) -> tuple[float, float]:
    if values.dtype.kind not in "iu" or values.dtype.itemsize > 2:
        low, high = np.percentile(values, _PERCENTILES)
        return float(low), float(high)
    # A histogram is ten times faster than sorting, and exact for whole numbers.
    lowest, highest = int(values.min()), int(values.max())
    first = min(lowest, 0)  # values from 0 on are counted as they are
    counts = np.zeros(highest - first + 1, np.int64)
    for frame in values.reshape(-1, values.shape[-1] * values.shape[-2]):  # what a frame needs fits the cache
        counts += np.bincount(frame.astype(np.int64) - first if first else frame, minlength=len(counts))
    below = np.cumsum(counts)
    low, high = (int(np.searchsorted(below, p / 100 * values.size)) + first for p in _PERCENTILES)
    return low, high


def turn(values_FHW: np.ndarray, orientation: tuple[bool, bool, bool]) -> np.ndarray:
    """Transposes, flips rows, flips columns, as `views.upright` says. A view, not a copy."""
    transpose, flip_rows, flip_cols = orientation
    if transpose:
        values_FHW = values_FHW.swapaxes(1, 2)
    return values_FHW[:, :: -1 if flip_rows else 1, :: -1 if flip_cols else 1]


def resampling_matrix(n_in: int, spacing_in: float, n_out: int, spacing_out: float) -> np.ndarray:
    """`n_out x n_in` weights that resample a line about its centre; zero rows where the output lies outside.

    A triangle as wide as the coarser of the two spacings: linear interpolation upwards, antialiased downwards.
    """
    scale = max(1.0, spacing_out / spacing_in)
    at = (np.arange(n_out) - (n_out - 1) / 2) * (spacing_out / spacing_in) + (n_in - 1) / 2
    weights = np.maximum(0.0, 1 - np.abs(at[:, None] - np.arange(n_in)[None, :]) / scale)
    weights[(at < -0.5) | (at > n_in - 0.5)] = 0
    total = weights.sum(1, keepdims=True)
    return (weights / np.where(total > 0, total, 1)).astype(np.float32)


def _without_zeros(weights: np.ndarray) -> tuple[np.ndarray, slice]:
    """`weights` without the columns at both ends that are zero, and which remain: the far field is not resampled."""
    used = np.flatnonzero(weights.any(0))
    inside = slice(int(used[0]), int(used[-1]) + 1) if len(used) else slice(0, 1)
    return np.ascontiguousarray(weights[:, inside]), inside


@dataclasses.dataclass(frozen=True)
class Scale:
    """What a stored value x of a record means: offset + scale * x, in `unit` ("": brightness from 0 to 1)."""

    unit: str
    scale: float
    offset: float


def render(
    stored_FHW: np.ndarray, series: Series, *, image_size: int, spacing_mm: float, bits: int = 8
) -> tuple[Scale, np.ndarray]:
    """The frames of a series as the model sees them: `F O O` of `bits` bits, upright, `spacing_mm` a pixel, centre
    cropped or zero padded to `image_size`. Maps keep their unit; values beyond what the bits hold are counted in
    `series.notes`."""
    values_FHW = physical.values(stored_FHW, series)
    top = (1 << bits) - 1
    limits = None
    if series.view in schema.MAPS:
        unit, step = schema.MAPS[series.view].unit, schema.MAPS[series.view].steps[bits]
        scale = Scale(unit, step, 0.0)
        if beyond := int(np.count_nonzero(values_FHW > top * step)):
            series.notes += (f"{beyond} pixels above {top * step:g} {unit} stored as that",)
        values_FHW = values_FHW * np.float32(1 / (top * step))
    else:
        scale = Scale("", 1 / top, 0.0)
        limits = _limits(values_FHW)
    rows_mm, cols_mm = series.first.spacing
    if series.orientation[0]:
        rows_mm, cols_mm = cols_mm, rows_mm
    upright_FHW = turn(values_FHW, series.orientation)
    over_rows, used_rows = _without_zeros(resampling_matrix(upright_FHW.shape[1], rows_mm, image_size, spacing_mm))
    over_cols, used_cols = _without_zeros(resampling_matrix(upright_FHW.shape[2], cols_mm, image_size, spacing_mm))
    out = np.empty((len(upright_FHW), image_size, image_size), f"uint{bits}")
    for index, whole in enumerate(upright_FHW):  # one by one: the temporaries of a long cine would not fit the cache
        frame = np.ascontiguousarray(whole[used_rows, used_cols])
        fitted = over_rows @ (_stretched(frame, *limits) if limits else frame) @ over_cols.T
        np.clip(fitted, 0, 1, out=fitted)
        fitted *= np.float32(top)
        out[index] = np.rint(fitted, out=fitted)
    return scale, out
