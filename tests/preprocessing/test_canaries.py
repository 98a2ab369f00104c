"""Secrets planted in 42 places of a source are in no artefact: the fault table's row 8 (docs/privacy.md)."""

import base64
import csv
import gzip
import io
import os
import pathlib
import re
import shutil
import subprocess
import sys
import zlib

import numpy as np
import pytest
import zstandard

from cmr_jax.errors import InputError
from preprocessing import canary, haystack, phases, splits, summary
from preprocessing.parallel import Workers
from tests.preprocessing import planted
from tests.preprocessing.tiny_dicom import PROJECT

SHARES = "--split_fractions=0.5,0.25,0.25"
HOOK = """
def some(text):
    if "case 2." in text:
        raise ValueError(f"cannot take {text}")
    return text

def none(text):
    return len(text)
"""


class Site:
    """A source with planted secrets, and everything that commands on it say and write."""

    def __init__(self, root: pathlib.Path, patients: int):
        self.source = planted.write_source(root / "Sourcefolderstone", patients)
        self.said = root / "said"
        self.said.mkdir()
        (self.source / "planted_hook.py").write_text(HOOK)

    def run(self, name: str, module: str, *arguments: str, code: int | None = 0) -> str:
        """Runs a command; keeps what it says as an artefact."""
        environment = {k: v for k, v in os.environ.items() if not k.startswith(("XLA_", "JAX_NUMPY"))}
        environment["PYTHONPATH"] = os.pathsep.join((str(PROJECT), str(self.source)))
        done = subprocess.run(
            [sys.executable, "-m", module, *arguments], cwd=PROJECT, env=environment, capture_output=True, text=True,
            timeout=500,
        )  # fmt: skip
        (self.said / f"{name}.stdout").write_text(done.stdout)
        (self.said / f"{name}.stderr").write_text(done.stderr)
        assert code is None or done.returncode == code, done.stderr[-3000:]
        return done.stderr

    def preprocess(self, name: str, *more: str, table: str = "reports.csv", code: int | None = 0) -> pathlib.Path:
        out = self.said.parent / name
        self.run(
            name, "preprocessing.run", f"--dicom_dir={self.source / 'dicom'}", f"--reports={self.source / table}",
            f"--out={out}", f"--key_file={self.source / 'key'}", f"--view_table={self.source / 'views.csv'}",
            "--label_columns=group", "--image_size=48", "--spacing_mm=3", "--num_workers=2", SHARES, *more, code=code,
        )  # fmt: skip
        return out

    def verify(self, data: pathlib.Path, *more: str, code: int) -> str:
        source = (f"--dicom_dir={self.source / 'dicom'}", f"--reports={self.source / 'reports.csv'}")
        return self.run(
            "verify", "preprocessing.verify", f"--data={data}", "--num_workers=0", *source, *more, code=code
        )


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Site:
    made = Site(tmp_path_factory.mktemp("site"), 6)
    made.preprocess("data")
    return made


@pytest.fixture
def data(site: Site, tmp_path: pathlib.Path) -> pathlib.Path:
    """A copy to spoil."""
    return pathlib.Path(shutil.copytree(site.said.parent / "data", tmp_path / "data"))


def test_every_secret_is_where_it_is_said_to_be(site: Site):
    assert len(planted.PLACES) >= 30
    source = planted.contents(site.source)
    assert {place for place, _, _ in planted.leaks(source)} == set(planted.PLACES)
    for place, secrets in planted.PLACES.items():
        for secret in secrets:
            assert planted.leaks({"x": secret.encode()}), (place, secret)


def png(text: bytes, *, pixels: bool) -> bytes:
    def chunk(kind: bytes, body: bytes) -> bytes:
        return len(body).to_bytes(4, "big") + kind + body + zlib.crc32(kind + body).to_bytes(4, "big")

    compressed, blank = (zlib.compress(FILLER + t) for t in (text, b""))
    words = chunk(b"zTXt", b"k\0\0" + (blank if pixels else compressed))
    return b"\x89PNG\r\n\x1a\n" + words + chunk(b"IDAT", compressed if pixels else blank)


