"""From stored values to upright 8-bit frames of a fixed size and spacing.

Letters: F frames, H W pixels of the source, O pixels of the record.
"""

import hashlib
from pathlib import Path

import numpy as np
import pydicom

from preprocessing.study import FileScan, Series

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
    if scan.layout is not None:
        count = shape[0] * shape[1] * shape[2]
        try:
            values = np.fromfile(path, scan.layout.dtype, count, offset=scan.layout.offset)
        except OSError:
            raise Undecodable("unreadable") from None
    else:
        values = _decode(path)
    if values.size != shape[0] * shape[1] * shape[2]:
        raise Undecodable("decoder gives another image size than the header")
    values = _without_spare_bits(values.reshape(shape), scan.bits_stored)
    if not scan.inverted:
        return values
    signed = values.dtype.kind == "i"
    return (-1 - values) if signed else (np.array((1 << scan.bits_stored) - 1, values.dtype) - values)


def _decode(path: Path) -> np.ndarray:
    try:
        return np.asarray(pydicom.dcmread(path).pixel_array)
    except (KeyboardInterrupt, SystemExit):
        raise
    except BaseException as error:  # a decoder written in Rust panics outside of Exception
        raise Undecodable(f"pixels cannot be decoded ({type(error).__name__})") from None


def _without_spare_bits(values: np.ndarray, bits_stored: int) -> np.ndarray:
    """Clears (or sign-extends) bits above the stored ones: old files keep overlays there."""
    spare = values.dtype.itemsize * 8 - bits_stored
    return values if spare <= 0 or values.dtype.kind not in "iu" else (values << spare) >> spare


def content_hash(values_HW: np.ndarray) -> bytes:
    return hashlib.sha256(np.ascontiguousarray(values_HW)).digest()


def to_unit(values_FHW: np.ndarray) -> np.ndarray:
    """Float32 in [0, 1], clipped at percentiles of the whole cine: window centres would flicker from frame to frame."""
    low, high = _percentiles(values_FHW)
    if high <= low:
        low, high = float(values_FHW.min()), float(values_FHW.max())
    if high <= low:
        return np.zeros(values_FHW.shape, np.float32)
    unit = values_FHW.astype(np.float32)
    unit -= np.float32(low)
    unit *= np.float32(1 / (high - low))
    return np.clip(unit, 0, 1, out=unit)


def _percentiles(values: np.ndarray) -> tuple[float, float]:
    if values.dtype.kind not in "iu" or values.dtype.itemsize > 2:
        low, high = np.percentile(values, _PERCENTILES)
        return float(low), float(high)
    # A histogram is ten times faster than sorting, and exact for whole numbers.
    lowest = int(values.min())
    below = np.cumsum(np.bincount(values.ravel().astype(np.int32) - lowest))
    low, high = (int(np.searchsorted(below, p / 100 * values.size)) + lowest for p in _PERCENTILES)
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


def render(values_FHW: np.ndarray, series: Series, *, image_size: int, spacing_mm: float) -> np.ndarray:
    """The frames of a series as the model sees them: `F O O` uint8, upright, `spacing_mm` a pixel, centre cropped
    or zero padded to `image_size`."""
    rows_mm, cols_mm = series.first.spacing
    if series.orientation[0]:
        rows_mm, cols_mm = cols_mm, rows_mm
    unit = turn(to_unit(values_FHW), series.orientation)
    over_rows = resampling_matrix(unit.shape[1], rows_mm, image_size, spacing_mm)
    over_cols = resampling_matrix(unit.shape[2], cols_mm, image_size, spacing_mm)
    out = np.empty((len(unit), image_size, image_size), np.uint8)
    for index, frame in enumerate(unit):  # frame by frame: the temporaries of a long cine would not fit the cache
        out[index] = np.rint(over_rows @ np.ascontiguousarray(frame) @ over_cols.T * 255)
    return out
