"""Our side of bench.step, in a process of its own: the trainer's very step, or both towers' embeddings, on one core."""

import argparse
import dataclasses
import json
import os
import resource
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

# name -> (pixels a side, frames, width of the video tower, its heads, text width, text heads): 12 blocks of video, 6 of
# text (DistilBERT's), 128 tokens.
SIZES = {
    "tiny": (32, 2, 64, 2, 64, 2),
    "small": (112, 8, 384, 6, 384, 6),
    "medium": (112, 8, 768, 12, 768, 12),
    "paper": (224, 4, 768, 12, 768, 12),
}
TOKENS, VOCABULARY = 128, 30522


def config_of(size: str, batch: int, remat: str = "none"):
    from cmr_jax.config import Config, LossConfig, ModelConfig, OptimConfig, TextConfig, TrainConfig, VideoConfig

    pixels, frames, width, heads, text_width, text_heads = SIZES[size]
    return Config(
        model=ModelConfig(
            arch="concat",
            video=VideoConfig(
                image_size=pixels, frames=frames, tubelet=1, patch=16, width=width, depth=12, heads=heads
            ),
            text=TextConfig(
                kind="distilbert", vocab_size=VOCABULARY, pool="cls", length=TOKENS, positions=512, width=text_width,
                depth=6, heads=text_heads,
            ),
            embed_dim=256, image_head="relu_linear", text_head="relu_linear", temperature=0.05,
            learn_temperature=False, dtype="float32", remat=remat,
        ),
        loss=LossConfig(weight=2.0, same_text_positive=False),
        optim=OptimConfig(
            learning_rate=3e-5, warmup_steps=0, schedule="constant", weight_decay=1e-5, b2=0.999, clip_norm=0.0
        ),
        train=TrainConfig(steps=1000, batch_size=batch),
    )  # fmt: skip


def write_inputs(folder: Path, size: str, batch: int) -> None:
    """What both sides start from: weights under the released names, sizes, and a batch."""
    import jax

    from cmr_jax.models.build import build
    from cmr_jax.models.pretrained import export_cmrclip

    config = config_of(size, batch)
    export_cmrclip(jax.jit(build(config.model, 0).init)(jax.random.key(0)), config.model, folder)
    pixels, frames, *_ = SIZES[size]
    rng = np.random.default_rng(0)
    lengths = rng.integers(TOKENS // 2, TOKENS + 1, batch)
    np.savez(
        folder / "batch.npz",
        video=rng.integers(0, 256, (batch, frames, pixels, pixels), np.uint8),
        tokens=rng.integers(0, VOCABULARY, (batch, TOKENS), np.int32),
        mask=np.arange(TOKENS)[None] < lengths[:, None],
    )


def serve(folder: Path, size: str, what: str, remat: str) -> None:
    """Answers lines as bench.torch_peer.serve does."""
    import jax
    import jax.numpy as jnp

    from cmr_jax import optim, sharding
    from cmr_jax.config import MeshConfig
    from cmr_jax.models import flops, weights
    from cmr_jax.models.build import build
    from cmr_jax.models.pretrained import released_rules
    from cmr_jax.structs import Batch, TrainState
    from cmr_jax.train import health, perf
    from cmr_jax.train.state import abstract_state
    from cmr_jax.train.step import batch_loss, jit_step, make_step

    perf.give_back_after_compiling()  # as the trainer does
    io = np.load(folder / "batch.npz")
    count = len(io["video"])
    config = config_of(size, count, remat)
    model, mesh = build(config.model, 0), sharding.make_mesh(MeshConfig(), jax.devices()[:1])
    batch = sharding.put_batch(
        Batch(
            video_BVTHW=io["video"][:, None],
            video_mask_BVT=np.ones((count, 1, io["video"].shape[1]), bool),
            view_BV=np.zeros((count, 1), np.int32),
            slice_BV=np.zeros((count, 1), np.float32),
            tokens_BL=io["tokens"],
            token_mask_BL=io["mask"],
            text_id_B=np.arange(count, dtype=np.int32),
            row_B=np.arange(count, dtype=np.int32),
        ),
        mesh,
    )
    optimizer = optim.make_optimizer(config.optim, config.train.steps)
    abstract = abstract_state(model, optimizer, mesh)
    shapes = {name: tuple(leaf.shape) for name, leaf in weights.flat(abstract.params).items()}
    state_dict = weights.read_state(folder / "state_dict.safetensors")
    found, _ = weights.take(state_dict, released_rules(config.model), shapes, source="the bench's weights")
    found["log_scale"] = np.array(np.log(1 / config.model.temperature), np.float32)
    params = weights.nested({name: jax.device_put(array, sharding.replicated(mesh)) for name, array in found.items()})
    del state_dict, found
    facts = {"jax": jax.__version__, "flops": flops.train_step(config) if what == "train" else _forward(config)}
    if what == "train":
        run = jit_step(make_step(config, model, optimizer, mesh), abstract, mesh)
        state = TrainState(jnp.zeros((), jnp.int32), params, jax.jit(optimizer.init)(params), health.no_losses())
        # Placed as the step gives it back, or the second call would compile again.
        holder = [jax.device_put(state, jax.tree.map(lambda leaf: leaf.sharding, abstract))]
        del params, state

        def step() -> dict[str, Any]:
            holder[0], metrics = run(holder[0], batch)
            jax.block_until_ready(holder[0])
            return {"loss": float(metrics["loss"])}
    else:
        infer = jax.jit(lambda params, batch: batch_loss(config.loss, model.apply(params, batch), batch, mesh))

        def step() -> dict[str, Any]:
            return {"loss": float(infer(params, batch))}

    print(json.dumps({"ready": True, **facts}), flush=True)
    for line in sys.stdin:
        start = time.process_time()
        if line.strip() == "run":
            said = step()
            said["cpu_s"] = time.process_time() - start
        elif line.strip() == "gemm":
            said = {"flops_per_s": _gemm()}
        else:
            said = {"peak_bytes": 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss}
        print(json.dumps(said), flush=True)


def _forward(config: Any) -> float:
    from cmr_jax.models import flops

    one = flops.per_study(dataclasses.replace(config, train=dataclasses.replace(config.train, batch_size=2)))
    return config.train.batch_size * (one.image + one.text)


def _gemm() -> float:
    import jax

    a, b = jax.random.normal(jax.random.key(0), (1024, 768)), jax.random.normal(jax.random.key(1), (768, 3072))
    product = jax.jit(lambda a, b: a @ b)
    product(a, b).block_until_ready()
    start, count = time.process_time(), 0
    while time.process_time() - start < 0.3:
        product(a, b).block_until_ready()
        count += 1
    return 2.0 * count * 1024 * 768 * 3072 / (time.process_time() - start)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--size", choices=tuple(SIZES), required=True)
    parser.add_argument("--what", choices=("write", "train", "infer"), required=True)
    parser.add_argument("--batch", type=int, default=2)
    parser.add_argument("--remat", default="none")
    parser.add_argument("--core", type=int, default=0)
    options = parser.parse_args()
    # Before jax is imported, which sizes its thread pools by it.
    os.sched_setaffinity(0, {options.core})
    os.environ |= {"JAX_PLATFORMS": "cpu", "OMP_NUM_THREADS": "1"}
    os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} --xla_cpu_multi_thread_eigen=false"
    if options.what == "write":
        write_inputs(options.folder, options.size, options.batch)
    else:
        serve(options.folder, options.size, options.what, options.remat)


if __name__ == "__main__":
    main()
