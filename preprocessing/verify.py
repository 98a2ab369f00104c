"""Reads a finished dataset again, byte by byte: `python -m preprocessing.verify --data DIR`.

With --dicom_dir it also searches every artefact for the strings that identify patients in the source.
Exits 0 where everything is as the manifest says, 1 naming everything that is not, 2 where there is no dataset.
"""

import sys
from pathlib import Path
from typing import Any

from absl import flags

from cmr_jax import cli
from cmr_jax.data import records
from cmr_jax.errors import InputError
from preprocessing import canary, check, parallel

_DATA = flags.DEFINE_string("data", None, "Folder that preprocessing.run made.", required=True)
_DICOM_DIR = flags.DEFINE_string("dicom_dir", "", "The source: search all artefacts for what identifies in it.")
_REPORTS = flags.DEFINE_string("reports", "", "With --dicom_dir: the table of reports, for its identifiers.")
_ALSO = flags.DEFINE_list("also", [], "With --dicom_dir: more folders to search, as a workdir or embeddings.")
_PER_FOLDER = flags.DEFINE_integer("headers_per_folder", 0, "Headers to read of a folder (0: all).", lower_bound=0)
_NUM_WORKERS = flags.DEFINE_integer("num_workers", None, "Processes of that search; default: all cores.", lower_bound=0)

EXIT_DAMAGED = 1


def _main() -> int:
    """Verifies `--data`; returns the exit code."""
    folder = Path(_DATA.value)
    _check_flags()
    manifest = records.load_manifest(folder)
    problems = check.file_problems(folder, manifest) or check.record_problems(folder, manifest)
    for problem in problems:
        print(problem, file=sys.stderr)
    if problems:
        print(f"damaged: {len(problems)} findings", file=sys.stderr)
        return EXIT_DAMAGED
    if _DICOM_DIR.value and (found := _canaries(folder, manifest)):
        for line in found:
            print(line, file=sys.stderr)
        print(f"identifiers found: {len(found)} findings", file=sys.stderr)
        return EXIT_DAMAGED
    shards = sum(len(split["shards"]) for split in manifest["splits"].values())
    print(f"ok: {manifest['counts']['studies']} studies in {shards} shards")
    return 0


def _check_flags() -> None:
    if not Path(_DATA.value).is_dir():
        raise InputError("--data is not a folder: give the --out folder of preprocessing.run")
    if not _DICOM_DIR.value and (_REPORTS.value or _ALSO.value):
        raise InputError("--reports and --also go with --dicom_dir")
    if _DICOM_DIR.value and not Path(_DICOM_DIR.value).is_dir():
        raise InputError("--dicom_dir is not a folder")
    for number, place in enumerate(_ALSO.value, 1):
        if not Path(place).exists():
            raise InputError(f"--also: there is nothing at the {number}. place")


def _canaries(folder: Path, manifest: dict[str, Any]) -> list[str]:
    """What of the source stands in the artefacts; prints how much was searched for."""
    table = Path(_REPORTS.value) if _REPORTS.value else None
    workers = parallel.available_cores() if _NUM_WORKERS.value is None else _NUM_WORKERS.value
    with parallel.Workers(workers) as pool:
        needles = canary.collect(
            Path(_DICOM_DIR.value), table, manifest.get("label_names", ()), pool, per_folder=_PER_FOLDER.value
        )
        found, searched = canary.findings(needles, folder, [Path(place) for place in _ALSO.value], pool)
    left_out = ", ".join(f"{count} {reason}" for reason, count in sorted(needles.left_out.items())) or "none"
    print(
        f"canaries: {needles.strings} identifying strings (left out as no evidence: {left_out}) in {searched}"
        f" artefacts: {len(found)} findings"
    )
    return found


def main() -> None:
    """The console script cmr-verify."""
    cli.run(_main, private=True)


if __name__ == "__main__":
    main()
