"""Letters of clinical phantoms: what they state is what was read, what was not acquired is not spoken of, and
preprocessing understands them."""

import collections
import dataclasses
import difflib
import re

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from sklearn.feature_extraction.text import CountVectorizer
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import cross_val_predict
from sklearn.naive_bayes import MultinomialNB
from sklearn.pipeline import make_pipeline

from preprocessing import labels, numbers, phrases, sections
from preprocessing.phantom.findings import SERIES
from preprocessing.phantom.grammar import authors, layout, letter, reading, rules
from preprocessing.phantom.grammar.impression import Concluder
from tests.preprocessing.phantom import expected, made_findings

COUNT = 500
ALL = frozenset(SERIES)
NAMES = {
    "lv_edv_ml": "edv",
    "lv_esv_ml": "esv",
    "lv_edvi_ml_m2": "edvi",
    "lv_esvi_ml_m2": "esvi",
    "lv_mass_g": "mass",
    "lv_massi_g_m2": "massi",
    "rvef_percent": "rvef",
    "rv_edv_ml": "rv_edv",
    "rv_esv_ml": "rv_esv",
    "rv_edvi_ml_m2": "rv_edvi",
    "rv_esvi_ml_m2": "rv_esvi",
}
# Words that need a series, as a pattern of the series' names: (words, series of which one must have been acquired).
LEXICON = (
    (r"LGE|late|delayed|gadolinium|enhancement|scar\w*|fibrosis|transmural\w*|\w*endocardial|\w*epicardial"
     r"|mid-?wall|intramural|viab\w*|insertion|sarcoid\w*", r"lge_"),
    (r"T1|MOLLI", "t1_map"),
    (r"T2|o?edema", "t2_map"),
    (r"amyloid\w*|infiltrat\w*", "lge_|t1_map|cine_"),
    (r"RVEF|RVEDVI?|RV E[DS]V|[Mm]ass|D-shaped|flatten\w*", "cine_sax"),
    (r"RV|[Rr]ight ventric\w*|[Bb]iventricular|ARVC", "cine_sax|cine_4ch"),
    (r"RA|[Rr]ight atri\w+|atria", "cine_4ch"),
    (r"LA|atrium|[Ll]eft atrial", "cine_2ch|cine_4ch"),
    (r"LVE[DS]VI?|EDV|stroke|[Vv]olumes?", "cine_sax|cine_[24]ch"),
    (r"apex", "2ch|3ch|4ch"),
    (r"\w*EF|[Ee]jection|[Ss]ystolic|[Ww]all motion|\w*kine\w+|[Hh]ypertroph\w*|LVH|thick\w*|effusion|dilat\w*"
     r"|trabecul\w*|[Tt]hrombus|aneurysm\w*|contract\w*|[Ss]tructurally", "cine_"),
)  # fmt: skip


@dataclasses.dataclass
class Case:
    findings: made_findings.Findings
    plan: letter.Plan
    parts: letter.Sections
    text: str


def compose(seed, findings, **changed):
    who = {"patient_name": "Testwell^Ada", "study_date": "20200304", "physician": "Nobody^Una"}
    return letter.compose(np.random.default_rng(seed), findings, **{**who, **changed})


def case(seed: int, findings: made_findings.Findings | None = None) -> Case:
    findings = findings or made_findings.draw(np.random.default_rng([7, seed]))
    rng = np.random.default_rng(seed)
    plan = letter.plan(rng, findings)
    return Case(findings, plan, letter.sections(rng, findings, plan), compose(seed, findings))


@pytest.fixture(scope="module")
def cases() -> list[Case]:
    return [case(seed) for seed in range(COUNT)]


def _speaking(text: str) -> str:
    return "\n".join(block.text for block in sections.split(text) if block.section in labels.SPEAKING)


def _allowed(one: Case) -> set[float]:
    """Every number that the findings and the impression may hold."""
    reading, author = one.plan.reading, one.plan.author
    out = {float(value) for value in reading.numbers.values()} | {2.3, 3.0, 6.0, 12.0}
    out |= {float(n) for low_high in ("1-25", "26-50", "51-75", "76-100") for n in low_high.split("-")}
    if "lvef" in reading.numbers:
        out |= set(map(float, authors.said_fraction(author, reading)))
        if one.findings.prior_lvef is not None:
            said = authors.fraction(author, reading, one.findings.prior_lvef)
            out |= set(map(float, re.findall(r"\d+", said)))
    if author.numbered_segments:
        out |= set(map(float, range(1, 18)))
    if author.table == "ranges":
        out |= {float(n) for by in layout.RANGES.values() for n in by[one.findings.sex].split("-")}
    return out


