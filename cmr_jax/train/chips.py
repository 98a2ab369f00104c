"""What the chips we plan for can do, from their makers' pages.

Cloud TPU documentation, "System architecture" of v4, v5e, v5p and v6e; NVIDIA H100 SXM data sheet. Peak is dense
bfloat16; the interconnect is what one chip can send at a time (half of the bidirectional figure).
"""

import dataclasses

from cmr_jax.errors import InputError, nearest


@dataclasses.dataclass(frozen=True)
class Chip:
    memory_bytes: float
    flops_per_second: float
    memory_bytes_per_second: float
    wire_bytes_per_second: float


CHIPS = {
    "v4": Chip(32e9, 275e12, 1228e9, 150e9),
    "v5e": Chip(16e9, 197e12, 819e9, 200e9),
    "v5p": Chip(95e9, 459e12, 2765e9, 300e9),
    "v6e": Chip(32e9, 918e12, 1638e9, 400e9),
    "h100": Chip(80e9, 989e12, 3350e9, 450e9),
}
# As jax names the devices that it finds.
_KINDS = {
    "TPU v4": "v4",
    "TPU v5 lite": "v5e",
    "TPU v5e": "v5e",
    "TPU v5": "v5p",
    "TPU v5p": "v5p",
    "TPU v6 lite": "v6e",
    "TPU v6e": "v6e",
}


def chip(name: str) -> Chip:
    """Raises InputError for a name that is not in the table."""
    if name not in CHIPS:
        raise InputError(f"no chip {name!r} in the table{nearest(name, CHIPS)}; there are {', '.join(CHIPS)}")
    return CHIPS[name]


def of_device_kind(kind: str) -> Chip | None:
    """The chip of a `jax.Device.device_kind`; None for one that we do not know (a CPU has no honest peak)."""
    return CHIPS["h100"] if "H100" in kind else CHIPS.get(_KINDS.get(kind, ""))
