"""CMRformer (arXiv 2304.07675), *reconstructed*: the body of the paper was not available to us.

"paper" is said in its abstract or by its successors, "inferred" is our conclusion from file names in a follow-up's
code (`SpaceTimeTransformer(num_frames=32, time_init="zeros", attention_style="frozen-in-time")`) and from
Frozen-in-Time (arXiv 2104.00650), which it is built on. `cmrformer_base_live.py` has temporal attention that learns.
What `cmrclip_64.py` says of augmentation, missing views, decay and precision holds here too. The published early stop
(after 10 epochs without gain, inferred) is left to the eye: --config.train.eval_every writes what it would look at.
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

# 13,787 studies (paper), four fifths of them for training (inferred from CMR-CLIP's split), in batches of 16.
STEPS_AN_EPOCH = 689


def get_config() -> ConfigDict:
    config = Config(
        # Which views it saw is not known to us: the two cines that its successor shows first (inferred).
        data=DataConfig(views=("cine_lax", "cine_sax"), sections=("impression",)),
        model=ModelConfig(
            arch="concat",
            # Inferred: ViT-B/16 at 224 px over 32 frames.
            video=VideoConfig(
                image_size=224, frames=32, tubelet=1, patch=16, width=768, depth=12, heads=12, time_init="zeros"
            ),
            # Inferred: DistilBERT, its first token.
            text=TextConfig(
                kind="distilbert", vocab_size=30522, pool="cls", length=512, positions=512, dropout=0.1, width=768,
                depth=6, heads=12,
            ),
            embed_dim=256,  # inferred
            image_head="linear_bias",  # inferred: Frozen-in-Time has the ReLU on the side of the text alone
            text_head="relu_linear",  # inferred
            temperature=0.05,  # inferred
            learn_temperature=False,
        ),
        loss=LossConfig(weight=2.0, same_text_positive=False),  # inferred
        # Inferred: AdamW at 3e-5, constant there; decay and betas are torch's defaults.
        optim=OptimConfig(learning_rate=3e-5, warmup_steps=0, weight_decay=0.01, b2=0.999, clip_norm=0.0),
        train=TrainConfig(steps=100 * STEPS_AN_EPOCH, batch_size=16, checkpoint_every=STEPS_AN_EPOCH),  # inferred
    )  # fmt: skip
    return ConfigDict(to_dict(config)).lock()
