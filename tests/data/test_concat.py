"""The clip of all views: places, middles, segments, and what stands in for what is not there."""

import itertools

import numpy as np
import pytest

from cmr_jax.config import DataConfig, VideoConfig
from cmr_jax.data import concat

VIEWS = ("cine_lax", "cine_sax", "lge_sax", "lge_lax", "lge_2ch", "lge_3ch")
FULL = {"cine_sax": (10, 25), "cine_lax": (3, 30), "lge_sax": (11, 1), "lge_lax": (3, 1), "lge_2ch": (1, 1),
        "lge_3ch": (1, 1)}  # fmt: skip


def _study(series: dict[str, tuple[int, int]], size: int = 8) -> dict:
    """Every frame is filled with its own number, 1 and up."""
    counts = [slices * phases for slices, phases in series.values()]
    frames = np.arange(1, sum(counts) + 1)
    return {
        "series/view": list(series),
        "series/slices": np.array([s for s, _ in series.values()]),
        "series/phases": np.array([p for _, p in series.values()]),
        "series/spacing_mm": np.full(len(series), 1.0, np.float32),
        "frames": np.broadcast_to((frames % 250 + 1)[:, None, None], (sum(counts), size, size)).astype(np.uint8),
    }


def test_the_row_is_the_recipes():
    """30 + 30 cine frames of the middle slices, N LGE slices, each further LGE view N times."""
    row = concat.row_of_frames(_study(FULL), VIEWS)
    assert len(row) == 30 + 30 + 11 * 4
    assert row[:30] == [(1, 1, t) for t in range(30)]
    assert row[30:60] == [(0, 5, t * 25 // 30) for t in range(30)] and row[59] == (0, 5, 24)
    assert row[60:71] == [(2, s, 0) for s in range(11)]
    assert row[71:] == [(3, 1, 0)] * 11 + [(4, 0, 0)] * 11 + [(5, 0, 0)] * 11


def test_a_missing_view_leaves_the_others_in_their_place():
    whole = concat.row_of_frames(_study(FULL), VIEWS)
    fewer = _study({name: shape for name, shape in FULL.items() if name not in ("cine_lax", "lge_2ch")})
    row = concat.row_of_frames(fewer, VIEWS)
    assert [place is None for place in row] == [place[0] in (1, 4) for place in whole if place]
    no_stack = concat.row_of_frames(_study({"cine_sax": (10, 25), "lge_2ch": (1, 1)}), VIEWS)
    assert len(no_stack) == 60 + 4 * concat.LGE_SLICES


def test_a_four_chamber_view_stands_in_for_a_long_axis_without_a_name():
    row = concat.row_of_frames(_study({"cine_2ch": (1, 20), "cine_4ch": (1, 20), "cine_sax": (4, 20)}), VIEWS)
    assert row[0] == (1, 0, 0)


@pytest.mark.parametrize(("length", "frames"), [(104, 64), (64, 64), (100, 7)])
def test_one_frame_a_segment(length: int, frames: int):
    edges = np.linspace(0, length, frames + 1).astype(int)
    middle = concat.draw(length, frames, None)
    assert (middle == (edges[:-1] + edges[1:] - 1) // 2).all()
    seen = [set() for _ in range(frames)]
    rng = np.random.default_rng(0)
    for _ in range(400):
        for segment, index in enumerate(concat.draw(length, frames, rng)):
            seen[segment].add(int(index))
    # Every place of every segment, its last one too, which the released code never draws.
    assert seen == [set(range(lo, hi)) for lo, hi in itertools.pairwise(edges)]
    assert (concat.draw(5, 8, rng) == np.arange(5)).all()


def test_pixels_stand_where_the_row_says():
    study, data, video = _study(FULL), DataConfig(views=VIEWS), VideoConfig(image_size=8, frames=64, tubelet=1, patch=8)
    out = concat.study_arrays(study, data, video, None)
    assert out["video_BVTHW"].shape == (1, 64, 8, 8) and out["video_mask_BVT"].all()
    row = concat.row_of_frames(study, VIEWS)
    starts = np.concatenate([[0], np.cumsum(study["series/slices"] * study["series/phases"])])
    for t, index in enumerate(concat.draw(len(row), 64, None)):
        series, s, phase = row[index]
        number = starts[series] + s * study["series/phases"][series] + phase + 1
        assert (out["video_BVTHW"][0, t] == number % 250 + 1).all()


def test_black_frames_stay_black_in_training_and_draws_follow_the_generator():
    study = _study({"cine_sax": (10, 25)})
    data, video = DataConfig(views=VIEWS), VideoConfig(image_size=8, frames=16, tubelet=1, patch=8)
    one, same, other = (concat.study_arrays(study, data, video, np.random.default_rng(s)) for s in (1, 1, 2))
    clip, mask = one["video_BVTHW"][0], one["video_mask_BVT"][0]
    assert 0 < mask.sum() < 16 and not clip[~mask].any() and (clip[mask].max(axis=(1, 2)) > 0).all()
    np.testing.assert_array_equal(clip, same["video_BVTHW"][0])
    assert (clip != other["video_BVTHW"][0]).any()


def test_a_study_with_none_of_the_views_is_shown_by_the_fallback():
    study = _study({"unknown": (3, 4)})
    out = concat.study_arrays(study, DataConfig(views=VIEWS), VideoConfig(image_size=8, frames=8, tubelet=1), None)
    assert out["video_mask_BVT"].sum() > 0
