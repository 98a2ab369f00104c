"""The scrubber on sentences of our own: [[spans]] that must go, cardiology that must stay (docs/privacy.md).

`phi_heldout.csv` was written after the rules, in two rounds, and measured before anything was mended for it: 47 of 51
and 37 of 40 spans were found then. `phi_sealed.csv` and `clean_sealed.csv` are the sealed half of a later round, kept
from the rules but written by the hand that mended them: 78 of 105 spans before, 103 of 105 after, 50 of 50 clean. Of 67
spans in unusual forms, written after that, 48 were found at first sight: that is nearer to what reports of other hands
will show. All that was missed has been mended as far as rules can; the spans of that last round are in
`phi_sentences.csv`.
"""

import csv
import importlib
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pydicom.dataset import Dataset

from cmr_jax.errors import InputError
from preprocessing import identifiers, scrub
from preprocessing.scrub_rules import RULES

HERE = Path(__file__).parent
PARSER: Any = importlib.import_module("re._parser")
SPAN = re.compile(r"\[\[(.*?)\]\]", re.DOTALL)
PLACEHOLDER = re.compile(r"\[(?:name|id|date|time|contact|address)\]|over 89")
# Words that go together with what they introduce: titles, degrees, names of fields, signatures.
CARRIERS = frozenset(
    "mr mrs ms miss mme dr prof frau herr md frcr mbbs electronically signed verified dictated transcribed reported"
    " approved interpreted read reviewed requested referred supervised attending referring physician and by es kind"
    " regards cc copies to patient name dob mrn accession number id no acc medical record hospital hosp case order exam"
    " encounter serial pacemaker device of the icd ur episode geburtsdatum address time report study date fax pager ext"
    " extension tel phone mobile dial at call technologist consultant cardiologist"
    " radiologist radiographer nom prénom né le nhs bleep tuesday yo y o e mail sex m".split()
)
# Names and numbers of a patient in whose report the clean sentences stand: eponyms and words of a report among them.
NAMES = ("Quagmire^Glenda^Li", "Ross^Bob", "Fallot^Mark", "Wall^Max", "Long^May", "TEST^PATIENT", "ANON-Clinic")
IDS = ("MRN774411", "1.2.840.99.1", "K-17B", "123", "180", "MRI", "Cardiac MRI")


def read(name: str) -> list[dict[str, str]]:
    with (HERE / f"{name}.csv").open(newline="", encoding="utf-8") as file:
        return [{**row, "text": row["text"].replace("\\n", "\n")} for row in csv.DictReader(file)]


def words(text: str) -> Counter[str]:
    return Counter(re.findall(r"\w+", text.lower()))


def judge(row: dict[str, str]) -> tuple[list[str], int, Counter[str], Counter[str]]:
    """(spans left, number of spans, words removed, words removed that neither identify nor introduce)."""
    marked = row["text"]
    spans, outside = SPAN.findall(marked), words(SPAN.sub(" ", marked))
    plain = SPAN.sub(r"\1", marked)
    names, ids = (row[key].split("|") if row[key] else [] for key in ("names", "ids"))
    kept = words(PLACEHOLDER.sub(" ", scrub.scrub(plain, names, ids)))
    left = [span for span in spans if any(kept[word] > outside[word] for word in words(span))]
    lost = Counter({word: n - kept[word] for word, n in outside.items() if word not in CARRIERS and n > kept[word]})
    return left, len(spans), words(plain) - kept, lost


# On the sentences that the rules were tuned on nothing may be missed, or one rule could go without a test that fails.
@pytest.mark.parametrize(
    ("name", "fewest", "least"), [("phi_sentences", 250, 1.0), ("phi_heldout", 60, 0.98), ("phi_sealed", 75, 0.98)]
)
def test_recall_and_precision_on_sentences_that_identify(name: str, fewest: int, least: float, capsys):
    rows = read(name)
    judged = [judge(row) for row in rows]
    spans, removed = sum(j[1] for j in judged), sum((j[2] for j in judged), Counter()).total()
    left, lost = [s for j in judged for s in j[0]], sum((j[3] for j in judged), Counter())
    recall, precision = 1 - len(left) / spans, 1 - lost.total() / removed
    with capsys.disabled():
        print(f"\n{name}: {len(rows)} sentences, {spans} spans: recall {recall:.3f}, precision {precision:.3f}")
    assert len(rows) >= fewest
    assert recall >= least, left
    # Header blocks of one line go whole, with the labels and the words that share the line.
    assert precision >= (0.94 if name == "phi_sealed" else 0.98), lost


@pytest.mark.parametrize(("name", "fewest"), [("clean_sentences", 190), ("clean_sealed", 50)])
def test_clean_sentences_come_through_untouched(name: str, fewest: int, capsys):
    texts = [row["text"] for row in read(name)]
    changed = [(text, out) for text in texts if (out := scrub.scrub(text, NAMES, IDS)) != text]
    share = 1 - len(changed) / len(texts)
    with capsys.disabled():
        print(f"\n{name}: {share:.3f} of {len(texts)} untouched")
    assert len(texts) >= fewest
    assert share == 1, changed