@given(st.integers(0, 2**32 - 1), st.booleans())
@settings(max_examples=400, deadline=None)
def test_every_number_stated_is_the_reading(seed, possible):
    rng = np.random.default_rng([7, seed])
    one = case(seed, made_findings.draw(rng) if possible else made_findings.anything(rng))
    said = _speaking(one.text)
    said = re.sub(r"(?m)^Patient: .*|^Date of exam: .*|^\d+\. |\bT[12]\b|m2\b", "", said)
    assert set(map(float, re.findall(r"\d+(?:\.\d+)?", said))) <= _allowed(one)
    reading = one.plan.reading.numbers
    for number in numbers.extract(one.text):
        if number.name in NAMES:
            assert number.value == reading[NAMES[number.name]], number
        if number.name in ("t1_ms", "t2_ms"):
            assert number.value in (reading[number.name[:2]], reading[f"{number.name[:2]}_max"]), number


@given(st.integers(0, 2**32 - 1))
@settings(max_examples=200, deadline=None)
def test_a_reading_is_the_truth_with_a_readers_error_and_agrees_with_itself(seed):
    one = made_findings.draw(np.random.default_rng(seed))
    one = dataclasses.replace(one, acquired=ALL)
    n = reading.read(np.random.default_rng(seed), one).numbers
    assert abs(n["lvef"] - one.lvef) <= 2.5 * 2.5 + 1.0
    assert n["edv"] == pytest.approx(one.edv_ml, rel=0.104, abs=0.5)
    assert n["sv"] == n["edv"] - n["esv"]
    assert n["lvef"] == round(100 * n["sv"] / n["edv"])
    assert n["edvi"] == round(n["edv"] / one.bsa_m2)
    assert n["rvef"] == round(100 * (n["rv_edv"] - n["rv_esv"]) / n["rv_edv"])


def test_readers_err_as_much_as_readers_do():
    one = dataclasses.replace(made_findings.draw(np.random.default_rng(3)), acquired=ALL)
    drawn = [reading.read(np.random.default_rng(seed), one).numbers for seed in range(1000)]
    assert 2.0 < np.std([n["lvef"] for n in drawn]) < 3.0
    assert abs(np.mean([n["lvef"] for n in drawn]) - one.lvef) < 0.5
    assert 0.035 < np.std([n["edv"] for n in drawn]) / one.edv_ml < 0.045


@given(st.integers(0, 2**32 - 1), st.sets(st.sampled_from(SERIES)), st.booleans())
@example(162905, {"cine_3ch", "lge_3ch"}, True)  # "insertiion points": a typist's slip is no right ventricle
@settings(max_examples=600, deadline=None)
def test_nothing_is_said_of_series_that_were_not_acquired(seed, acquired, possible):
    rng = np.random.default_rng(seed)
    findings = made_findings.draw(rng) if possible else made_findings.anything(rng)
    findings = dataclasses.replace(findings, acquired=frozenset(acquired))
    parts = sections.sections(compose(seed, findings))
    said = re.sub(
        r"of wall \w+|[Ff]ull-thickness|[Aa]trial fibrillation|(?:RV|right ventricular) (?:insertion|\w+ points)",
        "",
        f"{parts['findings']}\n{parts['impression']}",
    )
    for words, series in LEXICON:
        if not any(re.search(series, name) for name in acquired):
            assert not re.search(rf"\b(?:{words})\b", said), said
            if not re.search("cine_|chamber|apex", series):
                assert not re.search(rf"\b(?:{words})\b", parts["technique"]), parts["technique"]


def test_the_lexicon_is_alive():
    """Each line of it matches what is said where everything was acquired, so that its silence means something."""
    drawn = [dataclasses.replace(made_findings.draw(np.random.default_rng(n)), acquired=ALL) for n in range(300)]
    text = "\n".join(compose(n, one) for n, one in enumerate(drawn))
    for words, _ in LEXICON:
        dead = [word for word in words.split("|") if not re.search(rf"\b(?:{word})\b", text)]
        assert not dead


def test_ejection_fractions_are_recovered(cases, capsys):
    told = [one for one in cases if "lvef" in one.plan.reading.numbers]
    right = 0
    for one in told:
        found = [n for n in numbers.extract(one.text) if n.name == "lvef_percent"]
        wanted = authors.said_fraction(one.plan.author, one.plan.reading)
        right += [(n.low, n.high) for n in found] == [wanted]
    with capsys.disabled():
        print(f" LVEF recovered in {right} of {len(told)}")
    assert len(told) > 0.9 * COUNT
    assert right >= 0.99 * len(told)


def test_no_ejection_fraction_is_read_where_none_was_measured(cases):
    blind = [one for one in cases if "lvef" not in one.plan.reading.numbers]
    assert blind
    assert not [n for one in blind for n in numbers.extract(one.text) if n.name == "lvef_percent"]


