"""What the constraint on every block's activations buys, read from the compiled train step."""

import dataclasses

import jax
import optax
import pytest

from cmr_jax import sharding
from cmr_jax.config import MeshConfig
from cmr_jax.train import hlo
from cmr_jax.train.state import abstract_state
from cmr_jax.train.step import jit_step, make_step
from tests import tiny


def _compiled(remat: str = "none"):
    """Temporary bytes a device and bytes sent a device, of the step over 8 devices that all split the parameters."""
    config = tiny.config("", mesh=MeshConfig(fsdp=8), batch_size=32)
    config = dataclasses.replace(config, model=dataclasses.replace(tiny.MODEL, remat=remat))
    mesh = sharding.make_mesh(config.mesh)
    model = tiny.model(remat=remat)
    optimizer = optax.adam(1e-3)
    abstract = abstract_state(model, optimizer, mesh)
    split = sharding.batch_sharding(mesh)
    batch = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=split), tiny.batch(32))
    program = jit_step(make_step(config, model, optimizer, mesh), abstract, mesh).lower(abstract, batch).compile()
    sent: dict[str, float] = {}
    for one in hlo.Program(program.as_text() or "").collectives(8):
        sent[one.kind] = sent.get(one.kind, 0) + one.wire_bytes
    memory = program.memory_analysis()
    assert memory is not None
    return memory.temp_size_in_bytes, sent


def _parameter_bytes() -> int:
    return sum(leaf.size * 4 for leaf in jax.tree.leaves(tiny.model().abstract_params()))


def test_what_is_sent_is_parameters_not_activations():
    """Each split parameter is gathered for the forward and for the backward pass, its gradient summed once."""
    _, sent = _compiled()
    whole = _parameter_bytes()
    assert 0 < sent["all-gather"] < 3 * whole, (sent, whole)
    assert sent["all-to-all"] < 0.1 * whole, (sent, whole)
    assert sum(sent.values()) < 6 * whole, (sent, whole)


@pytest.mark.slow
def test_without_the_constraint_activations_travel(monkeypatch: pytest.MonkeyPatch):
    held, sent = _compiled()
    monkeypatch.setattr(sharding, "batch_constraint", lambda mesh: lambda x: x)
    held_without, sent_without = _compiled()
    assert 4 * sum(sent.values()) < sum(sent_without.values()), (sent, sent_without)
    assert held < held_without
