"""The TPU's kernel, interpreted on a CPU, is the plain attention; compiled for a TPU, it leaves no scores behind."""

import importlib.util

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.experimental import topologies
from jax.sharding import Mesh, PartitionSpec, SingleDeviceSharding

from cmr_jax.models import attention, attention_tpu, target

M, T, D, HEADS = 2, 5, 16, 2


def _draw(patches: int, dtype=jnp.float32) -> tuple[jax.Array, jax.Array]:
    rng = np.random.default_rng(0)
    qkv = rng.normal(size=(M, T, patches, 3 * D))
    return jnp.asarray(qkv, dtype), jnp.asarray(rng.normal(size=(M, 1, 3 * D)), dtype)


def _value_and_gradient(function, *args):
    """What a function gives, and the gradient of its results weighed at random, so that none is lost in another."""
    out, back = jax.vjp(function, *args)
    rng = np.random.default_rng(1)
    return out, back(jax.tree.map(lambda x: jnp.asarray(rng.normal(size=x.shape), x.dtype), out))


def _close(got, want, limit: float) -> None:
    for a, b in zip(jax.tree.leaves(got), jax.tree.leaves(want), strict=True):
        a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
        assert np.isfinite(a).all()
        assert np.abs(a - b).max() <= limit * max(1.0, float(np.abs(b).max()))


# 8 patches fill their block along time; 11 leave the last one ragged.
@pytest.mark.parametrize("patches", [8, 11])
@pytest.mark.parametrize("along_time", [False, True])
@pytest.mark.parametrize(("dtype", "limit"), [(jnp.float32, 2e-6), (jnp.bfloat16, 2e-2)])
def test_the_kernel_is_divided_attention(patches: int, along_time: bool, dtype, limit: float):
    qkv, first = _draw(patches, dtype)

    def kernel(qkv, first):
        out = attention_tpu.attention(qkv, heads=HEADS, along_time=along_time, first_M1F=first, interpret=True)
        return out[::-1]

    def plain(qkv, first):
        return attention.divided_attention(first, qkv, HEADS, along_time=along_time)

    _close(_value_and_gradient(kernel, qkv, first), _value_and_gradient(plain, qkv, first), limit)


@pytest.mark.parametrize("along_time", [False, True])
@pytest.mark.parametrize("masked", [False, True])
def test_the_kernel_is_self_attention(along_time: bool, masked: bool):
    qkv, _ = _draw(11)
    length = T if along_time else 11
    mask = jnp.arange(length)[None] < jnp.array([[3], [length]]) if masked else None

    def kernel(qkv):
        return attention_tpu.attention(qkv, heads=HEADS, along_time=along_time, mask_ML=mask, interpret=True)[0]

    def plain(qkv):
        if along_time:
            return attention.self_attention(qkv, HEADS, mask, along_time=True)
        rows = None if mask is None else jnp.repeat(mask, T, axis=0)
        flat = attention.self_attention(qkv.reshape(M * T, 11, 3 * D), HEADS, rows)
        return flat.reshape(M, T, 11, D)

    _close(_value_and_gradient(kernel, qkv), _value_and_gradient(plain, qkv), 2e-6)


def test_what_is_masked_weighs_nothing_in_the_kernel():
    qkv, _ = _draw(11)
    mask = jnp.arange(11)[None] < jnp.array([[3], [11]])
    nothing = jnp.zeros((M, 11), bool)

    def absent(qkv):
        return attention_tpu.attention(qkv, heads=HEADS, mask_ML=nothing, interpret=True)[0]

    alike = jnp.broadcast_to(qkv[..., 2 * D :].mean(axis=2, keepdims=True), (M, T, 11, D))
    np.testing.assert_allclose(absent(qkv), alike, atol=1e-5)
    assert np.isfinite(jax.grad(lambda qkv: absent(qkv).sum())(qkv)).all()
    other = qkv.at[0, :, 3:, D:].set(1e4)

    def run(qkv):
        return attention_tpu.attention(qkv, heads=HEADS, mask_ML=mask, interpret=True)[0]

    np.testing.assert_array_equal(run(qkv), run(other))


