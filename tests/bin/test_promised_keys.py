"""Every key that the interface promises of the evaluation binaries' JSON is in what a run writes."""

import itertools
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from cmr_jax.evals import export
from tests.evals.synthetic import embeddings, relabel

# Patterns with alternatives in braces. Each figure X has X/ci95 too, but for what follows an exclamation mark: counts
# and exact expectations.
RETRIEVAL = """
{,duplicate_aware/}{image_to_text,text_to_image}/{R@1,R@5,R@10,R@50,MedR,MeanR,MRR}
{image_to_text,text_to_image,image_to_image}/{mAP,P@10,nDCG@10}
image_to_image/{R@1,R@5,R@10,R@50,MedR,MeanR,MRR}
!{,duplicate_aware/}chance/{R@1,R@5,R@10,R@50}
!{n_studies,n_patients}
"""
# The figures of a yes-or-no label, of a label of several classes, and of each of its classes.
CLASSIFICATION = """
{knn,linear,zero_shot,finetune}/{scar,group,group/infarct}/{AUROC,AUPRC,prevalence,accuracy,F1,sensitivity,specificity}
{knn,linear,zero_shot,finetune}/{scar,group,group/infarct}/{Brier,calibration_slope,calibration_intercept}
few_shot/{scar,group}/{prototype,logistic}_{1,2,4,8,16}/{AUROC,accuracy}
regression/lvef/{MAE,R2,bias,loa_low,loa_high}
group/sex={F,M}/linear/scar/{AUROC,AUPRC,sensitivity,specificity,prevalence}
!group/sex={F,M}/linear/scar/n_studies
"""

# The towers need a trained run and are tested elsewhere; modules in their place give the binary what it asks for.
_TOWERS = """
import sys, types
import numpy as np
import cmr_jax.evals
embed, finetune = (types.ModuleType(f"cmr_jax.evals.{name}") for name in ("embed", "finetune"))
embed.embed_prompts = lambda texts, **_: np.random.default_rng(0).standard_normal((len(texts), 16)).astype(np.float32)
def fine_tuner(**options):
    from cmr_jax.evals import protocols
    assert options["workdir"] == "W" and options["data"].endswith("/D") and len(options["study_ids"]) == 480
    return protocols.linear
finetune.fine_tuner = fine_tuner
for module in (embed, finetune):
    sys.modules[module.__name__] = module
    setattr(cmr_jax.evals, module.__name__.rsplit(".")[-1], module)
from cmr_jax.bin import eval_classification
from cmr_jax.data import glimpse
glimpse.glimpses = lambda data, wanted: {}
eval_classification.main()
"""


def keys(table: str) -> list[tuple[str, bool]]:
    """Each key, and whether it has an interval."""
    out = []
    for line in filter(None, table.splitlines()):
        parts = [part.split(",") for piece in line.lstrip("!").split("{") for part in piece.split("}")]
        # Outside braces a comma never stands, so that every part is its own list of alternatives.
        out += [("".join(choice), not line.startswith("!")) for choice in itertools.product(*parts)]
    return out


def lacking(table: str, found: dict[str, Any]) -> list[str]:
    wrong = []
    for key, has_interval in keys(table):
        if not isinstance(found.get(key), int | float):
            wrong.append(key)
        edges = found.get(f"{key}/ci95", ())
        if has_interval and not (edges is not None and len(edges) == 2 and edges[0] <= found[key] <= edges[1]):
            wrong.append(f"{key}/ci95")
    return wrong


@pytest.fixture(name="folder", scope="module")
def make_folder(tmp_path_factory) -> Path:
    source = embeddings(n=480, signal=0.3)
    rows = range(len(source))
    # Every eleventh report is the same; three studies a patient would be too few to find another's.
    source = relabel(
        source,
        report_hash=["normal" if row % 11 == 0 else f"hash{row}" for row in rows],
        sex=["F" if row // 2 % 2 else "M" for row in rows],
        lvef=[f"{50 + 20 * float(source.image_NE[row, 0]) + row % 7:.1f}" for row in rows],
    )
    folder = tmp_path_factory.mktemp("keys") / "embeddings"
    export.save(source, folder)
    return folder


def test_retrieval(folder, tmp_path):
    command = [
        sys.executable,
        "-m",
        "cmr_jax.bin.eval_retrieval",
        f"--embeddings={folder}",
        f"--out={tmp_path / 'out'}",
    ]
    done = subprocess.run([*command, "--labels=group", "--bootstrap=50"], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    found = json.loads((tmp_path / "out" / "retrieval.json").read_text())
    assert lacking(RETRIEVAL, found) == []
    assert len(keys(RETRIEVAL)) == 28 + 9 + 7 + 8 + 2


def test_classification(folder, tmp_path):
    options = [f"--embeddings={folder}", f"--out={tmp_path / 'out'}", "--labels=group,scar,lvef", "--bootstrap=50"]
    (tmp_path / "D").mkdir()
    for table, header in (("studies", "study_id,sex"), ("series", "study_id,vendor")):
        (tmp_path / "D" / f"{table}.csv").write_text(header + "\n")
    options += ["--workdir=W", f"--data={tmp_path / 'D'}", "--groups=sex"]
    options += ["--protocols=zero_shot,few_shot,knn,linear,finetune,regression"]
    done = subprocess.run(
        [sys.executable, "-c", _TOWERS, *options], capture_output=True, text=True, check=False, timeout=300
    )
    assert done.returncode == 0, done.stderr
    found = json.loads((tmp_path / "out" / "classification.json").read_text())
    assert lacking(CLASSIFICATION, found) == []
    assert len(keys(CLASSIFICATION)) == 84 + 36 + 40 + 5 + 10 + 2


def test_a_key_that_is_not_there_is_seen():
    assert lacking("a/{b,c}\n!n", {"a/b": 1.0, "a/b/ci95": [0, 2], "a/c": None, "n": 3}) == ["a/c", "a/c/ci95"]
    assert lacking("a", {"a": 1.0, "a/ci95": [2, 3]}) == ["a/ci95"]
