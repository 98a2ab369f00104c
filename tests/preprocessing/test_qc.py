from typing import Any

import matplotlib.image
import numpy as np

from cmr_jax.data import schema
from preprocessing import qc


def example(name: str, level: int, *extra: tuple[str, str, str, float, int], dtype: Any = np.uint8) -> dict:
    """A still and a cine of 2 slices x 6 phases, then stills as (view, contrast, unit, scale, value); every frame is
    flat, at its own brightness."""
    frames = np.zeros((1 + 12 + len(extra), 16, 16), dtype)
    frames[0] = level
    frames[1:13] = (np.arange(12) * 10 + 100)[:, None, None]
    for row, (*_, value) in enumerate(extra):
        frames[13 + row] = value
    if dtype == np.uint16:
        frames = frames * 256
    return {
        "study_id": name,
        "frames": frames,
        "series/view": ["scout", "cine_sax", *(e[0] for e in extra)],
        "series/contrast": ["", "magnitude", *(e[1] for e in extra)],
        "series/unit": ["", "", *(e[2] for e in extra)],
        "series/scale": np.array([1 / 255, 1 / 255, *(e[3] for e in extra)], np.float32),
        "series/offset": np.zeros(2 + len(extra), np.float32),
        "series/slices": np.array([1, 2] + [1] * len(extra)),
        "series/phases": np.array([1, 6] + [1] * len(extra)),
    }


OTHERS = tuple(view for view in schema.VIEWS if view not in ("cine_sax", "lge_sax", "scout"))
MORE = (("lge_sax", "psir", "", 1 / 255, 30), ("t1_map", "", "ms", 8.0, 125))


def test_tiles_are_the_very_pixels_of_the_middle_slice_cines_first_and_scouts_last():
    found = qc.tiles(example("a", 7))
    assert [caption for caption, _ in found] == ["cine_sax 1/6", "cine_sax 3/6", "cine_sax 5/6", "scout"]
    assert [int(image[0, 0]) for _, image in found] == [160, 180, 200, 7]


def test_a_map_says_what_black_and_white_stand_for_and_lge_its_contrast():
    for dtype in (np.uint8, np.uint16):
        found = qc.tiles(example("a", 7, *MORE, dtype=dtype))
        assert [int(image[0, 0]) for _, image in found] == [160, 180, 200, 30, 125, 7]
        assert {image.dtype for _, image in found} == {np.dtype(np.uint8)}
        top = 8 * np.iinfo(dtype).max
        assert [caption for caption, _ in found][3:5] == ["lge_sax psir", f"t1_map 0 to {top:.4g} ms"]


def test_a_long_row_shows_fewer_phases_and_says_what_is_missing():
    def many(count: int) -> list[tuple[str, str, str, float, int]]:
        views = [view for view in schema.VIEWS if view not in ("unknown", "scout", "cine_sax", "lge_sax")]
        more = [(view, "", "", 1 / 255, 9) for view in views for _ in range(count)]
        return [*((("lge_sax", "magnitude", "", 1 / 255, n)) for n in range(5)), *more]

    captions = [caption for caption, _ in qc.tiles(example("a", 7, *many(1)))]
    assert len(captions) == 22 and sum("cine_sax" in c for c in captions) == 3
    assert sum("lge_sax" in c for c in captions) == 3 and captions[-1] == "scout (+2 series)"
    captions = [caption for caption, _ in qc.tiles(example("a", 7, *many(2)))]
    assert len(captions) == 32 and sum("cine_sax" in c for c in captions) == 1
    assert captions[-1].endswith(" (+5 series)")


def test_the_ends_of_a_short_axis_stack_are_shown_base_first():
    stack = example("a", 7)
    stack["series/slices"], stack["series/phases"] = np.array([1, 4]), np.array([1, 3])
    found = [(caption, int(image[0, 0])) for caption, image in qc.tiles(stack)][:-1]
    middle = [("cine_sax 1/3", 160), ("cine_sax 2/3", 170), ("cine_sax 3/3", 180)]
    assert found == [("cine_sax slice 1/4", 100), *middle, ("cine_sax slice 4/4", 190)]


def test_a_study_of_many_series_goes_on_in_a_second_row_as_long_as_the_first(tmp_path):
    sizes = {}
    for number in (0, 12, 13):  # 4, 16 and 17 tiles: 17 are 8 above 9, never 16 above 1
        qc.write_pages(tmp_path / str(number), [example("s", 50, *[(v, "", "", 1 / 255, 9) for v in OTHERS[:number]])])
        sizes[number] = matplotlib.image.imread(tmp_path / str(number) / "contact_sheet_01.png").shape
    high, wide = sizes[0][0], sizes[0][1] / 4  # of one tile
    assert sizes[12][0] == high and abs(sizes[12][1] / wide - 16) < 0.1
    assert sizes[13][0] == 2 * high and abs(sizes[13][1] / wide - 9) < 0.1


def test_a_page_holds_a_row_a_study_and_shows_its_frames(tmp_path):
    count = qc.write_pages(tmp_path / "qc", (example(f"s{n}", 50) for n in range(qc.STUDIES_A_PAGE + 1)))
    pages = sorted((tmp_path / "qc").glob("*.png"))
    assert count == len(pages) == 2
    full, rest = (matplotlib.image.imread(page)[..., 0] * 255 for page in pages)
    assert full.shape[0] == qc.STUDIES_A_PAGE * rest.shape[0]
    for level in (160, 180, 200, 50):
        assert (np.abs(rest - level) < 2).mean() > 0.1  # each tile fills a fifth of its row


def test_distributions_are_drawn_for_every_view_that_is_used(tmp_path):
    row = {"used": "yes", "spacing": "1.5x1.4", "slice_gap": "8", "slices": "3", "phases": "20", "frames": "60"}
    row |= {"level_mean": "0.2", "level_std": "0.1", "saturated_percent": "0.5"}
    for name, views in (("two", ("cine_sax", "t1_map")), ("all", schema.VIEWS)):
        rows = [{**row, "view": view} for view in views] + [{"used": "no", "view": ""}]
        qc.write_distributions(tmp_path / name, rows)
    two, every = (matplotlib.image.imread(tmp_path / name) for name in ("two", "all"))
    assert every.shape[0] > two.shape[0] > 100 and two.std() > 0.05
