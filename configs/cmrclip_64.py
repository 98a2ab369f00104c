"""CMR-CLIP as released (Nature Communications 17, 2026, 10.1038/s41467-026-73022-2; MIT code), its fault included.

"paper" and "code" say where a value was read; the sizes that follow from it: 114.2 M video parameters, 12,545 tokens
and 2.97 TFLOP forward a study. As published the temporal attention never learns (zero queries, keys and values:
`model.video.time_init`); `cmrclip_64_live.py` is the same with one that does.

The records must hold 224 pixels a side or a whole multiple (preprocessing.run --image_size 224).
Start as they did with --config.model.video.init_from=VIT.safetensors (timm's vit_base_patch16_224, ImageNet) and
--config.model.text.init_from=FOLDER (Bio_ClinicalBERT). Different here on purpose or for want of a counterpart:

- no horizontal flip, which mirrors the heart; small shifts and gains in place of random crops of scale 0.5-1 (code);
- a study that lacks a view is shown with black frames in its place instead of being left out (code);
- norms and biases are free of weight decay; hidden states alone have BERT's dropout, attention weights have none;
- bfloat16 products and remat, where the code has float32 and keeps everything (17 GiB a study).
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

# 11,028 training studies (paper) in batches of 16 (code).
STEPS_AN_EPOCH = 689


def get_config() -> ConfigDict:
    config = Config(
        data=DataConfig(
            # Code: 30 + 30 frames of cine, N slices of LGE, each further LGE view N times.
            views=("cine_lax", "cine_sax", "lge_sax", "lge_lax", "lge_2ch", "lge_3ch"),
            sections=("impression",),  # paper
        ),
        model=ModelConfig(
            arch="concat",
            # Code: ViT-B/16 at 224 px over 64 frames.
            video=VideoConfig(
                image_size=224, frames=64, tubelet=1, patch=16, width=768, depth=12, heads=12, time_init="zeros"
            ),
            # Code: Bio_ClinicalBERT, mean over the mask, up to 512 tokens.
            text=TextConfig(
                kind="bert", vocab_size=28996, pool="mean", length=512, positions=512, dropout=0.1, width=768, depth=12,
                heads=12,
            ),
            embed_dim=512,  # code
            image_head="relu_linear",  # code
            text_head="relu_linear",  # code
            temperature=0.05,  # code
            learn_temperature=False,  # code
        ),
        # Code: the two directions summed; a study's own report is its only positive.
        loss=LossConfig(weight=2.0, same_text_positive=False),
        # Code: AdamW, ten epochs up from 1e-5, cosine to 0; nothing is clipped. torch's betas.
        optim=OptimConfig(
            learning_rate=3e-5, warmup_steps=10 * STEPS_AN_EPOCH, warmup_from=1e-5, weight_decay=1e-5, b2=0.999,
            clip_norm=0.0,
        ),
        train=TrainConfig(steps=100 * STEPS_AN_EPOCH, batch_size=16, checkpoint_every=STEPS_AN_EPOCH),  # code
    )  # fmt: skip
    return ConfigDict(to_dict(config)).lock()
