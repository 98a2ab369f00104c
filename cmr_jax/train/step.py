"""The one train step: the trainer runs it, the tests check it, the plan compiles it for hardware that is not here."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import optax
from jax.sharding import Mesh

from cmr_jax import losses, optim, rng, sharding
from cmr_jax.config import Config, LossConfig
from cmr_jax.models.build import Model
from cmr_jax.models.target import compiled_for
from cmr_jax.structs import Batch, TrainState
from cmr_jax.train import grad_cache, health

Step = Callable[[TrainState, Batch], tuple[TrainState, dict[str, jax.Array]]]


def make_step(config: Config, model: Model, optimizer: optax.GradientTransformation, mesh: Mesh) -> Step:
    """`(state, batch) -> (state, metrics)`, pure and not yet jitted.

    Metrics are float32 scalars: `loss`, `scale` (inverse temperature), `grad_norm` before clipping, `learning_rate`,
    `skipped`, `spikes`. An update whose loss or gradient is not finite, or whose loss leaps (a spike: `train.health`),
    is skipped (1): parameters and optimizer stay as they were, whatever happens afterwards. (optax.apply_if_finite
    gives up after a number of them, and applies NaN.)
    """
    constrain = sharding.batch_constraint(mesh)
    schedule = optim.schedule(config.optim, config.train.steps)

    def step(state: TrainState, batch: Batch):
        key = rng.stream(config.train.seed, "dropout", state.step)
        moving, fixed = optim.split(state.params, config.optim.freeze)

        def embed(moving, batch: Batch, key: jax.Array):
            with compiled_for(mesh, sharding.batch_axes(mesh)):
                return model.apply(optim.join(moving, fixed), batch, key=key, constrain=constrain)

        def loss_of(out):
            return batch_loss(config.loss, out, batch, mesh)

        (loss, scale), grads = _value_and_grad(embed, loss_of, config.train.micro_batches, mesh)(moving, batch, key)
        # optax raises a Python float to the power of its int32 counter, which strict promotion forbids.
        with jax.numpy_dtype_promotion("standard"):
            updates, opt_state = optimizer.update(grads, state.opt_state, moving)
            learning_rate = jnp.asarray(schedule(state.step), jnp.float32)
        grad_norm = optax.tree.norm(grads)
        finite = jnp.isfinite(loss) & jnp.isfinite(grad_norm)
        spike = finite & health.is_spike(loss, state.usual_loss, config.train.spike_factor)
        good = finite & ~spike
        usual_loss = jnp.where(good, health.with_loss(state.usual_loss, loss), state.usual_loss)
        new = (optax.apply_updates(moving, updates), opt_state)
        moved, opt_state = jax.tree.map(lambda a, b: jnp.where(good, a, b), new, (moving, state.opt_state))
        metrics = {
            "loss": loss,
            "scale": scale,
            "grad_norm": grad_norm,
            "learning_rate": learning_rate,
            "skipped": 1.0 - good.astype(jnp.float32),
            "spikes": spike.astype(jnp.float32),
        }
        return TrainState(state.step + 1, optim.join(moved, fixed), opt_state, usual_loss), metrics

    return step


def _value_and_grad(embed: grad_cache.Embed, loss_of: grad_cache.LossOf, parts: int, mesh: Mesh):
    """`(params, batch, key) -> ((loss, scale), grads)`, the batch in one piece or in parts."""
    if parts > 1:
        cached = grad_cache.value_and_grad(embed, loss_of, parts, mesh)

        def run(params, batch: Batch, key: jax.Array):
            (loss, out), grads = cached(params, batch, key)
            return (loss, out["scale"]), grads

        return run

    def direct(params, batch: Batch, key: jax.Array):
        out = embed(params, batch, key)
        return loss_of(out), out["scale"]

    return jax.value_and_grad(direct, has_aux=True)


def batch_loss(config: LossConfig, out: dict[str, jax.Array], batch: Batch, mesh: Mesh) -> jax.Array:
    """The loss of a batch's embeddings, as `Model.apply` gives them: study against whole text, and against the sampled
    part of the text where there is one; and of the numbers read off the study's embedding, where there are any."""

    def against(text_BE: jax.Array, ids_B: jax.Array, tokens_BL: jax.Array, mask_BL: jax.Array) -> jax.Array:
        similar = losses.text_features(tokens_BL, mask_BL) if config.similar_from else None
        return losses.sharded(
            config.kind,
            out["image_embedding"],
            text_BE,
            scale=out["scale"],
            bias=out["bias"],
            mesh=mesh,
            method=config.method,
            positive_ids_B=ids_B if config.same_text_positive else None,
            similar_BF=similar,
            similar_from=config.similar_from,
        )

    loss = against(out["text_embedding"], batch.text_id_B, batch.tokens_BL, batch.token_mask_BL)
    if batch.part_id_B is not None:
        part = against(out["part_embedding"], batch.part_id_B, batch.part_tokens_BL, batch.part_token_mask_BL)
        loss = (loss + config.part_weight * part) / (1.0 + config.part_weight)
    loss = config.weight * loss
    if batch.number_BQ is not None:
        loss += config.numbers_weight * losses.numbers(out["number"], batch.number_BQ)
    return loss


def jit_step(step: Step, abstract: TrainState, mesh: Mesh):
    """`step` jitted over `mesh`: the state's buffers are given away and come back where they were."""
    state_shardings = jax.tree.map(lambda leaf: leaf.sharding, abstract)
    return jax.jit(
        step,
        in_shardings=(state_shardings, sharding.batch_sharding(mesh)),
        out_shardings=(state_shardings, sharding.replicated(mesh)),
        donate_argnums=0,
    )
