"""Every setting of an experiment: its default, its meaning, its check.

`configs/*.py` fill these dataclasses, `bin/` turns command-line overrides into them once; the library sees only the
frozen, checked values.
"""

import dataclasses
import types
import typing
from collections.abc import Mapping
from typing import Any

from cmr_jax.errors import InputError, nearest


@dataclasses.dataclass(frozen=True)
class DataConfig:
    path: str = ""
    # One slot a series the model sees. A view named k times takes k slices spread over its stack.
    views: tuple[str, ...] = ("cine_sax", "cine_sax", "cine_sax", "cine_2ch", "cine_4ch")
    # A study with none of `views` is shown by these, so that it can still be trained on and embedded.
    fallback_views: tuple[str, ...] = ("cine_lax", "scout", "unknown")
    sections: tuple[str, ...] = ("findings", "impression")
    # Millimetres a pixel of what the model sees, a whole multiple of the records'; then cut about the centre to
    # model.video.image_size. 0: the records' whole field of view, averaged down to that size.
    spacing_mm: float = 0.0
    # What the window of the model is cut about: the "image", the "motion" of a cine, which is its heart, or the "ring"
    # of its left ventricle (short axis).
    centre: str = "image"
    # "record": as stored. "heart": what lies around the centre stretched to fixed levels, so that a bright chest wall
    # or another coil makes no other heart.
    brightness: str = "record"
    # "picture", or "sectors": the window (data.centre "ring", data.spacing_mm) by angle and radius about its centre, a
    # sector of the circle to a patch.
    layout: str = "picture"
    # Augmentations, training only. No mirror flip by default: it makes another heart.
    phase_roll: bool = True
    shift_px: int = 2
    intensity: float = 0.1
    # Turned about the centre by up to so many degrees either way, and made larger or smaller by up to this share.
    rotate_degrees: float = 0.0
    scale: float = 0.0
    slice_jitter: bool = True
    # Chance that a cine is shown by the ends of its diastole and its systole alone, each held for half the beat, as one
    # is that was archived with its contours only. Layout sectors.
    two_phases: float = 0.0
    # One draw a study, uniform up to: exponent of gamma, of coil shading over half the window, either way; blur, 0 to 1
    # (a mean of three pixels); noise as part of the whole range.
    gamma: float = 0.0
    shading: float = 0.0
    blur: float = 0.0
    noise: float = 0.0
    # Chance that a view is hidden from a study in training; at least one view always stays.
    view_dropout: float = 0.0
    # A part of each report as an extra positive, anew in every step: "section" draws one of `sections`, "sentence" some
    # of their sentences in order. "none": the whole text alone. Evaluation always reads the whole text.
    text_sampling: str = "none"
    # Control experiment: every study gets another study's report. A model trained so must score chance.
    shuffle_pairs: bool = False
    num_threads: int = 2
    prefetch: int = 4


@dataclasses.dataclass(frozen=True)
class VideoConfig:
    image_size: int = 64
    frames: int = 10
    tubelet: int = 2
    patch: int = 16
    width: int = 96
    depth: int = 3
    heads: int = 4
    mlp_ratio: int = 4
    # Width inside the MLPs; 0: mlp_ratio times width.
    mlp: int = 0
    # arch "study" only, like all up to `motion_gain`. "divided": each of `depth` blocks attends along time, then over
    # the patches of a frame. "factorised": `depth` blocks within a frame, then `phase_depth` over the frames of a
    # series, each a mean of its patches.
    attention: str = "divided"
    phase_depth: int = 0
    # Blocks over the series (slices and views) of a study, before they are pooled; 0: none.
    series_depth: int = 0
    # Share of patches, of frames, of series that training leaves out, drawn anew in every step (FLIP, arXiv
    # 2212.00794). What is left out is not computed.
    patch_dropout: float = 0.0
    phase_dropout: float = 0.0
    slice_dropout: float = 0.0
    # Multiplies what a pixel departs from its own mean over the beat, which is small beside the mean: above 1, motion
    # is learned in fewer steps.
    motion_gain: float = 1.0
    # arch "concat" only. "zeros": temporal qkv 0 and projection weights 1, the published start, which never learns.
    # "zero_projection": normally drawn qkv and projection 0, which starts as the same image model and does.
    time_init: str = "zero_projection"
    norm_epsilon: float = 1e-6
    # Weights to start from, read once: a released checkpoint, or a timm ViT (ImageNet), as safetensors.
    init_from: str = ""

    @property
    def mlp_width(self) -> int:
        return self.mlp or self.mlp_ratio * self.width


