"""Names and layouts of published weights, and how each stands in our parameters: one table, read in both directions.

Sources: the released CMR-CLIP code (its state dict is Frozen-in-Time's with a BERT or DistilBERT inside), Hugging Face
BERT and DistilBERT, timm's vision transformer (Frozen-in-Time took its names from there).
"""

import dataclasses
import math

import numpy as np

from cmr_jax.config import ModelConfig

LAYER = "{i}"


@dataclasses.dataclass(frozen=True)
class Rule:
    """Our leaf `ours` is `theirs`, turned by `form`; several of theirs are joined on the last axis.

    `{i}` in `theirs` counts layers, which are stacked on axis 0 of ours. `resample` says along what a position table of
    another size is resampled: "time", "grid" (row 0 is CLS), "text", or "" for never.
    """

    ours: str
    theirs: tuple[str, ...]
    form: str = "same"
    resample: str = ""

    def names(self, layers: int) -> list[tuple[str, ...]]:
        """The names in their state dict: one tuple a layer, or a single one."""
        count = layers if any(LAYER in name for name in self.theirs) else 1
        return [tuple(name.replace(LAYER, str(i)) for name in self.theirs) for i in range(count)]


def to_ours(form: str, array: np.ndarray) -> np.ndarray:
    """`linear`: out x in to in x out. `conv`: D C p p to (C p p) D. `row`: 1 1 D to D. `rows`: 1 N D to N D."""
    if form == "linear":
        return array.T
    if form == "conv":
        return array.reshape(len(array), -1).T
    if form == "row":
        return array.reshape(-1)
    return array[0] if form == "rows" else array


def to_theirs(form: str, array: np.ndarray) -> np.ndarray:
    """The inverse of `to_ours`; convolutions have three channels and square kernels."""
    if form == "linear":
        return array.T
    if form == "conv":
        side = math.isqrt(array.shape[0] // 3)
        return array.T.reshape(array.shape[1], 3, side, side)
    if form == "row":
        return array[None, None]
    return array[None] if form == "rows" else array


def linear_rules(ours: str, *theirs: str) -> list[Rule]:
    return [
        Rule(f"{ours}/kernel", tuple(f"{name}.weight" for name in theirs), "linear"),
        Rule(f"{ours}/bias", tuple(f"{name}.bias" for name in theirs)),
    ]


def norm_rules(ours: str, theirs: str) -> list[Rule]:
    return [Rule(f"{ours}/scale", (f"{theirs}.weight",)), Rule(f"{ours}/bias", (f"{theirs}.bias",))]


def video_rules(prefix: str = "video_model.") -> list[Rule]:
    """The space-time tower; without `prefix` and the temporal parts these are timm's names."""
    block, ours = f"{prefix}blocks.{LAYER}", "image/stack/blocks"
    return [
        Rule("image/patch/kernel", (f"{prefix}patch_embed.proj.weight",), "conv"),
        Rule("image/patch/bias", (f"{prefix}patch_embed.proj.bias",)),
        Rule("image/cls", (f"{prefix}cls_token",), "row"),
        Rule("image/position", (f"{prefix}pos_embed",), "rows", "grid"),
        Rule("image/time_position", (f"{prefix}temporal_embed",), "rows", "time"),
        *norm_rules("image/norm", f"{prefix}norm"),
        *norm_rules(f"{ours}/space_norm", f"{block}.norm1"),
        *norm_rules(f"{ours}/mlp_norm", f"{block}.norm2"),
        *norm_rules(f"{ours}/time_norm", f"{block}.norm3"),
        *linear_rules(f"{ours}/space/qkv", f"{block}.attn.qkv"),
        *linear_rules(f"{ours}/space/out", f"{block}.attn.proj"),
        *linear_rules(f"{ours}/time/qkv", f"{block}.timeattn.qkv"),
        *linear_rules(f"{ours}/time/out", f"{block}.timeattn.proj"),
        *linear_rules(f"{ours}/up", f"{block}.mlp.fc1"),
        *linear_rules(f"{ours}/down", f"{block}.mlp.fc2"),
    ]


def text_rules(kind: str, prefix: str = "text_model.") -> list[Rule]:
    """BERT or DistilBERT; Hugging Face's names without `prefix`."""
    embeddings, ours = f"{prefix}embeddings", "text/stack/blocks"
    rules = [
        Rule("text/token/embedding", (f"{embeddings}.word_embeddings.weight",)),
        Rule("text/position", (f"{embeddings}.position_embeddings.weight",), resample="text"),
        *norm_rules("text/embedding_norm", f"{embeddings}.LayerNorm"),
    ]
    if kind == "bert":
        block = f"{prefix}encoder.layer.{LAYER}"
        qkv = [f"{block}.attention.self.{name}" for name in ("query", "key", "value")]
        names = (f"{block}.attention.output.dense", f"{block}.attention.output.LayerNorm")
        mlp = (f"{block}.intermediate.dense", f"{block}.output.dense", f"{block}.output.LayerNorm")
        rules.append(Rule("text/token_type/embedding", (f"{embeddings}.token_type_embeddings.weight",)))
        rules += linear_rules("text/pooler", f"{prefix}pooler.dense")
    else:
        block = f"{prefix}transformer.layer.{LAYER}"
        qkv = [f"{block}.attention.{name}_lin" for name in "qkv"]
        names = (f"{block}.attention.out_lin", f"{block}.sa_layer_norm")
        mlp = (f"{block}.ffn.lin1", f"{block}.ffn.lin2", f"{block}.output_layer_norm")
    return [
        *rules,
        *linear_rules(f"{ours}/qkv", *qkv),
        *linear_rules(f"{ours}/out", names[0]),
        *norm_rules(f"{ours}/attention_norm", names[1]),
        *linear_rules(f"{ours}/up", mlp[0]),
        *linear_rules(f"{ours}/down", mlp[1]),
        *norm_rules(f"{ours}/mlp_norm", mlp[2]),
    ]


def head_rules(config: ModelConfig) -> tuple[list[Rule], list[Rule]]:
    """The two projections: after a ReLU they are number 1 of their sequence, without one number 0 (Frozen-in-Time's
    video side). Empty for a head without a bias, which no released model has."""
    number = {"relu_linear": 1, "linear_bias": 0}
    both = (("image_projection", "vid_proj", config.image_head), ("text_projection", "txt_proj", config.text_head))
    image, text = (
        linear_rules(f"{ours}/linear", f"{theirs}.{number[head]}") if head in number else []
        for ours, theirs, head in both
    )
    return image, text
