"""How fast is the phantom? `python -m bench.phantom [--studies 16] [--folder D]`.

Every variety on one core, 12 slices by 25 phases by 128 x 128, DICOM and report written: a round of each in turn,
CPU-seconds. A study of `plain` and `clinical` holds more than its short axis, one of `sketch` mostly fewer slices than
twelve, so that frames are counted: 300 of them are a stack of 12 by 25.

The system's part is said beside the whole, as it is the file system's: a frame is a file, and ext4 takes 0.03 ms to
make one, but 0.5 ms and more for minutes after thousands were deleted, since it looks at each freed inode before it
takes another (`recently_deleted`). Nothing is therefore deleted between rounds, and `--folder /dev/shm` does without.
"""

import argparse
import dataclasses
import json
import os
import statistics
import tempfile
from pathlib import Path

from preprocessing.phantom import study, visits

SLICES, PHASES, MATRIX = 12, 25, 128
ROUNDS = 3

Row = dict[str, object]


@dataclasses.dataclass(frozen=True)
class Round:
    """What was made, and the CPU-seconds it took: the program's own, and the system's on its behalf."""

    studies: int
    frames: int
    own: float
    system: float


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--studies", type=int, default=16, help="of each variety in a round")
    parser.add_argument("--folder", type=Path, help="write the studies below it (default: where temporary files go)")
    parser.add_argument("--json", type=Path, help="also write the figures to this file")
    options = parser.parse_args()
    runs: dict[str, list[Round]] = {name: [] for name in visits.VARIETIES}
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        for number in range(ROUNDS):
            for name, found in runs.items():
                found.append(measured(name, options.studies, number, Path(folder, f"{name}-{number}")))
    rows = [row(name, found) for name, found in runs.items()]
    for one in rows:
        print(line(one), flush=True)
    if options.json:
        options.json.write_text(json.dumps(rows, indent=1) + "\n")


def measured(variety: str, studies: int, seed: int, folder: Path) -> Round:
    """One round, its studies left in `folder`."""
    settings = visits.Settings(studies=studies, seed=seed, slices=SLICES, phases=PHASES, matrix=MATRIX, variety=variety)
    began = os.times()
    for visit in visits.visits(settings):
        study.make(settings, visit, folder)
    ended = os.times()
    frames = sum(1 for _ in folder.rglob("*.dcm"))
    return Round(studies, frames, ended.user - began.user, ended.system - began.system)


def row(variety: str, rounds: list[Round]) -> Row:
    """The figures of one variety, `[lowest, median, highest]` over the rounds."""

    def spread(values: list[float]) -> list[float]:
        return [min(values), statistics.median(values), max(values)]

    return {
        "variety": variety,
        "frames_a_study": sum(one.frames for one in rounds) / sum(one.studies for one in rounds),
        "studies/CPU-s": spread([one.studies / (one.own + one.system) for one in rounds]),
        "stacks/CPU-s": spread([one.frames / (one.own + one.system) / (SLICES * PHASES) for one in rounds]),
        "CPU-ms/frame": spread([1e3 * (one.own + one.system) / one.frames for one in rounds]),
        "system-ms/frame": spread([1e3 * one.system / one.frames for one in rounds]),
    }


def line(one: Row) -> str:
    def said(key: str) -> str:
        low, middle, high = one[key]  # type: ignore[misc]
        return f"{middle:.2f} ({low:.2f} to {high:.2f})"

    return (
        f"{one['variety']:<9} {one['frames_a_study']:.0f} frames a study; {said('studies/CPU-s')} studies a CPU-s;"
        f" {said('stacks/CPU-s')} times {SLICES * PHASES} frames a CPU-s;"
        f" {said('CPU-ms/frame')} CPU-ms a frame, of which {said('system-ms/frame')} the system's"
    )


if __name__ == "__main__":
    main()
