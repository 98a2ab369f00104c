"""What the contrastive losses hold in memory and cost: `python -m bench.losses [--sizes 4096,16384,32768]`.

Temporaries a device of value and gradient, as the compiler plans them for simulated CPU devices, and the CPU-seconds of
all devices together up to `--run_to` (above it nothing is run). `dense` is the plain formula over a batch that is split
over the devices, partitioned by the compiler. `--topology v5e:4x4` compiles for a TPU slice instead (peak a chip; wants
libtpu: the extra cmr_jax[tpu]).
"""

import argparse
import json
import os
import statistics
import time
from pathlib import Path
from typing import Any

WAYS = (("softmax", "dense"), ("softmax", "gather"), ("softmax", "ring"), ("sigmoid", "ring"))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", default="4096,16384,32768", help="global batches, with commas")
    parser.add_argument("--width", type=int, default=512)
    parser.add_argument("--devices", type=int, default=8)
    parser.add_argument("--run_to", type=int, default=4096, help="largest batch that is run, not only compiled")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--topology", default="", help="a TPU slice to compile for, such as v5e:4x4")
    parser.add_argument("--json", help="also write the figures to this file")
    options = parser.parse_args()
    os.environ["JAX_PLATFORMS"] = "cpu"
    os.environ["XLA_FLAGS"] = f"--xla_force_host_platform_device_count={options.devices}"
    devices = None
    if options.topology:
        from cmr_jax.bin.plan import _LIBTPU
        from cmr_jax.errors import InputError
        from cmr_jax.train.plan import devices_of

        os.environ |= _LIBTPU
        try:
            _, devices = devices_of(options.topology)
        except InputError as error:
            print(f"left out: {error}")
            return
    rows = []
    for size in map(int, options.sizes.split(",")):
        compiled = {way: compile_loss(*way, size, options.width, devices) for way in WAYS}
        seconds: dict[Any, list[float]] = {way: [] for way in WAYS}
        if devices is None and size <= options.run_to:
            for _ in range(options.rounds + 1):
                for way in WAYS:
                    seconds[way].append(cpu_s(compiled[way], size, options.width))
        for way, program in compiled.items():
            row: dict[str, Any] = {"kind": way[0], "method": way[1], "batch": size}
            row["mebibytes"] = round(held_bytes(program, peak=devices is not None) / (1 << 20), 1)
            if times := seconds[way][1:]:  # the first warms up
                row["cpu_s"] = [min(times), statistics.median(times), max(times)]
            rows.append(row)
            said = "  {1:.2f} ({0:.2f} to {2:.2f}) CPU-s".format(*row["cpu_s"]) if times else ""
            print(f"batch {size:>6}  {way[0]:<8} {way[1]:<7} {row['mebibytes']:8.1f} MiB a device{said}", flush=True)
    if options.json:
        Path(options.json).write_text(json.dumps(rows, indent=2) + "\n", encoding="utf-8")


def held_bytes(program: Any, *, peak: bool) -> int:
    """Temporaries a device; on a TPU what it holds at its peak."""
    analysis = program.memory_analysis()
    assert analysis is not None
    return analysis.peak_memory_in_bytes if peak else analysis.temp_size_in_bytes


def cpu_s(program: Any, size: int, width: int) -> float:
    """CPU-seconds of one value and gradient, all simulated devices together."""
    import jax

    shapes = program.input_shardings[0]
    keys = jax.random.split(jax.random.key(0), 2)
    rows = [jax.device_put(jax.random.normal(k, (size, width)), where) for k, where in zip(keys, shapes, strict=True)]
    jax.block_until_ready(rows)
    start = time.process_time()
    jax.block_until_ready(program(*rows))
    return time.process_time() - start


def compile_loss(kind: str, method: str, size: int, width: int, devices: list[Any] | None = None) -> Any:
    """The compiled value and gradient over all devices of this process, or over those of a slice."""
    # Imported after the environment is set.
    import jax
    import jax.numpy as jnp

    from cmr_jax import losses, sharding
    from cmr_jax.config import MeshConfig

    mesh = sharding.make_mesh(MeshConfig(), devices)
    rows = jax.ShapeDtypeStruct((size, width), jnp.float32, sharding=sharding.batch_sharding(mesh))

    def loss(image: jax.Array, text: jax.Array) -> jax.Array:
        if method == "dense":
            return losses.dense(kind, image, text, scale=10.0)
        return losses.sharded(kind, image, text, scale=10.0, mesh=mesh, method=method)

    split = (sharding.batch_sharding(mesh),) * 2
    step = jax.jit(jax.value_and_grad(loss, (0, 1)), out_shardings=(sharding.replicated(mesh), split))
    return step.lower(rows, rows).compile()


if __name__ == "__main__":
    main()
