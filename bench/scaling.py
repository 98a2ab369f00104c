"""What plans say of whole trainings: `python -m bench.scaling PLAN.json ... --doc docs/scaling.md`.

Reads what `cmr_jax.bin.plan --out` wrote and sets it beside two datasets: the least hours of a training, and what the
readers of every host would have to bring in that time. Nothing here ran on a chip: the step is the roofline of the
compiled program, which no run reaches.
"""

import argparse
import json
from pathlib import Path
from typing import Any

BEGIN, END = "<!-- bench.scaling: begin -->", "<!-- bench.scaling: end -->"
DATASETS = {"13,787 studies": 13_787, "1,000,000 studies": 1_000_000}
PASSES = 100  # epochs of the released recipe
# Chips that share a host and so a reader (Cloud TPU documentation: v5e in slices of several hosts, v4, v5p; DGX H100).
CHIPS_A_HOST = {"v4": 4, "v5p": 4, "v5e": 4, "v6e": 4, "h100": 8}
GIB = 1 << 30


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("plans", nargs="+", type=Path)
    parser.add_argument("--study_mb", type=float, default=22.6, help="MB of a record; 22.6: 450 frames of 224 x 224")
    parser.add_argument("--doc", type=Path, help="file in which the table is put between its marks")
    options = parser.parse_args()
    text = table([json.loads(path.read_text()) for path in options.plans], options.study_mb)
    print(text)
    if options.doc:
        whole = options.doc.read_text()
        before, _, rest = whole.partition(BEGIN)
        _, found, after = rest.partition(END)
        if not found:
            parser.error(f"{options.doc.name} lacks the marks {BEGIN} and {END}")
        options.doc.write_text(f"{before}{BEGIN}\n{text}\n{END}{after}")


def table(plans: list[dict[str, Any]], study_mb: float) -> str:
    """One line a plan, fewest chips first."""
    head = ["slice", "mesh", "batch", "peak a chip", "least time a step", "bound by", "studies/s", "a host reads"]
    head += [f"hours, {PASSES} x {name}" for name in DATASETS]
    lines = ["| " + " | ".join(head) + " |", "|---" * len(head) + "|"]
    for plan in sorted(plans, key=lambda p: (p["devices"], p["batch_size"])):
        lines.append("| " + " | ".join(_cells(plan, study_mb)) + " |")
    return "\n".join(lines)


def _cells(plan: dict[str, Any], study_mb: float) -> list[str]:
    mesh = " x ".join(f"{name} {size}" for name, size in plan["mesh"].items() if size > 1) or "1"
    first = [f"`{plan['topology']}`", mesh, str(plan["batch_size"])]
    if plan["peak_bytes"] is None:
        return [*first, "refused", *["-"] * (4 + len(DATASETS))]
    # None of a step's parts can be faster than the slowest of them.
    seconds = max(plan["roofline_seconds"].values())
    rate = plan["batch_size"] / seconds
    hosts = max(plan["devices"] // CHIPS_A_HOST[plan["chip"]], 1)
    fits = "" if plan["fits"] else ", too much"
    return [
        *first,
        f"{plan['peak_bytes'] / GIB:.2f} of {plan['memory_bytes'] / GIB:.1f} GiB{fits}",
        f"{1e3 * seconds:.0f} ms",
        f"{plan['bound']}, at most {100 * plan['best_mfu']:.0f} % MFU",
        f"{rate:.0f}",
        f"{rate / hosts * study_mb:.0f} MB/s",
        *(f"{PASSES * studies / rate / 3600:.1f}" for studies in DATASETS.values()),
    ]


if __name__ == "__main__":
    main()
