import json
import subprocess
import sys

import numpy as np
import pytest

from cmr_jax.evals import export
from tests.evals.synthetic import embeddings, relabel

MODULE = "cmr_jax.bin.eval_retrieval"
FILES = {"retrieval.json", "retrieval.md", "retrieval_recall.png", "retrieval_ranks.png", "report.html", "map.png"}


@pytest.fixture(name="folder", scope="module")
def make_folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("retrieval") / "made é elsewhere"
    export.save(embeddings(n=160), folder)
    return folder


def run(*options: str) -> subprocess.CompletedProcess:
    return subprocess.run([sys.executable, "-m", MODULE, *options], capture_output=True, text=True, check=False)


def test_it_writes_the_files_of_the_interface_and_prints_a_table(folder, tmp_path):
    done = run(f"--embeddings={folder}", f"--out={tmp_path / 'a' / 'out'}", "--labels=group", "--bootstrap=50")
    assert (done.returncode, done.stderr) == (0, "")
    assert {path.name for path in (tmp_path / "a" / "out").iterdir()} == FILES
    found = json.loads((tmp_path / "a" / "out" / "retrieval.json").read_text())
    assert (found["n_studies"], found["n_patients"]) == (40, 20)
    assert found["chance/R@1"] == pytest.approx(2.5)
    low, high = found["image_to_text/R@5/ci95"]
    assert low <= found["image_to_text/R@5"] <= high
    assert 0 < found["image_to_image/mAP"] < 1
    assert found["provenance"]["checkpoint_step"] == "7" and found["provenance"]["config_sha256"] == "unknown"
    page = (tmp_path / "a" / "out" / "retrieval.md").read_text()
    for part in ("40 studies of 20 patients", "over 50 resamples of the patients", "unknown", f"python -m {MODULE}"):
        assert part in page
    assert str(tmp_path) not in page and "made é elsewhere" not in page
    assert f"| R@5   | {found['image_to_text/R@5']:.1f}% [{low:.1f}, {high:.1f}]" in done.stdout


def test_the_command_on_the_page_makes_the_same_figures_again(folder, tmp_path):
    assert run(f"--embeddings={folder}", f"--out={tmp_path / 'one'}", "--split=all", "--seed=3").returncode == 0
    line = (tmp_path / "one" / "retrieval.md").read_text().rsplit("python -m ", 1)[1].split()
    options = [each.replace("EMBEDDINGS", str(folder)).replace("OUT", str(tmp_path / "two")) for each in line[1:]]
    assert run(*options).returncode == 0
    one, two = ((tmp_path / name / "retrieval.json").read_text() for name in ("one", "two"))
    assert one == two and json.loads(one)["n_studies"] == 160


def test_embeddings_are_scored_without_jax_or_scikit_learn(folder, tmp_path):
    code = f"""
import sys
from cmr_jax.bin import eval_retrieval
sys.argv = ["x", "--embeddings={folder}", "--out={tmp_path / "out"}", "--bootstrap=0"]
try:
    eval_retrieval.main()
except SystemExit as end:
    assert not end.code, end.code
assert "numpy" in sys.modules
heavy = [name for name in ("jax", "flax", "tensorflow", "sklearn", "cmr_jax.models") if name in sys.modules]
assert not heavy, heavy
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert json.loads((tmp_path / "out" / "retrieval.json").read_text())["image_to_text/R@1/ci95"] is None


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ([], "give --out"),
        (["--out={out}"], "give --embeddings=DIR"),
        (["--out={out}", "--embeddings={folder}/nowhere"], "no folder of embeddings"),
        (["--out={out}", "--embeddings={folder}", "--split=external"], "no study of split 'external'"),
        (["--out={out}", "--embeddings={folder}", "--labels=grup"], "did you mean 'group'"),
        (["--out={out}", "--embeddings={folder}", "--bootstrap=-1"], "bootstrap"),
        (["--out={out}", "--embedings={folder}"], "embedings"),
        (["--out={folder}/ids.csv", "--embeddings={folder}"], "--out is a file"),
    ],
)
def test_a_mistake_is_one_line_exit_2_and_nothing_written(folder, tmp_path, options, message):
    done = run(*(each.format(out=tmp_path / "out", folder=folder) for each in options))
    assert done.returncode == 2
    assert message in done.stderr and done.stderr.count("\n") == 1 and "Traceback" not in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_rows_that_are_not_finite_are_named_and_an_older_report_stays(folder, tmp_path):
    out = tmp_path / "out"
    assert run(f"--embeddings={folder}", f"--out={out}", "--bootstrap=0").returncode == 0
    before = {path.name: path.read_bytes() for path in out.iterdir()}
    bad = export.load(folder)
    (tmp_path / "bad").mkdir()
    for name in ("ids.csv", "manifest.json", "text.npy"):
        (tmp_path / "bad" / name).write_bytes((folder / name).read_bytes())
    image = bad.image_NE.copy()
    image[11] = np.nan
    np.save(tmp_path / "bad" / "image.npy", image)
    done = run(f"--embeddings={tmp_path / 'bad'}", f"--out={out}")
    assert done.returncode == 2 and "1 of 160 rows (counted from 0): 11;" in done.stderr
    assert {path.name: path.read_bytes() for path in out.iterdir()} == before


def test_a_single_study_is_scored_too(tmp_path):
    one = embeddings(n=20).take(np.array([19]))
    export.save(relabel(one, row=["0"]), tmp_path / "e")
    done = run(f"--embeddings={tmp_path / 'e'}", f"--out={tmp_path / 'out'}", "--labels=group")
    assert (done.returncode, done.stderr) == (0, "")
    found = json.loads((tmp_path / "out" / "retrieval.json").read_text())
    assert found["image_to_text/R@1"] == 100 and found["image_to_text/R@1/ci95"] is None
    assert "image_to_image/mAP" not in found and any("no study has another" in note for note in found["notes"])
