import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from cmr_jax import optim, sharding
from cmr_jax.config import MeshConfig, OptimConfig
from cmr_jax.errors import InputError
from cmr_jax.train.state import abstract_state, init_state
from tests import tiny


@pytest.fixture(scope="module")
def optimizer() -> optax.GradientTransformation:
    return optim.make_optimizer(OptimConfig(), 10)


def test_every_leaf_of_the_state_has_a_rule(optimizer):
    abstract = abstract_state(tiny.model(logit_bias=-10.0), optimizer, sharding.make_mesh(MeshConfig(fsdp=4)))
    names = [sharding.path_name(path) for path, _ in jax.tree_util.tree_leaves_with_path(abstract)]
    assert len(names) > 50
    assert {sharding.tactic(name) for name in names} == {"replicate", "fsdp", "column", "row"}


def test_a_parameter_without_a_rule_is_an_error():
    with pytest.raises(ValueError, match="no sharding rule for 'params/image/novel'"):
        sharding.tactic("params/image/novel")
    with pytest.raises(ValueError, match="no weight-decay rule"):
        optim.decay_mask({"image": {"novel": jnp.zeros(3)}})


def test_fsdp_splits_large_leaves_but_never_the_layer_axis(optimizer):
    mesh = sharding.make_mesh(MeshConfig(fsdp=2))
    state = init_state(tiny.model(), optimizer, mesh, seed=0)
    kernel = state.params["image"]["tower"]["stack"]["blocks"]["mlp"]["up"]["kernel"]
    assert kernel.shape[0] == 2, "two layers, which the axis of size two would divide"
    assert kernel.sharding.spec == jax.sharding.PartitionSpec(None, None, "fsdp")
    moment = state.opt_state[1][0].mu["image"]["tower"]["stack"]["blocks"]["mlp"]["up"]["kernel"]
    assert moment.sharding == kernel.sharding
    whole = sum(leaf.nbytes for leaf in jax.tree.leaves(state.params))
    on_one = sum(leaf.addressable_shards[0].data.nbytes for leaf in jax.tree.leaves(state.params))
    assert on_one < 0.6 * whole


def test_the_state_does_not_depend_on_the_mesh(optimizer):
    states = [
        init_state(tiny.model(), optimizer, sharding.make_mesh(mesh, devices), seed=5).params
        for mesh, devices in ((MeshConfig(), jax.devices()[:1]), (MeshConfig(fsdp=4), None))
    ]
    for one, many in zip(*map(jax.tree.leaves, states), strict=True):
        np.testing.assert_array_equal(np.asarray(one), np.asarray(many))


def test_decay_pulls_on_matrices_alone():
    mask = optim.decay_mask(tiny.model(logit_bias=-10.0).abstract_params())
    decayed = {sharding.path_name(p) for p, yes in jax.tree_util.tree_leaves_with_path(mask) if yes}
    assert decayed and all(name.endswith("kernel") for name in decayed)
    assert not mask["log_scale"] and not mask["logit_bias"] and not mask["text"]["token"]["embedding"]


def test_a_mesh_that_does_not_fit_the_devices_is_refused():
    with pytest.raises(InputError, match="data 3 x fsdp 2 does not make the 8 devices"):
        sharding.make_mesh(MeshConfig(data=3, fsdp=2))


def test_the_model_axis_splits_the_hidden_units_of_the_mlps():
    mesh = sharding.make_mesh(MeshConfig(fsdp=2, model=2))
    assert dict(mesh.shape) == {"data": 2, "fsdp": 2, "model": 2}
    where = sharding.tree_shardings({"params": tiny.model().abstract_params()}, mesh)["params"]
    block = where["text"]["stack"]["blocks"]
    assert block["mlp"]["up"]["kernel"].spec == jax.sharding.PartitionSpec(None, "fsdp", "model")
    assert block["mlp"]["down"]["kernel"].spec == jax.sharding.PartitionSpec(None, "model", "fsdp")
    assert "model" not in str(block["attention"]["qkv"]["kernel"].spec)
    assert sharding.batch_axes(mesh) == ("data", "fsdp")


@dataclasses.dataclass(frozen=True)
class _Device:
    slice_index: int
    process_index: int
    id: int
    platform: str = "tpu"


def test_slices_share_no_parameters():
    # As they might be listed: the slices interleaved.
    devices = [_Device(slice_index=i % 2, process_index=i // 2, id=i) for i in range(8)]
    mesh = sharding.make_mesh(MeshConfig(fsdp=4), devices)
    assert [{d.slice_index for d in row} for row in mesh.devices] == [{0}, {1}]
    with pytest.raises(InputError, match="data 1 is not a multiple of the 2 slices"):
        sharding.make_mesh(MeshConfig(fsdp=8), devices)


def test_processes_of_several_cpus_share_no_two_axes():
    """Gloo would confuse them; with one device a process it does not, and one axis it does not."""
    devices = [_Device(slice_index=0, process_index=i // 4, id=i, platform="cpu") for i in range(8)]
    with pytest.raises(InputError, match=r"data and fsdp are both above 1, .* --processes 8 --devices 1"):
        sharding.make_mesh(MeshConfig(fsdp=2), devices)
    sharding.make_mesh(MeshConfig(), devices)
    sharding.make_mesh(MeshConfig(fsdp=8), devices)
    sharding.make_mesh(MeshConfig(fsdp=2), [dataclasses.replace(d, process_index=d.id) for d in devices])
    sharding.make_mesh(MeshConfig(fsdp=2), [dataclasses.replace(d, process_index=0) for d in devices])
