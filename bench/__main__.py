"""All benches, and what they say as one page: `python -m bench --out docs/benchmarks.md` (`make bench`; an hour).

Each bench runs by itself and leaves its lines and figures in `--figures`; what stands there already is not run again
unless `--fresh`, so that a stopped bench goes on. The page holds the machine, the versions, what was to be reached and
what was, and every bench's own lines.
"""

import argparse
import importlib.metadata
import json
import os
import platform
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

# name -> (its question, its arguments)
BENCHES: dict[str, tuple[str, list[str]]] = {
    "step": ("Training step and inference, beside PyTorch", []),
    "products": ("The products of a linear layer on one core, beside NumPy's", []),
    "phantom": ("The phantom", []),
    "preprocess": ("Preprocessing, beside plain pydicom and ways of the field", []),
    "reader": ("Reading records, beside tf.data, tfds and ArrayRecord", []),
    "retrieval": ("Retrieval figures, beside full-sort scripts", []),
    "losses": ("The contrastive losses", []),
    "attention": ("Attention on a TPU, beside the library's kernels (compiled, not run)", []),
    "growth": ("How cost grows", ["--out", "docs"]),
    "startup": ("Start-up", []),
}
LIBRARIES = ("jax", "jaxlib", "flax", "optax", "numpy", "grain", "pydicom", "imagecodecs", "tensorflow-cpu")

Figures = dict[str, Any]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("docs/benchmarks.md"))
    parser.add_argument("--figures", type=Path, default=Path("/tmp/cmr_bench"), help="where each bench leaves its own")
    parser.add_argument("--only", default=",".join(BENCHES), help="run these; the page shows all that are there")
    parser.add_argument("--fresh", action="store_true", help="run again what is there")
    parser.add_argument("--note", default="", help="what a reader must know of this run")
    options = parser.parse_args()
    options.figures.mkdir(parents=True, exist_ok=True)
    for name in filter(None, options.only.split(",")):
        figures, lines = options.figures / f"{name}.json", options.figures / f"{name}.txt"
        if figures.exists() and not options.fresh:
            continue
        command = [sys.executable, "-m", f"bench.{name}", *BENCHES[name][1], "--json", str(figures)]
        print(f"{name}: {BENCHES[name][0]}", flush=True)
        began = time.monotonic()
        run = subprocess.run(command, stdout=subprocess.PIPE, text=True)
        if run.returncode:  # says why by itself; the page says that it was not run
            continue
        lines.write_text(run.stdout)
        print(run.stdout, end="")
        print(f"({time.monotonic() - began:.0f} s)", flush=True)
    found = {name: options.figures / f"{name}.json" for name in BENCHES}
    figures = {name: json.loads(path.read_text()) for name, path in found.items() if path.exists()}
    lines = {name: (options.figures / f"{name}.txt").read_text() for name in figures}
    options.out.write_text(page(figures, lines, options.note))
    print(f"wrote {options.out}")


def page(figures: Figures, lines: dict[str, str], note: str = "") -> str:
    """Everything as Markdown."""
    out = [
        "# Benchmarks",
        "",
        "Written by `make bench` (`python -m bench`). CPU-seconds: median, lowest and highest; ratios are paired: both",
        "sides run in turn in one run. What was tried to get there: [performance.md](performance.md).",
        "",
        *([note, ""] if note else []),
        machine(),
        "",
        "| what it must show | reached |",
        "|---|---|",
    ]
    out += [f"| {what} | {reached(figures, test)} |" for what, test in GOALS]
    for name, (question, _) in BENCHES.items():
        out += ["", f"## {question}", "", f"`python -m bench.{name}`", ""]
        out += ["```", lines[name].rstrip(), "```"] if name in lines else ["Not run."]
        if name == "growth" and name in figures:
            out += ["", *(f"![{what}](growth_{what}.svg)" for what in figures[name])]
    return "\n".join([*out, ""])


def machine() -> str:
    processor = platform.processor() or platform.machine()
    about = Path("/proc/cpuinfo").read_text() if Path("/proc/cpuinfo").exists() else ""
    for line in about.splitlines():
        if line.startswith("model name"):
            processor = line.split(":", 1)[1].strip()
            break
    # The ratios to PyTorch hang on it more than on the name.
    widest = next((name for flag, name in (("avx512f", "AVX-512"), ("avx2", "AVX2")) if flag in about.split()), "")
    processor += f" with {widest}" if widest else ""
    versions = []
    for name in LIBRARIES:
        try:
            versions.append(f"{name} {importlib.metadata.version(name)}")
        except importlib.metadata.PackageNotFoundError:
            continue
    gib = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    load = ", ".join(f"{one:.1f}" for one in os.getloadavg())
    return (
        f"Machine: {processor}, {os.cpu_count()} threads, {gib:.0f} GiB, {platform.system()}; load {load} at the end.\n"
        f"Python {platform.python_version()}, {', '.join(versions)}."
    )


