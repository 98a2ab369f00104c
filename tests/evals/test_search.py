import json
import subprocess
import sys

import numpy as np
import pytest

from cmr_jax.errors import InputError
from cmr_jax.evals import export, partial, search
from tests.evals.synthetic import embeddings


@pytest.fixture(name="folder", scope="module")
def make_folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("search") / "embeddings"
    export.save(embeddings(n=80), folder)
    return folder


def run(module: str, *options: str) -> subprocess.CompletedProcess:
    command = [sys.executable, "-m", f"cmr_jax.bin.{module}", *options]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_the_nearest_are_those_of_a_full_sort_without_the_marked():
    source, rng = embeddings(n=60), np.random.default_rng(0)
    away = rng.random(60) < 0.3
    rows, scores = search.nearest(3 * source.image_NE[4], source.image_NE, 7, away)
    cosine = source.image_NE.astype(np.float64) @ source.image_NE[4]
    expected = [row for row in np.argsort(-cosine) if not away[row]][:7]
    assert rows.tolist() == expected
    np.testing.assert_allclose(scores, cosine[expected], atol=1e-6)
    assert len(search.nearest(source.image_NE[0], source.image_NE, 100)[0]) == 60
    with pytest.raises(InputError, match="16"):
        search.nearest(np.ones(3, np.float32), source.image_NE, 5)


def test_a_study_finds_others_and_not_its_own_patient(folder):
    done = run("search", f"--embeddings={folder}", "--study=study6", "--top=3")
    assert (done.returncode, done.stderr) == (0, "")
    found = [line.split("|")[3].strip() for line in done.stdout.splitlines()[2:]]
    source = embeddings(n=80)
    order = [f"study{row}" for row in np.argsort(-(source.image_NE @ source.image_NE[6])) if row not in (6, 7)]
    assert found == order[:3]


@pytest.mark.parametrize(
    ("options", "message"),
    [([], "either --study or --text"), (["--study=nobody"], "not in the column study_id"),
     (["--study=study1", "--text=x"], "either --study or --text"), (["--text= "], "--text is empty"),
     (["--text=scar"], "either --workdir or --checkpoint")],
)  # fmt: skip
def test_a_mistake_is_one_line(folder, options, message):
    done = run("search", f"--embeddings={folder}", *options)
    assert done.returncode == 2 and message in done.stderr and done.stderr.count("\n") == 1


def test_parquet_holds_what_the_folder_holds(folder, tmp_path):
    parquet = pytest.importorskip("pyarrow.parquet")
    assert run("convert", f"--embeddings={folder}", "--to=parquet", f"--out={tmp_path / 'p'}").returncode == 0
    found, source = parquet.read_table(tmp_path / "p" / "embeddings.parquet"), export.load(folder)
    np.testing.assert_array_equal(np.stack(found["image"].to_numpy()), source.image_NE)
    np.testing.assert_array_equal(np.stack(found["text"].to_numpy()), source.text_NE)
    assert found["study_id"].to_pylist() == source.ids["study_id"]


def test_the_projector_has_a_line_a_study(folder, tmp_path):
    assert run("convert", f"--embeddings={folder}", "--to=projector", f"--out={tmp_path / 'p'}").returncode == 0
    tensors, source = np.loadtxt(tmp_path / "p" / "tensors.tsv"), export.load(folder)
    np.testing.assert_allclose(tensors, source.image_NE, atol=1e-6)
    lines = (tmp_path / "p" / "metadata.tsv").read_text().splitlines()
    assert lines[0].split("\t")[0] == "study_id" and len(lines) == 81 and lines[5].split("\t")[0] == "study4"


def test_the_faiss_index_finds_what_search_finds(folder, tmp_path):
    # Loaded apart: its bindings warn on import, which this suite takes for an error.
    pytest.importorskip("pyarrow")
    done = run("convert", f"--embeddings={folder}", "--to=faiss", f"--out={tmp_path / 'p'}")
    if "needs faiss" in done.stderr:
        pytest.skip("faiss-cpu is not installed")
    assert done.returncode == 0, done.stderr
    code = f"""
import faiss, json, numpy as np
index = faiss.read_index({str(tmp_path / "p" / "images.faiss")!r})
query = np.load({str(folder / "image.npy")!r})[:5]
print(json.dumps(index.search(query, 4)[1].tolist()))
"""
    found = json.loads(subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout)
    source = export.load(folder)
    assert found == [search.nearest(source.image_NE[row], source.image_NE, 4)[0].tolist() for row in range(5)]


def test_a_stopped_run_continues_where_its_flushed_rows_end(tmp_path):
    rng = np.random.default_rng(0)
    rows, key = rng.standard_normal((70, 4)).astype(np.float32), {"step": 3, "splits": ("test",)}
    place = partial.on_disk(tmp_path / "k", key, 100, 4)
    first = place.part(0, 30)
    first.put(0, rows[:20], rows[:20])
    assert partial.on_disk(tmp_path / "k", key, 100, 4).done == 0  # not flushed: not counted
    first.put(20, rows[20:30], -rows[20:30])
    again = partial.on_disk(tmp_path / "k", key, 100, 4)
    assert again.done == 30 and again.part(0, 30).done == 30 and again.part(30, 70).done == 0
    np.testing.assert_array_equal(again.text_NE[20:30], -rows[20:30])
    second = again.part(30, 70)
    for _ in range(16):
        second.put(0, rows[:8], rows[:8])
    assert partial.on_disk(tmp_path / "k", key, 100, 4).done == 38
    np.testing.assert_array_equal(np.load(tmp_path / "k" / "image.npy")[30:38], rows[:8])


@pytest.mark.parametrize("change", ["key", "shape", "array", "progress"])
def test_what_is_of_another_run_is_begun_anew(tmp_path, change):
    key = {"step": 3}
    partial.on_disk(tmp_path, key, 10, 4).part(0, 10).put(0, np.ones((10, 4)), np.ones((10, 4)))
    assert partial.on_disk(tmp_path, key, 10, 4).done == 10
    if change == "array":
        (tmp_path / "text.npy").write_bytes(b"broken")
    if change == "progress":
        (tmp_path / "progress.json").write_text("{")
    found = partial.on_disk(tmp_path, {"step": 4} if change == "key" else key, 11 if change == "shape" else 10, 4)
    assert found.done == 0 and not found.image_NE.any()
