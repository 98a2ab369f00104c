"""NIfTI images as the pipeline sees files: frames with geometry and times, and their stored values.

A NIfTI image is stored with x fastest, then y, z and t: read backwards it is a stack of frames `T*Z H W` with rows
along y. Directions are turned from NIfTI's patient coordinates (right, anterior, head positive) into DICOM's.
"""

import math
import os
from pathlib import Path
from typing import Any

import nibabel
import numpy as np

from preprocessing.study import NAN, NIFTI, TIME_KEYS, FileScan, Frame, PixelLayout

_TO_LPS = np.diag([-1.0, -1.0, 1.0, 1.0])
_MOST_SKEW = 0.02
# A frame of a cine lasts between 5 and 200 ms: this tells the unit where the header does not.
_SHORTEST_MS, _LONGEST_MS = 5.0, 200.0
_IN_MS = {"sec": 1000.0, "msec": 1.0, "usec": 0.001}


def scan_file(root: Path, path: str, shows: str) -> FileScan:
    """The header of `root/path` as frames of what `shows` says. Never raises for anything the file contains."""
    try:
        about = (root / path).stat()
    except OSError:
        return FileScan(path, 0, 0, "rejected", "unreadable")
    try:
        image: Any = nibabel.load(root / path)
        return _scan(image, path, about, shows)
    except Exception as error:  # whatever a damaged header makes nibabel raise
        return FileScan(
            path, about.st_size, about.st_mtime_ns, "rejected", f"unreadable header ({type(error).__name__})"
        )


def stored(path: Path) -> np.ndarray:
    """The stored values of all frames, `T*Z H W`; raises what nibabel raises where they cannot be had."""
    image: Any = nibabel.load(path)
    return np.ascontiguousarray(_frames_first(np.asarray(image.dataobj.get_unscaled())))


def volume_ml(path: Path, value: int, time: int | None = None) -> float:
    """Millilitres that `value` fills in a segmentation, in phase `time` of a cine's; NaN without such a file."""
    if not path.is_file():
        return NAN
    image: Any = nibabel.load(path)
    mask = np.asarray(image.dataobj)
    if time is not None and mask.ndim > 3:
        if not 0 <= time < mask.shape[3]:
            return NAN
        mask = mask[..., time]
    return float(np.count_nonzero(np.rint(mask) == value) * np.prod(image.header.get_zooms()[:3]) / 1000)


def _scan(image: Any, path: str, about: os.stat_result, shows: str) -> FileScan:
    cols, rows, slices, phases = (*image.shape, 1, 1)[:4]
    size, mtime = about.st_size, about.st_mtime_ns
    if len(image.shape) not in (2, 3, 4) or min(cols, rows, slices, phases) < 1:
        return FileScan(path, size, mtime, "rejected", "no usable image size or pixel format")
    dtype = image.get_data_dtype()
    if dtype.kind not in "iuf":
        return FileScan(path, size, mtime, "rejected", "no usable image size or pixel format")
    affine = _TO_LPS @ image.affine
    spacing = np.linalg.norm(affine[:3, :3], axis=0)
    if not np.isfinite(affine).all() or spacing.min() <= 0:
        return FileScan(path, size, mtime, "rejected", "no usable geometry")
    right, down = affine[:3, 0] / spacing[0], affine[:3, 1] / spacing[1]
    if abs(right @ down) > _MOST_SKEW:
        return FileScan(path, size, mtime, "rejected", "no usable geometry")
    step_ms = _step_ms(image.header) if phases > 1 else NAN
    frames = tuple(
        Frame(
            file=path,
            index=t * slices + s,
            sop_uid=f"{path}#{t * slices + s}",
            series_uid=path,
            series_number=0,
            acquisition=0,
            description=shows,
            rows=rows,
            cols=cols,
            position=_vector(affine[:3, 3] + s * affine[:3, 2]),
            right=_vector(right),
            down=_vector(down),
            spacing=(float(spacing[1]), float(spacing[0])),
            echo=NAN,
            kind=(shows,),
            times=_times(t, step_ms),
        )
        for t in range(phases)
        for s in range(slices)
    )
    bits = dtype.itemsize * 8
    return FileScan(path, size, mtime, bits_stored=bits, layout=PixelLayout(0, dtype.str, NIFTI), frames=frames)


def _frames_first(values: np.ndarray) -> np.ndarray:
    """`x y [z [t]]` as `T*Z y x`."""
    backwards = values.reshape(*values.shape, *[1] * (4 - values.ndim)).transpose(3, 2, 1, 0)
    return backwards.reshape(-1, *backwards.shape[2:])


def _step_ms(header: Any) -> float:
    """Milliseconds from phase to phase; NaN where the header gives nothing that a cine can have."""
    step = float(header.get_zooms()[3])
    unit = header.get_xyzt_units()[1]
    for factor in (_IN_MS[unit],) if unit in _IN_MS else (1.0, 1000.0):
        if _SHORTEST_MS <= step * factor <= _LONGEST_MS:
            return step * factor
    return NAN


def _times(phase: int, step_ms: float) -> tuple[float, ...]:
    known = {"TemporalPositionIndex": float(phase), "TriggerTime": NAN if math.isnan(step_ms) else phase * step_ms}
    return tuple(known.get(key, NAN) for key in TIME_KEYS)


def _vector(values: np.ndarray) -> tuple[float, float, float]:
    x, y, z = (float(value) for value in values)
    return x, y, z
