"""The released model: its published numbers, its wiring by a second road, what learns in it and what does not."""

import dataclasses
import functools
import os
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from cmr_jax import losses, optim, sharding
from cmr_jax.config import MeshConfig, ModelConfig, TextConfig, VideoConfig
from cmr_jax.models import cmrclip
from cmr_jax.models.build import Model, build
from cmr_jax.models.pretrained import load_cmrclip
from tests import tiny

REFERENCE = Path(os.environ.get("CMR_REFERENCE", Path(__file__).parents[3] / "shared" / "reference"))
STAGES = ("video_features", "video_embedding", "text_hidden", "text_features", "text_embedding")
VIDEO = VideoConfig(image_size=16, frames=4, tubelet=1, patch=8, width=32, depth=2, heads=2)
TEXT = TextConfig(kind="bert", vocab_size=40, length=16, width=32, depth=2, heads=2)
CONFIG = ModelConfig(
    arch="concat", video=VIDEO, text=TEXT, embed_dim=16, image_head="relu_linear", text_head="relu_linear",
    dtype="float32", remat="none", learn_temperature=False, temperature=0.05,
)  # fmt: skip


def _model(**changes) -> Model:
    return build(dataclasses.replace(CONFIG, **changes), 0)


def _batch(frames: int = 4, size: int = 8):
    batch = tiny.batch(size=size, series=1)
    return dataclasses.replace(batch, video_BVTHW=batch.video_BVTHW[:, :, :frames])


@pytest.fixture(scope="module")
def params():
    """Off their start, where a zero projection or zero queries would hide an error."""
    leaves, tree = jax.tree.flatten(_model().init(jax.random.key(0)))
    keys = jax.random.split(jax.random.key(1), len(leaves))
    moved = [leaf + 0.1 * jax.random.normal(k, leaf.shape) for leaf, k in zip(leaves, keys, strict=True)]
    return jax.tree.unflatten(tree, moved) | {"log_scale": jnp.float32(np.log(20.0))}


def _reference(name: str) -> tuple[Path, dict[str, np.ndarray]]:
    folder = REFERENCE / name
    if not (folder / "io.npz").exists():
        pytest.skip("no reference of the released model here: set CMR_REFERENCE to the folder that holds cmrclip_tiny/")
    return folder, dict(np.load(folder / "io.npz"))


@pytest.mark.parametrize(("x64", "limit"), [(False, 1e-5), (True, 1e-9)])
@pytest.mark.parametrize("name", ["cmrclip_tiny", "cmrclip_distilbert_tiny"])
def test_the_released_model_gives_its_published_numbers(name: str, x64: bool, limit: float):
    folder, io = _reference(name)
    with jax.enable_x64(x64):
        model, params = load_cmrclip(folder / "state_dict.safetensors", folder / "config.json")
        out = model.apply(params, video=io["video"], tokens=io["input_ids"], token_mask=io["attention_mask"])
        assert set(out) == set(STAGES)
        for stage in STAGES:
            assert out[stage].dtype == (jnp.float64 if x64 else jnp.float32)
            assert np.abs(out[stage] - io[stage]).max() <= limit * np.abs(io[stage]).max(), stage
        unit = {
            side: out[f"{side}_embedding"] / jnp.linalg.norm(out[f"{side}_embedding"], axis=1, keepdims=True)
            for side in ("video", "text")
        }
        similarity = unit["text"] @ unit["video"].T
        assert np.abs(similarity - io["similarity_text_by_video"]).max() <= limit
        loss = 2.0 * losses.dense("softmax", unit["video"], unit["text"], scale=1 / 0.05)
        assert abs(float(loss) - io["loss_temperature_0p05"]) <= limit * io["loss_temperature_0p05"]


