"""What late enhancement adds: `python -m bench.what_views_tell --data DIR --out R --table FILE`.

The model of configs/transfer.py learns exams of the clinical phantom from reports that state what was measured
(bench.measured_reports), once with late enhancement and once without, for several seeds. Asked of test patients, with a
probe fitted on the training patients' embeddings: whether there is scar, the fraction, the group; and the own report
among all. The model with all views is also asked with its late enhancement hidden. Every run leaves `ARM-SEED.json` in
--out and is not made again.

Records: `preprocessing.phantom --variety clinical --studies 1600 --slices 12 --phases 10 --matrix 112 --seed 21
--patients_with_two_studies 0` to DIR, `bench.measured_reports --phantom DIR`, then `preprocessing.run --reports
DIR/measured.csv --label_table DIR/truth.csv --label_columns scar,lvef,group --image_size 96 --spacing_mm 3
--split_fractions 0.66,0.04,0.3` (see launch/transfer.sh). For finer ones: `--matrix 208`, `--image_size 192
--spacing_mm 1.5`, and here `--spacing_mm 1.5`.
"""

import argparse
import json
import os
import statistics
import time
from pathlib import Path
from typing import Any

from bench.spread import mean_of_seeds
from bench.transfer_recipe import recipe
from cmr_jax.config import Config

LGE = ("lge_sax",)
_CINE = ("cine_sax",) * 4
# Tokens of the longest report and its two ends. What is said of late enhancement stands last, and at the recipe's own
# 96 it was cut off where there is most to say.
_TEXT_LENGTH = 128
# arm -> (what it is, views that it is trained and asked with)
ARMS: dict[str, tuple[str, tuple[str, ...]]] = {
    "all": ("short axis, cine and late enhancement", (*_CINE, *LGE * 4)),
    "no_lge": ("no late enhancement", _CINE),
}
HIDDEN = "late enhancement in training, hidden when asked"
_COLUMNS = (
    ("scar AUROC", "linear/scar/AUROC"), ("group AUROC", "linear/group/AUROC"), ("LVEF MAE", "lvef/MAE"),
    ("LVEF Spearman", "lvef/Spearman"), ("R@5 %", "R@5"), ("chance", "chance/R@5"),
)  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True, type=Path, help="records of the clinical phantom")
    parser.add_argument("--out", required=True, type=Path, help="where runs and their figures go")
    parser.add_argument("--arms", default=",".join(ARMS))
    parser.add_argument("--seeds", default="0,1")
    parser.add_argument("--steps", type=int, default=1200)
    parser.add_argument("--spacing_mm", type=float, default=3.0, help="of a pixel that the model's window is cut from")
    parser.add_argument("--table", type=Path, help="Markdown file to write")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(options.out / "compile_cache"))
    for seed in map(int, options.seeds.split(",")):
        for arm in options.arms.split(","):
            done = options.out / f"{arm}-{seed}.json"
            if not done.exists():
                config = arm_config(arm, options.data, seed, options.steps, options.spacing_mm)
                figures = {"arm": arm, "seed": seed} | run(config, options.out / f"{arm}-{seed}")
                done.write_text(json.dumps(figures, indent=1))
            print(arm, seed, {name: json.loads(done.read_text())["as_trained"].get(key) for name, key in _COLUMNS})
    text = table([json.loads(path.read_text()) for path in sorted(options.out.glob("*-*.json"))])
    print(text)
    if options.table:
        options.table.write_text(text)


def arm_config(arm: str, data: Path, seed: int, steps: int, spacing_mm: float) -> Config:
    """The Config of one run; arms differ in their views alone."""
    changes = {"data.views": ARMS[arm][1], "data.spacing_mm": spacing_mm, "train.seed": seed}
    return recipe(data, steps, {**changes, "model.text.length": _TEXT_LENGTH, "train.checkpoint_every": 0})


def run(config: Config, folder: Path) -> dict[str, Any]:
    """Trains one model and asks it, and again with its late enhancement hidden where it had any."""
    from cmr_jax.train.loop import train
    from cmr_jax.train.workdir import prepare

    opened = prepare(folder, config)
    data = Path(config.data.path)
    loader = opened.loader(data, "train")
    began = time.process_time()
    train(opened.config, opened.model, loader, folder)
    out: dict[str, Any] = {"steps": config.train.steps, "spacing_mm": config.data.spacing_mm}
    out |= {"studies": len(loader.split), "train_cpu_seconds": time.process_time() - began}
    out["as_trained"] = ask(folder, data, ())
    if set(LGE) & set(config.data.views):
        out["hidden"] = ask(folder, data, LGE)
    return out


def ask(folder: Path, data: Path, hidden: tuple[str, ...]) -> dict[str, Any]:
    """The figures of one model by name, with `X/ci95` beside (test patients resampled)."""
    from cmr_jax.evals import classification, regression, retrieval
    from cmr_jax.evals.embed import embed_dataset
    from cmr_jax.evals.splits import split_rows

    found = embed_dataset(workdir=str(folder), data=str(data), splits=("train", "val", "test"), hidden_views=hidden)
    labels = classification.evaluate(found, ["scar", "group"], protocols=("linear",))
    numbers = regression.evaluate(found, ["lvef"])
    rows, _ = split_rows(found, "train", "test", must_train=True)
    test = rows["test"]
    reports = [found.reports()[int(row)] for row in test]
    figures = retrieval.metrics(found.image_NE[test], found.text_NE[test], relevant_ids=reports, ks=(5,))
    ways = ("image_to_text", "text_to_image")
    return {
        **labels.figures,
        **{name.removeprefix("regression/"): value for name, value in numbers.figures.items()},
        "R@5": statistics.mean(figures[f"duplicate_aware/{way}/R@5"] for way in ways),
        "chance/R@5": figures["duplicate_aware/chance/R@5"],
        "n": len(test),
    }


def table(runs: list[dict[str, Any]]) -> str:
    """All arms as Markdown: the mean over the seeds, and each seed's where there are several."""
    groups = [(ARMS[arm][0], [r["as_trained"] for r in runs if r["arm"] == arm]) for arm in ARMS]
    groups.insert(1, (HIDDEN, [r["hidden"] for r in runs if "hidden" in r]))
    first = runs[0]
    lines = [
        f"{first['studies']} training and {first['as_trained']['n']} test studies of the clinical phantom, "
        f"{first['steps']} steps of 64; mean over the seeds (lowest to highest).",
        "",
        "| views | seeds | " + " | ".join(name for name, _ in _COLUMNS) + " |",
        "|---|---|" + "---|" * len(_COLUMNS),
    ]
    lines += [_line(name, each) for name, each in groups if each]
    return "\n".join(lines) + "\n"


def _line(name: str, figures: list[dict[str, Any]]) -> str:
    cells = []
    for _, key in _COLUMNS:
        values = [each[key] for each in figures if each.get(key) is not None]
        digits = 2 if "AUROC" in key or "auroc" in key or "Spearman" in key else 1
        cells.append(mean_of_seeds(values, digits))
    return f"| {name} | {len(figures)} | " + " | ".join(cells) + " |"


if __name__ == "__main__":
    main()
