"""The binaries from outside: what they write, what they say, how they go on."""

import base64
import csv
import json
import os
import pathlib
import shutil
import subprocess
import sys
import time
from typing import Any

import numpy as np
import pytest

from cmr_jax.data import records, schema
from preprocessing import swap
from tests.preprocessing.tiny_dicom import PROJECT, coded, mr_dataset, save, write_cine, write_reports


def rows(path: pathlib.Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def contents(folder: pathlib.Path) -> dict[str, bytes]:
    """The dataset's files, without what is kept of the work (`test_no_identifier_in_any_artefact` reads that too)."""
    found = {str(p.relative_to(folder)): p for p in sorted(folder.rglob("*")) if p.is_file()}
    return {name: path.read_bytes() for name, path in found.items() if not name.startswith(".work/")}


def examples(folder: pathlib.Path) -> list[records.Example]:
    splits = [records.Split(folder, name) for name in schema.SPLITS]
    return [split[row] for split in splits for row in range(len(split))]


def test_everything_promised_is_there(cohort):
    out = cohort.root / "out"
    names = {p.name for p in out.iterdir()}
    assert {"manifest.json", "series.csv", "files.csv", "studies.csv", "summary.md", "qc"} <= names
    assert {"features.json", "dataset_info.json", "tokenizer.model"} <= names
    assert {name for name in names if not name.startswith((".", "cmr-"))} == {schema.MANIFEST, *swap._OURS}
    assert [name for name in names if name.startswith(".")] == [".work"]
    manifest = json.loads((out / "manifest.json").read_text())
    assert manifest["image_size"] == 32 and manifest["label_names"] == ["group", "lvef_percent"]
    assert manifest["splits"]["val"] == {"studies": 0, "shards": []}
    for split in manifest["splits"].values():
        for shard in split["shards"]:
            assert {shard["name"], shard["name"] + ".index"} <= names
    assert list((out / "qc").glob("*.png"))


def test_every_file_is_accounted_for(cohort):
    out = cohort.root / "out"
    files = rows(out / "files.csv")
    assert len(files) == len({row["file_id"] for row in files}) == 6 * 18
    assert {row["status"] for row in files} == {"used"}
    counts = json.loads((out / "manifest.json").read_text())["counts"]
    assert counts["files_used"] + counts["files_ignored"] + counts["files_rejected"] == counts["files_seen"] == 108


def test_records_hold_the_frames_in_their_place(cohort):
    studies = {row["study_id"]: row for row in rows(cohort.root / "out" / "studies.csv")}
    found = examples(cohort.root / "out")
    assert {e["study_id"] for e in found} == set(studies)
    for example in found:
        (series,) = schema.split_series(example)
        assert series.shape == (3, 6, 32, 32)
        # The code of `coded` stands at the middle of the frame: brightness grows with the phase.
        phase_code = series[:, :, 19, 19].astype(int)
        assert (np.diff(phase_code, axis=1) > 0).all()
        slice_code = series[:, :, 13, 13].astype(int)
        assert (np.diff(slice_code, axis=0) > 0).all()  # slice 0 was written at the base
        assert example["series/view_rule"] == ["geometry:largest_parallel_stack"]
        np.testing.assert_allclose(example["slice_position_mm"], [0, 10, 20], atol=1e-3)
        np.testing.assert_allclose(example["frame_time_ms"][:6], 40.0 * np.arange(6))
        row = studies[example["study_id"]]
        labels = dict(zip(example["label/name"], example["label/value"], strict=True))
        assert labels == {"group": row["group"], "lvef_percent": row["lvef_percent"]}
        assert f"fraction of {labels['lvef_percent']} percent" in example["report"]
        assert example["label/source"] == ["table", "text"]
        assert "ejection fraction of" in example["section/findings"]
        assert example["section/impression"].startswith("Case")
        assert len(example["tokens/findings"]) and not len(example["tokens/technique"])


def test_no_identifier_in_any_artefact(cohort):
    secrets = ["Quagmire", "Glenda", "MRN77", "SECRET-GROUP", "Springfield", "1.2.840.99", str(cohort.dicom)]
    work = {p.name: p.read_bytes() for p in (cohort.root / "out" / ".work").iterdir()}
    assert any(name.endswith(".kept") for name in work)
    for name, data in (contents(cohort.root / "out") | work).items():
        for secret in secrets:
            forms = [secret.encode(), secret.encode("utf-16-le"), base64.b64encode(secret.encode())[:-4]]
            assert not any(form.lower() in data.lower() for form in forms), (name, secret)


def test_work_done_before_a_stop_is_used_again(own_cohort):
    cohort = own_cohort(2)
    assert cohort.run("out", "--shard_index=0", "--num_shards=1").returncode == 0
    work = cohort.root / "out" / ".work"
    before = {p.name: p.stat().st_mtime_ns for p in work.glob("*.npz")}
    assert len(before) == 2
    first = sorted(work.glob("*.npz"))[0]
    first.unlink()  # as if stopped in between
    (work / "half.npz.123.partial").write_bytes(b"half")
    assert cohort.run("out", "--shard_index=0", "--num_shards=1").returncode == 0
    after = {p.name: p.stat().st_mtime_ns for p in work.glob("*.npz")}
    assert set(after) == set(before)
    assert [name for name in after if after[name] != before[name]] == [first.name]
    assert cohort.run("out", "--split_fractions=1,0,0", "--image_size=48").returncode == 0
    assert {e["frames"].shape[1:] for e in examples(cohort.root / "out")} == {(48, 48)}  # other settings, other work


def test_workers_end_with_a_killed_parent(tmp_path):
    script = tmp_path / "parent.py"
    script.write_text(
        "import os, time\n"
        "from preprocessing.parallel import Workers\n"
        "if __name__ == '__main__':\n"
        "    with Workers(1) as workers:\n"
        "        print(*workers.map(os.path.realpath, ['/proc/self']), flush=True)\n"
        "        time.sleep(60)\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(PROJECT)}
    parent = subprocess.Popen([sys.executable, script], env=environment, stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    worker = int(parent.stdout.readline().rsplit("/")[-1])
    parent.kill()
    parent.communicate()
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline and running(worker):
        time.sleep(0.05)
    assert not running(worker)


def running(pid: int) -> bool:
    """Whether the process lives; one that ended and was not yet collected does not."""
    try:
        return pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


@pytest.mark.parametrize("stopped", [True, False])
def test_a_changed_report_is_seen_by_a_second_run(own_cohort, stopped):
    cohort = own_cohort(3)
    part = ["--shard_index=0", "--num_shards=1"] if stopped else []
    assert cohort.run("out", "--split_fractions=1,0,0", *part).returncode == 0
    cohort.reports.write_text(cohort.reports.read_text().replace("Case 1", "Anything but case 1"))
    assert cohort.run("out", "--split_fractions=1,0,0").returncode == 0
    assert any("Anything but" in e["report"] for e in examples(cohort.root / "out"))
    assert cohort.run("out", module="preprocessing.verify").returncode == 0


def test_bad_files_and_strangers_do_not_stop_the_run(own_cohort):
    cohort = own_cohort(4)
    folder = next(cohort.dicom.iterdir())
    (folder / "notes.txt").write_text("hello")
    (folder / "cut.dcm").write_bytes((folder / "001.dcm").read_bytes()[:-9])
    save(mr_dataset(coded(0, 0), StudyInstanceUID="1.2.840.99.77", PatientID="stranger"), folder / "stranger.dcm")
    save(mr_dataset(coded(0, 0), BurnedInAnnotation="YES", StudyInstanceUID="1.2.840.99.1"), folder / "text.dcm")
    shutil.copy(folder / "001.dcm", folder / "copy.dcm")
    done = cohort.run("out", "--split_fractions=1,0,0")
    assert done.returncode == 0, done.stderr
    left_out = sorted(
        (r["status"], r["reason"]) for r in rows(cohort.root / "out" / "files.csv") if r["status"] != "used"
    )
    assert left_out == [
        ("ignored", "burned-in annotation"),
        ("ignored", "copy of another frame"),
        ("ignored", "study without a report"),
        ("rejected", "not a DICOM file"),
        ("rejected", "pixel data cut short"),
    ]
    assert cohort.run("out", "--split_fractions=1,0,0", "--strict").returncode == 3
    assert cohort.run("out", module="preprocessing.verify").returncode == 0


def test_splits_by_time_and_by_site_of_the_table(own_cohort):
    cohort = own_cohort(4)
    for n, day in enumerate(("20190101", "20200601", "20220101", "")):
        uid = f"1.2.840.99.{n + 1}"
        about: dict[str, Any] = {"StudyInstanceUID": uid, "SeriesInstanceUID": f"{uid}.1", "PatientID": f"MRN77{n:04d}"}
        write_cine(cohort.dicom / f"MRN77{n:04d}", patient=n, StudyDate=day, **about)
    table = [row | {"hospital": "ABBA"[n]} for n, row in enumerate(rows(cohort.reports))]
    write_reports(cohort.reports, table)
    done = cohort.run("time", "--split_by=time", "--split_dates=2020-01-01,2021-01-01")
    assert done.returncode == 0, done.stderr
    assert sorted(r["split"] for r in rows(cohort.root / "time" / "studies.csv")) == ["test", "train", "val"]
    left_out = [row["reason"] for row in rows(cohort.root / "time" / "files.csv") if row["status"] == "ignored"]
    assert left_out == ["study without a date (--split_by time)"] * 18
    assert "1 without a date or site to split by" in (cohort.root / "time" / "summary.md").read_text()

    flags = ("--split_by=site", "--split_fractions=1,0,0", "--site_column=hospital")
    done = cohort.run("site", *flags, "--split_sites=B")
    assert done.returncode == 0, done.stderr
    found = rows(cohort.root / "site" / "studies.csv")
    assert len({r["site"] for r in found}) == 2
    assert {r["split"] for r in found if r["site"] == found[0]["site"]} == {found[0]["split"]}
    assert sorted(r["split"] for r in found) == ["test", "test", "train", "train"]
    assert cohort.run("site", module="preprocessing.verify").returncode == 0
    one_line(cohort.run("site", *flags, "--split_sites=C"), "--split_sites", found[0]["site"])


def test_labels_of_a_table_of_their_own_stand_over_the_text(own_cohort):
    cohort = own_cohort(2)
    (cohort.root / "labels.csv").write_text(
        "study_uid,lvef_percent,scar,patient_name\n1.2.840.99.1,35,present,Quagmire0\n1.2.840.99.2,,absent,Quagmire1\n"
    )
    more = ("--label_columns=group,lvef_percent,scar", f"--label_table={cohort.root / 'labels.csv'}")
    done = cohort.run("out", "--split_fractions=1,0,0", *more)
    assert done.returncode == 0, done.stderr
    told = sorted((r["group"], r["lvef_percent"], r["scar"]) for r in rows(cohort.root / "out" / "studies.csv"))
    assert told == [("even", "35", "present"), ("odd", "41", "absent")]
    assert "Quagmire" not in (cohort.root / "out" / "studies.csv").read_text()
    wrong = cohort.run("other", f"--label_table={cohort.root / 'labels.csv'}", "--label_columns=")
    assert wrong.returncode == 2 and "name the columns" in wrong.stderr and len(wrong.stderr.splitlines()) == 1


def test_dry_run_tells_and_writes_nothing(cohort):
    done = cohort.run("nothing", "--dry_run")
    assert done.returncode == 0, done.stderr
    assert "| 6 | cine_sax |  | geometry:largest_parallel_stack | 3 | 6 | ge | yes |" in done.stdout
    assert not (cohort.root / "nothing").exists()
    assert "Quagmire" not in done.stdout


def one_line(done: subprocess.CompletedProcess[str], *words: str) -> None:
    assert done.returncode == 2, (done.returncode, done.stderr)
    lines = [line for line in done.stderr.splitlines() if line.strip()]
    assert len(lines) == 1 and lines[0].startswith("error: "), done.stderr
    for word in words:
        assert word in lines[0]


def test_mistakes_are_one_line_and_leave_nothing(cohort, tmp_path):
    empty = tmp_path / "empty.csv"
    empty.touch()
    (tmp_path / "bare").mkdir()
    stranger = tmp_path / "stranger.csv"
    stranger.write_text("study_uid,report,group\n9.9,FINDINGS: fine,a\n")
    one_line(cohort.run("new", f"--dicom_dir={tmp_path}/none"), "--dicom_dir")
    one_line(cohort.run("new", f"--dicom_dir={tmp_path}/bare"), "--dicom_dir")
    one_line(cohort.run("new", f"--reports={empty}"), "--reports")
    one_line(cohort.run("new", "--label_columns=nope"), "nope", "group")
    one_line(cohort.run("new", "--num_shards=2"), "--shard_index")
    one_line(cohort.run("new", "--banana=1"), "banana")
    one_line(cohort.run("new", "--split_by=time"), "--split_dates")
    one_line(cohort.run("new", "--scan_only"), "--scan_index")
    one_line(cohort.run("new", f"--scan_index={cohort.root}/new/index"), "--scan_index", "inside --out")
    one_line(cohort.run("new", f"--reports={stranger}"), "none of the 6 studies")
    assert not (cohort.root / "new").exists()
    one_line(cohort.run("new", "--split_fractions=0,0,1"), "training split")
    assert contents(cohort.root / "new") == {}


def test_a_wrong_or_missing_key_is_refused_and_the_data_stand(cohort, tmp_path):
    before = contents(cohort.root / "out")
    (tmp_path / "other").write_text("f" * 32)
    (tmp_path / "other").chmod(0o600)
    one_line(cohort.run("out", f"--key_file={tmp_path}/other"), "--key_file", "fingerprint")
    one_line(cohort.run("out", f"--key_file={tmp_path}/none"), "--key_file")
    assert not (tmp_path / "none").exists()
    assert contents(cohort.root / "out") == before


def test_a_full_disk_leaves_what_stood_before(cohort, tmp_path):
    """The file size limit of the process stands in for the disk."""
    shutil.copytree(cohort.root / "out", tmp_path / "out")
    before = contents(tmp_path / "out")
    code = (
        "import resource, signal, runpy, sys; signal.signal(signal.SIGXFSZ, signal.SIG_IGN);"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (60000, 60000)); sys.argv[0] = 'x';"
        "runpy.run_module('preprocessing.run', run_name='__main__')"
    )
    arguments = [f"--dicom_dir={cohort.dicom}", f"--reports={cohort.reports}", f"--out={tmp_path / 'out'}"]
    arguments += [f"--key_file={cohort.key}", "--num_workers=0", "--image_size=64"]
    done = subprocess.run([sys.executable, "-c", code, *arguments], cwd=PROJECT, capture_output=True, text=True)
    one_line(done, "--out cannot be written")
    assert contents(tmp_path / "out") == before


def test_a_study_that_kills_its_worker_is_put_aside_alone(own_cohort):
    """A scrubber that ends the process stands in for a decoder that aborts."""
    cohort = own_cohort(3)
    (cohort.root / "deadly.py").write_text(
        "import os\ndef scrub(text):\n    return os._exit(9) if 'Case 1' in text else text\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(cohort.root)}
    arguments = [f"--dicom_dir={cohort.dicom}", f"--reports={cohort.reports}", f"--out={cohort.root / 'out'}"]
    arguments += [f"--key_file={cohort.key}", "--num_workers=1", "--image_size=32", "--split_fractions=1,0,0"]
    command = [sys.executable, "-m", "preprocessing.run", *arguments, "--scrubber=deadly:scrub"]
    done = subprocess.run(command, cwd=PROJECT, env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    files = rows(cohort.root / "out" / "files.csv")
    assert sum(row["status"] == "used" for row in files) == 36
    assert {row["reason"] for row in files if row["status"] == "rejected"} == {
        "study could not be processed (its worker process ended: exit code 9)"
    }
    (cohort.root / "deadly.py").write_text("def scrub(text):\n    return text.replace('Case', 'Case no')\n")
    again = [*command, "--image_size=48"]  # anything that makes the run begin again
    done = subprocess.run(again, cwd=PROJECT, env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert sum(row["status"] == "used" for row in rows(cohort.root / "out" / "files.csv")) == 54


def test_preprocessing_imports_neither_jax_nor_tensorflow():
    code = (
        "import sys, preprocessing.run, preprocessing.write, preprocessing.qc;"
        "print(sorted(m for m in sys.modules if m in ('jax', 'tensorflow', 'flax')))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=PROJECT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_a_worker_imports_nothing_that_only_publishing_needs():
    """A spawned worker imports the main module: seconds and megabytes of each."""
    code = (
        "import sys, preprocessing.run, preprocessing.process, preprocessing.worker;"
        "print(sorted(m for m in sys.modules if m in ('matplotlib', 'tensorflow_datasets', 'preprocessing.publish')))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=PROJECT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
