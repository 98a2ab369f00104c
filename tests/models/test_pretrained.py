"""Weights in and out: round trips bitwise, every key accounted for, tables resampled, surprises refused."""

import dataclasses
import json
import os
import sys
import types
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import safetensors.numpy

from cmr_jax import sharding
from cmr_jax.config import MeshConfig, ModelConfig, TextConfig, VideoConfig
from cmr_jax.errors import InputError
from cmr_jax.models import pretrained, resample, weights
from cmr_jax.models.build import build
from cmr_jax.models.cmrclip import MEAN, STD
from tests import tiny
from tests.models.test_cmrclip import CONFIG, TEXT, VIDEO

FILES = ("state_dict.safetensors", "config.json")


def _params(config: ModelConfig, seed: int = 0):
    """Drawn, no two entries alike."""
    shapes = build(config, 7).abstract_params()
    rng = np.random.default_rng(seed)
    return jax.tree.map(lambda s: jnp.asarray(rng.normal(size=s.shape), jnp.float32), shapes)


@pytest.fixture
def exported(tmp_path: Path) -> Path:
    pretrained.export_cmrclip(_params(CONFIG), CONFIG, tmp_path)
    return tmp_path


def _change(folder: Path, **changes) -> None:
    """Rewrites tensors of the exported state dict; None takes one away. `__` stands for a dot."""
    state = safetensors.numpy.load_file(folder / FILES[0])
    for name, value in changes.items():
        name = name.replace("__", ".")
        state.pop(name, None)
        if value is not None:
            state[name] = value
    safetensors.numpy.save_file(state, folder / FILES[0])


@pytest.mark.parametrize("kind", ["bert", "distilbert"])
@pytest.mark.parametrize("head", ["relu_linear", "linear_bias"])
def test_export_and_import_are_bitwise_inverse(tmp_path: Path, kind: str, head: str):
    text = dataclasses.replace(TEXT, kind=kind, pool="cls", positions=20)
    config = dataclasses.replace(CONFIG, text=text, image_head=head, temperature=0.07)
    params = _params(config) | {"log_scale": jnp.float32(2.6592)}
    pretrained.export_cmrclip(params, config, tmp_path)
    model, again = pretrained.load_cmrclip(*(tmp_path / name for name in FILES))
    assert sorted(weights.flat(again)) == sorted(weights.flat(params))
    for name, array in weights.flat(params).items():
        np.testing.assert_array_equal(weights.flat(again)[name], array, err_msg=name)
    assert model.model.config.text.pool == "cls" and model.model.config.image_head == head
    video = np.random.default_rng(0).normal(size=(2, 4, 3, 16, 16)).astype(np.float32)
    tokens = np.ones((2, 20), int)
    out = model.apply(again, video=video, tokens=tokens, token_mask=tokens)
    assert out["text_embedding"].shape == out["video_embedding"].shape == (2, 16)


def test_names_are_the_released_ones_and_layers_keep_their_place(exported: Path):
    state = safetensors.numpy.load_file(exported / FILES[0])
    params = weights.flat(_params(CONFIG))
    blocks = params["image/stack/blocks/time/qkv/kernel"]
    np.testing.assert_array_equal(state["video_model.blocks.1.timeattn.qkv.weight"], np.asarray(blocks)[1].T)
    value = np.asarray(params["text/stack/blocks/qkv/bias"])[1, 64:]
    np.testing.assert_array_equal(state["text_model.encoder.layer.1.attention.self.value.bias"], value)
    kernel = np.asarray(params["image/patch/kernel"])
    np.testing.assert_array_equal(
        state["video_model.patch_embed.proj.weight"][5, 2, 3, 4], kernel[2 * 64 + 3 * 8 + 4, 5]
    )
    assert state["video_model.pos_embed"].shape == (1, 5, 32) and state["video_model.cls_token"].shape == (1, 1, 32)
    sizes = json.loads((exported / FILES[1]).read_text())
    assert sizes["n_params"] == sum(array.size for array in state.values())


