"""How fast is our preprocessing, against plain pydicom and with two workers for one? `python -m bench.preprocess`.

One core, CPU-seconds, in pairs A B A B on the same warm files: the wall clock of a shared machine says little.

A, the floor: `pydicom.dcmread(...).pixel_array`, stretched between its extremes to uint8, one `.npy` a study: no order,
no view, no spacing, no de-identification, nothing checked. B, ours: headers, pixels, assembly, views, resampling,
scrubbing, and the work file of each study, from which records are written.

Two ways of the field beside them, written here after what is known of them (no code of theirs is run; neither checks,
orders or de-identifies anything): `hdf5`, a lean form of cmr_toolkit's grey way: pydicom, every frame resized to the
model's 128 pixels, one uncompressed HDF5 file a study; `mp4`: the floor's `.npy` and an mp4 (H.264, its fastest preset)
a study. The latter wants PyAV, which the project has not: `pip install --no-deps --target /tmp/av av`, `--av /tmp/av`.

And cmr_toolkit's own code, where `--cmr_toolkit` names a folder that has it (see `bench.cmr_toolkit`). It starts from
an archive a study, made beforehand; unpacking is in its time, importing and making archives are not.
"""

import argparse
import json
import os
import resource
import shutil
import statistics
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import imagecodecs
import numpy as np
import pydicom
from PIL import Image
from pydicom.encaps import encapsulate
from pydicom.uid import UID, RLELossless
from threadpoolctl import threadpool_limits

from bench import cmr_toolkit
from preprocessing import parallel, pipeline, process, scan
from preprocessing.phantom import __main__ as phantom
from preprocessing.phantom import study as phantom_study
from preprocessing.study import FileScan, Report

_JPEG = "1.2.840.10008.1.2.4."
_ENCODERS: dict[str, tuple[str, Callable[[np.ndarray], Any]]] = {
    "JPEG-lossless": (_JPEG + "70", lambda a: imagecodecs.jpeg8_encode(a, lossless=True, predictor=1)),
    "J2K": (_JPEG + "90", lambda a: imagecodecs.jpeg2k_encode(a, codecformat="j2k", reversible=True, level=0)),
}
# A corpus and a scratch folder -> CPU-seconds, studies.
Way = Callable[[Path, Path], tuple[float, int]]
IMAGE_SIZE = 128
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


def grey(folder: Path) -> list[list[np.ndarray]]:
    """Plain pydicom: the frames of each study, `T H W` a file, as uint8 between the file's extremes."""
    studies: dict[str, list[np.ndarray]] = defaultdict(list)
    with scan.quiet_pydicom():
        for path in files_below(folder):
            data = pydicom.dcmread(folder / path)
            values = data.pixel_array.astype(np.float32)
            low, high = values.min(), values.max()
            whole = ((values - low) * (255 / max(high - low, 1))).astype(np.uint8)
            studies[data.StudyInstanceUID].append(whole.reshape(-1, *whole.shape[-2:]))
    return list(studies.values())


def floor(folder: Path, out: Path) -> int:
    """Plain pydicom; returns the number of studies."""
    studies = grey(folder)
    for number, frames in enumerate(studies):
        np.save(out / f"{number}.npy", np.concatenate([frame.reshape(-1) for frame in frames]))
    return len(studies)


def resized(frames: list[np.ndarray]) -> np.ndarray:
    square = (IMAGE_SIZE, IMAGE_SIZE)
    return np.stack(
        [np.asarray(Image.fromarray(one).resize(square, Image.Resampling.BILINEAR)) for file in frames for one in file]
    )


def hdf5(folder: Path, out: Path) -> int:
    studies = grey(folder)
    for number, frames in enumerate(studies):
        with h5py.File(out / f"{number}.h5", "w") as file:
            file.create_dataset("frames", data=resized(frames))
    return len(studies)


def mp4(folder: Path, out: Path) -> int:
    import av  # pyright: ignore[reportMissingImports]

    studies = grey(folder)
    for number, frames in enumerate(studies):
        np.save(out / f"{number}.npy", np.concatenate([frame.reshape(-1) for frame in frames]))
        with av.open(str(out / f"{number}.mp4"), "w") as file:
            stream = file.add_stream("libx264", rate=25, options={"preset": "ultrafast", "threads": "1"})
            stream.width, stream.height, stream.pix_fmt = IMAGE_SIZE, IMAGE_SIZE, "yuv420p"
            for one in resized(frames):
                file.mux(stream.encode(av.VideoFrame.from_ndarray(one, format="gray")))
            file.mux(stream.encode(None))
    return len(studies)


def tasks_of(folder: Path) -> list[process.Task]:
    studies: dict[str, list[FileScan]] = defaultdict(list)
    for path in files_below(folder):
        one = scan.scan_file(folder, path)
        if not one.status:
            studies[one.study_uid].append(one)
    return [process.Task(uid, tuple(scans), _REPORT) for uid, scans in studies.items()]


def settings_for(folder: Path, out: Path) -> process.Settings:
    return process.Settings(root=folder, work_dir=out, key=b"k" * 32, image_size=IMAGE_SIZE, spacing_mm=1.5)


