"""Attention on a TPU without scores in main memory, for groups that fit the chip's own memory whole.

Our groups are short: the 196 patches of a frame, the 64 frames of a patch, the 512 tokens of a report. So a group is
read once, all its scores are made, used and forgotten on the chip, and the way back makes them again (FlashAttention,
arXiv 2205.14135, without its loop over blocks of keys). The kernel reads queries, keys and values where their joint
projection left them and writes where the next one reads: around it nothing is split, padded, transposed or copied,
which is what jax.experimental's flash and splash attention, whose heads stand first and whose keys come in blocks of
128, would need here (docs/performance.md).

Dimension letters: M clips or texts, T frames, P patches or tokens, D width, N heads, K = D/N, G groups of a block, L
members of a group.
"""

import functools
from collections.abc import Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.experimental import pallas as pl
from jax.experimental.pallas import tpu as pltpu

# Patches a block of attention along time holds: the rows of a tile.
_PATCHES = 8
# Shorter groups have so few scores that a kernel would gain nothing. Up to this length, and this many numbers of a
# block (its tokens times their width), all gradients and a head's scores fit the 64 MiB beside a core of v5p, by
# compiling for it; v5e and v6e have twice as much.
_SHORTEST, _LONGEST = 32, 512
_LARGEST = 512 * 1024
# A block's width is cut from the joint projection at whole tiles.
_LANES = 128
# What a kernel may take of the memory beside a core; the compiler's own limit is 16 MiB.
_VMEM = 96 * 2**20
# Added to the score of a key that is not there: so large that any score vanishes in it, and far from infinity, so that
# a row without any key stays finite.
_ABSENT = -1e30


def takes(length: int, width: int, dtype: Any, *, along_time: bool) -> bool:
    """Whether the kernel is for groups of this length and width."""
    known = jnp.dtype(dtype) in (jnp.dtype(jnp.float32), jnp.dtype(jnp.bfloat16))
    fits = (_PATCHES if along_time else 1) * length * width <= _LARGEST
    return known and fits and _SHORTEST <= length <= _LONGEST and width % _LANES == 0


class _Shape(NamedTuple):
    """What a kernel is made for; hashable, so that jax keeps it apart from arrays."""

    heads: int
    along_time: bool
    patches: int
    has_first: bool
    has_bias: bool
    interpret: bool

    @property
    def ragged(self) -> bool:
        """Whether the last block of patches reaches beyond them."""
        return self.along_time and self.patches % _PATCHES != 0


