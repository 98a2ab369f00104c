"""DICOM and reports to checked, de-identified TFRecords: `python -m preprocessing.run --help`."""

import dataclasses
import secrets
import sys
from pathlib import Path
from typing import Any

from absl import flags

from cmr_jax import cli
from cmr_jax.data import schema
from cmr_jax.errors import InputError
from preprocessing import (
    deid,
    kept,
    parallel,
    phrases,
    pipeline,
    process,
    removed,
    reports,
    scrub,
    splits,
    summary,
    swap,
    views,
)

_DICOM_DIR = flags.DEFINE_string("dicom_dir", None, "Folder with the DICOM files, in any layout.", required=True)
_REPORTS = flags.DEFINE_string(
    "reports", None, "CSV or JSON lines of the reports; may be left out where --dicom_dir holds DICOM SR."
)
_OUT = flags.DEFINE_string("out", None, "Folder for the dataset.")
_KEY_FILE = flags.DEFINE_string("key_file", None, "Secret key of the pseudonyms; made on a first run.")
_LABELS = flags.DEFINE_list("label_columns", [], "Columns of --reports or --label_table to keep as labels.")
_LABEL_TABLE = flags.DEFINE_string(
    "label_table", "", "CSV or JSON lines of labels by study: they stand over those of --reports and of the text."
)
_VIEW_TABLE = flags.DEFINE_string("view_table", "", "CSV pattern,view: the site's own view rules, tried first.")
_SR_REPORTS = flags.DEFINE_enum(
    "sr_reports",
    "fallback",
    ["off", "fallback"],
    "DICOM SR below --dicom_dir as reports of studies that --reports has not.",
)
_TEXT_LABELS = flags.DEFINE_bool("text_labels", True, "Labels and numbers from the reports' text, and findings.csv.")
_LABEL_PHRASES = flags.DEFINE_string("label_phrases", "", "YAML that adds to the phrases of --text_labels.")
_SCRUBBER = flags.DEFINE_string("scrubber", "", "module:function, called with each report after our own scrubber.")
_SPLIT_BY = flags.DEFINE_enum("split_by", "patient", splits.KINDS, "What tells train, val and test apart.")
_FRACTIONS = flags.DEFINE_list("split_fractions", ["0.7", "0.1", "0.2"], "Shares of train,val,test, by patient.")
_DATES = flags.DEFINE_list("split_dates", [], "--split_by time: first day of val, first day of test (YYYY-MM-DD).")
_SITES = flags.DEFINE_list("split_sites", [], "--split_by site: test sites, by pseudonym or value of --site_column.")
_SITE_COLUMN = flags.DEFINE_string("site_column", "", "Column of --reports that names the site; else InstitutionName.")
_IMAGE_SIZE = flags.DEFINE_integer("image_size", 128, "Pixels a side of a frame.", lower_bound=16, upper_bound=1024)
_SPACING_MM = flags.DEFINE_float("spacing_mm", 1.5, "Millimetres a stored pixel.", lower_bound=0.2, upper_bound=20.0)
_BITS = flags.DEFINE_enum("bits", "8", [str(bits) for bits in schema.BITS], "Bits of a stored pixel.")
_VOCAB_SIZE = flags.DEFINE_integer("vocab_size", 2048, "Largest vocabulary of the tokenizer.", lower_bound=16)
_RETRAIN = flags.DEFINE_bool("retrain_tokenizer", False, "Train the tokenizer anew where --out already holds one.")
_PER_SHARD = flags.DEFINE_integer("studies_per_shard", 256, "Studies a shard file, on average.", lower_bound=1)
_NUM_WORKERS = flags.DEFINE_integer("num_workers", None, "Processes; default: one a core.", lower_bound=0)
_MEMORY_GB = flags.DEFINE_float(
    "worker_memory_gb", parallel.DEFAULT_MEMORY_GB, "Most memory a worker may ask for (0: any).", lower_bound=0
)
_TIMEOUT_S = flags.DEFINE_float(
    "study_timeout_s", parallel.DEFAULT_TIMEOUT_S, "Seconds after which a study is put aside (0: never).", lower_bound=0
)
_SHARD_INDEX = flags.DEFINE_integer("shard_index", None, "Array task: which part of --num_shards to do.")
_NUM_SHARDS = flags.DEFINE_integer("num_shards", None, "Array task: number of parts.", lower_bound=1)
_SCAN_INDEX = flags.DEFINE_string("scan_index", "", "Private file to keep headers in, so that they are read once.")
_SCAN_ONLY = flags.DEFINE_bool("scan_only", False, "Make --scan_index and stop, before array tasks start.")
_FINALIZE = flags.DEFINE_bool("finalize", False, "Publish what the array tasks did.")
_STRICT = flags.DEFINE_bool("strict", False, "Exit 3 if any file was rejected.")
_DRY_RUN = flags.DEFINE_bool("dry_run", False, "Read headers, print what was understood, write nothing.")

