"""DICOM and reports to checked, de-identified TFRecords: `python -m preprocessing.run --help`."""

import secrets
import sys
from pathlib import Path

from absl import flags

from cmr_jax import cli
from cmr_jax.errors import InputError
from preprocessing import deid, parallel, pipeline, process, reports, scrub, splits, summary, views

_DICOM_DIR = flags.DEFINE_string("dicom_dir", None, "Folder with the DICOM files, in any layout.", required=True)
_REPORTS = flags.DEFINE_string("reports", None, "CSV or JSON lines of the reports.", required=True)
_OUT = flags.DEFINE_string("out", None, "Folder for the dataset.")
_KEY_FILE = flags.DEFINE_string("key_file", None, "Secret key of the pseudonyms; made on a first run.")
_LABELS = flags.DEFINE_list("label_columns", [], "Columns of --reports to keep as labels.")
_VIEW_TABLE = flags.DEFINE_string("view_table", "", "CSV pattern,view: the site's own view rules, tried first.")
_SCRUBBER = flags.DEFINE_string("scrubber", "", "module:function, called with each report after our own scrubber.")
_FRACTIONS = flags.DEFINE_list("split_fractions", ["0.7", "0.1", "0.2"], "Shares of train,val,test, by patient.")
_IMAGE_SIZE = flags.DEFINE_integer("image_size", 128, "Pixels a side of a frame.", lower_bound=16, upper_bound=1024)
_SPACING_MM = flags.DEFINE_float("spacing_mm", 1.5, "Millimetres a stored pixel.", lower_bound=0.2, upper_bound=20.0)
_VOCAB_SIZE = flags.DEFINE_integer("vocab_size", 2048, "Largest vocabulary of the tokenizer.", lower_bound=16)
_PER_SHARD = flags.DEFINE_integer("studies_per_shard", 256, "Studies a shard file.", lower_bound=1)
_NUM_WORKERS = flags.DEFINE_integer("num_workers", None, "Processes; default: one a core.", lower_bound=0)
_SHARD_INDEX = flags.DEFINE_integer("shard_index", None, "Array task: which part of --num_shards to do.")
_NUM_SHARDS = flags.DEFINE_integer("num_shards", None, "Array task: number of parts.", lower_bound=1)
_FINALIZE = flags.DEFINE_bool("finalize", False, "Publish what the array tasks did.")
_STRICT = flags.DEFINE_bool("strict", False, "Exit 3 if any file was rejected.")
_DRY_RUN = flags.DEFINE_bool("dry_run", False, "Read headers, print what was understood, write nothing.")

EXIT_REJECTED = 3
_RESERVED_LABELS = ("study_id", "patient_id", "split", "site")


def _main() -> int:
    """Runs the preprocessing as the flags say; returns the exit code."""
    _check_flags()
    fractions = splits.parse_fractions(_FRACTIONS.value)
    site_table = views.read_site_table(Path(_VIEW_TABLE.value)) if _VIEW_TABLE.value else ()
    scrub.load(_SCRUBBER.value)
    table = reports.read(Path(_REPORTS.value), _LABELS.value)
    workers = parallel.available_cores() if _NUM_WORKERS.value is None else _NUM_WORKERS.value
    if _DRY_RUN.value:
        return _dry_run(table, site_table, workers)
    out, key_file = Path(_OUT.value or ""), Path(_KEY_FILE.value or "")
    _refuse_other_key(out, key_file)
    try:
        with parallel.Workers(workers) as pool:
            planned = pipeline.plan(Path(_DICOM_DIR.value), table, pool)
            key = deid.load_key(key_file, create=True)
            settings = process.Settings(
                root=Path(_DICOM_DIR.value),
                work_dir=pipeline.open_work(out, deid.Pseudonyms(key)),
                key=key,
                image_size=_IMAGE_SIZE.value,
                spacing_mm=_SPACING_MM.value,
                fractions=fractions,
                site_table=site_table,
                scrubber=_SCRUBBER.value,
            )
            if not _FINALIZE.value:
                tasks = planned.tasks
                if _SHARD_INDEX.value is not None:
                    tasks = pipeline.mine(tasks, deid.Pseudonyms(key), _SHARD_INDEX.value, _NUM_SHARDS.value or 1)
                pipeline.process_all(settings, tasks, pool)
                if _SHARD_INDEX.value is not None:
                    print(f"{len(tasks)} of {len(planned.tasks)} studies done; publish all tasks' work with --finalize")
                    return 0
        return _publish(out, settings, planned)
    except OSError as error:
        raise InputError(
            f"--out cannot be written ({error.strerror}); nothing was published: mend that, then run again to continue"
        ) from None


