"""Which attention costs a TPU least: `python -m bench.attention`. Compiled for a v5e that is not here, forward and
backward, from the joint projection to what the next layer reads: bytes through main memory, and temporaries.

Shapes are those of a study of `cmrclip_64` (64 frames of 196 patches, 12 heads of 64) and of 32 reports of 512 tokens.
`compiler` is products and a softmax, `flash` and `splash` are jax.experimental's kernels, with what they need around
them (heads first, groups padded to blocks of 128 keys), `ours` is `cmr_jax.models.attention_tpu`. CLS is left out: the
library's kernels have no place for it.
"""

import argparse
import importlib.util
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
from jax.experimental import topologies
from jax.sharding import SingleDeviceSharding

from cmr_jax.models import attention, attention_tpu
from cmr_jax.train import hlo

HEADS, WIDTH, BLOCK = 12, 768, 128
# (clips or texts, frames, patches or tokens), and the axis attended along.
SHAPES = {"space": ((1, 64, 196), False), "time": ((1, 64, 196), True), "text": ((32, 1, 512), False)}
Attend = Callable[[jax.Array], jax.Array]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, help="also write the figures to this file")
    options = parser.parse_args()
    if not importlib.util.find_spec("libtpu"):
        raise SystemExit("bench.attention needs the compiler for TPUs: install the extra cmr_jax[tpu]")
    # As cmr_jax.bin.plan: any answers do, so that libtpu asks no network for chips.
    os.environ |= {"JAX_PLATFORMS": "cpu", "TPU_SKIP_MDS_QUERY": "1", "TPU_ACCELERATOR_TYPE": "v5litepod-4"}
    os.environ |= {"TPU_WORKER_HOSTNAMES": "localhost", "ALLOW_MULTIPLE_LIBTPU_LOAD": "1"}
    device = topologies.get_topology_desc("v5e:2x2", platform="tpu").devices[0]
    print("| groups | attention | through memory | temporaries |\n|---|---|---|---|")
    rows = []
    for name, (dims, along_time) in SHAPES.items():
        for kind, attend in _kinds(along_time).items():
            moved, held = _cost(attend, dims, device)
            rows.append({"groups": name, "attention": kind, "memory_bytes": moved, "temporary_bytes": held})
            print(f"| {name} | {kind} | {moved / 1e6:.0f} MB | {held / 1e6:.0f} MB |", flush=True)
    if options.json:
        options.json.write_text(json.dumps(rows, indent=1) + "\n")


def _kinds(along_time: bool) -> dict[str, Attend]:
    return {
        "compiler": _compiler(along_time),
        "flash": _library(along_time, _flash),
        "splash": _library(along_time, _splash),
        "ours": lambda qkv: attention_tpu.attention(qkv, heads=HEADS, along_time=along_time)[0],
    }


def _cost(attend: Attend, dims: tuple[int, ...], device: Any) -> tuple[int, int]:
    """(bytes through main memory, bytes of temporaries) of projection, attention, projection, and their gradients."""
    where = SingleDeviceSharding(device)

    def shape(*dims: int) -> jax.ShapeDtypeStruct:
        return jax.ShapeDtypeStruct(dims, jnp.bfloat16, sharding=where)

    def total(x: jax.Array, up: jax.Array, down: jax.Array) -> jax.Array:
        return (attend(x @ up) @ down).astype(jnp.float32).sum()

    arguments = shape(*dims, WIDTH), shape(WIDTH, 3 * WIDTH), shape(WIDTH, WIDTH)
    compiled = jax.jit(jax.value_and_grad(total, (0, 1, 2))).lower(*arguments).compile()
    memory = compiled.memory_analysis()
    assert memory is not None
    return hlo.Program(compiled.as_text() or "").memory_bytes(), memory.temp_size_in_bytes


def _compiler(along_time: bool) -> Attend:
    def attend(qkv_MTPF: jax.Array) -> jax.Array:
        if along_time:
            return attention.self_attention(qkv_MTPF, HEADS, along_time=True)
        M, T, P, F = qkv_MTPF.shape
        return attention.self_attention(qkv_MTPF.reshape(M * T, P, F), HEADS).reshape(M, T, P, F // 3)

    return attend


def _library(along_time: bool, kernel: Callable[..., jax.Array]) -> Attend:
    """A kernel that takes queries, keys and values `G N L K`, L whole blocks, and `G L` of which tokens are real."""

    def attend(qkv_MTPF: jax.Array) -> jax.Array:
        x = qkv_MTPF.swapaxes(1, 2) if along_time else qkv_MTPF
        M, G, L, F = x.shape
        padded = -(-L // BLOCK) * BLOCK
        x = jnp.pad(x.reshape(M * G, L, F), ((0, 0), (0, padded - L), (0, 0)))
        q, k, v = (part.swapaxes(1, 2) for part in attention.split_heads(x, HEADS))
        real = jnp.broadcast_to((jnp.arange(padded) < L).astype(jnp.int32), (M * G, padded))
        mixed = kernel(q, k, v, real).swapaxes(1, 2)[:, :L].reshape(M, G, L, F // 3)
        return mixed.swapaxes(1, 2) if along_time else mixed

    return attend


def _flash(q: jax.Array, k: jax.Array, v: jax.Array, real_GL: jax.Array) -> jax.Array:
    from jax.experimental.pallas.ops.tpu import flash_attention as flash

    return flash.flash_attention(q, k, v, segment_ids=flash.SegmentIds(real_GL, real_GL), sm_scale=q.shape[-1] ** -0.5)


def _splash(q: jax.Array, k: jax.Array, v: jax.Array, real_GL: jax.Array) -> jax.Array:
    from jax.experimental.pallas.ops.tpu import splash_attention as splash

    length = q.shape[2]
    mask = splash.MultiHeadMask([splash.FullMask((length, length)) for _ in range(HEADS)])
    kernel = splash.make_splash_mha_single_device(mask)
    scaled = q * jnp.asarray(q.shape[-1] ** -0.5, q.dtype)
    mixed = jax.vmap(lambda q, k, v, real: kernel(q, k, v, splash.SegmentIds(real, real)))(scaled, k, v, real_GL)
    assert isinstance(mixed, jax.Array)  # statistics come beside it only where they were asked for
    return mixed


if __name__ == "__main__":
    main()
