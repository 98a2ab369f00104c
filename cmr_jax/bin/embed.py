"""Embeds a dataset: `python -m cmr_jax.bin.embed --workdir W --data D --split test --out E`."""

import pathlib
import shutil

from absl import flags

from cmr_jax import cli
from cmr_jax.data import schema
from cmr_jax.errors import InputError
from cmr_jax.evals import export
from cmr_jax.evals.embed import embed_dataset

_WORKDIR = flags.DEFINE_string("workdir", None, "Workdir of a training run.")
_CHECKPOINT = flags.DEFINE_string("checkpoint", None, "Or one checkpoint of it, WORKDIR/checkpoints/00000400.")
_STEP = flags.DEFINE_integer("step", None, "Step to take from --workdir; default the newest undamaged one.")
_DATA = flags.DEFINE_string("data", None, "Dataset folder, the --out of preprocessing.run.")
_SPLIT = flags.DEFINE_string("split", "test", "train, val, test, several with commas, or all.")
_HIDE = flags.DEFINE_list("hide_views", [], "Embed as if no study had a series of these views, such as cine_2ch.")
_OUT = flags.DEFINE_string("out", None, "Where image.npy, text.npy, ids.csv and manifest.json go.")


def _main() -> None:
    if not _DATA.value or not _OUT.value:
        raise InputError("give --data and --out (see --help)")
    splits = schema.SPLITS if _SPLIT.value == "all" else tuple(_SPLIT.value.split(","))
    # Beside --out: a call that was stopped continues there, and nothing half-written is ever seen at --out.
    keep = pathlib.Path(f"{pathlib.Path(_OUT.value)}.partial")
    found = embed_dataset(
        workdir=_WORKDIR.value,
        checkpoint=_CHECKPOINT.value,
        data=_DATA.value,
        splits=splits,
        step=_STEP.value,
        hidden_views=_HIDE.value,
        keep=keep,
    )
    export.save(found, _OUT.value)
    shutil.rmtree(keep)
    print(f"{len(found.ids['row'])} studies x {found.image_NE.shape[1]} in {_OUT.value}")


def main() -> None:
    cli.run(_main)


if __name__ == "__main__":
    main()
