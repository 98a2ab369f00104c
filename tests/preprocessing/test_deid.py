import hashlib
import hmac
import os
import pathlib

import pytest

from cmr_jax.errors import InputError
from preprocessing import deid, scrub, splits
from preprocessing.deid import Pseudonyms


def test_a_pseudonym_is_the_hmac_of_domain_and_id():
    key = b"k" * 32
    expected = hmac.new(key, b"study\x00" + b"1.2.3", hashlib.sha256).hexdigest()[:16]
    assert Pseudonyms(key).name("study", "1.2.3") == expected


def test_pseudonyms_differ_by_key_domain_and_id():
    names = {Pseudonyms(k).name(d, v) for k in (b"a" * 16, b"b" * 16) for d in ("study", "patient") for v in ("1", "2")}
    assert len(names) == 8
    assert len({Pseudonyms(k).fingerprint for k in (b"a" * 16, b"b" * 16)}) == 2


def test_names_that_are_no_unicode_have_pseudonyms():
    assert len(Pseudonyms(b"a" * 16).name("file", "caf\udce9.dcm")) == 16


def test_the_key_file_is_made_once_and_private(tmp_path):
    path = tmp_path / "key"
    key = deid.load_key(path, create=True)
    assert path.stat().st_mode & 0o777 == 0o600
    assert len(key) >= 32
    assert deid.load_key(path, create=True) == key
    assert deid.load_key(path, create=False) == key


def test_keys_that_cannot_be_used(tmp_path):
    with pytest.raises(InputError, match="does not exist"):
        deid.load_key(tmp_path / "none", create=False)
    with pytest.raises(InputError, match="cannot be made"):
        deid.load_key(tmp_path / "no" / "folder", create=True)
    (tmp_path / "short").write_text("abc\n")
    with pytest.raises(InputError, match="fewer than"):
        deid.load_key(tmp_path / "short", create=True)


def test_a_key_that_others_could_read_is_made_private(tmp_path, capsys):
    path = tmp_path / "key"
    path.write_text("k" * 32)
    for mode in (0o644, 0o660, 0o602):
        path.chmod(mode)
        assert deid.load_key(path, create=False) == b"k" * 32
        assert path.stat().st_mode & 0o777 == 0o600
        assert "could be read by others" in capsys.readouterr().err
    path.chmod(0o400)
    deid.load_key(path, create=False)
    assert path.stat().st_mode & 0o777 == 0o400 and capsys.readouterr().err == ""


@pytest.mark.parametrize(("mode", "usable"), [(0o644, False), (0o620, False), (0o440, True)])
def test_a_key_whose_mode_cannot_be_changed_is_refused_where_everybody_reads_it(tmp_path, monkeypatch, mode, usable):
    path = tmp_path / "key"
    path.write_text("k" * 32)
    path.chmod(mode)

    def refuse(*_):
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr("pathlib.Path.chmod", refuse)
    if usable:  # a secret mounted for a group, as clusters do
        assert deid.load_key(path, create=False) == b"k" * 32
    else:
        with pytest.raises(InputError, match="by everybody"):
            deid.load_key(path, create=False)


def test_a_key_behind_a_link_is_held_to_the_same(tmp_path):
    (tmp_path / "secret").write_text("k" * 32)
    (tmp_path / "secret").chmod(0o644)
    (tmp_path / "key").symlink_to("secret")
    assert deid.load_key(tmp_path / "key", create=False) == b"k" * 32
    assert (tmp_path / "secret").stat().st_mode & 0o777 == 0o600
    (tmp_path / "secret").unlink()
    with pytest.raises(InputError, match="cannot be read"):  # and no key is made where a link points
        deid.load_key(tmp_path / "key", create=True)
    assert not (tmp_path / "secret").exists()


@pytest.mark.parametrize("kind", ["folder", "pipe", "device", "large"])
def test_what_is_no_key_file_is_refused_without_reading_it(tmp_path, kind):
    path = tmp_path / "key"
    if kind == "folder":
        path.mkdir()
    elif kind == "pipe":
        os.mkfifo(path)
    elif kind == "device":
        path = pathlib.Path("/dev/zero")
    else:
        path.write_bytes(b"k" * 5000)
    with pytest.raises(InputError, match="no key file"):
        deid.load_key(path, create=True)


def test_a_task_of_an_array_waits_for_the_key_that_another_is_writing(tmp_path, monkeypatch):
    path = tmp_path / "key"
    path.touch(0o600)
    monkeypatch.setattr("time.sleep", lambda _: path.write_text("k" * 32))
    monkeypatch.setattr("pathlib.Path.exists", lambda *_, **__: path.stat().st_size > 0)  # it was not there just now
    assert deid.load_key(path, create=True) == b"k" * 32


@pytest.mark.parametrize(
    ("header", "age"),
    [
        (("053Y", "", ""), "53"),
        (("095Y", "", ""), "90"),
        (("018M", "", ""), "1"),
        (("", "19600615", "20200614"), "59"),
        (("", "19600615", "20200615"), "60"),
        (("", "19000101", "20200101"), "90"),
        (("", "00000000", "20120000"), ""),
        (("", "", "20200101"), ""),
        (("old", "20210101", "20200101"), ""),
    ],
)
def test_ages(header, age):
    assert deid.age(*header) == age


