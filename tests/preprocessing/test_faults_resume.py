"""Stops at any moment, and the same bytes whoever does the work (faults.md rows 1 and 2)."""

import os
import pathlib
import random
import shutil
import signal
import subprocess
import time

import pytest

from cmr_jax.data import records, schema
from cmr_jax.errors import InputError
from preprocessing import check, swap
from tests.preprocessing.test_run import contents, rows
from tests.preprocessing.tiny_dicom import PROJECT, Cohort, write_reports

KILLS = 20


def kill_after(command: list[str], seconds: float) -> bool:
    """Starts `command` and ends it with all its children by SIGKILL; whether it was still running."""
    process = subprocess.Popen(
        command, cwd=PROJECT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
    )
    try:
        process.wait(seconds)
        return False
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        return True


def state(out: pathlib.Path, old: dict[str, bytes], new: dict[str, bytes]) -> str:
    """What a reader sees: "old", "new" or "unfinished"; anything else is an error."""
    try:
        manifest = records.load_manifest(out)
    except InputError:
        return "unfinished"
    assert check.file_problems(out, manifest) == []
    seen = {name: data for name, data in contents(out).items() if not name.startswith((swap.STAGING, swap.OLD))}
    assert seen in (old, new)
    return "new" if seen == new else "old"


class Growing:
    """A dataset of three studies that a run makes one of six: the old one, the new one, and how long a run takes."""

    def __init__(self, cohort: Cohort):
        self.cohort = cohort
        self.few = write_reports(cohort.root / "few.csv", rows(cohort.reports)[:3])
        assert self.run("old", f"--reports={self.few}").returncode == 0
        shutil.copytree(cohort.root / "old", cohort.root / "grown")
        start = time.monotonic()
        assert self.run("grown").returncode == 0
        self.seconds = time.monotonic() - start
        assert self.run("new").returncode == 0
        self.old, self.grown, self.new = (contents(cohort.root / name) for name in ("old", "grown", "new"))

    def run(self, out: str, *more: str) -> subprocess.CompletedProcess[str]:
        return self.cohort.run(out, "--num_workers=1", "--split_fractions=1,0,0", *more)

    def command(self, out: str) -> list[str]:
        return self.cohort.command(out, "--num_workers=1", "--split_fractions=1,0,0")


@pytest.fixture(scope="module")
def growing(tmp_path_factory) -> Growing:
    cohort = Cohort(tmp_path_factory.mktemp("growing"))
    cohort.key.write_text("0123456789abcdef0123456789abcdef")
    cohort.key.chmod(0o600)
    return Growing(cohort)


def survive(growing: Growing, case: int) -> None:
    """Kills a first run (even cases) or one that adds studies (odd ones), then runs to the end."""
    moment = random.Random(case).uniform(0.1, 1.0) * growing.seconds
    out = growing.cohort.root / f"killed{case}"
    start, end = ({}, growing.new) if case % 2 == 0 else (growing.old, growing.grown)
    if start:
        shutil.copytree(growing.cohort.root / "old", out)
    else:
        out.mkdir()
    kill_after(growing.command(out.name), moment)
    assert state(out, start, end) in ("old", "new", "unfinished")
    done = growing.run(out.name)
    assert done.returncode == 0, done.stderr
    assert contents(out) == end
    shutil.rmtree(out)


@pytest.mark.parametrize("case", [2, 5, 11])
def test_a_kill_at_a_random_moment_loses_and_doubles_nothing(growing, case):
    survive(growing, case)


@pytest.mark.slow
@pytest.mark.parametrize("case", range(KILLS))
def test_a_kill_at_any_of_twenty_random_moments_loses_and_doubles_nothing(growing, case):
    survive(growing, case)


def test_a_grown_dataset_holds_the_old_studies_as_they_were_and_did_only_what_was_new(growing, tmp_path):
    """The tokenizer stays, so that of the old records not even the tokens change."""
    assert growing.old["tokenizer.model"] == growing.grown["tokenizer.model"] != growing.new["tokenizer.model"]
    before, after = (payloads(growing.cohort.root / name) for name in ("old", "grown"))
    assert len(before) == 3 and len(after) == 6
    assert {name: after[name] for name in before} == before
    shutil.copytree(growing.cohort.root / "old", growing.cohort.root / "watched")
    paths = [p for n in range(3) for p in sorted((growing.cohort.dicom / f"MRN77000{n}").glob("*.dcm"))]
    originals = {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in paths}
    try:
        for path, (data, mtime) in originals.items():  # the headers stay, the pixels are gone: nobody must read them
            path.write_bytes(data[: -16 * 16 * 2] + bytes(16 * 16 * 2))
            os.utime(path, ns=(mtime, mtime))
        assert growing.run("watched").returncode == 0
    finally:
        for path, (data, mtime) in originals.items():
            path.write_bytes(data)
            os.utime(path, ns=(mtime, mtime))
    assert contents(growing.cohort.root / "watched") == growing.grown


def payloads(out: pathlib.Path) -> dict[str, bytes]:
    from preprocessing import write

    shards = [shard for split in records.load_manifest(out)["splits"].values() for shard in split["shards"]]
    return {write.study_id(p): p for shard in shards for p in write.payloads(out, shard["name"])}


