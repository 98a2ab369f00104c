"""Checkpoints: Orbax writes the arrays, a SHA-256 manifest says that they are whole.

Orbax restores flipped bits without noticing, so a step counts as saved only once the manifest of its files is in
place (renamed last), and restoring hashes them again. A damaged step is named and the one before it is taken.
"""

import contextlib
import errno
import hashlib
import json
import logging
import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import jax
import numpy as np
import orbax.checkpoint.experimental.v1 as ocp
from jax.experimental import multihost_utils

from cmr_jax.errors import InputError
from cmr_jax.structs import Params, TrainState

MANIFESTS = "manifests"
# What the system calls it when a disk, a quota, or the size a file may have is used up.
_NO_ROOM = tuple(map(os.strerror, (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)))


def _hashes(folder: Path) -> dict[str, str]:
    files = sorted(p for p in folder.rglob("*") if p.is_file())
    return {str(p.relative_to(folder)): hashlib.sha256(p.read_bytes()).hexdigest() for p in files}


class Checkpoints:
    """The steps under `folder`: `folder/00000100/` and `folder/manifests/00000100.json`."""

    def __init__(self, folder: str | Path, keep: int = 2):
        self.folder = Path(folder).absolute()
        self.keep = keep

    def _step_dir(self, step: int) -> Path:
        return self.folder / f"{step:08d}"

    def _manifest(self, step: int) -> Path:
        return self.folder / MANIFESTS / f"{step:08d}.json"

    def steps(self) -> list[int]:
        """The committed steps, oldest first."""
        return sorted(int(p.stem) for p in (self.folder / MANIFESTS).glob("*.json"))

    def fingerprint(self, step: int) -> str:
        """SHA-256 of the step's manifest, which holds the hash of every file: it names the checkpoint."""
        return hashlib.sha256(self._manifest(step).read_bytes()).hexdigest()

    def save(self, state: TrainState) -> None:
        """Writes the state of its own step; collective over processes; returns when it is safe on disk."""
        step = int(state.step)
        if jax.process_index() == 0:
            (self.folder / MANIFESTS).mkdir(parents=True, exist_ok=True)
            # A run that fell back past a damaged step comes by it again.
            self._manifest(step).unlink(missing_ok=True)
        multihost_utils.sync_global_devices(f"checkpoint folder {step}")
        with _no_room_is_said(step, self._step_dir(step)):
            ocp.save(str(self._step_dir(step)), _as_dict(state), overwrite=True)
            if jax.process_index() == 0:
                self._commit(step)
        multihost_utils.sync_global_devices(f"checkpoint {step}")

    def _commit(self, step: int) -> None:
        manifest = self._manifest(step)
        temporary = manifest.with_suffix(".tmp")
        temporary.write_text(json.dumps({"step": step, "sha256": _hashes(self._step_dir(step))}, indent=1))
        temporary.replace(manifest)
        for old in self.steps()[: -self.keep]:
            # The manifest goes first: what is left if we die here is not a checkpoint any more.
            self._manifest(old).unlink()
            shutil.rmtree(self._step_dir(old), ignore_errors=True)

    def whole(self, step: int) -> bool:
        """True where every file of `step` is there and has the hash of its manifest."""
        try:
            expected = json.loads(self._manifest(step).read_text())["sha256"]
        except (OSError, ValueError, KeyError):
            return False
        return _hashes(self._step_dir(step)) == expected

    def newest_whole(self) -> int | None:
        """The newest undamaged step, the same in all processes; each damaged one is named on stderr."""
        found = -1
        if jax.process_index() == 0:
            for step in reversed(self.steps()):
                if self.whole(step):
                    found = step
                    break
                print(f"checkpoint {step} is damaged, trying the one before it", file=sys.stderr)
        if jax.process_count() > 1:
            found = int(multihost_utils.broadcast_one_to_all(np.int32(found)))
        return None if found < 0 else found

    def restore(self, step: int, abstract: TrainState) -> TrainState:
        """The state of `step`, each leaf straight to the sharding that `abstract` gives it.

        Raises:
          InputError: where there is no such checkpoint, it is damaged, or it is of another model.
        """
        self._must_be_whole(step)
        try:
            tree = ocp.load(str(self._step_dir(step)), _as_dict(abstract))
        except (ValueError, KeyError) as error:
            raise InputError(f"checkpoint {step} does not fit this config's model: {error}") from error
        return TrainState(**tree)

    def restore_params(self, step: int, abstract: Params) -> Params:
        """The parameters of `step` alone: the optimizer's state, twice their size, is not read into memory.

        Raises:
          InputError: as `restore`.
        """
        self._must_be_whole(step)
        context = ocp.Context()
        context.pytree.loading.partial_load = True
        try:
            with context:
                return ocp.load(str(self._step_dir(step)), {"params": abstract})["params"]
        except (ValueError, KeyError) as error:
            raise InputError(f"checkpoint {step} does not fit this config's model: {error}") from error

    def _must_be_whole(self, step: int) -> None:
        if not self.whole(step):
            have = ", ".join(map(str, self.steps())) or "none"
            raise InputError(f"no undamaged checkpoint of step {step} (there: {have})")


@contextlib.contextmanager
def _no_room_is_said(step: int, folder: Path) -> Iterator[None]:
    """A full disk as one line, without the part that was written; Orbax logs its tracebacks and raises ValueError."""
    logger = logging.getLogger("absl")
    before = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        yield
    except (OSError, ValueError) as error:
        reason = next((words for words in _NO_ROOM if words in str(error)), "")
        if not reason:
            raise
        for partial in folder.parent.glob(f"{folder.name}*"):
            shutil.rmtree(partial, ignore_errors=True)
        raise InputError(
            f"checkpoint {step} could not be written ({reason}): what was saved before stands; make room, then start"
            " again to continue from there"
        ) from None
    finally:
        logger.setLevel(before)


def _as_dict(state: TrainState) -> dict:
    return {"step": state.step, "params": state.params, "opt_state": state.opt_state}