def npz(text: bytes) -> bytes:
    file = io.BytesIO()
    np.savez_compressed(file, words=np.frombuffer(FILLER + text, np.uint8))
    return file.getvalue()


# So much of every letter that compression leaves none as it was.
FILLER = b"".join(b"%d quick brown foxes jump over the lazy dogs; " % (n * n) for n in range(200))
COMPRESSED = {
    "gzip": lambda t: gzip.compress(FILLER + t),
    "zip": npz,
    "PNG, text": lambda t: png(t, pixels=False),
    "PNG, picture": lambda t: png(t, pixels=True),
    "Zstandard in a file": lambda t: b"head" + zstandard.compress(FILLER + t) + b"tail",
}
WRAPPINGS = {
    "plain": lambda t: b"-- " + t + b" --",
    "upper": lambda t: t.upper(),
    "UTF-16 LE": lambda t: t.decode().encode("utf-16-le"),
    "UTF-16 BE": lambda t: b"\1" + t.decode().encode("utf-16-be"),
    "base64, first alignment": lambda t: b'"' + base64.b64encode(t + b"..") + b'"',
    "base64, second alignment": lambda t: base64.b64encode(b"." + t),
    "base64, third alignment": lambda t: base64.b64encode(b"##" + t),
    "base64 behind one letter": lambda t: b"x" + base64.b64encode(t),
    "base64 behind two letters": lambda t: b"xy" + base64.b64encode(t),
    "base64 behind three letters": lambda t: b"xyz" + base64.b64encode(t),
    "base64 of UTF-16": lambda t: base64.b64encode(t.decode().encode("utf-16-le")),
    **COMPRESSED,
}


@pytest.mark.parametrize("wrapping", WRAPPINGS)
def test_both_finders_see_through_every_wrapping(wrapping: str, tmp_path: pathlib.Path):
    """The tests' own finder and the one of `verify`: neither may be blind."""
    blob = WRAPPINGS[wrapping](b"Quillfeather")
    assert wrapping not in COMPRESSED or b"Quillfeather" not in blob
    assert planted.leaks({"x": blob})
    (tmp_path / "artefact").write_bytes(blob)
    trie = canary.automaton(canary.needles([("PatientName", planted.NAME)]))
    found = [
        kind
        for piece, numbers in haystack.pieces(tmp_path / "artefact")
        for kind, _ in canary.hits(trie, piece, numbers)
    ]
    assert set(found) == {"PatientName"}


def test_no_secret_is_in_any_artefact_of_preprocessing(site: Site):
    site.run("dry", "preprocessing.run", "--dry_run", f"--dicom_dir={site.source / 'dicom'}",
             f"--reports={site.source / 'reports.csv'}", "--num_workers=0")  # fmt: skip
    artefacts = planted.contents(site.said) | planted.contents(site.said.parent / "data")
    assert len([name for name in artefacts if "tfrecord" in name]) >= 2 and any(n.endswith(".png") for n in artefacts)
    assert planted.leaks(artefacts) == []
    assert not [name for name, blob in artefacts.items() if b"Sourcefolderstone" in blob]


def test_the_officers_scan_finds_nothing_in_what_was_made(site: Site):
    assert site.verify(site.said.parent / "data", code=0) == ""
    said = (site.said / "verify.stdout").read_text()
    assert "canaries: " in said and ": 0 findings" in said