@dataclasses.dataclass(frozen=True)
class TextConfig:
    # "pre_norm": ours. "bert" (BERT, MiniLM) and "distilbert": as published.
    kind: str = "pre_norm"
    # 0: as large as the data's own tokenizer.
    vocab_size: int = 0
    # What stands for the text: "mean" of the valid tokens, or the first token, "cls".
    pool: str = "mean"
    # Rows of the position table; 0: `length`. Published tables have 512, whatever is read of them.
    positions: int = 0
    # Of the hidden states of bert and distilbert, in training (0.1 as published).
    dropout: float = 0.0
    # Of the norms of bert and distilbert.
    norm_epsilon: float = 1e-12
    # Folder of a Hugging Face model (config.json, model.safetensors, vocab.txt) or a released checkpoint.
    init_from: str = ""
    # WordPiece vocabulary (vocab.txt, or tokenizer.json of this package); "": that of init_from's folder if it has one,
    # else the data's own sentencepiece model.
    vocab: str = ""
    length: int = 128
    width: int = 96
    depth: int = 2
    heads: int = 4
    mlp_ratio: int = 4
    # Width inside the MLPs; 0: mlp_ratio times width.
    mlp: int = 0

    @property
    def mlp_width(self) -> int:
        return self.mlp or self.mlp_ratio * self.width


@dataclasses.dataclass(frozen=True)
class ModelConfig:
    # "study": each series by itself, pooled over whatever is there. "concat": all views in one clip (CMR-CLIP).
    arch: str = "study"
    video: VideoConfig = VideoConfig()
    text: TextConfig = TextConfig()
    embed_dim: int = 64
    # "linear" has no bias; "relu_linear" has a ReLU before it and a bias (CMR-CLIP); "linear_bias".
    image_head: str = "linear"
    text_head: str = "linear"
    # Parameters, norms, softmax and logits are float32 whatever this says.
    dtype: str = "bfloat16"
    # "none" keeps every activation, "full" recomputes each block, "dots" keeps the matrix products.
    remat: str = "full"
    dropout: float = 0.0
    temperature: float = 0.07
    learn_temperature: bool = True
    # Numbers that reports state (names of `data.schema.NUMBERS`), read off the study's embedding by a linear layer and
    # held to the report's: see loss.numbers_weight.
    numbers: tuple[str, ...] = ()
    # Start of the learned bias of the sigmoid loss (-10 in SigLIP, arXiv 2303.15343, section 3.2); 0: none.
    logit_bias: float = 0.0


@dataclasses.dataclass(frozen=True)
class LossConfig:
    kind: str = "softmax"
    method: str = "gather"
    # Studies that show the same text are positives of one another.
    same_text_positive: bool = True
    # Texts alike from here on (cosine of their token triples) are soft positives: the target rises from 0 here to 1 for
    # equal ones. 0: only equal texts are positives.
    similar_from: float = 0.0
    # CMR-CLIP sums the two directions of softmax: 2.
    weight: float = 1.0
    # Of the loss between image and sampled part of the text (data.text_sampling), beside 1 for the whole text.
    part_weight: float = 0.5
    # Of the error of model.numbers, beside the contrastive loss, which does not say that 45 lies between 40 and 50.
    numbers_weight: float = 10.0


