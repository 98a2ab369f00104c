"""AdamW, its schedule, and the tables that say which parameters decay, at which share of the rate, and which stay."""

import dataclasses
import re
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from cmr_jax.config import Config, OptimConfig
from cmr_jax.errors import InputError
from cmr_jax.sharding import path_name
from cmr_jax.structs import Params

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

# (regex on the parameter's path, its place in its tower), first match wins; exhaustive like DECAY. "stem" is what makes
# tokens, "block" a stack whose leading axis counts layers, "top" what comes after the last block.
PLACE: tuple[tuple[str, str], ...] = (
    (r"^(log_scale|logit_bias)$", "top"),
    (r"^((image|text)_projection|numbers)/", "top"),
    (r"/blocks/", "block"),
    (r"/(patch|token|token_type|embedding_norm|view|slice)/", "stem"),
    (r"/(cls|position|time_position)$", "stem"),
    (r"/phase_position/", "stem"),
    (r"/(norm|phase_norm|pool|pooler)/", "top"),
)
# The stacks of a tower from the bottom up.
_STACKS = ("stack", "phase_stack", "series_stack")


def _first_match(name: str, table: tuple[tuple[str, Any], ...], what: str, title: str) -> Any:
    for pattern, value in table:
        if re.search(pattern, name):
            return value
    raise ValueError(f"no {what} rule for {name!r}: add it to cmr_jax.optim.{title}")


def decay_mask(params: Params) -> Any:
    """True for every leaf that weight decay pulls on.

    Raises:
      ValueError: for a parameter that no rule of DECAY matches.
    """

    def decays(path: Any, _: Any) -> bool:
        return _first_match(path_name(path), DECAY, "weight-decay", "DECAY")

    return jax.tree_util.tree_map_with_path(decays, params)


def rates(params: Params, config: OptimConfig) -> Any:
    """The share of the learning rate of every leaf: a float32 array that broadcasts against it, one number a layer for
    stacked blocks. Heads, temperature and bias have the whole rate.

    Raises:
      ValueError: for a parameter that no rule of PLACE matches.
    """
    named = jax.tree_util.tree_leaves_with_path(params)
    depths: dict[str, dict[str, int]] = {"image": {}, "text": {}}
    for path, leaf in named:
        if stack := _stack(path_name(path)):
            depths[path_name(path).split("/")[0]][stack] = leaf.shape[0]

    def rate(path: Any, leaf: Any) -> np.ndarray:
        name = path_name(path)
        place = _first_match(name, PLACE, "layer", "PLACE")
        side = name.split("/")[0]
        tower = {"image": config.image_rate, "text": config.text_rate}.get(side, 1.0)
        if place == "top":
            return np.asarray(tower, np.float32)
        depth = depths[side]
        total = sum(depth.values())
        if place == "stem":
            return np.asarray(tower * config.layer_decay**total, np.float32)
        stack = _stack(name)
        below = sum(depth.get(other, 0) for other in _STACKS[: _STACKS.index(stack)])
        layer = below + np.arange(leaf.shape[0])
        shares = tower * config.layer_decay ** (total - 1 - layer)
        return shares.astype(np.float32).reshape(-1, *(1,) * (leaf.ndim - 1))

    return jax.tree_util.tree_map_with_path(rate, params)


def _stack(name: str) -> str:
    """The name of the stack that a stacked block's parameter belongs to; "" for any other parameter."""
    found = re.search(r"(\w+)/blocks/", name)
    return found[1] if found else ""


def split(params: Params, freeze: tuple[str, ...]) -> tuple[Params, Params]:
    """(what trains, what stays): two trees like `params`, each with None in the place of the other's leaves.

    Raises:
      InputError: for a pattern that matches no parameter, and where nothing is left to train.
    """
    if not freeze:
        return params, jax.tree.map(lambda _: None, params)
    names = [path_name(path) for path, _ in jax.tree_util.tree_leaves_with_path(params)]
    for pattern in freeze:
        if not any(re.search(pattern, name) for name in names):
            raise InputError(f"config.optim.freeze: {pattern!r} matches no parameter (such as {names[0]!r})")
    frozen = {name for name in names if any(re.search(pattern, name) for pattern in freeze)}
    if len(frozen) == len(names):
        raise InputError("config.optim.freeze leaves nothing to train")

    def keep(stays: bool) -> Params:
        def one(path: Any, leaf: Any) -> Any:
            return leaf if (path_name(path) in frozen) == stays else None

        return jax.tree_util.tree_map_with_path(one, params)

    return keep(False), keep(True)


