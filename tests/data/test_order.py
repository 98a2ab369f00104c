import numpy as np

from cmr_jax.data import order


def test_an_epoch_is_a_permutation_and_the_next_is_another():
    plan = order.Order(10, seed=3)
    first, second = plan.batch(0, 10), plan.batch(1, 10)
    assert sorted(first) == sorted(second) == list(range(10))
    assert list(first) != list(second)


def test_the_order_is_a_function_of_seed_and_step():
    np.testing.assert_array_equal(order.Order(50, 1).batch(7, 8), order.Order(50, 1).batch(7, 8))
    assert list(order.Order(50, 1).batch(7, 8)) != list(order.Order(50, 2).batch(7, 8))


def test_hosts_share_one_global_batch():
    whole = order.Order(50, 1).batch(4, 16)
    for hosts in (1, 2, 4, 8):
        parts = [order.host_rows(order.Order(50, 1).batch(4, 16), host, hosts) for host in range(hosts)]
        np.testing.assert_array_equal(np.concatenate(parts), whole)


def test_batches_larger_than_the_data_run_on_into_the_next_epoch():
    rows = order.Order(5, 0).batch(0, 12)
    assert sorted(rows[:5]) == sorted(rows[5:10]) == list(range(5))


def test_the_shuffled_partner_is_a_permutation_without_fixed_points():
    partner = order.shuffled_partner(17, seed=0)
    assert sorted(partner) == list(range(17))
    assert (partner != np.arange(17)).all()
