"""How fast is the phantom? `python -m bench.phantom [--studies 16]`.

Every variety on one core, 12 slices by 25 phases by 128 x 128, DICOM and report written: a round of each in turn,
CPU-seconds. A study of `plain` and `clinical` holds more than its short axis, one of `sketch` mostly fewer slices than
twelve, so that frames are counted: 300 of them are a stack of 12 by 25.
"""

import argparse
import json
import statistics
import tempfile
import time
from pathlib import Path

from preprocessing.phantom import study, visits

SLICES, PHASES, MATRIX = 12, 25, 128
ROUNDS = 3

Row = dict[str, object]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--studies", type=int, default=16, help="of each variety in a round")
    parser.add_argument("--json", type=Path, help="also write the figures to this file")
    options = parser.parse_args()
    runs: dict[str, list[tuple[int, int, float]]] = {name: [] for name in visits.VARIETIES}
    for number in range(ROUNDS):
        for name, found in runs.items():
            found.append(measured(name, options.studies, number))
    rows = [row(name, found) for name, found in runs.items()]
    for one in rows:
        print(line(one), flush=True)
    if options.json:
        options.json.write_text(json.dumps(rows, indent=1) + "\n")


def measured(variety: str, studies: int, seed: int) -> tuple[int, int, float]:
    """Studies, frames and CPU-seconds of one round."""
    settings = visits.Settings(studies=studies, seed=seed, slices=SLICES, phases=PHASES, matrix=MATRIX, variety=variety)
    with tempfile.TemporaryDirectory() as folder:
        began = time.process_time()
        for visit in visits.visits(settings):
            study.make(settings, visit, Path(folder))
        seconds = time.process_time() - began
        frames = sum(1 for _ in Path(folder).rglob("*.dcm"))
    return studies, frames, seconds


def row(variety: str, runs: list[tuple[int, int, float]]) -> Row:
    """The figures of one variety, `[lowest, median, highest]` over the rounds."""

    def spread(values: list[float]) -> list[float]:
        return [min(values), statistics.median(values), max(values)]

    return {
        "variety": variety,
        "frames_a_study": sum(frames for _, frames, _ in runs) / sum(studies for studies, _, _ in runs),
        "studies/CPU-s": spread([studies / seconds for studies, _, seconds in runs]),
        "stacks/CPU-s": spread([frames / seconds / (SLICES * PHASES) for _, frames, seconds in runs]),
    }


def line(one: Row) -> str:
    def said(key: str) -> str:
        low, middle, high = one[key]  # type: ignore[misc]
        return f"{middle:.2f} ({low:.2f} to {high:.2f})"

    return (
        f"{one['variety']:<9} {one['frames_a_study']:.0f} frames a study; {said('studies/CPU-s')} studies a CPU-s;"
        f" {said('stacks/CPU-s')} times {SLICES * PHASES} frames a CPU-s"
    )


if __name__ == "__main__":
    main()
