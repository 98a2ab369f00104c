"""A source with a secret in each of many places, and a finder of its own that shares no code with what is tested.

`PLACES` says what is planted where; every secret is one string that nothing else in the world contains.
"""

import base64
import functools
import gzip
import io
import json
import pathlib
import re
import struct
import zipfile
import zlib
from collections.abc import Iterator

import ahocorasick
import zstandard
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.sequence import Sequence
from pydicom.uid import UID, ExplicitVRLittleEndian

from tests.preprocessing.tiny_dicom import coded, mr_dataset, save, write_reports

# place: the secrets planted there
PLACES: dict[str, tuple[str, ...]] = {
    "patient name": ("Quillfeather", "Zébulon"),
    "name split over components": ("Oudekerk-Brandt",),
    "patient id": ("MRQ774411",),
    "accession number": ("ACZQ99182",),
    "study description": ("Zetagroup",),
    "series description": ("Oldenburgh",),
    "referring physician": ("Vanterpool",),
    "operators": ("Operandiska",),
    "institution and its address": ("Wexcombe Infirmary", "Larkspur Mews"),
    "birth date": ("19471103",),
    "study date and time": ("20170219", "164233.918"),
    "study UID": ("1.2.840.113619.77.424242",),
    "series UID": ("1.2.840.113619.78.515151",),
    "instance and frame-of-reference UID": ("1.2.840.113619.79.616161", "1.2.840.113619.80.717171"),
    "patient comments (LT)": ("zeppelinfahrt",),
    "image comments (ST, UT)": ("Quokkawald", "Tamarinfels"),
    "nested sequences": ("Nestingford", "ORDQ55118"),
    "private group": ("Privomicron",),
    "private bytes": ("Privbytesque",),
    "preamble": ("PreambleHydrangea",),
    "file meta": ("AETSECRETQ",),
    "device serial and station": ("SERQ88231", "STNQ4471"),
    "overlay": ("Kestreloverlay",),
    "curve group": ("Curvellington",),
    "trailing padding": ("Padderborne",),
    "bytes behind the end": ("Afterburnham",),
    "folder name": ("Folderinghay",),
    "file name": ("Filomenasdotter",),
    "symbolic link": ("Linkletterson",),
    "a broken file's name": ("Brokenhurst",),
    "a structured report": ("Structurella",),
    "report: header block": ("Headerblockson", "14/08/1951", "MRN-5582017"),
    "report: signature and persons": ("Signaturio", "Discussowitz", "Spousanna"),
    "report: contacts": ("555-867-5309", "k.quorn@kardiologie.example", "pacs.wexcombe.example"),
    "report: addresses": ("Larchmont Avenue", "Birkenstraße 17"),
    "report: dates": ("23 February 2016", "2015-07-30", "09/2014", "May 17th 2013"),
    "report: numbers": ("88120345", "AQ-771-2291", "943 476 5919"),
    "report: ages": ("97-year-old",),
    "column not asked for": ("Columnbridge",),
    "header of a column": ("headersecretqz",),
    "site table": ("Sitetablewick",),
    "the key": ("c0ffee77deadbeef1234567890abcdefc0ffee77deadbeef1234567890abcdef",),
}
GROUPS = ("even", "odd")
NAME = "Quillfeather^Zébulon^Oudekerk-Brandt"


def report(number: int) -> str:
    """A report with every kind of secret in it; each study says its own numbers."""
    return (
        "Patient Name: Headerblockson, Ruth\nDOB: 14/08/1951\nMedical record number: MRN-5582017\n"
        "INDICATION: This 97-year-old patient QUILLFEATHER, known as zebulon or Z. Quillfeather,"
        f" MRQ774411{number:02d}, accession ACZQ99182, lives at 12 Larchmont Avenue, formerly Birkenstraße 17."
        " Mrs Oudekerk-Brandt is related.\n"
        "COMPARISON: 23 February 2016, 2015-07-30, 09/2014 and May 17th 2013; case number AQ-771-2291,"
        " NHS 943 476 5919.\n"
        f"FINDINGS: Left ventricular ejection fraction {40 + number} %. Images E88120345 at pacs.wexcombe.example. "
        "Nestingford and operandiska agree. "
        "Findings were discussed with Dr Discussowitz. Her wife Spousanna was told. Scanned at Wexcombe Infirmary.\n"
        f"IMPRESSION: {('Normal', 'Dilated')[number % 2]} left ventricle, case {number}. "
        "Call 555-867-5309 or k.quorn@kardiologie.example. Referred by Vanterpool.\n"
        "Electronically signed by Ulla Signaturio, MD"
    )


