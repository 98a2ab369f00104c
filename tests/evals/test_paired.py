import numpy as np
import pytest

from cmr_jax.errors import InputError
from cmr_jax.evals import paired
from tests.evals.synthetic import embeddings, relabel


def test_a_difference_is_mine_less_the_other_with_the_interval_and_p_of_its_draws():
    draws_R = np.arange(1.0, 1001.0)
    found = paired.difference("x/R@1", 30.0, 20.0, draws_R)
    assert (found["other/x/R@1"], found["difference/x/R@1"]) == (20, 10)
    assert found["difference/x/R@1/ci95"] == pytest.approx([25.975, 975.025])
    assert found["difference/x/R@1/p"] == pytest.approx(2 / 1001)
    assert paired.difference("x", 1.0, 2.0, np.zeros(0)) == {
        "other/x": 2.0, "difference/x": -1.0, "difference/x/ci95": None, "difference/x/p": None,
    }  # fmt: skip


@pytest.mark.parametrize(("mine", "other"), [(np.nan, 2.0), (1.0, np.nan)])
def test_a_figure_that_one_model_has_not_has_no_difference(mine, other):
    found = paired.difference("x", mine, other, np.ones(100))
    assert found.pop("other/x") == (None if np.isnan(other) else other)
    assert found == {"difference/x": None, "difference/x/ci95": None, "difference/x/p": None}


def test_the_common_studies_come_in_the_order_of_the_first_with_their_own_rows():
    one, two = embeddings(n=6), embeddings(n=6, seed=1)
    first, second, notes = paired.common_studies(one.take(np.array([4, 1, 3])), two.take(np.array([3, 0, 4, 5])))
    assert first.ids["study_id"] == second.ids["study_id"] == ["study4", "study3"]
    np.testing.assert_array_equal(first.image_NE, one.image_NE[[4, 3]])
    np.testing.assert_array_equal(second.text_NE, two.text_NE[[4, 3]])
    assert notes == ["compared on the 2 studies that both have (3 here, 4 in the other)"]


def test_reports_that_differ_are_said():
    source = embeddings(n=6)
    _, _, notes = paired.common_studies(source, relabel(source, report_hash=["another"] * 6))
    assert notes[1:] == ["the reports of some studies differ between the two: each is scored against its own"]


@pytest.mark.parametrize("twice_first", [True, False])
def test_a_study_twice_is_refused(twice_first):
    source = embeddings(n=6)
    pair = (source.take(np.array([0, 1, 1])), source)
    with pytest.raises(InputError, match="a study_id twice"):
        paired.common_studies(*(pair if twice_first else pair[::-1]))
