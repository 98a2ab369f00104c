import json

import pytest

from cmr_jax.errors import InputError
from preprocessing import labels, numbers, phrases, reports, tokenizer
from preprocessing.deid import Pseudonyms
from tests.preprocessing.tiny_dicom import write_reports

PSEUDONYMS = Pseudonyms(b"k" * 32)


def test_the_hash_is_of_what_is_said_not_of_how_or_whom():
    one = reports.content_hash(PSEUDONYMS, "INDICATION: 53 y.\nFINDINGS: Normal LV,  EF 60%.\nIMPRESSION: Normal.")
    same = reports.content_hash(PSEUDONYMS, "INDICATION: 71 y. FINDINGS: normal LV; EF 60 %. IMPRESSION: NORMAL")
    other = reports.content_hash(PSEUDONYMS, "INDICATION: 53 y.\nFINDINGS: Normal LV, EF 61%.\nIMPRESSION: Normal.")
    decimal = reports.content_hash(PSEUDONYMS, "FINDINGS: Normal LV, EF 6.0%. IMPRESSION: Normal.")
    assert one == same
    assert len({one, other, decimal}) == 3
    assert one != reports.content_hash(Pseudonyms(b"j" * 32), "FINDINGS: Normal LV, EF 60%. IMPRESSION: Normal.")


def test_csv_and_json_lines_are_read_alike(tmp_path):
    rows = [
        {"study_uid": "1.2", "patient_id": "P", "report": 'Line one\nline "two"', "group": "a"},
        {"study_uid": "1.3", "patient_id": "", "report": "Other\u2028line", "group": ""},
    ]
    as_csv = reports.read(write_reports(tmp_path / "r.csv", rows), ["group"])
    (tmp_path / "r.jsonl").write_text("\n".join(json.dumps(row, ensure_ascii=False) for row in rows))
    assert as_csv == reports.read(tmp_path / "r.jsonl", ["group"])
    found = reports.find(as_csv, "1.2", "")
    assert found is not None
    assert (found.text, found.patient_id, found.labels) == ('Line one\nline "two"', "P", (("group", "a"),))
    assert reports.find(as_csv, "9.9", "") is None


def test_accession_numbers_link_and_several_rows_join(tmp_path):
    rows = [
        {"accession_number": "A1", "report": "First.", "group": "a"},
        {"accession_number": "A1", "report": "Addendum.", "group": ""},
        {"accession_number": "A1", "report": "First.", "group": "b"},
    ]
    report = reports.find(reports.read(write_reports(tmp_path / "r.csv", rows), ["group"]), "1.2", "A1")
    assert report is not None
    assert report.text == "First.\n\nAddendum."
    assert report.labels == (("group", "b"),)


def test_a_label_table_stands_over_reports_by_either_name(tmp_path):
    told = [{"study_uid": f"1.{n}", "report": "LVEF 60 %.", "group": "a", "own": "x"} for n in range(3)]
    given = [
        {"study_uid": "1.0", "accession_number": "", "group": "b", "mi": "present", "surname": "Smith"},
        {"study_uid": "1.1", "accession_number": "", "group": "", "mi": "absent", "surname": "Smith"},
        {"study_uid": "", "accession_number": "A2", "group": "c", "mi": "", "surname": "Smith"},
        {"study_uid": "", "accession_number": "A2", "group": "", "mi": "uncertain", "surname": "Smith"},
    ]
    wanted = ["group", "mi", "own"]
    found = reports.read_labels(write_reports(tmp_path / "l.csv", given), wanted)
    table = reports.read(write_reports(tmp_path / "r.csv", told), wanted, elsewhere=("group", "mi"))
    labels = []
    for n in range(3):
        report = reports.find(table, f"1.{n}", f"A{n}")
        assert report is not None
        labels.append(dict(reports.labelled(report, found, f"1.{n}", f"A{n}").labels))
    assert labels == [
        {"group": "b", "mi": "present", "own": "x"},
        {"group": "a", "mi": "absent", "own": "x"},
        {"group": "c", "mi": "uncertain", "own": "x"},
    ]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("group\na\n", "'study_uid' or 'accession_number'"),
        ("study_uid,other\n1.2,a\n", "none of the columns"),
        ("study_uid,group\n1.2,a,b\n", "--label_table row 1 has more fields"),
        ("", "'study_uid' or 'accession_number'"),
    ],
)
def test_bad_label_tables_are_one_clear_line(tmp_path, content, message):
    (tmp_path / "l.csv").write_text(content)
    with pytest.raises(InputError, match=message) as caught:
        reports.read_labels(tmp_path / "l.csv", ["group"])
    assert str(tmp_path) not in str(caught.value) and "--reports" not in str(caught.value)


