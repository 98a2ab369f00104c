import io
import sys

import pytest

from cmr_jax.errors import InputError
from cmr_jax.evals import report, tables
from cmr_jax.evals.report import staged


def test_files_appear_together_and_only_when_all_went_well(tmp_path):
    out = tmp_path / "new" / "out"
    with staged(out) as folder:
        (folder / "a.txt").write_text("1")
        assert not out.exists()
    with pytest.raises(ZeroDivisionError), staged(out) as folder:
        (folder / "a.txt").write_text("2")
        (folder / "b.txt").write_text("2")
        raise ZeroDivisionError
    assert {path.name: path.read_text() for path in out.iterdir()} == {"a.txt": "1"}
    assert [path.name for path in out.parent.iterdir()] == ["out"]


def test_what_others_put_in_the_folder_stays(tmp_path):
    (tmp_path / "thesis.txt").write_text("mine")
    with staged(tmp_path) as folder:
        (folder / "a.txt").write_text("1")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.txt", "thesis.txt"]


def test_a_file_in_the_place_of_the_folder_is_refused(tmp_path):
    (tmp_path / "out").write_text("x")
    with pytest.raises(InputError, match="--out is a file"), staged(tmp_path / "out"):
        pass
    with pytest.raises(InputError, match="cannot write beside"), staged(tmp_path / "out" / "below" / "it"):
        pass


def test_the_table_is_markdown_and_lines_up():
    assert tables.table(["", "b"], [["x|y", "1"], ["z", "22"]]).split("\n") == [
        "|      | b  |",
        "| ---- | -- |",
        "| x\\|y | 1  |",
        "| z    | 22 |",
    ]


def test_the_command_names_no_folder():
    folders = {"embeddings": "/secret/e", "data": None, "out": "/secret/r"}
    line = report.command("m", folders, {"labels": ["a", "b"], "step": None, "seed": 0})
    assert line == "python -m m --embeddings=EMBEDDINGS --out=OUT --labels=a,b --seed=0"


def test_slow_work_says_so_in_plain_lines_and_quick_work_is_silent(monkeypatch):
    def lines(step: float) -> list[str]:
        now = iter(range(1000))
        stream = io.StringIO()
        monkeypatch.setattr(report.time, "monotonic", lambda: next(now) * step)
        monkeypatch.setattr(sys, "stderr", stream)
        assert list(report.progress("ranks", range(30))) == list(range(30))
        return stream.getvalue().splitlines()

    assert lines(0.01) == []
    assert lines(4.0)[0] == "ranks: 2 of 30" and len(lines(4.0)) > 3
