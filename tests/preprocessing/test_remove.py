"""A study taken out is out of every artefact and stays out; what is left keeps its bytes."""

import pathlib
import shutil
import subprocess

import pytest

from cmr_jax.data import records, schema
from cmr_jax.errors import InputError
from preprocessing import check, removal, removed, write
from tests.preprocessing.test_run import contents, one_line, rows
from tests.preprocessing.tiny_dicom import Cohort


@pytest.fixture
def data(cohort, tmp_path) -> pathlib.Path:
    """A copy to spoil, with several shards a split."""
    if not (cohort.root / "sharded").exists():
        done = cohort.run("sharded", "--studies_per_shard=1")
        assert done.returncode == 0, done.stderr
    return pathlib.Path(shutil.copytree(cohort.root / "sharded", tmp_path / "data"))


def remove(cohort: Cohort, data: pathlib.Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return cohort.run("", f"--data={data}", *arguments, module="preprocessing.remove")


def payloads(data: pathlib.Path) -> dict[str, bytes]:
    found = {}
    for split in records.load_manifest(data)["splits"].values():
        for shard in split["shards"]:
            found |= {write.study_id(payload): payload for payload in write.payloads(data, shard["name"])}
    return found


def whole(data: pathlib.Path) -> None:
    manifest = records.load_manifest(data)
    assert check.file_problems(data, manifest) + check.record_problems(data, manifest) == []


def mentioned(data: pathlib.Path, word: str) -> list[str]:
    found = {str(p.relative_to(data)): p.read_bytes() for p in data.rglob("*") if p.is_file()}
    return [name for name, content in found.items() if word.encode() in content or word in name]


def test_a_study_goes_everywhere_the_rest_stays_and_no_run_brings_it_back(cohort, data):
    before, listed = payloads(data), rows(data / "studies.csv")
    shards_before = contents(data)
    tokenizer = (data / schema.TOKENIZER).read_bytes()
    (gone,) = (row for row in listed if row["group"] == "odd" and row["split"] == "test")
    done = remove(cohort, data, f"--study={gone['study_id']}")
    assert done.returncode == 0, done.stderr
    whole(data)
    assert mentioned(data, gone["study_id"]) == [removed.LIST]
    assert payloads(data) == {name: payload for name, payload in before.items() if name != gone["study_id"]}
    assert (data / schema.TOKENIZER).read_bytes() == tokenizer
    untouched = [name for name in shards_before if name.startswith("cmr-train")]
    assert untouched and all((data / name).read_bytes() == shards_before[name] for name in untouched)
    assert [r["study_id"] for r in rows(data / "studies.csv")] == [
        r["study_id"] for r in listed if r["study_id"] != gone["study_id"]
    ]
    counts = records.load_manifest(data)["counts"]
    assert (counts["studies"], counts["studies_removed"], counts["files_seen"]) == (5, 1, 90)
    assert "1 removed on request" in (data / "summary.md").read_text()

    cohort_data = cohort.root / "again"
    shutil.copytree(data, cohort_data)
    again = cohort.run("again", "--studies_per_shard=1")
    assert again.returncode == 0, again.stderr
    whole(cohort_data)
    assert payloads(cohort_data) == payloads(data)
    assert sum(row["reason"] == "removed on request" for row in rows(cohort_data / "files.csv")) == 18

    (cohort_data / removed.LIST).unlink()  # how to undo it
    undone = cohort.run("again", "--studies_per_shard=1")
    assert undone.returncode == 0, undone.stderr
    assert payloads(cohort_data) == before
    assert contents(cohort_data) == shards_before


def test_a_patient_goes_with_all_studies_and_a_split_that_is_left_with_fewer_shards_holds_the_rest(cohort, data):
    before = payloads(data)
    test = [row for row in rows(data / "studies.csv") if row["split"] == "train"]
    patients = ",".join(row["patient_id"] for row in test[:3])
    done = remove(cohort, data, f"--patient={patients}")
    assert done.returncode == 0, done.stderr
    whole(data)
    gone = {row["study_id"] for row in test[:3]}
    assert payloads(data) == {name: payload for name, payload in before.items() if name not in gone}
    assert len(records.load_manifest(data)["splits"]["train"]["shards"]) == 1
    assert {kind for kind, _ in removed.read(data)} == {"patient"}


def test_mistakes_are_one_line_and_change_nothing(cohort, data, tmp_path):
    before = contents(data)
    known = rows(data / "studies.csv")[0]["study_id"]
    one_line(remove(cohort, data), "--study", "--patient")
    one_line(remove(cohort, data, "--study=Quagmire"), "pseudonyms")
    one_line(remove(cohort, data, f"--study={known},0123456789abcdef"), "0123456789abcdef", "studies.csv")
    everyone = ",".join(row["study_id"] for row in rows(data / "studies.csv"))
    one_line(remove(cohort, data, f"--study={everyone}"), "every study")
    one_line(remove(cohort, tmp_path / "none", f"--study={known}"), "--data")
    assert contents(data) == before


@pytest.mark.parametrize(
    "text", ["study,0123456789abcdef\n", "kind,id\nstudy,XYZ\n", "kind,id\nperson,0123456789abcdef\n"]
)
def test_a_list_that_cannot_be_understood_is_refused(tmp_path, text):
    (tmp_path / removed.LIST).write_text(text)
    with pytest.raises(InputError, match=r"removed\.csv"):
        removed.read(tmp_path)


def test_the_list_grows_and_is_read_back(tmp_path):
    assert removed.read(tmp_path) == set()
    entries = {("study", "0123456789abcdef"), ("patient", "fedcba9876543210")}
    for entry in entries:
        removal.add(tmp_path, {entry})
    assert removed.read(tmp_path) == entries