def test_sections_are_found(cases, capsys):
    found = total = 0
    for one in cases:
        parts = sections.sections(one.text)
        for name, text in dataclasses.asdict(one.parts).items():
            wanted = authors.spelt(one.plan.author, text)
            got = re.sub(r"\s*Electronically signed .*", "", parts[name])
            if name == "findings":  # letterheads and addenda count as findings
                got = re.sub(r"Patient: .*\nDate of exam: .*\n?", "", got)[: len(wanted) + 5]
            total += 1
            found += bool(wanted) == bool(got) and difflib.SequenceMatcher(None, wanted, got, False).ratio() > 0.98
    with capsys.disabled():
        print(f" {found} of {total} sections found")
    assert found >= 0.99 * total


def test_labels_say_what_was_seen(cases, capsys):
    """Over (report, section, label): what is said of it must be so; what is abnormal must be said somewhere."""
    table = phrases.read()
    right, wrong, missed = collections.Counter(), [], []
    for number, one in enumerate(cases):
        wanted = expected.states(one.findings, one.plan.reading)
        said = set()
        for name in labels.SPEAKING:
            text = f"{name.upper()}:\n{sections.sections(one.text)[name]}"
            for found in labels.extract(text, table):
                said.add(found.name)
                if found.state in wanted.get(found.name, ()):
                    right[found.state] += 1
                else:
                    wrong.append((number, name, found.name, found.state))
        graded = {*expected.GRADED, "late_enhancement", "pericardial_effusion"} - {"la_dilation", "ra_dilation"}
        missed += [(number, name) for name in graded - said if wanted.get(name) == {"present"}]
    total = sum(right.values()) + len(wrong)
    with capsys.disabled():
        print(
            f" labels: {total} said, {len(wrong)} wrong {wrong[:5]}, {len(missed)} missed {missed[:5]}; {dict(right)}"
        )
    assert min(right.values()) > 100
    assert len(wrong) <= 0.005 * total
    assert len(missed) <= 0.01 * COUNT


def _said_of_one(seed: int) -> tuple[str, str]:
    """Of one same heart, by whichever author."""
    findings = dataclasses.replace(made_findings.draw(np.random.default_rng(12)), acquired=ALL)
    rng = np.random.default_rng(seed)
    parts = letter.sections(rng, findings, letter.plan(rng, findings))
    return parts.findings, parts.impression


def _wording(text: str) -> str:
    return re.sub(r"\d+", "0", text)


def test_the_same_findings_are_worded_anew(cases, capsys):
    said = [_said_of_one(seed) for seed in range(COUNT)]
    found, concluded = ({part[at] for part in said} for at in (0, 1))
    wordings = [len({_wording(text) for text in texts}) for texts in (found, concluded)]
    words = collections.Counter(w for one in cases for w in re.findall(r"[^\W\d_]{2,}", one.text.lower()))
    with capsys.disabled():
        print(f" {len(found)} FINDINGS and {len(concluded)} IMPRESSIONS of {COUNT}, {wordings} without their numbers;"
              f" {len(authors.AUTHORS)} authors; {len(words)} words, {sum(n > 2 for n in words.values())} more"
              " than twice")  # fmt: skip
    assert len(found) >= 400
    assert len(concluded) >= 400
    assert min(wordings) >= 400
    assert len(authors.AUTHORS) >= 8
    assert len(words) > 500


def test_authors_keep_their_habits(cases):
    by_author = collections.defaultdict(list)
    for one in cases:
        by_author[one.plan.author.name].append(one)
    assert len(by_author) == len(authors.AUTHORS)
    for several in by_author.values():
        author = several[0].plan.author
        for one in several:
            assert f"{author.headings[3]}:" in one.text
            assert ("oedema" not in one.text) if not author.british else not re.search(r"\bedema|ischemi", one.text)
            assert not re.search(r"\d\s?(?:ml|cc)\b(?!/)" if author.ml == "mL" else r"\d\s?mL\b(?!/)", one.text)


def test_slips_are_few_and_never_in_numbers_or_headings(cases, capsys):
    slips = words = letters = 0
    for one in cases:
        clean = authors.spelt(one.plan.author, "\n".join(dataclasses.asdict(one.parts).values()))
        said = one.text
        for heading, text in zip(one.plan.author.headings, dataclasses.astuple(one.parts), strict=True):
            assert (f"{heading}:" in said) == bool(text)
        known = collections.Counter(re.findall(r"[a-z]{6,}", clean))
        slips_here = sum((known - collections.Counter(re.findall(r"[a-z]{6,}", said))).values())
        slips += slips_here
        letters += slips_here > 0
        words += len(re.findall(r"\w+", clean))
    with capsys.disabled():
        print(f" {slips} slips in {words} words, in {letters} of {COUNT} letters")
    assert 0 < slips < 0.003 * words
    assert letters < 0.25 * COUNT


