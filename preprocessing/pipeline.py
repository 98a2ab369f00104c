"""The first part of a run: scan, link with reports, process study by study into work files."""

import dataclasses
import functools
import json
import os
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator
from pathlib import Path
from typing import Any

from cmr_jax.data import schema
from cmr_jax.errors import InputError
from preprocessing import assemble, kept, process, reports, scan, scan_index, sr, views
from preprocessing.deid import Pseudonyms
from preprocessing.parallel import Workers, progress
from preprocessing.scan_store import Key, ScanStore
from preprocessing.study import FileScan, Report
from preprocessing.swap import WORK

_KEY_NAME = "key_fingerprint"
_SCAN_CHUNK = 64
_HEADERS_TIMEOUT_S = 120.0  # a chunk, or a file alone after that
_STUDY, _REPORT, _OTHER = "study", "report", "other"  # kinds of keys of the store

Verdict = tuple[str, str, str]


class Verdicts:
    """(private path, status, reason) of files that take no part, told anew at each turn: they may be millions."""

    def __init__(self, scans: Iterable[FileScan] = (), single: Iterable[Verdict] = ()):
        self.single = list(single)  # few
        self._groups: list[tuple[Iterable[FileScan], str]] = [(scans, "")]

    def __iter__(self) -> Iterator[Verdict]:
        for scans, why in self._groups:
            for one in scans:
                yield (one.path, "ignored", why) if why else (one.path, one.status, one.reason)
        yield from self.single

    def ignore(self, scans: Iterable[FileScan], why: str) -> None:
        self._groups.append((scans, why))

    def copy(self) -> "Verdicts":
        other = Verdicts(single=self.single)
        other._groups = list(self._groups)
        return other


@dataclasses.dataclass
class Plan:
    """What is to be done: one task a study, and the files that take no part, with their verdict."""

    tasks: list[process.Task]
    others: Verdicts
    counts: dict[str, int]


def plan(
    root: Path,
    table: dict[str, Report],
    workers: Workers,
    index: Path | None = None,
    sr_reports: bool = False,
    labels: dict[str, reports.Labels] | None = None,
) -> Plan:
    """Scans `root` and links its studies with their reports; `index` is the file of `scan_index`, `labels` those of
    `reports.read_labels`.

    With `sr_reports`, DICOM structured reports below `root` speak for studies that `table` has no text of.

    Raises InputError where there is no file, no MR image, or no study with a report.
    """
    paths = scan.list_files(root)
    if not paths:
        raise InputError("--dicom_dir holds no file")
    store = _scan(root, paths, workers, index, sr_reports)
    studies = sorted(store.names(_STUDY))
    if not studies:
        raise InputError(f"none of the {len(paths)} files below --dicom_dir is a usable MR image")
    accessions = {uid: next((f.accession for f in store.of((_STUDY, uid)) if f.accession), "") for uid in studies}
    wanted = {uid for uid in studies if reports.find(table, uid, accessions[uid]) is None}
    others = Verdicts(store.scans((_OTHER, "")))
    read = _structured(root, store, wanted, set(studies), others, workers)
    tasks = []
    for uid in studies:
        scans = store.scans((_STUDY, uid))
        report = reports.find(table, uid, accessions[uid])
        if report is None and uid in read:
            report = reports.with_text(reports.row(table, uid, accessions[uid]), read[uid])
        if report is None:
            others.ignore(scans, "study without a report")
        else:
            tasks.append(process.Task(uid, scans, reports.labelled(report, labels or {}, uid, accessions[uid])))
    if not tasks:
        raise InputError(
            f"none of the {len(studies)} studies below --dicom_dir has a report: the study_uid or accession_number"
            " column of --reports must hold what the DICOM headers hold"
        )
    counts = {"studies_seen": len(studies), "studies_without_report": len(studies) - len(tasks)}
    return Plan(tasks, others, counts)


