"""The very train step, compiled for hardware that is not here, and what the compiled program says of itself."""

import dataclasses
import math
import re
from typing import Any

import jax
import jax.numpy as jnp
from jax.experimental import topologies
from jax.sharding import Mesh

from cmr_jax import optim, sharding
from cmr_jax.config import Config
from cmr_jax.errors import InputError
from cmr_jax.models.build import Model
from cmr_jax.structs import Batch
from cmr_jax.train import chips, hlo
from cmr_jax.train.state import abstract_state
from cmr_jax.train.step import jit_step, make_step

# What get_topology_desc wants to know beside the name: two cores that act as one; a host with fewer chips than usual.
_OPTIONS: dict[str, dict[str, Any]] = {
    "v4": {"chip_config_name": "megacore"},
    "v5p": {"chip_config_name": "megacore"},
    "v5e:1x1": {"chips_per_host_bounds": (1, 1, 1)},
    "v6e:1x1": {"chips_per_host_bounds": (1, 1, 1)},
}


# What XLA:GPU would ask the driver, from NVIDIA's data sheet and the tables of compute capability 9.0 in the CUDA C++
# programming guide; text of xla.GpuTargetConfigProto.
_H100 = """
gpu_device_info {
  cuda_compute_capability { major: 9 }
  core_count: 132  fpus_per_core: 128  clock_rate_ghz: 1.98
  device_memory_size: 85899345920  memory_bandwidth: 3350000000000  l2_cache_size: 52428800
  threads_per_warp: 32  threads_per_block_limit: 1024  threads_per_core_limit: 2048
  shared_memory_per_block: 49152  shared_memory_per_block_optin: 232448  shared_memory_per_core: 233472
  registers_per_block_limit: 65536  registers_per_core_limit: 65536
  block_dim_limit_x: 2147483647  block_dim_limit_y: 65535  block_dim_limit_z: 65535
}
platform_name: "CUDA"
dnn_version_info { major: 9 minor: 8 }
device_description_str: "NVIDIA H100 80GB HBM3"
"""


@dataclasses.dataclass(frozen=True)
class Plan:
    """What a step would need of each chip. Bytes and seconds; `peak_bytes` None where the compiler refused."""

    chip: str
    devices: int
    mesh: dict[str, int]
    batch_size: int
    fits: bool
    memory_bytes: float
    peak_bytes: int | None
    temporary_bytes: int | None
    state_bytes: int
    flops: float
    recomputed_flops: float
    memory_traffic_bytes: float
    collectives: tuple[hlo.Collective, ...]
    refusal: str = ""

    @property
    def seconds(self) -> dict[str, float]:
        """The least time a step can take for each limit, were the others free: the roofline."""
        chip = chips.chip(self.chip)
        return {
            "compute": (self.flops + self.recomputed_flops) / self.devices / chip.flops_per_second,
            "memory": self.memory_traffic_bytes / chip.memory_bytes_per_second,
            "interconnect": sum(c.wire_bytes for c in self.collectives) / chip.wire_bytes_per_second,
        }

    @property
    def bound(self) -> str:
        """Which limit a step meets first; "" where the compiler refused and nothing is known."""
        return "" if self.peak_bytes is None else max(self.seconds, key=lambda name: self.seconds[name])

    @property
    def best_mfu(self) -> float:
        """Share of the chips' peak that the roofline leaves; what remat computes again is no use of it."""
        if not self.bound:
            return 0.0
        peak = self.devices * chips.chip(self.chip).flops_per_second
        return self.flops / peak / self.seconds[self.bound] if self.flops else 0.0

    def to_dict(self) -> dict[str, Any]:
        return {
            **dataclasses.asdict(self),
            "roofline_seconds": self.seconds,
            "bound": self.bound,
            "best_mfu": self.best_mfu,
        }


