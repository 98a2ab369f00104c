"""A full disk in preprocessing, in a checkpoint and in the export of embeddings: said in one line, nothing half
published, and what stood before is whole (faults.md row 14).

The disk is a small file system in memory where the test may mount one, else a limit on the size of a file.
"""

import os
import pathlib
import shutil
import subprocess
import sys
from collections.abc import Iterator

import numpy as np
import pytest

from tests.preprocessing.test_run import contents
from tests.preprocessing.tiny_dicom import PROJECT, Cohort

LIMITED = "import resource, signal; signal.signal(signal.SIGXFSZ, signal.SIG_IGN);"


class Disk:
    """A folder with little room, and a shell to run code on it."""

    def __init__(self, folder: pathlib.Path, kilobytes: int):
        self.folder, self._kilobytes = folder, kilobytes
        folder.mkdir()
        command = ["mount", "-t", "tmpfs", "-o", f"size={kilobytes}k", "tmpfs", str(folder)]
        mount = shutil.which("mount")
        self.mounted = bool(mount) and subprocess.run(command, capture_output=True).returncode == 0

    def run(self, code: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        """`code` in a Python of its own, with the disk as `sys.argv[1]`."""
        if not self.mounted:
            limit = self._kilobytes * 1024 // 3
            code = f"{LIMITED}resource.setrlimit(resource.RLIMIT_FSIZE, ({limit}, {limit}))\n{code}"
        command = [sys.executable, "-c", code, str(self.folder), *arguments]
        environment = {**os.environ, "JAX_PLATFORMS": "cpu"}
        return subprocess.run(command, cwd=PROJECT, env=environment, capture_output=True, text=True, timeout=300)

    def leave(self) -> None:
        if self.mounted:
            subprocess.run(["umount", str(self.folder)], check=True)


@pytest.fixture
def disk(tmp_path, request) -> Iterator[Disk]:
    made = Disk(tmp_path / "disk", request.param)
    yield made
    made.leave()


def one_line(done: subprocess.CompletedProcess[str], *words: str) -> None:
    lines = [line for line in done.stderr.splitlines() if line.strip()]
    assert done.returncode == 2 and len(lines) == 1 and lines[0].startswith("error: "), done.stderr
    assert all(word in lines[0] for word in words), lines[0]
    assert "No space left" in lines[0] or "File too large" in lines[0]


PREPROCESS = """
import runpy, sys
sys.argv[:2] = ["x"]
runpy.run_module("preprocessing.run", run_name="__main__")
"""


@pytest.mark.slow  # tests/preprocessing/test_run.py has a short one
@pytest.mark.parametrize("disk", [900], indirect=True)
def test_preprocessing(disk, tmp_path):
    """A dataset of small frames fits; larger ones do not, neither as work nor beside the old dataset."""
    cohort = Cohort(tmp_path)
    cohort.key.write_text("0123456789abcdef0123456789abcdef")
    cohort.key.chmod(0o600)
    arguments = cohort.command(f"{disk.folder.name}/out")[3:]
    done = disk.run(PREPROCESS, *arguments)
    assert done.returncode == 0, done.stderr
    before = contents(disk.folder / "out")
    for size in (64, 160):  # the first fails when publishing, the second in the work before it
        one_line(disk.run(PREPROCESS, *arguments, f"--image_size={size}"), "--out cannot be written")
        assert contents(disk.folder / "out") == before
        assert not (disk.folder / "out" / ".staging").exists()
    done = disk.run(PREPROCESS, *arguments)
    assert done.returncode == 0 and done.stdout.startswith("nothing changed"), done.stderr


CHECKPOINT = """
import sys
import jax, jax.numpy as jnp
from cmr_jax import cli
from cmr_jax.errors import InputError
from cmr_jax.structs import TrainState
from cmr_jax.train.checkpoint import Checkpoints

def state(step, count):
    params = {"w": jax.random.normal(jax.random.key(step), (count,))}
    return TrainState(step=jnp.int32(step), params=params, opt_state={"m": jnp.zeros(3)}, usual_loss=jnp.zeros(2))

def main():
    checkpoints = Checkpoints(sys.argv[1] + "/checkpoints")
    step = int(sys.argv[2])
    if step == 1:
        checkpoints.save(state(1, 20_000))
    elif step == 2:
        checkpoints.save(state(2, 400_000))
    print(checkpoints.steps(), checkpoints.newest_whole())
    found = checkpoints.restore(1, state(1, 20_000))
    assert (found.params["w"] == state(1, 20_000).params["w"]).all()

try:
    main()
except InputError as error:
    cli.fail(str(error))
"""


@pytest.mark.slow
@pytest.mark.parametrize("disk", [600], indirect=True)
def test_checkpoint(disk):
    done = disk.run(CHECKPOINT, "1")
    assert done.returncode == 0 and done.stdout == "[1] 1\n", done.stderr
    before = contents(disk.folder)
    one_line(disk.run(CHECKPOINT, "2"), "checkpoint", "stands")
    assert contents(disk.folder) == before
    done = disk.run(CHECKPOINT, "0")
    assert done.returncode == 0 and done.stdout == "[1] 1\n", done.stderr


EXPORT = """
import sys
import numpy as np
from cmr_jax import cli
from cmr_jax.errors import InputError
from cmr_jax.evals import export

def main():
    count = int(sys.argv[2])
    rows = np.eye(count, 64, dtype=np.float32) + 1
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    ids = {name: [str(n) for n in range(count)] for name in export.COLUMNS}
    export.save(export.Embeddings(rows, rows, ids, {}), sys.argv[1] + "/embeddings")

try:
    main()
except InputError as error:
    cli.fail(str(error))
"""


@pytest.mark.parametrize("disk", [300], indirect=True)
def test_export(disk):
    assert disk.run(EXPORT, "20").returncode == 0
    before = contents(disk.folder)
    one_line(disk.run(EXPORT, "2000"), "embeddings cannot be written", "stands")
    assert contents(disk.folder) == before
    assert np.load(disk.folder / "embeddings" / "image.npy").shape == (20, 64)
