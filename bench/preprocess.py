"""How fast is our preprocessing, against plain pydicom and with two workers for one? `python -m bench.preprocess`.

One core, CPU-seconds, in pairs A B A B on the same warm files: the wall clock of a shared machine says little.

A, the floor: `pydicom.dcmread(...).pixel_array`, stretched between its extremes to uint8, one `.npy` a study: no order,
no view, no spacing, no de-identification, nothing checked. B, ours: headers, pixels, assembly, views, resampling,
scrubbing, and the work file of each study, from which records are written.
"""

import argparse
import json
import os
import resource
import shutil
import statistics
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import pydicom
from pydicom.encaps import encapsulate
from pydicom.uid import UID, RLELossless
from threadpoolctl import threadpool_limits

from preprocessing import parallel, pipeline, process, scan
from preprocessing.phantom import __main__ as phantom
from preprocessing.phantom import study as phantom_study
from preprocessing.study import FileScan, Report

_JPEG = "1.2.840.10008.1.2.4."
_ENCODERS: dict[str, tuple[str, Callable[[np.ndarray], Any]]] = {
    "JPEG-lossless": (_JPEG + "70", lambda a: imagecodecs.jpeg8_encode(a, lossless=True, predictor=1)),
    "J2K": (_JPEG + "90", lambda a: imagecodecs.jpeg2k_encode(a, codecformat="j2k", reversible=True, level=0)),
}
_REPORT = Report("FINDINGS: Normal left ventricle. IMPRESSION: Normal study.", "", ())


def real_data() -> Path:
    return Path(os.environ.get("CMR_REAL_DATA", Path(__file__).resolve().parents[2] / "shared" / "data"))


def files_below(folder: Path) -> list[str]:
    return [path for path in scan.list_files(folder) if not path.endswith(".csv")]


def corpora(scratch: Path, frames: int) -> dict[str, Path]:
    """Folders of DICOM: the phantom, Sunnybrook where it is there, and the latter (else the former) compressed."""
    phantom.generate(scratch / "phantom", phantom_study.Settings(studies=6, slices=6, phases=20, matrix=128))
    found = {"raw, phantom": scratch / "phantom" / "dicom"}
    source = real_data() / "sunnybrook" / "dicom" / "SCD0000101"
    if source.is_dir():
        found["raw, Sunnybrook"] = source
    else:
        source = found["raw, phantom"]
    chosen = files_below(source)[:frames]
    for name in ("RLE", *_ENCODERS):
        found[f"{name}, {'Sunnybrook' if len(found) > 1 else 'phantom'}"] = folder = scratch / name
        folder.mkdir()
        for number, path in enumerate(chosen):
            compress(source / path, folder / f"{number:04d}.dcm", name)
    return found


def compress(source: Path, target: Path, codec: str) -> None:
    with scan.quiet_pydicom():
        data = pydicom.dcmread(source)
        if codec == "RLE":
            data.compress(RLELossless, generate_instance_uid=False)
        else:
            syntax, encode = _ENCODERS[codec]
            plain = data.pixel_array
            frames = plain.reshape(-1, *plain.shape[-2:])
            data.PixelData = encapsulate([bytes(encode(f.view(f.dtype.str.replace("i", "u")))) for f in frames])
            data["PixelData"].is_undefined_length = True
            data.file_meta.TransferSyntaxUID = UID(syntax)
        data.save_as(target)


def floor(folder: Path, out: Path) -> int:
    """Plain pydicom; returns the number of studies."""
    studies: dict[str, list[np.ndarray]] = defaultdict(list)
    with scan.quiet_pydicom():
        for path in files_below(folder):
            data = pydicom.dcmread(folder / path)
            values = data.pixel_array.astype(np.float32)
            low, high = values.min(), values.max()
            studies[data.StudyInstanceUID].append(((values - low) * (255 / max(high - low, 1))).astype(np.uint8))
    for number, frames in enumerate(studies.values()):
        np.save(out / f"{number}.npy", np.concatenate([frame.reshape(-1) for frame in frames]))
    return len(studies)


def tasks_of(folder: Path) -> list[process.Task]:
    studies: dict[str, list[FileScan]] = defaultdict(list)
    for path in files_below(folder):
        one = scan.scan_file(folder, path)
        if not one.status:
            studies[one.study_uid].append(one)
    return [process.Task(uid, tuple(scans), _REPORT) for uid, scans in studies.items()]


def settings_for(folder: Path, out: Path) -> process.Settings:
    return process.Settings(root=folder, work_dir=out, key=b"k" * 32, image_size=128, spacing_mm=1.5)


