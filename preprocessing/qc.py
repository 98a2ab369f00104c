"""Pictures for a person to look at: contact sheets of the very pixels of the records, and distributions."""

import itertools
import textwrap
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from cmr_jax.data import schema
from preprocessing import summary

STUDIES_A_PAGE = 12
MAX_PAGES = 4
DISTRIBUTIONS = "distributions.png"
_TILES_A_ROW = 16
_MOST_TILES = 2 * _TILES_A_ROW
_PHASES_OF_A_CINE = 3
# Stacks whose ends are shown too: base first, so that a stack in the wrong order is seen.
_WITH_ENDS = ("cine_sax", "lge_sax")
_SERIES_OF_A_VIEW = 3
_INCH_A_PIXEL = 0.0075
_LAST = ("unknown", "scout")
_LETTERS_A_TILE = 23  # of a caption, on one line


def tiles(example: dict[str, Any]) -> list[tuple[str, np.ndarray]]:
    """(caption, H W uint8) of the middle slice of every series: a still once, a cine at phases across the beat; of a
    short-axis stack the first and the last slice too.

    Cines first, what is unknown last; a kind of view at most three times. What would be too long shows fewer phases,
    then no ends, then fewer series, and says how many it leaves out.
    """
    series = _in_order(example)
    shown = _at_most_thrice(series)
    for most, ends in ((_PHASES_OF_A_CINE, True), (2, True), (1, True), (1, False)):
        picked = [_picks(view, frames.shape[0], frames.shape[1], most, ends) for view, _, frames in shown]
        if sum(map(len, picked)) <= _MOST_TILES:
            break
    out = []
    for number, ((view, values, frames_STHW), picks) in enumerate(zip(shown, picked, strict=True)):
        if len(out) + len(picks) > _MOST_TILES:
            shown = shown[:number]
            break
        slices, phases = frames_STHW.shape[:2]
        for at, phase in picks:
            which = f" {phase + 1}/{phases}" if phases > 1 else ""
            if at != slices // 2:
                which = f" slice {at + 1}/{slices}"
            out.append((f"{view}{which}{values}", _as_bytes(frames_STHW[at, phase])))
    if missing := len(series) - len(shown):
        out[-1] = (f"{out[-1][0]} (+{missing} series)", out[-1][1])
    return out


