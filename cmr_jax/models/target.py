"""Which devices a model is traced for: some ways to write an operation cost much on one kind and nothing on another."""

import contextlib
import contextvars
import dataclasses
from collections.abc import Iterator

from jax.sharding import Mesh

# The memory beside their cores, 16 MiB, does not hold what a long group needs on the way back.
_SMALL_TPUS = ("TPU v2", "TPU v3", "TPU v4")


@dataclasses.dataclass(frozen=True)
class Target:
    """The mesh a program is made for and the axes that its batch is split over; without one, any device."""

    mesh: Mesh | None = None
    batch_axes: tuple[str, ...] = ()

    @property
    def tokens_as_rows(self) -> bool:
        """Whether linear layers take all tokens as the rows of one matrix.

        With more axes than two the compiler for CPUs copies both factors of a weight's gradient, transposed, before it
        multiplies them. For TPUs it is the reshape that costs copies, wherever a study's tokens are no multiple of a
        tile's eight rows (docs/performance.md).
        """
        return self.mesh is not None and self.mesh.devices.flat[0].platform == "cpu"

    @property
    def fused_attention(self) -> bool:
        """Whether attention is one kernel that leaves no scores in main memory."""
        if self.mesh is None:
            return False
        device = self.mesh.devices.flat[0]
        return device.platform == "tpu" and not device.device_kind.startswith(_SMALL_TPUS)


# What is traced cannot be told by an argument without one in every layer's call.
_TARGET: contextvars.ContextVar[Target] = contextvars.ContextVar("target")


@contextlib.contextmanager
def compiled_for(mesh: Mesh, batch_axes: tuple[str, ...]) -> Iterator[None]:
    """What is traced within is made for the devices of `mesh`."""
    before = _TARGET.set(Target(mesh, batch_axes))
    try:
        yield
    finally:
        _TARGET.reset(before)


def target() -> Target:
    return _TARGET.get(Target())
