"""The report opens from disk, asks nothing of the network and runs nothing."""

import base64
import html.parser
import json
import os
import re
import shutil
import subprocess

import numpy as np
import pytest

from cmr_jax.evals import card, page, plots, retrieval, tables
from tests.evals.synthetic import embeddings, relabel

BROWSER = next(
    (found for name in ("chromium", "chromium-browser", "google-chrome") if (found := shutil.which(name))), None
)
SCRIPT = "<script>document.title = 'run'</script>"


@pytest.fixture(name="folder", scope="module")
def make_folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("page")
    source = relabel(embeddings(n=60), kind=[SCRIPT if row % 2 else "b|ar & <i>" for row in range(60)])
    found = retrieval.evaluate(source, labels=["kind"], draws=20)
    names = [*plots.retrieval(folder, found.ranks)]
    names.append(plots.pca_map(folder, source.image_NE, source.text_NE, source.label("kind"), "kind"))
    content = page.Page(
        title=f"Retrieval {SCRIPT}",
        about=[SCRIPT],
        flow=card.flow(source, {"scored": np.arange(45, 60)}),
        tables=[*tables.retrieval_tables(found), tables.Table(SCRIPT, ["a", "b"], [[SCRIPT, "2 < 3"]])],
        pictures=[page.Picture(name, f'a "{name}"') for name in names],
        notes=found.notes,
        checklist=card.checklist("by patient", "left out"),
        card=card.model_card(source),
        provenance=[("checkpoint step", "7")],
        command="python -m x --out=OUT",
    )
    page.write(folder, content, "retrieval")
    return folder


class _References(html.parser.HTMLParser):
    def __init__(self):
        super().__init__()
        self.found, self.tags = [], []

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.found += [value for name, value in attrs if name in ("src", "href", "srcset", "data", "action", "poster")]


def test_nothing_leaves_the_file(folder):
    text = (folder / "report.html").read_text()
    parser = _References()
    parser.feed(text)
    assert len([each for each in parser.found if each.startswith("data:image/png")]) == 3
    assert all(each.startswith(("data:", "#")) for each in parser.found)
    assert not {"script", "iframe", "object", "embed", "i"} & set(parser.tags)
    assert not re.search(r"url\(|@import|https?://", text)
    for each in parser.found:
        if each.startswith("data:image"):
            assert base64.b64decode(each.split(",", 1)[1]).startswith(b"\x89PNG")


def test_both_pages_hold_every_table_and_the_figures(folder):
    markdown, text = (folder / "retrieval.md").read_text(), (folder / "report.html").read_text()
    for part in (
        "Own partner only",
        "R@10",
        "The way of the studies",
        "Reporting checklist",
        "personal data",
        "--out=OUT",
    ):
        assert part in markdown and part in text, part
    assert "| test  | 15" in markdown and "<td>15</td>" in text


def test_the_flow_counts_add_up():
    source = embeddings(n=60)
    rows = card.flow(source, {"scored": np.arange(45, 60)}).rows
    assert [row[:2] for row in rows] == [["test", "15"], ["train", "36"], ["val", "9"]]
    assert [row[3] for row in rows] == ["15", "0", "0"]


def _open(path, scratch) -> tuple[list[str], set[str]]:
    """The console lines, and what the page asked for beside itself, of Chromium opening `path`."""
    assert BROWSER
    log, picture = scratch / "net.json", scratch / "page.png"
    command = [BROWSER, "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--enable-logging=stderr",
               f"--user-data-dir={scratch / 'profile'}", f"--log-net-log={log}", "--window-size=1200,2000",
               "--host-resolver-rules=MAP * ~NOTFOUND", f"--screenshot={picture}", f"file://{path}"]  # fmt: skip
    environment = {**os.environ, "HOME": str(scratch)}
    done = subprocess.run(command, capture_output=True, text=True, timeout=200, env=environment)
    assert done.returncode == 0 and picture.stat().st_size > 1000, done.stderr[-500:]
    text = log.read_text().rstrip().rstrip(",")
    events = [event.get("params", {}) for event in json.loads(text if text.endswith("}") else text + "]}")["events"]]
    # What the browser asks for itself (updates, dictionaries) has no origin as its initiator.
    asked = {
        each["url"] for each in events if "url" in each and each.get("initiator", "not an origin") != "not an origin"
    }
    outside = {url for url in asked if not url.startswith(("file:", "data:"))}
    return [line for line in done.stderr.splitlines() if "CONSOLE" in line], outside


@pytest.mark.skipif(BROWSER is None, reason="no Chromium here")
def test_chromium_opens_it_without_a_message_or_a_request(folder, tmp_path):
    assert _open(folder / "report.html", tmp_path) == ([], set())


@pytest.mark.skipif(BROWSER is None, reason="no Chromium here")
def test_a_page_that_asks_and_complains_is_noticed(tmp_path):
    (tmp_path / "bad.html").write_text("<img src='http://outside.invalid/x.png'><script>console.error('no')</script>")
    console, outside = _open(tmp_path / "bad.html", tmp_path)
    assert any("no" in line for line in console) and outside == {"http://outside.invalid/x.png"}
