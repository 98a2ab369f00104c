"""What the commands say on a mistake, or on an error of ours, quotes no path, name or id. And where the key may be."""

import json
import pathlib
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable

import pytest

from preprocessing import deid, descriptions
from tests.preprocessing.tiny_dicom import PROJECT, Cohort

HOSTILE = "Jane Roesecretson 1951"
KEY = "5ec4e7c0ffee5ec4e7c0ffee5ec4e7c0"
SPLIT = "--split_fractions=1,0,0"


@pytest.fixture
def hostile(tmp_path: pathlib.Path) -> Cohort:
    """Two studies below a folder that bears a name, and a key."""
    (tmp_path / HOSTILE).mkdir()
    made = Cohort(tmp_path / HOSTILE, 2)
    made.key.write_text(KEY)
    made.key.chmod(0o600)
    return made


def says(cohort: Cohort, *arguments: str, module: str = "preprocessing.run", code: int = 2) -> str:
    done = subprocess.run(
        [sys.executable, "-m", module, *arguments], cwd=PROJECT, capture_output=True, text=True, timeout=200
    )
    assert done.returncode == code, done.stderr
    said = done.stdout + done.stderr
    for word in ("Roesecretson", "Quagmire", "MRN77", "1.2.840.99", "Springfield", KEY, str(cohort.root)):
        assert word not in said, said
    return said


def table(change: Callable[[pathlib.Path], object]) -> Callable[[Cohort], object]:
    return lambda cohort: change(cohort.reports)


def rewrite(pattern: str) -> Callable[[Cohort], None]:
    def write(cohort: Cohort) -> None:
        (cohort.root / "views.csv").write_text(pattern)

    return write


def damage_manifest(cohort: Cohort) -> None:
    (cohort.root / "out").mkdir()
    (cohort.root / "out" / "manifest.json").write_text("{")


# What is spoilt, and the arguments that override or follow the usual ones ({root} is the folder that bears a name).
MISTAKES: dict[str, tuple[Callable[[Cohort], object], tuple[str, ...]]] = {
    "reports missing": (table(pathlib.Path.unlink), ()),
    "reports a folder": (lambda c: None, ("--reports={root}",)),
    "reports binary": (table(lambda p: p.write_bytes(b"\0\1\2Roesecretson")) , ()),
    "reports not UTF-8": (table(lambda p: p.write_bytes("study_uid,report\n1,Roesecretson für".encode("latin-1"))), ()),
    "reports without their column": (table(lambda p: p.write_text("Roesecretson,b\n1,2\n")), ()),
    "reports without a link": (table(lambda p: p.write_text("report,Roesecretson\n1,2\n")), ()),
    "reports broken JSON": (table(lambda p: p.write_text('{"study_uid": "Roesecretson"\n')), ()),
    "reports of nobody here": (table(lambda p: p.write_text("study_uid,report\n1.2.840.99.9999,Roesecretson\n")), ()),
    "reports empty": (table(lambda p: p.write_text("")), ()),
    "label column missing": (lambda c: None, ("--label_columns=nothere",)),
    "no DICOM folder": (lambda c: shutil.rmtree(c.dicom), ()),
    "no DICOM": (lambda c: [p.write_text("Roesecretson") for p in c.dicom.rglob("*.dcm")], ()),
    "out below the source": (lambda c: None, ("--out={root}/dicom/new",)),
    "out a file": (lambda c: None, ("--out={root}/reports.csv",)),
    "key inside out": (lambda c: None, ("--key_file={root}/out/key",)),
    "key missing folder": (lambda c: None, ("--key_file={root}/none/key",)),
    "key too short": (lambda c: c.key.write_text("Roe"), ()),
    "key a folder": (lambda c: None, ("--key_file={root}",)),
    "view table missing": (lambda c: None, ("--view_table={root}/none.csv",)),
    "view table wrong view": (rewrite("pattern,view\nRoesecretson,heart\n"), ("--view_table={root}/views.csv",)),
    "view table bad pattern": (rewrite("pattern,view\nRoesecretson(,scout\n"), ("--view_table={root}/views.csv",)),
    "scrubber missing": (lambda c: None, ("--scrubber=Roesecretson:f",)),
    "a path in two words": (lambda c: None, ("Roesecretson",)),
}  # fmt: skip


# Runs many command lines, each in a fork of one process that has imported everything: (exit code, stderr) of each.
DRIVER = """
import json, os, sys, tempfile
from preprocessing import publish, run
answers = []
for arguments in json.load(sys.stdin):
    with tempfile.TemporaryFile() as said:
        child = os.fork()
        if not child:
            os.dup2(said.fileno(), 2)
            sys.argv = ["preprocessing.run", *arguments]
            run.main()
            os._exit(0)
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        said.seek(0)
        answers.append([code, said.read().decode()])
json.dump(answers, sys.stdout)
"""


