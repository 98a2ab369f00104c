"""With the dataset at hand the report shows the failures' frames, the dataset's flow and the model's settings."""

import base64
import dataclasses
import json
import re
import subprocess
import sys

import pytest

from cmr_jax.data import glimpse
from cmr_jax.evals import export
from tests import datasets
from tests.evals.synthetic import embeddings, relabel

COUNTS = {"files_seen": 912, "files_used": 900, "studies_seen": 61, "studies_put_aside": 1, "studies": 60}


@pytest.fixture(name="place", scope="module")
def make_place(tmp_path_factory):
    place = tmp_path_factory.mktemp("with_data")
    datasets.write_dataset(place / "data", {"train": 36, "val": 9, "test": 15})
    source = embeddings(n=60, signal=0.3, noise=2.0)
    source = relabel(source, study_id=[f"s{row:04d}" for row in range(60)])
    manifest = {"data_counts": COUNTS, "config": {"model": {"embed_dim": 16, "video": {"depth": 2}}}}
    export.save(dataclasses.replace(source, manifest=manifest), place / "embeddings")
    return place


@pytest.mark.parametrize("name", ["retrieval", "classification"])
def test_the_report_shows_failures_with_frames_the_flow_and_the_settings(place, tmp_path, name):
    command = [sys.executable, "-m", f"cmr_jax.bin.eval_{name}", f"--embeddings={place / 'embeddings'}"]
    command += [f"--data={place / 'data'}", f"--out={tmp_path / 'out'}", "--labels=group", "--bootstrap=10"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    page = (tmp_path / "out" / "report.html").read_text()
    picture = base64.b64encode((tmp_path / "out" / "failures.png").read_bytes()).decode()
    assert picture in page
    assert "912" in page and "files seen" in page and "studies in the dataset" in page
    assert re.search(r"model\.video\.depth</td><td>2<", page)
    section = page[page.index('id="failures"') : page.index('id="flow"')]
    named = set(re.findall(r"<td>(s\d{4})</td>", section))
    assert named and named <= {f"s{row:04d}" for row in range(45, 60)}
    if name == "retrieval":
        found = json.loads((tmp_path / "out" / "retrieval.json").read_text())
        worst = [float(each) for each in re.findall(r"<td>(\d+\.\d)</td></tr>", section)]
        assert worst == sorted(worst, reverse=True) and worst[0] >= found["duplicate_aware/image_to_text/MedR"]


def test_a_glimpse_is_a_middle_frame_of_each_series(place):
    seen = glimpse.glimpses(place / "data", ["s0050", "nobody"])
    assert list(seen) == ["s0050"]
    for view, frame in seen["s0050"]:
        assert view and frame.ndim == 2 and frame.dtype == "uint8"
