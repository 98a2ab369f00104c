"""A public benchmark to a dataset of records: `python -m preprocessing.public --dataset acdc --root DIR --out DIR`.

For the image side: there are no reports, so every record says the same sentence in place of one. The splits are the
publisher's, the labels stand in studies.csv and in the records.
"""

import sys
from pathlib import Path

from absl import flags

from cmr_jax import cli
from cmr_jax.data import schema
from cmr_jax.errors import InputError
from preprocessing import parallel, public

_DATASET = flags.DEFINE_enum("dataset", None, public.NAMES, "Which benchmark.", required=True)
_ROOT = flags.DEFINE_string("root", None, "Folder of the benchmark as its publisher lays it out.", required=True)
_OUT = flags.DEFINE_string("out", None, "Folder for the dataset.", required=True)
_KEY_FILE = flags.DEFINE_string("key_file", None, "Secret key of the pseudonyms; made on a first run.", required=True)
_IMAGE_SIZE = flags.DEFINE_integer("image_size", 128, "Pixels a side of a frame.", lower_bound=16, upper_bound=1024)
_SPACING_MM = flags.DEFINE_float("spacing_mm", 1.5, "Millimetres a stored pixel.", lower_bound=0.2, upper_bound=20.0)
_BITS = flags.DEFINE_enum("bits", "8", [str(bits) for bits in schema.BITS], "Of a stored pixel.")
_PER_SHARD = flags.DEFINE_integer("studies_per_shard", 64, "Studies a shard, on average.", lower_bound=1)
_NUM_WORKERS = flags.DEFINE_integer("num_workers", None, "Processes; default: all cores.", lower_bound=0)


def _main() -> int:
    root, out, key_file = (Path(str(each)) for each in (_ROOT.value, _OUT.value, _KEY_FILE.value))
    _check(root, out, key_file)
    try:
        from preprocessing.public import make
    except ModuleNotFoundError as error:
        if error.name != "nibabel":
            raise
        raise InputError("NIfTI images need nibabel: pip install 'cmr_jax[public]'") from None
    try:
        manifest = make.make(
            str(_DATASET.value),
            root,
            out,
            key_file,
            image_size=_IMAGE_SIZE.value,
            spacing_mm=_SPACING_MM.value,
            bits=int(_BITS.value),
            studies_per_shard=_PER_SHARD.value,
            num_workers=parallel.available_cores() if _NUM_WORKERS.value is None else _NUM_WORKERS.value,
        )
    except OSError as error:
        raise InputError(
            f"--out cannot be written ({error.strerror}); nothing was published: mend that, then run again to continue"
        ) from None
    counts = manifest["counts"]
    by_split = ", ".join(f"{name} {manifest['splits'][name]['studies']}" for name in schema.SPLITS)
    print(f"{counts['studies']} studies ({by_split}); {counts['files_used']} of {counts['files_seen']} files used")
    if counts["files_rejected"]:
        print(f"{counts['files_rejected']} files rejected: files.csv gives each file's reason", file=sys.stderr)
    return 0


def _check(root: Path, out: Path, key_file: Path) -> None:
    if not root.is_dir():
        raise InputError("--root is not a folder")
    if out.exists() and not out.is_dir():
        raise InputError("--out is not a folder")
    if out.resolve().is_relative_to(root.resolve()):
        raise InputError("--out lies inside --root: name another folder")
    if key_file.resolve().is_relative_to(out.resolve()):
        raise InputError("--key_file lies inside --out, where it would be given away with the data: name another place")


def main() -> None:
    """The console script cmr-public."""
    cli.run(_main, private=True)


if __name__ == "__main__":
    main()
