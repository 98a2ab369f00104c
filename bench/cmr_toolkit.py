"""The bench's side of cmr_toolkit: archives of studies as it wants them, and a process that works through them.

Its code is not the project's and is not part of it. Whoever has it in a folder gives that a `.venv` of its packages:

    python3.12 -m venv FOLDER/.venv
    FOLDER/.venv/bin/pip install torch torchvision pydicom python-gdcm pylibjpeg pylibjpeg-libjpeg \
        pylibjpeg-openjpeg h5py pandas matplotlib natsort
"""

import json
import os
import shutil
import subprocess
import tarfile
import tempfile
from collections import defaultdict
from pathlib import Path
from typing import Any

import pydicom

from preprocessing import scan

# What it is asked for beside `--channels grey`: its own defaults, 480 pixels cut to 360 and deflated; and the least
# that still leaves the model's 128 pixels, 171 cut to 128 and the faster of its compressions.
OPTIONS: dict[str, dict[str, Any]] = {
    "cmr_toolkit": {"frame_size": 480, "compression": "gzip"},
    "cmr_toolkit at 128 px": {"frame_size": 171, "compression": "lzf"},
}


def python(folder: Path) -> Path:
    return folder / ".venv" / "bin" / "python"


def is_in(folder: Path) -> bool:
    return (folder / "utils" / "preprocess_mri.py").is_file() and python(folder).exists()


def archive(folder: Path, files: list[str], out: Path) -> None:
    """One `.tgz` a study in `out`, study/series/file within. Series go by their description there, and a data set is
    named by it: a file that has none gets one."""
    tree = Path(tempfile.mkdtemp(dir=out.parent))
    with scan.quiet_pydicom():
        for number, path in enumerate(files):
            data = pydicom.dcmread(folder / path)
            data.SeriesDescription = data.get("SeriesDescription") or "unnamed"
            series = (
                tree / data.StudyInstanceUID / f"{data.SeriesInstanceUID} {data.SeriesDescription}".replace("/", " ")
            )
            series.mkdir(parents=True, exist_ok=True)
            data.save_as(series / f"{number:05d}.dcm")
    for study in tree.iterdir():
        with tarfile.open(out / f"{study.name}.tgz", "w:gz") as tar:
            tar.add(study, arcname=study.name)
    shutil.rmtree(tree)


class Toolkit:
    """Its process, with one thread, started and imported once."""

    def __init__(self, folder: Path, scratch: Path):
        self._scratch = scratch
        self._archives: dict[Path, Path] = defaultdict(lambda: Path(tempfile.mkdtemp(dir=scratch)))
        command = [str(python(folder)), str(Path(__file__).with_name("cmr_toolkit_peer.py")), "--folder", str(folder)]
        env = os.environ | {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=env)

    def prepare(self, folder: Path, files: list[str]) -> None:
        """Archives of these files, whose making is in no measurement."""
        archive(folder, files, self._archives[folder])

    def run(self, way: str, folder: Path) -> dict[str, Any]:
        """Once through the archives of `folder` by the options of `way`; see `cmr_toolkit_peer.run`."""
        assert self._process.stdin is not None and self._process.stdout is not None
        out, scratch = (tempfile.mkdtemp(dir=self._scratch) for _ in range(2))
        asked = {"archives": str(self._archives[folder]), "out": out, "scratch": scratch} | OPTIONS[way]
        self._process.stdin.write(json.dumps(asked) + "\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        if not line:
            raise SystemExit("bench.cmr_toolkit: its process ended")
        for used in (out, scratch):
            shutil.rmtree(used)
        return json.loads(line)

    def close(self) -> None:
        self._process.communicate()