def test_a_second_report_of_a_study_is_marked_as_an_addendum_that_wins(tmp_path):
    rows = [
        {"study_uid": "1.2", "report": "IMPRESSION: The LV is dilated. LVEF 40 %."},
        {"study_uid": "1.2", "report": "The LV is not dilated. LVEF 52 %."},
    ]
    report = reports.find(reports.read(write_reports(tmp_path / "r.csv", rows), []), "1.2", "")
    assert report is not None
    assert report.text == "IMPRESSION: The LV is dilated. LVEF 40 %.\n\nADDENDUM:\nThe LV is not dilated. LVEF 52 %."
    assert [(f.name, f.state) for f in labels.extract(report.text, phrases.read())] == [("lv_dilation", "absent")]
    assert [(n.name, n.value) for n in numbers.extract(report.text)] == [("lvef_percent", 52)]


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_dialects_of_csv(tmp_path, delimiter, end):
    lines = [["study_uid", "report", "group"], ["1.2", f'"Größe:{end}5 mm{delimiter} ""quoted"""', "a"]]
    text = end.join(delimiter.join(line) for line in lines) + end
    (tmp_path / "r.csv").write_bytes(b"\xef\xbb\xbf" + text.encode())
    report = reports.find(reports.read(tmp_path / "r.csv", ["group"]), "1.2", "")
    assert report is not None
    assert (report.text, report.labels) == (f'Größe:{end}5 mm{delimiter} "quoted"', (("group", "a"),))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "holds no report"),
        (b"study_uid,report\n", "holds no report"),
        (b"study_uid,report\n1.2,\n", "holds no text"),
        (b"study_uid,text\n1.2,a\n", "no column 'report'"),
        (b"report\nhello\n", "study_uid"),
        (b"\xff\xfe\x00", "not UTF-8"),
        (b'{"report": "a", "study_uid": "1"}\nnonsense', "line 2"),
        (b"study_uid,report\n1.2,a\n", "no column 'group'"),
        ("study_uid,report\n1.2,Größe".encode("latin-1"), "not UTF-8"),
        (b"study_uid,report\n1.2,a\n1.3,normal LV, no scar\n", "row 2 has more fields"),
    ],
)
def test_bad_tables_are_one_clear_line(tmp_path, content, message):
    (tmp_path / "r.csv").write_bytes(content)
    with pytest.raises(InputError, match=message) as caught:
        reports.read(tmp_path / "r.csv", ["group"] if "group" in message else [])
    assert "\n" not in str(caught.value)


def test_a_missing_table_is_an_input_error_without_its_path(tmp_path):
    with pytest.raises(InputError, match="No such file") as caught:
        reports.read(tmp_path / "patient_smith.csv", [])
    assert "smith" not in str(caught.value)


@pytest.mark.parametrize("texts", [["Normal."], ["a"], ["Normal LV.", "Dilated LV, EF 25 percent."] * 20])
def test_a_vocabulary_of_any_text_however_small(texts):
    model = tokenizer.train(texts, 2048)
    assert model == tokenizer.train(texts, 2048)
    encoder = tokenizer.load(model)
    assert (encoder.pad_id(), encoder.unk_id(), encoder.bos_id(), encoder.eos_id()) == (0, 1, 2, 3)
    assert encoder.vocab_size() <= 2048
    for text in texts:
        ids = encoder.encode(text)
        assert encoder.decode(ids) == text.lower()
        assert not {0, 1, 2, 3} & set(ids)


def test_the_vocabulary_size_is_kept_where_text_abounds():
    words = [f"w{a}{b}{c}." for a in "abcdefghij" for b in "klmnopqrst" for c in "uvwxyz"]
    assert tokenizer.load(tokenizer.train(words, 64)).vocab_size() <= 64


def test_no_text_is_an_input_error():
    with pytest.raises(InputError, match="training split"):
        tokenizer.train(["", "\n"], 100)
