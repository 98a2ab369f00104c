"""All views of a study in one clip, as CMR-CLIP is fed (field recipe: 10.1038/s41467-026-73022-2, released code).

A cine gives the middle slice of its stack as 30 frames; the short-axis LGE stack gives all its N slices, one frame
each; every other LGE view gives its middle slice N times over. The views stand one after the other in the order of
`data.views`, and the model's frames are drawn one from each of as many equal segments of that row.

The released code leaves out studies that lack a view. Here a missing view is black in its place, so that the others
keep theirs: the model knows a view by nothing else.
"""

import numpy as np

from cmr_jax.config import DataConfig, VideoConfig
from cmr_jax.data import schema, transforms
from cmr_jax.data.records import Example

CINE_FRAMES = 30
# N of a study without an LGE stack: the middle of the recipe's 10 to 15.
LGE_SLICES = 12
# What a long-axis view that has no series of that very name is shown by, in this order.
STAND_INS = {
    "cine_lax": ("cine_lax", "cine_4ch", "cine_2ch", "cine_3ch"),
    "lge_lax": ("lge_lax", "lge_4ch", "lge_2ch", "lge_3ch"),
}

# (series, slice, phase) of a frame, None where it is black.
Place = tuple[int, int, int] | None


def row_of_frames(example: Example, views: tuple[str, ...]) -> list[Place]:
    """Every frame of the clip before any is drawn."""
    stack = _series(example, "lge_sax")
    slices = LGE_SLICES if stack is None else int(example["series/slices"][stack])
    row: list[Place] = []
    for view in views:
        series, count = _series(example, view), slices if view.startswith("lge_") else CINE_FRAMES
        if series is None:
            row += [None] * count
            continue
        depth, phases = int(example["series/slices"][series]), int(example["series/phases"][series])
        if view == "lge_sax":
            row += [(series, s, 0) for s in range(depth)]
        elif view.startswith("lge_"):
            row += [(series, depth // 2, 0)] * count
        else:
            row += [(series, depth // 2, t * phases // CINE_FRAMES) for t in range(CINE_FRAMES)]
    return row


def usable_views(views: tuple[str, ...]) -> frozenset[str]:
    """The views whose series `row_of_frames` may take for `views`."""
    return frozenset(name for view in views for name in STAND_INS.get(view, (view,)))


def _series(example: Example, view: str) -> int | None:
    """The first series of `view`, or of what stands in for it."""
    have = list(example["series/view"])
    return next((have.index(name) for name in STAND_INS.get(view, (view,)) if name in have), None)


def draw(length: int, frames: int, rng: np.random.Generator | None) -> np.ndarray:
    """One index from each of `frames` equal segments of `length` places: random, or the midpoint without a generator;
    all of them where they are fewer. (The released code's random draw never takes the last place of a segment.)"""
    if length <= frames:
        return np.arange(length)
    edges = np.linspace(0, length, frames + 1).astype(int)
    if rng is None:
        return (edges[:-1] + edges[1:] - 1) // 2
    return rng.integers(edges[:-1], edges[1:])


def study_arrays(
    example: Example, data: DataConfig, video: VideoConfig, rng: np.random.Generator | None
) -> dict[str, np.ndarray]:
    """As `transforms.study_arrays`, with one series whose frames are the clip. The mask is False on black frames; the
    view is none of the study's."""
    size = video.image_size
    row = row_of_frames(example, data.views)
    if not any(row):
        row = row_of_frames(example, tuple(data.fallback_views))
    chosen = [row[i] for i in draw(len(row), video.frames, rng)]
    out_THW = np.zeros((video.frames, size, size), np.uint8)
    mask_T = np.zeros(video.frames, bool)
    stacks = schema.split_series(example)
    for series in sorted({place[0] for place in chosen if place}):
        where = [t for t, place in enumerate(chosen) if place and place[0] == series]
        frames_THW = np.stack([stacks[series][chosen[t][1], chosen[t][2]] for t in where])  # type: ignore[index]
        spacing = float(example["series/spacing_mm"][series])
        factor = data.spacing_mm / spacing if data.spacing_mm else frames_THW.shape[1] / size
        frames_THW = schema.eight_bits(frames_THW, example["series/view"][series])
        out_THW[where] = transforms.fit(frames_THW, size, factor)
        mask_T[where] = True
    if rng is not None:  # one shift and gain for the whole clip, black frames stay black
        shown_THW = transforms.augment(out_THW, data, rng, transforms.draw_pose(data, rng))
        out_THW = np.where(mask_T[:, None, None], shown_THW, np.uint8(0))
    return {
        "video_BVTHW": out_THW[None],
        "video_mask_BVT": mask_T[None],
        "view_BV": np.zeros(1, np.int32),
        "slice_BV": np.zeros(1, np.float32),
    }