def test_each_device_runs_the_kernel_on_its_own_studies(monkeypatch):
    """As a TPU's mesh asks for it, with the kernel interpreted: no exchange, and the numbers of the plain one."""
    mesh = Mesh(np.array(jax.devices()[:4]).reshape(2, 2), ("data", "fsdp"))
    monkeypatch.setattr(target.Target, "fused_attention", property(lambda self: self.mesh is not None))
    kernel = attention_tpu.attention
    monkeypatch.setattr(attention_tpu, "attention", lambda *a, **k: kernel(*a, **k, interpret=True))
    rng = np.random.default_rng(0)
    qkv = jnp.asarray(rng.normal(size=(4, 2, 40, 3 * 128)), jnp.float32)
    first = jnp.asarray(rng.normal(size=(4, 1, 3 * 128)), jnp.float32)
    rows = jax.sharding.NamedSharding(mesh, PartitionSpec(("data", "fsdp")))

    def both(first, qkv):
        divided = attention.divided_attention(first, qkv, HEADS, along_time=False)
        mask = jnp.ones(qkv.shape[:2], bool)
        return (*divided, attention.self_attention(qkv.reshape(4, 80, -1), HEADS, jnp.repeat(mask, 40, axis=1)))

    def on_mesh(first, qkv):
        with target.compiled_for(mesh, ("data", "fsdp")):
            return both(first, qkv)

    spread = jax.jit(on_mesh, in_shardings=rows, out_shardings=rows)
    _close(spread(first, qkv), both(first, qkv), 2e-6)
    assert "pallas_call" in str(jax.make_jaxpr(on_mesh)(first, qkv))
    text = spread.lower(first, qkv).compile().as_text() or ""
    assert "all-gather" not in text and "all-reduce" not in text


def test_what_does_not_fit_the_chip_s_memory_is_not_taken():
    takes = attention_tpu.takes
    assert takes(196, 768, jnp.bfloat16, along_time=False) and takes(64, 768, jnp.bfloat16, along_time=True)
    assert takes(512, 1024, jnp.bfloat16, along_time=False) and not takes(512, 1152, jnp.bfloat16, along_time=False)
    assert not takes(1024, 512, jnp.bfloat16, along_time=False)
    assert not takes(256, 768, jnp.bfloat16, along_time=True)  # eight patches a block: 2,048 tokens


def test_short_or_narrow_groups_and_float64_stay_with_the_compiler(monkeypatch):
    mesh = Mesh(np.array(jax.devices()[:1]), ("data",))
    monkeypatch.setattr(target.Target, "fused_attention", property(lambda self: self.mesh is not None))

    def traced(length: int, dtype, width: int = 128) -> str:
        with target.compiled_for(mesh, ("data",)):
            shape = jax.ShapeDtypeStruct((2, length, 3 * width), dtype)
            return str(jax.make_jaxpr(lambda x: attention.self_attention(x, HEADS))(shape))

    assert "pallas_call" in traced(64, jnp.float32)
    assert "pallas_call" not in traced(8, jnp.float32)
    assert "pallas_call" not in traced(64, jnp.float32, width=96)
    with jax.enable_x64():
        assert "pallas_call" not in traced(64, jnp.float64)


@pytest.mark.skipif(not importlib.util.find_spec("libtpu"), reason="the compiler for TPUs (libtpu) is not installed")
@pytest.mark.parametrize("along_time", [False, True])
def test_compiled_for_a_tpu_no_scores_are_in_main_memory(along_time: bool):
    device = topologies.get_topology_desc("v5e:2x2", platform="tpu").devices[0]
    where = SingleDeviceSharding(device)
    qkv = jax.ShapeDtypeStruct((1, 64, 192, 3 * 768), jnp.bfloat16, sharding=where)
    first = jax.ShapeDtypeStruct((1, 1, 3 * 768), jnp.bfloat16, sharding=where)

    def total(qkv, first):
        mixed, cls = attention_tpu.attention(qkv, heads=12, along_time=along_time, first_M1F=first)
        assert cls is not None
        return mixed.astype(jnp.float32).sum() + cls.astype(jnp.float32).sum()

    compiled = jax.jit(jax.grad(total, (0, 1))).lower(qkv, first).compile()
    memory = compiled.memory_analysis()
    assert memory is not None
    # Scores would be 64 * 12 * 192 * 192 float32 in space, 113 MB, and a third of it in time, 38 MB; what is left is
    # the gradient that comes in, and that of the first token by group.
    assert memory.temp_size_in_bytes <= 1.1 * 64 * 192 * 768 * 2
    assert (compiled.as_text() or "").count('custom_call_target="tpu_custom_call"') == 2
