"""Published weights in, and ours out under published names.

`load_cmrclip` runs a released CMR-CLIP as it is; `starting_weights` gives a config's `init_from` to a training run;
`export_cmrclip` writes a trained model as the released code would have.
"""

import dataclasses
import functools
import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import safetensors.numpy

from cmr_jax.config import ModelConfig
from cmr_jax.errors import InputError
from cmr_jax.models import weights
from cmr_jax.models.build import Model, build
from cmr_jax.models.released import Rule, head_rules, text_rules, video_rules
from cmr_jax.models.sizes import check_hugging_face, released_config, released_sizes
from cmr_jax.models.timm import study_weights
from cmr_jax.structs import Params

WEIGHTS = "state_dict.safetensors"
SIZES = "config.json"
# What a checkpoint may hold that nothing reads: a buffer of Hugging Face's, heads of other tasks.
_IDLE = r"position_ids$|^cls\.|^vocab_(transform|layer_norm|projector)\.|^(head|head_dist|fc_norm|pre_logits)\."
# What a text model may lack: BERT can be saved without its pooler.
_OPTIONAL = r"^text/pooler/"
_QKV_BIAS = r"^image/.*/qkv/bias$"
_TEMPORAL = r"/time_norm/|/time/|/time_position$"


@dataclasses.dataclass(frozen=True)
class ReleasedModel:
    """A released CMR-CLIP as functions. `model` is the same as the trainer takes it."""

    model: Model

    def apply(self, params: Params, *, video: Any, tokens: Any, token_mask: Any) -> dict[str, jax.Array]:
        """`video` `B T 3 H W`, normalised floats, T at most the model's frames; `tokens` and `token_mask` `B L`.

        `video_features B D`, `video_embedding B E`, `text_hidden B L D`, `text_features B D`, `text_embedding B E`
        (before they are brought to unit length): float32, or float64 where jax_enable_x64 is on.
        """
        dtype = jnp.zeros(()).dtype
        params = jax.tree.map(lambda leaf: jnp.asarray(leaf, dtype), params)
        model = self._wide if dtype == jnp.float64 else self.model
        # flax's norm asks for promotion in float64.
        with jax.default_matmul_precision("highest"), jax.numpy_dtype_promotion("standard"):
            return model.stages(params, jnp.asarray(video, dtype), jnp.asarray(tokens), jnp.asarray(token_mask) > 0)

    @functools.cached_property
    def _wide(self) -> Model:
        return build(dataclasses.replace(self.model.config, dtype="float64"), self.model.num_views)


def load_cmrclip(state_dict_path: str | Path, config_json_path: str | Path) -> tuple[ReleasedModel, Params]:
    """A released checkpoint and its sizes as a model and its parameters (float32).

    Raises:
      InputError: where a file is missing or damaged, or the two do not fit together.
    """
    state = weights.read_state(Path(state_dict_path))
    sizes = _read_json(Path(config_json_path))
    config = released_config(sizes, state)
    model = build(config, num_views=0)
    shapes = weights.flat(model.abstract_params())
    may_miss = _OPTIONAL if sizes["video"].get("qkv_bias", True) else f"{_OPTIONAL}|{_QKV_BIAS}"
    found, _ = weights.take(
        state, released_rules(config), _shapes(shapes), source="the state dict", may_miss=may_miss, may_waste=_IDLE
    )
    found["log_scale"] = np.array(-math.log(config.temperature), np.float32)
    for name in set(shapes) - set(found):  # a pooler that was not saved, biases that the model has not
        found[name] = np.zeros(shapes[name].shape, np.float32)
    return ReleasedModel(model), weights.nested({name: jnp.asarray(array) for name, array in found.items()})


def released_rules(config: ModelConfig) -> list[Rule]:
    """Every name of a released state dict of this config.

    Raises:
      InputError: where the config is of another model, which has no released names.
    """
    if config.arch != "concat" or config.text.kind == "pre_norm":
        raise InputError("released names are for model.arch concat with model.text.kind bert or distilbert")
    image_head, text_head = head_rules(config)
    if not image_head or not text_head:
        raise InputError("released names are for heads relu_linear or linear_bias")
    return [*video_rules(), *image_head, *text_rules(config.text.kind), *text_head]


def export_cmrclip(params: Params, config: ModelConfig, out: str | Path) -> None:
    """Writes `state_dict.safetensors` under the released names and `config.json` (sizes) to the folder `out`, which
    `load_cmrclip`, and as `init_from` the trainer, read again bitwise. The temperature stands in `config.json`.

    Raises:
      InputError: where the config has no released names.
    """
    rules, flat = released_rules(config), weights.flat(params)
    state = weights.give(flat, rules)
    sizes = released_sizes(config) | {
        "n_params": sum(array.size for array in state.values()),
        "temperature": math.exp(-float(flat["log_scale"])),
    }
    folder = Path(out)
    folder.mkdir(parents=True, exist_ok=True)
    temporary = folder / (WEIGHTS + ".tmp")
    safetensors.numpy.save_file(state, temporary)
    temporary.replace(folder / WEIGHTS)
    (folder / SIZES).write_text(json.dumps(sizes, indent=1))