def write_source(root: pathlib.Path, patients: int, slices: int = 3, phases: int = 3) -> pathlib.Path:
    """`root/dicom`, `root/reports.csv`, `root/reports.jsonl`, `root/views.csv`, `root/key`."""
    rows = []
    for n in range(patients):
        uid = f"1.2.840.113619.77.424242.{n + 1}"
        folder = root / "dicom" / f"Folderinghay {n:02d}"
        for s in range(slices):
            for p in range(phases):
                data = _image(n, s, p, uid)
                save(data, folder / f"Filomenasdotter_{s}_{p}.dcm")
        with (folder / "Filomenasdotter_0_0.dcm").open("r+b") as file:
            file.write(b"PreambleHydrangea")
        with (folder / "Filomenasdotter_0_1.dcm").open("ab") as file:
            file.write(b"\xfc\xff\xfc\xffOB\0\0\x0e\0\0\0 Afterburnham ")
        (folder / "Linkletterson.dcm").symlink_to("Filomenasdotter_0_0.dcm")
        rows.append(
            {
                "study_uid": uid,
                "patient_id": f"MRQ774411{n:02d}",
                "report": report(n),
                "group": GROUPS[n % 2],
                "headersecretqz": "Columnbridge",
            }
        )
    _strange_files(root / "dicom" / "Folderinghay 00")
    write_reports(root / "reports.csv", rows)
    (root / "reports.jsonl").write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))
    (root / "views.csv").write_text("pattern,view\nSitetablewick,scout\nOldenburgh,cine_sax\n")
    (root / "key").write_text(PLACES["the key"][0])
    (root / "key").chmod(0o600)
    return root


def _image(n: int, s: int, p: int, uid: str) -> Dataset:
    number = s * 8 + p + 1
    pixels = coded(s, p)
    pixels[2, 2:8] = 40 * n + 7  # no two patients look the same
    data = mr_dataset(
        pixels,
        place=-10.0 * s,
        TriggerTime=40.0 * p + s,
        InstanceNumber=number,
        SpecificCharacterSet="ISO_IR 192",
        StudyInstanceUID=uid,
        SeriesInstanceUID=f"1.2.840.113619.78.515151.{n + 1}",
        SOPInstanceUID=f"1.2.840.113619.79.616161.{n + 1}.{number}",
        FrameOfReferenceUID=f"1.2.840.113619.80.717171.{n + 1}",
        PatientName=NAME,
        PatientID=f"MRQ774411{n:02d}",
        AccessionNumber=f"ACZQ99182{n:02d}",
        StudyDescription="Zetagroup",
        SeriesDescription="Oldenburgh fast",
        ReferringPhysicianName="Vanterpool^Ignatius",
        OperatorsName="Operandiska^Eva",
        InstitutionName="Wexcombe Infirmary",
        InstitutionAddress="1 Larkspur Mews",
        PatientBirthDate="19471103",
        PatientSex="F",
        StudyDate="20170219",
        StudyTime="164233.918",
        PatientComments="likes the zeppelinfahrt",
        ImageComments="Quokkawald",
        DeviceSerialNumber="SERQ88231",
        StationName="STNQ4471",
    )
    data.add_new((0x0008, 0x0119), "UC", "Tamarinfels")  # a long text in a younger representation
    inner = Dataset()
    inner.RequestedProcedureID, inner.RequestingPhysician = "ORDQ55118", "Nestingford^Ann"
    middle = Dataset()
    middle.RequestAttributesSequence = Sequence([inner])
    data.RequestAttributesSequence = Sequence([middle])
    block = data.private_block(0x0029, "MAKER", create=True)
    block.add_new(0x10, "LO", "Privomicron")
    block.add_new(0x11, "UN", b"\x01\x02Privbytesque\x00")
    data.add_new((0x6000, 0x0022), "LO", "Kestreloverlay")
    data.add_new((0x6000, 0x3000), "OW", b"Kestreloverlay")
    data.add_new((0x5000, 0x3000), "OB", b"Curvellington\0")
    data.add_new((0xFFFC, 0xFFFC), "OB", b"Padderborne\0")
    data.file_meta.SourceApplicationEntityTitle = "AETSECRETQ"
    return data


