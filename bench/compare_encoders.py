"""The study encoder against the concatenation of views at equal cost: `python -m bench.compare_encoders --data DIR`.

Both are trained alike (same text tower, loss, optimizer, steps, batches, augmentation of pixels) on the phantom's
records for several seeds, and scored on the test patients: once with all views, and with every half of the views
removed. The frames of the concatenation are chosen so that a study costs the same forward FLOPs within 2 %; its
temporal attention is the one that learns, but for the arm `concat_dead`. Every run leaves `ARM-SEED.json` in --out and
is not made again, so that a stopped comparison continues; --table writes the figures of all runs there as Markdown.

Records as in docs/encoders.md: `preprocessing.phantom --studies 1600 --slices 3 --phases 10 --matrix 96 --seed 3
--patients_with_two_studies 0.15`, then `preprocessing.run --image_size 48 --spacing_mm 3 --split_fractions
0.5,0.02,0.48`.
"""

import argparse
import dataclasses
import itertools
import json
import os
import statistics
import time
from pathlib import Path
from typing import Any

VIEWS = ("cine_sax", "cine_2ch", "cine_3ch", "cine_4ch")
ARMS = {
    "study": "study encoder, view dropout 0.3",
    "study_plain": "study encoder, no view dropout",
    "concat": "concatenation, no view dropout, temporal attention that learns",
    "concat_dropout": "concatenation, view dropout 0.3",
    "concat_dead": "concatenation, temporal attention dead (as released)",
}
KS = (1, 5, 10)
VIEW_DROPOUT = 0.3
MAX_FLOPS_GAP = 0.02


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True, help="records of the phantom")
    parser.add_argument("--out", default="compare_encoders", help="where runs and their figures go")
    parser.add_argument("--arms", default="study,study_plain,concat,concat_dead", help=f"of {', '.join(ARMS)}")
    parser.add_argument("--seeds", default="0,1,2")
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--batch_size", type=int, default=32)
    parser.add_argument("--table", help="Markdown file to write")
    options = parser.parse_args()
    out = Path(options.out)
    out.mkdir(parents=True, exist_ok=True)
    os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(out / "compile_cache"))
    seeds = [int(seed) for seed in options.seeds.split(",")]
    for seed, arm in ((seed, arm) for seed in seeds for arm in options.arms.split(",")):
        done = out / f"{arm}-{seed}.json"
        if not done.exists():
            figures = run(arm, seed, options.data, out / f"{arm}-{seed}", options.steps, options.batch_size)
            done.write_text(json.dumps(figures, indent=1))
        print(arm, seed, json.loads(done.read_text())["all"], flush=True)
    text = table([json.loads(path.read_text()) for path in sorted(out.glob("*-*.json"))])
    print(text)
    if options.table:
        Path(options.table).write_text(text)


def arm_config(arm: str, data: str, seed: int, steps: int, batch_size: int):
    """The Config of one run; that of a concatenation has the frames that cost what the study encoder costs.

    Raises:
      ValueError: where no number of frames comes within 2 %.
    """
    from cmr_jax.config import Config, DataConfig, ModelConfig, OptimConfig, TextConfig, TrainConfig, VideoConfig
    from cmr_jax.data import schema
    from cmr_jax.models import flops
    from cmr_jax.models.build import build

    video = VideoConfig(image_size=48, frames=8, tubelet=2, patch=16, width=64, depth=2, heads=4)
    study = Config(
        data=DataConfig(
            path=data,
            views=("cine_sax",) * 2 + VIEWS[1:],
            sections=("impression",),
            spacing_mm=3.0,
            view_dropout=0.0 if arm in ("study_plain", "concat", "concat_dead") else VIEW_DROPOUT,
        ),
        model=ModelConfig(
            video=video,
            text=TextConfig(length=48, width=64, depth=1, heads=4),
            embed_dim=64,
            dtype="float32",
            remat="none",
        ),
        optim=OptimConfig(learning_rate=1.5e-3, warmup_steps=40, weight_decay=0.05),
        train=TrainConfig(steps=steps, batch_size=batch_size, seed=seed, checkpoint_every=0, log_every=20),
    )
    if not arm.startswith("concat"):
        return study

    def concat(frames: int):
        time_init = "zeros" if arm == "concat_dead" else video.time_init
        shape = dataclasses.replace(video, frames=frames, tubelet=1, time_init=time_init)
        return dataclasses.replace(
            study,
            data=dataclasses.replace(study.data, views=VIEWS),
            model=dataclasses.replace(study.model, arch="concat", video=shape),
        )

    def cost(config: Config) -> float:
        text = dataclasses.replace(config.model.text, vocab_size=1)
        model = build(dataclasses.replace(config.model, text=text), len(schema.VIEWS))
        return flops.count(model.encode_image, model.abstract_params(), flops.one_study(config))

    aim = cost(study)
    few, many = cost(concat(16)), cost(concat(32))
    guess = 16 + round(16 * (aim - few) / (many - few))
    best = min(map(concat, (guess - 1, guess, guess + 1)), key=lambda c: abs(cost(c) / aim - 1))
    if abs(cost(best) / aim - 1) > MAX_FLOPS_GAP:
        raise ValueError("no number of frames makes the two cost the same")
    return best


