"""Nothing of one person on two sides of a split (faults.md row 17)."""

import json
import pathlib
import shutil

import numpy as np
import pytest

from cmr_jax.data import records, schema
from preprocessing import audit, check, write
from tests.preprocessing.test_run import contents, examples, one_line
from tests.preprocessing.tiny_dicom import write_cine, write_reports

LONG = (
    "FINDINGS: End-diastolic volume 143 ml, end-systolic volume 61 ml, ejection fraction 57 %, mass 112 g, T1 1021 ms,"
    " ECV 27.4 %, right ventricular ejection fraction 55 %.\nIMPRESSION: Normal."
)


def example(study: str, patient: str, **fields) -> dict:
    seed = int.from_bytes(study.encode(), "big")
    findings = fields.pop("findings", "Normal left ventricle.")
    frames = np.random.default_rng(seed).integers(0, 255, (4, 8, 8)).astype(np.uint8)
    made = {
        "study_id": study,
        "patient_id": patient,
        "sex": "F",
        "age": "60",
        "frames": frames,
        "series/slices": np.array([1, 1]),
        "series/phases": np.array([3, 1]),
        "report_hash": f"hash of {findings}",
        "section/findings": findings,
        "section/impression": "",
    }
    return made | fields


def findings(*added: tuple[str, dict]) -> list[str]:
    one = audit.Audit()
    for split, record in added:
        one.add(split, record)
    return one.findings


def test_different_people_are_apart_and_one_persons_studies_on_one_side():
    assert findings(("train", example("a", "p")), ("train", example("b", "p")), ("test", example("c", "q"))) == []


def test_the_same_patient_is_found():
    (found,) = findings(("train", example("a", "p")), ("test", example("b", "p")))
    assert found == "the same patient of study b (patient p, test) and of study a (patient p, train)"


def test_a_report_that_one_patient_alone_can_have_is_found():
    one = example("a", "p", findings=LONG)
    assert findings(("train", one), ("train", example("b", "q", findings=LONG))) == []
    (found,) = findings(("train", one), ("val", example("b", "q", findings=LONG)))
    assert found.startswith("the same report of study b")
    many_words = "no hedging word is repeated but many others are " * 20
    assert findings(("train", example("a", "p", findings=many_words)), ("val", example("b", "q", findings=many_words)))


def test_a_phrase_that_many_reports_share_is_not_taken_for_one_patients():
    normal = "Normal size and function of both ventricles. LVEF 60 %. No late gadolinium enhancement."
    assert findings(("train", example("a", "p", findings=normal)), ("test", example("b", "q", findings=normal))) == []
    man = example("b", "q", findings=LONG, sex="M")
    assert findings(("train", example("a", "p", findings=LONG)), ("test", man)) == []


def test_the_same_pixels_of_one_series_are_found_and_blank_ones_are_not():
    first, second = example("a", "p"), example("b", "q")
    second["frames"] = np.concatenate([second["frames"][:3], first["frames"][3:]])
    (found,) = findings(("train", first), ("test", second))
    assert found.startswith("the same pixels of study b")
    for record in (first, second):
        record["frames"] = record["frames"].copy()
        record["frames"][3] = 7
    assert findings(("train", first), ("test", second)) == []


def test_the_complaint_is_one_line_with_pseudonyms_and_a_count():
    one = audit.Audit()
    assert one.complaint() == ""
    for split, study, patient in (("train", "a", "p"), ("train", "b", "q"), ("test", "c", "p"), ("test", "d", "q")):
        one.add(split, example(study, patient))
    assert "1 more like it" in one.complaint() and "\n" not in one.complaint()


@pytest.mark.parametrize("twin", ["pixels", "report"])
def test_one_person_under_two_ids_is_refused_at_publishing(own_cohort, twin):
    """Somebody under another patient id, whom chance puts on the other side."""
    cohort = own_cohort(5)
    uids = [f"1.2.840.99.{n + 1}" for n in range(5)]
    reports = [f"FINDINGS: Case {n}.\nIMPRESSION: Stable." for n in range(5)]
    if twin == "report":
        reports = [LONG] * 5
    else:
        for n, folder in enumerate(sorted(cohort.dicom.iterdir())):
            write_cine(folder, StudyInstanceUID=uids[n], SeriesInstanceUID=f"{uids[n]}.1", PatientID=f"MRN77{n:04d}")
    rows = [{"study_uid": u, "report": r, "group": "a"} for u, r in zip(uids, reports, strict=True)]
    write_reports(cohort.reports, rows)
    one_line(cohort.run("out"), "nothing was published", f"the same {twin} of study", "patient_id")
    assert contents(cohort.root / "out") == {}
    everyone_is_one = [row | {"patient_id": "one"} for row in rows]
    write_reports(cohort.reports, everyone_is_one)
    done = cohort.run("out", "--split_fractions=1,0,0")
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("case", ["patient", "report", "pixels"])
def test_verify_names_what_is_on_two_sides(cohort, tmp_path, case):
    data = pathlib.Path(shutil.copytree(cohort.root / "out", tmp_path / "data"))
    manifest = records.load_manifest(data)
    train, test = ([e for e in examples(data) if e["study_id"] in ids] for ids in sides(data))
    if case == "patient":
        test[0]["patient_id"] = train[0]["patient_id"]
        table = (data / "studies.csv").read_text().replace(test[1]["patient_id"], train[0]["patient_id"])
        (data / "studies.csv").write_text(table)
    elif case == "pixels":
        test[0]["frames"] = train[0]["frames"]
    else:
        for record in (train[0], test[0]):
            record["section/findings"] = LONG
            record["report_hash"] = "0" * 16
    for name, found in (("train", train), ("test", test)):
        for entry in manifest["splits"][name]["shards"]:
            (data / entry["name"]).unlink()
            (data / schema.index_name(entry["name"])).unlink()
        shard = data / schema.shard_name(name, 0, 1)
        payloads = [write.serialize(write.features(32, 8), record) for record in found]
        manifest["splits"][name]["shards"] = [write.write_shard(shard, payloads)]
    manifest["tables"]["studies.csv"] = write.sha256(data / "studies.csv")
    (data / schema.MANIFEST).write_text(json.dumps(manifest))
    problems = check.record_problems(data, manifest)
    both = (train[0]["study_id"], test[0]["study_id"])
    assert any(p.startswith(f"splits: the same {case} of") and all(i in p for i in both) for p in problems), problems


def sides(data: pathlib.Path) -> list[set[str]]:
    rows = write.read_table(data / "studies.csv")[1]
    return [{row["study_id"] for row in rows if row["split"] == name} for name in ("train", "test")]