def _structured(
    root: Path, store: ScanStore, wanted: set[str], studies: set[str], others: Verdicts, workers: Workers
) -> dict[str, Report]:
    """The reports of the `wanted` studies, each from its structured reports; adds the verdict on all of those."""
    found = store.names(_REPORT)
    todo = [one for uid in sorted(wanted.intersection(found)) for one in store.of((_REPORT, uid))]
    results = workers.map(functools.partial(sr.read, root), todo, timeout_s=_HEADERS_TIMEOUT_S, lost=sr.lost)
    read: dict[str, list[tuple[str, str, Report]]] = defaultdict(list)
    for one, (order, report) in zip(todo, results, strict=True):
        if report is None:
            others.single.append((one.path, "ignored", "structured report without text"))
        else:
            read[one.study_uid].append((order, one.path, report))
            others.single.append((one.path, "used", "report of its study"))
    for uid in found:
        if uid not in wanted:
            why = "the table has the study's report" if uid in studies else "its study has no images"
            others.ignore(store.scans((_REPORT, uid)), f"structured report: {why}")
    ordered = {uid: [report for _, _, report in sorted(parts, key=lambda p: p[:2])] for uid, parts in read.items()}
    return {uid: functools.reduce(reports.join, parts) for uid, parts in ordered.items()}


def _scan(root: Path, paths: list[str], workers: Workers, index: Path | None, sr_reports: bool) -> ScanStore:
    """The verdict on every file, in the order of `paths`; what the index knows is not read again."""
    before = scan_index.Index(index) if index else ()
    known = scan_index.known(progress(before, len(paths), "comparing files with --scan_index"), root, paths)
    todo = [path for path, is_known in zip(paths, known, strict=True) if not is_known]
    read = functools.partial(scan.scan_file, root)
    found = workers.map(read, todo, _SCAN_CHUNK, timeout_s=_HEADERS_TIMEOUT_S, lost=_unreadable)
    new = progress(found, len(todo), "reading headers")
    old = (one for at, one in scan_index.among(before, paths) if known[at])
    store, worth_saving = ScanStore(), False
    for is_known in known:
        one = next(old if is_known else new)
        store.add(_key(one, sr_reports), one)
        worth_saving |= not is_known and one.status != "rejected"
    for _ in new:  # there is none left: this lets the workers' map come to its end
        raise AssertionError
    if index and worth_saving:
        scan_index.save(index, store)
    return store


def _key(one: FileScan, sr_reports: bool) -> Key:
    if one.reason == scan.STRUCTURED_REPORT and sr_reports:
        return _REPORT, one.study_uid
    return (_OTHER, "") if one.status else (_STUDY, one.study_uid)


def _unreadable(path: str, why: str) -> FileScan:
    return FileScan(path, 0, 0, "rejected", f"header could not be read ({why})")


def leave_out(plan: Plan, name: str, reason: Callable[[process.Task], str]) -> Plan:
    """`plan` without the studies that `reason` names one for; `name` counts them.

    Raises InputError where no study is left.
    """
    tasks, others = [], plan.others.copy()
    for task in plan.tasks:
        if why := reason(task):
            others.ignore(task.scans, why)
        else:
            tasks.append(task)
    if not tasks:
        raise InputError(f"no study is left: {len(plan.tasks)} of {len(plan.tasks)} are out for one reason ({name})")
    return Plan(tasks, others, {**plan.counts, name: len(plan.tasks) - len(tasks)})


def without_removed(plan: Plan, pseudonyms: Pseudonyms, removed: Collection[tuple[str, str]]) -> Plan:
    """`plan` without the studies and patients that were taken out of the dataset for good."""

    def reason(task: process.Task) -> str:
        its = (("study", task.study_uid), ("patient", task.patient))
        gone = any((kind, pseudonyms.name(kind, value)) in removed for kind, value in its)
        return "removed on request" if gone else ""

    return leave_out(plan, "studies_removed", reason)


def todo(settings: process.Settings, tasks: list[process.Task], published: kept.Published) -> list[process.Task]:
    """The tasks that neither work files nor the published records hold the result of."""
    checked = progress(tasks, len(tasks), "looking for work done before")
    return [task for task in checked if not kept.done(published, process.work_path(settings, task))]


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


def process_all(
    settings: process.Settings, tasks: list[process.Task], workers: Workers, timeout_s: float = 0.0
) -> None:
    """Makes the work file of every task. A study that ends its worker, or takes longer than `timeout_s` (0: no limit),
    is put aside alone."""
    todo = [t for t in tasks if not process.work_path(settings, t).exists()]

    def lost(task: process.Task, why: str) -> None:
        process.save(process.put_aside(settings, task, why), process.work_path(settings, task))

    run = functools.partial(process.run, settings)
    for _ in progress(workers.map(run, todo, timeout_s=timeout_s, lost=lost), len(todo), "processing studies"):
        pass