def devices_of(topology: str) -> tuple[str, list[Any]]:
    """(chip name, the devices) of a slice such as `v5e:4x4`, of several slices joined by a network, `2*v5e:4x4`, or of
    GPUs, `h100:8` (`h100:2x8`: two machines).

    Raises:
      InputError: for a name that is not of this form, a chip we do not know, or where its compiler is not installed.
    """
    match = re.fullmatch(r"(?:(\d+)\*)?(v\w+):(\d+(?:x\d+){1,2})", topology)
    gpus = re.fullmatch(r"(h100):(?:(\d+)x)?(\d+)", topology)
    if not match and not gpus:
        raise InputError(
            f"--topology {topology!r} is not of the form v5e:4x4, v5p:2x2x4, 2*v5e:4x4, h100:8 or h100:2x8"
        )
    if gpus:
        name, machines, count = gpus.groups()
        shape, platform = "", "cuda"
        options = {"topology": f"1x{machines or 1}x{count}", "target_config": _H100}
    else:
        assert match
        slices, name, shape = match.groups()
        chips.chip(name)
        shape, platform = f"{name}:{shape}", "tpu"
        options = _OPTIONS.get(shape, _OPTIONS.get(name, {}))
        if slices:
            options = {**options, "num_slices": int(slices)}
    try:
        found = topologies.get_topology_desc(shape, platform=platform, **options)
    except Exception as error:
        said = str(error)
        if "TPU support not installed" in said or "libtpu" in said:
            raise InputError("planning for a TPU needs its compiler: install the extra cmr_jax[tpu]") from None
        if platform == "cuda":
            raise InputError("planning for a GPU needs its compiler: install the extra cmr_jax[cuda]") from None
        first = said.splitlines()[0] if said else type(error).__name__
        raise InputError(f"--topology {topology!r}: the compiler knows no such slice ({first})") from None
    return name, list(found.devices)


def abstract_batch(config: Config, mesh: Mesh) -> Batch:
    """A global batch of `config` as shapes, split over `mesh`: what the loader's batches look like to the compiler."""
    rows = sharding.batch_sharding(mesh)
    video, length = config.model.video, config.model.text.length
    size, views = config.train.batch_size, config.num_series

    def shape(*dims: int, dtype: Any) -> jax.ShapeDtypeStruct:
        return jax.ShapeDtypeStruct((size, *dims), dtype, sharding=rows)

    parts = {}
    if config.data.text_sampling != "none":
        parts = {
            "part_tokens_BL": shape(length, dtype=jnp.int32),
            "part_token_mask_BL": shape(length, dtype=jnp.bool_),
            "part_id_B": shape(dtype=jnp.int32),
        }
    if config.model.numbers:
        parts["number_BQ"] = shape(len(config.model.numbers), dtype=jnp.float32)
    return Batch(
        video_BVTHW=shape(views, video.frames, video.image_size, video.image_size, dtype=jnp.uint8),
        video_mask_BVT=shape(views, video.frames, dtype=jnp.bool_),
        view_BV=shape(views, dtype=jnp.int32),
        slice_BV=shape(views, dtype=jnp.float32),
        tokens_BL=shape(length, dtype=jnp.int32),
        token_mask_BL=shape(length, dtype=jnp.bool_),
        text_id_B=shape(dtype=jnp.int32),
        row_B=shape(dtype=jnp.int32),
        **parts,
    )


