import json
import subprocess

import numpy as np
import pytest
from pydicom.dataset import Dataset
from pydicom.uid import BasicTextSRStorage, XRayRadiationDoseSRStorage

from cmr_jax.data import records, schema
from preprocessing import scan, sr
from tests.preprocessing.tiny_dicom import mr_dataset, save


def _code(meaning):
    code = Dataset()
    code.CodeValue, code.CodingSchemeDesignator, code.CodeMeaning = "1", "99T", meaning
    return code


def _item(kind, meaning, relationship="CONTAINS", **attributes):
    item = Dataset()
    item.ValueType, item.RelationshipType = kind, relationship
    item.ConceptNameCodeSequence = [_code(meaning)]
    for name, value in attributes.items():
        setattr(item, name, value)
    return item


def _measure(meaning, value, unit):
    measured = Dataset()
    measured.NumericValue = value
    measured.MeasurementUnitsCodeSequence = [_code(unit)]
    measured.MeasurementUnitsCodeSequence[0].CodeValue = unit
    return _item("NUM", meaning, MeasuredValueSequence=[measured])


def _document(study_uid, children, **attributes):
    image = mr_dataset(np.zeros((4, 4), np.uint16), StudyInstanceUID=study_uid, SOPClassUID=BasicTextSRStorage)
    for keyword in ("PixelData", "Rows", "Columns", "BitsAllocated", "BitsStored", "HighBit", "PixelSpacing"):
        delattr(image, keyword)
    image.Modality, image.ValueType, image.ContentDate = "SR", "CONTAINER", "20200101"
    image.ConceptNameCodeSequence = [_code("Cardiac report")]
    image.ContentSequence = children
    for name, value in attributes.items():
        setattr(image, name, value)
    return image


def _report(said="The left ventricle is dilated."):
    return [
        _item("PNAME", "Person Observer Name", "HAS OBS CONTEXT", PersonName="Wintergreen^Ada"),
        _item("TEXT", "Observer's Organization", "HAS OBS CONTEXT", TextValue="Ward Nine"),
        _item("CONTAINER", "Findings", ContentSequence=[
            _item("TEXT", "Finding", TextValue=f"{said} Read by Ada Wintergreen."),
            _item("CONTAINER", "Left ventricle", ContentSequence=[
                _measure("Left ventricular ejection fraction", "41", "%"),
            ]),
            _item("CODE", "Mitral regurgitation", ConceptCodeSequence=[_code("Mild")]),
        ]),
        _item("TEXT", "Impression", TextValue="Dilated cardiomyopathy."),
    ]  # fmt: skip


def test_the_tree_becomes_text_with_headers():
    text = sr.compose(_document("1.2", _report()))
    assert text.split("\n") == [
        "FINDINGS:",
        "FINDING: The left ventricle is dilated. Read by Ada Wintergreen.",
        "Left ventricle:",
        "Left ventricular ejection fraction: 41 %",
        "Mitral regurgitation: Mild",
        "IMPRESSION: Dilated cardiomyopathy.",
    ]


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("pydicom__pydicom__src__pydicom__data__test_files__reportsi.dcm", "Enter text"),
        ("pydicom__pydicom__src__pydicom__data__test_files__test-SR.dcm", "A mass of"),
        ("highdicom__data__test_files__sr_document_with_multiple_groups.dcm", "Diameter: 10"),
    ],
)
def test_real_files(real_data, name, expected):
    folder = real_data / "odd_dicom" / "files"
    seen = scan.scan_file(folder, name)
    assert (seen.status, seen.reason) == ("ignored", scan.STRUCTURED_REPORT)
    _, report = sr.read(folder, seen)
    assert report is not None
    assert expected in report.text