def test_words_that_we_write_of_everybody_are_no_evidence(site: Site):
    """Real headers hold a person named "text" and a private value "acquisition"; every dataset holds both words."""
    data = site.said.parent / "data"
    said = [(data / name).read_text() for name in ("features.json", "dataset_info.json", "summary.md")]
    said += re.findall(r'"([^"]*)":', (data / "manifest.json").read_text())  # the keys
    ours = ("status", "reason", "view_rule", "phase_key", "used", "state", "severity", "section", "split")
    for path in data.glob("*.csv"):
        with path.open(newline="") as file:
            rows = list(csv.DictReader(file))
        said += [*rows[0], *(row[name] or "" for row in rows for name in ours if name in row)]
    said += [phases.REPEAT, splits.NO_DATE, splits.NO_SITE, *summary.STUDY_LOSSES.values()]
    words = set(re.findall(r"(?<![\w.])[a-z]+(?![\w.])", " ".join(said).lower().replace("_", " ")))
    words -= {"even", "odd"}  # values of the planted table's label
    assert {"text", "acquisition"} <= words and len(words) > 150
    assert sorted(canary.needles(("PersonName", word) for word in words).kinds) == []


def add_text(data: pathlib.Path) -> None:
    with (data / "qc" / "notes.txt").open("wb") as file:
        file.write("seen by zebulon oudekerk-brandt".encode("utf-16-le"))


def add_name(data: pathlib.Path) -> None:
    (data / "qc" / "MRQ77441102.txt").write_text("seen by Vanterpool")  # the finding inside must not quote the name


def add_link(data: pathlib.Path) -> None:
    (data / "qc" / "link").symlink_to("/archive/Quillfeather")


def add_date(data: pathlib.Path) -> None:
    (data / "qc" / "about.html").write_text(f"<img src='data:{base64.b64encode(b'born 1947-11-03').decode()}'>")


def add_uid(data: pathlib.Path) -> None:
    (data / "qc" / "about.json").write_text('{"series": "1.2.840.113619.78.515151.3"}')


@pytest.fixture(scope="module")
def needles(site: Site) -> canary.Needles:
    with Workers(0) as workers:
        return canary.collect(site.source / "dicom", site.source / "reports.csv", ["group"], workers)


@pytest.mark.parametrize(
    ("spoil", "kind"),
    [
        (add_text, "PatientName"),
        (add_name, "PatientID"),
        (add_link, "PatientName"),
        (add_date, "PatientBirthDate"),
        (add_uid, "SeriesInstanceUID"),
    ],
)
def test_the_officers_scan_names_artefact_and_kind_and_never_the_string(needles, data, spoil, kind: str):
    spoil(data)
    with Workers(0) as workers:
        found, _ = canary.findings(needles, data, (), workers)
    said = "\n".join(found)
    assert f"holds a value of {kind}" in said or (kind == "PatientID" and "name of a file: holds a value of" in said)
    assert "qc" in said or "name of a file" in said
    assert planted.leaks({"stderr": said.encode()}) == []


def test_a_finding_ends_in_exit_1_and_other_folders_are_searched_too(site: Site, tmp_path: pathlib.Path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "config.json").write_text('{"note": "for Dr Vanterpool"}')
    said = site.verify(site.said.parent / "data", f"--also={tmp_path / 'run'}", code=1)
    assert "--also 1: config.json: holds a value of ReferringPhysicianName" in said
    assert planted.leaks({"stderr": said.encode()}) == []


@pytest.mark.parametrize(
    ("kind", "text", "why"),
    [
        ("PatientName", "Li^Wu", "too short"),
        ("PatientName", "White^Ross", "common"),
        ("SeriesDescription", "cine trufi sa", "common"),
        ("PatientID", "12345", "too short"),
        ("InstitutionName", "TOSHIBA", "common"),
        ("PatientBirthDate", "00000000", "common"),
        ("path", "IM-0001", "common"),
        ("SOPClassUID", "1.2.840.10008.5.1.4.1.1.4", None),
    ],
)
def test_what_is_no_evidence_is_counted_and_not_searched(kind: str, text: str, why: str | None):
    found = canary.needles([(kind, text)])
    assert found.kinds == {} and found.strings == 0
    assert set(found.left_out) == ({why} if why else set())