def make_plan(
    config: Config, model: Model, chip_name: str, devices: list[Any], *, flops: float, recomputed_flops: float = 0.0
) -> Plan:
    """Compiles the train step of `config` for `devices` and reads the program.

    `flops` are those of one step over the global batch, forward and backward, without `recomputed_flops`, which remat
    computes again.

    Raises:
      InputError: where the mesh does not make the devices or the batch cannot be split over them.
    """
    mesh = sharding.make_mesh(config.mesh, devices)
    if config.train.batch_size % mesh.size:
        raise InputError(f"config.train.batch_size {config.train.batch_size} is not a multiple of {mesh.size} devices")
    optimizer = optim.make_optimizer(config.optim, config.train.steps)
    state = abstract_state(model, optimizer, mesh)
    lowered = jit_step(make_step(config, model, optimizer, mesh), state, mesh).lower(
        state, abstract_batch(config, mesh)
    )
    chip = chips.chip(chip_name)
    known = {
        "chip": chip_name,
        "devices": mesh.size,
        "mesh": dict(mesh.shape),
        "batch_size": config.train.batch_size,
        "memory_bytes": chip.memory_bytes,
        "state_bytes": _bytes_per_device(state),
        "flops": flops,
        "recomputed_flops": recomputed_flops,
    }
    try:
        compiled = lowered.compile()
    except jax.errors.JaxRuntimeError as error:
        if "RESOURCE_EXHAUSTED" not in str(error):
            raise
        nothing = {"peak_bytes": None, "temporary_bytes": None, "memory_traffic_bytes": 0.0, "collectives": ()}
        return Plan(**known, **nothing, fits=False, refusal=_refusal(str(error)))
    memory = compiled.memory_analysis()
    program = hlo.Program(compiled.as_text() or "")
    assert memory is not None
    # XLA:GPU says no peak: what comes in, what is made on the way, and what goes out that is not in place of what came.
    held = memory.argument_size_in_bytes + memory.temp_size_in_bytes
    peak = memory.peak_memory_in_bytes or held + memory.output_size_in_bytes - memory.alias_size_in_bytes
    return Plan(
        **known,
        fits=peak <= chip.memory_bytes,
        peak_bytes=peak,
        temporary_bytes=memory.temp_size_in_bytes,
        memory_traffic_bytes=float(program.memory_bytes()),
        collectives=tuple(program.collectives(mesh.size)),
    )


def _bytes_per_device(state: Any) -> int:
    def own(leaf: jax.ShapeDtypeStruct) -> int:
        assert leaf.sharding is not None
        shard = leaf.sharding.shard_shape(leaf.shape)
        return jnp.dtype(leaf.dtype).itemsize * math.prod(shard)

    return sum(own(leaf) for leaf in jax.tree.leaves(state))


def _refusal(message: str) -> str:
    """The compiler's own figure of what it would need, in one line."""
    found = re.search(r"Used [^.]*\.\d+\w of [\d.]+\w \w+|[Ee]xceeded \w+ capacity by [\d.]+\w", message)
    return found[0] if found else "the program does not fit the chip's memory"


def describe(plan: Plan) -> str:
    """A plan in lines for people."""
    gib = 1 << 30
    mesh = " x ".join(f"{name} {size}" for name, size in plan.mesh.items())
    lines = [
        f"{plan.devices} x {plan.chip}, mesh {mesh}, global batch {plan.batch_size}"
        f" ({plan.batch_size / plan.devices:g} studies a chip)",
    ]
    if plan.peak_bytes is None:
        return "\n".join([*lines, f"does not fit: the compiler refused ({plan.refusal})"])
    seconds = ", ".join(f"{name} {1e3 * value:.3g} ms" for name, value in plan.seconds.items())
    lines += [
        f"{'fits' if plan.fits else 'does not fit'}: peak {plan.peak_bytes / gib:.2f} GiB a chip of"
        f" {plan.memory_bytes / gib:.2f} GiB; state {plan.state_bytes / gib:.2f} GiB",
        f"{plan.flops / 1e12:.4g} TFLOP a step and {plan.recomputed_flops / 1e12:.4g} computed again; least time for"
        f" {seconds}: bound by {plan.bound},"
        f" at most {100 * plan.best_mfu:.0f} % MFU",
    ]
    lines += [
        f"{c.kind} among {c.group}: {c.count} a step, {c.wire_bytes / 1e6:.3g} MB sent by each chip"
        for c in plan.collectives
    ]
    return "\n".join(lines)