def _check_flags() -> None:
    if not Path(_DICOM_DIR.value).is_dir():
        raise InputError("--dicom_dir is not a folder")
    for name in _LABELS.value:
        if name in _RESERVED_LABELS:
            raise InputError(f"--label_columns: {name!r} is a column of our own, rename yours")
    if _DRY_RUN.value:
        return
    if not _OUT.value or not _KEY_FILE.value:
        raise InputError("--out and --key_file are needed (but for --dry_run)")
    out, root, key = (Path(p).resolve() for p in (_OUT.value, _DICOM_DIR.value, _KEY_FILE.value))
    if out.exists() and not out.is_dir():
        raise InputError("--out is not a folder")
    if out.is_relative_to(root):
        raise InputError("--out lies inside --dicom_dir: name another folder")
    if key.is_relative_to(out):
        raise InputError("--key_file lies inside --out, where it would be given away with the data: name another place")
    if (_SHARD_INDEX.value is None) != (_NUM_SHARDS.value is None) and not _FINALIZE.value:
        raise InputError("--shard_index and --num_shards go together")
    if _SHARD_INDEX.value is not None and not 0 <= _SHARD_INDEX.value < (_NUM_SHARDS.value or 0):
        raise InputError("--shard_index must be at least 0 and below --num_shards")


def _refuse_other_key(out: Path, key_file: Path) -> None:
    known = pipeline.known_fingerprint(out)
    if known and deid.Pseudonyms(deid.load_key(key_file, create=False)).fingerprint != known:
        raise InputError(
            f"--key_file is not the key that made what --out holds (its fingerprint is {known}): give that key, or"
            " another --out"
        )


def _dry_run(table: dict[str, reports.Report], site_table: views.SiteTable, num_workers: int) -> int:
    with parallel.Workers(num_workers) as workers:
        planned = pipeline.plan(Path(_DICOM_DIR.value), table, workers)
    rows = pipeline.preview(planned, deid.Pseudonyms(secrets.token_bytes(32)), site_table)
    files = [("", status, reason) for _, status, reason in planned.others]
    print(summary.preview(planned.counts, files, rows))
    return EXIT_REJECTED if _STRICT.value and any(status == "rejected" for _, status, _ in files) else 0


def _publish(out: Path, settings: process.Settings, planned: pipeline.Plan) -> int:
    # Imported here: every spawned worker imports this module, and needs neither tensorflow-datasets nor matplotlib.
    from preprocessing import publish

    manifest = publish.publish(out, settings, planned, vocab_size=_VOCAB_SIZE.value, studies_per_shard=_PER_SHARD.value)
    counts = manifest["counts"]
    by_split = ", ".join(f"{name} {split['studies']}" for name, split in manifest["splits"].items())
    print(
        f"{counts['studies']} studies ({by_split}) of {counts['patients']} patients; {counts['files_seen']} files:"
        f" {counts['files_used']} used, {counts['files_ignored']} ignored, {counts['files_rejected']} rejected"
    )
    if counts["files_rejected"]:
        print("files.csv gives each file's reason", file=sys.stderr)
    return EXIT_REJECTED if _STRICT.value and counts["files_rejected"] else 0


def main() -> None:
    """The console script cmr-preprocess."""
    cli.run(_main)


if __name__ == "__main__":
    main()
