"""Lengths in epochs, a frozen tower, rates by layer, an average and a batch in parts: one run of the binaries."""

import subprocess
from pathlib import Path

import jax
import numpy as np
import pytest

from cmr_jax import optim, sharding
from cmr_jax.config import MeshConfig
from cmr_jax.train import workdir as workdir_lib
from cmr_jax.train.checkpoint import Checkpoints
from cmr_jax.train.state import abstract_state, init_state
from tests import datasets
from tests.train.jobs import Job, losses, saved

SETTINGS = (
    "--config.train.epochs=2", "--config.optim.warmup_epochs=1", "--config.train.batch_size=8",
    "--config.train.micro_batches=2", "--config.train.eval_every=0", "--config.optim.freeze=^image/",
    "--config.optim.layer_decay=0.5", "--config.optim.ema_decay=0.9",
)  # fmt: skip
STEPS = 6  # 24 studies in batches of 8, twice


@pytest.mark.slow
def test_every_setting_of_fine_tuning_at_once(python: str, tmp_path: Path):
    data = datasets.write_dataset(tmp_path / "data", {"train": 24, "val": 0, "test": 4})
    job = Job(python, data, tmp_path / "run", settings=SETTINGS)
    job.to_the_end()
    found = losses(job.workdir)
    assert sorted(found) == list(range(1, STEPS + 1)) and np.isfinite(list(found.values())).all()
    assert saved(job.workdir)[-1] == STEPS

    run = workdir_lib.load(job.workdir)
    mesh = sharding.make_mesh(MeshConfig())
    optimizer = optim.make_optimizer(optim.lengths(run.config, 24).optim, STEPS)
    state = Checkpoints(job.workdir / "checkpoints").restore(STEPS, abstract_state(run.model, optimizer, mesh))
    born = init_state(run.model, optimizer, mesh, run.config.train.seed).params
    mean = optim.averaged(state.params, state.opt_state)
    moved, behind = set(), set()
    leaves = zip(*(jax.tree.leaves(tree) for tree in (state.params, born, mean)), strict=True)
    for (path, _), (now, was, average) in zip(jax.tree_util.tree_leaves_with_path(born), leaves, strict=True):
        name = sharding.path_name(path)
        if not np.allclose(now, was, rtol=0, atol=1e-6):
            moved.add(name.split("/")[0])
        if not np.array_equal(now, average):
            behind.add(name.split("/")[0])
    assert "text" in moved and "image" not in moved
    assert "text" in behind and "image" not in behind

    out = tmp_path / "embedded"
    command = [python, "-m", "cmr_jax.bin.embed", f"--workdir={job.workdir}", f"--data={data}", f"--out={out}"]
    done = subprocess.run(command, env=job.environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr[-2000:]
    image = np.load(out / "image.npy")
    assert image.shape[0] == 4 and np.isfinite(image).all()
