"""Every binary runs without network, HOME, a writable installation, privileges, a UTF-8 locale or plain paths.

The fault table's row 20. Attempts to connect are counted by an audit hook in every process (`offline_shim`) and, where
strace is there, by the kernel's word for what happens below Python.
"""

import dataclasses
import importlib.util
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
SHIM = Path(__file__).parent / "offline_shim"
PACKAGES = ("cmr_jax", "configs", "launch", "preprocessing")
PLAIN, ODD = "work", "Größe 1 é ∆ ' dir"
# Python reads names of files as UTF-8 in this locale, unless it is told not to: then nothing may need more than ASCII.
# (An accent in a path that Python itself cannot decode is more than the C++ of jax and tensorstore can take.)
C_LOCALE = {"LC_ALL": "C", "LANG": "C"}
ASCII = {"PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"}
NO_HOME = {"HOME": "/nonexistent/home", "XDG_CACHE_HOME": "/nonexistent/cache", "XDG_CONFIG_HOME": "/nonexistent/conf"}
# A namespace of one's own with nobody in it: root without privileges, and no interface that is up.
NOBODY, NO_NETWORK = ("unshare", "--user"), ("unshare", "--user", "--net")


@dataclasses.dataclass(frozen=True)
class Case:
    """`prefix` runs a command with less, `environment` with another one, in a folder called `place`."""

    prefix: tuple[str, ...] = ()
    environment: tuple[tuple[str, str], ...] = ()
    place: str = PLAIN
    read_only: bool = False


CASES = {
    "no network": Case(prefix=NO_NETWORK),
    "no HOME": Case(environment=tuple(NO_HOME.items())),
    "read-only installation": Case(prefix=NOBODY, read_only=True),
    "not root": Case(prefix=NOBODY),
    "C locale": Case(environment=tuple((C_LOCALE | ASCII).items())),
    "paths with spaces and accents": Case(place=ODD),
}
ALL_AT_ONCE = Case(NO_NETWORK, tuple((NO_HOME | C_LOCALE).items()), ODD, read_only=True)


def can(*prefix: str) -> bool:
    if not prefix:
        return True
    if shutil.which(prefix[0]) is None:
        return False
    return subprocess.run([*prefix, "true"], capture_output=True).returncode == 0


class Machine:
    """A copy of the installation and a folder to work in, as `case` has them."""

    def __init__(self, case: Case, root: Path):
        self.case, self.work, self.log = case, root / case.place, root / "network.log"
        self.install = root / f"{case.place} installed"
        for name in PACKAGES:
            shutil.copytree(ROOT / name, self.install / name, ignore=shutil.ignore_patterns("__pycache__"))
        self.work.mkdir()
        # A drawn key would now and then leave a split without a study.
        (self.work / "key").write_text("ab" * 32)
        (self.work / "key").chmod(0o600)
        if case.read_only:
            for path in (self.install, *self.install.rglob("*")):
                path.chmod(path.stat().st_mode & ~0o222)

    def environment(self) -> dict[str, str]:
        kept = {k: v for k, v in os.environ.items() if not k.startswith(("XLA_", "JAX_NUMPY", "LC_", "LANG"))}
        path = os.pathsep.join((str(SHIM), str(self.install)))
        return {**kept, "PYTHONPATH": path, "CMR_NETWORK_LOG": str(self.log), **dict(self.case.environment)}

    def run(self, *command: str, before: tuple[str, ...] = ()) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*before, *self.case.prefix, sys.executable, *command], cwd=self.work, env=self.environment(),
            capture_output=True, text=True, errors="replace", timeout=400,
        )  # fmt: skip


@pytest.fixture
def machine(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Machine]:
    case: Case = request.param
    if not can(*case.prefix):
        pytest.skip("no user namespaces here: run as root, or allow them, to try this")
    made = Machine(case, tmp_path)
    yield made
    for path in (made.install, *made.install.rglob("*")):
        path.chmod(path.stat().st_mode | 0o200)


