import re

import pytest

from preprocessing.phantom.grammar.segments import describe, shown

LEVELS = {"basal": 0, "mid": 1, "apical": 2}
RINGS = {
    "anterior": (1, 7, 13),
    "anteroseptal": (2, 8, 14),
    "inferoseptal": (3, 9, 14),
    "inferior": (4, 10, 15),
    "inferolateral": (5, 11, 16),
    "anterolateral": (6, 12, 16),
}
BOTH = {"septal": ("anteroseptal", "inferoseptal"), "lateral": ("inferolateral", "anterolateral")}


def understood(text: str) -> set[int]:
    """The segments that a reader takes from `text`, word by word; knows nothing of how it was made."""
    if text == "all segments":
        return set(range(1, 18))
    out, levels, walls, spans = set(), [], [], False
    for word in re.findall(r"\w+", text):
        if word in LEVELS:
            levels += range(levels[-1] + 1, LEVELS[word] + 1) if spans else [LEVELS[word]]
            spans = False
        elif word == "to":
            spans = True
        elif word in ("wall", "walls", "segments"):
            out |= {RINGS[wall][level] for wall in walls for level in levels}
            levels, walls = [], []
        elif word == "apex":
            out.add(17)
        elif word != "and":
            walls += RINGS if word == "all" else BOTH.get(word, (word,))
    return out


def test_words_say_each_segment_and_no_other():
    """For every set of segments that there is: 131,071 of them."""
    for number in range(1, 1 << 17):
        segments = {n + 1 for n in range(17) if number >> n & 1}
        assert understood(describe(segments)) == segments


@pytest.mark.parametrize(
    ("segments", "words"),
    [
        ((8, 14), "mid to apical anteroseptal wall"),
        ((2, 8, 14), "basal to apical anteroseptal wall"),
        ((2, 3), "basal septal wall"),
        ((14,), "apical septal wall"),
        ((4, 10, 15, 17), "basal to apical inferior wall and apex"),
        ((5, 11, 6), "basal to mid inferolateral wall and basal anterolateral wall"),
        ((1, 2, 7, 8), "basal to mid anterior and anteroseptal walls"),
        ((13, 14, 15, 16, 17), "all apical segments and apex"),
        (tuple(range(1, 18)), "all segments"),
        (tuple(range(1, 17)), "all basal, mid and apical segments"),
        ((17,), "apex"),
        ((3, 14), "basal inferoseptal wall and apical septal wall"),
        ((2, 3, 14), "basal and apical septal wall"),
    ],
)
def test_words_of_known_sets(segments, words):
    assert describe(segments) == words


@pytest.mark.parametrize("segments", [(), (0,), (1, 18)])
def test_what_is_no_segment_is_refused(segments):
    with pytest.raises(ValueError, match="segments"):
        describe(segments)


def test_planes_show_what_they_cut():
    assert 17 not in shown(("cine_sax", "lge_4ch"), "cine")
    assert shown(("cine_2ch", "cine_3ch", "cine_4ch"), "cine") == set(range(1, 18))
    assert not shown(("cine_sax",), "lge")
