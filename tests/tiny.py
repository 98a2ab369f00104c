"""The smallest model and config that still have every part, for tests."""

import dataclasses
from typing import Any

import jax
import numpy as np

from cmr_jax.config import (
    Config,
    DataConfig,
    MeshConfig,
    ModelConfig,
    OptimConfig,
    TextConfig,
    TrainConfig,
    VideoConfig,
)
from cmr_jax.data import schema
from cmr_jax.models.build import Model, build
from cmr_jax.structs import Batch

VIDEO = VideoConfig(image_size=16, frames=4, tubelet=2, patch=8, width=32, depth=2, heads=2)
TEXT = TextConfig(vocab_size=40, length=16, width=32, depth=2, heads=2)
MODEL = ModelConfig(video=VIDEO, text=TEXT, embed_dim=16, dtype="float32", remat="none")


def config(path: Any = "", *, mesh: MeshConfig | None = None, **train: Any) -> Config:
    text = dataclasses.replace(TEXT, vocab_size=0)
    return Config(
        data=DataConfig(path=str(path), views=("cine_sax", "cine_sax", "cine_4ch"), shift_px=1),
        model=dataclasses.replace(MODEL, text=text),
        optim=OptimConfig(learning_rate=3e-3, warmup_steps=4),
        mesh=mesh or MeshConfig(),
        train=TrainConfig(**{"steps": 8, "batch_size": 16, "log_every": 1, "checkpoint_every": 0, **train}),
    )


def model(**changes: Any) -> Model:
    return build(dataclasses.replace(MODEL, **changes), len(schema.VIEWS))


def batch(size: int = 8, series: int = 3, seed: int = 0) -> Batch:
    """A batch on the device with some padding everywhere."""
    rng = np.random.default_rng(seed)
    lengths = rng.integers(3, TEXT.length, size)
    host = Batch(
        video_BVTHW=rng.integers(0, 255, (size, series, 4, 16, 16)).astype(np.uint8),
        video_mask_BVT=np.ones((size, series, 4), bool),
        view_BV=rng.integers(0, len(schema.VIEWS), (size, series)).astype(np.int32),
        slice_BV=rng.random((size, series)).astype(np.float32),
        tokens_BL=rng.integers(4, 40, (size, TEXT.length)).astype(np.int32),
        token_mask_BL=np.arange(TEXT.length)[None, :] < lengths[:, None],
        text_id_B=np.arange(size, dtype=np.int32),
        row_B=np.arange(size, dtype=np.int32),
    )
    return jax.tree.map(jax.numpy.asarray, host)