@pytest.mark.parametrize(
    ("text", "vendor"),
    [
        ("GE MEDICAL SYSTEMS", "ge"),
        ("SIEMENS Healthineers", "siemens"),
        ("Philips", "philips"),
        ("Large Co", "other"),
        ("", ""),
    ],
)
def test_vendors(text, vendor):
    assert deid.vendor(text) == vendor


NAMES, IDS = ["Quagmire^Glenda^Li", "Ross^Bob"], ["MRN774411", "1.2.840.99.1", "K-17B"]


@pytest.mark.parametrize(
    ("text", "secret"),
    [
        ("Glenda QUAGMIRE was seen.", "quagmire"),
        ("Glenda's heart.", "glenda"),
        ("Discussed with Li today.", " Li "),
        ("mrn774411 again", "mrn774411"),
        ("Record k-17b, again", "k-17b"),
        ("Study 1.2.840.99.1 reviewed", "1.2.840.99.1"),
        ("Patient Name: Someone Else\nFINDINGS: fine", "someone"),
        ("DOB: 4 May\nFINDINGS: fine", "4 May"),
        ("Seen on 12/03/2019.", "2019"),
        ("Seen on 2019-03-12.", "2019"),
        ("Seen on 12.03.19.", "12.03.19"),
        ("Compared with 3 March 2018.", "2018"),
        ("Compared with March 3rd, 2018.", "2018"),
        ("Compared with March 2018.", "2018"),
        ("Compared with 12-MAR-2018.", "2018"),
        ("Compared with 12-MAR.", "12-mar"),
        ("Call 555-123-4567.", "4567"),
        ("Call (555) 123-4567.", "4567"),
        ("Mail a.b@example.org now", "example"),
        ("Case number AB12345678", "12345678"),
        ("A 93-year-old woman", "93"),
        ("101 year old", "101"),
        ("Electronically signed by A. Nonymous", "nonymous"),
        ("Discussed with Dr. Smithers.", "smithers"),
        ("Jane Roe, MD", "roe"),
        ("Bob Ross was seen", "ross"),
    ],
)
def test_what_identifies_is_scrubbed(text, secret):
    assert secret.lower() in text.lower()
    assert secret.lower() not in scrub.scrub(text, NAMES, IDS).lower()


@pytest.mark.parametrize(
    "text",
    [
        "Repaired tetralogy of Fallot, Fontan circulation and a Mustard baffle.",
        "Status post Ross procedure.",
        "LVEF 55-60 %, EDV 180 mL (95 mL/m2), T1 1003 ms.",
        "Mild mitral regurgitation; fraction 25/100; ratio 2.5.",
        "53 year old male, 1.5 T scanner, 89-year-old mother.",
        "The LV may be dilated. Slices 1-12 of 20.",
        "Wall thickness 9 mm in segments 3, 9 and 14.",
        "Segments 1 and 2 may be thin; 2 septal segments are; 3 marked ones. EDV decreased to 2000.",
        "Volumes verified by planimetry. EF 55 %.",
        "The apex may 4 to 5 mm bulge.",
    ],
)
def test_cardiology_stays(text):
    assert scrub.scrub(text, NAMES, IDS) == text


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ("Patient: Jo Doe 4711 FINDINGS: Fine. IMPRESSION: Normal.", "FINDINGS: Fine. IMPRESSION: Normal."),
        ("Fine. Signed by Jane Roe IMPRESSION: Normal.", "Fine. [name] IMPRESSION: Normal."),
        ("Discussed with Dr. A. Smithers. Normal LV.", "Discussed with [name]. Normal LV."),
        ("Seen by Mrs Roe FINDINGS: Fine.", "Seen by [name] FINDINGS: Fine."),
        ("Signed by: Roe, Jane on 4 May", "[name] on [date]"),
    ],
)
def test_no_more_than_what_identifies_is_scrubbed(text, left):
    assert scrub.scrub(text, NAMES, IDS) == left


def test_splits_follow_the_patient_alone_and_the_shares():
    pseudonyms = Pseudonyms(b"k" * 32)
    patients = [pseudonyms.name("patient", str(n)) for n in range(3000)]
    fractions = (0.7, 0.1, 0.2)
    chosen = [splits.assign(pseudonyms, p, fractions) for p in patients]
    assert chosen[:100] == [splits.assign(pseudonyms, p, fractions) for p in patients[:100]]
    for name, fraction in zip(("train", "val", "test"), fractions, strict=True):
        assert chosen.count(name) / 3000 == pytest.approx(fraction, abs=0.03)
    assert {splits.assign(pseudonyms, p, (0.0, 0.0, 1.0)) for p in patients} == {"test"}


@pytest.mark.parametrize("values", [["1"], ["0.5", "0.4", "0.2"], ["a", "b", "c"], ["1.5", "-0.5", "0"]])
def test_bad_shares_are_refused(values):
    with pytest.raises(InputError, match="--split_fractions"):
        splits.parse_fractions(values)
