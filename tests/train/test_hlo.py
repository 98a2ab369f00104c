"""Reading compiled programs: loops counted, memory on the chip left out, exchanges counted once."""

import jax
import jax.numpy as jnp
import pytest
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from cmr_jax.train import hlo

# As XLA prints for a TPU, shortened: a loop of six turns, an exchange that is split in two, memory S(1) on the chip.
PROGRAM = """HloModule jit_step, is_scheduled=true

%fused (param_0.1: f32[6,8,16], param_1.1: s32[]) -> f32[8,16] {
  %param_0.1 = f32[6,8,16]{2,1,0:T(8,128)} parameter(0)
  %param_1.1 = s32[]{:T(128)} parameter(1)
  %zero = s32[]{:T(128)} constant(0)
  ROOT %slice.1 = f32[8,16]{1,0:T(8,128)} dynamic-slice(%param_0.1, %param_1.1, %zero, %zero)
}

%body (p.1: (s32[], f32[6,8,16], f32[8,16])) -> (s32[], f32[6,8,16], f32[8,16]) {
  %p.1 = (s32[]{:T(128)}, f32[6,8,16]{2,1,0:T(8,128)}, f32[8,16]{1,0:T(8,128)S(1)}) parameter(0)
  %i = s32[]{:T(128)S(2)} get-tuple-element(%p.1), index=0
  %stack = f32[6,8,16]{2,1,0:T(8,128)} get-tuple-element(%p.1), index=1
  %one = f32[8,16]{1,0:T(8,128)} fusion(%stack, %i), kind=kLoop, calls=%fused
  %all-gather.1 = f32[16,16]{1,0:T(8,128)} all-gather(%one), channel_id=7, replica_groups=[4,2]<=[8], dimensions={0}
  %all-gather.2 = f32[16,16]{1,0:T(8,128)S(1)} all-gather(%one), channel_id=7, replica_groups=[4,2]<=[8], dimensions={0}
  ROOT %t = (s32[]{:T(128)}, f32[6,8,16]{2,1,0:T(8,128)}, f32[8,16]{1,0:T(8,128)S(1)}) tuple(%i, %stack, %one)
}

%condition (p.2: (s32[], f32[6,8,16], f32[8,16])) -> pred[] {
  %six = s32[]{:T(128)} constant(6)
  %p.2 = (s32[]{:T(128)}, f32[6,8,16]{2,1,0:T(8,128)}, f32[8,16]{1,0:T(8,128)S(1)}) parameter(0)
  %j = s32[]{:T(128)} get-tuple-element(%p.2), index=0
  ROOT %lt = pred[]{:T(512)} compare(%j, %six), direction=LT
}

ENTRY %main (a: f32[6,8,16]) -> f32[8,16] {
  %a = f32[6,8,16]{2,1,0:T(8,128)} parameter(0)
  %start = (s32[]{:T(128)}, f32[6,8,16]{2,1,0:T(8,128)}, f32[8,16]{1,0:T(8,128)S(1)}) tuple(%a, %a, %a)
  %loop = (s32[], f32[6,8,16]{2,1,0}, f32[8,16]{1,0:S(1)}) while(%start), condition=%condition, body=%body
  %near = f32[8,16]{1,0:T(8,128)S(1)} get-tuple-element(%loop), index=2
  %far = f32[8,16]{1,0:T(8,128)} negate(%near)
  ROOT %all-reduce.1 = f32[8,16]{1,0:T(8,128)} all-reduce(%far), channel_id=9, replica_groups=mesh['x'=4,'y'=2] {'x'}
}
"""


def test_exchanges_count_as_often_as_their_loop_runs_and_once_a_channel():
    found = hlo.Program(PROGRAM).collectives(8)
    gathered, reduced = 16 * 16 * 4, 8 * 16 * 4
    assert found == [
        hlo.Collective("all-gather", 2, 6, 6 * gathered / 2),
        hlo.Collective("all-reduce", 4, 1, 2 * reduced * 3 / 4),
    ]


