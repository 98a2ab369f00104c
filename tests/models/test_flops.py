"""Counted operations against the compiler's own count of the unrolled program, and against arithmetic by hand."""

import dataclasses
import functools
import importlib
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import pytest

from cmr_jax.config import Config, DataConfig, ModelConfig, TextConfig, VideoConfig, from_dict
from cmr_jax.models import flops
from cmr_jax.models.build import Model, build

VIDEO = VideoConfig(image_size=64, frames=4, tubelet=1, patch=16, width=768, depth=2, heads=12)
TEXT = TextConfig(vocab_size=50, length=64, width=768, depth=2, heads=12)


def _config(arch: str, kind: str) -> Config:
    model = ModelConfig(
        arch=arch, video=VIDEO, text=dataclasses.replace(TEXT, kind=kind), embed_dim=128, dtype="float32", remat="none"
    )
    return Config(data=DataConfig(views=("cine_sax",) * 3), model=model)


def _by_compiler(function, *arguments) -> float:
    """`cost_analysis()` counts every elementwise operation too, and the body of a loop once."""
    analysis = jax.jit(function).lower(*arguments).cost_analysis()
    assert analysis is not None
    return analysis["flops"]


def _deep(config: Config, depth: int) -> Model:
    video, text = (dataclasses.replace(tower, depth=depth) for tower in (config.model.video, config.model.text))
    return build(dataclasses.replace(config.model, video=video, text=text), 32)


def _by_blocks(monkeypatch, config: Config, function_of: Callable[[Model], Any], *rest: Any) -> float:
    """What the compiler counts of a model of two blocks: its loop's body, counted once, and one block more.

    Of an unrolled last block it drops what CLS does not read, so that a block is what the third adds to the second.
    """

    def counted(depth: int) -> float:
        model = _deep(config, depth)
        return _by_compiler(function_of(model), model.abstract_params(), *rest)

    looped = counted(2)
    with monkeypatch.context() as unrolled:
        unrolled.setattr(jax.lax, "scan", functools.partial(jax.lax.scan, unroll=True))
        block = counted(3) - counted(2)
    assert block > 0.3 * looped, "unrolled"
    return looped + block


@pytest.mark.parametrize(("arch", "kind"), [("study", "pre_norm"), ("concat", "bert"), ("concat", "distilbert")])
def test_the_count_is_within_two_per_cent_of_the_unrolled_program(monkeypatch, arch: str, kind: str):
    config = _config(arch, kind)
    counted, batch = flops.per_study(config), flops.one_study(config)
    image = _by_blocks(monkeypatch, config, lambda model: model.encode_image, batch)
    assert counted.image == pytest.approx(image, rel=0.02)
    text = _by_blocks(monkeypatch, config, lambda model: model.encode_text, batch.tokens_BL, batch.token_mask_BL)
    assert counted.text == pytest.approx(text, rel=0.02)
    train = _by_blocks(monkeypatch, config, flops._gradient, batch)
    assert counted.train == pytest.approx(train, rel=0.02)
    assert 2.9 < counted.train / (counted.image + counted.text) <= 3.0
    assert counted.recomputed == 0


def test_remat_is_counted_apart():
    config = _config("concat", "bert")
    spared = dataclasses.replace(config, model=dataclasses.replace(config.model, remat="full"))
    plain, again = flops.per_study(config), flops.per_study(spared)
    assert again.train == plain.train and again.image == plain.image
    assert 0.5 * plain.image < again.recomputed <= plain.image + plain.text


def test_cmrclip_64_costs_what_its_arithmetic_says():
    """12,545 tokens: 24 D^2 F in MLP and projections a token, and attention over P + 1, T + 1 and, for CLS, all."""
    config = from_dict(importlib.import_module("configs.cmrclip_64").get_config().to_dict())
    T, P, D = 64, 196, 768
    S = 1 + T * P
    dense = 2 * S * (2 * 4 + 8) * D * D  # two attentions' qkv and out, one MLP
    mixing = 2 * 2 * D * (T * P * (P + 1) + T * P * (T + 1) + 2 * S)
    by_hand = 12 * (dense + mixing) + 2 * T * P * 256 * D
    counted = flops.per_study(config)
    assert counted.image == pytest.approx(by_hand, rel=1e-3)
    assert counted.image == pytest.approx(2.96e12, rel=5e-3)
    assert counted.image_parameters == pytest.approx(114.2e6 + 512 * 769, rel=1e-3)


def test_a_step_is_the_batch_and_its_similarities():
    config = _config("concat", "bert")
    size = config.train.batch_size
    extra = flops.train_step(config) - size * flops.per_study(config).train
    assert extra == 2 * 3 * 2 * size * size * 128


def test_loops_and_branches():
    x = jax.ShapeDtypeStruct((3, 5), jnp.float32)

    def product(x):
        return x @ x.T @ x

    one = flops.count(product, x)
    assert one == 2 * 3 * 3 * 5 * 2
    assert flops.count(lambda x: jax.lax.scan(lambda c, _: (product(c), None), x, None, length=7)[0], x) == 7 * one
    assert flops.count(lambda x: jax.lax.cond(x.sum() > 0, product, lambda x: x, x), x) == one
    with pytest.raises(ValueError, match="while"):
        flops.count(lambda x: jax.lax.while_loop(lambda c: c.sum() > 0, product, x), x)
    image, kernel = (jax.ShapeDtypeStruct(s, jnp.float32) for s in ((1, 2, 6, 6), (4, 2, 3, 3)))
    assert flops.count(lambda i, k: jax.lax.conv(i, k, (1, 1), "SAME"), image, kernel) == 2 * 4 * 36 * 2 * 9
