"""What the phantom teaches, and what of it holds for real hearts:
`python -m bench.what_it_learns --workdir W --dicom_dir D --truth truth.csv --out R --table docs/what_it_learns.md`.

W is made by launch/transfer.sh. Each arm changes one thing of configs/transfer.py, is trained anew for each seed on the
phantoms alone, and is asked three things: retrieval and LVEF of phantoms that were not trained on, and the LVEF of the
real hearts of D (left out without --dicom_dir). Every run leaves `ARM-SEED.json` in R and is not made again, so a
stopped comparison goes on; the table says which arms were not run.
"""

import argparse
import copy
import dataclasses
import json
import os
import statistics
import tempfile
import textwrap
import time
from pathlib import Path
from typing import Any

import numpy as np

from bench.spread import mean_of_seeds
from bench.transfer_recipe import recipe
from cmr_jax.config import Config

# arm -> (what it is, changes of the config; "studies": share of the training phantoms; "trained": False for none)
ARMS: dict[str, tuple[str, dict[str, Any]]] = {
    "base": ("configs/transfer.py: softmax, equal texts are soft targets", {}),
    "untrained": ("control: no training", {"trained": False}),
    "shuffled": ("control: every study with another study's report", {"data.shuffle_pairs": True}),
    "half": ("half of the training phantoms", {"studies": 0.5}),
    "quarter": ("a quarter of them", {"studies": 0.25}),
    "no_numbers": ("contrastive alone: no number is read off the embedding", {"model.numbers": ()}),
    "no_gain": ("what moves is not multiplied", {"model.video.motion_gain": 1.0}),
    "hard_softmax": ("softmax, one positive each", {"loss.same_text_positive": False}),
    "sigmoid": ("sigmoid", {"loss.kind": "sigmoid", "model.logit_bias": -10.0}),
    "one_frame": ("one frame a slice: nothing moves", {"model.video.frames": 1, "model.video.tubelet": 1}),
    "one_place": ("one slice of the stack, not four", {"data.views": ("cine_sax",)}),
    "picture": (
        "the window as a picture of 120 mm, not by angle and radius, and no cine shown by its two ends",
        {"data.layout": "picture", "data.two_phases": 0.0, "model.video.image_size": 40},
    ),
    "motion_centre": ("the window about what moves, not about the left ventricle's ring", {"data.centre": "motion"}),
    "whole_cines": ("no cine shown by its two ends alone", {"data.two_phases": 0.0}),
    "other_sizes": ("hearts shown up to 15 % larger or smaller than they are", {"data.scale": 0.15}),
    "any_phase": ("every beat shown from any phase on", {"data.phase_roll": True}),
    "whole_text": ("whole texts only, no sentences", {"data.text_sampling": "none"}),
    "fixed_window": (
        "window about the middle, brightness as stored",
        {"data.centre": "image", "data.brightness": "record"},
    ),
    "undistorted": (
        "no turning, scaling, gamma, shading, blur, noise",
        {f"data.{name}": 0.0 for name in ("rotate_degrees", "scale", "gamma", "shading", "blur", "noise")},
    ),
}
_COLUMNS = (
    ("phantom R@5 %", "retrieval/R@5"), ("chance", "retrieval/chance/R@5"), ("phantom LVEF MAE", "lvef/phantom_mae"),
    ("real LVEF Spearman", "lvef/spearman"), ("real LVEF MAE", "lvef/mae"),
)  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workdir", type=Path, help="made by launch/transfer.sh; needed where a run is to be made")
    parser.add_argument("--dicom_dir", type=Path, help="DICOM of real hearts")
    parser.add_argument("--truth", type=Path, help="their truth table (see bench.transfer)")
    parser.add_argument("--out", required=True, type=Path, help="where runs and their figures go")
    parser.add_argument("--arms", default=",".join(ARMS))
    parser.add_argument("--seeds", default="0,1,2")
    parser.add_argument("--steps", type=int, default=300, help="short, so that many arms fit into an hour")
    parser.add_argument("--transfer", type=Path, help="a transfer.json to show in full")
    parser.add_argument(
        "--note",
        default="",
        help="what a reader must know of that transfer: phantoms, steps, limits; paragraphs apart by an empty line",
    )
    parser.add_argument("--table", type=Path, help="Markdown file to write")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(options.out / "compile_cache"))
    todo = [
        (arm, int(seed))
        for seed in options.seeds.split(",") if seed
        for arm in options.arms.split(",") if arm and not (options.out / f"{arm}-{seed}.json").exists()
    ]  # fmt: skip
    if todo:
        if not options.workdir:
            parser.error("--workdir is needed to make the runs that --out does not hold yet (or give --arms=)")
        _run_all(options, todo)
    runs = [json.loads(path.read_text()) for path in sorted(options.out.glob("*-*.json"))]
    whole = json.loads(options.transfer.read_text()) if options.transfer else None
    text = table(runs, whole, options.note)
    print(text)
    if options.table:
        options.table.write_text(text)


