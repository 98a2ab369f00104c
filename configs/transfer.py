"""Transfer to real hearts: trained on phantoms alone, asked about short-axis cines of real scanners.

Sizes are ours, chosen so that about one CPU-hour makes the phantoms and trains two models. What helps transfer: the
window lies on the left ventricle's own ring and shows it by angle and radius, a sector a token (data.centre,
data.layout); brightness is set by the heart (data.brightness); every study is shown in another pose and through another
coil each time; texts state measurements, whole and sentence by sentence (DreamLIP, arXiv 2403.17007), and what they
state is also read off the embedding as numbers (model.numbers). float32, because bfloat16 is slower on a CPU.
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
            spacing_mm=3.0,
            centre="ring",
            layout="sectors",
            brightness="heart",
            # Scanners begin at the R wave, which tells where systole is.
            phase_roll=False,
            shift_px=2,
            intensity=0.15,
            rotate_degrees=25.0,
            two_phases=0.3,
            gamma=0.4,
            shading=0.35,
            blur=0.8,
            noise=0.03,
            text_sampling="sentence",
        ),
        model=ModelConfig(
            # 16 sectors of 32 radii at 2 neighbouring angles; one token sees its sector through the whole beat.
            # Gain and learning rate: both generators' hearts that no model saw were read better with them.
            video=VideoConfig(
                image_size=32, frames=10, tubelet=10, patch=8, width=96, depth=2, heads=4, motion_gain=3.0
            ),
            text=TextConfig(length=96, width=64, depth=1, heads=4),
            embed_dim=64,
            numbers=("lvef_percent", "lv_edv_ml", "lv_esv_ml", "lv_mass_g"),
            dtype="float32",
            remat="none",
        ),
        loss=LossConfig(part_weight=2.0),
        optim=OptimConfig(learning_rate=6e-3, warmup_steps=30, weight_decay=0.05),
        train=TrainConfig(steps=1800, batch_size=64, checkpoint_every=100),
    )
    return ConfigDict(to_dict(config)).lock()
