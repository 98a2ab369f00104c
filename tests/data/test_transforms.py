import itertools

import numpy as np
import pytest
from scipy import ndimage

from cmr_jax.config import DataConfig, VideoConfig
from cmr_jax.data import schema, transforms
from cmr_jax.errors import InputError


def _example(*series: tuple[str, int, int], size: int = 8) -> dict:
    """(view, slices, phases) a series; the pixels of slice s, phase t of series r are 100 r + 20 s + t."""
    frames = [
        np.full((1, size, size), 100 * r + 20 * s + t, np.uint8)
        for r, (_, slices, phases) in enumerate(series)
        for s in range(slices)
        for t in range(phases)
    ]
    return {
        "frames": np.concatenate(frames),
        "series/view": [view for view, _, _ in series],
        "series/slices": np.array([s for _, s, _ in series]),
        "series/phases": np.array([t for _, _, t in series]),
        "series/spacing_mm": np.ones(len(series), np.float32),
    }


def _shown(frames: np.ndarray, config: DataConfig, seed: int) -> np.ndarray:
    """As training shows a cine of a study."""
    rng = np.random.default_rng(seed)
    return transforms.augment(frames, config, rng, transforms.draw_pose(config, rng))


def test_slices_are_spread_over_the_stack_and_views_kept_apart():
    example = _example(("cine_4ch", 1, 4), ("cine_sax", 7, 4))
    planes = transforms.choose_planes(example, ("cine_sax", "cine_sax", "cine_sax", "cine_4ch", "cine_2ch"), (), None)
    assert planes == [(1, 1), (1, 3), (1, 5), (0, 0), None]


def test_a_random_draw_stays_in_its_third():
    example = _example(("cine_sax", 9, 1))
    drawn = [
        transforms.choose_planes(example, ("cine_sax",) * 3, (), np.random.default_rng(seed)) for seed in range(200)
    ]
    for part in range(3):
        slices = {plane[1] for planes in drawn if (plane := planes[part])}
        assert slices == set(range(3 * part, 3 * part + 3))


def test_a_study_of_scouts_is_shown_by_them():
    example = _example(("scout", 2, 1), ("unknown", 1, 1))
    assert transforms.choose_planes(example, ("cine_sax",) * 4, ("scout", "unknown"), None) == [
        (0, 0), (0, 1), (1, 0), None,
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("phases", "frames", "want"), [(20, 10, range(0, 20, 2)), (25, 5, (0, 5, 10, 15, 20)), (3, 8, range(3))]
)
def test_phases_are_evenly_spaced_and_never_copied(phases: int, frames: int, want):
    assert list(transforms.choose_phases(phases, frames)) == list(want)


def test_arrays_of_a_study_hold_the_right_frames():
    example = _example(("cine_sax", 3, 4), ("cine_4ch", 1, 2))
    data = DataConfig(views=("cine_sax", "cine_4ch"))
    out = transforms.study_arrays(example, data, VideoConfig(image_size=8, patch=8, frames=4), None)
    assert out["video_BVTHW"][0, :, 0, 0].tolist() == [20, 21, 22, 23]
    assert out["video_BVTHW"][1, :, 0, 0].tolist() == [100, 101, 0, 0]
    assert out["video_mask_BVT"].tolist() == [[True] * 4, [True, True, False, False]]
    assert out["view_BV"].tolist() == [schema.VIEWS.index("cine_sax"), schema.VIEWS.index("cine_4ch")]
    assert out["slice_BV"].tolist() == [0.5, 0.0]


def test_a_training_draw_rolls_all_series_of_a_heartbeat_together():
    example = _example(("cine_sax", 1, 4), ("cine_4ch", 1, 4))
    data = DataConfig(views=("cine_sax", "cine_4ch"), shift_px=0, intensity=0.0)
    starts = set()
    for seed in range(40):
        video = transforms.study_arrays(
            example, data, VideoConfig(image_size=8, patch=8, frames=4), np.random.default_rng(seed)
        )["video_BVTHW"][:, :, 0, 0].astype(int)
        assert (video[1] - 100 == video[0]).all()
        assert ((np.diff(video[0]) % 4) == 1).all()
        starts.add(int(video[0, 0]))
    assert starts == {0, 1, 2, 3}


def test_larger_records_are_averaged_down_and_parts_of_pixels_refused():
    frames = np.array([[[0, 10], [20, 31]]], np.uint8)
    assert transforms.fit(frames, 1, 2.0).tolist() == [[[15]]]
    with pytest.raises(InputError, match=r"averaged down 2\.66667 times"):
        transforms.fit(np.zeros((1, 8, 8), np.uint8), 3, 8 / 3)


@pytest.mark.parametrize(("size", "want"), [(2, [5, 6]), (3, [4, 5]), (6, [0, 0])])
def test_cut_and_padded_about_the_centre(size: int, want: list[int]):
    frames = np.arange(16, dtype=np.uint8).reshape(1, 4, 4)
    out = transforms.fit(frames, size, 1.0)
    assert out.shape == (1, size, size)
    assert out[0, {2: 0, 3: 1, 6: 0}[size], :2].tolist() == want
    if size == 6:
        np.testing.assert_array_equal(out[0, 1:5, 1:5], frames[0])


