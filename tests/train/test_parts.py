"""A sampled part of the text is an extra positive of its study."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cmr_jax import losses, optim, sharding
from cmr_jax.config import MeshConfig
from cmr_jax.train.state import abstract_state, init_state
from cmr_jax.train.step import jit_step, make_step
from tests import tiny


@pytest.fixture(scope="module")
def mesh():
    return sharding.make_mesh(MeshConfig())


def _batch():
    batch = tiny.batch(16)
    ids = jnp.asarray(np.arange(16) % 5, jnp.int32)
    return dataclasses.replace(
        batch,
        part_tokens_BL=jnp.roll(batch.tokens_BL, 3, axis=1),
        part_token_mask_BL=batch.token_mask_BL.at[:, 8:].set(False),
        part_id_B=ids,
    )


def _first_step(mesh, batch, **loss: Any):
    config = tiny.config(mesh=MeshConfig())
    config = dataclasses.replace(config, loss=dataclasses.replace(config.loss, **loss))
    model = tiny.model()
    optimizer = optim.make_optimizer(config.optim, config.train.steps)
    state = init_state(model, optimizer, mesh, 0)
    out = jax.jit(model.apply)(state.params, batch)
    step = jit_step(make_step(config, model, optimizer, mesh), abstract_state(model, optimizer, mesh), mesh)
    _, metrics = step(state, sharding.put_batch(batch, mesh))
    return out, float(metrics["loss"])


def test_the_loss_is_the_weighted_mean_of_that_of_the_whole_text_and_that_of_the_part(mesh):
    batch = _batch()
    out, loss = _first_step(mesh, batch, part_weight=0.5)

    def dense(text_BE, ids_B):
        same_BB = (ids_B[:, None] == ids_B[None, :]).astype(jnp.float32)
        return losses.dense("softmax", out["image_embedding"], text_BE, scale=out["scale"], targets_BB=same_BB)

    whole = dense(out["text_embedding"], batch.text_id_B)
    part = dense(out["part_embedding"], batch.part_id_B)
    assert abs(float(whole) - float(part)) > 1e-3
    np.testing.assert_allclose(loss, (whole + 0.5 * part) / 1.5, rtol=1e-5)


def test_without_a_part_the_loss_is_that_of_the_whole_text(mesh):
    batch = tiny.batch(16)
    out, loss = _first_step(mesh, batch)
    assert "part_embedding" not in out
    want = losses.dense("softmax", out["image_embedding"], out["text_embedding"], scale=out["scale"])
    np.testing.assert_allclose(loss, want, rtol=1e-5)
