"""Exact gradients of batches whose activations do not fit (GradCache, arXiv 2101.06983).

A contrastive loss couples all studies of a batch, so its gradient is not a sum over parts. But it is one through the
embeddings: embed the parts one after the other and keep nothing else, take the loss's gradient by the embeddings, then
embed each part again and pull its share of that gradient back. Activations of one part are alive at a time; the price
is a second forward pass.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from cmr_jax import sharding
from cmr_jax.errors import InputError
from cmr_jax.structs import Batch

Embed = Callable[[Any, Batch, jax.Array], Any]  # (params, part of the batch, key) -> tree of rows and scalars
LossOf = Callable[[Any], jax.Array]  # the same of the whole batch -> scalar


def value_and_grad(embed: Embed, loss_of: LossOf, parts: int, mesh: Mesh):
    """`(params, batch, key) -> ((loss, out), grads)`: as jax.value_and_grad of `loss_of(embed(...))` with aux.

    Both passes over a part see the same key, which is its own. `out` is the whole batch's, with rows in the batch's
    order. Leaves of `out` without rows (the temperature) must not depend on the part.

    Raises:
      InputError: at trace time, where the batch cannot be cut into `parts` parts that the devices share evenly.
    """

    def run(params: Any, batch: Batch, key: jax.Array):
        cut = _cut(batch, parts, mesh)
        keys = jax.random.split(key, parts)
        _, stacked = jax.lax.scan(lambda _, part: (None, embed(params, *part)), None, (cut, keys))

        def loss_and_out(stacked: Any):
            out = jax.tree.map(lambda x: x[0] if x.ndim == 1 else _join(x, mesh), stacked)
            return loss_of(out), out

        (loss, out), d_stacked = jax.value_and_grad(loss_and_out, has_aux=True)(stacked)

        def add(grads: Any, part: Any):
            rows, part_key, d_out = part
            _, pull = jax.vjp(lambda p: embed(p, rows, part_key), params)
            return jax.tree.map(jnp.add, grads, pull(d_out)[0]), None

        grads, _ = jax.lax.scan(add, jax.tree.map(jnp.zeros_like, params), (cut, keys, d_stacked))
        return (loss, out), grads

    return run


def _shards(mesh: Mesh) -> int:
    return mesh.size // mesh.shape.get("model", 1)


def _cut(batch: Batch, parts: int, mesh: Mesh) -> Batch:
    """Leaves `B ...` as `parts B/parts ...`. Every device cuts its own rows, so that no study moves."""
    shards = _shards(mesh)

    def cut(x: jax.Array) -> jax.Array:
        if x.shape[0] % (shards * parts):
            raise InputError(
                f"config.train.batch_size {x.shape[0]} is not a multiple of {shards} devices x {parts} parts"
                " (train.micro_batches)"
            )
        x = x.reshape(shards, parts, -1, *x.shape[1:]).swapaxes(0, 1)
        return _second_split(x.reshape(parts, -1, *x.shape[3:]), mesh)

    return jax.tree.map(cut, batch)


def _join(x: jax.Array, mesh: Mesh) -> jax.Array:
    """The inverse of `_cut`."""
    x = _second_split(x, mesh).reshape(x.shape[0], _shards(mesh), -1, *x.shape[2:]).swapaxes(0, 1)
    return sharding.batch_constraint(mesh)(x.reshape(-1, *x.shape[3:]))


def _second_split(x: jax.Array, mesh: Mesh) -> jax.Array:
    spec = PartitionSpec(None, sharding.batch_axes(mesh))
    return jax.lax.with_sharding_constraint(x, NamedSharding(mesh, spec))