def _by_mask(attention: cmrclip.DividedAttention, x_SD: np.ndarray, frames: int, along_time: bool) -> np.ndarray:
    """Divided attention as one full attention in which most pairs are forbidden."""
    S, D = x_SD.shape
    N, P = attention.heads, (S - 1) // frames
    place = np.arange(S - 1)
    group = np.concatenate([[-1], place % P if along_time else place // P])
    allowed = (group[:, None] == group[None]) | (group[:, None] < 0) | (group[None] < 0)
    qkv = x_SD @ np.asarray(attention.qkv.kernel[...]) + np.asarray(attention.qkv.bias)
    q, k, v = qkv.reshape(S, 3, N, D // N).transpose(1, 2, 0, 3)
    score = np.where(allowed, q @ k.transpose(0, 2, 1) / np.sqrt(D // N), -np.inf)
    weight = np.exp(score - score.max(axis=-1, keepdims=True))
    mixed = (weight / weight.sum(axis=-1, keepdims=True)) @ v
    return mixed.transpose(1, 0, 2).reshape(S, D) @ np.asarray(attention.out.kernel[...]) + np.asarray(
        attention.out.bias
    )


@pytest.mark.parametrize("along_time", [True, False])
def test_divided_attention_is_full_attention_with_a_mask(along_time: bool):
    attention = cmrclip.DividedAttention(8, 2, jnp.float32, nnx.Rngs(0))
    attention.qkv.kernel[...] = 20 * attention.qkv.kernel[...]
    x_BSD = np.random.default_rng(0).normal(size=(2, 1 + 3 * 5, 8)).astype(np.float32)
    x = jnp.asarray(x_BSD)
    first, rest = attention(x[:, :1], x[:, 1:].reshape(2, 3, 5, 8), along_time=along_time)
    got = jnp.concatenate([first, rest.reshape(2, 15, 8)], axis=1)
    for b in range(2):
        np.testing.assert_allclose(got[b], _by_mask(attention, x_BSD[b], 3, along_time), atol=1e-5)


def test_space_attention_is_added_to_the_blocks_input():
    """Not to what time attention made of it: a huge time update reaches the output by the norm of space alone."""
    block = cmrclip.ReleasedBlock(VIDEO, jnp.float32, 0.0, nnx.Rngs(0))
    assert block.time.out.bias is not None
    block.time.out.bias[...] = jnp.full(32, 1e3)
    block.down.kernel[...] = jnp.zeros_like(block.down.kernel[...])
    rng = np.random.default_rng(0)
    x = (
        jnp.asarray(rng.normal(size=(1, 1, 32)), jnp.float32),
        jnp.asarray(rng.normal(size=(1, 4, 4, 32)), jnp.float32),
    )
    assert max(np.abs(a - b).max() for a, b in zip(block(x, key=None), x, strict=True)) < 10


def test_fewer_frames_use_the_first_positions(params):
    """As a model of that many frames with the first rows of the table."""
    few = _batch(frames=3)
    cut = jax.tree.map(lambda leaf: leaf, params)
    cut["image"]["time_position"] = params["image"]["time_position"][:3]
    short = _model(video=dataclasses.replace(VIDEO, frames=3))
    got = _model().encode_image(params, few)
    np.testing.assert_array_equal(got, short.encode_image(cut, few))
    assert np.abs(got - _model().encode_image(params, _batch())).max() > 1e-4
    with pytest.raises(ValueError, match="positions for 3"):
        short.encode_image(cut, _batch())


def test_pixels_that_are_no_whole_patch_are_left_out_as_by_the_released_convolution(params):
    batch = _batch()
    video = batch.video_BVTHW[:, 0]
    wider = jnp.pad(video, ((0, 0), (0, 0), (0, 5), (0, 7)), constant_values=200)

    def embed(model: Model, pixels_BTHW: jax.Array) -> jax.Array:
        colour_BTCHW = jnp.repeat(pixels_BTHW[:, :, None].astype(jnp.float32) / 255, 3, axis=2)
        return model.stages(params, colour_BTCHW, batch.tokens_BL, batch.token_mask_BL)["video_embedding"]

    uneven = _model(video=dataclasses.replace(VIDEO, image_size=21))
    np.testing.assert_array_equal(embed(_model(), video), embed(uneven, wider))


def test_grey_pixels_are_three_equal_normalised_channels(params):
    batch = _batch()
    grey = np.asarray(batch.video_BVTHW[:, 0], np.float32) / 255
    colour = np.stack([(grey - m) / s for m, s in zip(cmrclip.MEAN, cmrclip.STD, strict=True)], axis=2)
    model = _model()
    out = model.stages(params, jnp.asarray(colour, jnp.float32), batch.tokens_BL, batch.token_mask_BL)
    unit = out["video_embedding"] / jnp.linalg.norm(out["video_embedding"], axis=1, keepdims=True)
    np.testing.assert_allclose(model.encode_image(params, batch), unit, atol=2e-6)
    text = out["text_embedding"] / jnp.linalg.norm(out["text_embedding"], axis=1, keepdims=True)
    got = model.encode_text(params, batch.tokens_BL, batch.token_mask_BL)
    np.testing.assert_allclose(got, text, atol=2e-6)


def _loss(model: Model, params, batch, mesh=None):
    out = model.apply(params, batch, constrain=sharding.batch_constraint(mesh))
    return losses.dense("softmax", out["image_embedding"], out["text_embedding"], scale=out["scale"])


@functools.cache
def _gradient(model: Model, mesh=None):
    return jax.jit(jax.grad(lambda params, batch: _loss(model, params, batch, mesh)))


def _gradients(model: Model, params, batch, mesh=None):
    return _gradient(model, mesh)(params, batch)


def _still(gradients) -> set[str]:
    return {
        sharding.path_name(path)
        for path, leaf in jax.tree_util.tree_leaves_with_path(gradients)
        if not np.abs(leaf).max() > 0
    }


# The pooler is carried, not read; the temperature is fixed.
DEAD = {"log_scale", "text/pooler/kernel", "text/pooler/bias"}


def test_every_parameter_gets_a_gradient_but_those_that_nothing_reads(params):
    assert _still(_gradients(_model(), params, _batch())) == DEAD


@pytest.mark.parametrize("start", ["zeros", "zero_projection"])
def test_what_the_published_start_kills_and_ours_does_not(start: str):
    """recipes: with zero queries and keys their gradient is exactly zero for ever; the value alone moves."""
    model, batch = _model(video=dataclasses.replace(VIDEO, time_init=start)), _batch()
    params = model.init(jax.random.key(0))
    first = params
    for _ in range(3):
        gradients = _gradients(model, params, batch)
        params = jax.tree.map(lambda p, g: p - 0.1 * g, params, gradients)
    q, k, v = np.split(np.asarray(gradients["image"]["stack"]["blocks"]["time"]["qkv"]["kernel"]), 3, axis=-1)
    assert np.abs(v).max() > 0
    assert (np.abs(q).max() > 0 and np.abs(k).max() > 0) == (start == "zero_projection")
    assert np.abs(q).max() == 0 or start == "zero_projection"
    # Both start as the image model: frames apart from one another but for CLS, whatever the clip's length.
    time = first["image"]["stack"]["blocks"]["time"]
    start_parts = (time["qkv"]["kernel"], time["out"]["kernel"] - 1) if start == "zeros" else (time["out"]["kernel"],)
    assert all(np.abs(part).max() == 0 for part in start_parts)


def test_every_parameter_has_its_rules_and_what_nothing_moves_does_not_decay():
    abstract = _model().abstract_params()
    names = [sharding.path_name(path) for path, _ in jax.tree_util.tree_leaves_with_path({"params": abstract})]
    assert {sharding.tactic(name) for name in names} == {"replicate", "fsdp", "column", "row"}
    mask = jax.tree_util.tree_leaves_with_path(optim.decay_mask(abstract))
    decayed = {sharding.path_name(path) for path, yes in mask if yes}
    assert decayed and all(name.endswith("/kernel") for name in decayed) and not decayed & DEAD


@pytest.mark.parametrize("remat", ["full", "dots"])
def test_remat_does_not_change_the_gradient(params, remat: str):
    plain, spared = (_gradients(_model(remat=how), params, _batch()) for how in ("none", remat))
    for a, b in zip(*map(jax.tree.leaves, (plain, spared)), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5)


def test_scanned_and_unrolled_agree(params, monkeypatch):
    scanned = _gradients(_model(), params, _batch())
    monkeypatch.setattr(jax.lax, "scan", functools.partial(jax.lax.scan, unroll=True))
    _gradient.cache_clear()
    unrolled = _gradients(_model(), params, _batch())
    _gradient.cache_clear()
    for a, b in zip(*map(jax.tree.leaves, (scanned, unrolled)), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5)


def test_one_and_eight_devices_agree(params):
    mesh = sharding.make_mesh(MeshConfig(fsdp=2))
    spread = jax.device_put(params, sharding.tree_shardings({"params": params}, mesh)["params"])
    whole = _gradients(_model(), params, _batch())
    parts = _gradients(_model(), spread, sharding.put_batch(_batch(), mesh), mesh)
    for a, b in zip(*map(jax.tree.leaves, (whole, parts)), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5)


def test_bfloat16_stays_near_float32_with_norms_and_softmax_in_float32(params):
    batch = _batch()
    half, full = (_model(dtype=d).apply(params, batch) for d in ("bfloat16", "float32"))
    for name in ("image_embedding", "text_embedding"):
        assert half[name].dtype == jnp.float32
        assert (np.asarray(half[name]) * np.asarray(full[name])).sum(axis=1).min() > 0.995
    program = str(jax.make_jaxpr(_model(dtype="bfloat16").apply)(params, batch))
    for name in ("exp", "rsqrt", "log"):  # softmax and norms
        lines = [line for line in program.splitlines() if f" = {name} " in line or f" = {name}[" in line]
        assert not [line for line in lines if "bf16" in line.split("=")[0]], name
    assert ":bf16[" in program
