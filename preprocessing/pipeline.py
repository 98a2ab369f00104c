"""The first part of a run: scan, link with reports, process study by study into work files."""

import dataclasses
import functools
import json
import os
from collections import defaultdict
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import Any

from cmr_jax.data import schema
from cmr_jax.errors import InputError
from preprocessing import assemble, process, reports, scan, views
from preprocessing.deid import Pseudonyms
from preprocessing.parallel import Workers, progress
from preprocessing.study import FileScan, Report

WORK = ".work"
_KEY_NAME = "key_fingerprint"
_SCAN_CHUNK = 64


@dataclasses.dataclass
class Plan:
    """What is to be done: one task a study, and the files that take no part, with their verdict."""

    tasks: list[process.Task]
    others: list[tuple[str, str, str]]  # private path, status, reason
    counts: dict[str, int]


def plan(root: Path, table: dict[str, Report], workers: Workers) -> Plan:
    """Scans `root` and links its studies with their reports.

    Raises InputError where there is no file, no MR image, or no study with a report.
    """
    paths = scan.list_files(root)
    if not paths:
        raise InputError("--dicom_dir holds no file")
    found = workers.map(functools.partial(scan.scan_file, root), paths, _SCAN_CHUNK)
    others: list[tuple[str, str, str]] = []
    studies: dict[str, list[FileScan]] = defaultdict(list)
    for one in progress(found, len(paths), "reading headers"):
        if one.status:
            others.append((one.path, one.status, one.reason))
        else:
            studies[one.study_uid].append(one)
    if not studies:
        raise InputError(f"none of the {len(paths)} files below --dicom_dir is a usable MR image")
    tasks = []
    for uid, files in sorted(studies.items()):
        accession = next((f.accession for f in files if f.accession), "")
        report = reports.find(table, uid, accession)
        if report is None:
            others += [(f.path, "ignored", "study without a report") for f in files]
        else:
            tasks.append(process.Task(uid, tuple(sorted(files, key=lambda f: f.path)), report))
    if not tasks:
        raise InputError(
            f"none of the {len(studies)} studies below --dicom_dir has a report: the study_uid or accession_number"
            " column of --reports must hold what the DICOM headers hold"
        )
    counts = {"studies_seen": len(studies), "studies_without_report": len(studies) - len(tasks)}
    return Plan(tasks, others, counts)


def preview(plan: Plan, pseudonyms: Pseudonyms, site_table: views.SiteTable) -> list[dict[str, Any]]:
    """The lines of series.csv as headers alone tell them."""
    rows = []
    for task in plan.tasks:
        study_id = pseudonyms.name("study", task.study_uid)
        series, drops = assemble.assemble(frame for one in task.scans for frame in one.frames)
        views.label(series, site_table)
        by_name = process.named(pseudonyms, series)
        rows += process.series_rows(pseudonyms, study_id, by_name, drops, task.first("vendor"))
    return rows


def open_work(out: Path, pseudonyms: Pseudonyms) -> Path:
    """Makes the folder of work files; refuses a key other than the one that made what `out` holds."""
    work = out / WORK
    work.mkdir(parents=True, exist_ok=True)
    mark = work / _KEY_NAME
    if not mark.exists():
        partial = work / f"{_KEY_NAME}.{os.getpid()}.partial"
        partial.write_text(pseudonyms.fingerprint)
        partial.replace(mark)
    return work


def known_fingerprint(out: Path) -> str:
    """Of the key that made what `out` holds, published or in work; "" where it holds nothing."""
    mark = out / WORK / _KEY_NAME
    try:
        published = json.loads((out / schema.MANIFEST).read_text(encoding="utf-8")).get("key_fingerprint", "")
    except (OSError, ValueError):
        published = ""
    return published or (mark.read_text() if mark.exists() else "")


def mine(tasks: list[process.Task], pseudonyms: Pseudonyms, index: int, count: int) -> list[process.Task]:
    """The studies of array task `index` of `count`: by HMAC, so it does not move when studies are added."""
    return [t for t in tasks if int(pseudonyms.fraction("task", t.study_uid) * count) == index]


def process_all(settings: process.Settings, tasks: list[process.Task], workers: Workers) -> None:
    """Makes the work file of every task. A study that kills its worker is put aside alone."""
    todo = [t for t in tasks if not process.work_path(settings, t).exists()]
    run = functools.partial(process.run, settings)
    try:
        for _ in progress(workers.map(run, todo), len(todo), "processing studies"):
            pass
    except BrokenProcessPool:
        for task in progress(todo, len(todo), "processing studies one by one"):
            try:
                with Workers(1) as alone:
                    list(alone.map(run, [task]))
            except BrokenProcessPool:
                left_out = process.put_aside(settings, task, "its decoder ended the process")
                process.save(left_out, process.work_path(settings, task))
