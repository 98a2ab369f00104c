"""Updates that are not finite: skipped, counted, and too many in a row end the run; what was learned stands."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cmr_jax import optim, sharding
from cmr_jax.config import OptimConfig
from cmr_jax.errors import InputError
from cmr_jax.structs import Batch
from cmr_jax.train.checkpoint import Checkpoints
from cmr_jax.train.loop import train
from cmr_jax.train.state import abstract_state
from cmr_jax.train.workdir import load, prepare
from tests import datasets, tiny


@dataclasses.dataclass(frozen=True)
class Poisoned:
    """Its gradient is not finite for the batches with these numbers; with `only_gradient` its loss is. With `spike` all
    is finite, but the loss leaps."""

    config: Any
    bad: tuple[int, ...]
    only_gradient: bool = False
    spike: float = 0.0
    num_views: int = 1

    def init(self, key: jax.Array) -> dict[str, Any]:
        kernel = jax.random.normal(key, (16, 8), jnp.float32)
        return {"image_head": {"kernel": kernel}, "text_head": {"kernel": kernel}}

    def apply(self, params, batch: Batch, *, key=None, constrain=None) -> dict[str, jax.Array]:
        del key, constrain
        number = batch.slice_BV[0, 0]  # the test writes the number of the batch there
        bad = jnp.isin(number, jnp.array(self.bad, jnp.float32))
        pixels = batch.video_BVTHW[:, 0, 0, 0].astype(jnp.float32) / 255.0
        image = pixels @ params["image_head"]["kernel"]
        if self.spike:  # wrong pairs, and sure of it
            image = jnp.where(bad, -self.spike * image, image)
        elif self.only_gradient:  # sqrt is 0 at 0, and has no slope there
            image = image + jnp.where(bad, jnp.sqrt(jnp.where(bad, image * 0.0, 1.0)), 0.0)
        else:
            image = image * jnp.where(bad, jnp.nan, 1.0)
        text = batch.tokens_BL.astype(jnp.float32) @ params["text_head"]["kernel"]
        return {
            "image_embedding": image,
            "text_embedding": text,
            "scale": jnp.float32(0.01),
            "bias": jnp.float32(0.0),
        }


def _run(
    tmp_path: Path,
    monkeypatch,
    bad: tuple[int, ...],
    *,
    only_gradient: bool = False,
    spike: float = 0.0,
    **settings: Any,
):
    from cmr_jax.train import loop

    data = datasets.write_dataset(tmp_path / "data", {"train": 24, "val": 0, "test": 0})
    settings = {"steps": 30, "checkpoint_every": 1, "keep_checkpoints": 40, "max_skipped": 10, **settings}
    config = dataclasses.replace(tiny.config(data, **settings), optim=OptimConfig(warmup_steps=1))
    run = prepare(tmp_path / "run", config)
    original = loop.train_batches

    def numbered(loader, *, start_step, **rest):
        for number, batch in enumerate(original(loader, start_step=start_step, **rest), start_step + 1):
            yield dataclasses.replace(batch, slice_BV=np.full_like(batch.slice_BV, number))

    monkeypatch.setattr(loop, "train_batches", numbered)
    model: Any = Poisoned(run.config.model, bad, only_gradient, spike)
    train(run.config, model, run.loader(data, "train"), run.workdir)
    return run.workdir


def _lines(workdir: Path) -> dict[int, dict[str, float]]:
    found = [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]
    return {int(line["step"]): line for line in found if "loss" in line}


def _params(workdir: Path, step: int) -> np.ndarray:
    run = load(workdir)
    optimizer = optim.make_optimizer(run.config.optim, run.config.train.steps)
    model: Any = Poisoned(run.config.model, ())
    abstract = abstract_state(model, optimizer, sharding.make_mesh(run.config.mesh))
    state = Checkpoints(workdir / "checkpoints").restore(step, abstract)
    return np.asarray(state.params["image_head"]["kernel"])


@pytest.mark.parametrize(("bad", "only_gradient"), [((5,), False), ((5, 6, 7), False), ((5,), True)])
def test_bad_updates_are_skipped_and_counted(tmp_path: Path, monkeypatch, bad: tuple[int, ...], only_gradient: bool):
    workdir = _run(tmp_path, monkeypatch, bad, only_gradient=only_gradient, steps=10)
    lines = _lines(workdir)
    assert [step for step, line in lines.items() if line["skipped"]] == list(bad)
    assert (lines[5]["loss"] is not None) == only_gradient  # JSON has no NaN
    for step in range(2, 11):
        same = np.array_equal(_params(workdir, step), _params(workdir, step - 1))
        assert same == (step in bad), step
        assert np.isfinite(_params(workdir, step)).all()


def test_twenty_in_a_row_end_the_run_and_leave_the_last_good_state(tmp_path: Path, monkeypatch):
    with pytest.raises(InputError, match="stopped at step 14: 10 updates in a row"):
        _run(tmp_path, monkeypatch, tuple(range(5, 25)))
    workdir = tmp_path / "run"
    assert [step for step, line in _lines(workdir).items() if line["skipped"]] == list(range(5, 14))
    checkpoints = Checkpoints(workdir / "checkpoints")
    newest, good = checkpoints.newest_whole(), checkpoints.last_good()
    assert newest is not None
    np.testing.assert_array_equal(_params(workdir, newest), _params(workdir, 4))
    # No loss has shown that the state after step 4 is good; that of step 4 has shown it of the one before.
    assert good == 3


def test_a_spike_is_skipped_and_the_state_it_came_of_is_not_the_last_good_one(tmp_path: Path, monkeypatch):
    workdir = _run(tmp_path, monkeypatch, (12,), spike=2e4, steps=13)
    lines = _lines(workdir)
    assert [step for step, line in lines.items() if line["spikes"]] == [12]
    assert lines[12]["loss"] > 10 * np.median([lines[step]["loss"] for step in range(1, 12)])
    assert [step for step, line in lines.items() if line["skipped"]] == [12]
    for step in range(10, 14):
        same = np.array_equal(_params(workdir, step), _params(workdir, step - 1))
        assert same == (step == 12), step
    # The state after step 11 met the spike; step 13 has shown the one after 12, which equals it, to be good after all.
    assert Checkpoints(workdir / "checkpoints").last_good() == 12


def test_a_run_of_spikes_ends_it_and_the_last_good_state_outlives_rotation(tmp_path: Path, monkeypatch):
    with pytest.raises(InputError, match="stopped at step 21: 10 updates in a row"):
        _run(tmp_path, monkeypatch, tuple(range(12, 30)), spike=2e4, keep_checkpoints=2)
    checkpoints = Checkpoints(tmp_path / "run" / "checkpoints")
    assert checkpoints.steps() == [10, 19, 20]
    assert checkpoints.last_good() == 10
    assert checkpoints.whole(10)


def test_two_rows_of_nine_do_not_end_it(tmp_path: Path, monkeypatch):
    workdir = _run(tmp_path, monkeypatch, (*range(3, 12), *range(13, 22)), steps=24)
    assert sum(line["skipped"] for line in _lines(workdir).values()) == 18
