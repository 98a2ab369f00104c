"""The demo: a small dual encoder that learns the phantom on two CPU cores in minutes.

Sizes are ours, chosen for CPU time; nothing here comes from a paper. float32, because bfloat16 is slower on a CPU.
"""

from ml_collections import ConfigDict

from cmr_jax.config import Config, ModelConfig, OptimConfig, TextConfig, TrainConfig, VideoConfig, to_dict


def get_config() -> ConfigDict:
    config = Config(
        model=ModelConfig(
            video=VideoConfig(image_size=64, frames=10, tubelet=2, patch=16, width=96, depth=3, heads=4),
            text=TextConfig(length=96, width=96, depth=2, heads=4),
            embed_dim=64,
            dtype="float32",
            remat="none",
        ),
        optim=OptimConfig(learning_rate=1e-3, warmup_steps=20, weight_decay=0.05),
        train=TrainConfig(steps=400, batch_size=32, checkpoint_every=100, eval_every=100),
    )
    return ConfigDict(to_dict(config)).lock()
