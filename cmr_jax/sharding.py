"""Where every array lives: the mesh, the table of rules for parameters, the split of a batch.

The mesh is a value that is passed on. Its axes are `data` (replicas), `fsdp` (parameters and optimizer state are split
too) and, where a config asks for it, `model` (the hidden units of the MLPs are split, and with them the work on one
study); the batch is split over the first two.
"""

import functools
import itertools
import math
import re
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from cmr_jax.config import MeshConfig
from cmr_jax.errors import InputError

# (regex on the path, tactic), first match wins. "fsdp" splits the largest dimension that the axis divides, never the
# layer axis of a scanned stack (dimension 0 of anything below `blocks`), which the scan walks. "column" and "row" split
# the last dimension or the last but one over `model` (Megatron, arXiv 1909.08053, section 3: one all-reduce a pair),
# and are "fsdp" on the others.
RULES: tuple[tuple[str, str], ...] = (
    (r"(^|/)(step|count|usual_loss)$", "replicate"),
    (r"/up/kernel$", "column"),
    (r"/down/kernel$", "row"),
    (r"/(scale|bias|log_scale|logit_bias)$", "replicate"),
    (r"/(query|cls|position|time_position|phase_position|view|slice)(/embedding)?$", "replicate"),
    (r"/(kernel|embedding)$", "fsdp"),
)


def make_mesh(config: MeshConfig, devices: list[Any] | None = None) -> Mesh:
    """A `data` x `fsdp` (x `model`, if that is more than 1) mesh over `devices` (default: all of all processes).

    Slice after slice, and process after process within one: `model` and `fsdp`, which exchange in every layer, stay
    among neighbours, and only `data`, which sums gradients once a step, reaches across the network between slices.

    Raises:
      InputError: when the axes do not multiply to the number of devices, several slices would share parameters, or
        processes that simulate several devices each would use two axes.
    """
    devices = sorted(jax.devices() if devices is None else devices, key=_place)
    sizes = {"data": config.data, "fsdp": config.fsdp, "model": config.model}
    if config.model == 1:
        del sizes["model"]
    if config.data == -1:
        sizes["data"] = len(devices) // (config.fsdp * config.model)
    if math.prod(sizes.values()) != len(devices):
        axes = " x ".join(f"{name} {size}" for name, size in sizes.items())
        raise InputError(f"config.mesh: {axes} does not make the {len(devices)} devices here")
    _refuse_what_gloo_confuses(sizes, devices)
    slices = len({_place(device)[0] for device in devices})
    if sizes["data"] % slices:
        raise InputError(
            f"config.mesh: data {sizes['data']} is not a multiple of the {slices} slices: parameters would be split"
            " across the network between them"
        )
    # Auto axes: we state shardings where they matter and let the compiler carry them through.
    shape = tuple(sizes.values())
    return Mesh(np.array(devices).reshape(shape), tuple(sizes), axis_types=(AxisType.Auto,) * len(shape))


def _place(device: Any) -> tuple[int, int, int]:
    # Only devices of a TPU have slices.
    return getattr(device, "slice_index", None) or 0, device.process_index, device.id


def _refuse_what_gloo_confuses(sizes: dict[str, int], devices: list[Any]) -> None:
    """jaxlib 0.12 starts exchanges of several CPU devices that do not depend on one another in another order in each
    process, and gloo ends the job at its first step ("op.preamble.length <= op.nbytes"): 5 starts of 5."""
    processes = {device.process_index for device in devices}
    used = [name for name, size in sizes.items() if size > 1]
    if devices[0].platform == "cpu" and 1 < len(processes) < len(devices) and len(used) > 1:
        raise InputError(
            f"config.mesh: {' and '.join(used)} are both above 1, which processes that simulate several CPU devices"
            f" each cannot do: give every process one (python -m launch.local --processes {len(devices)} --devices 1)"
        )


def connect(mesh: Mesh) -> None:
    """Lets the devices of every set of axes meet once, which sets their links up; returns when all have met.

    Else a group's links are set up in the middle of the first step, whose processes may have compiled it at times far
    apart, and gloo waits no more than 30 s for a late one.
    """
    used = [name for name, size in mesh.shape.items() if size > 1]
    for axes in itertools.chain.from_iterable(itertools.combinations(used, n) for n in range(1, len(used) + 1)):
        # Bound here: the loop's variable changes. The place is not a constant that the compiler could do without.
        meet = functools.partial(lambda axes: jax.lax.psum(jax.lax.axis_index(axes), axes), axes)
        jax.jit(jax.shard_map(meet, mesh=mesh, in_specs=(), out_specs=PartitionSpec()))().block_until_ready()


def batch_axes(mesh: Mesh) -> tuple[str, ...]:
    """The mesh axes that the batch is split over: all but `model`."""
    return tuple(name for name in mesh.axis_names if name != "model")


def batch_sharding(mesh: Mesh) -> NamedSharding:
    """Dimension 0 split over the batch axes."""
    return NamedSharding(mesh, PartitionSpec(batch_axes(mesh)))


def replicated(mesh: Mesh) -> NamedSharding:
    return NamedSharding(mesh, PartitionSpec())


def batch_constraint(mesh: Mesh | None) -> Callable[[jax.Array], jax.Array]:
    """What every block does to its activations so that the compiler never gathers them: dimension 0 stays split."""
    if mesh is None:
        return lambda x: x
    sharding = batch_sharding(mesh)
    return lambda x: jax.lax.with_sharding_constraint(x, sharding)


def path_name(path: tuple[Any, ...]) -> str:
    """`opt_state/1/mu/video/blocks/mlp/up/kernel` of a key path of jax.tree_util."""
    return "/".join(str(getattr(k, "key", getattr(k, "name", getattr(k, "idx", k)))) for k in path)


def tactic(name: str, rules: tuple[tuple[str, str], ...] = RULES) -> str:
    """The tactic of the first rule whose regex is found in `name`.

    Raises:
      ValueError: where no rule matches: a new parameter needs a decision, not a default.
    """
    for pattern, what in rules:
        if re.search(pattern, name):
            return what
    raise ValueError(f"no sharding rule for {name!r}: add it to cmr_jax.sharding.RULES")


def _spec(name: str, shape: tuple[int, ...], mesh: Mesh) -> PartitionSpec:
    what = tactic(name)
    axes: list[str | None] = [None] * len(shape)
    if what in ("column", "row"):
        dim = len(shape) - (1 if what == "column" else 2)
        if shape[dim] % mesh.shape.get("model", 1) == 0 and "model" in mesh.shape:
            axes[dim] = "model"
    size = mesh.shape.get("fsdp", 1)
    first = 1 if "/blocks/" in f"/{name}/" else 0
    able = [(shape[d], d) for d in range(first, len(shape)) if axes[d] is None and shape[d] % size == 0]
    if able and what != "replicate" and size > 1:
        axes[max(able)[1]] = "fsdp"
    return PartitionSpec(*axes) if any(axes) else PartitionSpec()


def tree_shardings(abstract: Any, mesh: Mesh) -> Any:
    """The sharding of every leaf of a tree of shapes (parameters, or a whole TrainState), by RULES."""
    return jax.tree_util.tree_map_with_path(
        lambda path, leaf: NamedSharding(mesh, _spec(path_name(path), leaf.shape, mesh)), abstract
    )


def put_batch(host: Any, mesh: Mesh) -> Any:
    """Host arrays (this process's rows of the global batch, in process order) to global arrays split over `mesh`."""
    sharding = batch_sharding(mesh)
    return jax.tree.map(lambda x: jax.make_array_from_process_local_data(sharding, np.asarray(x)), host)
