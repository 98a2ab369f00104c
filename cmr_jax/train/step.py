"""The one train step: the trainer runs it, the tests check it, the plan compiles it for hardware that is not here."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import optax
from jax.sharding import Mesh

from cmr_jax import losses, optim, rng, sharding
from cmr_jax.config import Config
from cmr_jax.models.build import Model
from cmr_jax.structs import Batch, TrainState

Step = Callable[[TrainState, Batch], tuple[TrainState, dict[str, jax.Array]]]


def make_step(config: Config, model: Model, optimizer: optax.GradientTransformation, mesh: Mesh) -> Step:
    """`(state, batch) -> (state, metrics)`, pure and not yet jitted.

    Metrics are float32 scalars: `loss`, `scale` (inverse temperature), `grad_norm` before clipping, `learning_rate`,
    `skipped`. An update whose loss or gradient is not finite is skipped (1): parameters and optimizer stay as they
    were, whatever happens afterwards. (optax.apply_if_finite gives up after a number of them, and applies NaN.)
    """
    constrain = sharding.batch_constraint(mesh)
    schedule = optim.schedule(config.optim, config.train.steps)

    def loss_of(params, batch: Batch, key: jax.Array):
        out = model.apply(params, batch, key=key, constrain=constrain)

        def against(text_BE: jax.Array, ids_B: jax.Array) -> jax.Array:
            return losses.sharded(
                config.loss.kind,
                out["image_embedding"],
                text_BE,
                scale=out["scale"],
                bias=out["bias"],
                mesh=mesh,
                method=config.loss.method,
                positive_ids_B=ids_B if config.loss.same_text_positive else None,
            )

        loss = against(out["text_embedding"], batch.text_id_B)
        if batch.part_id_B is not None:
            part = against(out["part_embedding"], batch.part_id_B)
            loss = (loss + config.loss.part_weight * part) / (1.0 + config.loss.part_weight)
        return config.loss.weight * loss, out["scale"]

    def step(state: TrainState, batch: Batch):
        key = rng.stream(config.train.seed, "dropout", state.step)
        (loss, scale), grads = jax.value_and_grad(loss_of, has_aux=True)(state.params, batch, key)
        # optax raises a Python float to the power of its int32 counter, which strict promotion forbids.
        with jax.numpy_dtype_promotion("standard"):
            updates, opt_state = optimizer.update(grads, state.opt_state, state.params)
            learning_rate = jnp.asarray(schedule(state.step), jnp.float32)
        grad_norm = optax.tree.norm(grads)
        good = jnp.isfinite(loss) & jnp.isfinite(grad_norm)
        new = (optax.apply_updates(state.params, updates), opt_state)
        params, opt_state = jax.tree.map(lambda a, b: jnp.where(good, a, b), new, (state.params, state.opt_state))
        metrics = {
            "loss": loss,
            "scale": scale,
            "grad_norm": grad_norm,
            "learning_rate": learning_rate,
            "skipped": 1.0 - good.astype(jnp.float32),
        }
        return TrainState(state.step + 1, params, opt_state), metrics

    return step


def jit_step(step: Step, abstract: TrainState, mesh: Mesh):
    """`step` jitted over `mesh`: the state's buffers are given away and come back where they were."""
    state_shardings = jax.tree.map(lambda leaf: leaf.sharding, abstract)
    return jax.jit(
        step,
        in_shardings=(state_shardings, sharding.batch_sharding(mesh)),
        out_shardings=(state_shardings, sharding.replicated(mesh)),
        donate_argnums=0,
    )