def ours(folder: Path, out: Path) -> int:
    """Headers to work files; returns the number of studies."""
    tasks = tasks_of(folder)
    for task in tasks:
        process.run(settings_for(folder, out), task)
    return len(tasks)


def cpu_s(run: Callable[[Path, Path], int], folder: Path, scratch: Path) -> tuple[float, int]:
    out = Path(tempfile.mkdtemp(dir=scratch))
    before = time.process_time()
    studies = run(folder, out)
    spent = time.process_time() - before
    shutil.rmtree(out)
    return spent, studies


def against_floor(folder: Path, scratch: Path, pairs: int) -> dict[str, float]:
    """Studies a CPU-second of both, and the median over the pairs of ours / floor."""
    for run in (floor, ours):  # warm: files, imports, tables
        cpu_s(run, folder, scratch)
    spent = [(cpu_s(floor, folder, scratch), cpu_s(ours, folder, scratch)) for _ in range(pairs)]
    studies = spent[0][1][1]
    if any(a[1] != b[1] for a, b in spent):
        raise SystemExit("floor and ours did not do the same studies")
    ratios = [a[0] / b[0] for a, b in spent]
    return {
        "files": len(files_below(folder)),
        "studies": studies,
        "floor_studies_per_s": studies / min(a[0] for a, _ in spent),
        "ours_studies_per_s": studies / min(b[0] for _, b in spent),
        "ratio_median": statistics.median(ratios),
        "ratio_worst": min(ratios),
        "ratio_best": max(ratios),
    }


def scaling(folder: Path, scratch: Path, pairs: int, copies: int) -> dict[str, float]:
    """Wall seconds of the studies of `folder`, `copies` times over, with one worker and with two; start-up apart."""
    tasks = tasks_of(folder) * copies
    found = []
    for _ in range(pairs):
        walls = []
        for workers in (1, 2):
            with parallel.Workers(workers) as pool:
                list(pool.map(abs, range(workers)))  # they have started
                out = Path(tempfile.mkdtemp(dir=scratch))
                before = time.monotonic()
                pipeline.process_all(settings_for(folder, out), [*tasks], pool)
                walls.append(time.monotonic() - before)
                shutil.rmtree(out)
        found.append(walls)
    best = max(found, key=lambda walls: walls[0] / walls[1])
    return {"one_s": best[0], "two_s": best[1], "speedup_best": best[0] / best[1],
            "speedup_median": statistics.median(a / b for a, b in found)}  # fmt: skip


def memory(folder: Path, scratch: Path, rounds: int) -> dict[str, float]:
    """Resident megabytes of the parent after the first and the last third of `rounds` times the studies."""
    sizes = []
    with parallel.Workers(2) as pool:
        for _ in range(rounds):
            out = Path(tempfile.mkdtemp(dir=scratch))
            pipeline.process_all(settings_for(folder, out), tasks_of(folder), pool)
            shutil.rmtree(out)
            pages = int(Path("/proc/self/statm").read_text().split()[1])
            sizes.append(pages * resource.getpagesize() / 2**20)
    third = max(1, rounds // 3)
    return {"first_third_mb": statistics.median(sizes[:third]), "last_third_mb": statistics.median(sizes[-third:])}


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.preprocess", description=__doc__)
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--frames", type=int, default=120, help="of each compressed corpus")
    parser.add_argument("--json", type=Path, help="write the figures here too")
    given = parser.parse_args()
    figures: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as name, threadpool_limits(1):
        scratch = Path(name)
        folders = corpora(scratch, given.frames)
        for corpus, folder in folders.items():
            figures[corpus] = one = against_floor(folder, scratch, given.pairs)
            print(
                f"{corpus:28} floor {one['floor_studies_per_s']:7.2f}  ours {one['ours_studies_per_s']:7.2f} studies/s"
                f"  ratio {one['ratio_median']:.2f} ({one['ratio_worst']:.2f} to {one['ratio_best']:.2f})", flush=True
            )  # fmt: skip
        figures["scaling"] = one = scaling(folders["raw, phantom"], scratch, given.pairs, copies=4)
        print(
            f"1 -> 2 workers: {one['speedup_best']:.2f} at best, {one['speedup_median']:.2f} in the middle", flush=True
        )
        figures["memory"] = one = memory(folders["raw, phantom"], scratch, rounds=9)
        print(f"parent: {one['first_third_mb']:.0f} MB in the first third, {one['last_third_mb']:.0f} MB in the last")
    if given.json:
        given.json.write_text(json.dumps(figures, indent=2) + "\n")


if __name__ == "__main__":
    main()
