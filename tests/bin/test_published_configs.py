"""The configs of published models through the binaries, at toy size: train, export under released names, and back."""

import dataclasses
import json
import subprocess
from pathlib import Path

import numpy as np
import pytest

from cmr_jax import config as config_lib
from cmr_jax.evals.embed import embed_dataset
from cmr_jax.models import weights
from cmr_jax.models.pretrained import load_cmrclip, starting_weights
from cmr_jax.train import workdir as workdir_lib
from cmr_jax.train.loop import train
from tests import datasets

TOY = {
    "model.video.image_size": 16, "model.video.frames": 8, "model.video.patch": 8, "model.video.width": 16,
    "model.video.depth": 2, "model.video.heads": 2, "model.text.vocab_size": 0, "model.text.length": 16,
    "model.text.positions": 24, "model.text.width": 16, "model.text.depth": 2, "model.text.heads": 2,
    "model.embed_dim": 12, "model.dtype": "float32", "data.sections": "findings", "train.batch_size": 8,
    "train.steps": 2, "model.text.dropout": 0.0, "model.remat": "none", "train.log_every": 1, "data.shift_px": 1,
}  # fmt: skip


def _run(python: str, module: str, *arguments: str) -> str:
    done = subprocess.run([python, "-m", module, *arguments], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return done.stdout + done.stderr


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    return datasets.write_dataset(tmp_path_factory.mktemp("published") / "data", {"train": 16, "val": 0, "test": 8})


@pytest.fixture(scope="module")
def trained(python: str, data: Path, tmp_path_factory) -> Path:
    workdir = tmp_path_factory.mktemp("trained") / "run"
    sizes = [f"--config.{key}={value}" for key, value in TOY.items()]
    _run(python, "cmr_jax.bin.train", "--config=configs/cmrclip_64.py", f"--workdir={workdir}",
         f"--config.data.path={data}", *sizes)  # fmt: skip
    return workdir


def test_cmrclip_64_trains_exports_and_comes_back(python: str, data: Path, trained: Path, tmp_path: Path):
    lines = [json.loads(line) for line in (trained / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines if "loss" in line] == [1, 2]
    assert lines[0]["scale"] == pytest.approx(20.0, rel=1e-5)
    # Chance is the log of the batch, twice: the two directions are summed.
    assert lines[0]["loss"] == pytest.approx(2 * np.log(8), rel=0.5) and lines[0]["loss"] > 1.5 * np.log(8)
    out = tmp_path / "released"
    _run(python, "cmr_jax.bin.export_weights", f"--workdir={trained}", f"--out={out}")
    assert {p.name for p in out.iterdir()} == {"state_dict.safetensors", "config.json", "tokenizer.model"}
    model, params = load_cmrclip(out / "state_dict.safetensors", out / "config.json")
    run = workdir_lib.load(trained)
    assert model.model.config.temperature == pytest.approx(0.05)
    text = dataclasses.replace(run.config.model.text, length=24)
    assert dataclasses.replace(model.model.config, temperature=0.05) == dataclasses.replace(run.config.model, text=text)
    embedded = embed_dataset(workdir=str(trained), data=str(data), splits=("test",))
    batch = run.loader(data, "test").batch(np.arange(8))
    np.testing.assert_allclose(model.model.encode_image(params, batch), embedded.image_NE, atol=1e-5)
    got = model.model.encode_text(params, batch.tokens_BL, batch.token_mask_BL)
    np.testing.assert_allclose(got, embedded.text_NE, atol=1e-5)


def test_training_starts_from_exported_weights_and_says_so_once(
    python: str, data: Path, trained: Path, tmp_path, capfd
):
    out = tmp_path / "released"
    _run(python, "cmr_jax.bin.export_weights", f"--workdir={trained}", f"--out={out}")
    before = workdir_lib.load(trained).config
    path = str(out / "state_dict.safetensors")
    start = dataclasses.replace(
        before.model,
        video=dataclasses.replace(before.model.video, init_from=path, time_init="zero_projection"),
        text=dataclasses.replace(before.model.text, init_from=path),
    )
    still = dataclasses.replace(before.optim, learning_rate=1e-12, warmup_from=1e-12)
    config = dataclasses.replace(before, model=start, optim=still)
    run = workdir_lib.prepare(tmp_path / "again", config_lib.from_dict(config_lib.to_dict(config)))
    capfd.readouterr()
    train(run.config, run.model, run.loader(data, "train"), run.workdir)
    said = [line for line in capfd.readouterr().err.splitlines() if line.startswith("weights of")]
    assert len(said) == 2 and "model.video.init_from" in said[0] and "model.text.init_from" in said[1]
    old, new = (embed_dataset(workdir=str(w), data=str(data), splits=("test",)) for w in (trained, run.workdir))
    np.testing.assert_allclose(new.image_NE, old.image_NE, atol=1e-5)
    found, _ = starting_weights(run.config.model, 7)
    assert len(found) == len(weights.flat(run.model.abstract_params())) - 1, "all but the temperature"


@pytest.mark.parametrize("name", ["cmrformer_base", "cmrclip_64_live", "cmrformer_base_live"])
def test_the_other_configs_take_a_step(data: Path, tmp_path: Path, name: str):
    made = __import__(f"configs.{name}", fromlist=["get_config"]).get_config()
    for key, value in TOY.items():
        part = made
        *way, last = key.split(".")
        for step in way:
            part = part[step]
        part[last] = (value,) if key == "data.sections" else value
    made.data.path = str(data)
    run = workdir_lib.prepare(tmp_path / "run", config_lib.from_dict(made.to_dict()))
    assert run.config.model.video.time_init == ("zero_projection" if name.endswith("live") else "zeros")
    metrics = train(run.config, run.model, run.loader(data, "train"), run.workdir)
    assert np.isfinite(metrics["loss"]) and metrics["grad_norm"] > 0


def test_a_weight_file_that_does_not_fit_leaves_no_workdir(python: str, data: Path, tmp_path: Path):
    done = subprocess.run(
        [python, "-m", "cmr_jax.bin.train", "--config=configs/cmrclip_64.py", f"--workdir={tmp_path / 'run'}",
         f"--config.data.path={data}", f"--config.model.video.init_from={tmp_path / 'none.safetensors'}"],
        capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert done.returncode == 2 and not (tmp_path / "run").exists()
    assert done.stderr.strip().splitlines()[-1].startswith("error: no weight file 'none.safetensors'")
