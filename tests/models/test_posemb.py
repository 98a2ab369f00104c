import numpy as np

from cmr_jax.models.posemb import phase_circle


def test_the_last_phase_is_the_neighbour_of_the_first():
    table = np.asarray(phase_circle(20, 4))
    distance = np.linalg.norm(table[:, None] - table[None], axis=-1)
    np.testing.assert_allclose(distance[0, 19], distance[0, 1], rtol=1e-5)
    assert distance[0, 10] > distance[0, 1]


def test_half_the_phases_stand_at_the_same_angles():
    np.testing.assert_allclose(phase_circle(10, 4), np.asarray(phase_circle(20, 4))[::2], atol=1e-6)
