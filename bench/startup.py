"""How long until the first step? `python -m bench.startup [--config configs/demo.py]`.

Processes of their own: imports, the config, the state at step 0, the compiled step, and one step on a batch of noise in
the config's shapes (what opens the records is left out: bench.reader). In turn with an empty compile cache (cold) and
with the one that this left (warm); CPU-seconds of all threads, and of the whole process from its start.
"""

import argparse
import importlib.util
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

STAGES = ("import", "config", "state", "compile", "step", "whole")
VOCABULARY = 512


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", default="configs/demo.py")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", type=Path, help="also write the figures to this file")
    parser.add_argument("--one", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        print(json.dumps(one(options.config)))
        return
    runs: dict[str, list[dict[str, float]]] = {"cold": [], "warm": []}
    for _ in range(options.rounds):
        with tempfile.TemporaryDirectory() as cache:
            for temperature in runs:
                runs[temperature].append(_in_a_process(options.config, cache))
    figures: dict[str, Any] = {}
    for temperature, found in runs.items():
        figures[temperature] = {
            s: [f([run[s] for run in found]) for f in (min, statistics.median, max)] for s in STAGES
        }
        said = ", ".join(f"{s} {b:.2f} ({a:.2f} to {c:.2f})" for s, (a, b, c) in figures[temperature].items())
        print(f"{temperature} compile cache, CPU-s: {said}", flush=True)
    if options.json:
        options.json.write_text(json.dumps(figures, indent=1) + "\n")


def _in_a_process(config: str, cache: str) -> dict[str, float]:
    env = {
        "JAX_COMPILATION_CACHE_DIR": cache,
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
        "JAX_PLATFORMS": "cpu",
    }
    command = [sys.executable, "-m", "bench.startup", "--one", "--config", config]
    return json.loads(subprocess.run(command, env=os.environ | env, check=True, capture_output=True).stdout)


def one(path: str) -> dict[str, float]:
    """CPU-seconds of each stage in this process."""
    out, last = {}, time.process_time()

    def stage(name: str) -> None:
        nonlocal last
        now = time.process_time()
        out[name], last = now - last, now

    import jax

    import cmr_jax.bin.train  # noqa: F401 - what the trainer imports
    from cmr_jax import config, optim, sharding
    from cmr_jax.data import schema
    from cmr_jax.models.build import build
    from cmr_jax.train import loop, workdir  # noqa: F401
    from cmr_jax.train.plan import abstract_batch
    from cmr_jax.train.state import abstract_state, make_init
    from cmr_jax.train.step import jit_step, make_step

    stage("import")
    spec = importlib.util.spec_from_file_location("experiment", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    raw = module.get_config().to_dict()
    raw["model"]["text"]["vocab_size"] = raw["model"]["text"]["vocab_size"] or VOCABULARY
    settings = config.from_dict(raw)
    stage("config")
    mesh = sharding.make_mesh(settings.mesh, jax.devices()[:1])
    model, optimizer = (
        build(settings.model, len(schema.VIEWS)),
        optim.make_optimizer(settings.optim, settings.train.steps),
    )
    abstract = abstract_state(model, optimizer, mesh)
    placed = jax.tree.map(lambda leaf: leaf.sharding, abstract)
    state = jax.block_until_ready(jax.jit(make_init(model, optimizer, 0), out_shardings=placed)())
    stage("state")
    shapes = abstract_batch(settings, mesh)
    step = jit_step(make_step(settings, model, optimizer, mesh), abstract, mesh).lower(abstract, shapes).compile()
    stage("compile")
    batch = jax.tree.map(lambda leaf: jax.device_put(jax.numpy.zeros(leaf.shape, leaf.dtype), leaf.sharding), shapes)
    jax.block_until_ready(step(state, batch))
    stage("step")
    out["whole"] = time.process_time()
    return out


if __name__ == "__main__":
    main()
