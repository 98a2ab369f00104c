"""What the training loop tells its user."""

import dataclasses
from pathlib import Path

import pytest

from cmr_jax.train import workdir as workdir_lib
from cmr_jax.train.loop import train
from tests import datasets, tiny


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    return datasets.write_dataset(tmp_path_factory.mktemp("loop") / "data", {"train": 16, "val": 4, "test": 4})


@pytest.mark.parametrize(("length", "told"), [(8, True), (256, False)])
def test_reports_whose_end_is_not_read_are_told_of(data: Path, tmp_path: Path, capsys, length: int, told: bool):
    config = tiny.config(data, steps=1)
    text = dataclasses.replace(config.model.text, length=length)
    config = dataclasses.replace(config, model=dataclasses.replace(config.model, text=text))
    run = workdir_lib.prepare(tmp_path / "run", config)
    train(run.config, run.model, run.loader(data, "train"), tmp_path / "run")
    said = [line for line in capsys.readouterr().err.splitlines() if line.startswith("note:")]
    assert len(said) == told
    if told:
        assert said[0].startswith("note: 16 of the first 16 reports fill config.model.text.length (8 tokens)")