def test_memory_counts_the_slice_that_a_turn_reads_and_nothing_on_the_chip():
    slice_bytes = 8 * 16 * 4
    turn = 2 * slice_bytes  # the fusion reads one slice of the stack and writes it
    negate = slice_bytes  # reads from the chip, writes to memory
    assert hlo.Program(PROGRAM).memory_bytes() == 6 * turn + negate


# What a TPU's compiler fetches ahead: a piece of an array, and a whole one, onto the chip S(1) and within main memory;
# and a kernel that reads three parts of one array.
AHEAD = """HloModule jit_step, is_scheduled=true

ENTRY %main (a: f32[6,8,16]) -> f32[6,8,16] {
  %a = f32[6,8,16]{2,1,0:T(8,128)} parameter(0)
  %slice-start.1 = ((f32[6,8,16]{2,1,0}), f32[1,8,16]{2,1,0:S(1)}, s32[]{:S(2)}) slice-start(%a), slice={[0:1]}
  %slice-done.1 = f32[1,8,16]{2,1,0:T(8,128)S(1)} slice-done(%slice-start.1)
  %copy-start.1 = (f32[6,8,16]{2,1,0:S(1)}, f32[6,8,16]{2,1,0}, u32[]{:S(2)}) copy-start(%a)
  %copy-done.1 = f32[6,8,16]{2,1,0:T(8,128)S(1)} copy-done(%copy-start.1)
  %copy-start.2 = (f32[6,8,16]{2,1,0}, f32[6,8,16]{2,1,0}, u32[]{:S(2)}) copy-start(%a)
  %copy-done.2 = f32[6,8,16]{2,1,0:T(8,128)} copy-done(%copy-start.2)
  ROOT %kernel = f32[6,8,16]{2,1,0:T(8,128)} custom-call(%a, %a, %a), custom_call_target="tpu_custom_call"
}
"""


def test_memory_counts_a_fetch_by_what_it_moves_and_a_kernels_array_once():
    piece, whole = 8 * 16 * 4, 6 * 8 * 16 * 4
    fetched = piece + whole  # each read once; on the chip nothing is written to memory
    assert hlo.Program(AHEAD).memory_bytes() == fetched + 2 * whole + 2 * whole


@pytest.mark.parametrize(
    ("attributes", "group"),
    [
        ("replica_groups=[4,2]<=[8]", 2),
        ("replica_groups={{0,1,2,3},{4,5,6,7}}, x", 4),
        ("replica_groups=mesh['a'=4,'b'=2] {'a','b'}", 8),
        ("replica_groups={}", 8),
    ],
)
def test_groups_in_every_notation(attributes: str, group: int):
    assert hlo._group(attributes, 8) == group


def test_a_real_program_of_this_machine():
    """A scan of five turns with one sum over eight devices in each."""
    mesh = jax.make_mesh((8,), ("data",), axis_types=(AxisType.Auto,))
    rows, whole = NamedSharding(mesh, PartitionSpec("data")), NamedSharding(mesh, PartitionSpec())

    def step(x):
        def turn(carry, _):
            total = jax.lax.with_sharding_constraint(carry.sum(axis=0), whole)
            return carry * 0.5 + total, None

        return jax.lax.scan(turn, x, length=5)[0]

    x = jax.ShapeDtypeStruct((64, 32), jnp.float32, sharding=rows)
    with jax.numpy_rank_promotion("allow"):
        program = hlo.Program(jax.jit(step).lower(x).compile().as_text() or "")
    assert program.collectives(8) == [hlo.Collective("all-reduce", 8, 5, 5 * 2 * 32 * 4 * 7 / 8)]
    once = 8 * 32 * 4  # one device's rows
    assert 5 * 2 * once <= program.memory_bytes() <= 5 * 8 * once


def test_text_that_is_no_program():
    with pytest.raises(ValueError, match="no entry"):
        hlo.Program("HloModule nothing")
