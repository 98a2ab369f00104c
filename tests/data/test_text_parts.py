import numpy as np
import pytest

from cmr_jax.data import text_parts


@pytest.mark.parametrize(
    ("text", "want"),
    [
        ("Normal size. LVEF 58.5 %. No scar.", ["Normal size.", "LVEF 58.5 %.", "No scar."]),
        ("1. Normal LV.\n2. Mild MR.", ["1. Normal LV.", "2. Mild MR."]),
        ("No scar\nNo effusion", ["No scar", "No effusion"]),
        ("Mild MR. 58 %", ["Mild MR. 58 %"]),
        ("one", ["one"]),
        ("  \n ", []),
        ("", []),
        ("42", ["42"]),
    ],
)
def test_sentences(text: str, want: list[str]):
    assert text_parts.sentences(text) == want


def test_some_sentences_in_their_order_any_number_of_them():
    texts = ["A a. B b.", "", "C c. D d."]
    drawn = [text_parts.draw_sentences(texts, np.random.default_rng(seed)) for seed in range(300)]
    assert all(part == sorted(part) and len(set(part)) == len(part) for part in drawn)
    assert {len(part) for part in drawn} == {1, 2, 3, 4}
    assert {part[0] for part in drawn} == {"A a.", "B b.", "C c.", "D d."}
    share = np.mean([len(part) == 4 for part in drawn])
    assert 0.15 < share < 0.35


def test_a_section_that_says_something():
    drawn = {text_parts.draw_section(["", "x", " ", "y"], np.random.default_rng(seed)) for seed in range(40)}
    assert drawn == {1, 3}


def test_no_text_has_no_part():
    rng = np.random.default_rng(0)
    assert text_parts.draw_section(["", " "], rng) is None
    assert text_parts.draw_sentences(["", " "], rng) == []
