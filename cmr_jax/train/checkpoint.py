"""Checkpoints: Orbax writes the arrays, a SHA-256 manifest says that they are whole.

Orbax restores flipped bits without noticing, so a step counts as saved only once the manifest of its files is in
place (renamed last), and restoring hashes them again. A damaged step is named and the one before it is taken.

Writing goes on beside training: the arrays are copied off the devices before `save` returns (they may be given away
right after), the rest is one thread's work, and never more than one save is under way.
"""

import contextlib
import dataclasses
import errno
import hashlib
import json
import logging
import math
import os
import shutil
import sys
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, Self

import jax
import numpy as np
import orbax.checkpoint.experimental.v1 as ocp
from jax.experimental import multihost_utils

from cmr_jax.errors import InputError
from cmr_jax.structs import Params, TrainState

MANIFESTS = "manifests"
LAST_GOOD = "last_good.json"
# What the system calls it when a disk, a quota, or the size a file may have is used up.
_NO_ROOM = tuple(map(os.strerror, (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)))


def _hashes(folder: Path) -> dict[str, str]:
    files = sorted(p for p in folder.rglob("*") if p.is_file())
    return {str(p.relative_to(folder)): _hash(p) for p in files}


def _hash(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


class Checkpoints:
    """The steps under `folder`: `folder/00000100/` and `folder/manifests/00000100.json`.

    `keep` of them stay, and beside these the one that `mark_good` named last, however old it is.
    """

    def __init__(self, folder: str | Path, keep: int = 2):
        self.folder = Path(folder).absolute()
        self.keep = keep
        self._verified: int | None = None
        self._worker: ThreadPoolExecutor | None = None
        self._under_way: list[Future[None]] = []
        self._unmet = False  # a save that the processes have not met after yet

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        """A save under way is brought to its end, whatever else went wrong."""
        if kind is None:
            self.wait()
            return
        with contextlib.suppress(Exception):
            self.poll(wait=True)

    def _step_dir(self, step: int) -> Path:
        return self.folder / f"{step:08d}"

    def _manifest(self, step: int) -> Path:
        return self.folder / MANIFESTS / f"{step:08d}.json"

    def steps(self) -> list[int]:
        """The committed steps, oldest first."""
        return sorted(int(p.stem) for p in (self.folder / MANIFESTS).glob("*.json"))

    def fingerprint(self, step: int) -> str:
        """SHA-256 of the step's manifest, which holds the hash of every file: it names the checkpoint."""
        return _hash(self._manifest(step))

    def save(self, state: TrainState) -> None:
        """Writes the state of its own step and returns when that is safe on disk; collective over processes.

        Raises:
          InputError: where the disk has no room for it.
        """
        self.save_soon(state)
        self.wait()

    def save_soon(self, state: TrainState) -> None:
        """As `save`, but the writing goes on after it returns; an earlier save is waited for first."""
        self.wait()
        step = int(state.step)
        self.check_room(state)
        if jax.process_index() == 0:
            (self.folder / MANIFESTS).mkdir(parents=True, exist_ok=True)
            # A run that fell back past a damaged step comes by it again.
            self._manifest(step).unlink(missing_ok=True)
        multihost_utils.sync_global_devices(f"checkpoint folder {step}")
        with _no_room_is_said(step, self._step_dir(step)):
            writing = ocp.save_async(str(self._step_dir(step)), _as_dict(state), overwrite=True)
        self._submit(self._finish, step, writing)
        self._unmet = True

    def check_room(self, state: TrainState) -> None:
        """Raises InputError, in all processes, where the disk's free space is less than the state's size."""
        needed = sum(math.prod(leaf.shape) * leaf.dtype.itemsize for leaf in jax.tree.leaves(state))
        there = next(p for p in (self.folder, *self.folder.parents) if p.exists())
        free = shutil.disk_usage(there).free if jax.process_index() == 0 else 0
        if jax.process_count() > 1:  # in MiB: without x64 the devices count to 2^31
            free = int(multihost_utils.broadcast_one_to_all(np.int32(min(free >> 20, 2**31 - 1)))) << 20
        if free < needed:
            raise InputError(
                f"no room for a checkpoint ({os.strerror(errno.ENOSPC)}): it takes {needed / 1e6:.1f} MB and"
                f" {free / 1e6:.1f} are free; what was saved before stands; make room, then start again to continue"
            )

    def wait(self) -> None:
        """Returns when no save is under way any more; collective over processes. Raises what went wrong with one."""
        self.poll(wait=True)
        if self._unmet:
            self._unmet = False
            multihost_utils.sync_global_devices("checkpoint")

    def poll(self, *, wait: bool = False) -> None:
        """Raises what went wrong with a save that is over, without waiting for one that is not."""
        waiting = self._under_way
        while waiting and (wait or waiting[0].done()):
            waiting.pop(0).result()

    def _submit(self, *call: Any) -> None:
        # One thread: what is submitted is done in turn.
        self._worker = self._worker or ThreadPoolExecutor(1, thread_name_prefix="checkpoint")
        self._under_way.append(self._worker.submit(*call))

    def _finish(self, step: int, writing: Any) -> None:
        with _no_room_is_said(step, self._step_dir(step)):
            writing.result()  # ends in a barrier of all processes
            if jax.process_index() == 0:
                self._commit(step)

    def _commit(self, step: int) -> None:
        _replace(self._manifest(step), {"step": step, "sha256": _hashes(self._step_dir(step))})
        good = self.last_good()
        for old in self.steps()[: -self.keep]:
            if old != good:
                # The manifest goes first: what is left if we die here is not a checkpoint any more.
                self._manifest(old).unlink()
                shutil.rmtree(self._step_dir(old), ignore_errors=True)

    def mark_good(self, step: int) -> None:
        """Says of a saved step that training went on well from it: it stays until a later one is marked."""
        if jax.process_index() == 0:
            self._submit(self._mark_good, step)

    def _mark_good(self, step: int) -> None:
        if step in self.steps():
            _replace(self.folder / LAST_GOOD, {"step": step})

    def last_good(self) -> int | None:
        """The step that was marked last; None where there is none (any more)."""
        try:
            found = json.loads((self.folder / LAST_GOOD).read_text())
            return found["step"] if found["step"] in self.steps() else None
        except (OSError, ValueError, KeyError):
            return None

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
        self._verified = None if found < 0 else found
        return self._verified

    def restore(self, step: int, abstract: TrainState) -> TrainState:
        """The state of `step`, each leaf straight to the sharding that `abstract` gives it.

        Raises:
          InputError: where there is no such checkpoint, it is damaged, or it is of another model.
        """
        self._must_be_whole(step)
        try:
            tree = ocp.load(str(self._step_dir(step)), _as_dict(abstract))
        except (ValueError, KeyError) as error:
            raise _misfit(step) from error
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
            raise _misfit(step) from error

    def _must_be_whole(self, step: int) -> None:
        # Not hashed twice in one start, nor by every process of a job.
        if step != self._verified and not self.whole(step):
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


def _replace(path: Path, content: dict[str, Any]) -> None:
    temporary = path.with_suffix(".tmp")
    temporary.write_text(json.dumps(content, indent=1))
    temporary.replace(path)


def _misfit(step: int) -> InputError:
    # What orbax says is a tree over many lines; it stands in the traceback that InputError keeps as its cause.
    return InputError(
        f"checkpoint {step} does not fit this config: it is of another model or optimizer, or of another version of"
        " cmr_jax; give the config that it was trained with, or another --workdir"
    )


def _as_dict(state: TrainState) -> dict:
    return {field.name: getattr(state, field.name) for field in dataclasses.fields(state)}
