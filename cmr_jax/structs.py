"""The types that cross a station, and the letters that name their dimensions.

| letter | dimension            | letter | dimension        |
|--------|----------------------|--------|------------------|
| B      | batch (studies)      | L      | text length      |
| V      | series of a study    | D      | width            |
| S      | slices of a series   | N      | heads, or rows   |
| T      | frames (phases)      | K      | head dimension   |
| H W    | pixels               | F      | MLP width        |
| P      | patches of a frame   | E      | embedding        |
| M      | B x V flattened      | Q      | classes, numbers |

`Embeddings` stands in `evals/export.py`: scoring never imports jax.
"""

import dataclasses
from typing import Any

import jax

Params = Any  # a nested dict of float32 arrays
Metrics = dict[str, float]


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Batch:
    """One global batch of studies, host or device arrays alike.

    `video_BVTHW` uint8; `video_mask_BVT` bool, False for frames that pad; `view_BV` int32 rows of `schema.VIEWS`;
    `slice_BV` float32, 0 at the base and 1 at the apex of the stack; `tokens_BL` int32; `token_mask_BL` bool;
    `text_id_B` int32, equal for studies that show the same text; `row_B` int32, the study's row in its split.
    `part_*`: the same three of a sampled part of the text, where training has one (`data.text_sampling`).
    `number_BQ` float32, where training has `model.numbers`: what the report states of each, as far from its usual value
    in units of `schema.NUMBERS`; NaN where it states none.
    """

    video_BVTHW: Any
    video_mask_BVT: Any
    view_BV: Any
    slice_BV: Any
    tokens_BL: Any
    token_mask_BL: Any
    text_id_B: Any
    row_B: Any
    part_tokens_BL: Any = None
    part_token_mask_BL: Any = None
    part_id_B: Any = None
    number_BQ: Any = None


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class TrainState:
    """All that training carries from step to step; order and randomness are functions of (seed, step)."""

    step: Any
    params: Params
    opt_state: Any
    usual_loss: Any  # float32 (sum, weight) of the good losses of late: `train.health`
