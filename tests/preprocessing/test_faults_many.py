"""Ten thousand studies in one run: the parent's memory and descriptors stay where they are."""

import csv
import json
import os
import pathlib
import statistics
import subprocess
import sys

import numpy as np
import pytest

from tests.preprocessing.tiny_dicom import PROJECT, coded, mr_dataset, save, write_reports

# The command, with the parent's resident kilobytes and open descriptors noted at every study.
WATCHED = """
import json, os, resource, runpy, sys
from preprocessing import parallel, pipeline

before, seen = parallel.progress, {}

def progress(items, total, what):
    for item in before(items, total, what):
        pages = int(open("/proc/self/statm").read().split()[1])
        seen.setdefault(what, []).append((pages * resource.getpagesize() // 1024, len(os.listdir("/proc/self/fd"))))
        yield item

if __name__ == "__main__":
    parallel.progress = pipeline.progress = progress  # publish, imported later, takes the first
    where = sys.argv.pop(1)
    try:
        runpy.run_module("preprocessing.run", run_name="__main__", alter_sys=True)
    finally:
        json.dump(seen, open(where, "w"))
"""


def write_studies(root: pathlib.Path, count: int) -> None:
    """Two frames a study, made of one template whose ids and pixels (its end) are written over."""
    rng = np.random.default_rng(0)
    place = {}
    for phase in range(2):
        data = mr_dataset(
            coded(0, phase), StudyInstanceUID="1.2.3.1000000", SeriesInstanceUID="1.2.4.1000000",
            SOPInstanceUID="1.2.5.1000000", PatientID="MRN1000000", TriggerTime=40.0 * phase, InstanceNumber=phase + 1,
        )  # fmt: skip
        place[phase] = save(data, root / "template").read_bytes()
    (root / "template").unlink()
    for n in range(count):
        folder = root / f"{n // 100:03d}" / f"{n:07d}"
        folder.mkdir(parents=True)
        for phase, template in place.items():
            pixels = rng.integers(0, 4096, 256, np.uint16).tobytes()
            header = template.replace(b"1000000", f"{1000000 + n}".encode())[: -len(pixels)]
            (folder / str(phase)).write_bytes(header + pixels)


@pytest.mark.parametrize("count", [300, pytest.param(10_000, marks=pytest.mark.slow)])
def test_many_studies_take_no_more_than_few(tmp_path, count):
    write_studies(tmp_path / "dicom", count)
    told = [{"study_uid": f"1.2.3.{1000000 + n}", "report": f"FINDINGS: Heart {n % 97} beats."} for n in range(count)]
    write_reports(tmp_path / "reports.csv", told)
    (tmp_path / "watched.py").write_text(WATCHED)
    arguments = [f"--dicom_dir={tmp_path / 'dicom'}", f"--reports={tmp_path / 'reports.csv'}", "--num_workers=2"]
    arguments += [f"--out={tmp_path / 'out'}", f"--key_file={tmp_path / 'key'}", "--image_size=16"]
    command = [sys.executable, str(tmp_path / "watched.py"), str(tmp_path / "seen.json"), *arguments]
    environment = {**os.environ, "PYTHONPATH": str(PROJECT)}
    done = subprocess.run(command, cwd=PROJECT, env=environment, capture_output=True, text=True, timeout=3 * 3600)
    assert done.returncode == 0, done.stderr
    with (tmp_path / "out" / "studies.csv").open(newline="") as file:
        assert sum(1 for _ in csv.DictReader(file)) == count
    seen = json.loads((tmp_path / "seen.json").read_text())
    assert {what: len(samples) for what, samples in seen.items()} == {
        "reading headers": 2 * count,
        "looking for work done before": count,
        "processing studies": count,
        "looking at the work": count,
        "writing records": count,
    }
    for what, samples in seen.items():
        third = len(samples) // 3
        for name, number in (("kB", 0), ("descriptors", 1)):
            first, last = (
                statistics.median(sample[number] for sample in part) for part in (samples[:third], samples[-third:])
            )
            print(f"{what}: {name} {first:g} in the first third, {last:g} in the last")
            assert abs(last - first) <= 0.05 * first