def test_a_heart_keeps_its_size_in_millimetres():
    """The same object recorded at 1.5 mm and at 3 mm a pixel is the same picture at 3 mm."""
    data, video = (
        DataConfig(views=("cine_sax",), spacing_mm=3.0),
        VideoConfig(image_size=8, patch=8, frames=1, tubelet=1),
    )
    pictures = []
    for spacing, size in ((1.5, 32), (3.0, 16)):
        example = _example(("cine_sax", 1, 1), size=size)
        place = (np.arange(size) - size / 2 + 0.5) * spacing
        heart = 200 * np.exp(-(place[:, None] ** 2 + place[None, :] ** 2) / 8.0**2)
        example |= {"frames": heart[None].astype(np.uint8), "series/spacing_mm": np.array([spacing])}
        pictures.append(transforms.study_arrays(example, data, video, None)["video_BVTHW"][0, 0].astype(int))
    assert pictures[0].max() > 100
    assert np.abs(pictures[0] - pictures[1]).max() < 12


def test_augmentation_moves_all_frames_alike_and_never_mirrors():
    frames = np.zeros((2, 16, 16), np.uint8)
    frames[:, 4, 5], frames[:, 4, 10] = 100, 200
    for seed in range(20):
        out = _shown(frames, DataConfig(shift_px=2), seed)
        np.testing.assert_array_equal(out[0], out[1])
        (dim,), (bright,) = (np.argwhere((out[0] > lo) & (out[0] <= hi)) for lo, hi in ((50, 125), (160, 255)))
        assert (bright - dim).tolist() == [0, 5]
        assert np.abs(dim - [4, 5]).max() <= 2


def test_text_id_follows_the_tokens():
    one, same, other = (transforms.text_id(np.array(t, np.int32)) for t in ([1, 2], [1, 2], [2, 1]))
    assert one == same != other


def test_a_hidden_view_is_as_if_it_never_was():
    example = _example(("cine_sax", 2, 4), ("cine_4ch", 1, 4))
    hidden = transforms.hide_views(example, ("cine_sax",))
    assert transforms.choose_planes(hidden, ("cine_sax", "cine_4ch"), (), None) == [None, (1, 0)]
    assert transforms.choose_planes(hidden, ("cine_2ch",), ("cine_sax",), None) == [None]
    assert example["series/view"] == ["cine_sax", "cine_4ch"]


def test_views_are_hidden_at_their_rate_one_by_one_and_never_all():
    example = _example(("cine_sax", 1, 1), ("cine_2ch", 1, 1), ("cine_4ch", 1, 1))
    views = ("cine_sax", "cine_sax", "cine_2ch", "cine_4ch", "lge_sax")
    drawn = [transforms.draw_hidden_views(example, views, 0.4, np.random.default_rng(seed)) for seed in range(500)]
    assert {len(hidden) for hidden in drawn} == {0, 1, 2}
    assert set().union(*drawn) == {"cine_sax", "cine_2ch", "cine_4ch"}
    # Each with 0.4, but for a third of the 0.4^3 draws of all three.
    for view in ("cine_sax", "cine_2ch", "cine_4ch"):
        assert abs(np.mean([view in hidden for hidden in drawn]) - (0.4 - 0.4**3 / 3)) < 0.07
    alone = _example(("cine_2ch", 1, 1))
    assert transforms.draw_hidden_views(alone, views, 0.99, np.random.default_rng(0)) == frozenset()
    assert transforms.draw_hidden_views(alone, ("cine_sax",), 0.99, np.random.default_rng(0)) == frozenset()


def test_frames_of_sixteen_bits_are_fed_as_eight_and_maps_by_their_step():
    example = _example(("lge_sax", 2, 1), ("t1_map", 1, 1))
    example["frames"] = np.array([0, 32896, 13000], np.uint16)[:, None, None] * np.ones((1, 8, 8), np.uint16)
    data = DataConfig(views=("lge_sax", "lge_sax", "t1_map"))
    out = transforms.study_arrays(example, data, VideoConfig(image_size=8, patch=8, frames=1), None)
    # Half of 65,535 is half of 255; 1,300.0 ms stored by 0.1 ms are 130 steps of 10 ms.
    assert out["video_BVTHW"][:, 0, 0, 0].tolist() == [0, 128, 130]
    assert out["view_BV"].tolist() == [schema.VIEWS.index(view) for view in data.views]


def test_a_view_that_the_model_never_reads_is_not_the_one_that_stays():
    example = _example(("cine_sax", 1, 1), ("scout", 1, 1))
    for seed in range(20):
        hidden = transforms.draw_hidden_views(example, ("cine_sax",), 0.99, np.random.default_rng(seed))
        assert hidden == frozenset()


def _smooth(size: int = 40) -> np.ndarray:
    """Two frames without edges, dark towards their border."""
    y, x = np.mgrid[:size, :size] / (size - 1) * 2 - 1
    bowl = np.clip(1 - y**2 - x**2, 0, 1)
    return np.stack([255 * bowl * (0.5 + 0.5 * np.sin(3 * y + x)), 200 * bowl**2]).astype(np.uint8)


