import json
from pathlib import Path

import pytest

from cmr_jax.train.writers import MetricsWriter


def _steps(workdir: Path) -> list[int]:
    return [json.loads(line)["step"] for line in (workdir / "metrics.jsonl").read_text().splitlines()]


def test_lines_after_the_checkpoint_are_written_again_once(tmp_path: Path):
    writer = MetricsWriter(tmp_path, 0)
    for step in (1, 2, 3):
        writer.write(step, {"loss": 1.0 / step})
    writer.close()
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write('{"step": 4, "lo')  # killed here
    writer = MetricsWriter(tmp_path, 2)
    writer.write(3, {"loss": 0.1})
    writer.close()
    assert _steps(tmp_path) == [1, 2, 3]
    assert list((tmp_path / "tensorboard").glob("events.*"))


@pytest.mark.parametrize(
    ("lines", "found"),
    [
        (['{"step": 2, "loss": 1.0}', '{"step": 2, "val/R@1": 9.0}', '{"step": 2, "ledger/step": 1.0}'], True),
        (['{"step": 1, "val/R@1": 9.0}', '{"step": 2, "loss": 1.0}'], False),
        (['{"step": 2, "loss": 1.0}', '{"step": 3, "val/R@1": 9.0}'], False),
    ],
)
def test_an_evaluation_that_a_stop_left_out_is_missed(tmp_path: Path, lines: list[str], found: bool):
    (tmp_path / "metrics.jsonl").write_text("\n".join(lines) + "\n")
    writer = MetricsWriter(tmp_path, 2)
    writer.close()
    assert writer.evaluated_at_start == found
