import matplotlib.image
import numpy as np

from preprocessing import qc


def example(name: str, level: int) -> dict:
    """A still and a cine of 2 slices x 6 phases; every frame is flat, at its own brightness."""
    frames = np.zeros((1 + 12, 16, 16), np.uint8)
    frames[0] = level
    frames[1:] = (np.arange(12) * 10 + 100)[:, None, None]
    return {
        "study_id": name,
        "frames": frames,
        "series/view": ["scout", "cine_sax"],
        "series/slices": np.array([1, 2]),
        "series/phases": np.array([1, 6]),
    }


def test_tiles_are_the_very_pixels_of_the_middle_slice_cines_first():
    found = qc.tiles(example("a", 7))
    assert [caption for caption, _ in found] == ["cine_sax 1/6", "cine_sax 3/6", "cine_sax 5/6", "scout"]
    assert [int(image[0, 0]) for _, image in found] == [160, 180, 200, 7]


def test_a_page_holds_a_row_a_study_and_shows_its_frames(tmp_path):
    count = qc.write_pages(tmp_path / "qc", (example(f"s{n}", 50) for n in range(qc.STUDIES_A_PAGE + 1)))
    pages = sorted((tmp_path / "qc").glob("*.png"))
    assert count == len(pages) == 2
    full, rest = (matplotlib.image.imread(page)[..., 0] * 255 for page in pages)
    assert full.shape[0] == qc.STUDIES_A_PAGE * rest.shape[0]
    for level in (160, 180, 200, 50):
        assert (np.abs(rest - level) < 2).mean() > 0.1  # each tile fills a fifth of its row
