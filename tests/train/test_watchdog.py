"""A process that the others wait for, stuck, dead or late: named, its stack on stderr, the job ended in time."""

import os
import signal
import subprocess
import time
from pathlib import Path

import pytest

from launch.local import free_port
from tests import datasets
from tests.train.jobs import FLAGS, Job, saved

SHIM = Path(__file__).resolve().parents[1] / "fault_shim"
ROOT = SHIM.parents[1]
EXIT_STUCK = 70
# Start-up may take ten times as long. What is asserted of time is that a job which would never end, ends.
SECONDS = 20

ALONE = """
import pathlib, sys, threading, time
from cmr_jax.train.watchdog import Watchdog

def dozes():
    time.sleep(1000)

with Watchdog(pathlib.Path(sys.argv[1]), 0, 1, 0.5) as watchdog:
    for step in range(20):  # four times as long as it may take without one
        watchdog.beat(step, "step")
        time.sleep(0.1)
    watchdog.beat(20, "data")
    dozes()
"""


def test_one_that_is_stuck_ends_with_its_stack(python: str, tmp_path: Path):
    done = subprocess.run([python, "-c", ALONE, str(tmp_path)], capture_output=True, text=True, timeout=60)
    assert done.returncode == EXIT_STUCK, done.stderr
    assert "watchdog: process 0 made no progress" in done.stderr and "at data of step 20" in done.stderr
    assert "in dozes" in done.stderr and "process 0 is late: it is alive, last seen at data of step 20" in done.stderr


def test_who_is_late():
    from cmr_jax.train.watchdog import late_processes

    told = {0: [9, 1, 5, "step"], 1: [9, 2, 4, "data"], 2: [9, 3, 4, "step"], 3: [9, 4, 4, "data"]}
    fresh = dict.fromkeys(told, 0.0)
    alive = late_processes(told, fresh, 4, patience=2.0)
    assert [line[:25] for line in alive] == ["process 1 is late: it is ", "process 3 is late: it is "]
    assert alive[0].endswith("alive, last seen at data of step 4")
    assert [line[:9] for line in late_processes(told, {**fresh, 2: 2.5}, 4, patience=2.0)] == ["process 2"]
    gone = late_processes({p: told[p] for p in (0, 1, 2)}, fresh, 4, patience=2.0)
    assert gone == ["process 3 is late: it gives no sign of life"]
    # One that has left in good order says no more, and nobody waits for it.
    left = {0: [9, 1, 12, "done"], 1: [9, 2, 12, "save"]}
    assert [line[:9] for line in late_processes(left, {0: 99.0, 1: 0.0}, 2, patience=2.0)] == ["process 1"]


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    return datasets.write_dataset(tmp_path_factory.mktemp("watchdog") / "data", {"train": 24, "val": 0, "test": 0})


@pytest.fixture(scope="module")
def compiled(python: str, data: Path) -> None:
    """A job without a watchdog, that compiles for the others."""
    Job(python, data, data.parent / "undisturbed", 2, (*SETTINGS, "--config.train.watchdog_seconds=0")).to_the_end()


STEPS = 12
SETTINGS = (f"--config.train.steps={STEPS}", "--config.train.checkpoint_every=2", "--config.train.eval_every=0",
            f"--config.train.watchdog_seconds={SECONDS}")  # fmt: skip


def _environment(kind: str, environment: dict[str, str]) -> dict[str, str]:
    paths = os.pathsep.join((str(SHIM), str(ROOT)))
    return {**environment, "PYTHONPATH": paths, "CMR_FAULT": f"{kind}:1:{4 * SECONDS}"}


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["stuck", "late", "frozen"])
def test_two_processes_one_of_which_hangs(python: str, data: Path, tmp_path: Path, compiled, kind: str):
    job = Job(python, data, tmp_path / "run", 2, SETTINGS)
    began = time.monotonic()
    done = subprocess.run(
        job.command, env=_environment(kind, job.environment), capture_output=True, text=True, timeout=20 * SECONDS
    )
    print(f"{kind}: ended {time.monotonic() - began:.0f} s after its start")
    assert done.returncode == EXIT_STUCK, done.stderr[-4000:]
    named = "gives no sign of life" if kind == "frozen" else "is alive"
    assert f"watchdog: process 1 is late: it {named}" in done.stderr, done.stderr[-4000:]
    assert "process 0 is late" not in done.stderr
    assert "Current thread" in done.stderr and "most recent call first" in done.stderr
    if kind != "frozen":
        assert "in batch" in done.stderr  # where it hangs
    assert max(saved(job.workdir), default=0) < STEPS


@pytest.mark.slow
def test_two_processes_one_of_which_dies(python: str, data: Path, tmp_path: Path, compiled):
    """Without a launcher that would see it: the other must not wait for ever."""
    job = Job(python, data, tmp_path / "run", 2, SETTINGS)
    base = [python, "-m", "cmr_jax.bin.train", "--distributed", f"--coordinator=127.0.0.1:{free_port()}"]
    base += ["--num_processes=2", *FLAGS, f"--workdir={job.workdir}", f"--config.data.path={data}", *SETTINGS]
    environment = {**_environment("dead", job.environment), "JAX_PLATFORMS": "cpu"}
    running = [
        subprocess.Popen([*base, f"--process_id={i}"], env=environment, stderr=subprocess.PIPE, text=True)
        for i in range(2)
    ]
    try:
        assert running[1].wait(20 * SECONDS) == -signal.SIGKILL
        died = time.monotonic()
        _, errors = running[0].communicate(timeout=10 * SECONDS)
    finally:
        for one in running:
            one.kill()
            one.communicate()
    print(f"dead: the other ended {time.monotonic() - died:.0f} s after (exit {running[0].returncode})")
    assert running[0].returncode == EXIT_STUCK, errors[-4000:]
    assert "watchdog: process 1 is late: it gives no sign of life" in errors, errors[-4000:]
    assert max(saved(job.workdir), default=0) < STEPS
