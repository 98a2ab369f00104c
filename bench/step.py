"""What a training step and an inference cost beside PyTorch: `python -m bench.step [--sizes small,medium,paper]`.

The peer (bench/torch_peer.py) is the same function: it gives the released model's numbers, starts from the same
weights and sees the same batch, so that the two losses must agree. It wants a Python of its own, made by

    python3.11 -m venv /tmp/peer && /tmp/peer/bin/pip install torch==2.13.0 transformers safetensors numpy

Both run in processes of their own, on the same one core with one thread, in turn (A B A B), after a warm-up each; CPU
seconds of the whole process. "share of GEMM" is analytic FLOPs a CPU-second over the rate of the faster library's
float32 matrix product, measured between the pairs. Peak memory is that of the whole process, imports and compiling
among it; the compiler's own share stays with the process, so that beside it stands the peak of a process that took the
program out of the compile cache, as the timed one does. A loss of ours that differs from the peer's by more than a
part in 10,000 ends the bench.
"""

import argparse
import json
import math
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from bench import step_ours

BATCH = {"tiny": 2, "small": 4, "medium": 4, "paper": 2}
PEER = "/tmp/peer/bin/python"
MAKE_PEER = "python3.11 -m venv /tmp/peer && /tmp/peer/bin/pip install torch==2.13.0 transformers safetensors numpy"
MAX_LOSS_GAP = 1e-4


class Side:
    """One of the two processes."""

    def __init__(self, command: list[str], env: dict[str, str]):
        env = os.environ | {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "CUDA_VISIBLE_DEVICES": ""} | env
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=env)
        self.facts = self._read()

    def ask(self, what: str) -> dict[str, Any]:
        assert self._process.stdin is not None
        self._process.stdin.write(what + "\n")
        self._process.stdin.flush()
        return self._read()

    def close(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait()

    def _read(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise SystemExit(f"bench.step: {' '.join(map(str, self._process.args))} ended")  # pyright: ignore
        return json.loads(line)


def measure(size: str, what: str, options: argparse.Namespace) -> dict[str, Any]:
    """One row: `what` is train or infer."""
    batch = options.batch or BATCH[size]
    with tempfile.TemporaryDirectory() as folder:
        ours = [sys.executable, "-m", "bench.step_ours", "--folder", folder, "--size", size, "--remat", options.remat]
        ours += ["--core", str(options.core)]
        subprocess.run([*ours, "--what", "write", "--batch", str(batch)], check=True)
        peer = [options.peer_python, str(Path(__file__).with_name("torch_peer.py")), "--folder", folder]
        peer += ["--core", str(options.core), "--attention", options.peer_attention]
        cached = {"JAX_COMPILATION_CACHE_DIR": str(Path(folder, "cache"))}
        cached["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0"
        compiling = Side([*ours, "--what", what], cached)
        compiling.ask("run")
        compiling_peak = compiling.ask("memory")["peak_bytes"]
        compiling.close()
        sides = {"ours": Side([*ours, "--what", what], cached)}
        if Path(options.peer_python).exists():
            sides["torch"] = Side([*peer, "--what", what], {})
        found: dict[str, list[dict[str, Any]]] = {name: [] for name in sides}
        rates = []
        for side in sides.values():  # compiled and warm
            side.ask("run")
        for _ in range(options.pairs):
            rates.append(max(side.ask("gemm")["flops_per_s"] for side in sides.values()))
            for name, side in sides.items():
                found[name].append(side.ask("run"))
        peaks = {name: side.ask("memory")["peak_bytes"] for name, side in sides.items()}
        for side in sides.values():
            side.close()
    peaks["ours_compiling"] = compiling_peak
    return row(size, what, batch, sides["ours"].facts["flops"], found, peaks, rates)


def row(size: str, what: str, batch: int, flops: float, found: Any, peaks: dict[str, int], rates: list[float]):
    """`peaks` is bytes of ours, of torch and of `ours_compiling`, whose program was in no cache."""
    seconds = {name: [one["cpu_s"] for one in runs] for name, runs in found.items()}
    out: dict[str, Any] = {"size": size, "what": what, "batch": batch, "gflop": flops / 1e9}
    out["gemm_gflops"] = statistics.median(rates) / 1e9
    for name, values in seconds.items():
        out[name] = {
            "cpu_s": [min(values), statistics.median(values), max(values)],
            "share_of_gemm": statistics.median(flops / s / rate for s, rate in zip(values, rates, strict=True)),
            "peak_gib": peaks[name] / 2**30,
        }
    out["ours"]["cached_peak_gib"] = out["ours"]["peak_gib"]
    out["ours"]["peak_gib"] = max(peaks["ours"], peaks["ours_compiling"]) / 2**30
    if "torch" in found:
        pairs = list(zip(found["ours"], found["torch"], strict=True))
        if any(not math.isclose(a["loss"], b["loss"], rel_tol=MAX_LOSS_GAP) for a, b in pairs):
            raise SystemExit(f"bench.step: the two are not the same function: {pairs}")
        ratios = [a["cpu_s"] / b["cpu_s"] for a, b in pairs]
        out["ratio"] = [min(ratios), statistics.median(ratios), max(ratios)]
        out["peak_ratio"] = out["ours"]["peak_gib"] / out["torch"]["peak_gib"]
        out["cached_peak_ratio"] = out["ours"]["cached_peak_gib"] / out["torch"]["peak_gib"]
    return out


def describe(out: dict[str, Any]) -> str:
    parts = [f"{out['size']:7} {out['what']:5} batch {out['batch']}"]
    for name in ("ours", "torch"):
        if name in out:
            low, middle, high = out[name]["cpu_s"]
            parts.append(
                f"{name} {middle:.3f} ({low:.3f} to {high:.3f}) CPU-s, {out[name]['share_of_gemm']:.2f} of GEMM,"
                f" {out[name]['peak_gib']:.2f} GiB"
                + (f" ({out[name]['cached_peak_gib']:.2f} not compiling)" if name == "ours" else "")
            )
    if "ratio" in out:
        low, middle, high = out["ratio"]
        parts.append(
            f"ours / torch {middle:.2f} ({low:.2f} to {high:.2f}), memory {out['peak_ratio']:.2f}"
            f" ({out['cached_peak_ratio']:.2f} not compiling)"
        )
    return "; ".join(parts)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", default="small,medium,paper", help=f"of {', '.join(step_ours.SIZES)}")
    parser.add_argument("--what", default="train,infer")
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--batch", type=int, default=0, help="studies; 0: a few, by size")
    parser.add_argument("--remat", default="dots", help="of ours: none, full or dots, which is fastest on a CPU")
    parser.add_argument("--peer_python", default=PEER, help="a Python with torch and transformers")
    parser.add_argument("--peer_attention", default="sdpa", help="sdpa, or plain: einsum and softmax as released")
    parser.add_argument("--core", type=int, default=max(os.sched_getaffinity(0)), help="the core that both run on")
    parser.add_argument("--json", type=Path, help="also write the figures to this file")
    options = parser.parse_args()
    if not Path(options.peer_python).exists():
        print(f"no {options.peer_python}: ours alone. Make the peer's Python by\n  {MAKE_PEER}")
    rows = []
    for size in options.sizes.split(","):
        for what in options.what.split(","):
            rows.append(measure(size, what, options))
            print(describe(rows[-1]), flush=True)
    if options.json:
        options.json.write_text(json.dumps(rows, indent=1) + "\n")


if __name__ == "__main__":
    main()