def test_a_warp_by_whole_steps_is_exact():
    frames = np.random.default_rng(0).integers(0, 256, (3, 12, 12), np.uint8)
    np.testing.assert_array_equal(transforms.warp(frames, 0.0, 1.0, (0, 0)), frames)
    np.testing.assert_array_equal(transforms.warp(frames, 90.0, 1.0, (0, 0)), np.rot90(frames, axes=(1, 2)))
    moved = transforms.warp(frames, 0.0, 1.0, (2, -1))
    np.testing.assert_array_equal(moved[:, 2:, :-1], frames[:, :-2, 1:])
    assert not moved[:, :2].any() and not moved[:, :, -1].any()
    assert (transforms.warp(np.full((1, 12, 12), 255, np.uint8), 7.0, 1.3, (0, 0)) == 255).all()


@pytest.mark.parametrize(("degrees", "scale"), [(10.0, 1.0), (-25.0, 1.1), (3.0, 0.8)])
def test_a_warp_is_that_of_a_general_resampling(degrees: float, scale: float):
    frames = _smooth()
    c, s = np.cos(np.radians(degrees)) / scale, np.sin(np.radians(degrees)) / scale
    matrix, centre = np.array([[c, s], [-s, c]]), np.full(2, 19.5)
    found = transforms.warp(frames, degrees, scale, (1, 2)).astype(float)
    for ours, frame in zip(found, frames.astype(float), strict=True):
        offset = centre - matrix @ (centre + np.array([1, 2]))
        theirs = ndimage.affine_transform(frame, matrix, offset, order=1)  # type: ignore[arg-type]
        assert np.abs(ours - theirs).max() < 3  # a sixteenth of a pixel of the steepest slope, and rounding
    back = transforms.warp(transforms.warp(frames, degrees, scale, (0, 0)), -degrees, 1 / scale, (0, 0))
    assert np.abs(back.astype(float) - frames)[:, 10:30, 10:30].mean() < 2


def test_turn_and_scale_stay_in_their_range_and_are_one_for_all_frames():
    y, x = np.mgrid[:41, :41] - 20
    spot = np.where((y - 0) ** 2 + (x - 10) ** 2 <= 9, 255, 0).astype(np.uint8)  # ten pixels to the right of the middle
    config = DataConfig(shift_px=0, intensity=0.0, rotate_degrees=20.0, scale=0.25)
    angles, radii = [], []
    for seed in range(60):
        frames = _shown(np.stack([spot, spot]), config, seed)
        np.testing.assert_array_equal(frames[0], frames[1])
        weight = frames[0] / frames[0].sum()
        down, right = (weight * y).sum(), (weight * x).sum()
        angles.append(np.degrees(np.arctan2(-down, right)))
        radii.append(np.hypot(down, right) / 10)
    assert -20.5 < min(angles) < -15 and 15 < max(angles) < 20.5
    assert 0.79 < min(radii) < 0.85 and 1.18 < max(radii) < 1.26
    with_none = DataConfig(shift_px=0, intensity=0.0)
    np.testing.assert_array_equal(_shown(spot[None], with_none, 0), spot[None])


def test_no_default_mirrors():
    """A heart and its mirror image are two hearts: no draw of any augmentation makes one of the other."""
    frames = np.zeros((1, 41, 41), np.uint8)
    frames[:, 10:31, 10:13] = 255  # an F, whose mirror image no turn makes
    frames[:, 10:13, 10:26] = 255
    frames[:, 19:22, 10:20] = 255
    config = DataConfig(shift_px=2, intensity=0.1, rotate_degrees=15.0, scale=0.1)

    def likeness(a: np.ndarray, b: np.ndarray) -> float:
        return float(np.corrcoef(ndimage.gaussian_filter(a.astype(float), 2).ravel(),
                                 ndimage.gaussian_filter(b.astype(float), 2).ravel())[0, 1])  # fmt: skip

    for seed in range(40):
        (made,) = _shown(frames, config, seed)
        assert likeness(made, frames[0]) > likeness(made, frames[0, :, ::-1]), seed


def test_all_slices_of_a_study_are_shown_in_one_pose():
    """Turned and scaled alike, for they are of one heart: else the volume of a stack would be another one."""
    y, x = np.mgrid[:41, :41] - 20
    spot = np.where((y - 0) ** 2 + (x - 10) ** 2 <= 9, 255, 0).astype(np.uint8)
    example = _example(("cine_sax", 3, 2), size=41)
    example["frames"] = np.stack([spot] * 6)
    data = DataConfig(views=("cine_sax",) * 3, shift_px=0, intensity=0.0, rotate_degrees=20.0, scale=0.25)
    shown = []
    for seed in range(5):
        rng = np.random.default_rng(seed)
        out = transforms.study_arrays(example, data, VideoConfig(image_size=41, patch=41, frames=2), rng)
        first, *others = out["video_BVTHW"]
        for other in others:
            np.testing.assert_array_equal(other, first)
        shown.append(first)
    assert not any(np.array_equal(a, b) for a, b in itertools.pairwise(shown))