@dataclasses.dataclass(frozen=True)
class OptimConfig:
    learning_rate: float = 1e-3
    warmup_steps: int = 20
    # Where the warm-up starts.
    warmup_from: float = 0.0
    weight_decay: float = 0.05
    b1: float = 0.9
    b2: float = 0.98
    # 0: gradients are not clipped.
    clip_norm: float = 1.0
    # After the warm-up: "cosine" or "linear" to zero at the last step, or "constant".
    schedule: str = "cosine"
    # The warm-up in passes over the data or in studies instead of steps; 0: `warmup_steps` holds.
    warmup_epochs: float = 0.0
    warmup_examples: int = 0
    # Patterns of parameters that stay as they are (^image/ locks the image tower: LiT, arXiv 2111.07991).
    freeze: tuple[str, ...] = ()
    # Shares of the learning rate for the towers, and from block to block downwards (BEiT, arXiv 2106.08254): the last
    # block has the tower's rate, the one below it this share of it, the embeddings one share less than the first.
    image_rate: float = 1.0
    text_rate: float = 1.0
    layer_decay: float = 1.0
    # Weight of the past in an average of the parameters over steps, which evaluation and embed then read; 0: none.
    ema_decay: float = 0.0


@dataclasses.dataclass(frozen=True)
class MeshConfig:
    # -1: all devices that `fsdp` and `model` leave.
    data: int = -1
    fsdp: int = 1
    # Devices that share each study: the MLPs' hidden units are split over them.
    model: int = 1


@dataclasses.dataclass(frozen=True)
class TrainConfig:
    steps: int = 400
    # The length of the run in passes over the data or in studies instead; 0: `steps` holds.
    epochs: float = 0.0
    examples: int = 0
    batch_size: int = 32
    # Parts that each batch is embedded in, one after the other (GradCache): memory of one, negatives of all.
    micro_batches: int = 1
    seed: int = 0
    log_every: int = 10
    # 0: only at the end.
    checkpoint_every: int = 100
    keep_checkpoints: int = 2
    # 0: never. Retrieval on the validation split.
    eval_every: int = 0
    # Updates with a loss or gradient that is not finite are skipped, and so are spikes; this many in a row end the run.
    max_skipped: int = 10
    # A loss this many times the usual one, a mean over the last thirty or so, is a spike; a state that leads to one
    # never becomes the last good checkpoint.
    spike_factor: float = 10.0
    # Without progress for so long a process dumps its stacks, names the one that is late and ends the job; 0: never.
    # Start-up and the first compile may take ten times as long.
    watchdog_seconds: int = 1800
    # The first step that jax.profiler traces, and how many; 0: none.
    profile_start: int = 0
    profile_steps: int = 0


@dataclasses.dataclass(frozen=True)
class Config:
    data: DataConfig = DataConfig()
    model: ModelConfig = ModelConfig()
    loss: LossConfig = LossConfig()
    optim: OptimConfig = OptimConfig()
    mesh: MeshConfig = MeshConfig()
    train: TrainConfig = TrainConfig()

    @property
    def num_series(self) -> int:
        """V of a batch: one a view, or the one clip that holds all of them."""
        return 1 if self.model.arch == "concat" else len(self.data.views)


# What must hold, and what to say where it does not.
Rules = list[tuple[bool, str]]


def to_dict(config: Any) -> dict[str, Any]:
    """Plain nested dict, tuples kept; the inverse of `from_dict`."""
    return {
        f.name: to_dict(v) if dataclasses.is_dataclass(v := getattr(config, f.name)) else v
        for f in dataclasses.fields(config)
    }


def from_dict(raw: Mapping[str, Any]) -> Config:
    """Builds and checks a Config.

    Raises:
      InputError: for an unknown key (naming its nearest neighbour), a value of another type, or values that do not
        fit together.
    """
    config = _build(Config, raw, "config")
    _check(config)
    return config


def _build(cls: type, raw: Mapping[str, Any], where: str) -> Any:
    hints = typing.get_type_hints(cls)
    for key in raw:
        if key not in hints:
            raise InputError(f"unknown config key {where}.{key}{nearest(key, hints)}")
    values = {
        key: _build(hints[key], value, f"{where}.{key}")
        if dataclasses.is_dataclass(hints[key])
        else _convert(value, hints[key], f"{where}.{key}")
        for key, value in raw.items()
    }
    return cls(**values)