def join(moving: Params, fixed: Params) -> Params:
    """The inverse of `split`."""
    return jax.tree.map(lambda a, b: b if a is None else a, moving, fixed, is_leaf=lambda x: x is None)


def lengths(config: Config, studies: int) -> Config:
    """`config` with the length of the run and of the warm-up in steps, whatever they were given in, for a training
    split of `studies` studies: at least one step, rounded up."""

    def steps(epochs: float, examples: int, otherwise: int) -> int:
        if not epochs and not examples:
            return otherwise
        return max(1, -(-round(examples or epochs * studies) // config.train.batch_size))

    train, rate = config.train, config.optim
    return dataclasses.replace(
        config,
        train=dataclasses.replace(train, steps=steps(train.epochs, train.examples, train.steps)),
        optim=dataclasses.replace(
            rate, warmup_steps=steps(rate.warmup_epochs, rate.warmup_examples, rate.warmup_steps)
        ),
    )


def schedule(config: OptimConfig, steps: int) -> optax.Schedule:
    """Linear warm-up, then as `config.schedule` says; cosine and linear end at zero at `steps`."""
    warmup = min(config.warmup_steps, steps)
    peak, total = config.learning_rate, max(steps, warmup + 1)
    if config.schedule == "cosine":
        return optax.warmup_cosine_decay_schedule(config.warmup_from, peak, warmup, total)
    rise = optax.linear_schedule(config.warmup_from, peak, warmup)
    end = peak if config.schedule == "constant" else 0.0
    return optax.join_schedules([rise, optax.linear_schedule(peak, end, total - warmup)], [warmup])


class EmaState(NamedTuple):
    """The averaged parameters (None for frozen ones) and the number of updates in them."""

    count: jax.Array
    ema: Params


def _ema(decay: float) -> optax.GradientTransformation:
    """Keeps an average of the parameters, after the updates that pass through. The first update is taken whole and the
    memory grows to `decay`, so that nothing of the start stays in it."""

    def init(params: Params) -> EmaState:
        return EmaState(jnp.zeros((), jnp.int32), jax.tree.map(jnp.copy, params))

    def update(updates: Any, state: Any, params: Any = None):
        count = state.count.astype(jnp.float32)
        old = jnp.minimum(decay, count / (count + 9.0))
        new = optax.apply_updates(params, updates)
        ema = jax.tree.map(lambda a, b: old * a + (1.0 - old) * b, state.ema, new)
        return updates, EmaState(state.count + 1, ema)

    return optax.GradientTransformation(init, update)


def averaged(params: Params, opt_state: Any) -> Params:
    """What to evaluate: the averaged parameters where the optimizer keeps them (`ema_decay`), else `params`."""
    for part in opt_state:
        if isinstance(part, EmaState):
            return join(part.ema, params)
    return params


def make_optimizer(config: OptimConfig, steps: int) -> optax.GradientTransformation:
    """Starts on all parameters or on those that train; updates those that train (`split`)."""
    parts = [
        # The state keeps its shape either way.
        optax.clip_by_global_norm(config.clip_norm or float("inf")),
        optax.adamw(
            schedule(config, steps), b1=config.b1, b2=config.b2, weight_decay=config.weight_decay, mask=decay_mask
        ),
    ]
    if (config.image_rate, config.text_rate, config.layer_decay) != (1.0, 1.0, 1.0):
        parts.append(
            optax.stateless(lambda updates, params: jax.tree.map(jnp.multiply, updates, rates(params, config)))
        )
    if config.ema_decay:
        parts.append(_ema(config.ema_decay))
    chain = optax.chain(*parts)

    def init(params: Params) -> optax.OptState:
        return chain.init(split(params, config.freeze)[0] if config.freeze else params)

    return optax.GradientTransformation(init, chain.update)
