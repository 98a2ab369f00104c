"""Hearts drawn flat: what the pictures show is what the truth says."""

import numpy as np
import pytest

from preprocessing.phantom.sketch import heart as hearts
from preprocessing.phantom.sketch import stack


def beats(count: int) -> list[hearts.Beat]:
    return [hearts.beat(hearts.draw(np.random.default_rng([3, i])), 20) for i in range(count)]


def test_the_beat_has_the_fraction_that_was_asked_for():
    off = [100 * (1 - b.volumes().min() / b.volumes().max() - b.heart.ef) for b in beats(60)]
    assert np.median(np.abs(off)) < 0.5 and np.percentile(np.abs(off), 90) < 4


def test_fractions_cover_the_whole_range_evenly():
    ef = [hearts.draw(np.random.default_rng([4, i])).ef for i in range(600)]
    share = np.histogram(ef, bins=4, range=(0.08, 0.78))[0] / 600
    assert min(ef) < 0.1 and max(ef) > 0.76 and np.abs(share - 0.25).max() < 0.06


def test_some_weak_hearts_move_at_the_base_alone():
    """As after an infarct of the anterior descending artery; never one that contracts well."""
    hearts_ = [hearts.draw(np.random.default_rng([4, i])) for i in range(600)]
    still = np.array([h.gradient < -0.8 for h in hearts_])
    weak = np.array([h.ef < 0.55 for h in hearts_])
    assert 0.05 < still[weak].mean() < 0.3 and not still[~weak].any()
    h = next(h for h, at_base in zip(hearts_, still, strict=True) if at_base and not h.akinesia)
    walls = hearts.Walls(hearts.beat(h, 20), np.linspace(0.0, 6.0, 24))
    base, apex = (walls.cavity(z, walls.relaxed(z)).mean(1) for z in (np.full((20, 1), 0.15), np.full((20, 1), 0.8)))
    assert np.ptp(base) / base.max() > 1.5 * np.ptp(apex) / apex.max()


def test_the_wall_keeps_its_mass():
    theta = (np.arange(48) + 0.5) / 48 * 2 * np.pi
    zeta = (np.arange(40)[None, :, None] + 0.5) / 40
    for b in beats(5):
        endo2, epi2 = hearts.Walls(b, theta).surfaces(zeta)
        mass = (epi2 - endo2).mean((1, 2)) * (1 - b.heart.shortening * b.now)
        assert np.ptp(mass) / mass.mean() < 0.02


def test_the_bright_area_of_a_slice_shrinks_as_the_cavity_does():
    found, told = [], []
    for i in range(40):
        rng = np.random.default_rng([5, i])
        heart = hearts.draw(rng)
        b = hearts.beat(heart, 10)
        how = stack.look(rng, heart, 6, 64)
        s = int(np.abs(how.places - 0.5 * heart.length).argmin())
        frames = stack.Painter(b, how).slice(s)
        line = (np.arange(64) - 31.5) * how.spacing
        near = np.hypot(line[:, None] - how.shift[s, 1], line - how.shift[s, 0]) < 0.9 * heart.radius
        area = (frames > 0.75)[:, near].mean(1)
        found.append(1 - area.min() / area.max())
        told.append(heart.ef)
    assert np.corrcoef(found, told)[0, 1] > 0.75


def test_a_stack_is_a_function_of_its_seed_and_lies_on_parallel_planes():
    a, b = (stack.draw_stack(np.random.default_rng(7), slices=6, phases=4, size=48) for _ in range(2))
    assert np.array_equal(a.frames, b.frames) and a.truth == b.truth
    assert a.frames.dtype == np.uint16 and a.frames.shape == (len(a.planes), 4, 48, 48)
    gaps = np.diff([p.origin @ a.planes[0].normal for p in a.planes])
    assert np.allclose(gaps, gaps[0]) and abs(gaps[0]) > 2
    assert all(np.isfinite(value) for value in a.truth.values() if not isinstance(value, str))


@pytest.mark.parametrize("enhanced", [False, True])
def test_the_study_is_written_with_its_truth(tmp_path, enhanced):
    from preprocessing.phantom import study
    from preprocessing.phantom.__main__ import generate

    settings = study.Settings(
        studies=2,
        seed=1,
        slices=4,
        phases=4,
        matrix=32,
        variety="sketch",
        enhanced=enhanced,
        patients_with_two_studies=0.0,
    )
    generate(tmp_path / "one", settings)
    generate(tmp_path / "two", settings)
    truth = (tmp_path / "one" / "truth.csv").read_text()
    assert truth == (tmp_path / "two" / "truth.csv").read_text() and "lvef" in truth
    files = sorted(p.relative_to(tmp_path / "one") for p in (tmp_path / "one" / "dicom").rglob("*.dcm"))
    assert len(files) == (2 if enhanced else 32)
    assert all((tmp_path / "one" / f).read_bytes() == (tmp_path / "two" / f).read_bytes() for f in files)


def _stack(seed: int, *without: str) -> stack.Stack:
    return stack.draw_stack(np.random.default_rng([8, seed]), slices=8, phases=4, size=48, without=without)


@pytest.mark.parametrize("part", stack.PARTS)
def test_a_part_left_out_changes_the_pictures_and_no_other_heart(part: str):
    """The same asked fraction, size and greys: what differs between two phantoms is the part alone."""
    whole, less = _stack(2), _stack(2, part)
    assert whole.frames.shape == less.frames.shape and not np.array_equal(whole.frames, less.frames)
    if part == "regions":
        assert abs(float(whole.truth["lvef"]) - float(less.truth["lvef"])) < 5
    else:
        assert whole.truth == less.truth


def test_without_reach_every_slice_lies_within_the_ventricle():
    def places(seed: int, *without: str) -> np.ndarray:
        rng = np.random.default_rng([9, seed])
        heart = hearts.draw(rng)
        return stack.look(rng, heart, 8, 48, without=without).places / heart.length

    within = np.concatenate([places(seed, "reach") for seed in range(40)])
    anywhere = np.concatenate([places(seed) for seed in range(40)])
    assert within.min() > 0 and within.max() < 0.91
    assert anywhere.min() < -0.1 and anywhere.max() > 1.0


def test_without_trabeculae_the_cavity_is_blood_alone():
    for seed in range(20):
        heart = hearts.draw(np.random.default_rng([3, seed]))
        plain = hearts.simplified(heart, ("trabeculae",))
        assert plain.trabeculae == 0 and len(plain.papillary) == len(plain.rough) == 0
        assert plain.ef == heart.ef and plain.wall == heart.wall
