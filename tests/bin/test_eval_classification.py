import csv
import json
import pathlib
import subprocess
import sys

import pytest
import yaml

from cmr_jax.evals import export
from preprocessing import labels, phrases
from tests.evals.synthetic import GROUPS, embeddings, relabel

MODULE = "cmr_jax.bin.eval_classification"
CMR_CLIP = pathlib.Path(__file__).parents[2] / "configs" / "cmrclip_prompts.yaml"


@pytest.fixture(name="folder", scope="module")
def make_folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("classification") / "embeddings"
    export.save(embeddings(n=240, signal=0.5), folder)
    return folder


def run(*options: str) -> subprocess.CompletedProcess:
    return subprocess.run([sys.executable, "-m", MODULE, *options], capture_output=True, text=True, check=False)


def test_it_writes_the_files_of_the_interface_without_jax(folder, tmp_path):
    code = f"""
import sys
from cmr_jax.bin import eval_classification
sys.argv = ["x", "--embeddings={folder}", "--out={tmp_path / "out"}", "--labels=group,scar", "--bootstrap=30"]
try:
    eval_classification.main()
except SystemExit as end:
    assert not end.code, end.code
assert "sklearn" in sys.modules
heavy = [name for name in ("jax", "flax", "tensorflow", "cmr_jax.models", "yaml") if name in sys.modules]
assert not heavy, heavy
"""
    done = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    out = tmp_path / "out"
    assert {path.name for path in out.iterdir() if path.suffix != ".png"} == {
        "classification.json",
        "classification.md",
        "failures.csv",
        "report.html",
    }
    assert len(list(out.glob("classification_*_linear_group.png"))) == 1 and len(list(out.glob("*.png"))) == 5
    found = json.loads((out / "classification.json").read_text())
    for key in ("linear/group/AUROC", "linear/group/normal/AUROC", "knn/scar/specificity"):
        low, high = found[f"{key}/ci95"]
        assert 0 <= low <= found[key] <= high <= 1
    assert found["settings"]["protocols"] == ["knn", "linear"]
    page = (out / "classification.md").read_text()
    for part in ("60 studies of 30 patients tested", "144 studies trained on, 36 in val", f"python -m {MODULE}"):
        assert part in page
    assert str(tmp_path) not in page
    assert f"{found['linear/group/AUROC']:.3f}" in done.stdout and "Label scar" in done.stdout
    with (out / "failures.csv").open(newline="") as file:
        failures = [row for row in csv.DictReader(file) if row["protocol"] == "linear" and row["label"] == "group"]
    assert len(failures) == round((1 - found["linear/group/accuracy"]) * 60) > 0
    scores = [float(row["score_of_predicted"]) for row in failures]
    assert scores == sorted(scores, reverse=True) and all(row["true"] != row["predicted"] for row in failures)
    assert all(row["study_id"] == f"study{row['row']}" and int(row["row"]) >= 180 for row in failures)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--embeddings={folder}", "--out={out}"], "give --out and --labels"),
        (["--embeddings={folder}", "--out={out}", "--labels=grup"], "did you mean 'group'"),
        (
            ["--embeddings={folder}", "--out={out}", "--labels=group", "--protocols=finetune"],
            "finetune needs --workdir or --checkpoint for the image tower, and --data",
        ),
        (
            ["--embeddings={folder}", "--out={out}", "--labels=group", "--protocols=finetune", "--workdir={out}"],
            "finetune needs",
        ),
        (["--embeddings={folder}", "--out={out}", "--labels=group", "--protocols=zero_shot"], "for the text tower"),
        (["--embeddings={folder}", "--out={out}", "--labels=group", "--test_split=none"], "no study of split 'none'"),
        (["--embeddings={folder}", "--out={out}", "--labels=group", "--prompts={out}/p.json"], "cannot read --prompts"),
        (["--out={out}", "--labels=group"], "give --embeddings=DIR"),
    ],
)
def test_a_mistake_is_one_line_exit_2_and_nothing_written(folder, tmp_path, options, message):
    done = run(*(each.format(out=tmp_path / "out", folder=folder) for each in options))
    assert done.returncode == 2
    assert message in done.stderr and done.stderr.count("\n") == 1 and "Traceback" not in done.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("text", "message"),
    [("a: [1", "neither YAML nor JSON"), ("[1, 2]", "must map each label"), ('{"group": {"nrmal": "x"}}', "nrmal")],
)
def test_prompts_that_cannot_be_read_are_refused(folder, tmp_path, text, message):
    (tmp_path / "p.yaml").write_text(text)
    # The text tower is opened only after the prompts are read, so any workdir will do.
    done = run(f"--embeddings={folder}", f"--out={tmp_path / 'out'}", "--labels=group", "--protocols=zero_shot",
               f"--workdir={tmp_path}", f"--prompts={tmp_path / 'p.yaml'}")  # fmt: skip
    assert done.returncode == 2 and message in done.stderr and done.stderr.count("\n") == 1
    assert [path.name for path in tmp_path.iterdir()] == ["p.yaml"]