def attention(
    qkv_MTPF: jax.Array,
    *,
    heads: int,
    along_time: bool = False,
    mask_ML: jax.Array | None = None,
    first_M1F: jax.Array | None = None,
    interpret: bool = False,
) -> tuple[jax.Array, jax.Array | None]:
    """Every patch of a frame attends to those of its frame, or every frame of a patch to those of its patch.

    `qkv_MTPF` (F = 3D) are queries, keys and values side by side, as their joint projection gives them. Where `mask_ML`
    (L the axis attended along) is False, a key weighs nothing; in a row without any, all weigh alike. `first_M1F` is a
    token that all groups of a clip see as one key more, and whose query sees itself and all tokens of all groups (CLS
    of divided attention).

    Returns `M T P D`, and `M 1 D` for the first token where there is one. `interpret` runs it anywhere, slowly.
    """
    M, _, P, F = qkv_MTPF.shape
    shape = _Shape(heads, along_time, P, first_M1F is not None, mask_ML is not None, interpret)
    bias = None
    if mask_ML is not None:
        bias = jnp.where(mask_ML, 0.0, _ABSENT).astype(jnp.float32)[:, None]
    mixed, part_MGD, level_MGN = _attention(shape, qkv_MTPF, first_M1F, bias)
    if first_M1F is None:
        return mixed, None
    # The first token's own key is one part more; the parts weigh as the sums of their exponentials do.
    q, k, v = (x.astype(jnp.float32) for x in jnp.split(first_M1F.reshape(M, 1, 3, heads, -1), 3, axis=2))
    own_M1N = ((q * k).sum(axis=-1) * (F // 3 // heads) ** -0.5)[:, :, 0]
    levels = jnp.concatenate([own_M1N, level_MGN], axis=1)
    values = jnp.concatenate([v[:, :, 0], part_MGD.reshape(M, -1, heads, F // 3 // heads)], axis=1)
    weights = jax.nn.softmax(levels, axis=1)
    return mixed, (weights[..., None] * values).sum(axis=1).reshape(M, 1, F // 3).astype(qkv_MTPF.dtype)


# --- the two kernels: blocks in, blocks out -------------------------------------------------------------------------


def _real(x: jax.Array, shape: _Shape, axis: int) -> jax.Array:
    """`x` with zeros for what lies beyond the last patch, where memory holds anything at all."""
    if not shape.ragged:
        return x
    place = pl.program_id(1) * _PATCHES + jax.lax.broadcasted_iota(jnp.int32, x.shape, axis)
    return jnp.where(place < shape.patches, x, jnp.zeros_like(x))


def _load(ref: Any, shape: _Shape) -> jax.Array:
    """A block as `G L D`."""
    return jnp.swapaxes(_real(ref[0], shape, 1), 0, 1) if shape.along_time else ref[0]


def _store(ref: Any, parts: list[jax.Array], shape: _Shape) -> None:
    x = jnp.concatenate(parts, axis=-1).astype(ref.dtype)
    ref[0] = jnp.swapaxes(x, 0, 1) if shape.along_time else x


def _dot(a: jax.Array, b: jax.Array, over: tuple[int, int]) -> jax.Array:
    """Products of each group's matrices, contracted over these axes, summed in float32."""
    return jax.lax.dot_general(a, b, (((over[0],), (over[1],)), ((0,), (0,))), preferred_element_type=jnp.float32)


class _First(NamedTuple):
    """Query, key and value of the first token, float32 `1 1 K`."""

    q: jax.Array
    k: jax.Array
    v: jax.Array


class _Heads(NamedTuple):
    """What one head of a block sees: queries, keys and values `G L K`, what is added to the scores, the first token."""

    q: jax.Array
    k: jax.Array
    v: jax.Array
    bias: jax.Array | None
    first: _First | None
    scale: float


def _head(x: jax.Array, n: int, heads: int) -> jax.Array:
    K = x.shape[-1] // heads
    return x[..., n * K : (n + 1) * K]


def _heads(shape: _Shape, refs: Iterator[Any]) -> list[_Heads]:
    """The operands that both kernels begin with, cut by head."""
    q, k, v = (_load(next(refs), shape) for _ in range(3))
    first = [next(refs)[...].astype(jnp.float32) for _ in range(3)] if shape.has_first else None
    bias = next(refs)[...] if shape.has_bias else None
    scale = (q.shape[-1] // shape.heads) ** -0.5

    def one(n: int) -> _Heads:
        qn, kn, vn = (_head(x, n, shape.heads) for x in (q, k, v))
        return _Heads(qn, kn, vn, bias, _First(*(_head(x, n, shape.heads) for x in first)) if first else None, scale)

    return [one(n) for n in range(shape.heads)]


def _weights(head: _Heads) -> tuple[jax.Array, jax.Array | None]:
    """Softmax `G L L` over the group's keys, and the weight `G L 1` of the first token's key."""
    scores = _dot(head.q, head.k, (2, 2)) * head.scale
    if head.bias is not None:
        scores = scores + head.bias
    highest = scores.max(axis=-1, keepdims=True)
    if head.first is None:
        weights = jnp.exp(scores - highest)
        return weights / weights.sum(axis=-1, keepdims=True), None
    extra = (head.q.astype(jnp.float32) * head.first.k).sum(axis=-1, keepdims=True) * head.scale
    highest = jnp.maximum(highest, extra)
    weights, extra = jnp.exp(scores - highest), jnp.exp(extra - highest)
    share = 1.0 / (weights.sum(axis=-1, keepdims=True) + extra)
    return weights * share, extra * share


def _first_weights(first: _First, head: _Heads) -> tuple[jax.Array, jax.Array]:
    """Softmax `G L 1` of the first token's query over a group, and the logarithm of its sum `G 1 1`."""
    scores = (head.k.astype(jnp.float32) * first.q).sum(axis=-1, keepdims=True) * head.scale
    highest = scores.max(axis=1, keepdims=True)
    weights = jnp.exp(scores - highest)
    total = weights.sum(axis=1, keepdims=True)
    return weights / total, highest + jnp.log(total)


def _forward_kernel(shape: _Shape, *operands: Any) -> None:
    refs = iter(operands)
    out, part, level = [], [], []
    for head in _heads(shape, refs):
        weights, extra = _weights(head)
        mixed = _dot(weights.astype(head.v.dtype), head.v, (2, 1))
        if extra is not None and head.first is not None:
            mixed = mixed + extra * head.first.v
            weights0, level0 = _first_weights(head.first, head)
            part.append((weights0 * head.v.astype(jnp.float32)).sum(axis=1, keepdims=True))
            level.append(level0)
        out.append(mixed)
    _store(next(refs), out, shape)
    if shape.has_first:
        next(refs)[0] = jnp.concatenate(part, axis=-1)
        next(refs)[0] = jnp.concatenate(level, axis=-1)


def _backward_kernel(shape: _Shape, *operands: Any) -> None:
    refs = iter(operands)
    heads = _heads(shape, refs)
    d_out = _load(next(refs), shape)
    d_part, d_level = (_real(next(refs)[0], shape, 0) for _ in range(2)) if shape.has_first else (None, None)
    by_head, by_head_first = [], []
    for n, head in enumerate(heads):
        d_qkv, d_first = _tokens_gradient(head, _head(d_out, n, shape.heads))
        if d_part is not None and d_level is not None and head.first is not None:
            part = _head(d_part, n, shape.heads)
            d_q0, d_k, d_v = _first_gradient(head.first, head, part, d_level[..., n : n + 1])
            d_qkv = (d_qkv[0], d_qkv[1] + d_k, d_qkv[2] + d_v)
            by_head_first.append((d_q0, *d_first))
        by_head.append(d_qkv)
    _store(next(refs), [d[i] for i in range(3) for d in by_head], shape)
    if shape.has_first:
        total = next(refs)
        here = jnp.concatenate([d[i] for i in range(3) for d in by_head_first], axis=-1)

        @pl.when(pl.program_id(1) == 0)
        def _():
            total[...] = jnp.zeros_like(here)

        total[...] += here


def _tokens_gradient(head: _Heads, d_out: jax.Array) -> tuple[tuple[jax.Array, ...], tuple[jax.Array, ...]]:
    """Of a group's own queries: gradients of queries, keys and values, and of the first token's key and value."""
    weights, extra = _weights(head)
    d_weights = _dot(d_out, head.v, (2, 2))
    delta = (weights * d_weights).sum(axis=-1, keepdims=True)
    d_v = _dot(weights.astype(head.v.dtype), d_out, (1, 1))
    wide, d_extra = d_out.astype(jnp.float32), jnp.float32(0)
    if extra is not None and head.first is not None:
        d_extra = (wide * head.first.v).sum(axis=-1, keepdims=True)
        delta = delta + extra * d_extra
    d_scores = (weights * (d_weights - delta) * head.scale).astype(head.q.dtype)
    d_q, d_k = _dot(d_scores, head.k, (2, 1)), _dot(d_scores, head.q, (1, 1))
    if extra is None or head.first is None:
        return (d_q, d_k, d_v), ()
    d_extra = extra * (d_extra - delta) * head.scale
    d_first = (_total(d_extra * head.q.astype(jnp.float32)), _total(extra * wide))
    return (d_q + d_extra * head.first.k, d_k, d_v), d_first


def _first_gradient(first: _First, head: _Heads, d_part: jax.Array, d_level: jax.Array) -> tuple[jax.Array, ...]:
    """Of the first token's query over a group: gradients of that query, and of the group's keys and values."""
    weights, _ = _first_weights(first, head)
    d_weights = (d_part * head.v.astype(jnp.float32)).sum(axis=-1, keepdims=True)
    delta = (weights * d_weights).sum(axis=1, keepdims=True)
    d_scores = weights * (d_weights - delta + d_level) * head.scale
    return _total(d_scores * head.k.astype(jnp.float32)), d_scores * first.q, weights * d_part


def _total(x_GLK: jax.Array) -> jax.Array:
    return x_GLK.sum(axis=(0, 1), keepdims=True)


# --- where the blocks lie, and the gradient -------------------------------------------------------------------------


def _grid(shape: _Shape, qkv_MTPF: jax.Array) -> tuple[int, int]:
    M, T, P, _ = qkv_MTPF.shape
    return M, pl.cdiv(P, _PATCHES) if shape.along_time else T


def _block(shape: _Shape, qkv_MTPF: jax.Array, width: int, column: int = 0) -> pl.BlockSpec:
    """The groups of one step of the grid, `width` wide from the given column of that width on."""
    _, T, P, _ = qkv_MTPF.shape
    if shape.along_time:
        return pl.BlockSpec((1, T, _PATCHES, width), lambda m, g: (m, 0, g, column))
    return pl.BlockSpec((1, 1, P, width), lambda m, g: (m, g, 0, column))


def _inputs(shape: _Shape, qkv, first, bias) -> tuple[list[jax.Array], list[pl.BlockSpec]]:
    D = qkv.shape[-1] // 3
    arrays, specs = [qkv] * 3, [_block(shape, qkv, D, i) for i in range(3)]
    if first is not None:
        arrays += [first] * 3
        specs += [pl.BlockSpec((1, 1, D), lambda m, g, i=i: (m, 0, i)) for i in range(3)]
    if bias is not None:
        arrays.append(bias)
        specs.append(pl.BlockSpec((1, 1, bias.shape[-1]), lambda m, g: (m, 0, 0)))
    return arrays, specs


def _parts(shape: _Shape, width: int) -> pl.BlockSpec:
    """What each group says to the first token: `G 1 width` of `M G 1 width`."""
    return pl.BlockSpec((1, _PATCHES if shape.along_time else 1, 1, width), lambda m, g: (m, g, 0, 0))


def _call(kernel, shape: _Shape, qkv, arrays, in_specs, out_specs, out_shape, products: int):
    M, T, P, F = qkv.shape
    L = T if shape.along_time else P
    moved = sum(x.size * x.dtype.itemsize for x in {id(x): x for x in arrays}.values())
    return pl.pallas_call(
        kernel,
        grid=_grid(shape, qkv),
        in_specs=in_specs,
        out_specs=out_specs,
        out_shape=out_shape,
        interpret=shape.interpret,
        cost_estimate=pl.CostEstimate(
            flops=2 * products * M * T * P * L * F // 3,
            transcendentals=M * T * P * L * shape.heads,
            bytes_accessed=moved + sum(x.size * x.dtype.itemsize for x in out_shape),
        ),
        # Groups of one clip add to one gradient of its first token, one after the other.
        compiler_params=pltpu.CompilerParams(dimension_semantics=("parallel", "arbitrary"), vmem_limit_bytes=_VMEM),
    )(*arrays)


def _run_forward(shape: _Shape, qkv, first, bias):
    M, T, P, F = qkv.shape
    arrays, specs = _inputs(shape, qkv, first, bias)
    out_specs = [_block(shape, qkv, F // 3)]
    out_shape = [jax.ShapeDtypeStruct((M, T, P, F // 3), qkv.dtype)]
    if first is not None:
        groups = P if shape.along_time else T
        widths = (F // 3, shape.heads)
        out_specs += [_parts(shape, width) for width in widths]
        out_shape += [jax.ShapeDtypeStruct((M, groups, 1, width), jnp.float32) for width in widths]
    kernel = functools.partial(_forward_kernel, shape)
    out = _call(kernel, shape, qkv, arrays, specs, out_specs, out_shape, products=2)
    return (out[0], out[1][:, :, 0], out[2][:, :, 0]) if first is not None else (out[0], None, None)


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def _attention(shape: _Shape, qkv, first, bias):
    return _run_forward(shape, qkv, first, bias)


def _attention_forward(shape: _Shape, qkv, first, bias):
    return _run_forward(shape, qkv, first, bias), (qkv, first, bias)


def _attention_backward(shape: _Shape, kept, cotangents):
    qkv, first, bias = kept
    d_out, d_part, d_level = cotangents
    M, _, _, F = qkv.shape
    arrays, specs = _inputs(shape, qkv, first, bias)
    arrays.append(d_out)
    specs.append(_block(shape, qkv, F // 3))
    out_specs, out_shape = [_block(shape, qkv, F)], [jax.ShapeDtypeStruct(qkv.shape, qkv.dtype)]
    if first is not None:
        arrays += [d_part[:, :, None], d_level[:, :, None]]
        specs += [_parts(shape, F // 3), _parts(shape, shape.heads)]
        out_specs.append(pl.BlockSpec((1, 1, F), lambda m, g: (m, 0, 0)))
        out_shape.append(jax.ShapeDtypeStruct((M, 1, F), jnp.float32))
    kernel = functools.partial(_backward_kernel, shape)
    out = _call(kernel, shape, qkv, arrays, specs, out_specs, out_shape, products=5)
    d_first = None if first is None else out[1].astype(first.dtype)
    return out[0], d_first, None if bias is None else jnp.zeros_like(bias)


_attention.defvjp(_attention_forward, _attention_backward)
