"""Hostile and broken input through the whole command: no worker lost, every file in the table, the rest unharmed."""

import collections
import csv
import json
import os
import pathlib
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from preprocessing import pipeline, reports, scan
from preprocessing.parallel import Workers
from tests.preprocessing import faulty, mutants
from tests.preprocessing.tiny_dicom import PROJECT, Cohort, write_cine, write_reports

CONTROLS = 3
CAP_MB = 1000

# Runs the command and leaves the largest resident size, in megabytes, of itself and of its workers.
MEASURED = """
import json, pathlib, resource, runpy, sys
if __name__ == "__main__":
    where = sys.argv.pop(1)
    try:
        runpy.run_module("preprocessing.run", run_name="__main__", alter_sys=True)
    finally:
        # Not RUSAGE_SELF: it begins with the size of the process that started this one.
        status = dict(line.split(":", 1) for line in pathlib.Path("/proc/self/status").read_text().splitlines())
        sizes = [int(status["VmHWM"].split()[0]) / 1024, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024]
        json.dump(sizes, open(where, "w"))
"""


def rows(path: pathlib.Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def write_mutants(root: pathlib.Path, count: int, studies: int, real: list[pathlib.Path]) -> tuple[int, list[dict]]:
    """`count` broken files spread over `studies` studies, and three whole studies; how many entries there are."""
    root.mkdir()
    bomb = mutants.bomb(root)
    told = []
    entries = 0
    for n in range(CONTROLS):
        write_cine(root / f"whole{n}", StudyInstanceUID=f"1.2.{n}", SeriesInstanceUID=f"1.2.{n}.1")
        told.append({"study_uid": f"1.2.{n}", "report": f"FINDINGS: Heart {n} is whole."})
        entries += 18
    for n in range(studies):
        folder = root / f"study{n}"
        folder.mkdir()
        uid = f"1.9.{n}"
        told.append({"study_uid": uid, "report": f"FINDINGS: Heart {n} is in pieces."})
        base = mutants.bases(folder, uid, real[n % len(real) :][:2] if real else [])
        for number in range(n, count, studies):
            rng = np.random.default_rng(number)
            kinds = len(mutants.BYTES) * 12 + len(mutants.PLACES)
            kind = number % kinds
            if kind >= len(mutants.BYTES) * 12:
                entries += mutants.place(folder, f"m{number}", mutants.PLACES[kind - len(mutants.BYTES) * 12], bomb)
            else:
                change = mutants.BYTES[kind % len(mutants.BYTES)]
                (folder / f"m{number}").write_bytes(change(base[int(rng.integers(len(base)))], rng))
                entries += 1
    return entries, told


def run(root: pathlib.Path, *more: str) -> tuple[subprocess.CompletedProcess[str], list[float]]:
    (root / "measured.py").write_text(MEASURED)
    arguments = [f"--dicom_dir={root / 'dicom'}", f"--reports={root / 'reports.csv'}", f"--out={root / 'out'}"]
    arguments += [f"--key_file={root / 'key'}", "--image_size=32", "--split_fractions=1,0,0", "--num_workers=2", *more]
    command = [sys.executable, str(root / "measured.py"), str(root / "sizes.json"), *arguments]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(root), str(PROJECT)])}
    done = subprocess.run(command, cwd=PROJECT, env=environment, capture_output=True, text=True, timeout=900)
    return done, json.loads((root / "sizes.json").read_text())


@pytest.mark.parametrize(
    ("count", "studies"), [(101, 6), pytest.param(1200, 60, marks=pytest.mark.slow)], ids=["draw", "full"]
)
def test_mutated_files_stop_nothing(tmp_path, request, count, studies):
    real = []
    if count > 1000:
        sunnybrook = request.getfixturevalue("real_data") / "sunnybrook" / "dicom"
        real = [path for path in sorted(sunnybrook.rglob("*")) if path.is_file()][::20]
    entries, told = write_mutants(tmp_path / "dicom", count, studies, real)
    write_reports(tmp_path / "reports.csv", told)
    done, sizes = run(tmp_path, "--worker_memory_gb=4")
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    files = rows(tmp_path / "out" / "files.csv")
    fates = collections.Counter((row["status"], row["reason"]) for row in files)
    print(*sorted(fates.items()), sizes, sep="\n")
    assert len(files) == len({row["file_id"] for row in files}) == entries
    assert not [row for row in files if row["status"] not in ("used", "ignored", "rejected")]
    assert not [row for row in files if row["status"] != "used" and not row["reason"]]
    assert not [row for row in files if "worker process" in row["reason"] or "longer than" in row["reason"]]
    used = collections.Counter(row["status"] for row in rows(tmp_path / "out" / "files.csv"))
    assert used["used"] >= CONTROLS * 18 and used["rejected"] > count // 4
    assert max(sizes) < CAP_MB
    whole = [row for row in rows(tmp_path / "out" / "series.csv") if row["frames"] == "18" and row["used"] == "yes"]
    assert len(whole) == CONTROLS
    again, _ = run(tmp_path, "--strict")
    assert again.returncode == 3, again.stderr


