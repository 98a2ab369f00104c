"""How does the cost of a training step grow? `python -m bench.growth [--out docs]`.

With frames (8 to 64), tokens (128 to 512), views (1 to 12), studies and devices, all at a small width: for
each size the analytic FLOPs, the temporaries of the compiled program and, on one device, the CPU-seconds of a step. A
slope of 1 in the plot (one a question, `growth_*.svg`) is a cost in line with size; above it stands the exponent that
fits. Attention over time or tokens grows with their square by its nature, and shows in FLOPs alike.
"""

import argparse
import dataclasses
import json
import math
import os
import statistics
import time
from pathlib import Path
from typing import Any

SIZES = {
    "frames": (8, 16, 32, 64),
    "views": (1, 3, 6, 12),
    "tokens": (128, 256, 512),
    "studies": (8, 16, 32, 64),
    "devices": (1, 2, 4, 8),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--what", default=",".join(SIZES))
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--out", type=Path, help="folder of the plots")
    parser.add_argument("--json", type=Path, help="also write the figures to this file")
    options = parser.parse_args()
    os.environ["JAX_PLATFORMS"] = "cpu"
    os.environ["XLA_FLAGS"] = f"--xla_force_host_platform_device_count={max(SIZES['devices'])}"
    figures: dict[str, list[dict[str, Any]]] = {}
    for what in options.what.split(","):
        figures[what] = []
        for size in SIZES[what]:
            row = measure(what, size, options.rounds)
            figures[what].append(row)
            low, middle, high = row["cpu_s"]
            print(
                f"{what} {row['size']:4}: {row['flops'] / 1e9:.2f} GFLOP, {row['temporary_bytes'] / 2**20:.0f} MiB of"
                f" temporaries a device, {middle:.2f} ({low:.2f} to {high:.2f}) CPU-s",
                flush=True,
            )
        fits = {name: exponent(figures[what], name) for name in ("flops", "temporary_bytes", "cpu_s")}
        print(f"{what}: grows as its power " + ", ".join(f"{x:.2f} ({name})" for name, x in fits.items()), flush=True)
        if options.out:
            plot(what, figures[what], options.out / f"growth_{what}.svg")
    if options.json:
        options.json.write_text(json.dumps(figures, indent=1) + "\n")


def config_of(what: str, size: int) -> Any:
    from cmr_jax.config import Config, DataConfig, ModelConfig, OptimConfig, TextConfig, TrainConfig, VideoConfig

    def at(name: str, otherwise: int) -> int:
        return size if what == name else otherwise

    video = VideoConfig(
        image_size=48, frames=at("frames", 8), tubelet=1, patch=16, width=128, depth=4, heads=4, attention="divided"
    )
    text = TextConfig(vocab_size=512, length=at("tokens", 64), width=128, depth=4, heads=4)
    return Config(
        data=DataConfig(views=("cine_sax",) * at("views", 2)),
        model=ModelConfig(video=video, text=text, embed_dim=64, dtype="float32", remat="none"),
        optim=OptimConfig(learning_rate=1e-4),
        train=TrainConfig(steps=100, batch_size=at("studies", 8)),
    )


def measure(what: str, size: int, rounds: int) -> dict[str, Any]:
    import jax

    from cmr_jax import optim, sharding
    from cmr_jax.config import MeshConfig
    from cmr_jax.data import schema
    from cmr_jax.models import flops
    from cmr_jax.models.build import build
    from cmr_jax.train.plan import abstract_batch
    from cmr_jax.train.state import abstract_state, make_init
    from cmr_jax.train.step import jit_step, make_step

    config = config_of(what, size)
    if what == "devices":  # as many studies a device
        config = dataclasses.replace(config, train=dataclasses.replace(config.train, batch_size=4 * size))
    mesh = sharding.make_mesh(MeshConfig(), jax.devices()[: size if what == "devices" else 1])
    model, optimizer = build(config.model, len(schema.VIEWS)), optim.make_optimizer(config.optim, config.train.steps)
    abstract = abstract_state(model, optimizer, mesh)
    placed = jax.tree.map(lambda leaf: leaf.sharding, abstract)
    shapes = abstract_batch(config, mesh)
    step = jit_step(make_step(config, model, optimizer, mesh), abstract, mesh).lower(abstract, shapes).compile()
    analysis = step.memory_analysis()
    assert analysis is not None
    state = jax.jit(make_init(model, optimizer, 0), out_shardings=placed)()
    batch = jax.tree.map(lambda leaf: jax.device_put(jax.numpy.ones(leaf.shape, leaf.dtype), leaf.sharding), shapes)
    seconds = []
    for _ in range(rounds + 1):
        jax.block_until_ready(state)
        start = time.process_time()
        state, _ = step(state, batch)
        jax.block_until_ready(state)
        seconds.append(time.process_time() - start)
    seconds = seconds[1:]
    return {
        "size": size,
        "flops": flops.train_step(config),
        "temporary_bytes": analysis.temp_size_in_bytes,
        "cpu_s": [min(seconds), statistics.median(seconds), max(seconds)],
    }


def exponent(rows: list[dict[str, Any]], name: str) -> float:
    """p of the power law size^p between the last two sizes, where what does not grow weighs least."""
    first, last = rows[-2], rows[-1]

    def value(row: dict[str, Any]) -> float:
        return row[name][1] if isinstance(row[name], list) else row[name]

    return math.log(value(last) / value(first)) / math.log(last["size"] / first["size"])


def plot(what: str, rows: list[dict[str, Any]], path: Path) -> None:
    import matplotlib

    matplotlib.use("svg")
    import matplotlib.pyplot as plt

    plt.rcParams["svg.hashsalt"] = what  # the same figures, the same file
    sizes = [row["size"] for row in rows]
    figure, axes = plt.subplots(figsize=(4.5, 3.2), layout="constrained")
    for name, values in (
        ("FLOPs", [row["flops"] for row in rows]),
        ("temporaries a device", [row["temporary_bytes"] for row in rows]),
        ("CPU-seconds", [row["cpu_s"][1] for row in rows]),
    ):
        axes.plot(sizes, [value / values[0] for value in values], marker="o", label=name)
    axes.plot(sizes, [size / sizes[0] for size in sizes], color="0.6", linestyle=":", label="in line with size")
    axes.set(xscale="log", yscale="log", xlabel=what, ylabel=f"times that of {sizes[0]}")
    axes.set_xticks(sizes, [str(size) for size in sizes])
    times = [2**power for power in range(math.ceil(math.log2(sizes[-1] / sizes[0])) + 1)]
    axes.set_yticks(times, [str(one) for one in times])
    axes.minorticks_off()
    axes.legend(fontsize="small")
    figure.savefig(path, metadata={"Date": None})
    plt.close(figure)


if __name__ == "__main__":
    main()
