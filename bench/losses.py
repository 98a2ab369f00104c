"""What the contrastive losses hold in memory: `python -m bench.losses [--sizes 4096,32768] [--devices 8]`.

Temporaries a device of value and gradient, as the compiler plans them for simulated CPU devices. Nothing is run.
`dense` is the plain formula over a batch that is split over the devices, partitioned by the compiler.
"""

import argparse
import json
import os
from pathlib import Path

WAYS = (("softmax", "dense"), ("softmax", "gather"), ("softmax", "ring"), ("sigmoid", "ring"))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", default="4096,32768", help="global batches, with commas")
    parser.add_argument("--width", type=int, default=512)
    parser.add_argument("--devices", type=int, default=8)
    parser.add_argument("--json", help="also write the figures to this file")
    options = parser.parse_args()
    os.environ["JAX_PLATFORMS"] = "cpu"
    os.environ["XLA_FLAGS"] = f"--xla_force_host_platform_device_count={options.devices}"
    rows = []
    for size in map(int, options.sizes.split(",")):
        for kind, method in WAYS:
            mebibytes = temporary_bytes(kind, method, size, options.width) / (1 << 20)
            rows.append({"kind": kind, "method": method, "batch": size, "mebibytes": round(mebibytes, 1)})
            print(f"batch {size:>6}  {kind:<8} {method:<7} {mebibytes:8.1f} MiB a device", flush=True)
    if options.json:
        Path(options.json).write_text(json.dumps(rows, indent=2) + "\n", encoding="utf-8")


def temporary_bytes(kind: str, method: str, size: int, width: int) -> int:
    """Temporaries a device of the loss's value and gradient over all devices of this process."""
    # Imported after the environment is set.
    import jax
    import jax.numpy as jnp

    from cmr_jax import losses, sharding
    from cmr_jax.config import MeshConfig

    mesh = sharding.make_mesh(MeshConfig())
    rows = jax.ShapeDtypeStruct((size, width), jnp.float32, sharding=sharding.batch_sharding(mesh))

    def loss(image: jax.Array, text: jax.Array) -> jax.Array:
        if method == "dense":
            return losses.dense(kind, image, text, scale=10.0)
        return losses.sharded(kind, image, text, scale=10.0, mesh=mesh, method=method)

    split = (sharding.batch_sharding(mesh),) * 2
    step = jax.jit(jax.value_and_grad(loss, (0, 1)), out_shardings=(sharding.replicated(mesh), split))
    analysis = step.lower(rows, rows).compile().memory_analysis()
    assert analysis is not None
    return analysis.temp_size_in_bytes


if __name__ == "__main__":
    main()
