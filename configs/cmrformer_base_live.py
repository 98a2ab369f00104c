"""`cmrformer_base.py` with temporal attention that learns: normally drawn queries, keys and values, a zero projection.
It starts as the same image model; every temporal weight gets a gradient from the second step on."""

from ml_collections import ConfigDict

from configs import cmrformer_base


def get_config() -> ConfigDict:
    config = cmrformer_base.get_config()
    config.update_from_flattened_dict({"model.video.time_init": "zero_projection"})
    return config
