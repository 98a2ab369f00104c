"""The list of studies and patients that stay out of a dataset: `removed.csv`, a pseudonym a line.

Apart from `removal`, so that a run and its workers, which only read it, need not import what publishing needs.
"""

import csv
from pathlib import Path

from cmr_jax.errors import InputError
from preprocessing.deid import ID_LENGTH

LIST = "removed.csv"
COLUMNS = ("kind", "id")
KINDS = ("study", "patient")


def read(out: Path) -> set[tuple[str, str]]:
    """(kind, pseudonym) of every line of `removed.csv`; empty without the file.

    Raises InputError where a line is not of that form: a removal must never be overlooked.
    """
    try:
        with (out / LIST).open(newline="", encoding="utf-8-sig") as file:
            rows = [tuple(cell.strip() for cell in row) for row in csv.reader(file) if any(row)]
    except FileNotFoundError:
        return set()
    except (OSError, ValueError, csv.Error):
        raise InputError(f"{LIST} of --out cannot be read as CSV") from None
    for number, row in enumerate(rows[1:], 2):
        if len(row) != 2 or row[0] not in KINDS or not is_pseudonym(row[1]):
            raise InputError(f"{LIST} of --out, line {number}: give kind,id as in study,0123456789abcdef")
    if rows and rows[0] != COLUMNS:
        raise InputError(f"{LIST} of --out must begin with the line kind,id")
    return {(row[0], row[1]) for row in rows[1:]}


def is_pseudonym(text: str) -> bool:
    return len(text) == ID_LENGTH and all(c in "0123456789abcdef" for c in text)
