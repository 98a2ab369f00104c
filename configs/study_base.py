"""The study encoder at a size for real training: ViT-B/16 at 224 px over any subset of 13 series of a study.

Where the choices come from: ViT-B/16 at 224 px, and up to 512 tokens of text (CMR-CLIP, code; long text: BMC-LongCLIP);
patch dropout 0.5 (FLIP, arXiv 2212.00794: as good at half the cost); sampled sentences as extra positives (DreamLIP,
arXiv 2403.17007); view dropout, masked attention pooling (EchoPrime); sigmoid loss, its bias and temperature (SigLIP,
arXiv 2303.15343, section 3.2). Views, augmentations and learning rate are ours, and tubelets of 4 of 16 frames, which
keep a study at 2.4 TFLOP forward, below the 2.97 of CMR-CLIP's 64 frames. A still picture (LGE) fills one of its slot's
four tubelets.
No figure of a trained model stands behind this file yet.

Records: `preprocessing.run --image_size 224 --spacing_mm 1.4` keeps 314 mm around the heart.
"""

from ml_collections import ConfigDict

from cmr_jax.config import (
    Config,
    DataConfig,
    LossConfig,
    MeshConfig,
    ModelConfig,
    OptimConfig,
    TextConfig,
    TrainConfig,
    VideoConfig,
    to_dict,
)

CINE = ("cine_sax",) * 4 + ("cine_2ch", "cine_3ch", "cine_4ch")
LGE = ("lge_sax",) * 3 + ("lge_2ch", "lge_3ch", "lge_4ch")


def get_config() -> ConfigDict:
    config = Config(
        data=DataConfig(
            views=CINE + LGE,
            fallback_views=("cine_lax", "lge_lax", "cine_lvot", "cine_rvot", "scout", "unknown"),
            sections=("findings", "impression"),
            shift_px=8,
            rotate_degrees=10.0,
            scale=0.1,
            view_dropout=0.2,
            text_sampling="sentence",
            num_threads=16,
            prefetch=16,
        ),
        model=ModelConfig(
            video=VideoConfig(
                image_size=224, frames=16, tubelet=4, patch=16, width=768, depth=12, heads=12, patch_dropout=0.5,
                series_depth=2,
            ),
            text=TextConfig(length=512, width=512, depth=12, heads=8),
            embed_dim=512,
            dtype="bfloat16",
            remat="full",
            temperature=0.1,
            logit_bias=-10.0,
        ),
        loss=LossConfig(kind="sigmoid", method="ring"),
        optim=OptimConfig(learning_rate=3e-4, warmup_steps=1000, weight_decay=0.1),
        mesh=MeshConfig(fsdp=4),
        train=TrainConfig(steps=20_000, batch_size=512, checkpoint_every=500, eval_every=1000),
    )  # fmt: skip
    return ConfigDict(to_dict(config)).lock()
