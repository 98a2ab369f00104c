"""Which part of the phantom buys how much: `python -m bench.what_parts_buy --workdir W --out R --table FILE`.

W is made by launch/transfer.sh. Sketches of one seed are drawn once whole and once without each part (`PARTS`;
all else stays as it was drawn), and the model of configs/transfer.py learns each set alike. All models are then asked
for the LVEF of the same hearts, none of which they saw: the held-out whole sketches of W, exams of another generator
(--clinical, records of `preprocessing.phantom --variety clinical`), and real ones (--dicom_dir, --truth). The probe is
fitted on what the model knows: held-out sketches of its own kind. Each run leaves `PART.json` in R and is not made
again; its phantoms and records are thrown away.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from bench.transfer_recipe import recipe

WHOLE = "nothing"
# Sketches for this question are none of W's, whose seed is 0.
_SEED = 31
_ASKED = ("sketches", "clinical", "real")
_DRAWS = {"sketches": 2, "clinical": 4, "real": 16}


def main() -> None:
    from preprocessing.phantom.sketch.stack import PARTS

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workdir", type=Path, help="made by launch/transfer.sh; needed where a run is to be made")
    parser.add_argument("--clinical", type=Path, help="records of the clinical phantom, all in the split train")
    parser.add_argument("--dicom_dir", type=Path, help="DICOM of real hearts")
    parser.add_argument("--truth", type=Path, help="their truth table (see bench.transfer)")
    parser.add_argument("--out", required=True, type=Path, help="where figures go")
    parser.add_argument("--without", default=",".join((WHOLE, *PARTS)), help="parts to leave out, one a run")
    parser.add_argument("--studies", type=int, default=700)
    parser.add_argument("--steps", type=int, default=400)
    parser.add_argument("--table", type=Path, help="Markdown file to write")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(options.out / "compile_cache"))
    todo = [part for part in options.without.split(",") if part and not (options.out / f"{part}.json").exists()]
    if todo and not options.workdir:
        parser.error("--workdir is needed to make the runs that --out does not hold yet (or give --without=)")
    if todo:
        _run_all(options, todo)
    text = table([json.loads(path.read_text()) for path in sorted(options.out.glob("*.json"))])
    print(text)
    if options.table:
        options.table.write_text(text)


def _run_all(options: argparse.Namespace, todo: list[str]) -> None:
    from bench import transfer

    hearts = {"sketches": transfer.of_records(options.workdir / "data", "test")}
    with tempfile.TemporaryDirectory(prefix=".records-", dir=options.out) as scratch:
        if options.clinical:
            hearts["clinical"] = transfer.of_records(options.clinical, "train")
        if options.dicom_dir:
            truth = transfer.read_truth(options.truth)
            hearts["real"] = transfer.preprocess(options.workdir, options.dicom_dir, truth, Path(scratch))
        for part in todo:
            figures = run(part, options, Path(scratch) / part, hearts)
            (options.out / f"{part}.json").write_text(json.dumps(figures, indent=1))
            print(part, figures, flush=True)


def run(part: str, options: argparse.Namespace, folder: Path, hearts: dict[str, Any]) -> dict[str, Any]:
    """Draws sketches without `part`, trains on them and asks about `hearts`; the figures by name."""
    from bench import transfer
    from cmr_jax.train.loop import train
    from cmr_jax.train.workdir import prepare

    records(part, options.studies, folder, options.workdir / "key")
    data, model = folder / "data", folder / "model"
    opened = prepare(model, recipe(data, options.steps, {"train.checkpoint_every": 0}))
    loader = opened.loader(data, "train")
    train(opened.config, opened.model, loader, model)
    out: dict[str, Any] = {"without": part, "studies": len(loader.split), "steps": options.steps}
    for name, asked in hearts.items():
        figures, _ = transfer.ask(model, data, asked, draws=_DRAWS[name])
        out |= {f"{name}/{key}": value for key, value in figures.items() if key.startswith("lvef/")}
    shutil.rmtree(folder)
    return out


def records(part: str, studies: int, folder: Path, key: Path) -> None:
    """The records of sketches without `part`, in `folder/data`; the commands are those of launch/transfer.sh.

    Raises:
      subprocess.CalledProcessError: where one of them fails; it has said why.
    """
    hearts = folder / "phantom"
    without = [] if part == WHOLE else ["--without", part]
    commands = (
        ["preprocessing.phantom", "--out", hearts, "--studies", studies, "--seed", _SEED, "--variety", "sketch",
         "--slices", 12, "--phases", 10, "--matrix", 112, "--patients_with_two_studies", 0, *without],
        ["bench.measured_reports", "--phantom", hearts],
        ["preprocessing.run", "--dicom_dir", hearts / "dicom", "--reports", hearts / "measured.csv", "--label_columns",
         "group,lvef,edv_ml,mass_g", "--out", folder / "data", "--key_file", key, "--image_size", 96, "--spacing_mm", 3,
         "--split_fractions", "0.75,0.05,0.2"],
    )  # fmt: skip
    for command in commands:
        subprocess.run([sys.executable, "-m", *map(str, command)], check=True)
    shutil.rmtree(hearts)


def table(runs: list[dict[str, Any]]) -> str:
    """A line a part left out, the whole phantom first; `rank, error (bias)` of each set of hearts, with intervals."""
    from preprocessing.phantom.sketch.stack import PARTS

    found = {each["without"]: each for each in runs}
    asked = [name for name in _ASKED if any(f"{name}/lvef/mae" in each for each in runs)]
    counts = {name: next(each[f"{name}/lvef/n"] for each in runs if f"{name}/lvef/n" in each) for name in asked}
    heads = [f"{name}, n = {counts[name]}: {figure}" for name in asked for figure in ("rank", "error", "bias")]
    lines = ["| left out | " + " | ".join(heads) + " |", "|---|" + "---|" * len(heads)]
    for part, what in {WHOLE: "nothing: the sketches as they are", **PARTS}.items():
        if part in found:
            cells = [_cell(found[part], f"{name}/lvef/{key}") for name in asked for key in ("spearman", "mae", "bias")]
            lines.append(f"| {what} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def _cell(figures: dict[str, Any], key: str) -> str:
    value, span = figures.get(key), figures.get(f"{key}/ci95")
    digits = 2 if key.endswith("spearman") else 1
    text = "" if value is None else f"{value:.{digits}f}"
    return f"{text} [{span[0]:.{digits}f}, {span[1]:.{digits}f}]" if text and span else text


if __name__ == "__main__":
    main()