def test_numbers_meet_identifiers_by_chance_alone(tmp_path: pathlib.Path):
    (tmp_path / "a.index").write_text('{"records": [[774411, 20170219]], "note": "fine"}')
    (tmp_path / "b.csv").write_text("sha,5a774411ff20170219ee\n")
    trie = canary.automaton(canary.needles([("PatientID", "774411"), ("StudyDate", "20170219")]))

    def found(name: str) -> list[str]:
        return [k for piece, n in haystack.pieces(tmp_path / name) for k, _ in canary.hits(trie, piece, n)]

    assert found("a.index") == found("b.csv") == []
    (tmp_path / "c.json").write_text('{"patient": "774411"}')
    assert found("c.json") == ["PatientID"]


def test_an_empty_source_is_refused(tmp_path: pathlib.Path):
    with Workers(0) as workers, pytest.raises(InputError, match="holds no file"):
        canary.collect(tmp_path, None, (), workers)


def test_a_hook_that_fails_puts_its_study_aside_and_says_nothing(site: Site):
    """One that raises on one study, with the text in its message; `test_scrub` has the other ways to fail."""
    out = site.preprocess("hook", "--scrubber=planted_hook:some")
    assert (out / "files.csv").read_text().count("study could not be processed (HookFailed)") >= 9
    assert (out / "studies.csv").read_text().count("\n") == 1 + 5
    assert planted.leaks(planted.contents(site.said) | planted.contents(out)) == []


def test_a_hook_that_gives_no_text_ends_in_one_line(site: Site):
    said = site.preprocess("no_text", "--scrubber=planted_hook:none", code=2)
    assert not (said / "manifest.json").exists()
    error = (site.said / "no_text.stderr").read_text()
    assert error.startswith("error: no study could be used") and planted.leaks({"stderr": error.encode()}) == []


@pytest.mark.slow
def test_no_secret_is_in_any_artefact_of_the_whole_way(tmp_path: pathlib.Path):
    """Row 8 in full: reports as CSV and as JSON lines, then training, embedding and both evaluations."""
    site = Site(tmp_path, 24)
    data = site.preprocess("data")
    site.preprocess("json", table="reports.jsonl")
    run, found = tmp_path / "run", tmp_path / "embeddings"
    site.run("train", "cmr_jax.bin.train", "--config=configs/demo.py", f"--workdir={run}",
             f"--config.data.path={data}", "--config.train.steps=3", "--config.train.batch_size=4")  # fmt: skip
    site.run("embed", "cmr_jax.bin.embed", f"--workdir={run}", f"--data={data}", "--split=all", f"--out={found}")
    site.run("retrieval", "cmr_jax.bin.eval_retrieval", f"--embeddings={found}", f"--out={tmp_path / 'retrieval'}",
             "--labels=group", "--bootstrap=20")  # fmt: skip
    site.run("classes", "cmr_jax.bin.eval_classification", f"--embeddings={found}", f"--workdir={run}",
             f"--out={tmp_path / 'classes'}", "--labels=group", "--protocols=linear,knn", "--bootstrap=20")  # fmt: skip
    artefacts = {k: v for k, v in planted.contents(tmp_path).items() if not k.startswith("Sourcefolderstone")}
    kinds = {pathlib.Path(name).suffix for name in artefacts}
    assert {".png", ".json", ".jsonl", ".csv", ".md", ".npy", ".model", ".stderr"} <= kinds
    assert any("events" in name for name in artefacts) and any("checkpoints" in name for name in artefacts)
    assert planted.leaks(artefacts) == []
    also = ",".join(str(tmp_path / name) for name in ("run", "embeddings", "retrieval", "classes", "said", "json"))
    said = site.verify(data, f"--also={also}", code=0).splitlines()
    assert [line for line in said if not line.startswith("searching artefacts: ")] == []  # progress, where it is slow
