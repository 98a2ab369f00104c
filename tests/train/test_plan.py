"""The plan compiles the very train step; where libtpu is installed, for chips that are not here."""

import dataclasses
import importlib.util
import json
import os
import subprocess
from pathlib import Path
from typing import Any

import jax
import pytest

from cmr_jax import sharding
from cmr_jax.config import MeshConfig
from cmr_jax.data import schema
from cmr_jax.data.loader import train_batches
from cmr_jax.errors import InputError
from cmr_jax.models.build import build
from cmr_jax.train import chips, plan
from cmr_jax.train.workdir import prepare
from tests import datasets, tiny


def _tiny(**train: Any):
    config = tiny.config("", mesh=MeshConfig(fsdp=2), **train)
    text = dataclasses.replace(config.model.text, vocab_size=40)
    return dataclasses.replace(config, model=dataclasses.replace(config.model, text=text))


def _plan(**train: Any) -> plan.Plan:
    config = _tiny(**train)
    model = build(config.model, len(schema.VIEWS))
    return plan.make_plan(config, model, "v5e", jax.devices(), flops=1e9)


def test_the_batch_of_the_plan_is_the_batch_of_the_loader(tmp_path: Path):
    data = datasets.write_dataset(tmp_path / "data", {"train": 24, "val": 0, "test": 0})
    run = prepare(tmp_path / "run", tiny.config(data))
    batch = next(train_batches(run.loader(data, "train"), start_step=0, process_index=0, process_count=1))
    planned = plan.abstract_batch(run.config, sharding.make_mesh(run.config.mesh))
    for name in (f.name for f in dataclasses.fields(batch)):
        real, shape = getattr(batch, name), getattr(planned, name)
        if real is None:  # parts of a text that the config does not draw
            assert shape is None, name
            continue
        assert (real.shape, real.dtype) == (shape.shape, shape.dtype), name


def test_a_plan_on_this_machine_has_every_figure():
    made = _plan(batch_size=16)
    assert made.fits and made.devices == 8 and made.mesh == {"data": 4, "fsdp": 2}
    assert made.temporary_bytes is not None and made.temporary_bytes > 0
    kinds = {c.kind for c in made.collectives}
    assert "all-gather" in kinds and "all-reduce" in kinds
    # Three copies of the parameters (Adam), most of them halved by fsdp.
    params = sum(leaf.size * 4 for leaf in jax.tree.leaves(build(_tiny().model, 19).abstract_params()))
    assert 1.5 * params <= made.state_bytes <= 2.2 * params
    assert made.seconds["compute"] == pytest.approx(1e9 / 8 / 197e12)
    # What remat computes again takes time and is no use.
    again = dataclasses.replace(made, recomputed_flops=1e15)
    assert again.bound == "compute" and again.best_mfu == pytest.approx(1e9 / (1e15 + 1e9))
    assert made.bound == max(made.seconds, key=lambda name: made.seconds[name])
    text = plan.describe(made)
    assert "fits: peak" in text and "all-gather among" in text
    json.dumps(made.to_dict())


def test_twice_the_batch_sends_no_more_parameters_but_moves_more_memory():
    small, large = _plan(batch_size=16), _plan(batch_size=32)
    assert large.state_bytes == small.state_bytes
    assert large.memory_traffic_bytes > 1.2 * small.memory_traffic_bytes


@pytest.mark.parametrize(
    ("topology", "says"),
    [
        ("v5e", "not of the form"),
        ("v5e:4", "not of the form"),
        ("v9z:4x4", "no chip 'v9z'"),
        ("h100", "not of the form"),
        ("h100:2x2x8", "not of the form"),
    ],
)
def test_a_slice_that_is_none(topology: str, says: str):
    with pytest.raises(InputError, match=says):
        plan.devices_of(topology)


def test_a_batch_that_the_chips_cannot_share():
    with pytest.raises(InputError, match="batch_size 12 is not a multiple of 8"):
        _plan(batch_size=12)


def test_chips_by_what_jax_calls_them():
    assert chips.of_device_kind("TPU v5 lite") == chips.CHIPS["v5e"]
    assert chips.of_device_kind("NVIDIA H100 80GB HBM3") == chips.CHIPS["h100"]
    assert chips.of_device_kind("cpu") is None


def _installed(compiler: str) -> bool:
    return importlib.util.find_spec({"tpu": "libtpu", "cuda": "jax_cuda13_plugin"}[compiler]) is not None


@pytest.mark.parametrize(("topology", "compiler"), [("v5e:2x2", "tpu"), ("h100:4", "cuda")])
def test_the_demo_compiles_for_four_chips(python: str, tmp_path: Path, topology: str, compiler: str):
    if not _installed(compiler):
        pytest.skip(f"the extra {compiler} is not installed")
    out = tmp_path / "plan.json"
    command = [python, "-m", "cmr_jax.bin.plan", "--config=configs/demo.py", f"--topology={topology}", f"--out={out}"]
    command += ["--config.mesh.fsdp=2", "--config.model.dtype=bfloat16", "--config.model.text.vocab_size=500"]
    environment = {k: v for k, v in os.environ.items() if k != "XLA_FLAGS"}
    done = subprocess.run(command, capture_output=True, text=True, timeout=500, env=environment)
    assert done.returncode == 0, done.stderr[-2000:]
    made = json.loads(out.read_text())
    assert made["fits"] and made["devices"] == 4 and 0 < made["peak_bytes"] < 1 << 30
    assert made["flops"] > 1e9 and made["bound"] in made["roofline_seconds"]
    assert {c["kind"] for c in made["collectives"]} >= {"all-gather", "all-reduce"}


@pytest.mark.parametrize(("topology", "compiler"), [("v5e:2x2", "tpu"), ("h100:2x8", "cuda")])
def test_without_the_compiler_it_says_what_to_install(python: str, tmp_path: Path, topology: str, compiler: str):
    if _installed(compiler):
        pytest.skip(f"the extra {compiler} is installed")
    command = [python, "-m", "cmr_jax.bin.plan", "--config=configs/demo.py", f"--topology={topology}"]
    done = subprocess.run([*command, f"--out={tmp_path / 'x.json'}"], capture_output=True, text=True, timeout=200)
    assert done.returncode == 2 and f"cmr_jax[{compiler}]" in done.stderr, done.stderr
    assert not list(tmp_path.iterdir())
