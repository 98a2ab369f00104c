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


def ventricles(row: float, col: float) -> np.ndarray:
    """A left ventricle at (row, col) pixels off the middle, its wall, and a right ventricle beside it that beats more:
    `4 8 72 72`."""
    y, x = np.mgrid[:72, :72] - 35.5
    beat = np.cos(2 * np.pi * np.arange(8) / 8)[:, None, None]
    left = np.hypot(y - row, x - col)
    frames = np.full((8, 72, 72), 15.0)
    frames[np.hypot(y - row, x - col + 12) < 9 + 3 * beat] = 200.0
    frames[np.broadcast_to(left < 13, frames.shape)] = 60.0
    frames[left < 8 + beat] = 170.0
    noise = np.random.default_rng(0).normal(0, 3, (4, *frames.shape))
    return np.clip(frames + noise, 0, 255).astype(np.uint8)


@pytest.mark.parametrize("at", [(0.0, 0.0), (7.0, 10.0), (-12.0, 5.0)])
def test_the_ring_is_that_of_the_left_ventricle_although_the_right_one_moves_more(at):
    np.testing.assert_allclose(window.ring_centre(ventricles(*at), SPACING), at, atol=2.0)
    assert np.hypot(*(np.array(window.motion_centre(ventricles(*at), SPACING)) - at)) > 4


def test_no_ring_leaves_the_window_in_the_middle():
    assert window.ring_centre(np.full((2, 5, 40, 40), 7, np.uint8), SPACING) == (0.0, 0.0)
    assert all(np.isfinite(window.ring_centre(np.zeros((1, 1, 8, 8), np.uint8), SPACING)))


def test_a_centre_is_searched_for_once(monkeypatch):
    stack, calls = ventricles(2, 2), []
    monkeypatch.setattr(window, "ring_centre", lambda *_: calls.append(0) or (1.0, 2.0))
    assert [window.found_once("ring", "record", stack, 2.9) for _ in range(3)] == [((1.0, 2.0), None)] * 3
    assert len(calls) == 1 and window.found_once("image", "record", stack, 2.9) == ((0.0, 0.0), None)
    centre, levels = window.found_once("ring", "heart", stack, 2.9)
    assert centre == (1.0, 2.0) and levels is not None
    np.testing.assert_array_equal(levels, window.heart_levels(stack, centre, 2.9))
    other = window.found_once("ring", "heart", 255 - stack, 2.9)[1]
    assert other is not None and (other != levels).any()


@pytest.mark.parametrize("shift", [(0, 0), (2, -1)])
@pytest.mark.parametrize("pose", [(0.0, 1.0), (25.0, 1.15), (-70.0, 0.8)])
def test_sectors_in_a_pose_are_those_of_the_warped_window(pose: tuple[float, float], shift: tuple[int, int]):
    y, x = np.mgrid[:42, :42] - 20.5
    smooth = 128 + 60 * np.sin(0.3 * x + 0.1 * y) + 50 * np.cos(0.25 * y) * (np.hypot(x, y) < 18)
    frames = np.stack([smooth, smooth.T]).astype(np.uint8)
    found = window.sectors(frames, 32, 8, SPACING, pose, shift).astype(float)
    wanted = window.sectors(transforms.warp(frames, *pose, shift), 32, 8, SPACING).astype(float)
    assert np.abs(found - wanted).mean() < 2
    assert np.abs(found - window.sectors(frames, 32, 8, SPACING)).mean() > 4 or (pose, shift) == ((0.0, 1.0), (0, 0))


def test_a_patch_is_a_sector_from_the_centre_outwards():
    size, patch = 32, 8
    n = window.sector_window(SPACING)
    y, x = np.mgrid[:n, :n] - (n - 1) / 2
    by_radius = np.clip(4 * np.hypot(y, x), 0, 255).astype(np.uint8)[None]
    to_the_right = np.where(x > 0, 200, 0).astype(np.uint8)[None]

    def tokens(picture: np.ndarray) -> np.ndarray:
        seen = window.sectors(picture, size, patch, SPACING)[0].astype(float)
        return seen.reshape(4, patch, 4, patch).transpose(0, 2, 1, 3).reshape(16, patch * patch)

    profile = tokens(by_radius)
    assert np.abs(profile - profile.mean(0)).max() < 8 and (np.diff(profile.mean(0)[::2]) > 0).all()
    bright = tokens(to_the_right).mean(1) > 100
    assert bright.tolist() == [*[True] * 4, *[False] * 8, *[True] * 4]


def test_sectors_are_shown_instead_of_the_picture():
    data = dataclasses.replace(PLAIN, centre="ring", layout="sectors", brightness="heart")
    video = VideoConfig(image_size=32, frames=8, patch=8)
    seen = [transforms.study_arrays(example(ventricles(*at)), data, video, None) for at in ((0, 0), (9, -6))]
    a, b = (each["video_BVTHW"].astype(float) for each in seen)
    assert a.shape == (1, 8, 32, 32) and np.abs(a - b).mean() < 12


def test_a_cine_of_two_phases_is_held_and_begins_with_the_fuller_one():
    data = dataclasses.replace(PLAIN, centre="ring", layout="sectors", brightness="heart")
    video = VideoConfig(image_size=32, frames=10, patch=8)
    stack = ventricles(0, 0)[:, [4, 0]]  # the end of systole first
    seen = transforms.study_arrays(example(stack), data, video, None)
    level = seen["video_BVTHW"][0].astype(float).mean((1, 2))
    assert seen["video_mask_BVT"].all()
    assert (level[[0, 1, 2, 8, 9]] > level[3:8].max() + 2).all()


def test_training_may_show_a_whole_cine_by_its_two_ends():
    data = dataclasses.replace(PLAIN, centre="ring", layout="sectors", brightness="heart")
    video = VideoConfig(image_size=32, frames=8, patch=8)
    stack = ventricles(0, 0)

    def shown(of: np.ndarray, two_phases: float, rng: np.random.Generator | None) -> np.ndarray:
        config = dataclasses.replace(data, two_phases=two_phases)
        return transforms.study_arrays(example(of), config, video, rng)["video_BVTHW"]

    # The fullest and the emptiest phase of `ventricles`, as a scanner's archive would keep them.
    blood_T = stack.mean((0, 2, 3))
    kept = shown(stack[:, [int(blood_T.argmax()), int(blood_T.argmin())]], 0.0, np.random.default_rng(0))
    np.testing.assert_array_equal(shown(stack, 1.0, np.random.default_rng(0)), kept)
    np.testing.assert_array_equal(shown(stack, 1.0, None), shown(stack, 0.0, None))  # evaluation shows what is there
    assert (kept != shown(stack, 0.0, np.random.default_rng(0))).any()