def test_a_mistake_ends_in_one_line_that_quotes_nothing(tmp_path: pathlib.Path):
    commands = []
    cohort = Cohort(tmp_path, 1)
    for name, (spoil, more) in MISTAKES.items():
        root = tmp_path / HOSTILE / name
        root.mkdir(parents=True)
        shutil.copytree(tmp_path / "dicom", root / "dicom")
        cohort.root, cohort.dicom, cohort.key = root, root / "dicom", root / "secret.key"
        cohort.reports = pathlib.Path(shutil.copy(tmp_path / "reports.csv", root / "reports.csv"))
        cohort.key.write_text(KEY)
        cohort.key.chmod(0o600)
        spoil(cohort)
        commands.append([*cohort.command("out", SPLIT, "--num_workers=0")[3:], *(a.format(root=root) for a in more)])
    done = subprocess.run(
        [sys.executable, "-c", DRIVER], input=json.dumps(commands), cwd=PROJECT, capture_output=True, text=True,
        timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    for name, (code, said) in zip(MISTAKES, json.loads(done.stdout), strict=True):
        assert code == 2 and said.startswith("error: ") and said.count("\n") == 1, (name, code, said)
        for word in ("Roesecretson", "Quagmire", "MRN77", "1.2.840.99", str(tmp_path)):
            assert word not in said, (name, said)


@pytest.mark.parametrize("case", ["no folder", "no manifest", "damaged manifest", "nothing at --also"])
def test_verify_quotes_nothing_either(hostile: Cohort, case: str):
    if case == "no manifest":
        (hostile.root / "out").mkdir()
    elif case != "no folder":
        damage_manifest(hostile)
    more = [f"--dicom_dir={hostile.dicom}", f"--also={hostile.root / 'none'}"] if case == "nothing at --also" else []
    said = says(hostile, f"--data={hostile.root / 'out'}", *more, module="preprocessing.verify")
    assert said.startswith("error: ") and said.count("\n") == 1


BROKEN = """
from cmr_jax import cli

def broken():
    names = ("Roesecretson", "/archive/Roesecretson")
    try:
        raise KeyError(names[0])
    except KeyError as error:
        raise OSError(2, "No such file", names[1]) from error

cli.run(broken, private=True)
"""


def test_an_error_of_ours_shows_where_and_withholds_its_message():
    # In a process of its own: absl registers its flags once in each.
    done = subprocess.run([sys.executable, "-c", BROKEN], cwd=PROJECT, capture_output=True, text=True, timeout=60)
    said = done.stderr
    assert done.returncode == 1, said
    assert "Roesecretson" not in said and "KeyError" in said and "FileNotFoundError" in said and "in broken" in said


TALKATIVE = """
from cmr_jax import cli

def talk():
    for _ in range(100_000):
        print("as long as a table of a whole hospital")

cli.run(talk, private=True)
"""


def test_a_pager_that_is_left_early_is_no_error_of_ours():
    command, pipe = [sys.executable, "-c", TALKATIVE], subprocess.PIPE
    with subprocess.Popen(command, cwd=PROJECT, stdout=pipe, stderr=pipe, text=True) as process:
        assert process.stdout is not None and process.stderr is not None
        process.stdout.readline()
        process.stdout.close()
        assert (process.stderr.read(), process.wait(timeout=60)) == ("", 141)


def test_every_command_that_reads_patients_files_is_private():
    for name in ("run", "verify", "remove"):
        source = (PROJECT / "preprocessing" / f"{name}.py").read_text()
        assert "cli.run(_main, private=True)" in source


@pytest.mark.parametrize("stage", ["in work", "published"])
def test_a_wrong_or_missing_key_is_refused_on_resume(hostile: Cohort, stage: str):
    """Row 9: nothing that stands is touched, nothing is made."""
    part = ["--shard_index=0", "--num_shards=1"] if stage == "in work" else []
    assert hostile.run("out", SPLIT, *part).returncode == 0
    before = state(hostile.root / "out")
    hostile.key.write_text("another key of enough characters")
    said = says(hostile, *hostile.command("out", SPLIT)[3:])
    assert "is not the key that made" in said
    assert state(hostile.root / "out") == before
    hostile.key.unlink()
    said = says(hostile, *hostile.command("out", SPLIT)[3:])
    assert "--key_file does not exist" in said
    assert state(hostile.root / "out") == before and not hostile.key.exists()


def state(folder: pathlib.Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def test_the_key_is_in_no_command_line_environment_or_artefact(hostile: Cohort):
    seen: list[bytes] = []
    command = hostile.command("out", SPLIT, "--num_workers=2")
    process = subprocess.Popen(command, cwd=PROJECT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)

    def watch() -> None:
        while process.poll() is None:
            for folder in pathlib.Path("/proc").glob("[0-9]*"):
                try:
                    if (
                        str(hostile.root).encode() in (line := (folder / "cmdline").read_bytes())
                        or b"spawn_main" in line
                    ):
                        seen.append(line + (folder / "environ").read_bytes())
                except OSError:
                    continue
            time.sleep(0.02)

    watcher = threading.Thread(target=watch)
    watcher.start()
    said = process.communicate(timeout=200)[0]
    watcher.join()
    assert process.returncode == 0, said
    assert any(b"preprocessing.run" in line for line in seen) and any(b"spawn_main" in line for line in seen)
    forms = [KEY.encode(), bytes.fromhex(KEY), KEY.encode("utf-16-le"), repr(KEY.encode()).encode()]
    for blob in (*seen, said, *state(hostile.root / "out").values()):
        assert not any(form in blob for form in forms)


def test_the_manifest_tells_the_key_by_its_fingerprint_alone(hostile: Cohort):
    assert hostile.run("out", SPLIT).returncode == 0
    manifest = json.loads((hostile.root / "out" / "manifest.json").read_text())
    assert manifest["key_fingerprint"] == deid.Pseudonyms(KEY.encode()).fingerprint
    assert hostile.key.stat().st_mode & 0o777 == 0o600


def test_a_description_is_shown_by_its_protocol_words_alone():
    assert descriptions.shown("cine_trufi Roesecretson MRN774411 SA") == "cine trufi ? ? sa"
