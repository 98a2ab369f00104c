"""Learned, not leaked: on the phantom, true pairs are found again in patients never seen; shuffled pairs are not."""

import os
import subprocess
from pathlib import Path

import pytest

from cmr_jax.evals import export, retrieval

ROOT = Path(__file__).resolve().parent.parent
STEPS = 120


def _call(python: str, module: str, *arguments: str) -> None:
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("XLA_", "JAX_NUMPY"))}
    done = subprocess.run(
        [python, "-m", module, *arguments], cwd=ROOT, env=environment, capture_output=True, text=True, timeout=500
    )
    assert done.returncode == 0, done.stderr[-2000:]


@pytest.fixture(scope="module")
def data(tmp_path_factory, python: str) -> Path:
    folder = tmp_path_factory.mktemp("learning")
    (folder / "key").write_text("7" * 64)
    size = ("--studies=200", "--slices=3", "--phases=10", "--matrix=64")
    _call(python, "preprocessing.phantom", f"--out={folder / 'phantom'}", *size)
    _call(
        python, "preprocessing.run", f"--dicom_dir={folder / 'phantom' / 'dicom'}", f"--key_file={folder / 'key'}",
        f"--reports={folder / 'phantom' / 'reports.csv'}", f"--out={folder / 'data'}", "--image_size=48",
        "--spacing_mm=3", "--split_fractions=0.7,0,0.3",
    )  # fmt: skip
    return folder / "data"


def _test_figures(python: str, data: Path, folder: Path, shuffle: bool) -> dict[str, float]:
    _call(
        python, "cmr_jax.bin.train", "--config=configs/demo.py", f"--workdir={folder / 'run'}",
        f"--config.data.path={data}", f"--config.train.steps={STEPS}", f"--config.data.shuffle_pairs={shuffle}",
        "--config.train.batch_size=32", "--config.train.eval_every=0", "--config.train.checkpoint_every=0",
    )  # fmt: skip
    _call(
        python, "cmr_jax.bin.embed", f"--workdir={folder / 'run'}", f"--data={data}", "--split=test",
        f"--out={folder / 'out'}",
    )  # fmt: skip
    found = export.load(folder / "out")
    return retrieval.metrics(found.image_NE, found.text_NE, relevant_ids=found.reports())


@pytest.mark.parametrize("shuffle", [False, True], ids=["true pairs", "shuffled pairs"])
def test_true_pairs_are_learned_and_shuffled_pairs_fall_to_chance(python: str, data: Path, tmp_path: Path, shuffle):
    figures = _test_figures(python, data, tmp_path, shuffle)
    assert figures["n_studies"] >= 40
    for direction in ("image_to_text", "text_to_image"):
        # The mean rank: of all figures the one that varies least from draw to draw.
        of_chance = figures[f"{direction}/MeanR"] / figures["chance/MeanR"]
        hits_of_chance = figures[f"duplicate_aware/{direction}/R@5"] / figures["duplicate_aware/chance/R@5"]
        if shuffle:
            assert 0.75 < of_chance < 1.25
            assert hits_of_chance < 2
        else:
            assert of_chance < 0.6
            assert hits_of_chance > 2
