"""The image tower fine-tuned: a label that the images show is learned, one that they do not is not.

A fit costs half a minute of CPU, nearly all of it compilation: what needs several is slow.
"""

from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest

from cmr_jax import optim, sharding
from cmr_jax.data import records
from cmr_jax.errors import InputError
from cmr_jax.evals import classification, embed, finetune
from cmr_jax.evals.export import Embeddings
from cmr_jax.train import workdir as workdir_lib
from cmr_jax.train.checkpoint import Checkpoints
from cmr_jax.train.state import init_state
from tests import datasets, tiny
from tests.evals.synthetic import relabel

EPOCHS = 12
PLAIN_STUDY = datasets.study


def striped(row: int, image_size: int = 16) -> dict[str, Any]:
    """Study `row` whose group is a pattern of stripes: what the smallest untrained tower learns in a few steps."""
    study = PLAIN_STUDY(row, image_size)
    rng, group = np.random.default_rng(row), row % 4
    y, x = np.mgrid[:image_size, :image_size] // 2 % 2
    lit = 90 * (y * (group // 2) + x * (group % 2))
    return study | {"frames": rng.integers(0, 60, study["frames"].shape).astype(np.uint8) + lit.astype(np.uint8)}


@pytest.fixture(name="data", scope="module")
def make_data(tmp_path_factory) -> Path:
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(datasets, "study", striped)
        return datasets.write_dataset(tmp_path_factory.mktemp("tune") / "data", {"train": 96, "val": 32, "test": 64})


@pytest.fixture(name="trained", scope="module")
def make_trained(data: Path, tmp_path_factory) -> Path:
    """A run at its start: its tower has seen nothing."""
    folder = tmp_path_factory.mktemp("tuned") / "run"
    run = workdir_lib.prepare(folder, tiny.config(data))
    mesh = sharding.make_mesh(run.config.mesh, jax.devices()[:1])
    state = init_state(run.model, optim.make_optimizer(run.config.optim, run.config.train.steps), mesh, 0)
    checkpoints = Checkpoints(folder / "checkpoints")
    checkpoints.save(state)
    return folder


@pytest.fixture(autouse=True)
def on_one_device(monkeypatch):
    """It compiles soonest."""
    make_mesh = sharding.make_mesh
    monkeypatch.setattr(embed.sharding, "make_mesh", lambda config: make_mesh(config, jax.devices()[:1]))


@pytest.fixture(name="source", scope="module")
def make_source(data: Path) -> Embeddings:
    """Fine-tuning asks the embeddings for their rows and labels alone, so none are made."""
    ids = {name: [] for name in ("row", "study_id", "patient_id", "split", "report_hash", "group")}
    for split in records.load_manifest(data)["splits"]:
        for each in map(records.Split(data, split).__getitem__, range(len(records.Split(data, split)))):
            for name in ("study_id", "patient_id", "report_hash"):
                ids[name].append(each[name])
            ids["row"].append(str(len(ids["row"])))
            ids["split"].append(split)
            ids["group"] += each["label/value"]
    nothing = np.ones((len(ids["row"]), 16), np.float32) / 4
    return Embeddings(nothing, nothing, ids, {})


def evaluate(source: Embeddings, data: Path, trained: Path, label: str, **more) -> classification.Classification:
    tuner = finetune.fine_tuner(
        workdir=str(trained), data=str(data), study_ids=source.ids["study_id"], epochs=EPOCHS, **more
    )
    return classification.evaluate(source, [label], protocols=["finetune"], finetune=tuner, draws=200)


def test_a_label_that_the_images_show_is_learned_whatever_the_order_of_the_embeddings(source, data, trained):
    order = np.random.default_rng(0).permutation(len(source))
    mixed = relabel(source.take(order), row=[str(row) for row in range(len(source))])
    found = evaluate(mixed, data, trained, "group")
    accuracy, (low, high) = (found.figures[f"finetune/group/accuracy{end}"] for end in ("", "/ci95"))
    assert accuracy > 0.6 and low > 0.25 and low <= accuracy <= high
    assert found.figures["finetune/group/AUROC/ci95"][0] > 0.7
    assert any(note.endswith(f"of {EPOCHS} epochs, chosen on val") for note in found.notes)
    # Thresholds are those of validation: figures of a decision are there.
    assert found.figures["finetune/group/1/sensitivity"] is not None


def test_permuted_labels_score_one_half(source, data, trained):
    shuffled = np.random.default_rng(1).permutation(np.array(source.ids["group"]) < "2")
    found = evaluate(relabel(source, coin=[str(int(each)) for each in shuffled]), data, trained, "coin").figures
    low, high = found["finetune/coin/AUROC/ci95"]
    assert low <= 0.5 <= high and found["finetune/coin/AUROC"] == pytest.approx(0.5, abs=0.2)


@pytest.mark.slow
def test_scores_are_a_function_of_the_seed_and_labels_do_not_touch_one_another(source, data, trained):
    labelled = relabel(source, bright=["0" if group == "0" else "1" for group in source.ids["group"]])
    ids = source.ids["study_id"]

    def scores(labels: list[str], seed: int) -> np.ndarray:
        tuner = finetune.fine_tuner(workdir=str(trained), data=str(data), study_ids=ids, epochs=2, seed=seed)
        found = classification.evaluate(labelled, labels, protocols=["finetune"], finetune=tuner, draws=0)
        return found.scored[-1].fit.score_NQ

    alone, after, other = scores(["group"], 0), scores(["bright", "group"], 0), scores(["group"], 1)
    np.testing.assert_array_equal(alone, after)
    assert np.abs(alone - other).max() > 1e-4


@pytest.mark.slow
def test_without_validation_training_patients_choose_and_are_not_trained_on(source, data, trained):
    rows = np.flatnonzero(np.array(source.ids["split"]) != "val")
    found = evaluate(relabel(source.take(rows), row=[str(row) for row in range(len(rows))]), data, trained, "group")
    assert any("chosen on one in 5 of the training patients" in note for note in found.notes)
    assert found.figures["finetune/group/accuracy"] > 0.5


@pytest.mark.slow
def test_a_class_that_training_lacks_is_null(source, data, trained):
    keep = [r for r, (group, split) in enumerate(zip(source.ids["group"], source.ids["split"], strict=True))
            if split == "test" or group != "3"]  # fmt: skip
    few = relabel(source.take(np.array(keep)), row=[str(row) for row in range(len(keep))])
    found = evaluate(few, data, trained, "group").figures
    assert found["finetune/group/3/AUROC"] is None and found["finetune/group/0/AUROC"] > 0.6


def test_studies_that_the_dataset_has_not_are_counted_and_not_named(source, data, trained):
    strange = relabel(source, study_id=["secret", *source.ids["study_id"][1:]])
    with pytest.raises(InputError, match=r"finetune: 1 of 192 studies .* not in --data") as caught:
        evaluate(strange, data, trained, "group")
    assert "secret" not in str(caught.value)


@pytest.mark.slow
def test_nothing_is_learned_from_the_test_split(source, data, trained):
    """Other labels and other pictures in the test split leave the threshold and what validation said as they were."""
    flipped = ["1" if split == "test" else group for group, split in
               zip(source.ids["group"], source.ids["split"], strict=True)]  # fmt: skip
    one, two = (
        evaluate(relabel(source, group=list(column)), data, trained, "group")
        for column in (source.ids["group"], flipped)
    )
    np.testing.assert_array_equal(one.scored[0].fit.score_NQ, two.scored[0].fit.score_NQ)
    np.testing.assert_array_equal(one.scored[0].fit.threshold_Q, two.scored[0].fit.threshold_Q)


def test_labels_of_one_class_are_no_crash(source, data, trained):
    late = relabel(source, finding=["1" if split == "test" and row % 2 else "0"
                                    for row, split in enumerate(source.ids["split"])])  # fmt: skip
    found = evaluate(late, data, trained, "finding")
    assert found.figures["finetune/finding/AUROC"] is None
    assert any("fewer than two classes in the training split" in note for note in found.notes)
    assert found.scored[0].predicted_N.max() == -1