def test_wrapped_names_and_idle_keys_are_read(exported: Path):
    state = safetensors.numpy.load_file(exported / FILES[0])
    state = {"module." + name: array for name, array in state.items()}
    state["module.text_model.embeddings.position_ids"] = np.arange(20)[None]
    safetensors.numpy.save_file(state, exported / FILES[0])
    _, params = pretrained.load_cmrclip(*(exported / name for name in FILES))
    np.testing.assert_array_equal(params["image"]["cls"], _params(CONFIG)["image"]["cls"])


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"video_model__norm__weight": None}, "lacks 'video_model.norm.weight'"),
        ({"video_model__blocks__1__norm3__bias": None}, "lacks 'video_model.blocks.1.norm3.bias'"),
        (
            {"text_model__extra__weight": np.ones(3, np.float32)},
            "has 'text_model.extra.weight', which this model",
        ),
        ({"video_model__blocks__2__norm3__bias": np.ones(32, np.float32)}, "has 'video_model.blocks.2.norm3.bias'"),
        (
            {"video_model__norm__weight": np.ones(33, np.float32)},
            r"image/norm/scale \(33,\), the model has \(32,\)",
        ),
        ({"text_model__pooler__dense__bias": None}, None),
    ],
)
def test_surprises_are_refused(exported: Path, changes: dict, says: str | None):
    _change(exported, **changes)
    if says is None:  # a pooler may be absent, but only whole tensors of it
        pretrained.load_cmrclip(*(exported / name for name in FILES))
        return
    with pytest.raises(InputError, match=says):
        pretrained.load_cmrclip(*(exported / name for name in FILES))


@pytest.mark.parametrize(
    ("part", "key", "value", "says"),
    [
        ("text", "kind", "gpt", "text.kind"),
        ("video", "heads", 5, "video.heads"),
        ("text", "heads", 5, "text.heads"),
        ("text", "width", None, "lacks 'width'"),
    ],
)
def test_sizes_that_this_code_does_not_run_are_refused(exported: Path, part: str, key: str, value, says: str):
    sizes = json.loads((exported / FILES[1]).read_text())
    sizes[part][key] = value
    if value is None:
        del sizes[part][key]
    (exported / FILES[1]).write_text(json.dumps(sizes))
    with pytest.raises(InputError, match=says):
        pretrained.load_cmrclip(*(exported / name for name in FILES))


def _embed(folder: Path) -> dict[str, np.ndarray]:
    model, params = pretrained.load_cmrclip(*(folder / name for name in FILES))
    video = np.random.default_rng(0).normal(size=(1, 3, 3, 16, 16))
    tokens = np.arange(1, 9)[None]
    out = model.apply(params, video=video, tokens=tokens, token_mask=tokens)
    return {name: np.asarray(array) for name, array in out.items()}


def test_epsilons_are_read_and_written(exported: Path):
    before = _embed(exported)
    sizes = json.loads((exported / FILES[1]).read_text())
    sizes["video"]["layer_norm_eps"] = sizes["text"]["layer_norm_eps"] = 0.5
    (exported / FILES[1]).write_text(json.dumps(sizes))
    after = _embed(exported)
    for name in ("video_features", "text_hidden"):
        assert np.abs(before[name] - after[name]).max() > 1e-3, name
    model, params = pretrained.load_cmrclip(*(exported / name for name in FILES))
    pretrained.export_cmrclip(params, model.model.config, exported / "again")
    again = json.loads((exported / "again" / FILES[1]).read_text())
    assert again["video"]["layer_norm_eps"] == again["text"]["layer_norm_eps"] == 0.5


def test_a_model_without_biases_of_queries_keys_and_values_is_read_as_one_with_zeros(exported: Path):
    names = [name for name in safetensors.numpy.load_file(exported / FILES[0]) if name.endswith("attn.qkv.bias")]
    assert len(names) == 4  # two layers, two attentions each
    _change(exported, **{name.replace(".", "__"): np.zeros(96, np.float32) for name in names})
    zeros = _embed(exported)
    _change(exported, **dict.fromkeys((name.replace(".", "__") for name in names), None))
    with pytest.raises(InputError, match="lacks"):
        _embed(exported)
    sizes = json.loads((exported / FILES[1]).read_text())
    sizes["video"]["qkv_bias"] = False
    (exported / FILES[1]).write_text(json.dumps(sizes))
    for name, array in _embed(exported).items():
        np.testing.assert_array_equal(array, zeros[name])


