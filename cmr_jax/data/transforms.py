"""From a record to what the model sees: which planes, which phases, which words. NumPy, one study at a time.

With a generator the choice is random (training); without, it is the middle of the same range (evaluation).
"""

import collections
import dataclasses
import zlib
from collections.abc import Collection

import numpy as np

from cmr_jax.config import DataConfig, VideoConfig
from cmr_jax.data import distort, schema, window
from cmr_jax.data.records import Example
from cmr_jax.errors import InputError

Plane = tuple[int, int]


def hide_views(example: Example, hidden: Collection[str]) -> Example:
    """`example` as if the study had no series of the views in `hidden`."""
    shown = ["" if view in hidden else view for view in example["series/view"]]
    return {**example, "series/view": shown}


def draw_hidden_views(
    example: Example, views: Collection[str], rate: float, rng: np.random.Generator
) -> frozenset[str]:
    """Which of `views` that the study has to hide: each with a chance of `rate`, but never all of them."""
    have = sorted(set(views).intersection(example["series/view"]))
    hidden = [view for view, u in zip(have, rng.random(len(have)), strict=True) if u < rate]
    if have and len(hidden) == len(have):
        hidden.pop(int(rng.integers(len(hidden))))
    return frozenset(hidden)


def choose_planes(
    example: Example, views: tuple[str, ...], fallback: tuple[str, ...], rng: np.random.Generator | None
) -> list[Plane | None]:
    """One (series, slice) a slot of `views`, None where the study has no such series.

    A view that is named k times takes one slice from each of k equal parts of its stack. Where no slot can be filled
    the `fallback` views fill them, in their order, so that every study is seen.
    """
    found: dict[str, list[Plane]] = collections.defaultdict(list)
    for series, (view, slices) in enumerate(zip(example["series/view"], example["series/slices"], strict=True)):
        found[view] += [(series, s) for s in range(int(slices))]
    picks = {view: _spread(found[view], count, rng) for view, count in collections.Counter(views).items()}
    chosen = [picks[view].pop(0) if picks[view] else None for view in views]
    if any(plane is not None for plane in chosen):
        return chosen
    rest = [plane for view in fallback for plane in found[view]]
    spread = _spread(rest, len(views), rng)
    return [*spread, *[None] * (len(views) - len(spread))]


def _spread(planes: list[Plane], count: int, rng: np.random.Generator | None) -> list[Plane]:
    """`count` of `planes` in their order, one from each of `count` equal parts; all of them where they are fewer."""
    if len(planes) <= count:
        return list(planes)
    edges = np.linspace(0, len(planes), count + 1)
    place = np.full(count, 0.5) if rng is None else rng.random(count)
    return [planes[int(lo + (hi - lo) * u)] for lo, hi, u in zip(edges[:-1], edges[1:], place, strict=True)]


def choose_phases(phases: int, frames: int) -> np.ndarray:
    """The indices of `frames` of `phases` phases, evenly spaced; all of them where they are fewer."""
    return np.arange(phases) if phases <= frames else (np.arange(frames) * phases) // frames


def held_phases(stack_STHW: np.ndarray, view: "View", frames: int, *, extremes: bool = False) -> np.ndarray | None:
    """The phase that is nearest to each of `frames` equal times of the beat, for a uint8 cine of fewer phases; None for
    one that has enough, unless `extremes` asks for its two ends alone: the most and the least blood.

    Few phases are often a choice of them (the ends of diastole and of systole alone), in any order: the beat begins
    with the one that shows the most blood.
    """
    T = stack_STHW.shape[1]
    if frames <= T and not extremes:
        return None
    blood_T = np.stack([view(slice_THW) for slice_THW in stack_STHW]).mean(axis=(0, 2, 3))
    most = int(blood_T.argmax())
    beat = np.array([most, int(blood_T.argmin())]) if extremes else (most + np.arange(T)) % T
    return beat[np.rint(np.arange(frames) * len(beat) / frames).astype(int) % len(beat)]


def whole(factor: float) -> int:
    """`factor` as a whole number.

    Raises:
      InputError: where it is none: averaging by parts of a pixel would blur.
    """
    k = round(factor)
    if k < 1 or abs(factor - k) > 0.01:
        raise InputError(
            f"records cannot be averaged down {factor:g} times: choose config.data.spacing_mm (or, where that is 0, "
            "config.model.video.image_size) so that it is a whole number, or preprocess with another --spacing_mm"
        )
    return k


