"""Contact sheets: the very pixels of the records, one study a row, for a person to look at."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from cmr_jax.data import schema

STUDIES_A_PAGE = 12
MAX_PAGES = 4
_TILES_A_ROW = 14
_PHASES_OF_A_CINE = 3
_INCH_A_PIXEL = 0.0075


def tiles(example: dict[str, Any]) -> list[tuple[str, np.ndarray]]:
    """(caption, H W) of the middle slice of every series: a still once, a cine at phases across the beat.

    Cines first; at most a row's worth.
    """
    out = []
    series = list(zip(example["series/view"], schema.split_series(example), strict=True))
    for view, frames_STHW in sorted(series, key=lambda item: item[1].shape[1] == 1):
        middle = frames_STHW[len(frames_STHW) // 2]
        count = min(len(middle), _PHASES_OF_A_CINE)
        for phase in np.arange(count) * len(middle) // count:
            caption = f"{view} {phase + 1}/{len(middle)}" if len(middle) > 1 else view
            out.append((caption, middle[phase]))
    return out[:_TILES_A_ROW]


def write_pages(folder: Path, examples: Iterable[dict[str, Any]]) -> int:
    """Writes `contact_sheet_NN.png` into `folder`, at most MAX_PAGES; returns how many."""
    folder.mkdir(parents=True, exist_ok=True)
    page: list[tuple[str, list[tuple[str, np.ndarray]]]] = []
    pages = 0
    for example in examples:
        page.append((example["study_id"], tiles(example)))
        if len(page) == STUDIES_A_PAGE:
            pages += 1
            _draw(folder / f"contact_sheet_{pages:02d}.png", page)
            page = []
    if page:
        pages += 1
        _draw(folder / f"contact_sheet_{pages:02d}.png", page)
    return pages


def _draw(path: Path, page: list[tuple[str, list[tuple[str, np.ndarray]]]]) -> None:
    """One picture of all tiles: axes for each of them would take a hundred times as long."""
    columns = max(len(row) for _, row in page)
    size = len(page[0][1][0][1])
    caption = size // 4
    sheet = np.zeros((len(page) * (size + caption), columns * (size + 1)), np.uint8)
    figure = Figure(figsize=(sheet.shape[1] * _INCH_A_PIXEL * 128 / size, sheet.shape[0] * _INCH_A_PIXEL * 128 / size))
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set_axis_off()
    for r, (study_id, row) in enumerate(page):
        top = r * (size + caption) + caption
        for c, (words, image) in enumerate(row):
            left = c * (size + 1)
            sheet[top : top + size, left : left + size] = image
            title = f"{study_id}\n{words}" if c == 0 else words
            axes.text(left, top - 1, title, color="white", fontsize=5, va="bottom", ha="left")
    axes.imshow(sheet, cmap="gray", vmin=0, vmax=255, interpolation="nearest", aspect="auto")
    canvas = FigureCanvasAgg(figure)
    figure.set_dpi(110)
    canvas.print_png(str(path), metadata={"Software": None})
