"""Asks a model that saw only phantoms about real hearts:
`python -m bench.transfer --workdir W --dicom_dir D --truth truth.csv --out R`.

W comes from `launch/transfer.sh` (`make transfer`): `data` (the phantoms' records), `model` and `shuffled` (two runs
alike, but that in the second every study had another study's report), `key`. D is any folder of DICOM, without reports.
The columns of truth.csv are study_uid, lvef (percent), edv_ml, mass_g, group, each of them empty where unknown. D goes
through the same preprocessing; a ridge probe is fitted on phantoms that were not trained on; nothing is fitted on D.
`lvef_zero_shot` is what sentences say without a probe, `lvef_read` what the model reads off by itself (model.numbers).

R then holds transfer.json (`model/lvef/spearman`, `model/lvef/mae`, `…/ci95`, `n`; the same under `random_init/`, the
model as it was before training, and `shuffled/`), transfer.md, and predictions.csv, a line a study by its line of
truth.csv. Studies that cannot be used (no image, no short-axis cine) are counted there, with the reason.
"""

import argparse
import csv
import dataclasses
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from cmr_jax import cli
from cmr_jax.errors import InputError

MEASUREMENTS = ("lvef", "edv_ml", "mass_g")
COLUMNS = ("study_uid", *MEASUREMENTS, "group")
ARMS = ("model", "random_init", "shuffled")
VIEW = "cine_sax"
# Statements that a heart is asked for without a probe: a fraction each.
FRACTIONS = tuple(range(10, 81, 5))
# Times that a study is shown, as training shows it: of phantoms to fit the probe, of real hearts to take the mean.
PHANTOM_DRAWS, REAL_DRAWS = 6, 16
_PLACEHOLDER = "There is no report of this study. The images alone are read, and no word of this text is used."


@dataclasses.dataclass(frozen=True)
class Real:
    """The studies of D that can be asked: their line of truth.csv (from 0), what is known of them, their records."""

    data: Path
    split: str
    rows: np.ndarray  # of the split, N
    lines: np.ndarray  # of truth.csv, N
    truth: list[dict[str, str]]  # every line
    fates: dict[int, str]  # line -> why it is left out

    def column(self, name: str) -> np.ndarray:
        from cmr_jax.evals import regression

        return regression.parse_numbers(name, [self.truth[line].get(name) or "" for line in self.lines])


def main() -> None:
    try:
        run(_options())
    except InputError as error:
        cli.fail(str(error))


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workdir", required=True, type=Path, help="made by launch/transfer.sh")
    parser.add_argument("--dicom_dir", required=True, type=Path, help="DICOM of real hearts, in any layout")
    parser.add_argument("--truth", required=True, type=Path, help=f"CSV with the columns {', '.join(COLUMNS)}")
    parser.add_argument(
        "--out", required=True, type=Path, help="folder for transfer.json, transfer.md, predictions.csv"
    )
    parser.add_argument("--arms", default=",".join(ARMS), help="which models to ask")
    return parser.parse_args()


def run(options: argparse.Namespace) -> dict[str, Any]:
    """The figures, which are also written to `options.out`.

    Raises:
      InputError: for a workdir that is not complete, a truth table that cannot be read, or no usable DICOM at all.
    """
    arms = options.arms.split(",")
    for name in ("data/manifest.json", "key", *(f"{arm}/config.json" for arm in arms if arm != "random_init")):
        if not (options.workdir / name).exists():
            raise InputError(f"--workdir has no {name}: make it with launch/transfer.sh (make transfer)")
    truth = read_truth(options.truth)
    options.out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".records-", dir=options.out) as scratch:
        real = preprocess(options.workdir, options.dicom_dir, truth, Path(scratch))
        out: dict[str, Any] = {
            "n": int(np.isfinite(real.column("lvef")).sum()),
            "n_truth": len(truth),
            "n_used": len(real.rows),
            "left_out": {why: list(real.fates.values()).count(why) for why in sorted(set(real.fates.values()))},
        }
        said: dict[str, np.ndarray] = {}
        for arm in arms:
            print(f"asking {arm}", file=sys.stderr, flush=True)
            run_of = options.workdir / (arm if arm != "random_init" else "model")
            figures, predictions = ask(run_of, options.workdir / "data", real, untrained=arm == "random_init")
            out |= {f"{arm}/{name}": value for name, value in figures.items()}
            said |= {f"{arm}/{name}": value for name, value in predictions.items()}
    _write(options.out, out, real, said)
    print((options.out / "transfer.md").read_text())
    return out


