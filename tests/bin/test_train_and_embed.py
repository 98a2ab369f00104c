"""The trainer's and embed's shells: what a user's mistake looks like, and what is (not) left behind."""

import json
import subprocess
from pathlib import Path

import numpy as np
import pytest

from cmr_jax.evals import embed, export
from cmr_jax.train import workdir as workdir_lib
from cmr_jax.train.loop import train
from tests import datasets, tiny


def _fails(python: str, module: str, *arguments: str) -> str:
    """The one line of an input error."""
    done = subprocess.run([python, "-m", module, *arguments], capture_output=True, text=True, timeout=120)
    assert done.returncode == 2, done.stderr
    lines = [line for line in done.stderr.splitlines() if line]
    assert len(lines) == 1 and lines[0].startswith("error: "), done.stderr
    return lines[0]


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    return datasets.write_dataset(tmp_path_factory.mktemp("bins") / "data", {"train": 16, "val": 4, "test": 10})


@pytest.fixture(scope="module")
def trained(data: Path, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("trained") / "run"
    run = workdir_lib.prepare(folder, tiny.config(data, steps=4, checkpoint_every=2))
    train(run.config, run.model, run.loader(data, "train"), folder)
    return folder


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ("--config.train.batchsize=3", 'Did you mean "batch_size"'),
        ("--config.modle.embed_dim=3", 'Did you mean "model"'),
        ("--config.train.steps=many", "--config.train.steps"),
        ("--config.data.path=nowhere", "no dataset folder at 'nowhere'"),
        ("--config.data.views=cine_sx", "did you mean 'cine_sax'"),
        ("--config=configs/nothing.py", "no config file"),
        ("--confg=x", "Unknown command line flag 'confg'"),
        ("extra", "unexpected argument 'extra'"),
    ],
)
def test_a_mistake_is_one_line_and_leaves_no_workdir(python: str, data: Path, tmp_path: Path, change: str, says: str):
    base = ["--config=configs/demo.py", f"--workdir={tmp_path / 'run'}", f"--config.data.path={data}"]
    assert says in _fails(python, "cmr_jax.bin.train", *base, change)
    assert not (tmp_path / "run").exists()


