"""Fault row 18: a checkpoint of 1, 2 or 8 devices gives the same embeddings on another number of them.

(`test_resume.py` holds the state itself to the bit; `test_stop.py` goes on as another number of processes.)
"""

import itertools
from pathlib import Path

import jax
import numpy as np
import pytest

from cmr_jax import optim, sharding
from cmr_jax.config import MeshConfig, OptimConfig
from cmr_jax.evals.embed import embed_split
from cmr_jax.train import workdir as workdir_lib
from cmr_jax.train.checkpoint import Checkpoints
from cmr_jax.train.state import abstract_state, init_state
from tests import datasets, tiny

COUNTS = (1, 2, 8)


@pytest.mark.slow
def test_same_embeddings_on_any_number_of_devices(tmp_path: Path):
    data = datasets.write_dataset(tmp_path / "data", {"train": 16, "val": 16, "test": 0})
    run = workdir_lib.prepare(tmp_path / "run", tiny.config(data))
    loader, optimizer = run.loader(data, "val"), optim.make_optimizer(OptimConfig(), 10)
    meshes = {n: sharding.make_mesh(MeshConfig(fsdp=n), jax.devices()[:n]) for n in COUNTS}
    want = {}
    for n, mesh in meshes.items():
        state = init_state(run.model, optimizer, mesh, seed=n)
        Checkpoints(tmp_path / f"of {n}").save(state)
        want[n] = embed_split(run.model, state.params, loader, mesh)
    cases = 0
    for n, m in itertools.permutations(COUNTS, 2):
        abstract = abstract_state(run.model, optimizer, meshes[m])
        state = Checkpoints(tmp_path / f"of {n}").restore(0, abstract)
        assert all(len(leaf.sharding.device_set) == m for leaf in jax.tree.leaves(state.params))
        found = embed_split(run.model, state.params, loader, meshes[m])
        worst = max(np.abs(ours - theirs).max() for ours, theirs in zip(found, want[n], strict=True))
        print(f"of {n} on {m} devices: embeddings within {worst:.1e}")
        assert worst <= 1e-5
        cases += 1
    assert cases == 6
    assert np.abs(want[1][0] - want[2][0]).max() > 0.01  # three models, not one
