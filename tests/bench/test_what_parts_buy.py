"""Which part of the phantom buys how much: the same hearts for all, and each part left out once."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bench import parts_table, transfer, what_parts_buy
from preprocessing.phantom.sketch.stack import PARTS


def _run(part: str, seed: int, said: list[float]) -> dict[str, Any]:
    return {"without": part, "seed": seed, "real/said": said, "real/truth": [20.0, None, 40.0, 60.0]}


def _rows(runs: list[dict[str, Any]]) -> list[list[str]]:
    lines = parts_table.tables(runs, PARTS).splitlines()
    assert lines[0] == "**real hearts**, n = 3:"
    return [[cell.strip() for cell in line.split("|")[1:-1]] for line in lines[4:]]


def test_figures_are_means_over_the_seeds_of_the_hearts_that_are_known():
    whole, part = _rows(
        [_run("reach", 0, [23.0, 0.0, 43.0, 63.0]), _run("nothing", 0, [22.0, 99.0, 42.0, 62.0]),
         _run("nothing", 1, [24.0, -9.0, 44.0, 40.0])]
    )  # fmt: skip
    assert whole[:2] == ["nothing: the sketches as they are", "2"] and part[:2] == [PARTS["reach"], "1"]
    assert whole[2:] == ["0.75 (0.50 to 1.00)", "5.7 (2.0 to 9.3)", "-1.0 (-4.0 to 2.0)", "", ""]
    assert part[2:5] == ["1.00", "3.0", "3.0"]


def test_what_a_part_changes_is_what_the_same_hearts_say_beside_the_whole_of_the_same_seed():
    whole, part = [20.0, 0.0, 40.0, 60.0], [23.0, 50.0, 43.0, 63.0]
    runs = [_run("nothing", 0, whole), _run("reach", 0, part), _run("nothing", 1, part), _run("reach", 1, whole)]
    # Every heart errs by 3 points more, so that no resample says anything else; the other seed says the opposite.
    assert _rows(runs[:2])[1][6] == "+3.0 [+3.0, +3.0]"
    assert _rows(runs)[1][6] == "+0.0 [+0.0, +0.0]"
    # A run without its whole has no change beside it, and the whole none at all.
    assert _rows([runs[0], runs[3]])[1][5:] == ["", ""]
    # Hearts are drawn alike for both runs, so one heart that moves has an interval from nothing to all of it.
    assert _rows([_run("nothing", 0, whole), _run("reach", 0, [20.0, 0.0, 40.0, 63.0])])[1][6] == "+1.0 [+0.0, +3.0]"


@pytest.mark.slow  # two preprocessings
def test_a_set_without_a_part_is_of_the_same_hearts(tmp_path: Path):
    (tmp_path / "key").write_text("0" * 64 + "\n")
    values = []
    for part in (parts_table.WHOLE, "surroundings"):
        what_parts_buy.records(part, 10, 31, tmp_path / part, tmp_path / "key")
        hearts = [transfer.of_records(tmp_path / part / "data", split) for split in ("train", "val", "test")]
        values.append(np.concatenate([each.column("lvef") for each in hearts]))
        assert sum(len(each.rows) for each in hearts) == 10 and not (tmp_path / part / "phantom").exists()
    assert np.isfinite(values[0]).all() and np.array_equal(*values)
