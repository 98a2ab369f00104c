"""The array of jobs, with the local executor in place of SLURM: the same bytes as one run."""

import subprocess
import sys

import pytest

from launch.preprocess_submitit import steps
from tests.preprocessing.test_run import contents
from tests.preprocessing.tiny_dicom import PROJECT, Cohort


def test_the_steps_are_one_scan_then_every_part_once_then_one_publication():
    scan, array, publish = steps(["--out=o"], 3, "index")
    assert scan == [["--out=o", "--scan_index=index", "--scan_only"]]
    assert [line[-2:] for line in array] == [[f"--shard_index={i}", "--num_shards=3"] for i in range(3)]
    assert publish == [["--out=o", "--scan_index=index", "--finalize"]]


@pytest.mark.slow
def test_jobs_of_submitit_give_the_bytes_of_one_run(tmp_path):
    pytest.importorskip("submitit")
    cohort = Cohort(tmp_path, 3)
    cohort.key.write_text("0123456789abcdef0123456789abcdef")
    cohort.key.chmod(0o600)
    assert cohort.run("alone", "--split_fractions=1,0,0").returncode == 0
    arguments = [a for a in cohort.command("out", "--split_fractions=1,0,0")[3:] if not a.startswith("--num_workers")]
    command = [sys.executable, "-m", "launch.preprocess_submitit", "--cluster=local", "--tasks=2", "--cpus=1"]
    command += [f"--logs={tmp_path / 'logs'}", f"--scan_index={tmp_path / 'index'}", "--", *arguments]
    done = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert contents(tmp_path / "out") == contents(tmp_path / "alone")
    failed = subprocess.run(
        [*command, f"--dicom_dir={tmp_path / 'none'}"], cwd=PROJECT, capture_output=True, text=True, timeout=300
    )
    assert failed.returncode == 2 and "step 1: 1 of 1 jobs failed" in failed.stderr
