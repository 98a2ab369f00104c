"""Numbers that reports state are read off the study's embedding, beside the contrastive loss."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cmr_jax import losses, optim, sharding
from cmr_jax.config import LossConfig, MeshConfig
from cmr_jax.data import schema
from cmr_jax.errors import InputError
from cmr_jax.train import grad_cache
from cmr_jax.train import workdir as workdir_lib
from cmr_jax.train.state import abstract_state, init_state
from cmr_jax.train.step import batch_loss, jit_step, make_step
from preprocessing import numbers as read
from tests import datasets, tiny

NAMES = ("lvef_percent", "lv_mass_g")


def _batch(size: int = 16):
    stated = np.random.default_rng(0).normal(0, 1.5, (size, len(NAMES))).astype(np.float32)
    stated[::3, 0] = np.nan
    return dataclasses.replace(tiny.batch(size), number_BQ=jnp.asarray(stated))


def test_the_loss_is_huber_s_mean_over_what_is_stated():
    said, stated = np.array([[0.5, 3.0], [9.0, -1.0]]), np.array([[0.0, 1.0], [np.nan, -1.5]])
    want = np.mean([0.5 * 0.5**2, 2.0 - 0.5, 0.5 * 0.5**2])
    np.testing.assert_allclose(losses.numbers(jnp.asarray(said), jnp.asarray(stated)), want, rtol=1e-6)


def test_what_no_report_states_has_no_loss_and_no_gradient():
    stated = jnp.asarray([[0.0, jnp.nan], [jnp.nan, jnp.nan]])
    value, slope = jax.value_and_grad(losses.numbers)(jnp.ones((2, 2)), stated)
    np.testing.assert_allclose(value, 0.5)
    np.testing.assert_array_equal(slope != 0, [[True, False], [False, False]])
    value, slope = jax.value_and_grad(losses.numbers)(jnp.ones((2, 2)), jnp.full((2, 2), jnp.nan))
    assert value == 0 and not slope.any()


def test_the_step_adds_them_with_their_weight():
    mesh, batch = sharding.make_mesh(MeshConfig()), _batch()
    model = tiny.model(numbers=NAMES)
    config = tiny.config(mesh=MeshConfig())
    config = dataclasses.replace(config, model=model.config, loss=LossConfig(numbers_weight=3.0))
    optimizer = optim.make_optimizer(config.optim, config.train.steps)
    state = init_state(model, optimizer, mesh, 0)
    out = jax.jit(model.apply)(state.params, batch)
    step = jit_step(make_step(config, model, optimizer, mesh), abstract_state(model, optimizer, mesh), mesh)
    _, metrics = step(state, sharding.put_batch(batch, mesh))
    whole = losses.dense("softmax", out["image_embedding"], out["text_embedding"], scale=out["scale"])
    own = losses.numbers(out["number"], batch.number_BQ)
    assert own > 0.1
    np.testing.assert_allclose(metrics["loss"], whole + 3.0 * own, rtol=1e-5)


def test_a_batch_in_parts_has_the_same_gradient():
    mesh, batch, model = sharding.make_mesh(MeshConfig()), _batch(32), tiny.model(numbers=NAMES)
    params = model.init(jax.random.key(0))
    constrain = sharding.batch_constraint(mesh)

    def embed(params, batch, key):
        return model.apply(params, batch, key=None, constrain=constrain)

    def loss_of(out):
        return batch_loss(LossConfig(), out, batch, mesh)

    placed = sharding.put_batch(batch, mesh)
    whole = jax.jit(jax.value_and_grad(lambda p: loss_of(embed(p, placed, None))))(params)
    (loss, _), grads = jax.jit(grad_cache.value_and_grad(embed, loss_of, 4, mesh))(params, placed, jax.random.key(0))
    np.testing.assert_allclose(loss, whole[0], rtol=1e-6)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5), grads, whole[1])
    assert np.abs(grads["numbers"]["kernel"]).max() > 1e-3


def test_every_number_has_the_name_that_preprocessing_gives_it():
    text = (
        "FINDINGS:\nLVEF 60 %. RVEF 55 %. LVEDV 150 ml. LVESV 60 ml. RVEDV 160 ml. RVESV 70 ml. LVEDVI 80 ml/m2. "
        "LVESVI 30 ml/m2. RVEDVI 82 ml/m2. RVESVI 33 ml/m2. LV mass 120 g. LVMI 60 g/m2. Native T1 1010 ms. T2 48 ms. "
        "ECV 27 %."
    )
    assert {one.name for one in read.extract(text)} == set(schema.NUMBERS)


@pytest.mark.parametrize("name", schema.NUMBERS)
def test_a_usual_value_is_plausible(name: str):
    usual, unit = schema.NUMBERS[name]
    low, high = next(limits for kind, limits in read._RANGES.items() if name.endswith(kind) or name == kind)
    assert low < usual - unit < usual < usual + unit < high


def test_a_number_that_no_report_states_is_refused_before_anything_is_made(tmp_path):
    data = datasets.write_dataset(tmp_path / "data", {"train": 4})
    model = dataclasses.replace(tiny.MODEL, text=dataclasses.replace(tiny.TEXT, vocab_size=0), numbers=("t2_ms",))
    config = dataclasses.replace(tiny.config(data), model=model)
    with pytest.raises(InputError, match="'t2_ms', which no report of the dataset states"):
        workdir_lib.prepare(tmp_path / "run", config)
    assert not (tmp_path / "run").exists()
