"""From the cases of a benchmark to the pipeline's plan: one task a case, the other files with their verdict."""

import dataclasses
import functools
from collections.abc import Sequence
from pathlib import Path

from cmr_jax.errors import InputError
from preprocessing import deid, parallel, pipeline, process, scan, splits
from preprocessing.public import nifti
from preprocessing.public.cases import Case
from preprocessing.scan_store import ScanStore
from preprocessing.study import FileScan, Report

TEXT = "No report: an image of a public benchmark."
_OTHER = "not an image of the benchmark's cases"
_STUDY, _REST = "study", "other"
_SCAN_CHUNK = 16
_TIMEOUT_S = 120.0


def plan(root: Path, dataset: str, cases: Sequence[Case], workers: parallel.Workers) -> pipeline.Plan:
    """Reads the headers of all images. Raises InputError where no case has an image that can be used."""
    items = [(str(image.path.relative_to(root)), image.shows) for case in cases for image in case.images]
    read = functools.partial(_scan, root)
    found = workers.map(read, items, _SCAN_CHUNK, timeout_s=_TIMEOUT_S, lost=_lost)
    scans = parallel.progress(found, len(items), "reading headers")
    store, rest, tasks = ScanStore(), ScanStore(), []
    for case in cases:
        name, usable = study_name(dataset, case), False
        for _ in case.images:
            one = _with_facts(next(scans), dataset, case)
            usable |= not one.status
            (rest if one.status else store).add((_REST, "") if one.status else (_STUDY, name), one)
        if usable:
            report = Report(TEXT, name, tuple(case.labels.items()), site=case.site)
            tasks.append(process.Task(name, store.scans((_STUDY, name)), report))
    for _ in scans:  # there is none left: this lets the workers' map come to its end
        raise AssertionError
    if not tasks:
        raise InputError("none of the images below --root can be used: give the folder as the publisher lays it out")
    taken = {path for path, _ in items}
    single = [(path, "ignored", _OTHER) for path in scan.list_files(root) if path not in taken]
    others = pipeline.Verdicts(rest.scans((_REST, "")), single)
    return pipeline.Plan(tasks, others, {"studies_seen": len(tasks)})


def rule(dataset: str, cases: Sequence[Case]) -> splits.Rule:
    """The publisher's split. Raises InputError where the training part is not there: nothing could be published."""
    if not any(case.split == "train" for case in cases):
        raise InputError("--root holds no training case: give the whole benchmark")
    return splits.Rule(by=splits.GIVEN, given=tuple((study_name(dataset, case), case.split) for case in cases))


def study_name(dataset: str, case: Case) -> str:
    """What the pseudonyms of the study and its patient are made of: the same key and case give the same."""
    return f"{dataset}/{case.name}"


def _scan(root: Path, item: tuple[str, str]) -> FileScan:
    path, shows = item
    if path.endswith((".nii", ".nii.gz")):
        return nifti.scan_file(root, path, shows)
    one = scan.scan_file(root, path)
    if not shows:
        return one
    return dataclasses.replace(one, frames=tuple(dataclasses.replace(f, description=shows) for f in one.frames))


def _lost(item: tuple[str, str], why: str) -> FileScan:
    return FileScan(item[0], 0, 0, "rejected", f"header could not be read ({why})")


def _with_facts(one: FileScan, dataset: str, case: Case) -> FileScan:
    """With what the publisher's table says of the case, where it says it."""
    return dataclasses.replace(
        one,
        study_uid=study_name(dataset, case),
        patient_id=study_name(dataset, case),
        sex=case.sex or one.sex,
        age=case.age or one.age,
        vendor=deid.vendor(case.vendor) or one.vendor,
    )
