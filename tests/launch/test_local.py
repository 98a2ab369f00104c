"""Several processes (gloo) train, save and restore as one process with the devices of all does."""

import json
import os
import subprocess
from pathlib import Path

import numpy as np
import pytest

from tests import datasets

FLAGS = (
    "--config=configs/demo.py", "--config.train.batch_size=16", "--config.train.log_every=1",
    "--config.train.checkpoint_every=2", "--config.train.eval_every=4",
    "--config.model.video.image_size=16", "--config.model.video.patch=8", "--config.model.video.width=32",
    "--config.model.text.width=32", "--config.data.layout=picture",
    "--config.data.centre=image", "--config.data.spacing_mm=0.0", "--config.data.sections=findings",
)  # fmt: skip


def _train(python: str, workdir: Path, data: Path, processes: int, devices: int, fsdp: int) -> dict[int, float]:
    """Trains four steps and returns the losses."""
    command = [
        python,
        "-m",
        "launch.local",
        f"--processes={processes}",
        f"--devices={devices // processes}",
        "--",
        *FLAGS,
    ]
    command += [f"--workdir={workdir}", f"--config.data.path={data}", "--config.train.steps=4"]
    command += [f"--config.mesh.fsdp={fsdp}"]
    cache = {**os.environ, "JAX_COMPILATION_CACHE_DIR": str(data.parent / "cache")}
    done = subprocess.run(command, capture_output=True, text=True, timeout=400, env=cache)
    assert done.returncode == 0, done.stderr[:3000] + done.stderr[-3000:]
    lines = [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]
    assert any("val/image_to_text/R@1" in line for line in lines)
    return {line["step"]: line["loss"] for line in lines if "loss" in line}


@pytest.mark.parametrize(
    ("processes", "devices", "fsdp"), [(2, 8, 1), (2, 2, 2), pytest.param(4, 4, 2, marks=pytest.mark.slow)]
)
def test_processes_train_save_and_restore(python: str, tmp_path: Path, processes: int, devices: int, fsdp: int):
    data = datasets.write_dataset(tmp_path / "data", {"train": 24, "val": 6, "test": 0})
    mesh = {"devices": devices, "fsdp": fsdp}
    one = _train(python, tmp_path / "one", data, processes=1, **mesh)
    two = _train(python, tmp_path / "two", data, processes=processes, **mesh)
    assert list(two) == list(one) == [1, 2, 3, 4]
    np.testing.assert_allclose(list(two.values()), list(one.values()), rtol=1e-5)
    manifests = tmp_path / "two" / "checkpoints" / "manifests"
    assert sorted(p.stem for p in manifests.iterdir()) == ["00000002", "00000004"]
    # As if both had been killed after step 2: they start again from its checkpoint and end where they ended before.
    (manifests / "00000004.json").unlink()
    assert _train(python, tmp_path / "two", data, processes=processes, **mesh) == two


def test_two_axes_over_processes_of_several_cpus_are_refused(python: str, tmp_path: Path):
    """Gloo would end the job at its first step with a message that nobody understands."""
    data = datasets.write_dataset(tmp_path / "data", {"train": 24, "val": 6, "test": 0})
    command = [python, "-m", "launch.local", "--processes=2", "--devices=2", "--", *FLAGS, "--config.mesh.fsdp=2"]
    command += [f"--workdir={tmp_path / 'run'}", f"--config.data.path={data}"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 2
    assert "data and fsdp are both above 1" in done.stderr and "--processes 4 --devices 1" in done.stderr


def test_a_process_that_fails_ends_the_job_with_its_code(python: str, tmp_path: Path):
    command = [python, "-m", "launch.local", "--processes=2", "--devices=1", "--", "--config=configs/demo.py"]
    done = subprocess.run([*command, f"--workdir={tmp_path}"], capture_output=True, text=True, timeout=120)
    assert done.returncode == 2
    assert "config.data.path is empty" in done.stderr


def test_nothing_to_launch_is_an_input_error(python: str):
    done = subprocess.run([python, "-m", "launch.local"], capture_output=True, text=True)
    assert done.returncode == 2 and "after --" in done.stderr
