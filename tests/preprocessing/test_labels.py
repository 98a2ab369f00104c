import csv
import pathlib
import random
from collections import Counter

import pytest

from cmr_jax.errors import InputError
from cmr_jax.evals.labels import parse_label
from preprocessing import labels, numbers, phrases, text_labels

HERE = pathlib.Path(__file__).parent
TABLE = phrases.read()
MISREAD = [
    "Amyloidosis is favored over hypertrophic cardiomyopathy.",
    "Biatrial enlargement, otherwise normal chamber dimensions.",
]


def _rows(name):
    with (HERE / name).open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def _states(text):
    return {one.name: one.state for one in labels.extract(text, TABLE)}


def _f1(rows):
    """F1 by state, over every (sentence, name)."""
    right, wrong = Counter(), Counter()
    for row in rows:
        wanted = dict(pair.split("=") for pair in row["labels"].split())
        got = _states(row["sentence"])
        for name in wanted.keys() | got.keys():
            want, have = wanted.get(name), got.get(name)
            right.update([want] if want == have else [])
            wrong.update(state for state in (want, have) if state and want != have)
    return {state: 2 * right[state] / (2 * right[state] + wrong[state]) for state in ("present", "absent", "uncertain")}


@pytest.mark.parametrize(
    ("name", "least", "count"),
    [
        ("label_sentences.csv", 0.95, 320),
        # Written after the labeller; F1 0.90, 0.85, 0.73 (present, absent, uncertain) before anything was mended.
        ("label_heldout.csv", 0.95, 60),
        # Written before the rules were last worked on, its misses not looked into: how well unseen wording is read.
        # Do not tune on it. F1 0.93, 0.85, 0.84 before that work.
        ("label_unseen.csv", 0.88, 60),
        # Written later in the manner of several hospitals. Its halves read 0.95, 0.97, 1.00 and 0.80, 0.70, 0.67 at
        # first; since then tuned on.
        ("label_second_hand.csv", 0.88, 187),
    ],
)
def test_f1_of_the_committed_sentences(name, least, count, capsys):
    rows = _rows(name)
    found = _f1(rows)
    with capsys.disabled():
        print(f" {name}: {len(rows)} sentences, F1 " + ", ".join(f"{k} {v:.3f}" for k, v in found.items()))
    assert len(rows) >= count
    assert min(found.values()) >= least


def test_which_sentences_are_misread():
    """F1 alone would let a broken rule pass."""
    wanted = {
        row["sentence"]: dict(p.split("=") for p in row["labels"].split()) for row in _rows("label_sentences.csv")
    }
    assert [said for said, labelled in wanted.items() if _states(said) != labelled] == MISREAD


def test_every_name_is_in_every_state_in_the_committed_sentences():
    pairs = {pair for row in _rows("label_sentences.csv") for pair in row["labels"].split()}
    assert len(TABLE.names) == 34
    assert pairs == {f"{name}={state}" for name in TABLE.names for state in ("present", "absent", "uncertain")}


@pytest.mark.parametrize("name", ["lvef_forms.csv", "lvef_forms_second.csv"])  # the second: 50 of 60 at first
def test_lvef_forms(name, capsys):
    rows = _rows(name)
    wrong = []
    for row in rows:
        got = [f"{one.value:g}" for one in numbers.extract(row["text"]) if one.name == "lvef_percent"]
        if got != [row["lvef_percent"]] * bool(row["lvef_percent"]):
            wrong.append((row["text"], got))
    with capsys.disabled():
        print(f" {name}: {len(rows) - len(wrong)} of {len(rows)} forms")
    assert len(rows) >= 60
    assert wrong == []


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("LVEDV 180 ml (LVEDVI 95 ml/m2), LVESV 90 mL.", {"lv_edv_ml": 180, "lv_edvi_ml_m2": 95, "lv_esv_ml": 90}),
        ("LV mass 140 g, LV mass index 72 g/m².", {"lv_mass_g": 140, "lv_massi_g_m2": 72}),
        ("Left ventricle: EDV: 160 ml; ESV 60 ml. Right ventricle: EDV 170 ml.",
         {"lv_edv_ml": 160, "lv_esv_ml": 60, "rv_edv_ml": 170}),
        ("Native T1 was 1080 ± 30 ms (normal range 950-1050 ms), T2 48 ms, ECV 27 %.",
         {"t1_ms": 1080, "t2_ms": 48, "ecv_percent": 27}),
        ("RVEF 45 %, RVEDVi 90 ml/m2.", {"rvef_percent": 45, "rv_edvi_ml_m2": 90}),
        ("T2-weighted imaging at 1.5 T with T1 mapping in 3 slices. A 10 mm mass. Stroke volume 80 ml.", {}),
        ("LVEF 45-50 %.", {"lvef_percent": 47.5}),
        ("LVEF is preserved (55-75 %).", {}),
        ("EF moderately reduced (35-40 %).", {"lvef_percent": 37.5}),
        ("RVEF improved from 30 % to 45 %.", {"rvef_percent": 45}),
        ("EF: RV 40 %, LV 55 %.", {"lvef_percent": 55, "rvef_percent": 40}),
        ("LV end-diastolic volume fell from 250 ml to 200 ml.", {"lv_edv_ml": 200}),
    ],
)  # fmt: skip
def test_numbers(text, expected):
    assert {one.name: one.value for one in numbers.extract(text)} == expected