EXIT_REJECTED = 3
_RESERVED_LABELS = ("study_id", "patient_id", "split", "site")


def _main() -> int:
    """Runs the preprocessing as the flags say; returns the exit code."""
    _check_flags()
    rule = splits.parse(_SPLIT_BY.value, _FRACTIONS.value, _DATES.value, _SITES.value)
    site_table = views.read_site_table(Path(_VIEW_TABLE.value)) if _VIEW_TABLE.value else ()
    scrub.load(_SCRUBBER.value)
    labels = reports.read_labels(Path(_LABEL_TABLE.value), _LABELS.value) if _LABEL_TABLE.value else {}
    elsewhere = {name for of_study in labels.values() for name, _ in of_study}
    table = reports.read(Path(_REPORTS.value), _LABELS.value, _SITE_COLUMN.value, elsewhere) if _REPORTS.value else {}
    phrases.read(_LABEL_PHRASES.value)
    workers = parallel.available_cores() if _NUM_WORKERS.value is None else _NUM_WORKERS.value
    if _DRY_RUN.value or _SCAN_ONLY.value:
        return _headers_only(table, labels, rule, site_table, workers)
    out, key_file = Path(_OUT.value or ""), Path(_KEY_FILE.value or "")
    _refuse_other_key(out, key_file)
    try:
        with parallel.Workers(workers, _MEMORY_GB.value) as pool:
            planned = _plan(table, labels, pool)
            key = deid.load_key(key_file, create=True)
            pseudonyms = deid.Pseudonyms(key)
            work_dir = pipeline.open_work(out, pseudonyms)
            planned = pipeline.without_removed(planned, pseudonyms, removed.read(out))
            rule, planned = _sides(rule, planned, pseudonyms)
            settings = process.Settings(
                root=Path(_DICOM_DIR.value),
                work_dir=work_dir,
                key=key,
                image_size=_IMAGE_SIZE.value,
                spacing_mm=_SPACING_MM.value,
                bits=int(_BITS.value),
                site_table=site_table,
                scrubber=_SCRUBBER.value,
                text_labels=bool(_TEXT_LABELS.value),
                label_phrases=_LABEL_PHRASES.value,
            )
            return _process_and_publish(out, settings, planned, rule, pool)
    except OSError as error:
        raise InputError(
            f"--out cannot be written ({error.strerror}); nothing was published: mend that, then run again to continue"
        ) from None


def _plan(table: dict[str, reports.Report], labels: dict[str, reports.Labels], pool: parallel.Workers) -> pipeline.Plan:
    index = Path(_SCAN_INDEX.value) if _SCAN_INDEX.value else None
    try:
        return pipeline.plan(Path(_DICOM_DIR.value), table, pool, index, _SR_REPORTS.value == "fallback", labels)
    except OSError as error:
        raise InputError(f"--dicom_dir cannot be read ({error.strerror})") from None


def _sides(rule: splits.Rule, planned: pipeline.Plan, pseudonyms: deid.Pseudonyms) -> tuple[splits.Rule, pipeline.Plan]:
    """The rule with its sites as pseudonyms, and the plan without the studies that it has no side for."""
    rule = splits.with_pseudonyms(rule, pseudonyms, planned.tasks)
    left = pipeline.leave_out(planned, "studies_without_side", lambda task: splits.reason_to_leave_out(rule, task))
    splits.assign_all(rule, pseudonyms, left.tasks)  # a rule that does not fit is told before hours of work
    return rule, left


