"""Embeds a dataset: `python -m cmr_jax.bin.embed --workdir W --data D --split test --out E`."""

import pathlib
import shutil
from typing import Any

import jax
from absl import flags
from jax.experimental import multihost_utils

from cmr_jax import cli
from cmr_jax.data import schema
from cmr_jax.errors import InputError
from cmr_jax.evals import export
from cmr_jax.evals.embed import embed_dataset, embed_together

_WORKDIR = flags.DEFINE_string("workdir", None, "Workdir of a training run.")
_CHECKPOINT = flags.DEFINE_string("checkpoint", None, "Or one checkpoint of it, WORKDIR/checkpoints/00000400.")
_STEP = flags.DEFINE_integer("step", None, "Step to take from --workdir; default the newest undamaged one.")
_DATA = flags.DEFINE_string("data", None, "Dataset folder, the --out of preprocessing.run.")
_SPLIT = flags.DEFINE_string("split", "test", "train, val, test, several with commas, or all.")
_HIDE = flags.DEFINE_list("hide_views", [], "Embed as if no study had a series of these views, such as cine_2ch.")
_OUT = flags.DEFINE_string("out", None, "Where image.npy, text.npy, ids.csv and manifest.json go.")


_DISTRIBUTED = flags.DEFINE_bool("distributed", False, "Join the other processes of the job; each embeds a part.")
_COORDINATOR = flags.DEFINE_string("coordinator", None, "host:port of process 0, where no scheduler tells it.")
_NUM_PROCESSES = flags.DEFINE_integer("num_processes", None, "Processes of the job, where no scheduler tells it.")
_PROCESS_ID = flags.DEFINE_integer("process_id", None, "This process, where no scheduler tells it.")


def _main() -> None:
    if not _DATA.value or not _OUT.value:
        raise InputError("give --data and --out (see --help)")
    splits = schema.SPLITS if _SPLIT.value == "all" else tuple(_SPLIT.value.split(","))
    # Beside --out: a call that was stopped continues there, and nothing half-written is ever seen at --out.
    keep = pathlib.Path(f"{pathlib.Path(_OUT.value)}.partial")
    if _DISTRIBUTED.value:
        jax.distributed.initialize(_COORDINATOR.value, _NUM_PROCESSES.value, _PROCESS_ID.value)
    settings: dict[str, Any] = {
        "workdir": _WORKDIR.value,
        "checkpoint": _CHECKPOINT.value,
        "data": _DATA.value,
        "splits": splits,
        "step": _STEP.value,
        "hidden_views": _HIDE.value,
        "keep": keep,
    }
    found = embed_together(**settings) if jax.process_count() > 1 else embed_dataset(**settings)
    if found is not None:
        export.save(found, _OUT.value)
        shutil.rmtree(keep)
        print(f"{len(found.ids['row'])} studies x {found.image_NE.shape[1]} in {_OUT.value}")
    if jax.process_count() > 1:
        # A process that leaves would be missed by those that still work.
        multihost_utils.sync_global_devices("saved")


def main() -> None:
    cli.run(_main)


if __name__ == "__main__":
    main()
