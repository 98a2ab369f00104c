"""AdamW with warm-up and cosine decay, and the table that says which parameters decay."""

import re
from typing import Any

import jax
import optax

from cmr_jax.config import OptimConfig
from cmr_jax.sharding import path_name

# (regex on the parameter's path, decays?), first match wins; exhaustive, a test holds it to that. Norms, biases,
# positions and the temperature are left free: pulling them to zero has no meaning.
DECAY: tuple[tuple[str, bool], ...] = (
    (r"(^|/)(scale|bias|log_scale|logit_bias)$", False),
    # Without a gradient, decay would be all that moves it.
    (r"(^|/)pooler/", False),
    (r"(^|/)(query|cls|position|time_position|phase_position|view|slice)(/embedding)?$", False),
    (r"/embedding$", False),
    (r"/kernel$", True),
)


def decay_mask(params: Any) -> Any:
    """True for every leaf that weight decay pulls on.

    Raises:
      ValueError: for a parameter that no rule of DECAY matches.
    """
    return jax.tree_util.tree_map_with_path(lambda path, _: _decays(path_name(path)), params)


def _decays(name: str) -> bool:
    for pattern, decays in DECAY:
        if re.search(pattern, name):
            return decays
    raise ValueError(f"no weight-decay rule for {name!r}: add it to cmr_jax.optim.DECAY")


def schedule(config: OptimConfig, steps: int) -> optax.Schedule:
    """Linear warm-up, then cosine to zero at `steps`."""
    warmup = min(config.warmup_steps, steps)
    return optax.warmup_cosine_decay_schedule(config.warmup_from, config.learning_rate, warmup, max(steps, warmup + 1))


def make_optimizer(config: OptimConfig, steps: int) -> optax.GradientTransformation:
    return optax.chain(
        # The state keeps its shape either way.
        optax.clip_by_global_norm(config.clip_norm or float("inf")),
        optax.adamw(
            schedule(config, steps), b1=config.b1, b2=config.b2, weight_decay=config.weight_decay, mask=decay_mask
        ),
    )