def commands(work: Path, install: Path) -> dict[str, list[str]]:
    """Name: arguments, in the order in which they need each other."""
    source = [f"--dicom_dir={work / 'phantom' / 'dicom'}", f"--reports={work / 'phantom' / 'reports.csv'}"]
    small = ["--config.train.steps=2", "--config.train.batch_size=4", "--config.model.video.depth=1"]
    data, run, found = (f"{work / name}" for name in ("data", "run", "embeddings"))
    more = {
        "phantom": ["preprocessing.phantom", f"--out={work / 'phantom'}", "--studies=16", "--slices=3", "--phases=6",
                    "--matrix=48"],
        "run": ["preprocessing.run", *source, f"--out={data}", f"--key_file={work / 'key'}", "--label_columns=group",
                "--image_size=48", "--spacing_mm=3", "--num_workers=2", "--split_fractions=0.5,0.2,0.3"],
        "verify": ["preprocessing.verify", f"--data={data}", *source],
        "train": ["cmr_jax.bin.train", f"--config={install / 'configs' / 'demo.py'}", f"--workdir={run}",
                  f"--config.data.path={data}", *small],
        "embed": ["cmr_jax.bin.embed", f"--workdir={run}", f"--data={data}", "--split=all", f"--out={found}"],
        "eval_retrieval": ["cmr_jax.bin.eval_retrieval", f"--embeddings={found}", f"--out={work / 'retrieval'}",
                           "--bootstrap=20"],
        "eval_classification": ["cmr_jax.bin.eval_classification", f"--embeddings={found}", "--labels=group",
                                f"--out={work / 'classes'}", "--protocols=knn", "--bootstrap=20"],
    }  # fmt: skip
    if importlib.util.find_spec("libtpu"):
        more["plan"] = ["cmr_jax.bin.plan", f"--config={install / 'configs' / 'demo.py'}", "--topology=v5e:2x2",
                        f"--out={work / 'plan.json'}"]  # fmt: skip
    return more


def runs_everything(machine: Machine, names: tuple[str, ...] = ()) -> None:
    before = sorted(p for p in machine.install.rglob("*") if "__pycache__" not in p.parts)
    for name, arguments in commands(machine.work, machine.install).items():
        if names and name not in names:
            continue
        done = machine.run("-m", *arguments)
        assert done.returncode == 0, f"{name}: {done.stderr[-3000:]}"
        assert "Traceback" not in done.stderr, name
    assert not machine.log.exists(), machine.log.read_text()
    assert sorted(p for p in machine.install.rglob("*") if "__pycache__" not in p.parts) == before


@pytest.mark.parametrize("machine", [ALL_AT_ONCE], ids=["all at once"], indirect=True)
def test_every_binary_runs_with_all_of_it_missing_at_once(machine: Machine):
    said = machine.run("-c", "import os; print(os.geteuid(), os.path.expanduser('~'))")
    assert said.stdout.split()[0] != "0" and "nonexistent" in said.stdout, said.stderr
    runs_everything(machine)


@pytest.mark.parametrize("machine", [Case(NOBODY, read_only=True)], ids=["control"], indirect=True)
def test_the_conditions_are_what_they_are_called(machine: Machine):
    """The controls: an attempt to connect is seen, and the installation refuses to be written."""
    done = machine.run(
        "-c", "import socket; socket.socket(socket.AF_INET, socket.SOCK_DGRAM).connect(('192.0.2.1', 9))"
    )
    assert machine.log.read_text() == "socket.connect '192.0.2.1'\n", done.stderr
    machine.log.unlink()
    machine.run("-c", "import socket; socket.socket(socket.AF_INET, socket.SOCK_DGRAM).connect(('127.0.0.1', 9))")
    assert not machine.log.exists()
    done = machine.run("-c", f"open({str(machine.install / 'cmr_jax' / 'new')!r}, 'w')")
    assert "PermissionError" in done.stderr


@pytest.mark.slow
@pytest.mark.parametrize("machine", CASES.values(), ids=CASES.keys(), indirect=True)
def test_every_binary_runs(machine: Machine):
    runs_everything(machine)


@pytest.mark.slow
@pytest.mark.parametrize("machine", [Case()], ids=["strace"], indirect=True)
def test_nothing_below_python_connects_either(machine: Machine, tmp_path: Path):
    if not can("strace", "-f"):
        pytest.skip("no strace here")
    trace = tmp_path / "trace"
    watch = ("strace", "-f", "-qq", "-e", "trace=connect,sendto,sendmsg,sendmmsg", "-o", str(trace))
    machine.run("-c", "import socket; socket.socket(socket.AF_INET, socket.SOCK_DGRAM).connect(('192.0.2.1', 9))",
                before=watch)  # fmt: skip
    assert "192.0.2.1" in trace.read_text()  # the control: strace sees such a thing
    for name, arguments in commands(machine.work, machine.install).items():
        done = machine.run("-m", *arguments, before=watch)
        assert done.returncode == 0, f"{name}: {done.stderr[-2000:]}"
        away = [line for line in trace.read_text().splitlines() if re.search(r"sin6?_(?:family|addr|port)", line)]
        assert [line for line in away if not re.search(r'"127\.|"::1"', line)] == [], name
