"""The window on the beating heart, and the draws by which a study is shown differently."""

import dataclasses

import numpy as np
import pytest

from cmr_jax.config import DataConfig, VideoConfig
from cmr_jax.data import transforms, window

SPACING = 3.0
PLAIN = DataConfig(views=("cine_sax",), spacing_mm=SPACING, phase_roll=False, shift_px=0, intensity=0.0)


def beating(row: float, col: float, brightness: float = 100.0) -> np.ndarray:
    """A disc that beats at (row, col) pixels off the middle, beside a bright wall that stands still: `4 8 60 60`."""
    y, x = np.mgrid[:60, :60] - 29.5
    radius = 8 + 3 * np.cos(2 * np.pi * np.arange(8) / 8)
    disc = np.hypot(y - row, x - col) < radius[:, None, None]
    frames = np.where(disc, brightness, 10.0)
    frames[:, :, :4] = 255
    noise = np.random.default_rng(0).normal(0, 3, (4, *frames.shape))
    return np.clip(frames + noise, 0, 255).astype(np.uint8)


@pytest.mark.parametrize("at", [(0.0, 0.0), (9.0, -7.0), (-12.0, 5.0)])
def test_the_window_follows_what_beats(at):
    found = window.motion_centre(beating(*at), SPACING)
    np.testing.assert_allclose(found, at, atol=1.5)


def test_nothing_that_moves_leaves_the_window_in_the_middle():
    assert window.motion_centre(beating(9, 9)[:, :1], SPACING) == (0.0, 0.0)
    assert window.motion_centre(np.full((2, 5, 30, 30), 7, np.uint8), SPACING) == (0.0, 0.0)


def test_the_heart_has_the_same_levels_however_bright_it_was_stored():
    dark, bright = beating(0, 0, 60), beating(0, 0, 180)
    levels = [float(window.heart_levels(b, (0, 0), SPACING)[b[:, 0, 29, 29]].mean()) for b in (dark, bright)]
    assert abs(levels[0] - levels[1]) < 8 and levels[0] > 140


def example(stack_STHW: np.ndarray) -> dict:
    S, T = stack_STHW.shape[:2]
    return {
        "frames": stack_STHW.reshape(S * T, *stack_STHW.shape[2:]),
        "series/view": ["cine_sax"],
        "series/slices": np.array([S]),
        "series/phases": np.array([T]),
        "series/spacing_mm": np.array([SPACING], np.float32),
    }


def test_the_model_sees_the_heart_in_the_middle_wherever_it_lay():
    data = dataclasses.replace(PLAIN, centre="motion", brightness="heart")
    seen = [
        transforms.study_arrays(example(beating(*at)), data, VideoConfig(image_size=32, frames=8), None)
        for at in ((0, 0), (8, -6))
    ]
    a, b = (each["video_BVTHW"].astype(float) for each in seen)
    y, x = np.mgrid[:32, :32] - 15.5
    inside = np.hypot(y, x) < 14
    assert np.abs(a - b)[..., inside].mean() < 12


def test_a_window_beyond_the_picture_is_black():
    frames = np.random.default_rng(0).integers(1, 255, (3, 20, 20), dtype=np.uint8)
    np.testing.assert_array_equal(window.cut(frames, (0.0, 0.0), 10), frames[:, 5:15, 5:15])
    np.testing.assert_array_equal(window.cut(frames, (2.0, -3.0), 10), frames[:, 7:17, 2:12])
    over = window.cut(frames, (8.0, 0.0), 10)
    np.testing.assert_array_equal(over[:, :7], frames[:, 13:, 5:15])
    assert not over[:, 7:].any() and not window.cut(frames, (40.0, 0.0), 10).any()


def test_draws_differ_and_evaluation_does_not():
    data = dataclasses.replace(
        PLAIN, centre="motion", rotate_degrees=20.0, scale=0.1, gamma=0.3, shading=0.3, blur=0.5, noise=0.02
    )
    video, one = VideoConfig(image_size=32, frames=8), example(beating(3, 3))
    draws = [transforms.study_arrays(one, data, video, np.random.default_rng(s))["video_BVTHW"] for s in (0, 0, 1)]
    np.testing.assert_array_equal(draws[0], draws[1])
    assert np.abs(draws[0].astype(int) - draws[2]).mean() > 2
    plain = [transforms.study_arrays(one, data, video, None)["video_BVTHW"] for _ in range(2)]
    np.testing.assert_array_equal(plain[0], plain[1])
