"""A scheduler's warning: the job saves, leaves with the code that queues it again, and ends where it would have."""

import json
import os
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests import datasets

STEPS = 12
FLAGS = (
    "--config=configs/demo.py", "--config.train.batch_size=16", "--config.train.log_every=1",
    "--config.train.checkpoint_every=4", "--config.train.keep_checkpoints=100", f"--config.train.steps={STEPS}",
    "--config.model.video.image_size=16", "--config.model.video.patch=8", "--config.model.video.width=32",
    "--config.model.text.width=32", "--config.data.spacing_mm=0.0", "--config.data.sections=findings",
)  # fmt: skip
REQUEUE = 75


def _lines(workdir: Path) -> list[dict[str, float]]:
    try:
        return [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]
    except (OSError, ValueError):
        return []


def _losses(workdir: Path) -> dict[int, float]:
    return {int(line["step"]): line["loss"] for line in _lines(workdir) if "loss" in line}


# When to send the signal: what has to be seen in the workdir before.
MOMENTS: dict[str, Callable[[Path], bool]] = {
    "compile": lambda workdir: (workdir / "config.json").exists(),
    "train": lambda workdir: len(_losses(workdir)) >= 2,
    "save": lambda workdir: any((workdir / "checkpoints").glob("0*")),
    "eval": lambda workdir: len(_losses(workdir)) >= 3,  # evaluates after step 3, and after every third
}


class Job:
    def __init__(self, python: str, data: Path, workdir: Path, processes: int):
        self.workdir = workdir
        trainer = ["cmr_jax.bin.train"] if processes == 1 else ["launch.local", f"--processes={processes}", "--"]
        self.command = [python, "-m", *trainer, *FLAGS, f"--workdir={workdir}", f"--config.data.path={data}"]
        self.command += ["--config.train.eval_every=3"]
        devices = f"--xla_force_host_platform_device_count={8 // processes}"
        devices += " --xla_cpu_enable_concurrency_optimized_scheduler=false"
        cache = str(data.parent / f"cache{processes}")
        self.environment = {**os.environ, "XLA_FLAGS": devices, "JAX_COMPILATION_CACHE_DIR": cache}

    def to_the_end(self) -> None:
        done = subprocess.run(self.command, env=self.environment, capture_output=True, text=True, timeout=400)
        assert done.returncode == 0, done.stderr[-3000:]

    def signalled(self, number: int, moment: Callable[[Path], bool]) -> tuple[int, str]:
        """Starts, sends the signal as soon as `moment` has come; returns exit code and stderr."""
        running = subprocess.Popen(self.command, env=self.environment, stderr=subprocess.PIPE, text=True)
        try:
            while not moment(self.workdir):
                assert running.poll() is None, running.stderr.read() if running.stderr else ""
                time.sleep(0.002)
            running.send_signal(number)
            _, errors = running.communicate(timeout=120)
            return running.returncode, errors
        finally:
            running.kill()


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    return datasets.write_dataset(tmp_path_factory.mktemp("stop") / "data", {"train": 24, "val": 4, "test": 0})


@pytest.fixture(scope="module")
def undisturbed(python: str, data: Path) -> Callable[[int], dict[int, float]]:
    made: dict[int, dict[int, float]] = {}

    def losses(processes: int) -> dict[int, float]:
        if processes not in made:
            job = Job(python, data, data.parent / f"undisturbed{processes}", processes)
            job.to_the_end()
            made[processes] = _losses(job.workdir)
        return made[processes]

    return losses


CASES = [("train", 1, signal.SIGTERM)]
ALL_CASES = [
    (moment, processes, number)
    for number, processes in ((signal.SIGTERM, 1), (signal.SIGTERM, 2))
    for moment in MOMENTS
]  # fmt: skip


def _check(python: str, data: Path, tmp_path: Path, undisturbed, moment: str, processes: int, number: int) -> None:
    want = undisturbed(processes)
    job = Job(python, data, tmp_path / "run", processes)
    code, errors = job.signalled(number, MOMENTS[moment])
    assert code == REQUEUE, errors[-3000:]
    assert "Traceback" not in errors
    before = _losses(job.workdir)
    saved = [int(p.stem) for p in (job.workdir / "checkpoints" / "manifests").glob("*.json")]
    assert max(saved) == max(before) < STEPS, "the last step is saved"
    job.to_the_end()
    assert _losses(job.workdir) == want


@pytest.mark.parametrize(("moment", "processes", "number"), CASES)
def test_a_warned_job_saves_and_goes_on(
    python: str, data: Path, tmp_path: Path, undisturbed, moment: str, processes: int, number: int
):
    _check(python, data, tmp_path, undisturbed, moment, processes, number)


@pytest.mark.slow
@pytest.mark.parametrize(("moment", "processes", "number"), [*ALL_CASES, ("train", 2, signal.SIGUSR1)])
def test_a_warned_job_at_any_moment(
    python: str, data: Path, tmp_path: Path, undisturbed, moment: str, processes: int, number: int
):
    _check(python, data, tmp_path, undisturbed, moment, processes, number)