def read_truth(path: Path) -> list[dict[str, str]]:
    """The lines of a truth table, each with all COLUMNS.

    Raises:
      InputError: where it cannot be read, has no column study_uid, or names a study twice.
    """
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            lines = [{k.strip(): (v or "").strip() for k, v in row.items() if k} for row in csv.DictReader(file)]
    except (OSError, UnicodeDecodeError, csv.Error, AttributeError):
        raise InputError(f"--truth cannot be read: give a CSV with the columns {', '.join(COLUMNS)}") from None
    if not lines or "study_uid" not in lines[0]:
        raise InputError("--truth holds no line with a column study_uid")
    uids = [line["study_uid"] for line in lines if line["study_uid"]]
    if len(set(uids)) < len(uids):
        raise InputError("--truth names a study twice: keep one line of each")
    return [{name: line.get(name, "") for name in COLUMNS} for line in lines]


def preprocess(workdir: Path, dicom_dir: Path, truth: list[dict[str, str]], scratch: Path) -> Real:
    """The studies of `truth` through the pipeline that made the phantoms' records, all in one split.

    Raises:
      InputError: what preprocessing says, where not one study could be had.
    """
    from cmr_jax.data.records import Split, load_manifest
    from preprocessing import deid

    reports = scratch / "reports.csv"
    with reports.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["study_uid", "report"])
        writer.writerows([line["study_uid"], _PLACEHOLDER] for line in truth if line["study_uid"])
    about, data = load_manifest(workdir / "data"), scratch / "data"
    flags = {
        "dicom_dir": dicom_dir, "reports": reports, "out": data, "key_file": workdir / "key",
        "image_size": about["image_size"], "spacing_mm": about["spacing_mm"], "bits": about["bits"],
        "split_fractions": "1,0,0", "sr_reports": "off",
    }  # fmt: skip
    command = [sys.executable, "-m", "preprocessing.run", "--notext_labels", *(f"--{k}={v}" for k, v in flags.items())]
    code, last = _follow(command)
    if code:
        raise InputError(f"the real studies cannot be preprocessed: {last or '?'}")
    split = Split(data, "train")
    records = {split[row]["study_id"]: row for row in range(len(split))}
    pseudonyms = deid.Pseudonyms(deid.load_key(workdir / "key", create=False))
    used, fates = {}, {}
    for line, values in enumerate(truth):
        row = records.get(pseudonyms.name("study", values["study_uid"])) if values["study_uid"] else None
        if row is None:
            fates[line] = "no usable image in --dicom_dir"
        elif VIEW not in split[row]["series/view"]:
            fates[line] = "no short-axis cine"
        else:
            used[line] = row
    lines = sorted(used)
    return Real(data, "train", np.array([used[line] for line in lines], int), np.array(lines, int), truth, fates)


def _follow(command: list[str]) -> tuple[int, str]:
    """Runs `command` and shows its progress (stderr) as it comes; its exit code and its last line, which is not shown:
    where it fails that is the reason."""
    last = ""
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as running:
        assert running.stderr is not None
        for line in filter(None, map(str.strip, running.stderr)):
            if last:
                print(last, file=sys.stderr, flush=True)
            last = line
    return running.returncode, last


def of_records(data: Path, split: str) -> Real:
    """A split of records whose truth stands in their own labels, to be asked as if they were real: phantoms."""
    from cmr_jax.data.records import Split

    found = Split(data, split)
    truth = []
    for row in range(len(found)):
        labels = dict(zip(found[row]["label/name"], found[row]["label/value"], strict=True))
        truth.append({column: labels.get(column, "") for column in COLUMNS})
    rows = np.arange(len(found))
    return Real(data, split, rows, rows, truth, {})


def ask(
    run: Path, data: Path, real: Real, *, untrained: bool = False, draws: int = REAL_DRAWS
) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """The figures of one training run (see Asked), and what it says of each study of `real`, by name."""
    from bench import transfer_scores as scores
    from bench.transfer_embed import Asked

    asked = Asked(run, data, untrained=untrained)
    phantom_KNE, columns = asked.phantoms(PHANTOM_DRAWS)
    real_KNE = asked.draws(real.data, real.split, real.rows, draws)
    patients = [str(line) for line in real.lines]
    figures: dict[str, Any] = {}
    said: dict[str, np.ndarray] = {}
    for name in MEASUREMENTS:
        value_N = columns[name]
        known = np.flatnonzero(np.isfinite(value_N))
        probe = scores.Probe(phantom_KNE[:, known], value_N[known])
        said[name] = probe.predict(real_KNE) if len(real.rows) else np.zeros(0)
        part = scores.measurement(real.column(name), said[name], probe.mean, patients)
        part |= {"phantom_mae": probe.mae, "phantom_n": len(known), "penalty": probe.penalty}
        figures |= {f"{name}/{key}": value for key, value in part.items()}
    if (read_N := asked.read("lvef_percent", real_KNE)) is not None:
        part = scores.measurement(real.column("lvef"), read_N, float(np.nanmean(columns["lvef"])), patients)
        figures |= {f"lvef_read/{key}": value for key, value in part.items()}
        said["lvef_read"] = read_N
    image_NE = real_KNE.mean(axis=0)
    without, value_N = _without_probe(asked, real, image_NE, patients)
    return figures | without, said | {"lvef_zero_shot": value_N}


