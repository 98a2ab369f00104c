"""cmr_toolkit's own preprocessing, as it comes: run by a Python that has its packages, which the project's own has not.

    python bench/cmr_toolkit_peer.py --folder CMR_TOOLKIT

`CMR_TOOLKIT/utils/preprocess_mri.py` is imported once and not changed; its clock runs from a study's archive to its
HDF5 file. What it only uploads, notifies and configures itself with is stood in for, so that none of that need be
installed or set up. Nothing of the project is imported here.
"""

import argparse
import contextlib
import importlib
import io
import json
import sys
import time
import types
from pathlib import Path
from typing import Any
from unittest import mock


def stand_in(folder: Path) -> None:
    """Lets `preprocess_mri` be imported without its configuration file, uploads and notices."""
    config = types.SimpleNamespace(tmp_dir=str(folder), bucket_name="")
    sys.modules["local_config"] = mock.MagicMock(get_cfg=lambda: config, get_global_cfg=lambda: config)
    for name in ("bcolors", "gcputils", "slack_bolt", "slack_bolt.adapter.socket_mode", "dotenv", "google.cloud"):
        sys.modules[name] = mock.MagicMock()


def frames_of(folder: Path) -> int:
    """Frames of all data sets in all files."""
    import h5py

    total = 0
    for path in folder.glob("*/*.h5"):
        with h5py.File(path) as file:
            total += sum(len(file[name]) for name in file)  # pyright: ignore[reportArgumentType]
    return total


def run(toolkit: Any, asked: dict[str, Any]) -> dict[str, Any]:
    """All archives of a folder with one process; CPU-seconds, studies, and how many frames came through."""
    toolkit.TMP_DIR = asked["scratch"]
    options = (asked["frame_size"], "bench", "grey", asked["compression"])
    preprocessor = toolkit.CMRI_PreProcessor(asked["archives"], asked["out"], *options)
    failed, names = "", sorted(path.name for path in Path(asked["archives"]).glob("*.tgz"))
    before = time.process_time()
    with contextlib.redirect_stdout(io.StringIO()) as said:
        for name in names:
            try:
                preprocessor.process_dicoms(name)
            except Exception as error:  # a study of which it read nothing ends so; the frames tell
                failed = f"{type(error).__name__}: {error}"
    spent = time.process_time() - before
    frames = frames_of(Path(asked["out"]))
    return {"cpu_s": spent, "studies": len(names), "frames": frames, "failed": failed, "said": said.getvalue()[-500:]}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, required=True)
    folder = parser.parse_args().folder
    stand_in(folder)
    sys.path.insert(0, str(folder / "utils"))
    toolkit = importlib.import_module("preprocess_mri")
    for line in sys.stdin:
        print(json.dumps(run(toolkit, json.loads(line))), flush=True)


if __name__ == "__main__":
    main()
