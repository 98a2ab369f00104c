"""The train state, sharded from birth: its shapes are known before any of it exists."""

import jax
import jax.numpy as jnp
import optax
from jax.sharding import Mesh

from cmr_jax import rng, sharding
from cmr_jax.models.build import Model
from cmr_jax.structs import Params, TrainState
from cmr_jax.train import health


def make_init(model: Model, optimizer: optax.GradientTransformation, seed: int):
    """`() -> TrainState` at step 0, a pure function of the seed."""

    def init() -> TrainState:
        params = model.init(rng.stream(seed, "init"))
        opt_state, usual_loss = optimizer.init(params), health.no_losses()
        return TrainState(jnp.zeros((), jnp.int32), params, opt_state, usual_loss)

    return init


def abstract_state(model: Model, optimizer: optax.GradientTransformation, mesh: Mesh) -> TrainState:
    """The state as ShapeDtypeStructs that carry their sharding over `mesh`."""
    shapes = jax.eval_shape(make_init(model, optimizer, 0))
    shardings = sharding.tree_shardings(shapes, mesh)
    return jax.tree.map(lambda s, where: jax.ShapeDtypeStruct(s.shape, s.dtype, sharding=where), shapes, shardings)


def abstract_params(model: Model, mesh: Mesh) -> Params:
    """The parameters alone, as `abstract_state` gives them."""
    shapes = jax.eval_shape(lambda: model.init(rng.stream(0, "init")))
    # Under the state's own name for them, since the rules are paths of the state.
    shardings = sharding.tree_shardings({"params": shapes}, mesh)["params"]
    return jax.tree.map(lambda s, where: jax.ShapeDtypeStruct(s.shape, s.dtype, sharding=where), shapes, shardings)


def init_state(model: Model, optimizer: optax.GradientTransformation, mesh: Mesh, seed: int) -> TrainState:
    """A fresh state; every leaf is born on its own devices, never whole on one."""
    out = jax.tree.map(lambda leaf: leaf.sharding, abstract_state(model, optimizer, mesh))
    return jax.jit(make_init(model, optimizer, seed), out_shardings=out)()