def test_a_corrupt_shard_is_one_line_that_names_it(python: str, tmp_path: Path):
    data = datasets.write_dataset(tmp_path / "data", {"train": 8, "val": 0, "test": 2})
    shard = data / "cmr-train.tfrecord-00001-of-00002"
    raw = bytearray(shard.read_bytes())
    raw[len(raw) // 2] ^= 1
    shard.write_bytes(raw)
    line = _fails(
        python, "cmr_jax.bin.train", "--config=configs/demo.py", f"--workdir={tmp_path / 'run'}",
        f"--config.data.path={data}", "--config.train.batch_size=8", "--config.model.video.image_size=16",
        "--config.data.layout=picture", "--config.data.centre=image",
        "--config.data.spacing_mm=0.0", "--config.train.eval_every=0",
    )  # fmt: skip
    assert "shard cmr-train.tfrecord-00001-of-00002 is damaged" in line
    assert not list((tmp_path / "run").glob("checkpoints/*"))


def test_embed_writes_unit_rows_with_their_ids_and_origin(python: str, data: Path, trained: Path, tmp_path: Path):
    out = tmp_path / "embeddings"
    command = [python, "-m", "cmr_jax.bin.embed", f"--workdir={trained}", f"--data={data}", f"--out={out}"]
    done = subprocess.run([*command, "--split=all"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    image, text = np.load(out / "image.npy"), np.load(out / "text.npy")
    assert image.shape == text.shape == (30, 16) and image.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(image, axis=1), 1.0, atol=1e-5)
    manifest = json.loads((out / "manifest.json").read_text())
    assert manifest["checkpoint_step"] == 4 and manifest["n"] == 30
    assert all(len(manifest[f"{what}_sha256"]) == 64 for what in ("checkpoint", "config", "data_manifest"))
    assert manifest["config"]["train"]["steps"] == 4 and "data_counts" in manifest
    assert str(data) not in (out / "manifest.json").read_text()
    ids = export.load(out).ids
    assert ids["study_id"] == [f"s{i:04d}" for i in range(30)]
    assert ids["split"] == ["train"] * 16 + ["val"] * 4 + ["test"] * 10
    assert ids["group"][:5] == ["0", "1", "2", "3", "0"]


def test_embeddings_do_not_depend_on_the_batch_or_the_step_flag(data: Path, trained: Path):
    newest = embed.embed_dataset(workdir=str(trained), data=str(data), splits=("test",))
    folder = trained / "checkpoints" / "00000004"
    named = embed.embed_dataset(checkpoint=str(folder), data=str(data), splits=("val", "test"))
    np.testing.assert_allclose(newest.image_NE, named.image_NE[4:], atol=1e-6)
    earlier = embed.embed_dataset(workdir=str(trained), data=str(data), splits=("test",), step=2)
    assert np.abs(earlier.image_NE - newest.image_NE).max() > 1e-4


def test_prompts_embed_as_the_reports_they_are(data: Path, trained: Path):
    """A prompt with a study's own words lands on that study's text embedding."""
    found = embed.embed_dataset(workdir=str(trained), data=str(data), splits=("test",))
    prompt = embed.embed_prompts([datasets.REPORTS[0]], workdir=str(trained))
    row = found.ids["group"].index("0")
    np.testing.assert_allclose(prompt[0], found.text_NE[row], atol=1e-5)


def test_search_answers_every_line_of_stdin_as_it_answers_one_text(
    python: str, data: Path, trained: Path, tmp_path: Path
):
    export.save(embed.embed_dataset(workdir=str(trained), data=str(data), splits=("test",)), tmp_path / "out")
    command = [python, "-m", "cmr_jax.bin.search", f"--embeddings={tmp_path / 'out'}", f"--workdir={trained}"]

    def answer(text: str, lines: str = "") -> str:
        done = subprocess.run(
            [*command, "--top=3", f"--text={text}"], input=lines, capture_output=True, text=True, check=True
        )
        return done.stdout

    first, second = datasets.REPORTS[:2]
    assert answer("-", f"{first}\n\n{second}\n") == answer(first) + answer(second)
    assert answer("-") == ""


def test_another_tokenizer_means_the_text_is_encoded_anew(data: Path, trained: Path, tmp_path: Path):
    """A dataset whose stored ids come from another vocabulary embeds as its words say, not as its ids."""
    other = datasets.write_dataset(tmp_path / "other", {"train": 16, "val": 4, "test": 10})
    manifest = json.loads((other / "manifest.json").read_text())
    manifest["tokenizer"]["sha256"] = "0" * 64
    (other / "manifest.json").write_text(json.dumps(manifest))
    assert not workdir_lib.load(trained).loader(other, "test").stored_tokens
    one = embed.embed_dataset(workdir=str(trained), data=str(data), splits=("test",))
    two = embed.embed_dataset(workdir=str(trained), data=str(other), splits=("test",))
    np.testing.assert_allclose(one.text_NE, two.text_NE, atol=1e-6)


def test_what_embed_cannot_use_is_one_line(python: str, data: Path, trained: Path, tmp_path: Path):
    out, module = tmp_path / "out", "cmr_jax.bin.embed"
    base = [f"--data={data}", f"--out={out}"]
    assert "give either --workdir or --checkpoint" in _fails(python, module, *base)
    assert "no training workdir" in _fails(python, module, *base, f"--workdir={tmp_path}")
    assert "no undamaged checkpoint of step 3 (there: 2, 4)" in _fails(
        python, module, *base, f"--workdir={trained}", "--step=3"
    )
    assert "no split 'tets'" in _fails(python, module, *base, f"--workdir={trained}", "--split=tets")
    assert not out.exists()