def _strange_files(folder: pathlib.Path) -> None:
    (folder / "Brokenhurst.dcm").write_bytes((folder / "Filomenasdotter_0_0.dcm").read_bytes()[:700])
    (folder / "Brokenhurst.txt").write_text("no DICOM")
    data = Dataset()
    data.file_meta = FileMetaDataset()
    data.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    data.SOPClassUID = data.file_meta.MediaStorageSOPClassUID = UID("1.2.840.10008.5.1.4.1.1.88.11")
    data.SOPInstanceUID = data.file_meta.MediaStorageSOPInstanceUID = UID("1.2.840.113619.79.616161.999")
    data.StudyInstanceUID, data.SeriesInstanceUID = "1.2.840.113619.77.424242.1", "1.2.840.113619.78.515151.99"
    data.Modality, data.PatientName, data.PatientID = "SR", NAME, "MRQ77441100"
    item = Dataset()
    item.ValueType, item.TextValue, item.RelationshipType = "TEXT", "Dictated by Paula Structurella.", "CONTAINS"
    data.ValueType, data.ContentSequence = "CONTAINER", Sequence([item])
    save(data, folder / "sr.dcm")


def _forms(secret: str) -> Iterator[tuple[str, bytes, bool]]:
    """(name, bytes, whether case matters) of every way the secret may be written."""
    for encoding in ("utf-8", "latin-1", "utf-16-le", "utf-16-be"):
        for variant in (secret.lower(), secret.upper()):
            yield encoding, variant.encode(encoding).decode("latin-1").lower().encode("latin-1"), False
        for variant in {secret, secret.lower(), secret.upper()}:
            raw = variant.encode(encoding)
            for before in range(3):
                coded_text = base64.b64encode(b"\0" * before + raw)
                # The characters that also depend on the neighbours are cut off.
                first, last = -(-before * 4 // 3), (before + len(raw)) // 3 * 4
                yield f"base64 of {encoding}", coded_text[first:last], True


@functools.cache
def _automata() -> tuple[ahocorasick.Automaton, ahocorasick.Automaton]:
    """All forms of all secrets, one character a byte: those in any case (lower), and those where case matters."""
    loose, exact = ahocorasick.Automaton(), ahocorasick.Automaton()
    for place, secrets in PLACES.items():
        for secret in secrets:
            for form, needle, case in _forms(secret):
                if len(needle) >= 6:
                    (exact if case else loose).add_word(needle.decode("latin-1"), (place, form))
    loose.make_automaton()
    exact.make_automaton()
    return loose, exact


def leaks(blobs: dict[str, bytes]) -> list[tuple[str, str, str]]:
    """(place, form, artefact) of every secret in `blobs`, compressed parts included."""
    loose, exact = _automata()
    found = []
    for name, blob in blobs.items():
        for data in (name.encode(), blob, *inflated(blob)):
            encoded = b" ".join(re.findall(rb"[A-Za-z0-9+/]{6,}", data))
            for trie, text in ((loose, data.decode("latin-1").lower()), (exact, encoded.decode("latin-1"))):
                found += [(*what, name) for _, what in trie.iter(text)]
    return sorted(set(found))


def inflated(blob: bytes) -> Iterator[bytes]:
    """What zlib, gzip, zip and Zstandard streams anywhere in `blob` hold."""
    if blob.startswith(b"PK"):
        with zipfile.ZipFile(io.BytesIO(blob)) as archive:
            yield from (archive.read(name) for name in archive.namelist())
    if blob.startswith(b"\x1f\x8b"):
        yield gzip.decompress(blob)
    if blob.startswith(b"\x89PNG"):
        place, pixels = 8, b""
        while place < len(blob):
            length, kind = struct.unpack(">I4s", blob[place : place + 8])
            chunk, place = blob[place + 8 : place + 8 + length], place + 12 + length
            pixels += chunk if kind == b"IDAT" else b""
            if kind == b"zTXt":
                yield zlib.decompress(chunk.split(b"\0\0", 1)[1])
        yield zlib.decompress(pixels)
    for match in re.finditer(re.escape(b"\x28\xb5\x2f\xfd"), blob):
        try:
            yield zstandard.ZstdDecompressor().decompressobj().decompress(blob[match.start() :])
        except zstandard.ZstdError:
            continue


def contents(folder: pathlib.Path) -> dict[str, bytes]:
    """Name and bytes of every file below `folder`."""
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}
