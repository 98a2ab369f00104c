"""A scheduler's warning, or none at all: the job ends where an undisturbed one does, step by step and bit by bit."""

import contextlib
import os
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from tests import datasets
from tests.train.jobs import Job, lines, losses, saved

STEPS = 12
SHORT = (f"--config.train.steps={STEPS}", "--config.train.checkpoint_every=4", "--config.train.keep_checkpoints=100",
         "--config.train.eval_every=3")  # fmt: skip
LONG = ("--config.train.steps=50", "--config.train.checkpoint_every=5", "--config.train.eval_every=0")
REQUEUE = 75

# When to send the signal: what has to be seen in the workdir before.
MOMENTS: dict[str, Callable[[Path], bool]] = {
    "compile": lambda workdir: (workdir / "checkpoints").exists() or (workdir / "tensorboard").exists(),
    "train": lambda workdir: len(losses(workdir)) >= 2,
    "save": lambda workdir: any((workdir / "checkpoints").glob("0*")),
    "eval": lambda workdir: len(losses(workdir)) >= 3,  # evaluates after step 3, and after every third
}


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    return datasets.write_dataset(tmp_path_factory.mktemp("stop") / "data", {"train": 24, "val": 4, "test": 0})


@pytest.fixture(scope="module")
def undisturbed(python: str, data: Path) -> Callable[..., Job]:
    made: dict[tuple, Job] = {}

    def run(processes: int, settings: tuple[str, ...] = SHORT) -> Job:
        key = (processes, settings)
        if key not in made:
            made[key] = Job(python, data, data.parent / f"undisturbed{len(made)}", processes, settings)
            made[key].to_the_end()
        return made[key]

    return run


def _evaluations(workdir: Path) -> dict[int, dict[str, float]]:
    found = [line for line in lines(workdir) if "val/image_to_text/R@1" in line]
    assert len({line["step"] for line in found}) == len(found), "a step is evaluated twice"
    return {int(line["step"]): line for line in found}


def _check(python: str, data: Path, workdir: Path, undisturbed, moment: str, processes: int, number: int) -> None:
    want = undisturbed(processes).workdir
    job = Job(python, data, workdir, processes, SHORT)
    code, errors, seconds = job.signalled(number, MOMENTS[moment])
    assert code == REQUEUE, errors[-3000:]
    assert "Traceback" not in errors
    before = losses(workdir)
    assert max(saved(workdir), default=0) == max(before, default=0) < STEPS, "the last step is saved"
    print(
        f"{moment}, {processes} processes: left after step {max(before, default=0)}, {seconds:.1f} s after the signal"
    )
    job.to_the_end()
    assert losses(workdir) == losses(want)
    assert _evaluations(workdir) == _evaluations(want)


def test_a_warned_job_saves_and_goes_on(python: str, data: Path, tmp_path: Path, undisturbed):
    _check(python, data, tmp_path / "run", undisturbed, "train", 1, signal.SIGTERM)


CASES = [(moment, processes, signal.SIGTERM) for processes in (1, 2) for moment in MOMENTS]


@pytest.mark.slow
@pytest.mark.parametrize(("moment", "processes", "number"), [*CASES, ("train", 2, signal.SIGUSR1)])
def test_a_warned_job_at_any_moment(
    python: str, data: Path, tmp_path: Path, undisturbed, moment: str, processes: int, number: int
):
    _check(python, data, tmp_path / "run", undisturbed, moment, processes, number)


def _kills(
    python: str, data: Path, folder: Path, settings: tuple[str, ...], kills: int, want: dict[int, float]
) -> None:
    """Kills jobs (kill -9, the whole session) at random moments and starts them again, until it was `kills` times."""
    rng = np.random.default_rng(kills)
    done = finished = 0
    job = Job(python, data, folder / "0", settings=settings)
    while done < kills:
        at = max(losses(job.workdir), default=0)
        goal, pause = at + int(rng.integers(0, 12)), float(rng.uniform(0, 0.2))
        running = job.start()
        try:
            alive = job.wait_for(running, lambda workdir, goal=goal: max(losses(workdir), default=0) >= goal)
            if alive:
                # No step to wait for: between the interpreter's start and the first step, then.
                with contextlib.suppress(subprocess.TimeoutExpired):
                    running.wait(pause if goal > at else float(rng.uniform(0, 8)))
            alive = running.poll() is None
        finally:
            if running.poll() is None:
                os.killpg(running.pid, signal.SIGKILL)
            running.communicate()
        done += alive
        print(f"kill {done}: run {finished}, {saved(job.workdir)} saved, at step {max(losses(job.workdir), default=0)}")
        if not alive:
            assert losses(job.workdir) == want
            finished += 1
            job = Job(python, data, folder / str(finished), settings=settings)
    job.to_the_end()
    assert losses(job.workdir) == want


def test_a_killed_job_goes_on(python: str, data: Path, tmp_path: Path, undisturbed):
    _kills(python, data, tmp_path, SHORT, 1, losses(undisturbed(1).workdir))


@pytest.mark.slow
def test_twenty_kills_leave_the_loss_of_every_step_as_it_is(python: str, data: Path, tmp_path: Path, undisturbed):
    want = losses(undisturbed(1, LONG).workdir)
    assert list(want) == list(range(1, 51))
    _kills(python, data, tmp_path, LONG, 20, want)


@pytest.mark.slow
def test_a_job_goes_on_as_another_number_of_processes(python: str, data: Path, tmp_path: Path, undisturbed):
    """Stopped after 25 of 50 steps as two processes, then one; and as one, then two."""
    want = losses(undisturbed(1, LONG).workdir)
    for first, then in ((2, 1), (1, 2)):
        workdir = tmp_path / f"{first} then {then}"
        job = Job(python, data, workdir, first, LONG)
        code, errors, _ = job.signalled(signal.SIGTERM, lambda workdir: len(losses(workdir)) >= 24)
        assert code == REQUEUE, errors[-3000:]
        assert 24 <= max(saved(workdir)) < 50
        Job(python, data, workdir, then, LONG).to_the_end()
        found = losses(workdir)
        assert list(found) == list(want)
        np.testing.assert_allclose(list(found.values()), list(want.values()), rtol=1e-4)
        worst = max(abs(found[step] / want[step] - 1) for step in want)
        print(f"{first} then {then} processes: the loss of 50 steps within {worst:.1e}")