def test_no_depth_and_no_damage_raises(tmp_path):
    deep = _item("TEXT", "Findings", TextValue="bottom")
    for _ in range(60):
        deep = _item("CONTAINER", "x", ContentSequence=[deep])
    save(_document("1.2", [deep]), tmp_path / "deep.dcm")
    _, report = sr.read(tmp_path, scan.scan_file(tmp_path, "deep.dcm"))
    assert report is not None
    assert "bottom" not in report.text
    whole = (tmp_path / "deep.dcm").read_bytes()
    (tmp_path / "cut.dcm").write_bytes(whole[: len(whole) // 2])
    sr.read(tmp_path, scan.FileScan("cut.dcm", 1, 1))
    assert sr.read(tmp_path, scan.FileScan("none.dcm", 1, 1)) == ("", None)


def test_a_dose_report_is_no_report(tmp_path):
    save(_document("1.2", _report(), SOPClassUID=XRayRadiationDoseSRStorage), tmp_path / "dose.dcm")
    assert scan.scan_file(tmp_path, "dose.dcm").reason == "not MR"


def test_structured_reports_speak_where_the_table_does_not(own_cohort):
    cohort = own_cohort(4)
    uids = [f"1.2.840.99.{n + 1}" for n in range(4)]
    lines = cohort.reports.read_text().splitlines()
    header, rows = lines[0], [line for line in lines if any(uid in line for uid in uids[:2])]
    kept = cohort.reports.read_text().split(uids[2])[0]
    assert header in kept and rows
    cohort.reports.write_text(kept)
    save(_document(uids[0], _report()), cohort.dicom / "sr0.dcm")
    save(
        _document(uids[2], _report("Wintergreen reports: no scar. The left ventricle is dilated.")),
        cohort.dicom / "sr2.dcm",
    )
    save(_document(uids[2], [_item("TEXT", "Conclusion", TextValue="The LV is not dilated.")], ContentDate="20210101"),
         cohort.dicom / "a_later.dcm")  # fmt: skip
    save(_document("9.9", _report()), cohort.dicom / "sr9.dcm")
    save(_document(uids[3], []), cohort.dicom / "empty.dcm")
    done = cohort.run("out")
    assert done.returncode == 0, done.stderr
    out = cohort.root / "out"
    manifest = json.loads((out / schema.MANIFEST).read_text())
    examples = [e for s in ("train", "val", "test") if manifest["splits"][s]["studies"] for e in records.Split(out, s)]
    assert len(examples) == 3
    (ours,) = [e for e in examples if "ADDENDUM" in e["report"]]
    assert "intergreen" not in ours["report"]
    assert dict(zip(ours["label/name"], ours["label/source"], strict=True))["late_enhancement"] == "text"
    said = dict(zip(ours["label/name"], ours["label/value"], strict=True))
    assert said["late_enhancement"] == "absent"
    assert said["lv_dilation"] == "absent"
    assert said["lvef_percent"] == "41"
    reasons = sorted(line.split(",")[2] for line in (out / "files.csv").read_text().splitlines() if "report" in line)
    assert [r for r in set(reasons) if "structured" in r] and reasons.count("report of its study") == 2
    assert "structured report: the table has the study's report" in reasons
    assert "structured report: its study has no images" in reasons
    assert "structured report without text" in reasons
    off = cohort.run("off", "--sr_reports=off")
    assert off.returncode == 0, off.stderr
    assert "2 studies" in off.stdout


def test_reports_alone_from_structured_reports(own_cohort):
    cohort = own_cohort(2)
    for n in range(2):
        save(_document(f"1.2.840.99.{n + 1}", _report(f"Case {n}.")), cohort.dicom / f"sr{n}.dcm")
    command = [a for a in cohort.command("out") if not a.startswith(("--reports", "--label_columns"))]
    done = subprocess.run([*command, "--split_fractions=1,0,0"], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    refused = subprocess.run([*command, "--sr_reports=off"], capture_output=True, text=True, timeout=120)
    assert refused.returncode == 2
    assert "--reports is needed" in refused.stderr