def test_zero_shot_uses_the_text_tower_of_the_workdir(folder, tmp_path):
    # The real text tower needs a trained run; a module in its place shows what the binary asks of it.
    code = f"""
import sys, types
import numpy as np
tower = types.ModuleType("cmr_jax.evals.embed")
def embed_prompts(prompts, *, workdir=None, checkpoint=None, step=None):
    assert (workdir, checkpoint, step) == ("W", None, None)
    assert prompts == ["no scar", "scar there", "Cardiac MRI shows dilated.", "Cardiac MRI shows hypertrophic.",
        "Cardiac MRI shows infarct.", "Cardiac MRI shows normal.", "Cardiac MRI shows right ventricular."], prompts
    return np.random.default_rng(0).standard_normal((len(prompts), 16)).astype(np.float32)
tower.embed_prompts = embed_prompts
sys.modules["cmr_jax.evals.embed"] = tower
import cmr_jax.evals
cmr_jax.evals.embed = tower
from cmr_jax.bin import eval_classification
sys.argv = ["x", "--embeddings={folder}", "--workdir=W", "--out={tmp_path / "out"}", "--labels=scar,group",
            "--bootstrap=0", "--protocols=zero_shot", "--prompts={tmp_path / "p.json"}"]
eval_classification.main()
"""
    (tmp_path / "p.json").write_text('{"scar": {"1": "scar there", "0": ["no scar"]}}')
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    found = json.loads((tmp_path / "out" / "classification.json").read_text())
    assert 0 <= found["zero_shot/scar/AUROC"] <= 1 and found["zero_shot/group/accuracy"] is not None


def test_the_prompts_of_cmr_clip_ask_about_labels_that_reports_give(tmp_path):
    prompts, table = yaml.safe_load(CMR_CLIP.read_text()), phrases.read()
    source = embeddings(n=240)
    columns = {
        name: ["uncertain" if row % 9 == 0 else ("absent", "present")[group == GROUPS[place % 5]]
               for row, group in enumerate(source.ids["group"])]
        for place, name in enumerate(prompts)
    }  # fmt: skip
    export.save(relabel(source, **columns), tmp_path / "e")
    code = f"""
import json
import numpy as np
from cmr_jax.bin import eval_classification
from cmr_jax.evals import classification, export
prompts, asked = eval_classification._read_prompts("{CMR_CLIP}"), []
def embed_prompts(texts):
    asked.extend(texts)
    return np.random.default_rng(0).standard_normal((len(texts), 16)).astype(np.float32)
found = classification.evaluate(export.load("{tmp_path / "e"}"), list(prompts), protocols=["zero_shot"],
                                prompts=prompts, embed_prompts=embed_prompts, draws=0)
print(json.dumps([asked, found.figures]))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    asked, found = json.loads(done.stdout)
    # Only the sentences of the file, no sentence that stands in for a label the file does not name.
    assert asked == [text for texts in prompts.values() for text in texts]
    for name, sentences in prompts.items():
        assert 0 <= found[f"zero_shot/{name}/AUROC"] <= 1
        # The names are those that the labels of reports have: what the sentences say is read as that label.
        read = [(one.name, one.state) for text in sentences for one in labels.extract(text, table)]
        assert set(read) == {(name, "present")}


@pytest.mark.parametrize("binary", ["eval_classification", "eval_retrieval"])
def test_what_takes_long_to_import_waits_until_it_is_used(folder, tmp_path, binary):
    # A mistyped label is found when the folder was read and before anything is scored.
    code = f"""
import sys
from cmr_jax.bin import {binary}
sys.argv = ["x", "--embeddings={folder}", "--out={tmp_path / "out"}", "--labels=grup"]
try:
    {binary}.main()
except SystemExit as end:
    assert end.code == 2, end.code
print([name for name in ("jax", "scipy", "sklearn", "matplotlib", "jinja2", "yaml") if name in sys.modules])
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stdout == "[]\n" and "did you mean 'group'" in done.stderr
