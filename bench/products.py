"""What a linear layer's three products cost on one core, by shape: `python -m bench.products`.

The product, the gradient of its rows and that of its kernel, as XLA:CPU compiles them, beside NumPy's (OpenBLAS) of the
same matrices, in turn (paired): GFLOP a CPU-second, and how many times NumPy's time ours takes. The kernel's gradient
stands there in three ways: of the rows where they lie, of their transposed copy (as `models/layers.py` has it where
that pays), and as the transpose of the gradient's transpose. Shapes are those of bench.step.
"""

import argparse
import json
import os
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

# Rows, width in, width out: the MLP of small, then of medium and paper size, and the latter's other layers and text.
# The last three: from how many rows on the copy pays.
SHAPES = ((1568, 384, 1536), (1568, 1536, 384), (1568, 768, 3072), (1568, 3072, 768), (1568, 768, 2304),
          (1568, 768, 768), (1024, 768, 3072), (512, 768, 3072), (256, 768, 3072))  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--core", type=int, default=max(os.sched_getaffinity(0)), help="the core to run on")
    parser.add_argument("--json", type=Path, help="also write the figures to this file")
    options = parser.parse_args()
    os.sched_setaffinity(0, {options.core})
    os.environ |= {"JAX_PLATFORMS": "cpu", "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} --xla_cpu_multi_thread_eigen=false"
    rows = []
    for shape in SHAPES:
        for row in measure(shape, options.rounds):
            rows.append(row)
            low, middle, high = row["times_numpy"]
            print(
                f"{row['shape']:15} {row['product']:28} {row['gflops']:5.1f} GFLOP a CPU-s, NumPy {row['numpy']:5.1f};"
                f" {middle:.2f} ({low:.2f} to {high:.2f}) times NumPy's time",
                flush=True,
            )
    if options.json:
        options.json.write_text(json.dumps(rows, indent=1) + "\n")


def measure(shape: tuple[int, int, int], rounds: int) -> list[dict[str, Any]]:
    import jax
    import numpy as np

    rows, width_in, width_out = shape
    rng = np.random.default_rng(0)
    x, w, g = (rng.standard_normal(dims, np.float32) for dims in ((rows, width_in), shape[1:], (rows, width_out)))
    copied = jax.lax.optimization_barrier
    ways: dict[str, tuple[Callable[..., Any], Callable[..., Any], tuple[Any, Any]]] = {
        "x W": (np.matmul, lambda x, w: x @ w, (x, w)),
        "rows' gradient": (lambda g, w: g @ w.T, lambda g, w: g @ w.T, (g, w)),
        "kernel's, in place": (lambda x, g: x.T @ g, lambda x, g: x.T @ g, (x, g)),
        "kernel's, rows copied": (lambda x, g: x.T @ g, lambda x, g: copied(x.T) @ g, (x, g)),
        "kernel's, transposed": (lambda x, g: x.T @ g, lambda x, g: copied(g.T @ x).T + 0.0, (x, g)),
    }
    out = []
    for name, (plain, traced, given) in ways.items():
        compiled, on_device = jax.jit(traced), jax.device_put(given)
        pairs = []
        for _ in range(rounds + 1):
            pairs.append((cpu_s(plain, given), cpu_s(compiled, on_device)))
        numpy, ours = (statistics.median(side) for side in zip(*pairs[1:], strict=True))  # the first compiles
        ratios = [b / a for a, b in pairs[1:]]
        gflop = 2e-9 * rows * width_in * width_out
        out.append({
            "shape": "x".join(map(str, shape)), "product": name, "gflops": gflop / ours, "numpy": gflop / numpy,
            "times_numpy": [min(ratios), statistics.median(ratios), max(ratios)],
        })  # fmt: skip
    return out


def cpu_s(run: Callable[..., Any], given: tuple[Any, Any]) -> float:
    import jax

    start, count = time.process_time(), 0
    while (spent := time.process_time() - start) < 0.06:
        jax.block_until_ready(run(*given))
        count += 1
    return spent / count


if __name__ == "__main__":
    main()
