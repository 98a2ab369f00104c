"""The whole way from phantoms to figures, as small as it goes: the other hearts are phantoms of another seed."""

import csv
import dataclasses
import itertools
import json
import os
import re
import subprocess
from pathlib import Path

import numpy as np
import pydicom
import pytest
import yaml

from bench import measured_reports, transfer
from bench.transfer_embed import GROUPS
from cmr_jax import optim, sharding
from cmr_jax.config import Config, DataConfig, MeshConfig, TrainConfig
from cmr_jax.data import text_parts
from cmr_jax.errors import InputError
from cmr_jax.train import workdir as workdir_lib
from cmr_jax.train.checkpoint import Checkpoints
from cmr_jax.train.state import init_state
from preprocessing import sections
from preprocessing.phantom import __main__ as phantom
from preprocessing.phantom import study
from tests import tiny

ROOT = Path(__file__).resolve().parent.parent.parent
_SCOUTS = ("localizer", "3-pl loc", "survey")


def _call(python: str, *command: str) -> subprocess.CompletedProcess:
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("XLA_", "JAX_NUMPY"))}
    environment["PYTHONPATH"] = str(ROOT)
    return subprocess.run([python, "-m", *command], env=environment, cwd=ROOT, capture_output=True, text=True)


def _hearts(out: Path, count: int, seed: int) -> Path:
    small = study.Settings(studies=count, seed=seed, patients_with_two_studies=0.0, slices=3, phases=4, matrix=32)
    phantom.generate(out, small)
    return out