def test_mlps_of_any_width_go_in_and_out(tmp_path: Path):
    """Also those that are no whole multiple of the model's width."""
    video, text = (dataclasses.replace(part, mlp=width) for part, width in ((VIDEO, 50), (TEXT, 90)))
    config = dataclasses.replace(CONFIG, video=video, text=text)
    pretrained.export_cmrclip(_params(config), config, tmp_path)
    model, params = pretrained.load_cmrclip(*(tmp_path / name for name in FILES))
    assert (model.model.config.video.mlp_width, model.model.config.text.mlp_width) == (50, 90)
    assert params["image"]["stack"]["blocks"]["up"]["kernel"].shape == (2, 32, 50)
    assert np.isfinite(_embed(tmp_path)["text_embedding"]).all()


@pytest.mark.parametrize("content", [None, b"", b"\x08\x00\x00\x00\x00\x00\x00\x00{broken"])
def test_a_missing_or_damaged_file_is_one_line(exported: Path, content: bytes | None):
    path = exported / FILES[0]
    path.unlink() if content is None else path.write_bytes(content)
    with pytest.raises(InputError, match=r"no weight file|cannot be read"):
        pretrained.load_cmrclip(path, exported / FILES[1])


def test_pickles_need_torch_and_are_read_as_tensors_alone(tmp_path: Path, monkeypatch):
    path = tmp_path / "model.pth"
    path.write_bytes(b"x")
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(InputError, match="need torch"):
        weights.read_state(path)
    asked = {}

    def load(path, **options):
        asked.update(options)
        return {"epoch": 3, "state_dict": {"module.a.weight": Tensor()}}

    class Tensor:
        def is_floating_point(self):
            return True

        def float(self):
            return self

        def numpy(self):
            return np.ones(2, np.float64)

    monkeypatch.setitem(sys.modules, "torch", types.SimpleNamespace(load=load, Tensor=Tensor))
    state = weights.read_state(path)
    assert asked["weights_only"] is True
    assert list(state) == ["a.weight"] and state["a.weight"].dtype == np.float32


def test_torch_s_own_files_are_read_and_one_that_would_run_code_is_not(exported: Path):
    torch: Any = pytest.importorskip("torch", reason="torch is an extra")
    state = safetensors.numpy.load_file(exported / FILES[0])
    tensors = {f"module.{name}": torch.tensor(array) for name, array in state.items()}
    for name in ("model.bin", "model.pth"):
        torch.save({"epoch": 3, "state_dict": tensors}, exported / name)
        _, params = pretrained.load_cmrclip(exported / name, exported / FILES[1])
        for ours, array in weights.flat(_params(CONFIG) | {"log_scale": params["log_scale"]}).items():
            np.testing.assert_array_equal(weights.flat(params)[ours], array)
    torch.save({"state_dict": tensors, "when_read": _RunsCode(exported / "ran")}, exported / "evil.pth")
    with pytest.raises(InputError, match="holds more than tensors"):
        weights.read_state(exported / "evil.pth")
    assert not (exported / "ran").exists()


class _RunsCode:
    """Pickled, it makes a folder when it is read."""

    def __init__(self, folder: Path):
        self.folder = folder

    def __reduce__(self):
        return (os.mkdir, (str(self.folder),))


def test_released_names_are_for_the_released_model_alone(tmp_path: Path):
    for config in (tiny.MODEL, dataclasses.replace(CONFIG, image_head="linear")):
        with pytest.raises(InputError, match="released names"):
            pretrained.export_cmrclip({}, config, tmp_path)
    assert not list(tmp_path.iterdir())


def _from(config: ModelConfig, video: Path | str = "", text: Path | str = "") -> ModelConfig:
    return dataclasses.replace(
        config,
        video=dataclasses.replace(config.video, init_from=str(video)),
        text=dataclasses.replace(config.text, init_from=str(text)),
    )


def test_training_starts_from_an_export_on_any_mesh(exported: Path):
    config = _from(CONFIG, exported / FILES[0], exported / FILES[0])
    found, listings = pretrained.starting_weights(config, 7)
    assert len(listings) == 2 and all(not part.missing and not part.resized for part in listings)
    assert all(name.startswith(("text_model.", "txt_proj.")) for name in listings[0].unused)
    mesh = sharding.make_mesh(MeshConfig(fsdp=4))
    start = _params(config, seed=1)
    spread = jax.device_put(start, sharding.tree_shardings({"params": start}, mesh)["params"])
    got = weights.flat(pretrained.overlay(spread, found))
    for name, array in weights.flat(_params(CONFIG)).items():
        expected = weights.flat(start)[name] if name == "log_scale" else array
        np.testing.assert_array_equal(got[name], expected, err_msg=name)
        assert got[name].sharding == weights.flat(spread)[name].sharding


