"""Reads a compiled program as text: what crosses the devices, and what goes through memory, loops counted.

`cost_analysis()` counts the body of a loop once, and says nothing of collectives; a scanned stack of twelve layers
would look twelve times too cheap. Here every instruction counts as often as the loops around it run.
"""

import collections
import dataclasses
import functools
import math
import re

COLLECTIVES = ("all-gather", "all-reduce", "reduce-scatter", "all-to-all", "collective-permute")
# Names for what is there already, or control that is counted inside.
_FREE = frozenset(
    "parameter constant tuple get-tuple-element bitcast while conditional call after-all partition-id replica-id"
    " opt-barrier copy-start slice-start async-start async-update".split()
)
_BITS = {"pred": 8, "bf16": 16, "f16": 16, "f32": 32, "f64": 64, "c64": 64, "c128": 128}
_ARRAY = re.compile(r"([a-z]\w*)\[([\d,]*)\](?:\{([^}]*)\})?")


@dataclasses.dataclass(frozen=True)
class Instruction:
    name: str
    shape: str
    op: str
    operands: tuple[str, ...]
    inside: str  # of the brackets, as it stands: the value of a constant, the number of a parameter
    attributes: str


@dataclasses.dataclass(frozen=True)
class Collective:
    """One kind of exchange among groups of one size: how often a step does it, and what leaves each device for it."""

    kind: str
    group: int
    count: int
    wire_bytes: float


def _closing(text: str, start: int) -> int:
    """Index behind the bracket that closes the one at `start`."""
    depth = 0
    for i in range(start, len(text)):
        depth += (text[i] in "([{") - (text[i] in ")]}")
        if depth == 0:
            return i + 1
    raise ValueError("a bracket of the program does not close")


def _instruction(line: str) -> Instruction:
    left, right = line.split(" = ", 1)
    end = _closing(right, 0) if right[0] == "(" else right.index(" ")
    shape, rest = right[:end], right[end:].lstrip()
    opening = rest.index("(")
    closing = _closing(rest, opening)
    inside = rest[opening + 1 : closing - 1]
    operands = tuple(re.findall(r"%([\w.\-]+)", inside))
    return Instruction(left.split("%")[-1], shape, rest[:opening], operands, inside, rest[closing:])


