"""The sizes of published models: CMR-CLIP's config.json to a ModelConfig and back, and Hugging Face's against ours.

Heads and epsilons leave no trace in the shapes of weights, so a wrong one would go unseen: they are read, or held to
ours, where published.
"""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from cmr_jax.config import ModelConfig, TextConfig, VideoConfig
from cmr_jax.errors import InputError

# Fixed, and both directions summed, in the released training code.
TEMPERATURE = 0.05
_KINDS = {"bert": "bert", "distil": "distilbert", "distilbert": "distilbert"}


def released_config(sizes: Mapping[str, Any], state: Mapping[str, np.ndarray]) -> ModelConfig:
    """The model of a released checkpoint: `sizes` is its config.json, whose `state` tells the width of the MLPs.

    Raises:
      InputError: where a size is missing, or is one that this code does not run.
    """
    try:
        video, text = sizes["video"], sizes["text"]
        kind = _KINDS.get(text["kind"], "")
        _need("text.kind", bool(kind))
        for name, part in (("video", video), ("text", text)):
            _need(f"{name}.heads", part["width"] % part["heads"] == 0)
        hidden = state.get("video_model.blocks.0.mlp.fc1.weight", np.zeros((4 * video["width"], 0))).shape[0]
        inner = text.get("mlp", 4 * text["width"])
        return ModelConfig(
            arch="concat",
            video=VideoConfig(
                image_size=video["image_size"], frames=video["num_frames"], tubelet=1, patch=video["patch_size"],
                width=video["width"], depth=video["depth"], heads=video["heads"],
                mlp=_unless_usual(hidden, video["width"]), time_init="zeros",
                norm_epsilon=video.get("layer_norm_eps", VideoConfig.norm_epsilon),
            ),
            text=TextConfig(
                kind=kind, vocab_size=text["vocab"], pool=text.get("pool", "mean" if kind == "bert" else "cls"),
                length=text["max_positions"], positions=text["max_positions"], width=text["width"],
                depth=text["layers"], heads=text["heads"], mlp=_unless_usual(inner, text["width"]),
                norm_epsilon=text.get("layer_norm_eps", TextConfig.norm_epsilon),
            ),
            embed_dim=sizes["projection"], dtype="float32", remat="none", learn_temperature=False,
            temperature=sizes.get("temperature", TEMPERATURE),
            image_head=_head(state, "vid_proj"), text_head=_head(state, "txt_proj"),
        )  # fmt: skip
    except (KeyError, TypeError, AttributeError) as error:
        raise InputError(f"config.json of the released model lacks {error}") from None


def _unless_usual(hidden: int, width: int) -> int:
    """The width inside the MLPs as a config says it: 0 where it is the usual four times `width`."""
    return 0 if hidden == 4 * width else hidden


def released_sizes(config: ModelConfig) -> dict[str, Any]:
    """The inverse of `released_config`."""
    video, text = config.video, config.text
    return {
        "video": {
            "image_size": video.image_size, "patch_size": video.patch, "num_frames": video.frames,
            "width": video.width, "depth": video.depth, "heads": video.heads,
            "layer_norm_eps": video.norm_epsilon, "qkv_bias": True,
        },
        "text": {
            "kind": "bert" if text.kind == "bert" else "distil", "vocab": text.vocab_size, "width": text.width,
            "layers": text.depth, "heads": text.heads, "mlp": text.mlp_width, "pool": text.pool,
            "max_positions": text.positions or text.length, "layer_norm_eps": text.norm_epsilon,
        },
        "projection": config.embed_dim,
        "projection_head": " / ".join(sorted({config.image_head, config.text_head})),
    }  # fmt: skip


def check_hugging_face(found: Mapping[str, Any], text: TextConfig, source: str) -> None:
    """Holds a Hugging Face config.json to ours where the weights' shapes would not tell.

    Raises:
      InputError: naming the first setting that differs.
    """
    distil = text.kind == "distilbert"
    wanted = {
        "model_type": text.kind,
        "n_heads" if distil else "num_attention_heads": text.heads,
        "activation" if distil else "hidden_act": "gelu",
        "n_layers" if distil else "num_hidden_layers": text.depth,
    }
    for key, value in wanted.items():
        if found.get(key) != value:
            raise InputError(f"{source} has {key} {found.get(key)!r}, the config's model {value!r}")
    if found.get("position_embedding_type", "absolute") != "absolute":
        raise InputError(f"{source} has position_embedding_type {found['position_embedding_type']!r}, not 'absolute'")
    if not math.isclose(found.get("layer_norm_eps", text.norm_epsilon), text.norm_epsilon):
        raise InputError(
            f"{source} has layer_norm_eps {found['layer_norm_eps']!r}, the config's model {text.norm_epsilon}"
        )


def _need(name: str, holds: Any) -> None:
    if not holds:
        raise InputError(f"config.json of the released model: {name} is none that this code runs")


def _head(state: Mapping[str, np.ndarray], key: str) -> str:
    return "linear_bias" if f"{key}.0.weight" in state else "relu_linear"
