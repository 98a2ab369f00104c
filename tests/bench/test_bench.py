"""The benches' own arithmetic: pairs, shares, the page."""

import time

import pytest

from bench import __main__ as bench
from bench import growth, phantom, reader, step


def _runs(seconds: list[float], loss: float = 2.0):
    return [{"cpu_s": one, "loss": loss} for one in seconds]


def _row(loss: float = 2.0):
    found = {"ours": _runs([1.0, 2.0, 6.0]), "torch": _runs([2.0, 2.0, 3.0], loss)}
    peaks = {"ours": 2**29, "ours_compiling": 2**30, "torch": 2**31}
    return step.row("small", "train", 4, 8e9, found, peaks, [8e9] * 3)


def test_ratios_are_of_pairs():
    row = _row()
    assert row["ratio"] == [0.5, 1.0, 2.0]
    assert row["ours"]["cpu_s"] == [1.0, 2.0, 6.0]
    assert row["ours"]["share_of_gemm"] == 0.5
    assert row["peak_ratio"] == 0.5 and row["cached_peak_ratio"] == 0.25


def test_another_function_is_no_peer():
    with pytest.raises(SystemExit, match="not the same function"):
        _row(loss=2.01)


def test_the_page_says_what_was_reached_and_what_was_not_run():
    page = bench.page({"step": [_row()]}, {"step": "small train"}, "A note.")
    assert "small 1.00 (0.50 to 2.00), medium: not measured" in page
    assert "| warm start to the demo's first step: < 15 CPU-s | not measured in this run |" in page
    assert "A note." in page and page.count("Not run.") == len(bench.BENCHES) - 1


def test_what_grows_in_line_with_size_has_the_exponent_one():
    rows = [{"size": n, "flops": 3.0 * n, "cpu_s": [0.0, 2.0 * n * n, 9.0]} for n in (2, 8)]
    assert growth.exponent(rows, "flops") == pytest.approx(1)
    assert growth.exponent(rows, "cpu_s") == pytest.approx(2)


def test_a_reader_is_charged_with_the_memory_that_it_takes_for_itself():
    def run() -> int:
        held = b"1" * (64 << 20)
        time.sleep(0.1)
        return len(held)

    size, mib = reader._watched(run)
    assert size == 64 << 20
    assert 60 < mib < 100


def test_a_phantom_is_counted_by_its_frames(tmp_path):
    rounds = [phantom.Round(2, frames, own=0.4, system=0.1) for frames in (300, 900, 600)]
    row = phantom.row("sketch", rounds)
    assert row["studies/CPU-s"] == [4.0, 4.0, 4.0] and row["frames_a_study"] == 300
    assert row["stacks/CPU-s"] == [2.0, 4.0, 6.0]
    assert row["system-ms/frame"] == pytest.approx([1 / 9, 1 / 6, 1 / 3])
    assert "4.00 (2.00 to 6.00) times 300 frames" in phantom.line(row)
    assert "0.83 (0.56 to 1.67) CPU-ms a frame, of which 0.17 (0.11 to 0.33) the system's" in phantom.line(row)
    made = phantom.measured("sketch", 1, 0, tmp_path)
    assert made.studies == 1 and 4 * 25 <= made.frames <= 12 * 25 and made.frames % 25 == 0
    assert made.own > 0 and made.system >= 0
    assert len(list(tmp_path.rglob("*.dcm"))) == made.frames, "rounds stay: deleting slows the next"