def _convert(value: Any, hint: Any, where: str) -> Any:
    if isinstance(hint, types.GenericAlias):
        if isinstance(value, str) or not all(isinstance(v, str) for v in value):
            raise InputError(f"{where} is a list of names, not {value!r}")
        return tuple(name for item in value for name in item.split(","))
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if not isinstance(value, hint) or (hint is int and isinstance(value, bool)):
        raise InputError(f"{where} is of type {hint.__name__}, not {value!r}")
    return value


def _check(config: Config) -> None:
    rules = (
        *_data_rules(config.data),
        *_video_rules(config.model),
        *_text_rules(config.model.text),
        *_model_rules(config.model),
        *_loss_rules(config),
        *_optim_rules(config.optim),
        *_train_rules(config),
        (config.mesh.fsdp >= 1 and config.mesh.model >= 1, "mesh.fsdp and mesh.model must be at least 1"),
        (config.mesh.data == -1 or config.mesh.data >= 1, "mesh.data is -1 (the rest) or at least 1"),
    )
    for holds, message in rules:
        if not holds:
            raise InputError("config: " + message)


def _one_of(value: str, where: str, names: tuple[str, ...]) -> tuple[bool, str]:
    return value in names, f"{where} is one of {', '.join(names)}"


def _data_rules(data: DataConfig) -> Rules:
    return [
        (len(data.views) > 0, "data.views names at least one view"),
        (len(data.sections) > 0, "data.sections names at least one section"),
        (data.spacing_mm >= 0, "data.spacing_mm is a length, or 0 for the records' field of view"),
        _one_of(data.centre, "data.centre", ("image", "motion", "ring")),
        _one_of(data.layout, "data.layout", ("picture", "sectors")),
        (data.layout == "picture" or data.spacing_mm > 0, "data.layout sectors needs data.spacing_mm"),
        _one_of(data.brightness, "data.brightness", ("record", "heart")),
        *((getattr(data, name) >= 0, f"data.{name} is 0 or more") for name in ("gamma", "shading", "blur", "noise")),
        (data.blur <= 1, "data.blur lies in [0, 1]"),
        (0 <= data.rotate_degrees <= 180, "data.rotate_degrees lies in [0, 180]"),
        (0 <= data.scale < 1, "data.scale lies in [0, 1)"),
        (0 <= data.two_phases <= 1, "data.two_phases lies in [0, 1]"),
        (data.two_phases == 0 or data.layout == "sectors", "data.two_phases goes with data.layout sectors"),
        (0 <= data.view_dropout < 1, "data.view_dropout lies in [0, 1)"),
        _one_of(data.text_sampling, "data.text_sampling", ("none", "section", "sentence")),
    ]


def _video_rules(model: ModelConfig) -> Rules:
    video = model.video
    dropped = {name: getattr(video, name) for name in ("patch_dropout", "phase_dropout", "slice_dropout")}
    return [
        (video.image_size % video.patch == 0, "model.video.image_size must be a multiple of model.video.patch"),
        (video.frames % video.tubelet == 0, "model.video.frames must be a multiple of model.video.tubelet"),
        (video.width % video.heads == 0, "model.video.width must be a multiple of model.video.heads"),
        (video.norm_epsilon > 0, "model.video.norm_epsilon must be positive"),
        _one_of(video.time_init, "model.video.time_init", ("zeros", "zero_projection")),
        _one_of(video.attention, "model.video.attention", ("divided", "factorised")),
        (
            (video.attention == "factorised") == (video.phase_depth > 0),
            "model.video.attention factorised goes with a model.video.phase_depth of at least 1, divided with 0",
        ),
        (video.series_depth >= 0, "model.video.series_depth is a number of blocks, or 0 for none"),
        (video.motion_gain > 0, "model.video.motion_gain must be positive"),
        *((0 <= rate < 1, f"model.video.{name} lies in [0, 1)") for name, rate in dropped.items()),
        (model.arch != "concat" or video.tubelet == 1, "model.arch concat goes with model.video.tubelet 1"),
        (
            model.arch == "study"
            or not any((*dropped.values(), video.phase_depth, video.series_depth, video.motion_gain != 1)),
            "model.video.phase_depth, series_depth, motion_gain and the dropouts beside them go with model.arch study",
        ),
    ]