def starting_weights(config: ModelConfig, num_views: int) -> tuple[dict[str, np.ndarray], list[weights.Listing]]:
    """The parameters that `model.video.init_from` and `model.text.init_from` give, by path, and what became of every
    key. Empty where neither is set.

    Raises:
      InputError: for a file that is missing, damaged, or of a model that does not fit the config.
    """
    found: dict[str, np.ndarray] = {}
    listings = []
    shapes = _shapes(weights.flat(build(config, num_views).abstract_params()))
    for part, where in (("video", config.video.init_from), ("text", config.text.init_from)):
        if where:
            read, listing = (_start_video if part == "video" else _start_text)(Path(where), config, shapes)
            found |= read
            listings.append(listing)
    return found, listings


def overlay(params: Params, found: Mapping[str, np.ndarray]) -> Params:
    """`params` with the leaves that `found` has (by path), each placed as the leaf it replaces."""

    def placed(name: str, leaf: jax.Array) -> jax.Array:
        if name not in found:
            return leaf
        new = found[name].astype(leaf.dtype)
        return jax.make_array_from_callback(leaf.shape, leaf.sharding, lambda index: new[index])

    return weights.nested({name: placed(name, leaf) for name, leaf in weights.flat(params).items()})


def _start_video(path: Path, config: ModelConfig, shapes: Mapping[str, tuple[int, ...]]):
    state = weights.read_state(path)
    source = f"model.video.init_from ({path.name})"
    if any(name.startswith("video_model.") for name in state):
        if config.arch != "concat":
            raise InputError(f"{source} is a space-time tower: it fits model.arch concat")
        rules = [*video_rules(), *_fitting(head_rules(config)[0], state, shapes)]
        return weights.take(
            state, rules, shapes, source=source, may_waste=rf"^(text_model|txt_proj|vid_proj)\.|{_IDLE}"
        )
    if config.arch == "concat":
        return weights.take(state, video_rules(""), shapes, source=source, may_miss=_TEMPORAL, may_waste=_IDLE)
    return study_weights(state, config.video, shapes, source=source, may_waste=_IDLE)


def _start_text(path: Path, config: ModelConfig, shapes: Mapping[str, tuple[int, ...]]):
    text, source = config.text, f"model.text.init_from ({path.name})"
    if text.kind == "pre_norm":
        raise InputError(f"{source} needs model.text.kind bert or distilbert")
    if path.is_dir():
        check_hugging_face(_read_json(path / SIZES), text, source)
        names = ("pytorch_model.bin", "model.safetensors")
        path = path / names[(path / names[1]).is_file() or not (path / names[0]).is_file()]
    state = weights.read_state(path)
    if any(name.startswith("text_model.") for name in state):
        rules = [*text_rules(text.kind), *_fitting(head_rules(config)[1], state, shapes)]
        waste = rf"^(video_model|vid_proj|txt_proj)\.|^text_model\.pooler\.|{_IDLE}"
        return weights.take(state, rules, shapes, source=source, may_miss=_OPTIONAL, may_waste=waste)
    state = {name.removeprefix("bert.").removeprefix("distilbert."): array for name, array in state.items()}
    state = {
        name.replace("LayerNorm.gamma", "LayerNorm.weight").replace("LayerNorm.beta", "LayerNorm.bias"): array
        for name, array in state.items()
    }
    rules = text_rules(text.kind, "")
    return weights.take(state, rules, shapes, source=source, may_miss=_OPTIONAL, may_waste=_IDLE)


def _fitting(head: list[Rule], state: weights.State, shapes: Mapping[str, tuple[int, ...]]) -> list[Rule]:
    """The head's rules where the checkpoint has this very head, none where it is another (then it is listed unused)."""
    fits = [r.theirs[0] in state and state[r.theirs[0]].shape[::-1] == shapes[r.ours] for r in head]
    return head if fits and all(fits) else []


def _shapes(abstract: Mapping[str, Any]) -> dict[str, tuple[int, ...]]:
    return {name: tuple(leaf.shape) for name, leaf in abstract.items()}


def _read_json(path: Path) -> dict[str, Any]:
    try:
        return json.loads(path.read_text())
    except (OSError, ValueError):
        raise InputError(f"no readable {path.name!r} beside the weights") from None
