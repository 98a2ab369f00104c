"""What keeps a training step cheap on CPUs, counted in its traced program (docs/performance.md)."""

import collections
import contextlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from jax.extend import core
from jax.sharding import Mesh

from cmr_jax.models import cmrclip
from cmr_jax.models.attention import gelu, split_heads
from cmr_jax.models.flops import _inside, _shape
from cmr_jax.models.layers import Mlp, linear
from cmr_jax.models.target import compiled_for


def _equations(jaxpr: core.Jaxpr) -> list[core.JaxprEqn]:
    inner = [one for equation in jaxpr.eqns for body in _inside(equation.params) for one in _equations(body)]
    return [*jaxpr.eqns, *inner]


def _gradient(module: nnx.Module, *shape: int, **how) -> list[core.JaxprEqn]:
    graphdef, state = nnx.split(module)

    def total(state, x, *args):
        return nnx.merge(graphdef, state)(x, *how.get("args", ()), **how.get("kwargs", {})).sum()

    return _equations(jax.make_jaxpr(jax.grad(total, (0, 1)))(state, jnp.ones(shape)).jaxpr)


def test_linear_layers_multiply_matrices_where_asked():
    """Where the step says that it is for CPUs."""
    for wanted in (True, False):
        mesh = Mesh(np.array(jax.devices()[:1]), ("data",))
        with compiled_for(mesh, ("data",)) if wanted else contextlib.nullcontext():
            equations = _gradient(Mlp(8, 32, jnp.float32, nnx.Rngs(0)), 2, 5, 8)
        dots = [e for e in equations if e.primitive.name == "dot_general"]
        assert len(dots) == 6
        assert ({len(_shape(v)) for e in dots for v in e.invars} == {2}) == wanted


@pytest.mark.parametrize(
    ("rows", "d_in", "d_out", "pays"),
    [(1024, 8, 1024, True), (1568, 8, 3072, True), (1022, 8, 1024, False), (1024, 8, 1536, False),
     (1024, 1024, 8, False), (1024, 1024, 1024, False)],
)  # fmt: skip
def test_the_kernel_gradient_multiplies_copied_rows_where_that_pays(rows: int, d_in: int, d_out: int, pays: bool):
    """On CPUs, of many rows and a layer that widens to whole pages; the numbers are those of the plain product."""
    graphdef, state = nnx.split(linear(d_in, d_out, jnp.float32, nnx.Rngs(0)))
    x = jax.random.normal(jax.random.key(1), (2, rows // 2, d_in))

    def total(state, x):
        return jnp.sin(nnx.merge(graphdef, state)(x)).sum()

    found = {}
    for for_cpus in (True, False):
        mesh = Mesh(np.array(jax.devices()[:1]), ("data",))
        with compiled_for(mesh, ("data",)) if for_cpus else contextlib.nullcontext():
            gradient = jax.grad(lambda state, x: total(state, x), (0, 1))  # a new function: traced anew
            equations = _equations(jax.make_jaxpr(gradient)(state, x).jaxpr)
            assert sum(e.primitive.name == "optimization_barrier" for e in equations) == (for_cpus and pays)
            found[for_cpus] = jax.tree.leaves(gradient(state, x))
    for one, other in zip(found[True], found[False], strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-5 * float(jnp.abs(other).max()))


@pytest.mark.parametrize("along_time", [True, False])
def test_the_gradient_of_attention_pads_nothing(along_time: bool):
    """A sum of padded arrays stands where slices of queries, keys and values come back together; splits have none."""
    attention = cmrclip.DividedAttention(8, 2, jnp.float32, nnx.Rngs(0))
    first = jnp.ones((2, 1, 8))
    graphdef, state = nnx.split(attention)

    def total(state, x):
        return sum(part.sum() for part in nnx.merge(graphdef, state)(first, x, along_time=along_time))

    equations = _equations(jax.make_jaxpr(jax.grad(total, (0, 1)))(state, jnp.ones((2, 3, 4, 8))).jaxpr)
    count = collections.Counter(e.primitive.name for e in equations)
    assert count["pad"] == 0 and count["dot_general"] > 0


def test_split_heads_is_the_split_of_the_joint_projection():
    qkv = jnp.asarray(np.random.default_rng(0).normal(size=(2, 5, 3 * 8)), jnp.float32)
    for i, part in enumerate(split_heads(qkv, 2)):
        np.testing.assert_array_equal(part, qkv.reshape(2, 5, 3, 2, 4)[:, :, i])


@pytest.mark.parametrize(("x64", "limit"), [(False, 3e-7), (True, 1e-15)])
def test_gelu_is_exact(x64: bool, limit: float):
    with jax.enable_x64(x64):
        x = jnp.linspace(-9, 9, 2001)
        assert gelu(x).dtype == x.dtype
        assert np.abs(gelu(x) - jax.nn.gelu(x, approximate=False)).max() <= 9 * limit
    assert gelu(jnp.ones(3, jnp.bfloat16)).dtype == jnp.bfloat16
