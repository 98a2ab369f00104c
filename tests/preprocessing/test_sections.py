import csv
import random

import pytest

from cmr_jax.data import schema
from preprocessing import sections

# How notes head these sections, and what they are to us.
HEADERS = {
    "GENHX": ("History of present illness", "indication"),
    "CC": ("Chief complaint", "indication"),
    "PASTMEDICALHX": ("Past medical history", "other"),
    "PASTSURGICAL": ("Past surgical history", "other"),
    "FAM/SOCHX": ("Family history", "other"),
    "ALLERGY": ("Allergies", "other"),
    "MEDICATIONS": ("Medications", "other"),
    "ROS": ("Review of systems", "other"),
    "EXAM": ("Physical examination", "other"),
    "ASSESSMENT": ("Assessment", "impression"),
    "DIAGNOSIS": ("Diagnosis", "impression"),
    "PLAN": ("Plan", "other"),
    "DISPOSITION": ("Disposition", "other"),
    "EDCOURSE": ("Emergency department course", "other"),
    "IMMUNIZATIONS": ("Immunizations", "other"),
    "IMAGING": ("Imaging", "other"),
    "GYNHX": ("Gynecologic history", "other"),
    "PROCEDURES": ("Procedures", "technique"),
    "OTHER_HISTORY": ("Other history", "other"),
    "LABS": ("Labs", "other"),
}
STYLES = (
    "{H}: {t}",
    "{H}:\n{t}",
    "{h}: {t}",
    "{h}:\n{t}",
    "**{h}**\n{t}",
    "{n}. {H}: {t}",
    "## {h}\n{t}",
    "{H}\n{t}",
    "{h}\n{t}",
)
OURS = ("Findings", "Technique", "Comparison", "Impression", "Indication")


def test_sections_in_one_line():
    text = "INDICATION: 53 year old male. FINDINGS: EF 25 percent. IMPRESSION: Heart failure."
    assert sections.sections(text) == {
        "indication": "53 year old male.",
        "technique": "",
        "comparison": "",
        "findings": "EF 25 percent.",
        "impression": "Heart failure.",
    }


def test_sections_by_line_in_other_words():
    text = "Clinical history:\nPalpitations\nTechnique\n1.5 T, cine\nPrior study: none\nResults: Normal."
    text += "\nConclusion\n1. Normal."
    assert sections.sections(text) == {
        "indication": "Palpitations",
        "technique": "1.5 T, cine",
        "comparison": "none",
        "findings": "Normal.",
        "impression": "1. Normal.",
    }


def test_text_before_any_header_is_findings_and_prose_is_not_cut():
    text = "The findings: all normal. There is no history of infarction.\nIMPRESSION: Normal."
    parts = sections.sections(text)
    assert parts["findings"] == "The findings: all normal. There is no history of infarction."
    assert parts["impression"] == "Normal."
    assert tuple(parts) == schema.SECTIONS


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("**Findings**\nA.\n**Impression:** B.", {"findings": "A.", "impression": "B."}),
        ("1. FINDINGS: A.\n2) IMPRESSION\n1. B.", {"findings": "A.", "impression": "1. B."}),
        ("Findings/Impression: A.", {"findings": "A."}),
        ("IMPRESSION AND FINDINGS: A.", {"impression": "A."}),
        ("[FINDINGS]\nA.\n== CONCLUSION ==\nB.", {"findings": "A.", "impression": "B."}),
        ("FINDINGS - A.\nSUMMARY – B.", {"findings": "A.", "impression": "B."}),
        (
            "Technique: 1.5 T. Findings: A. Conclusion: B.",
            {"technique": "1.5 T.", "findings": "A.", "impression": "B."},
        ),
        ("FINDINGS:\nLEFT VENTRICLE: A.\nVALVES: B.\nLGE: C.", {"findings": "LEFT VENTRICLE: A.\nVALVES: B.\nLGE: C."}),
        ("FINDINGS: A.\nMEDICATIONS: aspirin\nIMPRESSION: B.", {"findings": "A.", "impression": "B."}),
        ("FINDINGS: A.\nTRAVEL PLANS: none\nSNACKS: none\nIMPRESSION: B.", {"findings": "A.", "impression": "B."}),
        (
            "FINDINGS (CARDIAC): A.\nIMPRESSION: B.\nElectronically signed by: N.",
            {"findings": "A.", "impression": "B."},
        ),
        ("IMPRESSION: A.\nADDENDUM:\nB.", {"findings": "B.", "impression": "A."}),
        (
            "The result of the findings is: nothing.\nNo history.",
            {"findings": "The result of the findings is: nothing.\nNo history."},
        ),
        ("", {}),
    ],
)
def test_habits_of_writing(text, expected):
    assert {name: said for name, said in sections.sections(text).items() if said} == expected


def _documents(rows, seed):
    """(text, [(start, section)]) of notes composed of real section texts under headers of many styles."""
    draw = random.Random(seed)
    rows = draw.sample(rows, len(rows))
    for at in range(0, len(rows), 5):
        text, boundaries, style = "", [], draw.choice(STYLES)
        for number, row in enumerate(rows[at : at + 5], 1):
            header, section = HEADERS[row["section_header"]]
            boundaries.append((len(text), section))
            said = row["section_text"].strip()
            text += style.format(H=header.upper(), h=header, t=said, n=number) + draw.choice(("\n", "\n\n"))
        yield text, boundaries


def test_boundaries_of_real_notes(real_data, capsys):
    with (real_data / "reports" / "sections.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    wanted, found, false = 0, 0, 0
    for text, boundaries in _documents(rows, 0):
        got = {(block.start, block.section) for block in sections.split(text) if block.text}
        wanted += len(boundaries)
        found += len(got & set(boundaries))
        false += len(got - set(boundaries))
    with capsys.disabled():
        print(f" boundaries: {found} of {wanted} found ({found / wanted:.1%}), {false} false")
    assert wanted > 1000
    assert found >= 0.95 * wanted
    assert false <= 0.05 * wanted


def test_every_header_we_know_is_one_in_every_style():
    for section, names in sections._HEADERS.items():
        for name in names.split("|"):
            for style in () if name in sections._IN_PASSING else STYLES:
                text = "A.\n" + style.format(H=name.upper(), h=name.capitalize(), t="B.", n=2)
                last = sections.split(text)[-1]
                expected = "findings" if name.startswith("adden") else section
                assert (last.section, last.text) == (expected, "B."), text


@pytest.mark.parametrize(
    "line", ["LVEDV: 227 ml", "RVESVI: 45 mL/m2", "LVEF: 55 %", "TAPSE: 21 mm", "Image quality: good."]
)
def test_a_measure_and_a_word_in_passing_end_no_findings(line: str):
    blocks = sections.split(f"FINDINGS:\n{line}\nThe left ventricle is dilated.\nIMPRESSION: DCM.")
    assert [(b.section, b.text) for b in blocks] == [
        ("findings", f"{line}\nThe left ventricle is dilated."),
        ("impression", "DCM."),
    ]