def array_bytes(shape: str, *, main_memory_only: bool = False) -> list[int]:
    """Bytes of every array of an instruction's shape; main memory leaves out single numbers, and what `S(n)` in a
    layout marks as memory on the chip."""
    sizes = []
    for dtype, dims, layout in _ARRAY.findall(shape):
        if main_memory_only and ("S(" in layout or not dims):
            continue
        width = re.search(r"\d+", dtype)
        bits = _BITS.get(dtype) or (int(width[0]) if width else 0)
        sizes.append(math.prod(int(d) for d in dims.split(",") if d) * bits // 8)
    return sizes


class Program:
    """A compiled module: its computations, and how often each runs in one call."""

    def __init__(self, text: str):
        self._computations: dict[str, list[Instruction]] = {}
        entry, current = "", []
        for line in text.splitlines():
            if line.endswith("{") and (head := re.match(r"(ENTRY )?%?([\w.\-]+) \(", line)):
                current = self._computations.setdefault(head[2], [])
                entry = head[2] if head[1] else entry
            elif line.startswith("  ") and " = " in line:
                current.append(_instruction(line.strip()))
        if not entry:
            raise ValueError("no program: it has no entry computation")
        self._runs: collections.Counter[str] = collections.Counter()
        self._inlined: set[str] = set()  # bodies of fusions: they pass values on without going through memory
        self._visit(entry, 1)

    def _visit(self, name: str, times: int) -> None:
        self._runs[name] += times
        for one in self._computations[name]:
            called = re.findall(r"(condition|body|calls|to_apply)=%?([\w.\-]+)", one.attributes)
            branches = re.search(r"branch_computations=\{([^}]*)\}", one.attributes)
            called += [("branch", b.strip(" %")) for b in branches[1].split(",")] if branches else []
            trips = self._trips(one, dict(called)["condition"]) if one.op == "while" else 1
            for how, callee in called:
                if one.op == "fusion" or how == "to_apply":
                    self._inlined.add(callee)
                self._visit(callee, times * trips)

    def _trips(self, loop: Instruction, condition: str) -> int:
        """Of a counted loop: what the compiler says, else the constant that its condition compares with."""
        if known := re.search(r'known_trip_count":\{"n":"(\d+)"', loop.attributes):
            return int(known[1])
        counts = [int(i.inside) for i in self._computations[condition] if i.op == "constant" and i.inside.isdigit()]
        return max(counts, default=1)

    def collectives(self, devices: int) -> list[Collective]:
        """What a step exchanges, by kind and group size. An exchange that was split into a start and a body that
        repeats it (asynchronous fusions) carries one channel number and counts once."""
        by_channel: dict[str, tuple[str, int, int, float]] = {}
        for name, times in self._runs.items():
            for one in self._computations[name]:
                kind = one.op.removesuffix("-start")
                if kind not in COLLECTIVES:
                    continue
                group = _group(one.attributes, devices)
                found = re.search(r"channel_id=(\d+)", one.attributes)
                channel = found[1] if found else f"{name}/{one.name}"
                previous = by_channel.get(channel, (kind, group, 0, 0.0))
                wire = _wire_bytes(kind, one.shape, group)
                by_channel[channel] = (kind, group, max(times, previous[2]), max(wire, previous[3]))
        total: dict[tuple[str, int], tuple[int, float]] = {}
        for kind, group, times, wire in by_channel.values():
            count, sent = total.get((kind, group), (0, 0.0))
            total[kind, group] = (count + times, sent + times * wire)
        return [Collective(kind, group, *total[kind, group]) for kind, group in sorted(total)]

    def memory_bytes(self) -> int:
        """Bytes that instructions read from and write to main memory, fusions as one: an estimate from below the
        compiler's own cache, and above it where an operand is read in part by an instruction we do not know."""
        total = 0
        for name, times in self._runs.items():
            if name in self._inlined:
                continue
            shapes = {one.name: one.shape for one in self._computations[name]}
            total += times * sum(self._traffic(one, shapes) for one in self._computations[name])
        return total

    def _traffic(self, one: Instruction, shapes: dict[str, str]) -> int:
        if one.op in _FREE or one.op.removesuffix("-start").removesuffix("-done") in COLLECTIVES:
            return 0

        def size(shape: str) -> int:
            return sum(array_bytes(shape, main_memory_only=True))

        # A kernel that is given one array several times reads another part of it each time.
        operands = dict.fromkeys(one.operands) if one.op == "custom-call" else one.operands
        read = [size(shapes[name]) if name in shapes else 0 for name in operands]
        wrote = size(one.shape)
        if one.op == "copy-done":  # of a start whose shape holds both ends
            return sum(read)
        if one.op == "slice-done":  # of a start whose shape holds all that a piece is cut from
            return wrote + sum(array_bytes(one.shape))
        if one.op == "dynamic-slice":
            return 2 * wrote
        if one.op == "dynamic-update-slice":
            return 2 * sum(read[1:])
        if one.op == "fusion":
            parts = self._parts(re.findall(r"calls=%?([\w.\-]+)", one.attributes)[0])
            read = [min(size_, parts.get(i, size_)) for i, size_ in enumerate(read)]
            wrote = min(wrote, parts.get(-1, wrote))
        return wrote + sum(read)

    @functools.cache  # noqa: B019 - lives as long as the program
    def _parts(self, name: str) -> dict[int, int]:
        """Of a fusion: bytes of each operand that it touches, where it cuts a piece out of it or updates one in place;
        -1 stands for its result."""
        body = self._computations[name]
        numbers = {one.name: int(one.inside) for one in body if one.op == "parameter"}
        users: dict[str, list[Instruction]] = collections.defaultdict(list)
        shapes = {one.name: one.shape for one in body}
        for one in body:
            for operand in one.operands:
                users[operand].append(one)
        touched: dict[int, int] = {}
        for parameter, number in numbers.items():
            pieces = [_piece(user, parameter, shapes) for user in users[parameter]]
            if pieces and all(piece is not None for piece in pieces):
                touched[number] = sum(piece or 0 for piece in pieces)
        if body and body[-1].op == "dynamic-update-slice":
            touched[-1] = sum(array_bytes(shapes[body[-1].operands[1]]))
        return touched


def _piece(user: Instruction, parameter: str, shapes: dict[str, str]) -> int | None:
    if user.op == "dynamic-slice" and user.operands[0] == parameter:
        return sum(array_bytes(user.shape))
    if user.op == "dynamic-update-slice" and user.operands[0] == parameter:
        return sum(array_bytes(shapes[user.operands[1]]))
    return None


def _group(attributes: str, devices: int) -> int:
    """Devices that take part in one exchange."""
    if iota := re.search(r"replica_groups=\[\d+,(\d+)\]", attributes):
        return int(iota[1])
    if listed := re.search(r"replica_groups=\{\{([\d,]+)\}", attributes):
        return len(listed[1].split(","))
    if mesh := re.search(r"replica_groups=mesh\[([^\]]*)\] \{([^}]*)\}", attributes):
        sizes = dict(re.findall(r"'([^']+)'=(\d+)", mesh[1]))
        return math.prod(int(sizes[name]) for name in re.findall(r"'([^']+)'", mesh[2]))
    return devices


def _wire_bytes(kind: str, shape: str, group: int) -> float:
    """What one device sends for one exchange, by the usual ring algorithms."""
    sizes = array_bytes(shape)
    share = (group - 1) / group
    if kind == "all-gather":
        return max(sizes) * share
    if kind == "all-reduce":
        return 2 * sum(sizes) * share
    if kind == "reduce-scatter":
        return min(sizes) * (group - 1)
    return sum(sizes) * share if kind == "all-to-all" else max(sizes)
