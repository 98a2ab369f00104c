"""Reports that state what was measured, from a phantom's truth: `python -m bench.measured_reports --phantom DIR`.

Writes `DIR/measured.csv` beside `truth.csv`, for `preprocessing.run --reports`. Every sentence stands for itself (data.
text_sampling "sentence" shows some of them), so that each measurement is learned by itself. The words of a grade follow
the number by fixed thresholds; nothing is said that the short axis, cine and late enhancement, could not show.
"""

import argparse
import csv
from collections.abc import Mapping
from pathlib import Path

import numpy as np

GRADES = ((30, "severely reduced"), (41, "moderately reduced"), (53, "mildly reduced"), (72, "normal"))
NAME = "measured.csv"


def function(lvef: float) -> str:
    """The sentence of the left ventricle's function; `lvef` in percent, said to 5 points, as a reader does who looks.

    Few different sentences, each of them in many reports, are learned from a few hundred hearts.
    """
    return f"LVEF {5 * round(lvef / 5)} percent, {_grade(lvef)}."


def impression(lvef: float) -> str:
    """The same in words alone, for the end of a report."""
    return f"Overall {_grade(lvef)} systolic function."


def _grade(lvef: float) -> str:
    return next((word for limit, word in GRADES if lvef < limit), "hyperdynamic")


def size(edv_ml: float) -> str:
    """The sentence of the left ventricle's volume, to 20 mL."""
    return f"LV end-diastolic volume {20 * round(edv_ml / 20)} ml."


def emptied(esv_ml: float) -> str:
    """The sentence of what is left in the left ventricle at the end of systole, to 20 mL."""
    return f"LV end-systolic volume {20 * round(esv_ml / 20)} ml."


def mass(mass_g: float) -> str:
    """The sentence of the left ventricle's mass, to 20 g."""
    return f"LV mass {20 * round(mass_g / 20)} g."


def enhancement(row: Mapping[str, str]) -> str:
    """The sentences of late enhancement: its pattern, and of how many segments, to 2; "" where none was acquired."""
    if "lge_sax" not in row.get("acquired", "").split():
        return ""
    pattern, count = row.get("scar_pattern", ""), len(row.get("scar_segments", "").split())
    if not pattern:
        return "No late enhancement."
    return f"Late enhancement: {pattern}. Late enhancement in {2 * max(round(count / 2), 1)} of 17 segments."


def group(name: str) -> str:
    """The sentence of the diagnosis."""
    return f"Diagnosis: {name.replace('-', ' ').replace('_', ' ').lower()}."


def statement(row: Mapping[str, str]) -> str:
    """What `row` of a truth table lets one say, in the order and the words of the reports; "" where it says nothing."""
    parts = [
        *(function(float(row["lvef"])) for _ in range(1) if row.get("lvef")),
        *(size(float(row["edv_ml"])) for _ in range(1) if row.get("edv_ml")),
        *(mass(float(row["mass_g"])) for _ in range(1) if row.get("mass_g")),
    ]
    return " ".join(parts)


def report(row: Mapping[str, str], rng: np.random.Generator) -> str:
    """The report of a phantom: its statement, one point of noise on the fraction as a reader has, what is left in
    systole, the wall, late enhancement where it was acquired, and its group."""
    lvef = float(np.clip(float(row["lvef"]) + rng.normal(0, 1), 3, 85))
    wall = f"Maximal wall thickness {float(row['wall_mm']):.0f} mm." if row.get("wall_mm") else ""
    left = emptied(float(row["esv_ml"])) if row.get("esv_ml") else ""
    said = statement({**row, "lvef": str(lvef)})
    parts = (said, left, wall, enhancement(row), group(row["group"]), impression(lvef))
    return "FINDINGS:\n" + " ".join(part for part in parts if part) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--phantom", required=True, help="the --out of preprocessing.phantom")
    folder = Path(parser.parse_args().phantom)
    with (folder / "truth.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    with (folder / NAME).open("w", newline="", encoding="utf-8") as file:
        names = ["study_uid", "patient_id", "report", "group", "lvef", "edv_ml", "mass_g"]
        writer = csv.DictWriter(file, names, lineterminator="\n", extrasaction="ignore")
        writer.writeheader()
        for number, row in enumerate(rows):
            writer.writerow({**row, "report": report(row, np.random.default_rng([7, number]))})
    print(f"{len(rows)} reports in {folder / NAME}")


if __name__ == "__main__":
    main()