def test_a_range_keeps_its_ends_and_its_unit():
    (one,) = numbers.extract("LVEF 55–60 %.")
    assert (one.value, one.low, one.high, one.unit, one.section) == (57.5, 55, 60, "%", "findings")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Mild to moderate mitral regurgitation.", ("mitral_regurgitation", "mild-moderate", "")),
        ("Mitral regurgitation is severe.", ("mitral_regurgitation", "severe", "")),
        ("Moderately dilated left atrium.", ("la_dilation", "moderate", "")),
        ("Trace pericardial effusion.", ("pericardial_effusion", "trace", "")),
        ("The ascending aorta is dilated.", ("aortic_dilation", "", "ascending aorta")),
        ("Subendocardial LGE in the LAD territory.", ("late_enhancement", "", "subendocardial, lad territory")),
        ("Ejection fraction is mildly reduced at 45%.", ("lv_dysfunction", "mild", "")),
        ("Severely impaired LVEF of 25 %.", ("lv_dysfunction", "severe", "")),
        ("RV systolic function is moderately reduced.", ("rv_dysfunction", "moderate", "")),
        ("LV volumes are mildly increased.", ("lv_dilation", "mild", "")),
        ("Right ventricle: dilated. EF is reduced.", ("rv_dilation rv_dysfunction", "", "")),
        ("The aorta is normal in size. EF is severely reduced.", ("lv_dysfunction", "severe", "")),
        ("Extensive mid-wall LGE of the lateral wall.", ("late_enhancement", "severe", "mid-wall, lateral")),
    ],
)  # fmt: skip
def test_severity_and_place(text, expected):
    found = [one for one in labels.extract(text, TABLE) if one.state == "present"]
    assert (" ".join(one.name for one in found), found[0].severity, found[0].location) == expected


def test_each_of_a_list_has_its_own_severity():
    found = {
        one.name: one.severity for one in labels.extract("Moderate mitral and mild tricuspid regurgitation.", TABLE)
    }
    assert found == {"mitral_regurgitation": "moderate", "tricuspid_regurgitation": "mild"}


def test_only_findings_and_impression_speak_and_the_impression_wins():
    text = "INDICATION: Myocarditis.\nTECHNIQUE: LGE.\nCOMPARISON: Pericardial effusion.\nPLAN: Sarcoidosis.\n"
    assert _states(text) == {}
    text += "FINDINGS: The LV is dilated. Mild MR.\nIMPRESSION: LV dilation is not present."
    assert _states(text) == {"lv_dilation": "absent", "mitral_regurgitation": "present"}


def test_within_a_section_present_stands_over_absent():
    assert _states("The LV is normal in size at the base. The LV is dilated at the apex.") == {"lv_dilation": "present"}


def test_nothing_raises_on_any_text():
    draw = random.Random(0)
    words = (
        [" ".join(key) for key in TABLE.entries] + list(",.;:()/-–%\n ") + ["", "55", "1e999", "0.0.1", "ß", "\u2028"]
    )
    for _ in range(400):
        text = draw.choice((" ", "")).join(draw.choice(words) for _ in range(draw.randrange(40)))
        for row in text_labels.rows("id", text):
            assert row.get("state", "present") in ("present", "absent", "uncertain")


def test_labels_of_the_table_stand_over_those_of_the_text():
    found = text_labels.rows("id", "LVEF 40 %. The LV is dilated. No scar.")
    merged = text_labels.merge([("lv_dilation", "absent"), ("group", ""), ("lvef_percent", "")], found)
    assert merged == [
        ("lv_dilation", "absent", "table"),
        ("group", "", "table"),
        ("late_enhancement", "absent", "text"),
        ("lvef_percent", "40", "text"),
    ]


def test_the_evaluation_takes_the_states_as_a_yes_or_no_label():
    label = parse_label("lv_dilation", ["present", "absent", "uncertain", ""])
    assert (label.classes, label.codes.tolist(), label.positive) == (("absent", "present"), [1, 0, -1, -1], 1)


