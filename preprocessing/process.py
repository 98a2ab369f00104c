"""One study in a worker: files and report in, one work file out that holds only what may leave.

A work file is named by the study's pseudonym and a fingerprint of everything it was made from, and appears whole or not
at all. So its existence is the done marker, and a run that is started again re-uses it only where nothing changed.
"""

import collections
import dataclasses
import json
import os
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np

from cmr_jax.data import schema
from preprocessing import assemble, descriptions, identifiers, pixels, reports, scrub, sections, text_labels, views
from preprocessing.deid import Pseudonyms
from preprocessing.scan import quiet_pydicom
from preprocessing.study import FileScan, Frame, Report, Series

# Raised when a work file of older code must not be used again.
_WORK_VERSION = 2


@dataclasses.dataclass(frozen=True)
class Settings:
    """What every worker needs to know; equal settings and inputs make equal records."""

    root: Path
    work_dir: Path
    key: bytes = dataclasses.field(repr=False)
    image_size: int
    spacing_mm: float
    bits: int = 8
    site_table: views.SiteTable = ()
    scrubber: str = ""
    text_labels: bool = True
    label_phrases: str = ""

    def fingerprint_parts(self) -> tuple[Any, ...]:
        table = [(pattern.pattern, view) for pattern, view in self.site_table]
        versions = (_WORK_VERSION, schema.SCHEMA_VERSION)
        said = text_labels.fingerprint(self.label_phrases) if self.text_labels else None
        return (*versions, self.image_size, self.spacing_mm, self.bits, table, self.scrubber, said)


@dataclasses.dataclass(frozen=True)
class Task:
    """One study: its candidate files, in the order of their paths, and its report.

    In the parent `scans` may lie outside of memory; a worker gets them as a tuple.
    """

    study_uid: str
    scans: Iterable[FileScan]
    report: Report
    _known: dict[Any, str] = dataclasses.field(default_factory=dict, init=False, repr=False, compare=False)

    def __reduce__(self) -> tuple[Any, ...]:
        return Task, (self.study_uid, tuple(self.scans), self.report)

    def known(self, what: Any, make: Callable[[], str]) -> str:
        """`make()`, done once for each `what`: it reads all headers of the study."""
        if what not in self._known:
            self._known[what] = sys.intern(make())
        return self._known[what]

    def first(self, attribute: str) -> str:
        """An attribute of the first file that says it; "" where none does."""
        return self.known(attribute, lambda: next((v for scan in self.scans if (v := getattr(scan, attribute))), ""))

    @property
    def patient(self) -> str:
        """Private. Whom the study belongs to: the table's word first, then the header's, else the study alone."""
        return self.report.patient_id or self.first("patient_id") or self.study_uid

    @property
    def site(self) -> str:
        """Private. Where the study was made: the table's word first, then the header's."""
        return self.report.site or self.first("institution")


@dataclasses.dataclass
class Result:
    """A work file's content. `example` holds the fields of the record but the tokens; None: the study is left out."""

    study_id: str
    example: dict[str, Any] | None
    files: list[tuple[str, str, str]]  # file_id, status, reason
    series: list[dict[str, Any]]
    study: dict[str, str]
    unmapped: dict[str, int]
    findings: list[dict[str, str]] = dataclasses.field(default_factory=list)  # lines of findings.csv


def work_path(settings: Settings, task: Task) -> Path:
    """Where the result of `task` lies once it is done."""
    pseudonyms = Pseudonyms(settings.key)

    def made_of() -> str:
        inputs = [(s.path, s.size, s.mtime_ns) for s in task.scans]
        parts = (settings.fingerprint_parts(), inputs, dataclasses.astuple(task.report))
        return pseudonyms.name("work", repr(parts))

    return settings.work_dir / f"{pseudonyms.name('study', task.study_uid)}-{task.known(settings, made_of)}.npz"


def study_of(path: Path) -> str:
    """The pseudonym of the study that a work file is named by."""
    return path.name.split("-")[0]


def run(settings: Settings, task: Task) -> None:
    """Processes `task` and leaves its work file."""
    save(guarded(settings, task), work_path(settings, task))


def guarded(settings: Settings, task: Task) -> Result:
    """`build`, with a study that nothing foresaw put aside whole: one study never stops a run."""
    try:
        with quiet_pydicom():
            return build(settings, task)
    except (KeyboardInterrupt, SystemExit):
        raise
    except BaseException as error:  # decoders written in other languages raise outside of Exception
        return put_aside(settings, task, type(error).__name__)


