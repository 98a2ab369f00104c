"""The demo: a small dual encoder that learns the phantom on two CPU cores in minutes.

Sizes are ours, chosen for CPU time. From the field: the impression as the text (CMR-CLIP, paper), divided space-time
attention (Frozen-in-Time; inferred to be CMRformer's base). float32, because bfloat16 is slower on a CPU.
"""

from ml_collections import ConfigDict

from cmr_jax.config import Config, DataConfig, ModelConfig, OptimConfig, TextConfig, TrainConfig, VideoConfig, to_dict


def get_config() -> ConfigDict:
    config = Config(
        data=DataConfig(
            views=("cine_sax", "cine_sax", "cine_sax", "cine_4ch"), sections=("impression",), spacing_mm=3.0
        ),
        model=ModelConfig(
            # Patches of 48 mm at the demo's 3 mm a pixel: nine tokens a frame, few enough for a CPU.
            video=VideoConfig(image_size=48, frames=10, tubelet=2, patch=16, width=96, depth=2, heads=4),
            text=TextConfig(length=48, width=96, depth=1, heads=4),
            embed_dim=64,
            dtype="float32",
            remat="none",
        ),
        optim=OptimConfig(learning_rate=1.5e-3, warmup_steps=40, weight_decay=0.05),
        train=TrainConfig(steps=360, batch_size=64, checkpoint_every=90, eval_every=90),
    )
    return ConfigDict(to_dict(config)).lock()
