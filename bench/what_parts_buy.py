"""Which part of the phantom buys how much: `python -m bench.what_parts_buy --workdir W --out R --table FILE`.

W is made by launch/transfer.sh. Sketches of one seed are drawn once whole and once without each part (`PARTS`;
all else stays as it was drawn), and the model of configs/transfer.py learns each set alike. All models are then asked
for the LVEF of the same hearts, none of which they saw: the held-out whole sketches of W, exams of another generator
(--clinical, records of `preprocessing.phantom --variety clinical`), and real ones (--dicom_dir, --truth). The probe is
fitted on what the model knows: held-out sketches of its own kind. A seed is of sketches and of training both. Each run
leaves `PART-SEED.json` in R and is not made again; its phantoms and records are thrown away.
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

import numpy as np

from bench.parts_table import WHOLE, tables
from bench.transfer_recipe import recipe

# Sketches for this question are none of W's, whose seed is 0.
_FIRST_SEED = 31
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
    parser.add_argument("--seeds", default="0,1", help="of sketches and of training, one a run")
    parser.add_argument("--studies", type=int, default=500)
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--table", type=Path, help="Markdown file to write")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(options.out / "compile_cache"))
    todo = [
        (part, int(seed))
        for seed in options.seeds.split(",") if seed
        for part in options.without.split(",") if part and not (options.out / f"{part}-{seed}.json").exists()
    ]  # fmt: skip
    if todo and not options.workdir:
        parser.error("--workdir is needed to make the runs that --out does not hold yet (or give --without=)")
    if todo:
        _run_all(options, todo)
    text = tables([json.loads(path.read_text()) for path in sorted(options.out.glob("*.json"))], PARTS)
    print(text)
    if options.table:
        options.table.write_text(text)


def _run_all(options: argparse.Namespace, todo: list[tuple[str, int]]) -> None:
    from bench import transfer

    hearts = {"sketches": transfer.of_records(options.workdir / "data", "test")}
    with tempfile.TemporaryDirectory(prefix=".records-", dir=options.out) as scratch:
        if options.clinical:
            hearts["clinical"] = transfer.of_records(options.clinical, "train")
        if options.dicom_dir:
            truth = transfer.read_truth(options.truth)
            hearts["real"] = transfer.preprocess(options.workdir, options.dicom_dir, truth, Path(scratch))
        for part, seed in todo:
            figures = run(part, seed, options, Path(scratch) / part, hearts)
            (options.out / f"{part}-{seed}.json").write_text(json.dumps(figures, indent=1))
            print(part, seed, {key: value for key, value in figures.items() if "/lvef/" in key}, flush=True)


def run(part: str, seed: int, options: argparse.Namespace, folder: Path, hearts: dict[str, Any]) -> dict[str, Any]:
    """Draws sketches without `part`, trains on them and asks about `hearts`: the figures by name, and the fraction
    known and said of each heart (see bench.parts_table)."""
    from bench import transfer
    from cmr_jax.train.loop import train
    from cmr_jax.train.workdir import prepare

    records(part, options.studies, _FIRST_SEED + seed, folder, options.workdir / "key")
    data, model = folder / "data", folder / "model"
    opened = prepare(model, recipe(data, options.steps, {"train.checkpoint_every": 0, "train.seed": seed}))
    loader = opened.loader(data, "train")
    train(opened.config, opened.model, loader, model)
    out: dict[str, Any] = {"without": part, "seed": seed, "studies": len(loader.split), "steps": options.steps}
    for name, asked in hearts.items():
        figures, said = transfer.ask(model, data, asked, draws=_DRAWS[name])
        out |= {f"{name}/{key}": value for key, value in figures.items() if key.startswith("lvef/")}
        out[f"{name}/said"] = [round(float(value), 2) for value in said["lvef"]]
        out[f"{name}/truth"] = [float(value) if np.isfinite(value) else None for value in asked.column("lvef")]
    shutil.rmtree(folder)
    return out


def records(part: str, studies: int, seed: int, folder: Path, key: Path) -> None:
    """The records of sketches without `part`, in `folder/data`; the commands are those of launch/transfer.sh.

    Raises:
      subprocess.CalledProcessError: where one of them fails; it has said why.
    """
    hearts = folder / "phantom"
    without = [] if part == WHOLE else ["--without", part]
    commands = (
        ["preprocessing.phantom", "--out", hearts, "--studies", studies, "--seed", seed, "--variety", "sketch",
         "--slices", 12, "--phases", 10, "--matrix", 112, "--patients_with_two_studies", 0, *without],
        ["bench.measured_reports", "--phantom", hearts],
        ["preprocessing.run", "--dicom_dir", hearts / "dicom", "--reports", hearts / "measured.csv", "--label_columns",
         "group,lvef,edv_ml,mass_g", "--out", folder / "data", "--key_file", key, "--image_size", 96, "--spacing_mm", 3,
         "--split_fractions", "0.75,0.05,0.2"],
    )  # fmt: skip
    for command in commands:
        subprocess.run([sys.executable, "-m", *map(str, command)], check=True)
    shutil.rmtree(hearts)


if __name__ == "__main__":
    main()