def reached(figures: Figures, test: Callable[[Figures], str]) -> str:
    """What a goal's test says, or that its bench was not run."""
    try:
        return test(figures)
    except (KeyError, StopIteration, IndexError):
        return "not measured in this run"


def _steps(figures: Figures, what: str, sizes: tuple[str, ...], name: str) -> str:
    rows = {row["size"]: row for row in figures["step"] if row["what"] == what}
    said = []
    for size in sizes:
        if size not in rows:
            said.append(f"{size}: not measured")
        elif name == "ratio":
            low, middle, high = rows[size]["ratio"]
            said.append(f"{size} {middle:.2f} ({low:.2f} to {high:.2f})")
        else:
            said.append(f"{size} {rows[size][name]:.2f}")
    return ", ".join(said)


def _preprocess(figures: Figures, other: str) -> str:
    return "; ".join(
        "{} {:.2f} ({:.2f} to {:.2f})".format(corpus, *(one[f"ours_to_{other}"][i] for i in (1, 0, 2)))
        for corpus, one in figures["preprocess"].items()
        if f"ours_to_{other}" in one
    )


def _grey(figures: Figures) -> str:
    """Against cmr_toolkit's own code where the bench had it."""
    if own := _preprocess(figures, "cmr_toolkit"):
        return f"{own}. Asked for the model's 128 pixels alone: {_preprocess(figures, 'cmr_toolkit at 128 px')}"
    return f"its code was not there; a lean HDF5 way written for the bench: {_preprocess(figures, 'hdf5')}"


def _reader(figures: Figures) -> str:
    rows = {row["way"]: row for row in figures["reader"]}
    return (
        f"{rows['ours']['GB/CPU-s']:.2f} GB ({rows['ours']['min']:.2f} to {rows['ours']['max']:.2f}),"
        f" {rows['tf.data']['ours_is_times']:.2f} times tf.data,"
        f" in the middle of an epoch after {rows['ours']['middle_of_epoch_s']:.3f} s"
    )


def _retrieval(figures: Figures) -> str:
    rows = {(row["way"], bool(row["equal_reports"])): row for row in figures["retrieval"] if row["studies"] == 13787}
    ours = rows["ours", True]
    low, high = ours["cpu_seconds_range"]
    return (
        f"{ours['cpu_seconds'] / 2:.2f} ({low / 2:.2f} to {high / 2:.2f}) CPU-s a direction,"
        f" {rows['ours', False]['cpu_seconds'] / 2:.2f} without equal reports; {ours['peak_mib']:.0f} MiB;"
        f" {rows['full_sort', True]['times_ours']:.1f} times as fast as the full sort"
    )


def _startup(figures: Figures) -> str:
    low, middle, high = figures["startup"]["warm"]["whole"]
    return f"{middle:.1f} ({low:.1f} to {high:.1f}) CPU-s"


def _phantom(figures: Figures) -> str:
    said = []
    for row in figures["phantom"]:
        low, middle, high = row["stacks/CPU-s"]
        said.append(f"{row['variety']} {middle:.2f} ({low:.2f} to {high:.2f})")
    return "; ".join(said)


# The goals of the issues, and what says how far each was reached.
GOALS: tuple[tuple[str, Callable[[Figures], str]], ...] = (
    ("training step, ours / PyTorch: ≤ 1.2 at small and medium, ≤ 1.0 at paper size",
     lambda f: _steps(f, "train", ("small", "medium", "paper"), "ratio")),
    ("inference, ours / PyTorch: ≤ 1.0", lambda f: _steps(f, "infer", ("small", "medium", "paper"), "ratio")),
    ("peak memory of the training step, ours / PyTorch: ≤ 0.6",
     lambda f: _steps(f, "train", ("small", "medium", "paper"), "peak_ratio")),
    ("preprocessing: ≥ 0.9 of the floor, above it for raw", lambda f: _preprocess(f, "floor")),
    ("preprocessing: ≥ 5 times cmr_toolkit's grey way", _grey),
    ("preprocessing: ≥ 1.5 times npy + mp4", lambda f: _preprocess(f, "mp4")),
    ("reader: ≥ 1.0 GB a CPU-second, ≥ 1.8 times tf.data, resume < 1 s", _reader),
    ("retrieval at 13,787: ≤ 2 CPU-s a direction, < 200 MiB, ≥ 5 times the full sort", _retrieval),
    ("warm start to the demo's first step: < 15 CPU-s", _startup),
    ("phantom: ≥ 3 studies a CPU-second of 12 slices by 25 phases by 128²", _phantom),
)  # fmt: skip


if __name__ == "__main__":
    main()
