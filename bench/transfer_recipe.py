"""configs/transfer.py with some of its settings changed, for benches that ask what each is good for."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cmr_jax import config as config_lib
from cmr_jax.config import Config


def recipe(data: Path, steps: int, changes: Mapping[str, Any] | None = None) -> Config:
    """The Config that trains `steps` steps on the records in `data`, with `changes` by dotted key.

    Raises:
      InputError: for settings that do not go together.
      KeyError: for a key that no config has.
      TypeError: for a value of another kind.
    """
    from configs.transfer import get_config

    raw = get_config()
    raw.update_from_flattened_dict({**(changes or {}), "data.path": str(data), "train.steps": steps})
    return config_lib.from_dict(raw.to_dict())