def run(arm: str, seed: int, data: str, workdir: Path, steps: int, batch_size: int) -> dict[str, Any]:
    """Trains one arm with one seed and scores it on the test patients."""
    from cmr_jax.models import flops
    from cmr_jax.train.loop import train
    from cmr_jax.train.workdir import prepare

    config = arm_config(arm, data, seed, steps, batch_size)
    began = time.process_time()
    opened = prepare(workdir, config)
    train(opened.config, opened.model, opened.loader(data, "train"), workdir)
    seconds = time.process_time() - began
    halves = itertools.combinations(VIEWS, len(VIEWS) // 2)
    half = {",".join(hidden): _score(workdir, data, hidden) for hidden in halves}
    return {
        "arm": arm,
        "seed": seed,
        "steps": steps,
        "batch_size": batch_size,
        "frames": config.model.video.frames,
        "image_flops": flops.per_study(config).image,
        "train_cpu_seconds": seconds,
        "all": _score(workdir, data, ()),
        "half": half,
    }


def _score(workdir: Path, data: str, hidden: tuple[str, ...]) -> dict[str, float]:
    """R@k in percent, mean of the two directions, same reports counted as hits; `chance` and `n` beside them."""
    from cmr_jax.evals import retrieval
    from cmr_jax.evals.embed import embed_dataset

    found = embed_dataset(workdir=str(workdir), data=data, hidden_views=hidden)
    figures = retrieval.metrics(found.image_NE, found.text_NE, relevant_ids=found.reports(), ks=KS)
    ways = ("image_to_text", "text_to_image")
    return {
        **{f"R@{k}": sum(figures[f"duplicate_aware/{way}/R@{k}"] for way in ways) / 2 for k in KS},
        **{f"chance/R@{k}": figures[f"duplicate_aware/chance/R@{k}"] for k in KS},
        "n": figures["n_studies"],
    }


def table(runs: list[dict[str, Any]]) -> str:
    """All runs and the means of each arm as Markdown."""
    arms = [arm for arm in ARMS if any(r["arm"] == arm for r in runs)]
    first = runs[0]
    chance = ", ".join(f"R@{k} {first['all'][f'chance/R@{k}']:.1f}" for k in KS)
    lines = [
        "# Study encoder and concatenation of views, on the phantom",
        "",
        "Written by `python -m bench.compare_encoders --table docs/encoders.md`: "
        f"{int(first['all']['n'])} test studies, {first['steps']} steps of {first['batch_size']}",
        "studies. R@k in percent, mean of image to text and text to image,",
        f"equal reports counted as hits; chance: {chance}.",
        "Hearts that never existed: the figures compare two models, they say nothing of patients. Learning rate and",
        "steps were tuned for neither, and the steps are few: neither is trained to its end.",
        "",
        f"Half the views: two of {', '.join(VIEWS)} taken away at test, mean of all six ways.",
        "Kept: R@10 with half the views as a share of R@10 with all.",
        "",
        "| encoder | seed | MFLOP a study | R@1 | R@5 | R@10 | R@10, half the views | kept | CPU-s to train |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for arm in arms:
        rows = [_row(r) for r in sorted(runs, key=lambda r: r["seed"]) if r["arm"] == arm]
        lines += [_line(ARMS[arm], str(int(row[0])), row[1:]) for row in rows]
        means = [statistics.mean(column) for column in zip(*rows, strict=True)]
        lines.append(_line(f"**{ARMS[arm]}**", "mean", means[1:]))
    return "\n".join([*lines, "", "## What they say", "", *verdict(runs), ""])


def verdict(runs: list[dict[str, Any]]) -> list[str]:
    """Whether the study encoder finds more than the concatenation, seed by seed, and what each keeps of R@10."""
    rows = {arm: {r["seed"]: _row(r) for r in runs if r["arm"] == arm} for arm in ARMS}
    lines = []
    for place, k in enumerate(KS, start=2):
        both = sorted(rows["study"].keys() & rows["concat"].keys())
        if not both:
            continue
        ours, theirs = ([rows[arm][seed][place] for seed in both] for arm in ("study", "concat"))
        better = sum(a > b for a, b in zip(ours, theirs, strict=True))
        a, b = statistics.mean(ours), statistics.mean(theirs)
        says = "beats" if a > b else "does not beat"
        lines.append(
            f"- R@{k}: the study encoder {says} the concatenation, {a:.1f} to {b:.1f} in the mean; it is ahead in "
            f"{better} of {len(both)} seeds."
        )
    for arm in (arm for arm in ARMS if rows[arm]):
        kept = [row[-2] for row in rows[arm].values()]
        lines.append(f"- {ARMS[arm]}: keeps {min(kept):.0f} to {max(kept):.0f} % of R@10 with half the views.")
    return lines


def _row(r: dict[str, Any]) -> list[float]:
    half = statistics.mean(scores["R@10"] for scores in r["half"].values())
    whole = [r["all"][f"R@{k}"] for k in KS]
    return [r["seed"], r["image_flops"] / 1e6, *whole, half, 100 * half / max(whole[-1], 1e-9), r["train_cpu_seconds"]]


def _line(name: str, seed: str, values: list[float]) -> str:
    flops, *figures, kept, seconds = values
    cells = [f"{flops:.1f}", *(f"{x:.1f}" for x in figures), f"{kept:.0f} %", f"{seconds:.0f}"]
    return f"| {name} | {seed} | " + " | ".join(cells) + " |"


if __name__ == "__main__":
    main()
