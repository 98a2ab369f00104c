import json
from pathlib import Path

from cmr_jax.train.perf import Clock
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


def test_the_clock_shares_out_the_time_and_starts_anew():
    clock = Clock()
    with clock.span("data_wait"):
        sum(range(100_000))
    first = clock.read(steps=2)
    assert 0 < first["perf/data_wait_share"] <= 1
    assert first["perf/step_seconds"] > 0
    assert "perf/data_wait_share" not in clock.read(steps=1)
