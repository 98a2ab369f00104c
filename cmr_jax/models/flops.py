"""Floating-point operations of a config, counted from shapes: two a multiply-add of every matrix product.

The count walks the traced program of the model itself, and multiplies the body of a loop by its length (which
`cost_analysis()` of a compiled program does not). Nothing is computed and no parameter is made. Norms, softmax and
activations are left out, as is usual where utilisation is stated; they are one to three per cent at real widths.
"""

import dataclasses
import functools
import math
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
from jax.extend import core

from cmr_jax.config import Config
from cmr_jax.models.build import Model, build
from cmr_jax.structs import Batch

# The rows of the view table are looked up, not multiplied: any number gives the same count.
_NUM_VIEWS = 32


@dataclasses.dataclass(frozen=True)
class Flops:
    """Of one study: `image` and `text` forward, `train` both towers forward and backward without what remat computes
    again, `recomputed` that; and the parameters of the two sides with their heads."""

    image: float
    text: float
    train: float
    recomputed: float
    image_parameters: int
    text_parameters: int


@functools.cache
def per_study(config: Config) -> Flops:
    """The count for one study of `config`; the vocabulary has no part in it, but in the parameters."""
    text = dataclasses.replace(config.model.text, vocab_size=config.model.text.vocab_size or 1)
    model = build(dataclasses.replace(config.model, text=text, remat="none"), _NUM_VIEWS)
    remat = build(dataclasses.replace(config.model, text=text), _NUM_VIEWS)
    params, batch = model.abstract_params(), one_study(config)
    plain = count(_gradient(model), params, batch)
    names = {name: sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(params[name])) for name in params}
    return Flops(
        image=count(model.encode_image, params, batch),
        text=count(model.encode_text, params, batch.tokens_BL, batch.token_mask_BL),
        train=plain,
        recomputed=count(_gradient(remat), params, batch) - plain,
        image_parameters=names["image"] + names["image_projection"],
        text_parameters=names["text"] + names["text_projection"],
    )


def train_step(config: Config) -> float:
    """One step over the global batch, forward and backward, without what remat computes again. The similarities of the
    batch count once in each direction, and twice again on the way back."""
    size = config.train.batch_size
    directions = 2 if config.loss.kind == "softmax" else 1
    return size * per_study(config).train + directions * 3 * 2.0 * size * size * config.model.embed_dim


def recomputed(config: Config) -> float:
    """What one step computes again over the global batch: by remat, and the forward pass once more where the batch goes
    in parts (train.micro_batches)."""
    study = per_study(config)
    again = study.image + study.text if config.train.micro_batches > 1 else 0.0
    return config.train.batch_size * (study.recomputed + again)


def one_study(config: Config) -> Batch:
    """A batch of one study as shapes."""
    video, series, length = config.model.video, config.num_series, config.model.text.length

    def shape(dtype: Any, *dims: int) -> jax.ShapeDtypeStruct:
        return jax.ShapeDtypeStruct((1, *dims), dtype)

    parts = {}
    if config.data.text_sampling != "none":
        parts = {
            "part_tokens_BL": shape(jnp.int32, length),
            "part_token_mask_BL": shape(jnp.bool_, length),
            "part_id_B": shape(jnp.int32),
        }
    if config.model.numbers:
        parts["number_BQ"] = shape(jnp.float32, len(config.model.numbers))
    return Batch(
        video_BVTHW=shape(jnp.uint8, series, video.frames, video.image_size, video.image_size),
        video_mask_BVT=shape(jnp.bool_, series, video.frames),
        view_BV=shape(jnp.int32, series),
        slice_BV=shape(jnp.float32, series),
        tokens_BL=shape(jnp.int32, length),
        token_mask_BL=shape(jnp.bool_, length),
        text_id_B=shape(jnp.int32),
        row_B=shape(jnp.int32),
        **parts,
    )


def count(function: Callable[..., Any], *arguments: Any) -> float:
    """The operations of the matrix products and convolutions in `function(*arguments)`; shapes are enough."""
    return _count(jax.make_jaxpr(function)(*arguments).jaxpr)


def _gradient(model: Model) -> Callable[..., Any]:
    def total(params: Any, batch: Batch) -> jax.Array:
        # With a key, as in training: what patch dropout leaves out is not computed.
        out = model.apply(params, batch, key=jax.random.key(0))
        return sum((out[name].sum() for name in out if name.endswith("_embedding")), jnp.zeros((), jnp.float32))

    return jax.value_and_grad(total)


def _count(jaxpr: core.Jaxpr) -> float:
    return sum(map(_of_equation, jaxpr.eqns), 0.0)


def _of_equation(equation: core.JaxprEqn) -> float:
    name, params = equation.primitive.name, equation.params
    if name == "dot_general":
        (contracted, _), _ = params["dimension_numbers"]
        shape = _shape(equation.invars[0])
        return 2.0 * math.prod(_shape(equation.outvars[0])) * math.prod(shape[d] for d in contracted)
    if name == "conv_general_dilated":
        kernel = _shape(equation.invars[1])
        features = kernel[params["dimension_numbers"].rhs_spec[0]]
        return 2.0 * math.prod(_shape(equation.outvars[0])) * math.prod(kernel) / features
    if name == "cond":
        return max(_count(branch.jaxpr) for branch in params["branches"])
    if name == "while":
        raise ValueError("a while loop has no length to count by: use scan")
    inner = sum((_count(jaxpr) for jaxpr in _inside(params)), 0.0)
    return inner * (params["length"] if name == "scan" else 1)


def _shape(variable: Any) -> tuple[int, ...]:
    return variable.aval.shape


def _inside(params: dict[str, Any]) -> Iterator[core.Jaxpr]:
    """The programs that an equation runs. Rules for differentiation are functions, not programs, and do not count."""
    for value in params.values():
        for one in value if isinstance(value, tuple | list) else (value,):
            one = getattr(one, "jaxpr", one)  # a closed one holds its constants beside
            if isinstance(one, core.Jaxpr):
                yield one