def _run_all(options: argparse.Namespace, todo: list[tuple[str, int]]) -> None:
    from bench import transfer

    with tempfile.TemporaryDirectory(prefix=".records-", dir=options.out) as scratch:
        real = None
        if options.dicom_dir:
            truth = transfer.read_truth(options.truth)
            real = transfer.preprocess(options.workdir, options.dicom_dir, truth, Path(scratch))
        for arm, seed in todo:
            figures = run(arm, seed, options.workdir / "data", options.out / f"{arm}-{seed}", options.steps, real)
            (options.out / f"{arm}-{seed}.json").write_text(json.dumps(figures, indent=1))
            print(arm, seed, {name: figures.get(key) for name, key in _COLUMNS}, flush=True)


def arm_config(arm: str, data: Path, seed: int, steps: int) -> Config:
    """The Config of one run."""
    changes = {key: value for key, value in ARMS[arm][1].items() if key not in ("studies", "trained")}
    return recipe(data, steps, {**changes, "train.seed": seed})


def run(arm: str, seed: int, data: Path, folder: Path, steps: int, real: Any) -> dict[str, Any]:
    """Trains one arm with one seed and asks it; the figures by name."""
    from bench import transfer
    from cmr_jax.evals import retrieval
    from cmr_jax.evals.embed import embed_dataset
    from cmr_jax.train.loop import train
    from cmr_jax.train.workdir import prepare

    changes = ARMS[arm][1]
    opened = prepare(folder, arm_config(arm, data, seed, steps))
    loader = opened.loader(data, "train")
    if "studies" in changes:
        loader = dataclasses.replace(loader, split=first(loader.split, changes["studies"]))
    began = time.process_time()
    trained = changes.get("trained", True)
    out: dict[str, Any] = {"arm": arm, "seed": seed, "steps": steps if trained else 0, "studies": len(loader.split)}
    if trained:
        train(opened.config, opened.model, loader, folder)
        found = embed_dataset(workdir=str(folder), data=str(data), splits=("val", "test"))
        figures = retrieval.metrics(found.image_NE, found.text_NE, relevant_ids=found.reports(), ks=(5,))
        ways = ("image_to_text", "text_to_image")
        out["retrieval/R@5"] = statistics.mean(figures[f"duplicate_aware/{way}/R@5"] for way in ways)
        out["retrieval/chance/R@5"] = figures["duplicate_aware/chance/R@5"]
        out["retrieval/n"] = figures["n_studies"]
    out["train_cpu_seconds"] = time.process_time() - began
    nobody = transfer.Real(data, "train", np.zeros(0, int), np.zeros(0, int), [], {})
    asked, _ = transfer.ask(folder, data, real or nobody, untrained=not trained)
    return out | asked


def first(split: Any, share: float) -> Any:
    """`split` cut to its first studies; which those are is as good as drawn, for their order is that of a hash."""
    cut = copy.copy(split)
    cut._rows = split._rows[: max(2, round(share * len(split)))]
    return cut


def table(runs: list[dict[str, Any]], whole: dict[str, Any] | None = None, note: str = "") -> str:
    """All runs as Markdown, and what was not run; `whole`: the figures of one transfer, shown in full after `note`."""
    from bench import transfer

    lines = ["# What it learns", ""]
    lines += [
        "Written by `python -m bench.what_it_learns --table docs/what_it_learns.md`. All training is on phantoms;"
    ]
    lines += ["nothing is fitted on real hearts. Intervals: 95 %, studies resampled, everything fitted held fixed.", ""]
    if whole is not None:
        lines += ["## Transfer to real hearts", ""]
        for paragraph in filter(None, note.split("\n\n")):
            lines += [*textwrap.wrap(paragraph, 118), ""]
        lines.append(transfer.table(whole))
    done = [arm for arm in ARMS if any(r["arm"] == arm for r in runs)]
    if done:
        lines += ["## One thing changed at a time", "", "| arm | seeds | phantoms | steps | ", "|---|---|---|---|"]
        lines[-2] += " | ".join(name for name, _ in _COLUMNS) + " |"
        lines[-1] += "---|" * len(_COLUMNS)
        lines += [_line(arm, [r for r in runs if r["arm"] == arm]) for arm in done]
        n = max((r.get("lvef/n", 0) for r in runs), default=0)
        lines += [
            "",
            f"Mean over seeds (lowest to highest where there are several). Real hearts with a known LVEF: {n}.",
        ]
    left = [f"{arm} ({ARMS[arm][0]})" for arm in ARMS if arm not in done]
    lines += ["", "Not run: " + ("; ".join(left) or "nothing") + ".", ""]
    return "\n".join(lines)


def _line(arm: str, runs: list[dict[str, Any]]) -> str:
    cells = [ARMS[arm][0], str(len(runs)), str(runs[0]["studies"]), str(runs[0]["steps"])]
    for _, key in _COLUMNS:
        values = [r[key] for r in runs if r.get(key) is not None]
        cells.append(mean_of_seeds(values, 2))
    return "| " + " | ".join(cells) + " |"


if __name__ == "__main__":
    main()