@pytest.mark.parametrize(
    ("eponym", "term"),
    [
        ("Fallot", "repaired tetralogy of Fallot"),
        ("Fontan", "Fontan circulation"),
        ("Fabry", "Anderson-Fabry disease"),
        ("Anderson", "Anderson-Fabry disease"),
        ("Mustard", "s/p Mustard"),
        ("Ross", "Ross procedure"),
        ("Swan", "Swan-Ganz catheter"),
        ("Takotsubo", "Takotsubo cardiomyopathy"),
        ("Eisenmenger", "Eisenmenger physiology"),
        ("Ebstein", "Ebstein's anomaly"),
        ("Marfan", "Marfan syndrome"),
        ("Danon", "Danon disease"),
        ("Loeffler", "Loeffler endocarditis"),
        ("Chagas", "Chagas disease"),
        ("Kawasaki", "Kawasaki disease"),
        ("Takayasu", "Takayasu arteritis"),
        ("Simpson", "Simpson method"),
        ("Beutel", "Beutel classification"),
    ],
)
def test_an_eponym_stays_a_term_and_goes_as_a_name(eponym: str, term: str):
    text = f"Known {term}. Mr {eponym} and Jo {eponym} were seen, then {eponym} left."
    out = scrub.scrub(text, [f"{eponym}^Jo"], [])
    assert out.startswith(f"Known {term}.")
    assert eponym not in out.removeprefix(f"Known {term}")
    assert "Jo " not in out


def test_combining_accents_are_the_same_name():
    assert scrub.scrub("Seen: Mu\u0308ller again.", ["M\u00fcller^Eva"], []) == "Seen: [name] again."
    assert scrub.scrub("Seen on 12. Ma\u0308rz 2021.", [], []) == "Seen on [date]."


@pytest.mark.parametrize(
    ("name", "text", "left"),
    [
        ("Smith^John", "J Smith was scanned. Type B Smith.", "[name] was scanned. Type B [name]."),
        ("Cook^Grant", "GRANT COOK - dilated. Grant of a cook.", "[name] - dilated. Grant of a cook."),
        ("Smith^John", "JS tolerated it.", "[name] tolerated it."),
        ("Vale^Liz", "LV returned to normal size.", "LV returned to normal size."),
    ],
)
def test_initials_and_names_that_are_words(name: str, text: str, left: str):
    assert scrub.scrub(text, [name], []) == left


def test_a_person_named_only_in_a_nested_item_is_found():
    inner = Dataset()
    inner.RequestingPhysician = "Quagmire^Glenda"
    middle, outer = Dataset(), Dataset()
    middle.RequestAttributesSequence = [inner]
    outer.ReferencedStudySequence = [middle]
    assert list(identifiers.names(outer)) == ["Quagmire^Glenda"]


def test_a_name_is_not_found_inside_other_words():
    assert scrub.scrub("Banner and annular plane, Annette.", ["Ann^Li"], []) == "Banner and annular plane, Annette."


@pytest.mark.parametrize(
    "name", ["----", "'", "-^-", "- -", " ' ' ", "^^^", "??", "...", "\u0301\u0301", "\\", "[(", "\ufffd\ufffd"]
)
def test_a_name_without_a_letter_is_nobody_and_stops_nothing(name: str):
    """Hospitals fill a field that must not be empty with strokes."""
    text = "Seen with Jane. T1 - T2, 4-chamber; patient's EF 60 %"
    assert scrub.scrub(text, [name, "Doe^Jane"], [name]) == text.replace("Jane", "[name]")


def endless(pattern: Any, inside: bool = False) -> Iterator[str]:
    """Repeats without bound in a parsed `pattern` that can be tried in many ways: of more than a class, or nested."""
    for op, value in pattern:
        name, inner, over = str(op), inside, [value]
        if name in ("MAX_REPEAT", "MIN_REPEAT") and value[1] == PARSER.MAXREPEAT:
            body, inner = value[2], True
            if inside or len(body) != 1 or str(body[0][0]) not in ("IN", "LITERAL", "NOT_LITERAL", "CATEGORY"):
                yield name
        while over:
            one = over.pop()
            if isinstance(one, PARSER.SubPattern):
                yield from endless(one, inner)
            elif isinstance(one, (list, tuple)):
                over += one


def test_no_rule_can_be_tried_in_too_many_ways():
    """So that no text makes a rule slow: what repeats without bound is one class of characters, and never nested."""
    assert list(endless(PARSER.parse(r"(?:a+b?)+"))) and list(endless(PARSER.parse(r"(a[b-d]*){1,3}(?:(?:e)*x)*")))
    assert not list(endless(PARSER.parse(r"(?:a[ \t]+){0,3}\w*")))
    slow = [pattern.pattern for pattern, _ in RULES if list(endless(PARSER.parse(pattern.pattern)))]
    assert len(RULES) > 100 and not slow


def raising(text: str) -> str:
    raise ValueError(f"cannot read: {text}")


def numbering(text: str) -> int:
    return len(text)


@pytest.mark.parametrize("hook", [raising, numbering])
def test_a_hook_that_fails_is_told_without_what_it_saw(hook):
    with pytest.raises(scrub.HookFailed) as caught:
        scrub.apply_hook(hook, "Glenda Quagmire")
    assert caught.value.args == () and caught.value.__cause__ is None and caught.value.__context__ is None


def test_the_hook_of_a_site_is_found_or_refused():
    assert scrub.load("") is None
    hook = scrub.load("textwrap:dedent")
    assert hook is not None and scrub.apply_hook(hook, "  a") == "a"
    for bad in ("nowhere_at_all:f", "textwrap:nothing", "textwrap", ":f"):
        with pytest.raises(InputError, match="--scrubber"):
            scrub.load(bad)
