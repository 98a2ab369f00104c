"""What the layouts of the public benchmarks have in common: a case, its images, and how their tables are read."""

import csv
import dataclasses
import math
from collections.abc import Iterable, Iterator
from pathlib import Path

from cmr_jax.errors import InputError

# The words that the view rules read: what a description of the scanner would say.
CINE_SAX, CINE_2CH, CINE_4CH, LGE_SAX = "cine sax", "cine 2ch", "cine 4ch", "lge sax"


@dataclasses.dataclass(frozen=True)
class Image:
    """A file of the benchmark, and what it shows in words of a series description ("": as its header says)."""

    path: Path
    shows: str


@dataclasses.dataclass(frozen=True)
class Case:
    """One study of a benchmark. `labels` in the names of docs/labels.md where those have one; "" is not published.

    `sex` F or M, `age` in years, `vendor` as published, `site`: the centre.
    """

    name: str
    split: str
    images: tuple[Image, ...]
    labels: dict[str, str]
    sex: str = ""
    age: str = ""
    vendor: str = ""
    site: str = ""


def table(path: Path, *columns: str) -> list[dict[str, str]]:
    """The rows of a CSV, separated by comma or semicolon, with values stripped.

    Raises InputError where the file cannot be read or lacks one of `columns`; it names the file below the benchmark.
    """
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            first = file.readline()
            file.seek(0)
            reader = csv.DictReader(file, delimiter=";" if first.count(";") > first.count(",") else ",")
            names = [(name or "").strip() for name in reader.fieldnames or ()]
            reader.fieldnames = names
            rows = [{name: (row.get(name) or "").strip() for name in names} for row in reader]
    except (OSError, UnicodeDecodeError, csv.Error):
        raise InputError(f"--root: {path.name} is missing or no CSV; unpack the benchmark as it is published") from None
    if missing := [name for name in columns if name not in names]:
        raise InputError(f"--root: {path.name} has no column {missing[0]!r}; is it the table of this benchmark?")
    return rows


def find(root: Path, pattern: str) -> Path:
    """The one file (or folder) below `root` or one folder deeper that fits; InputError where there is none."""
    found = sorted([*root.glob(pattern), *root.glob(f"*/{pattern}")])
    if not found:
        raise InputError(f"--root holds no {pattern}: give the folder of the benchmark as it is published")
    return found[0]


def folders(place: Path) -> Iterator[Path]:
    """The folders in `place`, in order; none where there is no such place."""
    yield from sorted(path for path in place.iterdir() if path.is_dir()) if place.is_dir() else ()


def number(text: str) -> float:
    """NaN where the text is no number."""
    try:
        return float(text)
    except ValueError:
        return math.nan


def volumes(edv_ml: float, esv_ml: float) -> dict[str, str]:
    """The labels of the left ventricle's volumes and ejection fraction; "" for those that are not known."""
    known = edv_ml > 0 and esv_ml > 0
    return {
        "lv_edv_ml": f"{edv_ml:.1f}" if edv_ml > 0 else "",
        "lv_esv_ml": f"{esv_ml:.1f}" if esv_ml > 0 else "",
        "lvef_percent": f"{100 * (edv_ml - esv_ml) / edv_ml:.1f}" if known else "",
    }


def sex(text: str) -> str:
    """F, M or "" from any usual spelling."""
    return {"f": "F", "m": "M", "w": "F"}.get(text.strip().lower()[:1], "")


def years(text: str) -> str:
    """Whole years, capped as those of patients are; "" where it is no age."""
    value = number(text.rstrip("yY "))
    return str(min(int(value), 90)) if 0 <= value < 130 else ""


def some(cases: Iterable[Case], what: str) -> list[Case]:
    """The cases as a list; InputError where there are none."""
    found = list(cases)
    if not found:
        raise InputError(f"--root holds no {what}: give the folder of the benchmark as it is published")
    return found