def test_a_phrase_file_adds_and_takes_away(tmp_path):
    file = tmp_path / "own.yaml"
    file.write_text(
        "findings:\n  late_enhancement: {present: [bright stripe, -scar]}\n  thrombus: {present: [thrombus]}\n"
        "cues: {not: [no trace of]}\n"
    )
    table = phrases.read(str(file))
    found = labels.extract("Bright stripe of the septum. No trace of thrombus. Scar.", table)
    assert [(one.name, one.state) for one in found] == [("late_enhancement", "present"), ("thrombus", "absent")]
    assert labels.extract("Scar.", table) == []
    assert _states("Bright stripe. Thrombus.") == {}
    assert text_labels.fingerprint(str(file)) != text_labels.fingerprint()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("findings: [", "line 1"),
        ("findings:\n  a: {present: [b]}\n c: [\n", "line 3"),
        ("finding: {}", "finding: unknown part; did you mean 'findings'"),
        ("cues: {nott: [none]}", "cues.nott: unknown; did you mean 'not'"),
        ("findings: {A b: {present: [x]}}", "findings.A b: a name is lower case"),
        ("findings: {a: {presnt: [x]}}", "findings.a.presnt: unknown"),
        ("findings: {a: {present: x}}", "findings.a.present: must be a list"),
        ("findings: {a: {present: [['x']]}}", "findings.a.present: .* is not a phrase"),
        ("findings: {a: {present: [mitral regurgitation, scar]}}", "'scar' stands under"),
        ("- a", "must hold a mapping"),
    ],
)
def test_a_mistake_in_a_phrase_file_is_named(tmp_path, content, message):
    file = tmp_path / "own.yaml"
    file.write_text(content)
    with pytest.raises(InputError, match=message) as caught:
        phrases.read(str(file))
    assert "\n" not in str(caught.value)
    assert str(tmp_path) not in str(caught.value)


def test_a_missing_phrase_file_is_an_input_error(tmp_path):
    with pytest.raises(InputError, match="No such file"):
        phrases.read(str(tmp_path / "no.yaml"))


def test_two_letters_in_a_line_of_capitals_are_no_abbreviation():
    assert _states("LIMITED STUDY AS ABOVE. MILD MITRAL REGURGITATION.") == {"mitral_regurgitation": "present"}
    assert _states("Moderate AS.") == {"aortic_stenosis": "present"}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        # a cue behind its finding, with an adverb, and what turns it
        ("Suspicion of sarcoidosis is not convincingly confirmed.", {"sarcoidosis": "absent"}),
        ("We cannot confidently exclude myocarditis.", {"myocarditis": "uncertain"}),
        ("The pericardial effusion has not entirely resolved.", {"pericardial_effusion": "present"}),
        ("Previously seen myocarditis has resolved.", {"myocarditis": "absent"}),
        ("Known HCM, LGE not seen.", {"late_enhancement": "absent"}),
        ("Evidence of previous myocarditis.", {"myocarditis": "present"}),
        ("Previous myocarditis.", {}),
        ("Myocarditis?", {"myocarditis": "uncertain"}),
        # a value without a measure, a measure without a value
        ("RV is dilated and impaired.", {"rv_dilation": "present", "rv_dysfunction": "present"}),
        ("LV not impaired.", {"lv_dysfunction": "absent"}),
        ("Impaired LV relaxation.", {}),
        ("Shortening is impaired in the LV.", {}),
        ("The RV is borderline in size.", {"rv_dilation": "uncertain"}),
        # a sign gives way to its finding
        ("Hypertrabeculated apex, not meeting criteria for non-compaction.", {"non_compaction": "absent"}),
        ("Hypertrabeculated apex.", {"non_compaction": "present"}),
        ("No hypertrabeculation.", {"non_compaction": "absent"}),
        # what "normal" says of a whole structure, and what it does not
        ("Normal LV.", {"lv_dilation": "absent", "lv_dysfunction": "absent", "lv_hypertrophy": "absent"}),
        ("Good LV views.", {}),
        ("Good LV.", {}),
        ("Normal chamber sizes.", {f"{one}_dilation": "absent" for one in ("la", "lv", "ra", "rv")}),
        ("Aortic valve: tricuspid.", {"bicuspid_aortic_valve": "absent"}),
        ("Aortic valve: tricuspid regurgitation.", {"tricuspid_regurgitation": "present"}),
        ("Pericardium thin, without enhancement.", {}),
        # a title says what a sentence is about, what follows whether it is there; a method is no finding
        ("Late gadolinium enhancement: No scar.", {"late_enhancement": "absent"}),
        ("LGE: There is no myocardial scar or fibrosis.", {"fibrosis": "absent", "late_enhancement": "absent"}),
        ("Pericardial effusion: normal.", {"pericardial_effusion": "absent"}),
        ("LGE: not performed.", {}),
        ("LGE: mid-wall septal.", {"late_enhancement": "present"}),
        ("Late enhancement imaging shows no fibrosis.", {"fibrosis": "absent"}),
    ],
)  # fmt: skip
def test_rules(text, expected):
    assert _states(text) == expected
