"""Two processes embed what one does, each its own stretch, and are joined; stopped, they continue."""

import json
import os
import subprocess
from pathlib import Path

import numpy as np
import pytest

from cmr_jax.evals import export
from cmr_jax.train import workdir as workdir_lib
from cmr_jax.train.checkpoint import Checkpoints
from cmr_jax.train.loop import optim, sharding
from cmr_jax.train.state import init_state
from launch.local import free_port
from tests import datasets, tiny


@pytest.fixture(name="data", scope="module")
def make_data(tmp_path_factory) -> Path:
    # Stretches of 23 and 24 rows: the first ends within a split, and no batch is full.
    return datasets.write_dataset(tmp_path_factory.mktemp("embed") / "data", {"train": 16, "val": 4, "test": 27})


@pytest.fixture(name="trained", scope="module")
def make_trained(data: Path, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("embedded") / "run"
    run = workdir_lib.prepare(folder, tiny.config(data))
    optimizer = optim.make_optimizer(run.config.optim, run.config.train.steps)
    Checkpoints(folder / "checkpoints").save(
        init_state(run.model, optimizer, sharding.make_mesh(run.config.mesh), run.config.train.seed)
    )
    return folder


def embed(python: str, data: Path, trained: Path, out: Path, processes: int) -> list[subprocess.CompletedProcess]:
    command = [python, "-m", "cmr_jax.bin.embed", f"--workdir={trained}", f"--data={data}", f"--out={out}"]
    command += ["--split=all"]
    flags = "--xla_force_host_platform_device_count=2 --xla_cpu_enable_concurrency_optimized_scheduler=false"
    environment = {**os.environ, "JAX_PLATFORMS": "cpu", "XLA_FLAGS": flags}
    if processes == 1:
        return [subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300, check=False)]
    command += ["--distributed", f"--coordinator=127.0.0.1:{free_port()}", f"--num_processes={processes}"]
    running = [
        subprocess.Popen(
            [*command, f"--process_id={process}"], env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            text=True,
        )
        for process in range(processes)
    ]  # fmt: skip
    done = []
    for each in running:
        try:
            out_text, error_text = each.communicate(timeout=300)
        finally:
            each.kill()
        done.append(subprocess.CompletedProcess(command, each.returncode, out_text, error_text))
    return done


def test_two_processes_write_what_one_does_and_continue_where_they_were_stopped(python, data, trained, tmp_path):
    (alone,) = embed(python, data, trained, tmp_path / "one", 1)
    assert alone.returncode == 0, alone.stderr
    first, second = embed(python, data, trained, tmp_path / "two", 2)
    assert (first.returncode, second.returncode) == (0, 0), first.stderr + second.stderr
    assert "47 studies x 16" in first.stdout and "studies x" not in second.stdout
    assert sorted(path.name for path in tmp_path.iterdir()) == ["one", "two"]
    one, two = (export.load(tmp_path / name) for name in ("one", "two"))
    assert two.ids == one.ids and two.manifest == one.manifest
    for name in ("image_NE", "text_NE"):
        np.testing.assert_allclose(getattr(two, name), getattr(one, name), atol=1e-6)

    # As if both had been stopped after they had embedded: rows that are done are not embedded again.
    key = {name: one.manifest[name] for name in ("checkpoint_step", "checkpoint_sha256", "config_sha256")}
    key |= {"data": one.manifest["data_manifest_sha256"], "splits": ["train", "val", "test"], "hidden": []}
    for process, rows in enumerate((slice(0, 23), slice(23, 47))):
        folder = tmp_path / "again.partial" / f"part-{process:05d}-of-00002"
        folder.mkdir(parents=True)
        marked = one.image_NE[rows].copy()
        marked[0] = marked[0, ::-1]
        np.save(folder / "image.npy", marked)
        np.save(folder / "text.npy", one.text_NE[rows])
        (folder / "progress.json").write_text(json.dumps({"key": key, "done": len(marked)}))
    done = embed(python, data, trained, tmp_path / "again", 2)
    assert [each.returncode for each in done] == [0, 0], done[0].stderr + done[1].stderr
    again = export.load(tmp_path / "again")
    np.testing.assert_allclose(again.image_NE[[0, 23]], one.image_NE[[0, 23], ::-1], atol=1e-6)
    np.testing.assert_allclose(again.image_NE[[1, 46]], one.image_NE[[1, 46]], atol=1e-6)