def put_aside(settings: Settings, task: Task, why: str) -> Result:
    """The result of a study that could not be processed: all its files rejected."""
    pseudonyms = Pseudonyms(settings.key)
    files = [(pseudonyms.name("file", s.path), "rejected", f"study could not be processed ({why})") for s in task.scans]
    return Result(pseudonyms.name("study", task.study_uid), None, files, [], {}, {})


def build(settings: Settings, task: Task) -> Result:
    """Decodes, assembles, labels and renders one study."""
    scans = tuple(task.scans)
    task = dataclasses.replace(task, scans=scans)
    pseudonyms = Pseudonyms(settings.key)
    study_id = pseudonyms.name("study", task.study_uid)
    fate: dict[str, tuple[str, str]] = {}
    values = _decode(settings.root, scans, fate)
    frames = [frame for scan in scans if scan.path in values for frame in scan.frames]
    series, drops = assemble.assemble(frames, lambda f: pixels.content_hash(values[f.file][f.index]))
    views.label(series, settings.site_table)
    by_name = named(pseudonyms, series)
    for drop in drops:
        fate.setdefault(drop.frame.file, ("ignored", drop.reason))
    fate.update({frame.file: ("used", "") for one in series for frame in one.flat()})
    text = _scrubbed(settings, task)
    findings = text_labels.rows(study_id, text, settings.label_phrases) if settings.text_labels else []
    labels = text_labels.merge(task.report.labels, findings)
    row = _study_row(settings, task, study_id, labels)
    return Result(
        study_id=study_id,
        example=_example(settings, task, row, by_name, values, text, labels) if by_name else None,
        files=[(pseudonyms.name("file", s.path), *fate[s.path]) for s in task.scans],
        series=series_rows(pseudonyms, study_id, by_name, drops, task.first("vendor")),
        study=row,
        unmapped=dict(views.unmapped(series)),
        findings=findings if by_name else [],
    )


def _decode(root: Path, scans: Iterable[FileScan], fate: dict[str, tuple[str, str]]) -> dict[str, np.ndarray]:
    values = {}
    for scan in scans:
        try:
            values[scan.path] = pixels.read(root, scan)
        except pixels.Undecodable as error:
            fate[scan.path] = ("rejected", str(error))
    return values


def named(pseudonyms: Pseudonyms, series: list[Series]) -> list[tuple[str, Series]]:
    """(series_id, series) in the order of the record. The name depends on the frames alone: one DICOM series may hold
    several of ours, and several may make up one."""

    def name(one: Series) -> str:
        return pseudonyms.name("series", "|".join(sorted(f"{f.sop_uid or f.file}#{f.index}" for f in one.flat())))

    return sorted(((name(one), one) for one in series), key=lambda item: (schema.VIEWS.index(item[1].view), item[0]))


def series_rows(
    pseudonyms: Pseudonyms, study_id: str, by_name: list[tuple[str, Series]], drops: list[assemble.Drop], vendor: str
) -> list[dict[str, Any]]:
    """The study's lines of series.csv: one a series, then one a DICOM series and reason for frames left out."""
    rows = []
    for name, one in by_name:
        rows_mm, cols_mm = one.first.spacing
        rows.append(
            {
                "study_id": study_id,
                "series_id": name,
                "view": one.view,
                "contrast": one.contrast,
                "view_rule": one.view_rule,
                "frames": one.slices * one.phases,
                "slices": one.slices,
                "phases": one.phases,
                "spacing": f"{rows_mm:.4g}x{cols_mm:.4g}",
                "slice_gap": f"{one.slice_gap_mm:.4g}",
                "phase_key": one.phase_key,
                "vendor": vendor,
                "used": "yes",
                "reason": "; ".join(one.notes),
                "description": descriptions.shown(one.first.description),
            }
        )
    dropped = collections.Counter(
        (pseudonyms.name("series", d.frame.series_uid), d.reason, descriptions.shown(d.frame.description))
        for d in drops
    )
    for (name, reason, description), count in sorted(dropped.items()):
        rows.append(
            {
                "study_id": study_id,
                "series_id": name,
                "frames": count,
                "vendor": vendor,
                "used": "no",
                "reason": reason,
                "description": description,
            }
        )
    return rows


