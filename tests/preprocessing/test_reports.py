import json

import pytest

from cmr_jax.data import schema
from cmr_jax.errors import InputError
from preprocessing import reports, tokenizer
from preprocessing.deid import Pseudonyms
from tests.preprocessing.tiny_dicom import write_reports

PSEUDONYMS = Pseudonyms(b"k" * 32)


def test_sections_in_one_line():
    text = "INDICATION: 53 year old male. FINDINGS: EF 25 percent. IMPRESSION: Heart failure."
    assert reports.sections(text) == {
        "indication": "53 year old male.",
        "technique": "",
        "comparison": "",
        "findings": "EF 25 percent.",
        "impression": "Heart failure.",
    }


def test_sections_by_line_in_other_words():
    text = "Clinical history:\nPalpitations\nTechnique\n1.5 T, cine\nPrior study: none\nResults: Normal."
    text += "\nConclusion\n1. Normal."
    assert reports.sections(text) == {
        "indication": "Palpitations",
        "technique": "1.5 T, cine",
        "comparison": "none",
        "findings": "Normal.",
        "impression": "1. Normal.",
    }


def test_text_before_any_header_is_findings_and_prose_is_not_cut():
    text = "The findings: all normal. There is no history of infarction.\nIMPRESSION: Normal."
    parts = reports.sections(text)
    assert parts["findings"] == "The findings: all normal. There is no history of infarction."
    assert parts["impression"] == "Normal."
    assert tuple(parts) == schema.SECTIONS


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
