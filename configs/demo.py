"""The demo: a small dual encoder that learns the phantom on two CPU cores in minutes.

Sizes are ours, chosen for CPU time. From the field: the impression as the text (CMR-CLIP, paper), divided space-time
attention (Frozen-in-Time; inferred to be CMRformer's base). As in configs/transfer.py the window lies on the left
ventricle's ring and shows it by angle and radius, a sector through the whole beat a token: after 360 steps R@1 of
validation patients was 21 and 26 %, where a picture of nine patches had 17 and 19 % (one seed each, with numbers) at
more time a step. launch/demo.sh also has the numbers that the phantom's reports state read off the embedding
(model.numbers), without which R@1 was half as high; other reports may state none.
float32, because bfloat16 is slower on a CPU.
"""

from ml_collections import ConfigDict

from cmr_jax.config import Config, DataConfig, ModelConfig, OptimConfig, TextConfig, TrainConfig, VideoConfig, to_dict


def get_config() -> ConfigDict:
    config = Config(
        data=DataConfig(
            views=("cine_sax",) * 3,
            sections=("impression",),
            spacing_mm=3.0,
            centre="ring",
            layout="sectors",
            brightness="heart",
            # The phantom's cines begin at the R wave, which tells where systole is.
            phase_roll=False,
        ),
        model=ModelConfig(
            # 16 sectors of 32 radii at 2 neighbouring angles; one token sees its sector through the whole beat.
            video=VideoConfig(
                image_size=32, frames=10, tubelet=10, patch=8, width=96, depth=2, heads=4, motion_gain=3.0
            ),
            # Three impressions of four are no longer. With all of them whole (80 tokens) R@1 of validation patients was
            # 26 and 19 % for 20 and 26, one seed each: no difference.
            text=TextConfig(length=48, width=96, depth=1, heads=4),
            embed_dim=64,
            dtype="float32",
            remat="none",
        ),
        optim=OptimConfig(learning_rate=4e-3, warmup_steps=40, weight_decay=0.05),
        train=TrainConfig(steps=640, batch_size=64, checkpoint_every=160, eval_every=160),
    )
    return ConfigDict(to_dict(config)).lock()
