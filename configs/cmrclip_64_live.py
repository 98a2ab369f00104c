"""`cmrclip_64.py` with temporal attention that learns: normally drawn queries, keys and values, and a zero projection.
It starts as the same image model; every temporal weight gets a gradient from the second step on."""

from ml_collections import ConfigDict

from configs import cmrclip_64


def get_config() -> ConfigDict:
    config = cmrclip_64.get_config()
    config.update_from_flattened_dict({"model.video.time_init": "zero_projection"})
    return config