def average(frames_THW: np.ndarray, k: int) -> np.ndarray:
    """uint8 frames averaged over blocks of `k` x `k` pixels."""
    if k == 1:
        return frames_THW
    T, H, W = frames_THW.shape
    cut = frames_THW[:, : H // k * k, : W // k * k].reshape(T, H // k, k, W // k, k)
    return (cut.mean(axis=(2, 4)) + 0.5).astype(np.uint8)


def fit(frames_THW: np.ndarray, size: int, factor: float) -> np.ndarray:
    """uint8 frames averaged down by the whole number `factor`, then cut or padded about the centre to `size` pixels.

    Raises:
      InputError: where `factor` is no whole number.
    """
    frames_THW = average(frames_THW, whole(factor))
    for axis in (1, 2):
        spare = frames_THW.shape[axis] - size
        if spare > 0:
            frames_THW = np.take(frames_THW, range(spare // 2, spare // 2 + size), axis=axis)
        elif spare < 0:
            pad = [(0, 0)] * 3
            pad[axis] = (-spare // 2, -spare - -spare // 2)
            frames_THW = np.pad(frames_THW, pad)
    return frames_THW


@dataclasses.dataclass(frozen=True)
class View:
    """How the model is shown one series: the window on it, and the look-up table of its brightness (None: as is)."""

    factor: int
    size: int
    centre: tuple[float, float]
    levels: np.ndarray | None

    def __call__(self, frames_THW: np.ndarray) -> np.ndarray:
        frames = window.cut(average(frames_THW, self.factor), self.centre, self.size)
        return frames if self.levels is None else self.levels[frames]


def view_of(stack_STHW: np.ndarray, factor: float, spacing: float, size: int, data: DataConfig) -> View | None:
    """None where the window is the plain one of `fit`. `spacing`: millimetres a pixel of the window."""
    if data.centre == "image" and data.brightness == "record":
        return None
    k = whole(factor)
    centre, levels = window.found_once(data.centre, data.brightness, stack_STHW[..., ::k, ::k], spacing)
    return View(k, size, centre, levels)


def draw_pose(config: DataConfig, rng: np.random.Generator) -> tuple[float, float] | None:
    """Degrees and scale that a study is shown in; None where the config asks for neither.

    One draw a study: its slices are of one heart, which has one size. (A shift may differ from slice to slice, as
    breath-holds do.)
    """
    if not (config.rotate_degrees or config.scale):
        return None
    turn, grow = rng.uniform(-1, 1, 2)
    # As likely so many times larger as so many times smaller.
    return config.rotate_degrees * float(turn), (1.0 + config.scale) ** float(grow)


def draw_gain(frames_THW: np.ndarray, config: DataConfig, rng: np.random.Generator) -> np.ndarray:
    """uint8 frames with the same small gain for every frame of a cine."""
    if not config.intensity:
        return frames_THW
    gain = 1.0 + config.intensity * rng.uniform(-1, 1)
    table = np.clip(np.arange(256, dtype=np.uint8) * np.float32(gain), 0, 255).astype(np.uint8)
    return table.take(frames_THW)


def draw_shift(config: DataConfig, rng: np.random.Generator) -> tuple[int, int]:
    """How far a cine is moved, in pixels down and right; slices differ, as breath-holds do."""
    if not config.shift_px:
        return 0, 0
    dy, dx = rng.integers(-config.shift_px, config.shift_px + 1, 2)
    return -int(dy), -int(dx)


def move(frames_THW: np.ndarray, pose: tuple[float, float] | None, shift: tuple[int, int]) -> np.ndarray:
    """Every frame of a cine in the study's pose and moved by `shift`; never a mirror, which would be another heart."""
    if pose is not None:
        return warp(frames_THW, *pose, shift)
    if not any(shift):
        return frames_THW
    pad = max(map(abs, shift))
    padded = np.pad(frames_THW, ((0, 0), (pad, pad), (pad, pad)))
    H, W = frames_THW.shape[1:]
    return padded[:, pad - shift[0] : pad - shift[0] + H, pad - shift[1] : pad - shift[1] + W]


def augment(
    frames_THW: np.ndarray, config: DataConfig, rng: np.random.Generator, pose: tuple[float, float] | None
) -> np.ndarray:
    """A small gain and shift of its own for a cine, the same for all its frames, in the study's pose."""
    frames_THW = draw_gain(frames_THW, config, rng)
    return move(frames_THW, pose, draw_shift(config, rng))


def warp(frames_THW: np.ndarray, degrees: float, scale: float, shift: tuple[int, int]) -> np.ndarray:
    """uint8 frames turned counter-clockwise about their centre, made `scale` times larger, then moved by `shift`
    (down, right); black where nothing was.

    Bilinear, to a sixteenth of a pixel: in whole numbers, and one table of places for all frames, it costs a quarter
    of a general resampling.
    """
    T, H, W = frames_THW.shape
    cos, sin = np.cos(np.radians(degrees)) / scale, np.sin(np.radians(degrees)) / scale
    y_HW, x_HW = np.mgrid[:H, :W].astype(np.float32)
    y_HW, x_HW = y_HW - (H - 1) / 2 - shift[0], x_HW - (W - 1) / 2 - shift[1]
    # Where each pixel comes from. Rows run downwards, so a turn to the left is this way round.
    from_2HW = np.stack([cos * y_HW + sin * x_HW + (H - 1) / 2, cos * x_HW - sin * y_HW + (W - 1) / 2])
    sixteenths = np.rint(16 * from_2HW).astype(np.int64).reshape(2, -1)
    (y, x), (past_y, past_x) = sixteenths >> 4, sixteenths & 15
    # The four weights of a pixel sum to 256, so that 255 times all of them, and a half to round by, fit 16 bits.
    sums = np.full((T, H * W), 128, np.uint16)
    for down, weight_y in ((0, 16 - past_y), (1, past_y)):
        for right, weight_x in ((0, 16 - past_x), (1, past_x)):
            inside = (y + down >= 0) & (y + down < H) & (x + right >= 0) & (x + right < W)
            weight = np.where(inside, weight_y * weight_x, 0).astype(np.uint16)
            place = np.where(inside, (y + down) * W + x + right, 0)
            sums += frames_THW.reshape(T, -1).take(place, axis=1) * weight
    return (sums >> 8).astype(np.uint8).reshape(T, H, W)


def study_arrays(
    example: Example, data: DataConfig, video: VideoConfig, rng: np.random.Generator | None
) -> dict[str, np.ndarray]:
    """The image side of one study, by the names of structs.Batch without B."""
    V, T, size = len(data.views), video.frames, video.image_size
    cut = size if data.layout == "picture" else window.sector_window(data.spacing_mm)
    video_VTHW = np.zeros((V, T, size, size), np.uint8)
    mask_VT = np.zeros((V, T), bool)
    view_V = np.zeros(V, np.int32)
    slice_V = np.zeros(V, np.float32)
    stacks = schema.split_series(example)
    planes = choose_planes(example, data.views, data.fallback_views, rng if data.slice_jitter else None)
    # One start for all series: they are phases of one heartbeat and must stay aligned.
    roll = rng.random() if rng is not None and data.phase_roll else 0.0
    how = distort.draw(data, rng) if rng is not None and distort.wanted(data) else None
    pose = draw_pose(data, rng) if rng is not None else None
    extremes = rng is not None and data.two_phases > 0 and rng.random() < data.two_phases
    seen: dict[int, View | None] = {}
    held: dict[int, np.ndarray | None] = {}
    for v, plane in enumerate(planes):
        if plane is None:
            continue
        series, s = plane
        cine_THW = schema.eight_bits(stacks[series][s], example["series/view"][series])
        indices = choose_phases(len(cine_THW), T)
        spacing = float(example["series/spacing_mm"][series])
        factor = data.spacing_mm / spacing if data.spacing_mm else cine_THW.shape[1] / size
        picked = cine_THW[(indices + int(roll * len(cine_THW))) % len(cine_THW)]
        if series not in seen:
            stack = schema.eight_bits(stacks[series], example["series/view"][series])
            view = seen[series] = view_of(stack, factor, factor * spacing, cut, data)
            if data.layout == "sectors" and view is not None:
                held[series] = held_phases(stack, view, T, extremes=extremes)
        view, phases_T = seen[series], held.get(series)
        if phases_T is not None:
            picked = cine_THW[phases_T]
        frames = fit(picked, cut, factor) if view is None else view(picked)
        if how is not None and rng is not None:
            frames = distort.shade(frames, how, rng)
        if data.layout == "sectors":
            # Pose and shift are part of where the sectors are read: one interpolation instead of two.
            shift = (0, 0)
            if rng is not None:
                frames, shift = draw_gain(frames, data, rng), draw_shift(data, rng)
            frames = window.sectors(frames, size, video.patch, data.spacing_mm, pose or window.AS_IT_IS, shift)
        elif rng is not None:
            frames = augment(frames, data, rng, pose)
        video_VTHW[v, : len(frames)] = frames
        mask_VT[v, : len(frames)] = True
        view_V[v] = schema.VIEWS.index(example["series/view"][series])
        slice_V[v] = s / max(len(stacks[series]) - 1, 1)
    return {"video_BVTHW": video_VTHW, "video_mask_BVT": mask_VT, "view_BV": view_V, "slice_BV": slice_V}


def text_id(tokens_L: np.ndarray) -> np.ndarray:
    """A number that is equal for equal texts: what the model is shown decides, so that two reports with the same
    impression are one another's positives where only impressions are read. 31 bits: within a batch a clash is all but
    impossible."""
    return np.array(zlib.crc32(tokens_L.tobytes()) & 0x7FFFFFFF, np.int32)
