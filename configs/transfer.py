"""Transfer to real hearts: trained on phantoms alone, asked about short-axis cines of real scanners.

Sizes are ours, chosen so that one CPU-hour makes the phantoms and trains two models. What helps transfer: the window
follows the motion and brightness is set by the heart (data.centre, data.brightness), every study is shown in another
pose and through another coil each time, and texts state measurements, whole and sentence by sentence (DreamLIP, arXiv
2403.17007). float32, because bfloat16 is slower on a CPU.
"""

from ml_collections import ConfigDict

from cmr_jax.config import (
    Config,
    DataConfig,
    LossConfig,
    ModelConfig,
    OptimConfig,
    TextConfig,
    TrainConfig,
    VideoConfig,
    to_dict,
)


def get_config() -> ConfigDict:
    config = Config(
        data=DataConfig(
            # Four places from the base to the apex, of whatever slices a stack has, anew in every step.
            views=("cine_sax",) * 4,
            sections=("findings",),
            # A window of 168 mm holds both ventricles wherever between them the motion's centre falls.
            spacing_mm=3.0,
            centre="motion",
            brightness="heart",
            shift_px=3,
            intensity=0.15,
            rotate_degrees=25.0,
            scale=0.15,
            gamma=0.4,
            shading=0.35,
            blur=0.8,
            noise=0.03,
            text_sampling="sentence",
        ),
        model=ModelConfig(
            video=VideoConfig(image_size=56, frames=8, tubelet=2, patch=14, width=96, depth=2, heads=4),
            text=TextConfig(length=48, width=96, depth=1, heads=4),
            embed_dim=64,
            dtype="float32",
            remat="none",
        ),
        loss=LossConfig(part_weight=1.0),
        optim=OptimConfig(learning_rate=1.5e-3, warmup_steps=40, weight_decay=0.05),
        train=TrainConfig(steps=600, batch_size=32, checkpoint_every=100),
    )
    return ConfigDict(to_dict(config)).lock()