def _without_probe(
    asked: Any, real: Real, image_NE: np.ndarray, patients: list[str]
) -> tuple[dict[str, Any], np.ndarray]:
    """What the text tower alone can be asked: the fraction, the group, and the heart's own statement."""
    from bench import measured_reports as words
    from bench import transfer_scores as scores

    figures: dict[str, Any] = {}
    score_NS = image_NE @ asked.texts([words.function(value) for value in FRACTIONS]).T
    value_N = scores.expected_value(score_NS, np.array(FRACTIONS, float), asked.scale)
    part = scores.measurement(real.column("lvef"), value_N, float(np.mean(FRACTIONS)), patients)
    figures |= {f"lvef_zero_shot/{key}": value for key, value in part.items()}

    names = [real.truth[line]["group"] for line in real.lines]
    of_G = sorted(set(names) - {""})
    prompts = [asked.prompts(name) for name in of_G]
    score_NG = np.stack([image_NE @ asked.texts(each).mean(axis=0) for each in prompts], 1) if of_G else image_NE[:, :0]
    figures |= {f"group/{key}": value for key, value in scores.groups(names, score_NG, of_G, patients).items()}

    said = [words.statement(real.truth[line]) for line in real.lines]
    known = [i for i, text in enumerate(said) if text]
    gallery = sorted({said[i] for i in known})
    if gallery:
        score_NS = image_NE[known] @ asked.texts(gallery).T
        right_N = np.array([gallery.index(said[i]) for i in known])
        part = scores.statements(score_NS, right_N, [patients[i] for i in known])
    else:
        part = {"n": 0}
    return figures | {f"statement/{key}": value for key, value in part.items()}, value_N


def _write(out: Path, figures: dict[str, Any], real: Real, said: dict[str, np.ndarray]) -> None:
    (out / "transfer.json").write_text(json.dumps(figures, indent=1) + "\n")
    with (out / "predictions.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["truth_line", "left_out", *COLUMNS[1:], *said])
        place = {int(line): i for i, line in enumerate(real.lines)}
        for line, values in enumerate(real.truth):
            own = [f"{said[name][place[line]]:.2f}" if line in place else "" for name in said]
            writer.writerow([line + 1, real.fates.get(line, ""), *(values[name] for name in COLUMNS[1:]), *own])
    (out / "transfer.md").write_text(table(figures))


def table(figures: dict[str, Any]) -> str:
    """The figures as Markdown: a line a figure, a column a model, `figure [95 % interval]`."""
    arms = [arm for arm in ARMS if any(key.startswith(f"{arm}/") for key in figures)]
    rows = ["lvef/spearman", "lvef/mae", "lvef/bias", "lvef/mae_of_the_mean", "lvef_zero_shot/spearman"]
    rows += ["lvef_zero_shot/mae", "lvef_read/spearman", "lvef_read/mae", "edv_ml/spearman", "edv_ml/mae"]
    rows += ["mass_g/spearman", "mass_g/mae", "group/auroc", "group/accuracy", "statement/R@1", "statement/mean_rank"]
    rows += ["statement/chance/mean_rank", "lvef/phantom_mae"]

    def cell(arm: str, row: str) -> str:
        value, span = figures.get(f"{arm}/{row}"), figures.get(f"{arm}/{row}/ci95")
        text = "" if value is None else f"{value:.2f}"
        return f"{text} [{span[0]:.2f}, {span[1]:.2f}]" if text and span else text

    left = ", ".join(f"{count} {why}" for why, count in figures["left_out"].items()) or "none"
    lines = [
        f"{figures['n_used']} of {figures['n_truth']} asked, {figures['n']} with a known LVEF. Left out: {left}.",
        "",
        "| | n | " + " | ".join(arms) + " |",
        "|---|---|" + "---|" * len(arms),
    ]
    for row in rows:
        if any(figures.get(f"{arm}/{row}") is not None for arm in arms):
            n = figures.get(f"{arms[0]}/{row.split('/')[0]}/n", "")
            lines.append(f"| {row} | {n} | " + " | ".join(cell(arm, row) for arm in arms) + " |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
