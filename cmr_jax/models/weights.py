"""Reading weight files, and mapping their tensors to our parameters and back by a table of rules (`released.py`).

Nothing is dropped or left out in silence: a `Listing` names every tensor that was not used, every parameter that was
not there, every position table that was resampled; what the rules do not foresee is an InputError.
"""

import dataclasses
import pickle
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import safetensors
from flax import traverse_util

from cmr_jax.errors import InputError
from cmr_jax.models import resample
from cmr_jax.models.released import Rule, to_ours, to_theirs

State = Mapping[str, np.ndarray]
# Of training wrappers and task models; `gamma` and `beta` are BERT's names of before 2019.
_WRAPPERS = re.compile(r"^(module\.|_orig_mod\.)+")
_NEST = ("state_dict", "model", "model_state_dict")


@dataclasses.dataclass(frozen=True)
class Listing:
    """What became of every key: theirs that no rule wanted, ours that they do not have, `ours: old -> new` rows."""

    source: str
    used: int
    unused: tuple[str, ...]
    missing: tuple[str, ...]
    resized: tuple[str, ...]

    def __str__(self) -> str:
        parts = [("unused", self.unused), ("not there, left as they start", self.missing), ("resized", self.resized)]
        said = "".join(f"; {what}: {', '.join(names)}" for what, names in parts if names)
        return f"weights of {self.source}: {self.used} tensors read{said}"


def read_state(path: Path) -> dict[str, np.ndarray]:
    """The tensors of a `.safetensors` file, or of a `.bin`, `.pt`, `.pth` or `.ckpt` one where torch is installed, as
    float32 where they are floating.

    Raises:
      InputError: where the file is missing, damaged, or would run code to be read.
    """
    if not path.is_file():
        raise InputError(f"no weight file {path.name!r} there")
    try:
        state = _safetensors(path) if path.suffix == ".safetensors" else _torch(path)
    except (safetensors.SafetensorError, OSError, EOFError, RuntimeError, KeyError) as error:
        raise InputError(f"weight file {path.name!r} cannot be read: {error}") from None
    return {_WRAPPERS.sub("", name): array for name, array in state.items()}


def _safetensors(path: Path) -> dict[str, np.ndarray]:
    with safetensors.safe_open(str(path), "np") as file:
        return {name: _float32(file.get_tensor(name)) for name in file.keys()}  # noqa: SIM118 (not a dict)


def _torch(path: Path) -> dict[str, np.ndarray]:
    try:
        import torch  # type: ignore[import-not-found]  # an extra
    except ImportError:
        raise InputError(f"{path.suffix!r} weights need torch: install it, or convert to .safetensors") from None
    try:
        # Only tensors and plain containers: an unpickler that could run code is never used.
        found: Any = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError:
        raise InputError(f"{path.name!r} holds more than tensors: save its state dict as .safetensors") from None
    while isinstance(found, dict) and (inner := [k for k in _NEST if isinstance(found.get(k), dict)]):
        found = found[inner[0]]
    if not isinstance(found, dict):
        raise InputError(f"{path.name!r} holds no state dict")
    return {
        name: _float32(t.float().numpy() if t.is_floating_point() else t.numpy())
        for name, t in found.items()
        if isinstance(t, torch.Tensor)
    }


def _float32(array: np.ndarray) -> np.ndarray:
    return array if array.dtype.kind in "iub" else np.asarray(array, np.float32)


def take(
    state: State,
    rules: Iterable[Rule],
    shapes: Mapping[str, tuple[int, ...]],
    *,
    source: str,
    may_miss: str = "",
    may_waste: str = "",
) -> tuple[dict[str, np.ndarray], Listing]:
    """Our flat parameters (by path) out of `state`, as `rules` say, at the `shapes` of the model.

    Raises:
      InputError: for a parameter whose tensors are not there and which no `may_miss` (regex on our path) excuses, a
        tensor that nothing uses and no `may_waste` (regex on their name) excuses, or a shape that does not fit.
    """
    found: dict[str, np.ndarray] = {}
    used: set[str] = set()
    missing, resized = [], []
    for rule in rules:
        shape = shapes[rule.ours]
        layered = "/blocks/" in rule.ours
        names = rule.names(shape[0] if layered else 1)
        if absent := [n for group in names for n in group if n not in state]:
            if not (may_miss and re.search(may_miss, rule.ours)) or len(absent) < sum(map(len, names)):
                raise InputError(f"{source} lacks {absent[0]!r}{_and_more(absent)}")
            missing.append(rule.ours)
            continue
        layers = [_join(rule, [state[n] for n in group]) for group in names]
        used |= {n for group in names for n in group}
        array = np.stack(layers) if layered else layers[0]
        if array.shape != shape and rule.resample:
            array = _resample(rule, array, shape, source)
            resized.append(f"{rule.ours} {len(layers[0])} -> {len(array)}")
        if array.shape != shape:
            raise InputError(f"{source}: {names[0][0]!r} gives {rule.ours} {array.shape}, the model has {shape}")
        found[rule.ours] = np.ascontiguousarray(array)
    unused = sorted(set(state) - used)
    if surprise := [n for n in unused if not (may_waste and re.search(may_waste, n))]:
        raise InputError(f"{source} has {surprise[0]!r}{_and_more(surprise)}, which this model has no place for")
    return found, Listing(source, len(used), tuple(unused), tuple(missing), tuple(resized))


def _and_more(names: list[str]) -> str:
    return f" and {len(names) - 1} more" if len(names) > 1 else ""


def _join(rule: Rule, arrays: list[np.ndarray]) -> np.ndarray:
    turned = [to_ours(rule.form, array) for array in arrays]
    return turned[0] if len(turned) == 1 else np.concatenate(turned, axis=-1)


def _resample(rule: Rule, array: np.ndarray, shape: tuple[int, ...], source: str) -> np.ndarray:
    if array.ndim != 2 or array.shape[1] != shape[1]:
        return array  # the caller names the shapes
    how = {"time": resample.time, "grid": resample.grid, "text": resample.text}[rule.resample]
    try:
        return how(array, shape[0])
    except ValueError as error:
        raise InputError(f"{source}: {rule.ours}: {error}") from None


def give(params: Mapping[str, Any], rules: Iterable[Rule]) -> dict[str, np.ndarray]:
    """The inverse of `take`: flat parameters (by path) to a state dict under their names, bitwise."""
    state: dict[str, np.ndarray] = {}
    for rule in rules:
        array = np.asarray(params[rule.ours])
        layers = list(array) if "/blocks/" in rule.ours else [array]
        for group, layer in zip(rule.names(len(layers)), layers, strict=True):
            for name, part in zip(group, np.split(layer, len(group), axis=-1), strict=True):
                state[name] = np.ascontiguousarray(to_theirs(rule.form, part))
    return state


def flat(params: Any) -> dict[str, Any]:
    """`image/stack/blocks/up/kernel` to leaf."""
    return traverse_util.flatten_dict(params, sep="/")


def nested(params: Mapping[str, Any]) -> Any:
    return traverse_util.unflatten_dict(dict(params), sep="/")
