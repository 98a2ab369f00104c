"""What it costs to hand a train step to the device: `python -m bench.dispatch [--leaves 270] [--calls 200]`.

A state with three arrays a parameter (itself and Adam's moments), through the same jit as the trainer's (`jit_step`),
on one CPU device. The arrays are tiny, so that nearly all of the time of a call is Python and the runtime.
"""

import argparse
import dataclasses
import os
import statistics
import time


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--leaves", type=int, default=270, help="parameters; the state has three times as many and some"
    )
    parser.add_argument("--calls", type=int, default=200)
    options = parser.parse_args()
    os.environ["JAX_PLATFORMS"] = "cpu"
    import jax
    import jax.numpy as jnp

    from cmr_jax import sharding
    from cmr_jax.config import MeshConfig
    from cmr_jax.structs import TrainState
    from cmr_jax.train.step import jit_step

    mesh = sharding.make_mesh(MeshConfig(), jax.devices()[:1])
    params = {f"layer_{i:03d}": {"kernel": jnp.ones((8,), jnp.float32)} for i in range(options.leaves)}
    moments = {"mu": jax.tree.map(jnp.zeros_like, params), "nu": jax.tree.map(jnp.zeros_like, params)}
    state = TrainState(step=jnp.zeros((), jnp.int32), params=params, opt_state=moments, usual_loss=jnp.zeros(2))
    abstract = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding.replicated(mesh)), state)

    def step(state: TrainState, batch):
        moved = jax.tree.map(lambda p, m: p + m + batch.sum(), state.params, state.opt_state["mu"])
        return dataclasses.replace(state, step=state.step + 1, params=moved), {"loss": batch.sum()}

    run = jit_step(step, abstract, mesh)
    batch = jax.device_put(jnp.ones((4,), jnp.float32), sharding.batch_sharding(mesh))
    state = jax.device_put(state, sharding.replicated(mesh))
    state, _ = run(state, batch)
    wall, processor = [], []
    for _ in range(options.calls):
        jax.block_until_ready(state)
        start, cpu = time.perf_counter(), time.thread_time()
        state, _ = run(state, batch)
        wall.append(time.perf_counter() - start)
        processor.append(time.thread_time() - cpu)
    for name, seconds in (("wall", wall), ("CPU of the calling thread", processor)):
        middle, worst = statistics.median(seconds), sorted(seconds)[int(0.9 * len(seconds))]
        print(f"{len(jax.tree.leaves(state))} leaves, {name}: median {1e3 * middle:.2f} ms, 90 % {1e3 * worst:.2f} ms")


if __name__ == "__main__":
    main()