def _picks(view: str, slices: int, phases: int, most: int, ends: bool) -> list[tuple[int, int]]:
    """(slice, phase) of the frames to show."""
    count = min(phases, most)
    middle = [(slices // 2, int(phase)) for phase in np.arange(count) * phases // count]
    if not ends or view not in _WITH_ENDS or slices < 3:
        return middle
    return [(0, 0), *middle, (slices - 1, 0)]


def _in_order(example: dict[str, Any]) -> list[tuple[str, str, np.ndarray]]:
    """(view, range of values or "", frames S T H W) of every series."""
    all_frames = schema.split_series(example)
    series = [
        (view, _values(example, row, frames), frames)
        for row, (view, frames) in enumerate(zip(example["series/view"], all_frames, strict=True))
    ]
    return sorted(series, key=lambda item: (item[0] in _LAST, item[2].shape[1] == 1, schema.VIEWS.index(item[0])))


def _at_most_thrice(series: list[tuple[str, str, np.ndarray]]) -> list[tuple[str, str, np.ndarray]]:
    seen: Counter[str] = Counter()
    shown = []
    for item in series:
        seen[item[0]] += 1
        if seen[item[0]] <= _SERIES_OF_A_VIEW:
            shown.append(item)
    return shown


def _values(example: dict[str, Any], row: int, frames_STHW: np.ndarray) -> str:
    """What black and white stand for in a map, and the contrast of an image that has more than one."""
    contrast = example["series/contrast"][row]
    words = f" {contrast}" if contrast not in ("", "magnitude") else ""
    if not (unit := example["series/unit"][row]):
        return words
    offset, scale = float(example["series/offset"][row]), float(example["series/scale"][row])
    return f"{words} {offset:.4g} to {offset + scale * np.iinfo(frames_STHW.dtype).max:.4g} {unit}"


def _as_bytes(frame_HW: np.ndarray) -> np.ndarray:
    return (frame_HW >> 8).astype(np.uint8) if frame_HW.dtype == np.uint16 else frame_HW


def write_pages(folder: Path, examples: Iterable[dict[str, Any]]) -> int:
    """Writes `contact_sheet_NN.png` into `folder`, a page for STUDIES_A_PAGE examples; returns how many."""
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


def _lines(row: list[tuple[str, np.ndarray]]) -> list[list[tuple[str, np.ndarray]]]:
    """The tiles of a study on as few lines as hold them, of nearly one length: never a tile alone below the rest."""
    lines = -(-len(row) // _TILES_A_ROW)
    edges = [len(row) * number // lines for number in range(lines + 1)]
    return [row[start:stop] for start, stop in itertools.pairwise(edges)]


def _draw(path: Path, page: list[tuple[str, list[tuple[str, np.ndarray]]]]) -> None:
    """One picture of all tiles: axes for each of them would take a hundred times as long."""
    lines = [
        (study_id if number == 0 else "", part) for study_id, row in page for number, part in enumerate(_lines(row))
    ]
    columns = max(len(row) for _, row in lines)
    size = len(page[0][1][0][1])
    caption = size // 4
    sheet = np.zeros((len(lines) * (size + caption), columns * (size + 1)), np.uint8)
    figure = Figure(figsize=(sheet.shape[1] * _INCH_A_PIXEL * 128 / size, sheet.shape[0] * _INCH_A_PIXEL * 128 / size))
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set_axis_off()
    for r, (study_id, row) in enumerate(lines):
        top = r * (size + caption) + caption
        for c, (words, image) in enumerate(row):
            left = c * (size + 1)
            sheet[top : top + size, left : left + size] = image
            words = textwrap.fill(words, _LETTERS_A_TILE)
            title = f"{study_id}\n{words}" if c == 0 and study_id else words
            axes.text(left, top - 1, title, color="white", fontsize=5, va="bottom", ha="left")
    axes.imshow(sheet, cmap="gray", vmin=0, vmax=255, interpolation="nearest", aspect="auto")
    _save(figure, path)


def _save(figure: Figure, path: Path) -> None:
    canvas = FigureCanvasAgg(figure)
    figure.set_dpi(110)
    canvas.print_png(str(path), metadata={"Software": None})


def write_distributions(path: Path, series: Sequence[summary.Row]) -> None:
    """Spacing, counts and brightness by view: one column of series.csv a panel."""
    panels = {
        "spacing": "pixel spacing of the source, mm", "slice_gap": "distance of slices, mm", "slices": "slices",
        "phases": "phases", "level_mean": "mean brightness (0 to 1)", "level_std": "deviation of brightness",
        "saturated_percent": "pixels at the upper end, %", "frames": "frames of a series",
    }  # fmt: skip
    used = [row for row in series if row["used"] == "yes"]
    views = [view for view in schema.VIEWS if any(row["view"] == view for row in used)]
    figure = Figure(figsize=(14, 1.6 + 0.45 * max(4, len(views))))
    figure.subplots_adjust(left=0.07, right=0.98, top=0.88, bottom=0.06, hspace=0.45)
    rows = np.arange(len(views))
    for axes, (column, title) in zip(figure.subplots(2, 4, sharey=True).flat, panels.items(), strict=True):
        values = [summary.numbers([row for row in used if row["view"] == view], column) for view in views]
        low, first, middle, third, high = np.array([_quantiles(v) for v in values]).T
        axes.hlines(rows, low, high, color="gray", linewidth=1)
        axes.hlines(rows, first, third, color="tab:blue", linewidth=5)
        axes.plot(middle, rows, "|", color="black", markersize=9)
        axes.set_title(title, fontsize=8)
        axes.tick_params(labelsize=7)
    figure.axes[0].set(yticks=rows, yticklabels=views, ylim=(len(views) - 0.5, -0.5))
    figure.suptitle("one value a series: median, quartiles (bar), 5th to 95th percentile (line)", fontsize=8)
    _save(figure, path)


def _quantiles(values: np.ndarray) -> np.ndarray:
    return np.percentile(values, [5, 25, 50, 75, 95]) if len(values) else np.full(5, np.nan)
