"""How the bench runs another's preprocessing, with a stand-in that keeps its shape: nothing of that code is here."""

import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest

from bench import __main__ as bench
from bench import cmr_toolkit, preprocess
from tests.preprocessing.tiny_dicom import mr_dataset, save

# Reads study/series/file out of each archive as the real one does; "unreadable" as a series makes it fail as it fails.
_STAND_IN = """
    import glob, os, tarfile
    import h5py
    import numpy as np
    from local_config import get_cfg
    from gcputils import wait_if_disk_full

    TMP_DIR = get_cfg().tmp_dir

    class CMRI_PreProcessor:
        def __init__(self, root_dir, output_dir, framesize, institution_prefix, channels, compression):
            self.root, self.out, self.size = root_dir, output_dir, framesize
            assert channels == "grey" and compression in ("gzip", "lzf")

        def process_dicoms(self, filename, queue=None):
            print("a line that is no answer")
            unpacked = os.path.join(TMP_DIR, filename[:-4])
            tarfile.open(os.path.join(self.root, filename)).extractall(unpacked, filter="data")
            for series in glob.glob(os.path.join(unpacked, "*", "*")):
                if series.endswith("unreadable"):
                    continue
                os.makedirs(os.path.join(self.out, "patient"), exist_ok=True)
                path = os.path.join(self.out, "patient", "study.h5")
                with h5py.File(path, "a") as file:
                    file.create_dataset(series[-8:], data=np.zeros((len(os.listdir(series)), self.size)))
            return path
"""


def _toolkit(folder: Path) -> Path:
    (folder / "utils").mkdir(parents=True)
    (folder / "utils" / "preprocess_mri.py").write_text(textwrap.dedent(_STAND_IN))
    assert not cmr_toolkit.is_in(folder)
    cmr_toolkit.python(folder).parent.mkdir(parents=True)
    cmr_toolkit.python(folder).symlink_to(sys.executable)
    return folder


def _files(folder: Path, description: str, count: int) -> None:
    folder.mkdir()
    for number in range(count):
        save(mr_dataset(np.eye(8, dtype=np.uint16), SeriesDescription=description), folder / f"{number}.dcm")


@pytest.fixture
def toolkit(tmp_path, monkeypatch):
    # A link to the interpreter of a venv finds the venv's packages only by its place.
    monkeypatch.setenv("PYTHONPATH", str(Path(np.__file__).parents[1]))
    assert cmr_toolkit.is_in(_toolkit(tmp_path / "toolkit"))
    (tmp_path / "scratch").mkdir()
    one = cmr_toolkit.Toolkit(tmp_path / "toolkit", tmp_path / "scratch")
    yield one
    one.close()


def test_another_s_code_runs_from_archives_and_its_frames_are_counted(tmp_path, toolkit):
    _files(tmp_path / "a", "", 3)
    ways, said = preprocess.toolkit_ways(toolkit, tmp_path / "a")
    assert list(ways) == list(cmr_toolkit.OPTIONS)
    assert said.startswith("cmr_toolkit read 3 of 3 frames; ")
    seconds, studies = ways["cmr_toolkit"](tmp_path / "a", tmp_path)
    assert seconds > 0 and studies == 1


def test_what_it_cannot_read_is_said_and_not_timed(tmp_path, toolkit):
    _files(tmp_path / "a", "unreadable", 2)
    ways, said = preprocess.toolkit_ways(toolkit, tmp_path / "a")
    assert not ways
    assert said.startswith("cmr_toolkit read 0 of 2 frames (UnboundLocalError")


def test_the_page_names_the_lean_way_only_where_the_code_was_not_there():
    lean = {"raw": {"ours_to_hdf5": [1.0, 2.0, 3.0]}, "memory": {"first_third_mb": 1.0}}
    said = bench.page({"preprocess": lean}, {"preprocess": ""})
    assert "its code was not there; a lean HDF5 way written for the bench: raw 2.00 (1.00 to 3.00)" in said
    lean["raw"] |= {"ours_to_cmr_toolkit": [5.0, 6.0, 7.0], "ours_to_cmr_toolkit at 128 px": [2.0, 3.0, 4.0]}
    said = bench.page({"preprocess": lean}, {"preprocess": ""})
    assert "| raw 6.00 (5.00 to 7.00). Asked for the model's 128 pixels alone: raw 3.00 (2.00 to 4.00) |" in said
