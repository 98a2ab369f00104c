import jax.numpy as jnp
import numpy as np
import pytest

from cmr_jax.models.posemb import circle, turns


def test_the_last_phase_is_the_neighbour_of_the_first():
    table = np.asarray(circle(jnp.arange(20) / 20, 4))
    distance = np.linalg.norm(table[:, None] - table[None], axis=-1)
    np.testing.assert_allclose(distance[0, 19], distance[0, 1], rtol=1e-4)
    assert distance[0, 10] > distance[0, 1]


def test_the_features_are_sines_and_cosines_of_the_multiples():
    turn = np.array([0.0, 0.125, 0.7])
    want = [[f(2 * np.pi * k * t) for f in (np.sin, np.cos) for k in (1, 2, 3)] for t in turn]
    np.testing.assert_allclose(circle(jnp.asarray(turn, jnp.float32), 3), want, atol=1e-6)


@pytest.mark.parametrize("pad", [0, 1, 7])
def test_a_phase_has_its_place_by_the_clip_s_own_count_whatever_pads(pad: int):
    mask = np.zeros((2, 6 + pad), bool)
    mask[0, :6] = mask[1, :3] = True
    found = np.asarray(turns(jnp.asarray(mask)))
    np.testing.assert_allclose(found[0, :6], np.arange(6) / 6, atol=1e-7)
    np.testing.assert_allclose(found[1, :3], np.arange(3) / 3, atol=1e-7)


def test_a_clip_without_frames_has_finite_places():
    assert np.isfinite(turns(jnp.zeros((1, 4), bool))).all()
