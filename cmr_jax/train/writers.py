"""Where metrics go: one JSON object a line, and TensorBoard."""

import json
import math
from pathlib import Path

from tensorboardX import SummaryWriter

from cmr_jax.structs import Metrics


class MetricsWriter:
    """`metrics.jsonl` and `tensorboard/` of a workdir. Only one process may hold one.

    Lines past `start_step` are what a killed run did after its last checkpoint; they will be written again, so they
    are cut off first and every step stands there once.
    """

    def __init__(self, workdir: Path, start_step: int):
        self._path = workdir / "metrics.jsonl"
        self.evaluated_at_start = False  # there is a line of an evaluation at start_step
        if self._path.exists():
            kept = [line for line in self._path.read_text().splitlines() if _step_of(line) <= start_step]
            temporary = self._path.with_suffix(".tmp")
            temporary.write_text("".join(line + "\n" for line in kept))
            temporary.replace(self._path)
            at_start = [name for line in map(json.loads, kept) if line["step"] == start_step for name in line]
            self.evaluated_at_start = any(name.startswith("val/") for name in at_start)
        self._file = self._path.open("a")
        self._board = SummaryWriter(str(workdir / "tensorboard"), purge_step=start_step + 1)

    def write(self, step: int, metrics: Metrics) -> None:
        """One line; values that are not finite stand there as null, for JSON knows no NaN."""
        finite = {name: value for name, value in metrics.items() if math.isfinite(value)}
        line = {"step": step, **dict.fromkeys(metrics), **finite}
        self._file.write(json.dumps(line) + "\n")
        self._file.flush()
        for name, value in finite.items():
            self._board.add_scalar(name, value, step)

    def close(self) -> None:
        self._file.close()
        self._board.close()


def _step_of(line: str) -> float:
    """The step of a line; a line cut short by a kill is past every step."""
    try:
        return json.loads(line)["step"]
    except (ValueError, KeyError):
        return float("inf")
