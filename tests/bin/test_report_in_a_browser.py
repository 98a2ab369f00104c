"""The report opened from disk by headless Chromium: nothing on its console, nothing asked of the network."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from cmr_jax.evals import export
from tests.evals.synthetic import embeddings

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
QUIET = (
    "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync", "--disable-quic", "--disable-default-apps",
)  # fmt: skip

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium")


def _open(page: Path, place: Path) -> tuple[str, list[str]]:
    """What the console says and which URLs are asked for that are no files."""
    log, net = place / "log.txt", place / "net.json"
    command = [str(CHROMIUM), *QUIET, f"--user-data-dir={place / 'profile'}", f"--log-net-log={net}"]
    command += ["--enable-logging=stderr", f"--screenshot={place / 'page.png'}", "--window-size=1000,4000"]
    with log.open("w") as stderr:
        subprocess.run([*command, page.as_uri()], stderr=stderr, stdout=stderr, timeout=120, check=True)
    console = "\n".join(line for line in log.read_text().splitlines() if "CONSOLE" in line)
    events = [event.get("params", {}) for event in json.loads(net.read_text())["events"]]
    # What the browser asks for itself has no page as its origin.
    asked = [event["url"] for event in events if event.get("initiator", "not an origin") != "not an origin"]
    return console, [url for url in asked if not url.startswith(("file:", "data:"))]


@pytest.mark.parametrize("name", ["retrieval", "classification"])
def test_a_report_asks_nothing_and_complains_of_nothing(tmp_path: Path, name: str):
    export.save(embeddings(n=60, signal=0.5, noise=1.0), tmp_path / "embeddings")
    command = [sys.executable, "-m", f"cmr_jax.bin.eval_{name}", f"--embeddings={tmp_path / 'embeddings'}"]
    subprocess.run([*command, f"--out={tmp_path / 'out'}", "--labels=group", "--bootstrap=10"], check=True)
    assert _open(tmp_path / "out" / "report.html", tmp_path) == ("", [])
    assert (tmp_path / "page.png").stat().st_size > 10_000


def test_a_page_that_asks_and_complains_is_seen(tmp_path: Path):
    page = tmp_path / "bad.html"
    page.write_text("<img src='http://127.0.0.1:9/x.png'><script>console.error('oh')</script>")
    console, asked = _open(page, tmp_path)
    assert "oh" in console and "http://127.0.0.1:9/x.png" in asked
