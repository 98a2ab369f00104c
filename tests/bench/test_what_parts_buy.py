"""Which part of the phantom buys how much: the same hearts for all, and each part left out once."""

from pathlib import Path

import numpy as np
import pytest

from bench import transfer, what_parts_buy
from preprocessing.phantom.sketch.stack import PARTS


def test_the_table_has_a_line_a_part_that_was_run_the_whole_first():
    runs = [
        {"without": part, "real/lvef/n": 4, "real/lvef/mae": mae, "real/lvef/mae/ci95": [1.0, 9.04],
         "real/lvef/spearman": 0.8, "real/lvef/bias": -mae}
        for part, mae in (("reach", 7.25), (what_parts_buy.WHOLE, 3.04))
    ]  # fmt: skip
    lines = what_parts_buy.table(runs).splitlines()
    assert lines[0].count("|") == 5 and "real, n = 4: error" in lines[0]
    assert lines[2] == "| nothing: the sketches as they are | 0.80 | 3.0 [1.0, 9.0] | -3.0 |"
    assert lines[3].startswith(f"| {PARTS['reach']} | 0.80 | 7.2 ") and len(lines) == 4


@pytest.mark.slow  # two preprocessings
def test_a_set_without_a_part_is_of_the_same_hearts(tmp_path: Path):
    (tmp_path / "key").write_text("0" * 64 + "\n")
    values = []
    for part in (what_parts_buy.WHOLE, "surroundings"):
        what_parts_buy.records(part, 10, tmp_path / part, tmp_path / "key")
        hearts = [transfer.of_records(tmp_path / part / "data", split) for split in ("train", "val", "test")]
        values.append(np.concatenate([each.column("lvef") for each in hearts]))
        assert sum(len(each.rows) for each in hearts) == 10 and not (tmp_path / part / "phantom").exists()
    assert np.isfinite(values[0]).all() and np.array_equal(*values)