def test_other_sizes_are_resampled_and_listed_and_another_head_is_left(exported: Path):
    video = VideoConfig(**{**dataclasses.asdict(VIDEO), "image_size": 32, "frames": 6})
    config = _from(dataclasses.replace(CONFIG, video=video, embed_dim=24), video=exported / FILES[0])
    found, (listing,) = pretrained.starting_weights(config, 7)
    assert listing.resized == ("image/position 5 -> 17", "image/time_position 4 -> 6")
    assert {"vid_proj.1.weight", "vid_proj.1.bias"} <= set(listing.unused)
    assert "image_projection/linear/kernel" not in found
    said = str(listing)
    assert said.count("image/position") == 1 and "unused: " in said and "\n" not in said


def test_resampling_keeps_what_it_must():
    table = np.random.default_rng(0).normal(size=(5, 3))
    np.testing.assert_allclose(resample.time(table, 9)[::2], table)
    np.testing.assert_allclose(resample.time(table, 9)[1], table[:2].mean(axis=0))
    np.testing.assert_array_equal(resample.text(table, 2), table[:2])
    np.testing.assert_allclose(resample.text(table, 9)[-1], table[-1])
    # A plane stays a plane, inside the outermost cells; CLS stays.
    y, x = np.mgrid[:4, :4]
    plane = np.concatenate([[[7.0]], (2.0 * y + x).reshape(-1, 1)])
    fine = resample.grid(plane, 65)
    assert fine[0, 0] == 7
    square = fine[1:, 0].reshape(8, 8)
    np.testing.assert_allclose(np.diff(square[1:-1, 1:-1], axis=0), 1.0)
    np.testing.assert_allclose(np.diff(square[1:-1, 1:-1], axis=1), 0.5)
    np.testing.assert_allclose(resample.grid(plane, 17), plane)
    with pytest.raises(ValueError, match="square"):
        resample.grid(plane, 16)


def _image_transformer(path: Path) -> dict[str, np.ndarray]:
    """A state dict with timm's names, two layers of width 32, patches of 8 on 24 pixels."""
    rng = np.random.default_rng(5)
    shapes: dict[str, tuple[int, ...]] = {
        "cls_token": (1, 1, 32), "pos_embed": (1, 10, 32), "patch_embed.proj.weight": (32, 3, 8, 8),
        "patch_embed.proj.bias": (32,), "norm.weight": (32,), "norm.bias": (32,), "head.weight": (5, 32),
        "head.bias": (5,),
    }  # fmt: skip
    for i in range(2):
        for name, (rows, columns) in {"attn.qkv": (96, 32), "attn.proj": (32, 32), "mlp.fc1": (128, 32),
                                      "mlp.fc2": (32, 128)}.items():  # fmt: skip
            shapes |= {f"blocks.{i}.{name}.weight": (rows, columns), f"blocks.{i}.{name}.bias": (rows,)}
        for name in ("norm1", "norm2"):
            shapes |= {f"blocks.{i}.{name}.weight": (32,), f"blocks.{i}.{name}.bias": (32,)}
    state = {name: 0.1 * rng.normal(size=shape).astype(np.float32) for name, shape in shapes.items()}
    safetensors.numpy.save_file(state, path)
    return state


def test_an_image_transformer_starts_the_concatenation_model(tmp_path: Path):
    state = _image_transformer(tmp_path / "vit.safetensors")
    found, (listing,) = pretrained.starting_weights(_from(CONFIG, video=tmp_path / "vit.safetensors"), 7)
    assert listing.unused == ("head.bias", "head.weight") and listing.resized == ("image/position 10 -> 5",)
    assert "image/stack/blocks/time/qkv/kernel" in listing.missing and "image/time_position" in listing.missing
    expected = np.stack([state[f"blocks.{i}.attn.qkv.weight"].T for i in range(2)])
    np.testing.assert_array_equal(found["image/stack/blocks/space/qkv/kernel"], expected)