def _text_rules(text: TextConfig) -> Rules:
    return [
        (text.width % text.heads == 0, "model.text.width must be a multiple of model.text.heads"),
        (text.length >= 2, "model.text.length must be at least 2"),
        _one_of(text.kind, "model.text.kind", ("pre_norm", "bert", "distilbert")),
        _one_of(text.pool, "model.text.pool", ("mean", "cls")),
        (
            text.positions == 0 or text.positions >= text.length,
            "model.text.positions is 0 or at least model.text.length",
        ),
        (text.norm_epsilon > 0, "model.text.norm_epsilon must be positive"),
        (0 <= text.dropout < 1, "model.text.dropout lies in [0, 1)"),
    ]


def _model_rules(model: ModelConfig) -> Rules:
    heads = ("linear", "relu_linear", "linear_bias")
    return [
        _one_of(model.arch, "model.arch", ("study", "concat")),
        _one_of(model.image_head, "model.image_head", heads),
        _one_of(model.text_head, "model.text_head", heads),
        _one_of(model.remat, "model.remat", ("none", "full", "dots")),
        _one_of(model.dtype, "model.dtype", ("float32", "bfloat16")),
        (0 <= model.dropout < 1, "model.dropout lies in [0, 1)"),
        (model.temperature > 0, "model.temperature must be positive"),
    ]


def _loss_rules(config: Config) -> Rules:
    loss = config.loss
    return [
        _one_of(loss.kind, "loss.kind", ("softmax", "sigmoid")),
        (
            (loss.kind == "sigmoid") == (config.model.logit_bias != 0),
            "loss.kind sigmoid goes with a model.logit_bias (such as -10.0), softmax with 0",
        ),
        _one_of(loss.method, "loss.method", ("gather", "ring")),
        (loss.weight > 0, "loss.weight must be positive"),
        (loss.part_weight > 0, "loss.part_weight must be positive"),
        (loss.numbers_weight > 0, "loss.numbers_weight must be positive"),
        (0 <= loss.similar_from < 1, "loss.similar_from lies in [0, 1)"),
        (
            loss.same_text_positive or not loss.similar_from,
            "loss.similar_from goes with loss.same_text_positive",
        ),
    ]


def _optim_rules(optim: OptimConfig) -> Rules:
    return [
        _one_of(optim.schedule, "optim.schedule", ("cosine", "linear", "constant")),
        (optim.clip_norm >= 0, "optim.clip_norm is positive, or 0 for none"),
        (min(optim.image_rate, optim.text_rate) > 0, "optim.image_rate and text_rate must be positive"),
        (0 < optim.layer_decay <= 1, "optim.layer_decay lies in (0, 1]"),
        (0 <= optim.ema_decay < 1, "optim.ema_decay lies in [0, 1)"),
    ]


def _train_rules(config: Config) -> Rules:
    train, optim = config.train, config.optim
    return [
        (train.steps >= 1, "train.steps must be at least 1"),
        (train.batch_size >= 2, "train.batch_size must be at least 2: a contrastive loss needs a negative"),
        (
            train.micro_batches >= 1 and train.batch_size % train.micro_batches == 0,
            "train.batch_size must be a multiple of train.micro_batches",
        ),
        (
            min(train.epochs, train.examples, optim.warmup_epochs, optim.warmup_examples) >= 0
            and not (train.epochs and train.examples)
            and not (optim.warmup_epochs and optim.warmup_examples),
            "train and optim.warmup_ count in epochs or in examples (at least 0), not in both",
        ),
        (train.log_every >= 1, "train.log_every must be at least 1"),
        (train.max_skipped >= 1, "train.max_skipped must be at least 1"),
        (train.spike_factor > 1, "train.spike_factor must be more than 1"),
        (train.watchdog_seconds >= 0, "train.watchdog_seconds is a time, or 0 for none"),
        (train.keep_checkpoints >= 1, "train.keep_checkpoints must be at least 1"),
    ]
