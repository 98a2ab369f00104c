"""Takes studies out of a dataset for good: `python -m preprocessing.remove --data DIR --study ID[,ID] | --patient ID`.

Ids are pseudonyms, as in studies.csv. Shards, tables, contact sheets and manifest are made anew without them, and no
later run into the same folder brings them back.
"""

from pathlib import Path

from absl import flags

from cmr_jax import cli
from cmr_jax.data import records
from cmr_jax.errors import InputError
from preprocessing import removal, removed, swap, write

_DATA = flags.DEFINE_string("data", None, "Folder that preprocessing.run made.", required=True)
_STUDY = flags.DEFINE_list("study", [], "Pseudonyms of studies, as in the column study_id of studies.csv.")
_PATIENT = flags.DEFINE_list("patient", [], "Pseudonyms of patients: all their studies, later ones too.")


def _main() -> int:
    """Removes what the flags name; returns the exit code."""
    folder = Path(_DATA.value)
    asked = {("study", name) for name in _STUDY.value} | {("patient", name) for name in _PATIENT.value}
    if not asked:
        raise InputError("nothing to remove: give --study or --patient with pseudonyms of studies.csv")
    if not folder.is_dir():
        raise InputError("--data is not a folder that preprocessing.run made")
    with swap.locked(folder):
        swap.heal(folder)
    records.load_manifest(folder)
    rows = write.read_table(folder / "studies.csv")[1]
    gone = {row["study_id"] for row in rows if asked & {("study", row["study_id"]), ("patient", row["patient_id"])}}
    _check(asked, rows, removed.read(folder))
    if len(gone) == len(rows):
        raise InputError("that is every study: delete the folder instead")
    try:
        removal.add(folder, asked)
        if gone:
            removal.take_out(folder, gone)
    except OSError as error:
        raise InputError(
            f"--data cannot be written ({error.strerror}): the dataset stands as it was; mend that, then run again"
        ) from None
    print(f"{len(gone)} of {len(rows)} studies removed; checkpoints and embeddings made before still know them")
    return 0


def _check(asked: set[tuple[str, str]], rows: list[dict[str, str]], listed: set[tuple[str, str]]) -> None:
    known = {(kind, row[f"{kind}_id"]) for row in rows for kind in removed.KINDS}
    for kind, name in sorted(asked):
        if not removed.is_pseudonym(name):
            raise InputError(f"--{kind}: give 16-digit pseudonyms as in studies.csv")
        if (kind, name) not in known | listed:
            raise InputError(f"--{kind}: {name} is not in studies.csv")


def main() -> None:
    """The console script cmr-remove."""
    cli.run(_main, private=True)


if __name__ == "__main__":
    main()