@pytest.fixture(scope="module")
def workdir(tmp_path_factory, python: str) -> Path:
    """What launch/transfer.sh makes, with models that were drawn, not trained."""
    out = tmp_path_factory.mktemp("transfer") / "W"
    hearts = _hearts(out / "phantom", 30, 1)
    done = _call(python, "bench.measured_reports", "--phantom", str(hearts))
    assert done.returncode == 0, done.stderr
    done = _call(
        python, "preprocessing.run", f"--dicom_dir={hearts / 'dicom'}", f"--reports={hearts / measured_reports.NAME}",
        "--label_columns=group,lvef,edv_ml,mass_g", f"--out={out / 'data'}",
        f"--key_file={out / 'key'}", "--image_size=32", "--spacing_mm=6", "--split_fractions=0.4,0.3,0.3",
        "--num_workers=0",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    for seed, arm in enumerate(("model", "shuffled")):
        config = Config(
            data=DataConfig(
                path=str(out / "data"), views=("cine_sax",) * 2, spacing_mm=6.0, centre="motion", brightness="heart",
                rotate_degrees=10.0, text_sampling="sentence", sections=("findings",), shuffle_pairs=arm == "shuffled",
            ),
            model=dataclasses.replace(
                tiny.MODEL, text=dataclasses.replace(tiny.TEXT, vocab_size=0), numbers=("lv_edv_ml", "lvef_percent")
            ),
            train=TrainConfig(steps=1, batch_size=8, seed=seed),
        )  # fmt: skip
        run = workdir_lib.prepare(out / arm, config)
        # As good as trained for what is asked here, and no step has to be compiled.
        optimizer = optim.make_optimizer(run.config.optim, 1)
        drawn = init_state(run.model, optimizer, sharding.make_mesh(MeshConfig()), seed + 7)
        Checkpoints(out / arm / "checkpoints").save(drawn)
    return out


@pytest.fixture(scope="module")
def asked(workdir: Path, tmp_path_factory, python: str) -> Path:
    """Five hearts of another seed; one without a short axis, one whose files are no DICOM any more, and a line of
    nobody."""
    folder = tmp_path_factory.mktemp("real")
    hearts = _hearts(folder / "hearts", 5, 99)
    with (hearts / "truth.csv").open(newline="") as file:
        lines = [{name: row[name] for name in transfer.COLUMNS} for row in csv.DictReader(file)]
    for path in _files(hearts, lines[0]["study_uid"]):
        if not pydicom.dcmread(path, stop_before_pixels=True).SeriesDescription.lower().startswith(_SCOUTS):
            path.unlink()
    for path in _files(hearts, lines[1]["study_uid"]):
        path.write_bytes(b"no DICOM")
    lines[2]["lvef"], lines[3]["mass_g"], lines[4]["group"] = "", "", ""
    lines.append({**dict.fromkeys(transfer.COLUMNS, ""), "study_uid": "1.2.3.4", "lvef": "50"})
    with (folder / "truth.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, list[str](transfer.COLUMNS))
        writer.writeheader()
        writer.writerows(lines)
    done = _call(
        python, "bench.transfer", f"--workdir={workdir}", f"--dicom_dir={hearts / 'dicom'}",
        f"--truth={folder / 'truth.csv'}", f"--out={folder / 'R'}",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    return folder / "R"


def _files(hearts: Path, study_uid: str) -> list[Path]:
    from preprocessing.phantom import dicom

    return list((hearts / "dicom" / dicom.file_name(study_uid)).iterdir())


@pytest.mark.slow  # a minute of CPU: two preprocessings and three models
def test_every_figure_is_there_with_its_interval_and_controls(asked: Path):
    figures = json.loads((asked / "transfer.json").read_text())
    for arm in transfer.ARMS:
        for name in (
            "lvef/spearman",
            "lvef/mae",
            "lvef_read/mae",
            "edv_ml/mae",
            "mass_g/mae",
            "group/auroc",
            "statement/R@1",
        ):
            assert f"{arm}/{name}" in figures and f"{arm}/{name}/ci95" in figures
        assert figures[f"{arm}/lvef/n"] == figures["n"] == 2
        assert figures[f"{arm}/edv_ml/n"] == 3 and figures[f"{arm}/mass_g/n"] == 2
    assert figures["model/lvef/mae"] != figures["random_init/lvef/mae"] != figures["shuffled/lvef/mae"]
    assert "| lvef/mae | 2 |" in (asked / "transfer.md").read_text()


@pytest.mark.slow  # a minute of CPU: two preprocessings and three models
def test_odd_studies_are_counted_not_met_with_a_crash(asked: Path):
    figures = json.loads((asked / "transfer.json").read_text())
    assert figures["n_truth"] == 6 and figures["n_used"] == 3
    assert figures["left_out"] == {"no short-axis cine": 1, "no usable image in --dicom_dir": 2}
    with (asked / "predictions.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [bool(row["left_out"]) for row in rows] == [True, True, False, False, False, True]
    assert all(bool(row["model/lvef"]) != bool(row["left_out"]) for row in rows)
    # Drawn, not trained: what is read off is near the usual value of an LVEF, and not of a volume.
    assert all(0 < float(row["model/lvef_read"]) < 100 for row in rows if not row["left_out"])


@pytest.mark.slow  # a minute of CPU: two preprocessings and three models
def test_no_record_of_a_real_study_stays(asked: Path):
    assert {path.name for path in asked.iterdir()} == {"transfer.json", "transfer.md", "predictions.csv"}


def test_a_truth_that_cannot_be_used_is_said(tmp_path: Path):
    path = tmp_path / "truth.csv"
    for text, word in (("a,b\n1,2\n", "study_uid"), ("study_uid,lvef\n1,40\n1,50\n", "twice")):
        path.write_text(text)
        with pytest.raises(InputError, match=word):
            transfer.read_truth(path)
    path.write_text("study_uid,group\n1,Normal\n")
    assert transfer.read_truth(path) == [{"study_uid": "1", "lvef": "", "edv_ml": "", "mass_g": "", "group": "Normal"}]


def test_a_commands_progress_is_shown_and_its_reason_kept(capsys: pytest.CaptureFixture[str], python: str):
    says = "import sys; [print(word, file=sys.stderr, flush=True) for word in ('1 of 2', '', '2 of 2', 'no room')]"
    assert transfer._follow([python, "-c", f"{says}; sys.exit(2)"]) == (2, "no room")
    assert capsys.readouterr().err == "1 of 2\n2 of 2\n"
    assert transfer._follow([python, "-c", "print('out')"]) == (0, "")


def test_a_statement_says_what_is_known_and_no_more():
    assert measured_reports.statement({"lvef": "25", "edv_ml": "204"}) == (
        "LVEF 25 percent, severely reduced. LV end-diastolic volume 200 ml."
    )
    assert measured_reports.statement({"lvef": ""}) == ""


def test_groups_are_asked_for_in_words_that_findings_are_written_in():
    row = {"lvef": "38.6", "edv_ml": "188", "mass_g": "143", "wall_mm": "9.6", "group": "dilated"}
    read = sections.split(measured_reports.report(row, np.random.default_rng(0)))
    findings = " ".join(block.text for block in read if block.section == "findings")
    known = {re.sub(r"\d+|, .*", "", sentence) for sentence in text_parts.sentences(findings)}
    asked = yaml.safe_load(GROUPS.read_text())
    assert {"normal", "hypertrophy"} < set(asked)
    for prompt in itertools.chain(*asked.values()):
        assert {re.sub(r"\d+|, .*", "", sentence) for sentence in text_parts.sentences(prompt)} <= known


def test_late_enhancement_is_spoken_of_where_it_was_acquired():
    scar = {"scar_pattern": "mid-wall", "scar_segments": "2 3 8 9 14"}
    said = "Late enhancement: mid-wall. Late enhancement in 4 of 17 segments."
    assert measured_reports.enhancement({**scar, "acquired": "cine_sax lge_sax"}) == said
    assert measured_reports.enhancement({**scar, "acquired": "cine_sax lge_4ch"}) == ""
    assert measured_reports.enhancement({"acquired": "lge_sax"}) == "No late enhancement."
    assert measured_reports.enhancement({}) == ""


def test_a_phantoms_report_states_each_measurement_in_a_sentence_of_its_own():
    row = {"lvef": "38.6", "edv_ml": "188", "esv_ml": "111", "mass_g": "143", "wall_mm": "9.6", "group": "dilated"}
    text = measured_reports.report(row, np.random.default_rng(0))
    found = text_parts.sentences(text.removeprefix("FINDINGS:\n"))
    assert found[1:-1] == [
        "LV end-diastolic volume 180 ml.", "LV mass 140 g.", "LV end-systolic volume 120 ml.",
        "Maximal wall thickness 10 mm.", "Diagnosis: dilated.",
    ]  # fmt: skip
    assert found[0] == "LVEF 40 percent, moderately reduced."
    assert found[-1] == "Overall moderately reduced systolic function."
