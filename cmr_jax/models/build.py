"""Where NNX ends: outside `models/` a model is pure functions over a plain tree of parameters."""

import dataclasses
import functools
from typing import Any

import jax
from flax import nnx

from cmr_jax.config import ModelConfig
from cmr_jax.models.bert import BertTower
from cmr_jax.models.cmrclip import ReleasedVideoTower
from cmr_jax.models.dual import DualEncoder
from cmr_jax.models.layers import Constrain
from cmr_jax.structs import Batch, Params


def _identity(x: jax.Array) -> jax.Array:
    return x


@dataclasses.dataclass(frozen=True)
class Model:
    """A dual encoder as functions. `params` is a nested dict of float32 arrays; `key` None means evaluation."""

    config: ModelConfig
    num_views: int

    def _make(self, key: jax.Array) -> DualEncoder:
        return DualEncoder(self.config, self.num_views, nnx.Rngs(params=key))

    def init(self, key: jax.Array) -> Params:
        return nnx.to_pure_dict(nnx.state(self._make(key), nnx.Param))

    def abstract_params(self) -> Params:
        """Shapes and dtypes of `init`, without computing anything."""
        return jax.eval_shape(self.init, jax.random.key(0))

    @functools.cached_property
    def _graphdef(self) -> Any:
        return nnx.graphdef(nnx.eval_shape(lambda: self._make(jax.random.key(0))))

    def _bind(self, params: Params) -> DualEncoder:
        return nnx.merge(self._graphdef, params)

    def encode_image(
        self, params: Params, batch: Batch, *, key: jax.Array | None = None, constrain: Constrain = _identity
    ) -> jax.Array:
        """Unit float32 `B E`."""
        return self._bind(params).encode_image(batch, key=key, constrain=constrain)

    def encode_text(
        self,
        params: Params,
        tokens_BL: jax.Array,
        mask_BL: jax.Array,
        *,
        key: jax.Array | None = None,
        constrain: Constrain = _identity,
    ) -> jax.Array:
        """Unit float32 `B E`."""
        return self._bind(params).encode_text(tokens_BL, mask_BL, key=key, constrain=constrain)

    def read_numbers(self, params: Params, image_BE: jax.Array) -> jax.Array | None:
        """`B Q` of `config.numbers` as read off unit embeddings, as far from their usual values in units of
        `data.schema.NUMBERS`; None where the model reads none."""
        return self._bind(params).read_numbers(image_BE)

    def apply(
        self, params: Params, batch: Batch, *, key: jax.Array | None = None, constrain: Constrain = _identity
    ) -> dict[str, jax.Array]:
        """Both towers: `image_embedding` and `text_embedding` (unit `B E`), `scale` and `bias` (scalars); where the
        batch has sampled parts of the texts, `part_embedding`; where the model reads numbers, `number` (`B Q`)."""
        module = self._bind(params)
        image_key, text_key = (None, None) if key is None else jax.random.split(key)
        scale, bias = module.scale_and_bias()
        parts = {}
        if batch.part_tokens_BL is not None:
            part_key = None if text_key is None else jax.random.fold_in(text_key, 1)
            parts["part_embedding"] = module.encode_text(
                batch.part_tokens_BL, batch.part_token_mask_BL, key=part_key, constrain=constrain
            )
        image_BE = module.encode_image(batch, key=image_key, constrain=constrain)
        number_BQ = module.read_numbers(image_BE)
        return {
            **parts,
            **({} if number_BQ is None else {"number": number_BQ}),
            "image_embedding": image_BE,
            "text_embedding": module.encode_text(
                batch.tokens_BL, batch.token_mask_BL, key=text_key, constrain=constrain
            ),
            "scale": scale,
            "bias": bias,
        }

    def stages(
        self, params: Params, video_BTCHW: jax.Array, tokens_BL: jax.Array, mask_BL: jax.Array
    ) -> dict[str, jax.Array]:
        """What each part of a model of arch `concat` with a published text tower makes of its input, in evaluation.

        `video_BTCHW` is normalised. `video_features B D`, `video_embedding B E`, `text_hidden B L D`,
        `text_features B D`, `text_embedding B E`; embeddings before they are brought to unit length.
        """
        module = self._bind(params)
        image, text = module.image, module.text
        if not isinstance(image, ReleasedVideoTower) or not isinstance(text, BertTower):
            raise ValueError("stages are those of model.arch concat with a published text tower")
        video_features = image(video_BTCHW, key=None, constrain=_identity)
        hidden = text.hidden(tokens_BL, mask_BL, key=None, constrain=_identity)
        text_features = text.pool(hidden, mask_BL)
        return {
            "video_features": video_features,
            "video_embedding": module.image_projection(video_features),
            "text_hidden": hidden,
            "text_features": text_features,
            "text_embedding": module.text_projection(text_features),
        }


def build(config: ModelConfig, num_views: int) -> Model:
    """The model of `config`; `num_views` is the number of view names of the records' schema."""
    return Model(config, num_views)