def ours(folder: Path, out: Path) -> int:
    """Headers to work files; returns the number of studies."""
    tasks = tasks_of(folder)
    for task in tasks:
        process.run(settings_for(folder, out), task)
    return len(tasks)


def timed(run: Callable[[Path, Path], int]) -> Way:
    return lambda folder, scratch: cpu_s(run, folder, scratch)


def cpu_s(run: Callable[[Path, Path], int], folder: Path, scratch: Path) -> tuple[float, int]:
    out = Path(tempfile.mkdtemp(dir=scratch))
    before = time.process_time()
    studies = run(folder, out)
    spent = time.process_time() - before
    shutil.rmtree(out)
    return spent, studies


def toolkit_ways(toolkit: cmr_toolkit.Toolkit, folder: Path) -> tuple[dict[str, Way], str]:
    """cmr_toolkit's ways through this corpus, and how many of its frames they read; none that reads not even one."""

    def way(name: str) -> Way:
        def run(folder: Path, scratch: Path) -> tuple[float, int]:
            done = toolkit.run(name, folder)
            return done["cpu_s"], done["studies"]

        return run

    files = files_below(folder)
    toolkit.prepare(folder, files)
    done = {name: toolkit.run(name, folder) for name in cmr_toolkit.OPTIONS}
    said = "; ".join(
        f"{name} read {one['frames']} of {len(files)} frames" + (f" ({one['failed']})" if one["failed"] else "")
        for name, one in done.items()
    )
    return {name: way(name) for name, one in done.items() if one["frames"]}, said


def against_others(folder: Path, scratch: Path, pairs: int, others: dict[str, Way]) -> dict[str, Any]:
    """Studies a CPU-second of ours and of each other way, best of the rounds; of each other way the paired ratios of
    ours to it: lowest, median, highest."""
    ways = {"ours": timed(ours), **others}
    for run in ways.values():  # warm: files, imports, tables
        run(folder, scratch)
    rounds = [{name: run(folder, scratch) for name, run in ways.items()} for _ in range(pairs)]
    if len({studies for one in rounds for _, studies in one.values()}) != 1:
        raise SystemExit("the ways did not do the same studies")
    studies = rounds[0]["ours"][1]
    out: dict[str, Any] = {"files": len(files_below(folder)), "studies": studies}
    out["studies_per_s"] = {name: studies / min(one[name][0] for one in rounds) for name in ways}
    for name in others:
        ratios = [one[name][0] / one["ours"][0] for one in rounds]
        out[f"ours_to_{name}"] = [min(ratios), statistics.median(ratios), max(ratios)]
    return out


def describe(one: dict[str, Any]) -> str:
    rates = "  ".join(f"{name} {rate:.2f}" for name, rate in one["studies_per_s"].items())
    ratios = {name: one[f"ours_to_{name}"] for name in one["studies_per_s"] if name != "ours"}
    said = ", ".join(f"{b:.2f} ({a:.2f} to {c:.2f}) times {name}" for name, (a, b, c) in ratios.items())
    return f"studies a CPU-second: {rates}; ours is {said}"


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
    parser.add_argument("--av", type=Path, default=Path("/tmp/av"), help="folder with PyAV")
    parser.add_argument("--cmr_toolkit", type=Path, default=Path("/tmp/cmr_toolkit"), help="folder with its code")
    parser.add_argument("--json", type=Path, help="write the figures here too")
    given = parser.parse_args()
    others = {"floor": timed(floor), "hdf5": timed(hdf5)}
    if (given.av / "av").is_dir():
        sys.path.append(str(given.av))
        others["mp4"] = timed(mp4)
    else:
        print(f"no PyAV in {given.av}: npy + mp4 left out (pip install --no-deps --target {given.av} av)")
    figures: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as name, threadpool_limits(1):
        scratch = Path(name)
        toolkit = cmr_toolkit.Toolkit(given.cmr_toolkit, scratch) if cmr_toolkit.is_in(given.cmr_toolkit) else None
        if not toolkit:
            print(f"no cmr_toolkit with a .venv in {given.cmr_toolkit}: left out")
        folders = corpora(scratch, given.frames)
        for corpus, folder in folders.items():
            theirs, read = toolkit_ways(toolkit, folder) if toolkit else ({}, "")
            figures[corpus] = one = against_others(folder, scratch, given.pairs, others | theirs)
            print(f"{corpus:28} {describe(one)}" + (f"; {read}" if read else ""), flush=True)
        if toolkit:
            toolkit.close()
        if len(os.sched_getaffinity(0)) > 1:
            figures["scaling"] = one = scaling(folders["raw, phantom"], scratch, given.pairs, copies=4)
            best, middle = one["speedup_best"], one["speedup_median"]
            print(f"1 -> 2 workers: {best:.2f} at best, {middle:.2f} in the middle", flush=True)
        else:
            print("1 -> 2 workers: not measured, held to one core", flush=True)
        figures["memory"] = one = memory(folders["raw, phantom"], scratch, rounds=9)
        print(f"parent: {one['first_third_mb']:.0f} MB in the first third, {one['last_third_mb']:.0f} MB in the last")
    if given.json:
        given.json.write_text(json.dumps(figures, indent=2) + "\n")


if __name__ == "__main__":
    main()