# A stand-in for the decoders' library that goes wrong where the study says so, in the ways that decoders do.
DECODER = """
import importlib.machinery, importlib.util, os, sys, sysconfig, time
spec = importlib.machinery.PathFinder.find_spec("imagecodecs", [sysconfig.get_path("purelib")])
real = importlib.util.module_from_spec(spec)
sys.modules["imagecodecs"] = real
spec.loader.exec_module(real)

class Panic(BaseException):
    pass

def broken(decode):
    def run(data, *rest, **more):
        values = decode(data, *rest, **more)
        match int(values[0, 0]):
            case 4001:
                raise Panic("index out of bounds: the len is 0")
            case 4002:
                os.abort()
            case 4003:
                time.sleep(600)
            case 4004:
                bytearray(1 << 40)
        return values
    return run

real.jpegls_decode = broken(real.jpegls_decode)
"""


def test_a_decoder_that_panics_aborts_or_hangs_costs_its_study_alone(tmp_path):
    reasons = {
        4001: "pixels cannot be decoded (Panic)",
        4002: "study could not be processed (its worker process ended: SIGABRT)",
        4003: "study could not be processed (it took longer than 4 s)",
        4004: "pixels cannot be decoded (MemoryError)",
    }
    (tmp_path / "imagecodecs.py").write_text(DECODER)
    told = []
    for n, code in enumerate([0, 4001, 0, 4002, 4003, 0, 4004, 0]):
        uid = f"1.2.{n}"
        told.append({"study_uid": uid, "report": f"FINDINGS: Heart {n} is here."})
        for phase in range(4):
            path = tmp_path / "dicom" / f"s{n}" / f"{phase}.dcm"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(mutants.jpegls(tmp_path, code, uid, phase))
    write_reports(tmp_path / "reports.csv", told)
    done, _ = run(tmp_path, "--study_timeout_s=4")
    assert done.returncode == 0, done.stderr
    files = rows(tmp_path / "out" / "files.csv")
    fates = collections.Counter((row["status"], row["reason"]) for row in files)
    assert fates == {("used", ""): 16, **{("rejected", reason): 4 for reason in reasons.values()}}
    manifest = json.loads((tmp_path / "out" / "manifest.json").read_text())
    assert manifest["counts"]["studies"] == 4 and manifest["counts"]["studies_put_aside"] == 4


def test_ctrl_c_is_one_word_and_leaves_no_process_and_a_second_run_goes_on(tmp_path):
    cohort = Cohort(tmp_path, 3)
    (tmp_path / "slow.py").write_text(
        "import os, pathlib, time\n"
        "def scrub(text):\n"
        f"    here = pathlib.Path({str(tmp_path)!r})\n"
        "    (here / f'pid{os.getpid()}').touch()\n"
        "    time.sleep(0 if (here / 'quick').exists() else 600)\n"
        "    return text\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    command = cohort.command("out", "--num_workers=2", "--scrubber=slow:scrub", "--split_fractions=1,0,0")
    process = subprocess.Popen(
        command, cwd=PROJECT, env=environment, stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    deadline = time.monotonic() + 60
    while len(workers := [int(path.name[3:]) for path in tmp_path.glob("pid*")]) < 2 and time.monotonic() < deadline:
        time.sleep(0.05)
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does: to all of them
    _, said = process.communicate(timeout=60)
    assert (process.returncode, said) == (130, "interrupted\n")
    assert len(workers) == 2 and not [pid for pid in workers if pathlib.Path(f"/proc/{pid}").exists()]
    assert not (tmp_path / "out" / "manifest.json").exists()
    (tmp_path / "quick").touch()
    again = subprocess.run(command, cwd=PROJECT, env=environment, capture_output=True, text=True, timeout=120)
    assert again.returncode == 0, again.stderr


def test_a_header_that_ends_or_holds_its_worker_costs_its_file_alone(tmp_path, monkeypatch):
    cohort = Cohort(tmp_path, 3)
    monkeypatch.setattr(scan, "scan_file", faulty.scan_file)
    monkeypatch.setattr(pipeline, "_HEADERS_TIMEOUT_S", 2.0)
    (cohort.dicom / "MRN770001" / "abort.dcm").touch()
    (cohort.dicom / "MRN770002" / "hang.dcm").touch()
    with Workers(2) as workers:
        planned = pipeline.plan(cohort.dicom, reports.read(cohort.reports, ["group"]), workers)
    assert [len(tuple(task.scans)) for task in planned.tasks] == [18, 18, 18]
    assert sorted(planned.others) == [
        ("MRN770001/abort.dcm", "rejected", "header could not be read (its worker process ended: SIGABRT)"),
        ("MRN770002/hang.dcm", "rejected", "header could not be read (it took longer than 2 s)"),
    ]
