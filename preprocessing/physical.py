"""Values that mean something: maps in milliseconds and per cent, and frames that were never measured.

Letters: S slices, T phases, F = S*T frames, H W pixels.
"""

import numpy as np

from cmr_jax.data.schema import MAPS
from preprocessing.study import Series

_SECONDS = ("s", "sec", "seconds")
# An extracellular volume above this is a percentage; below, a fraction.
_LARGEST_FRACTION = 1.5


def values(stored_FHW: np.ndarray, series: Series) -> np.ndarray:
    """What `F H W` stored values stand for: of maps the values in the map's unit, float32; of anything else the
    stored values, rescaled only where frames were scaled differently; missing frames made of their neighbours."""
    frames = series.flat()
    scales = {(f.slope, f.intercept) for f in frames}
    if series.view in MAPS or len(scales) > 1:
        slope, intercept = (np.array([getattr(f, name) for f in frames], np.float32) for name in ("slope", "intercept"))
        stored_FHW = stored_FHW * slope[:, None, None] + intercept[:, None, None]
    if series.view in MAPS:
        stored_FHW = stored_FHW * np.float32(_to_unit(stored_FHW, series))
    missing_F = series.interpolated.astype(bool)
    return interpolated(stored_FHW, missing_F.reshape(series.slices, series.phases)) if missing_F.any() else stored_FHW


def _to_unit(values_FHW: np.ndarray, series: Series) -> float:
    """The factor from the source's unit to the map's."""
    if series.view == "ecv_map":
        return 100.0 if np.percentile(values_FHW, 99) <= _LARGEST_FRACTION else 1.0
    return 1000.0 if series.first.unit.lower() in _SECONDS else 1.0


def interpolated(values_FHW: np.ndarray, missing_ST: np.ndarray) -> np.ndarray:
    """The frames, each missing one on a straight line in time between the measured ones before and after it. The heart
    beats in a circle: the last phase is followed by the first."""
    T = missing_ST.shape[1]
    out = values_FHW.copy()
    for s, t in zip(*np.nonzero(missing_ST), strict=True):
        measured = ~missing_ST[s]
        before = next(n for n in range(1, T + 1) if measured[(t - n) % T])
        after = next(n for n in range(1, T + 1) if measured[(t + n) % T])
        first, second = (values_FHW[s * T + (t + n) % T].astype(np.float32) for n in (-before, after))
        mixed = (after * first + before * second) / np.float32(before + after)
        out[s * T + t] = np.rint(mixed) if out.dtype.kind in "iu" else mixed
    return out
