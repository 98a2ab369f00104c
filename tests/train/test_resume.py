"""A stop anywhere is as if it had not been: bitwise, on one mesh."""

import json
import shutil
from pathlib import Path

import jax
import numpy as np
import pytest

from cmr_jax import optim, sharding
from cmr_jax.config import MeshConfig
from cmr_jax.errors import InputError
from cmr_jax.train import workdir as workdir_lib
from cmr_jax.train.checkpoint import Checkpoints
from cmr_jax.train.loop import train
from cmr_jax.train.state import abstract_state
from tests import datasets, tiny

STEPS = 6


@pytest.fixture(scope="module", autouse=True)
def compile_cache(tmp_path_factory):
    """Every start compiles the same step: let the later ones read it."""
    jax.config.update("jax_compilation_cache_dir", str(tmp_path_factory.mktemp("cache")))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
    yield
    jax.config.update("jax_compilation_cache_dir", None)


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    return datasets.write_dataset(tmp_path_factory.mktemp("resume") / "data", {"train": 24, "val": 4, "test": 4})


def _run(data: Path, workdir: Path, mesh: MeshConfig | None = None, **settings) -> Path:
    mesh = mesh or MeshConfig(fsdp=2)
    settings = {"steps": STEPS, "checkpoint_every": 1, "keep_checkpoints": STEPS, **settings}
    run = workdir_lib.prepare(workdir, tiny.config(data, mesh=mesh, **settings))
    train(run.config, run.model, run.loader(data, "train"), workdir)
    return workdir


@pytest.fixture(scope="module")
def undisturbed(data: Path, tmp_path_factory) -> Path:
    return _run(data, tmp_path_factory.mktemp("undisturbed") / "run")


def _state(workdir: Path, step: int, mesh: MeshConfig | None = None):
    run = workdir_lib.load(workdir)
    made = sharding.make_mesh(mesh or MeshConfig(fsdp=2))
    abstract = abstract_state(run.model, optim.make_optimizer(run.config.optim, STEPS), made)
    return Checkpoints(workdir / "checkpoints").restore(step, abstract)


def _losses(workdir: Path) -> dict[int, float]:
    lines = [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]
    lines = [line for line in lines if "loss" in line]
    assert len({line["step"] for line in lines}) == len(lines), "a step stands there twice"
    return {line["step"]: line["loss"] for line in lines}


def _forget_after(workdir: Path, step: int) -> None:
    """Leaves the workdir as a run that was killed right after the checkpoint of `step`."""
    for later in range(step + 1, STEPS + 1):
        (workdir / "checkpoints" / "manifests" / f"{later:08d}.json").unlink()


@pytest.mark.parametrize("stop", range(1, STEPS))
def test_a_stop_at_any_step_ends_bitwise_the_same(data: Path, undisturbed: Path, tmp_path: Path, stop: int):
    resumed = tmp_path / "run"
    shutil.copytree(undisturbed, resumed)
    _forget_after(resumed, stop)
    _run(data, resumed)
    for ours, theirs in zip(*map(jax.tree.leaves, (_state(resumed, STEPS), _state(undisturbed, STEPS))), strict=True):
        np.testing.assert_array_equal(np.asarray(ours), np.asarray(theirs))
    assert _losses(resumed) == _losses(undisturbed)


def test_training_learns_something(undisturbed: Path):
    losses = _losses(undisturbed)
    assert list(losses) == list(range(1, STEPS + 1))
    assert losses[STEPS] < losses[1]
    last = json.loads((undisturbed / "metrics.jsonl").read_text().splitlines()[-2])
    assert last["perf/mfu"] is None and last["spikes"] == 0  # a CPU has no honest peak


def test_a_damaged_checkpoint_is_left_for_the_one_before(data: Path, undisturbed: Path, tmp_path: Path, capfd):
    resumed = tmp_path / "run"
    shutil.copytree(undisturbed, resumed)
    folder = resumed / "checkpoints" / f"{STEPS:08d}"
    victim = max((p for p in folder.rglob("*") if p.is_file()), key=lambda p: p.stat().st_size)
    raw = bytearray(victim.read_bytes())
    raw[len(raw) // 2] ^= 1
    victim.write_bytes(raw)
    assert Checkpoints(resumed / "checkpoints").newest_whole() == STEPS - 1
    assert f"checkpoint {STEPS} is damaged" in capfd.readouterr().err
    with pytest.raises(InputError, match=f"no undamaged checkpoint of step {STEPS}"):
        _state(resumed, STEPS)
    _run(data, resumed)
    assert Checkpoints(resumed / "checkpoints").newest_whole() == STEPS
    assert _losses(resumed) == _losses(undisturbed)


@pytest.mark.parametrize("mesh", [MeshConfig(fsdp=1), MeshConfig(fsdp=8)])
def test_a_checkpoint_opens_on_another_mesh(undisturbed: Path, mesh: MeshConfig):
    for ours, theirs in zip(*map(jax.tree.leaves, (_state(undisturbed, 3, mesh), _state(undisturbed, 3))), strict=True):
        np.testing.assert_array_equal(np.asarray(ours), np.asarray(theirs))


def test_old_checkpoints_go_and_the_newest_stay(data: Path, tmp_path: Path):
    _run(data, tmp_path / "run", keep_checkpoints=2, checkpoint_every=2)
    assert Checkpoints(tmp_path / "run" / "checkpoints").steps() == [4, 6]
    folders = {p.name for p in (tmp_path / "run" / "checkpoints").iterdir()}
    assert folders == {"00000004", "00000006", "manifests", "last_good.json"}


def test_a_workdir_of_another_experiment_is_refused(data: Path, undisturbed: Path, tmp_path: Path):
    with pytest.raises(InputError, match=r"trained with config\.train\.batch_size=16, not 8"):
        workdir_lib.prepare(undisturbed, tiny.config(data, mesh=MeshConfig(fsdp=2), steps=STEPS, batch_size=8))
    other = datasets.write_dataset(tmp_path / "other", {"train": 16, "val": 0, "test": 0})
    with pytest.raises(InputError, match="another dataset"):
        workdir_lib.prepare(undisturbed, tiny.config(other, mesh=MeshConfig(fsdp=2), steps=STEPS))


def test_the_step_compiles_once(data: Path, tmp_path: Path, monkeypatch):
    from cmr_jax.train import loop

    made = []
    original = loop.jit_step
    monkeypatch.setattr(loop, "jit_step", lambda *args: made.append(original(*args)) or made[-1])
    _run(data, tmp_path / "run", steps=4, checkpoint_every=0)
    assert made[0]._cache_size() == 1


def test_a_batch_that_the_devices_cannot_share_is_refused(data: Path, tmp_path: Path):
    with pytest.raises(InputError, match="batch_size 12 is not a multiple of the 8 devices"):
        _run(data, tmp_path / "run", batch_size=12)


def test_an_empty_training_split_is_refused(tmp_path: Path):
    empty = datasets.write_dataset(tmp_path / "data", {"train": 0, "val": 2, "test": 2})
    with pytest.raises(InputError, match="'train' holds no study"):
        _run(empty, tmp_path / "run")
