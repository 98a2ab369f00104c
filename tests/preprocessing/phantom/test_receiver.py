import numpy as np
import scipy.stats

from preprocessing.phantom import receiver


def test_deviates_are_normal_and_of_the_seed_alone() -> None:
    drawn = receiver.normals(np.random.default_rng(3), (250, 401), 2.0)
    assert drawn.dtype == np.float32
    assert scipy.stats.kstest(drawn.ravel() / 2.0, "norm").pvalue > 0.01
    assert np.isclose(drawn.std(), 2.0, rtol=0.01)
    # Neighbours come out of the same 64 bits: they must not know of each other.
    for lag in (1, 2, 3, 4, 5):
        assert abs(np.corrcoef(drawn.ravel()[:-lag], drawn.ravel()[lag:])[0, 1]) < 0.012
    assert np.array_equal(drawn, receiver.normals(np.random.default_rng(3), (250, 401), 2.0))
    assert not np.array_equal(drawn, receiver.normals(np.random.default_rng(4), (250, 401), 2.0))


def test_a_magnitude_is_rician() -> None:
    frames = np.repeat(np.array([0.0, 60.0, 1000.0], np.float32)[:, None, None], 300, 1).repeat(300, 2)
    kept = receiver.stored(np.random.default_rng(0), frames, 30.0).astype(float)
    for values, signal in zip(kept, (0.0, 60.0, 1000.0), strict=True):
        expected = scipy.stats.rice(signal / 30.0, scale=30.0)
        assert abs(values.mean() - expected.mean()) < 0.5
        assert abs(values.std() - expected.std()) < 0.5


def test_twelve_bits_are_kept() -> None:
    kept = receiver.stored(np.random.default_rng(0), np.full((1, 32, 32), 6000.0, np.float32), 5.0)
    assert kept.dtype == np.uint16 and (kept == receiver.LARGEST).all()


def test_each_frame_has_noise_of_its_own() -> None:
    kept = receiver.stored(np.random.default_rng(0), np.full((4, 64, 64), 500.0, np.float32), 20.0).astype(float)
    assert np.abs(np.corrcoef(kept.reshape(4, -1)) - np.eye(4)).max() < 0.06