def _process_and_publish(
    out: Path, settings: process.Settings, planned: pipeline.Plan, rule: splits.Rule, pool: parallel.Workers
) -> int:
    # Imported here: every spawned worker imports this module, and needs neither tensorflow-datasets nor matplotlib.
    from preprocessing import check, publish

    options = publish.Options(rule, _VOCAB_SIZE.value, _PER_SHARD.value, _RETRAIN.value)
    part = _SHARD_INDEX.value is not None and not _FINALIZE.value
    if not part:
        with swap.locked(out):
            swap.heal(out)
        made_of = publish.made_of(settings, planned, options)
        if manifest := check.unchanged(out, made_of):
            return _say(manifest, "nothing changed: ")
    published = kept.Published(out)
    if not _FINALIZE.value:
        tasks = planned.tasks
        if part:
            tasks = pipeline.mine(tasks, deid.Pseudonyms(settings.key), _SHARD_INDEX.value or 0, _NUM_SHARDS.value or 1)
        pipeline.process_all(settings, pipeline.todo(settings, tasks, published), pool, _TIMEOUT_S.value)
        if part:
            print(f"{len(tasks)} of {len(planned.tasks)} studies done; publish all tasks' work with --finalize")
            return 0
    return _say(publish.publish(out, settings, planned, options, published))


def _check_flags() -> None:
    if not Path(_DICOM_DIR.value).is_dir():
        raise InputError("--dicom_dir is not a folder")
    if _LABEL_TABLE.value and not _LABELS.value:
        raise InputError("--label_table: name the columns to keep with --label_columns")
    labels_of_reports = _LABELS.value and not _LABEL_TABLE.value
    if not _REPORTS.value and (_SR_REPORTS.value == "off" or labels_of_reports or _SITE_COLUMN.value):
        raise InputError("--reports is needed: without it only --sr_reports=fallback gives reports, and no columns")
    for name in _LABELS.value:
        if name in _RESERVED_LABELS:
            raise InputError(f"--label_columns: {name!r} is a column of our own, rename yours")
    if bool(_SCAN_ONLY.value) and not _SCAN_INDEX.value:
        raise InputError("--scan_only makes the file named by --scan_index: give that too")
    if _DRY_RUN.value or _SCAN_ONLY.value:
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
    if _SCAN_INDEX.value and Path(_SCAN_INDEX.value).resolve().is_relative_to(out):
        raise InputError("--scan_index lies inside --out, and it identifies patients: name a place beside the key")
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


def _headers_only(
    table: dict[str, reports.Report],
    labels: dict[str, reports.Labels],
    rule: splits.Rule,
    site_table: views.SiteTable,
    num_workers: int,
) -> int:
    """--dry_run and --scan_only."""
    with parallel.Workers(num_workers, _MEMORY_GB.value) as workers:
        planned = _plan(table, labels, workers)
    if _SCAN_ONLY.value:
        print(f"headers of {planned.counts['studies_seen']} studies read; now start the array tasks")
        return 0
    pseudonyms = deid.Pseudonyms(secrets.token_bytes(32))
    _, planned = _sides(dataclasses.replace(rule, test_sites=()), planned, pseudonyms)
    files = ({"status": status, "reason": reason} for _, status, reason in planned.others)
    print(summary.preview(planned.counts, files, pipeline.preview(planned, pseudonyms, site_table)))
    rejected = any(status == "rejected" for _, status, _ in planned.others)
    return EXIT_REJECTED if _STRICT.value and rejected else 0


def _say(manifest: dict[str, Any], before: str = "") -> int:
    """Prints what is published; returns the exit code."""
    counts = manifest["counts"]
    by_split = ", ".join(f"{name} {manifest['splits'][name]['studies']}" for name in schema.SPLITS)
    print(
        f"{before}{counts['studies']} studies ({by_split}) of {counts['patients']} patients; {counts['files_seen']}"
        f" files: {counts['files_used']} used, {counts['files_ignored']} ignored, {counts['files_rejected']} rejected"
    )
    if counts["files_rejected"]:
        print("files.csv gives each file's reason", file=sys.stderr)
    return EXIT_REJECTED if _STRICT.value and counts["files_rejected"] else 0


def main() -> None:
    """The console script cmr-preprocess."""
    cli.run(_main, private=True)


if __name__ == "__main__":
    main()