def test_a_letter_follows_from_its_chances():
    findings = made_findings.draw(np.random.default_rng(1))
    assert compose(1, findings) == compose(1, findings)
    assert len({compose(seed, findings) for seed in range(20)}) == 20


def test_a_letter_at_times_has_head_signature_and_addendum(cases):
    texts = [one.text for one in cases]
    for words, low, high in (
        ("Testwell, Ada", 0.2, 0.4),
        ("signed by Dr Nobody Una", 0.08, 0.22),
        ("ADDENDUM:", 0.01, 0.1),
    ):
        assert low < sum(words in text for text in texts) / COUNT < high


def test_doubt_grows_as_disease_gets_milder():
    doubt = r"possible|cannot (?:be )?exclude|suspicious|consider|may re|suspicion|questionable|equivocal|faint"
    rates = []
    for low, high in ((0.05, 0.3), (0.7, 1.0)):
        drawn = (made_findings.draw(np.random.default_rng([9, n])) for n in range(700))
        chosen = [one for one in drawn if low < one.diseases[0][1] < high]
        texts = [sections.sections(compose(n, one))["impression"] for n, one in enumerate(chosen)]
        rates.append(sum(bool(re.search(doubt, text)) for text in texts) / len(texts))
    assert rates[0] > 2 * rates[1]


def test_prior_visits_are_compared_with(cases):
    told = [one for one in cases if one.findings.prior_date]
    assert told
    for one in told:
        assert authors.date(one.plan.author, one.findings.prior_date) in one.text
    with_change = [one for one in told if one.findings.prior_lvef is not None and "lvef" in one.plan.reading.numbers]
    said = [one for one in with_change if re.search(r"previous|from|prior study", _speaking(one.text))]
    assert len(said) > 0.5 * len(with_change)


def test_words_are_clean(cases):
    for one in cases:
        for text in dataclasses.astuple(one.parts):
            prose = "\n".join(line for line in text.splitlines() if "  " not in line.strip() and "|" not in line)
            assert not re.search(r"[{}<\[\]]| [ ,;.)]|\.\.|\( |\ba [aeiou]", prose), text
            assert not text or text[0].isupper() or text[0].isdigit() or text[0] in "-|?", text


def test_only_tables_hold_double_spaces(cases):
    for one in cases:
        wide = [line for line in one.text.splitlines() if "  " in line.strip()]
        assert not wide or one.plan.author.table in ("columns", "ranges")
        assert all(re.match(r"(?:LV|RV|LA|RA|BSA|Heart|Output)", line) for line in wide)


def test_every_rule_is_said(monkeypatch):
    used = set()
    say = rules.Speaker.say

    def recorded(self, rule, **values):
        used.add(rule)
        return say(self, rule, **values)

    monkeypatch.setattr(rules.Speaker, "say", recorded)
    for seed in range(3 * COUNT):
        case(seed)
    assert set(rules.read()) == used


def test_every_reference_of_a_rule_exists():
    table = rules.read()
    for alternatives in table.values():
        for text in alternatives:
            assert isinstance(text, str)
            assert text.count("[") == text.count("]")
            assert set(re.findall(r"<([\w.]+)>", text)) <= set(table), text


def _auc(texts: list[str], groups: list[str]) -> float:
    model = make_pipeline(CountVectorizer(ngram_range=(1, 2)), MultinomialNB())
    scores = np.asarray(cross_val_predict(model, texts, groups, cv=4, method="predict_proba"))
    return float(roc_auc_score(groups, scores, multi_class="ovr"))


def _sees_nothing(one: Case) -> bool:
    speaker = rules.Speaker(np.random.default_rng(0), one.plan.author.name, {})
    return Concluder(speaker, one.plan.author, one.findings, one.plan.reading).is_normal()


def test_a_referral_hints_at_the_disease_and_no_more(cases, capsys):
    groups = [one.findings.diseases[0][0] for one in cases]
    referred = _auc([one.parts.indication for one in cases], groups)
    technique = _auc([one.parts.technique for one in cases], groups)
    found = _auc([f"{one.parts.findings} {one.parts.impression}" for one in cases], groups)
    with capsys.disabled():
        print(
            f" AUC of the disease from the indication {referred:.2f}, technique {technique:.2f}, findings {found:.2f}"
        )
    assert technique < 0.56
    assert 0.55 < referred < 0.78
    assert found > referred + 0.1


def test_a_referral_says_nothing_of_a_disease_that_is_not_seen(cases):
    blind = [(n, one) for n, one in enumerate(cases) if one.findings.diseases[0][1] and _sees_nothing(one)]
    assert len(blind) > 10
    for seed, one in blind:
        healthy = dataclasses.replace(one.findings, diseases=(("normal", 0.0),))
        assert case(seed, healthy).parts.indication == one.parts.indication