@pytest.mark.parametrize("attention", ["divided", "factorised"])
def test_an_image_transformer_inflates_to_the_series_tower(tmp_path: Path, attention: str):
    """A still series gives the image's patch embedding, grey for three equal normalised channels."""
    state = _image_transformer(tmp_path / "vit.safetensors")
    video = dataclasses.replace(tiny.VIDEO, attention=attention, phase_depth=int(attention == "factorised"))
    config = dataclasses.replace(tiny.MODEL, video=video)
    found, (listing,) = pretrained.starting_weights(_from(config, video=tmp_path / "vit.safetensors"), 7)
    grey = np.random.default_rng(0).random((8, 8))
    channels = np.stack([(grey - m) / s for m, s in zip(MEAN, STD, strict=True)])
    expected = np.einsum("dcij,cij->d", state["patch_embed.proj.weight"], channels) + state["patch_embed.proj.bias"]
    pixels = np.tile((2 * grey - 1).reshape(-1), tiny.VIDEO.tubelet)
    got = pixels @ found["image/tower/patch/kernel"] + found["image/tower/patch/bias"]
    np.testing.assert_allclose(got, expected, atol=1e-5)
    assert listing.resized == ("image/tower/position 9 -> 4",) and "cls_token" in listing.unused
    shapes = weights.flat(build(config, 7).abstract_params())
    assert all(found[name].shape == shapes[name].shape for name in found)
    assert any(("time" if attention == "divided" else "phase_stack") in name for name in listing.missing)
    other = dataclasses.replace(tiny.MODEL, video=dataclasses.replace(tiny.VIDEO, patch=4))
    with pytest.raises(InputError, match="patches of 8 pixels"):
        pretrained.starting_weights(_from(other, video=tmp_path / "vit.safetensors"), 7)


def _hugging_face(folder: Path, **changes) -> TextConfig:
    """A BERT folder made from drawn parameters, with the names of before 2019 and a head of another task."""
    folder.mkdir()
    params = weights.flat(_params(CONFIG))
    state = weights.give(params, pretrained.text_rules("bert", "bert."))
    state = {n.replace("LayerNorm.weight", "LayerNorm.gamma"): a for n, a in state.items() if "pooler" not in n}
    state["cls.predictions.bias"] = np.zeros(40, np.float32)
    safetensors.numpy.save_file(state, folder / "model.safetensors")
    about = {"model_type": "bert", "num_attention_heads": 2, "hidden_act": "gelu", "num_hidden_layers": 2}
    (folder / "config.json").write_text(json.dumps(about | changes))
    return dataclasses.replace(TEXT, init_from=str(folder))


def test_a_hugging_face_folder_starts_the_text_tower_of_either_arch(tmp_path: Path):
    text = _hugging_face(tmp_path / "hf")
    for config in (dataclasses.replace(CONFIG, text=text), dataclasses.replace(tiny.MODEL, text=text)):
        found, (listing,) = pretrained.starting_weights(config, 7)
        assert listing.unused == ("cls.predictions.bias",)
        assert set(listing.missing) == {"text/pooler/kernel", "text/pooler/bias"}
        expected = weights.flat(_params(CONFIG))
        assert len(found) == 17
        for name, array in found.items():
            np.testing.assert_array_equal(array, expected[name])


@pytest.mark.parametrize(
    ("key", "value"),
    [("num_attention_heads", 4), ("hidden_act", "relu"), ("model_type", "roberta"), ("num_hidden_layers", 3),
     ("position_embedding_type", "relative_key"), ("layer_norm_eps", 1e-5)],
)  # fmt: skip
def test_what_shapes_would_not_tell_is_checked(tmp_path: Path, key: str, value):
    text = _hugging_face(tmp_path / "hf", **{key: value})
    with pytest.raises(InputError, match=key):
        pretrained.starting_weights(dataclasses.replace(CONFIG, text=text), 7)


def test_a_space_time_tower_is_not_for_the_study_encoder_nor_bert_for_our_text_tower(exported: Path):
    with pytest.raises(InputError, match=r"fits model.arch concat"):
        pretrained.starting_weights(_from(tiny.MODEL, video=exported / FILES[0]), 7)
    with pytest.raises(InputError, match=r"needs model.text.kind"):
        pretrained.starting_weights(_from(tiny.MODEL, text=exported / FILES[0]), 7)
