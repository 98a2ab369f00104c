"""Fault row 11 at its full number: no flipped bit of a checkpoint is ever restored."""

import jax
import numpy as np
import pytest

from cmr_jax import optim, sharding
from cmr_jax.config import MeshConfig, OptimConfig
from cmr_jax.train.checkpoint import Checkpoints
from cmr_jax.train.state import init_state
from tests import tiny


@pytest.mark.slow
def test_a_hundred_bit_flips_are_all_found(tmp_path):
    mesh = sharding.make_mesh(MeshConfig(), jax.devices()[:1])
    state = init_state(tiny.model(), optim.make_optimizer(OptimConfig(), 10), mesh, seed=0)
    checkpoints = Checkpoints(tmp_path / "checkpoints")
    checkpoints.save(state)
    assert checkpoints.whole(0)
    files = sorted(p for p in (tmp_path / "checkpoints" / "00000000").rglob("*") if p.is_file() and p.stat().st_size)
    rng = np.random.default_rng(0)
    for _ in range(100):
        victim = files[rng.integers(len(files))]
        raw = victim.read_bytes()
        flipped = bytearray(raw)
        flipped[rng.integers(len(raw))] ^= 1 << int(rng.integers(8))
        victim.write_bytes(flipped)
        assert not checkpoints.whole(0), victim.name
        victim.write_bytes(raw)
    assert checkpoints.whole(0)