def test_a_finished_run_started_again_does_nothing_and_says_so(cohort):
    before = {p: p.stat().st_mtime_ns for p in (cohort.root / "out").rglob("*")}
    done = cohort.run("out")
    assert done.returncode == 0 and done.stdout.startswith("nothing changed: 6 studies (train 4, val 0, test 2)")
    assert {p: p.stat().st_mtime_ns for p in (cohort.root / "out").rglob("*")} == {**before, **lock(cohort)}


def lock(cohort: Cohort) -> dict[pathlib.Path, int]:
    path = cohort.root / "out" / swap.LOCK
    return {path: path.stat().st_mtime_ns}


@pytest.mark.parametrize("damage", ["flip", "missing"])
def test_a_damaged_shard_is_made_anew_by_the_next_run(cohort, tmp_path, damage):
    shutil.copytree(cohort.root / "out", cohort.root / f"damaged_{damage}")
    out = cohort.root / f"damaged_{damage}"
    shard = out / schema.shard_name("train", 0, 1)
    content = bytearray(shard.read_bytes())
    content[len(content) // 2] ^= 1
    shard.unlink() if damage == "missing" else shard.write_bytes(content)
    done = cohort.run(out.name)
    assert done.returncode == 0, done.stderr
    assert contents(out) == contents(cohort.root / "out")


SHUFFLED = (
    "import pathlib, random, runpy, sys; real = pathlib.Path.iterdir;"
    "pathlib.Path.iterdir = lambda self: random.sample(found := list(real(self)), len(found));"
    "sys.argv[0] = 'x'; runpy.run_module('preprocessing.run', run_name='__main__')"
)


def by_workers(cohort: Cohort, out: str, count: int) -> None:
    assert cohort.run(out, f"--num_workers={count}").returncode == 0


def shuffled(cohort: Cohort, out: str) -> None:
    python, _, _, *arguments = cohort.command(out)
    done = subprocess.run([python, "-c", SHUFFLED, *arguments], cwd=PROJECT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def array(cohort: Cohort, out: str, *more: str, tasks: int) -> None:
    """Tasks in no order, a --finalize that comes too early, and one that comes in time."""
    for number, index in enumerate(reversed(range(tasks))):
        done = cohort.run(out, f"--shard_index={index}", f"--num_shards={tasks}", *more)
        assert done.returncode == 0, done.stderr
        assert not (cohort.root / out / schema.MANIFEST).exists()
        if number == 0:
            early = cohort.run(out, "--finalize", *more)
            assert early.returncode == 2 and "not processed yet" in early.stderr
    done = cohort.run(out, "--finalize", *more)
    assert done.returncode == 0, done.stderr


def array_with_index(cohort: Cohort, out: str) -> None:
    index = cohort.root / "private.index"
    done = cohort.run(out, "--scan_only", f"--scan_index={index}")
    assert done.returncode == 0, done.stderr
    assert index.stat().st_mode & 0o777 == 0o600
    written = index.stat().st_mtime_ns
    array(cohort, out, f"--scan_index={index}", tasks=3)
    assert index.stat().st_mtime_ns == written  # nobody read a header again


WAYS = {
    "1 worker": lambda cohort, out: by_workers(cohort, out, 1),
    "2 workers": lambda cohort, out: by_workers(cohort, out, 2),
    "8 workers": lambda cohort, out: by_workers(cohort, out, 8),
    "shuffled listing": shuffled,
    "two array tasks": lambda cohort, out: array(cohort, out, tasks=2),
    "three array tasks with one scan": array_with_index,
}
QUICK = ("2 workers", "shuffled listing", "three array tasks with one scan")


@pytest.mark.parametrize("way", [way if way in QUICK else pytest.param(way, marks=pytest.mark.slow) for way in WAYS])
def test_the_bytes_do_not_depend_on_who_did_the_work(cohort, way):
    out = way.replace(" ", "_")
    WAYS[way](cohort, out)
    assert contents(cohort.root / out) == contents(cohort.root / "out")


def test_a_study_that_failed_is_tried_again_before_and_after_publishing(own_cohort):
    """A scrubber that fails as long as a file is there stands in for a disk or memory that is mended."""
    cohort = own_cohort(2)
    (cohort.root / "flaky.py").write_text(
        "import pathlib\n"
        "def scrub(text):\n"
        "    if 'Case 1' in text and (pathlib.Path(__file__).parent / 'broken').exists(): raise MemoryError\n"
        "    return text\n"
    )
    (cohort.root / "broken").touch()
    environment = {**os.environ, "PYTHONPATH": str(cohort.root)}
    command = cohort.command("out", "--split_fractions=1,0,0", "--scrubber=flaky:scrub")

    def run(*more: str) -> list[str]:
        done = subprocess.run([*command, *more], cwd=PROJECT, env=environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        files = cohort.root / "out" / "files.csv"
        return sorted({row["status"] for row in rows(files)}) if files.exists() else []

    part = ("--shard_index=0", "--num_shards=1")
    assert run(*part) == []
    assert run() == ["rejected", "used"]  # tried again, and failed again
    assert list((cohort.root / "out" / ".work").glob("*.npz")) == []
    (cohort.root / "broken").unlink()
    assert run("--studies_per_shard=9") == ["used"]