def _study_row(settings: Settings, task: Task, study_id: str, labels: list[tuple[str, str, str]]) -> dict[str, str]:
    pseudonyms = Pseudonyms(settings.key)
    patient_id = pseudonyms.name("patient", task.patient)
    return {
        "study_id": study_id,
        "patient_id": patient_id,
        "site": pseudonyms.name("site", task.site) if task.site else "",
        "sex": task.first("sex"),
        "age": task.first("age"),
        **{name: value for name, value, _ in labels},
    }


def _scrubbed(settings: Settings, task: Task) -> str:
    names, ids = identifiers.of_study(settings.root, tuple(task.scans))
    text = scrub.scrub(task.report.text, [*names, *task.report.names], [*ids, task.patient, task.study_uid])
    hook = scrub.load(settings.scrubber)
    return scrub.apply_hook(hook, text) if hook else text


def _example(
    settings: Settings,
    task: Task,
    row: dict[str, str],
    by_name: list[tuple[str, Series]],
    values: dict[str, np.ndarray],
    text: str,
    labels: list[tuple[str, str, str]],
) -> dict[str, Any]:
    series = [one for _, one in by_name]
    rendered = [_render(settings, one, values) for one in series]
    return {
        "study_id": row["study_id"],
        "patient_id": row["patient_id"],
        "sex": task.first("sex"),
        "age": task.first("age"),
        "vendor": task.first("vendor"),
        "frames": np.concatenate([frames for _, frames in rendered]),
        "series/id": [name for name, _ in by_name],
        "series/view": [one.view for one in series],
        "series/view_rule": [one.view_rule for one in series],
        "series/contrast": [one.contrast for one in series],
        "series/unit": [scale.unit for scale, _ in rendered],
        "series/scale": np.array([scale.scale for scale, _ in rendered], np.float32),
        "series/offset": np.array([scale.offset for scale, _ in rendered], np.float32),
        "series/slices": np.array([one.slices for one in series], np.int64),
        "series/phases": np.array([one.phases for one in series], np.int64),
        "series/spacing_mm": np.full(len(series), settings.spacing_mm, np.float32),
        "series/slice_gap_mm": np.array([one.slice_gap_mm for one in series], np.float32),
        "series/n_interpolated": np.array([one.interpolated.sum() for one in series], np.int64),
        "slice_position_mm": np.concatenate([one.slice_position_mm for one in series]),
        "slice_level": [level for one in series for level in one.levels],
        "frame_interpolated": np.concatenate([one.interpolated for one in series]),
        "frame_time_ms": np.concatenate([assemble.times_ms(one) for one in series]),
        "report": text,
        "report_hash": reports.content_hash(Pseudonyms(settings.key), text),
        **{f"section/{name}": part for name, part in sections.sections(text).items()},
        "label/name": [name for name, _, _ in labels],
        "label/value": [value for _, value, _ in labels],
        "label/source": [source for _, _, source in labels],
    }


def _render(settings: Settings, series: Series, values: dict[str, np.ndarray]) -> tuple[pixels.Scale, np.ndarray]:
    frames: list[Frame] = series.flat()
    stack = np.stack([values[f.file][f.index] for f in frames])
    return pixels.render(
        stack, series, image_size=settings.image_size, spacing_mm=settings.spacing_mm, bits=settings.bits
    )


def save(result: Result, path: Path) -> None:
    """Writes a work file whole: under another name first, then renamed."""
    plain = dataclasses.asdict(dataclasses.replace(result, example=None))
    arrays: dict[str, np.ndarray] = {}
    if result.example is not None:
        arrays = {k.replace("/", "."): v for k, v in result.example.items() if isinstance(v, np.ndarray)}
        plain["example"] = {k: v for k, v in result.example.items() if not isinstance(v, np.ndarray)}
    arrays["json"] = np.frombuffer(json.dumps(plain).encode(), np.uint8)
    partial = path.with_suffix(f".{os.getpid()}.partial")
    with partial.open("wb") as file:
        np.savez(file, allow_pickle=False, **arrays)
    partial.replace(path)


def load(path: Path, *, with_arrays: bool = True) -> Result:
    """Reads a work file; without its arrays it is small."""
    with np.load(path) as stored:
        result = Result(**json.loads(stored["json"].tobytes()))
        if result.example is not None and with_arrays:
            result.example.update({k.replace(".", "/"): stored[k] for k in stored.files if k != "json"})
    result.files = [(name, status, reason) for name, status, reason in result.files]
    return result
