"""Saving beside training: bounded, safe to donate after, whole or not there; and the last good one outside rotation."""

import shutil
import threading
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cmr_jax.errors import InputError
from cmr_jax.structs import TrainState
from cmr_jax.train import checkpoint
from cmr_jax.train.checkpoint import Checkpoints


def _state(step: int, size: int = 1000) -> TrainState:
    params = {"w": jax.random.normal(jax.random.key(step), (size,), jnp.float32)}
    return TrainState(
        step=jnp.int32(step), params=params, opt_state={"m": jnp.full((3,), step, jnp.float32)}, usual_loss=jnp.zeros(2)
    )


def test_the_state_may_be_given_away_right_after(tmp_path: Path):
    checkpoints = Checkpoints(tmp_path)
    state, want = _state(1, 3_000_000), np.asarray(_state(1, 3_000_000).params["w"])
    advance = jax.jit(lambda s: jax.tree.map(lambda x: x * 0 - 1, s), donate_argnums=0)
    jax.block_until_ready(advance(_state(2, 3_000_000)))
    checkpoints.save_soon(state)
    # (On a CPU, where the writer reads the very buffers, jax makes a copy instead of handing them on.)
    jax.block_until_ready(advance(state))
    checkpoints.wait()
    found = checkpoints.restore(1, _state(1, 3_000_000))
    np.testing.assert_array_equal(np.asarray(found.params["w"]), want)


def test_one_save_at_a_time_and_no_manifest_before_the_arrays(tmp_path: Path, monkeypatch):
    checkpoints = Checkpoints(tmp_path)
    held, original = threading.Event(), checkpoints._finish

    def slow(step, writing):
        assert held.wait(60)
        original(step, writing)

    monkeypatch.setattr(checkpoints, "_finish", slow)
    checkpoints.save_soon(_state(1))
    assert checkpoints.steps() == [] and checkpoints.newest_whole() is None
    second = threading.Thread(target=checkpoints.save_soon, args=(_state(2),))
    second.start()
    second.join(0.3)
    assert second.is_alive() and not (tmp_path / "00000002").exists()
    held.set()
    second.join(60)
    checkpoints.wait()
    assert checkpoints.steps() == [1, 2]


def test_what_goes_wrong_while_writing_is_said_by_the_loops_next_look(tmp_path: Path, monkeypatch):
    checkpoints = Checkpoints(tmp_path)

    def fails(step):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(checkpoints, "_commit", fails)
    checkpoints.save_soon(_state(1))
    with pytest.raises(InputError, match=r"checkpoint 1 could not be written \(No space left"):
        while True:
            checkpoints.poll()
    assert not list(tmp_path.glob("0*"))


def test_a_full_disk_is_found_before_anything_is_written(tmp_path: Path, monkeypatch):
    checkpoints = Checkpoints(tmp_path)
    checkpoints.save(_state(1))
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=3999))
    with pytest.raises(InputError, match=r"no room for a checkpoint .* 0\.0 are free; what was saved before stands"):
        checkpoints.save(_state(1))
    assert checkpoints.whole(1)


def test_the_last_good_one_stays_however_old(tmp_path: Path):
    checkpoints = Checkpoints(tmp_path, keep=1)
    assert checkpoints.last_good() is None
    checkpoints.save_soon(_state(1))
    checkpoints.mark_good(1)
    for step in (2, 3, 4):
        checkpoints.save_soon(_state(step))
    checkpoints.wait()
    assert checkpoints.steps() == [1, 4]
    assert Checkpoints(tmp_path).last_good() == 1
    checkpoints.mark_good(4)
    checkpoints.save(_state(5))
    assert checkpoints.steps() == [4, 5]
    checkpoints.mark_good(99)
    checkpoints.wait()
    assert checkpoints.last_good() == 4


def test_a_checkpoint_of_another_state_is_refused_in_one_line(tmp_path: Path, monkeypatch):
    """Such as one from before the usual loss was part of the state."""
    checkpoints = Checkpoints(tmp_path, keep=1)
    with monkeypatch.context() as before:
        whole = checkpoint._as_dict
        before.setattr(
            checkpoint, "_as_dict", lambda state: {k: v for k, v in whole(state).items() if k != "usual_loss"}
        )
        checkpoints.save(_state(1))
    abstract = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=x.sharding), _state(1))
    with pytest.raises(InputError, match=r"^checkpoint 1 does not fit this config: .* another --workdir$"):
        checkpoints.restore(1, abstract)
