"""Reports say the truth, all of it visible, and give nothing away before the findings."""

import collections
import dataclasses
import re

import numpy as np
import pytest
from sklearn.feature_extraction.text import CountVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from preprocessing.phantom import reading, reports, study, truth

SETTINGS = study.Settings(studies=300, seed=2, phases=8)


@pytest.fixture(scope="module")
def written() -> list[tuple[truth.Truth, reports.Sections]]:
    return [
        (built, study.sections_of(SETTINGS, visit, built, prior))
        for visit in study.visits(SETTINGS)
        for built, _, prior in [study.draw(SETTINGS, visit)]
    ]


def _by_group(written, group: str):
    return [(built, parts) for built, parts in written if built.targets.group == group]


def _auc(texts: list[str], group: list[str]) -> float:
    model = make_pipeline(CountVectorizer(ngram_range=(1, 2)), LogisticRegression(C=0.1, max_iter=1000))
    scores = cross_val_predict(model, texts, group, cv=4, method="predict_proba")
    return float(roc_auc_score(group, scores, multi_class="ovr"))


def test_indication_does_not_give_the_group_away_and_findings_do(written):
    group = [built.targets.group for built, _ in written]
    blind = [f"{parts.indication} {parts.technique} {parts.comparison}" for _, parts in written]
    assert _auc(blind, group) < 0.62
    assert _auc([f"{parts.findings} {parts.impression}" for _, parts in written], group) > 0.97


def test_demographics_do_not_give_the_group_away(written):
    people = [built.targets for built, _ in written]
    features = np.array([[p.sex == "M", p.age, p.weight_kg, p.height_m, p.heart_rate] for p in people], float)
    model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000))
    group = [p.group for p in people]
    scores = cross_val_predict(model, features, group, cv=4, method="predict_proba")
    assert roc_auc_score(group, scores, multi_class="ovr") < 0.62


def test_normal_reports_repeat_word_for_word(written):
    normal = [(parts.findings, parts.impression) for _, parts in _by_group(written, "normal")]
    counts = collections.Counter(normal)
    repeated = sum(n for n in counts.values() if n > 1) / len(normal)
    assert 0.5 <= repeated <= 0.85
    assert len(counts) > 0.15 * len(normal)


def test_diseased_reports_vary(written):
    for group in truth.GROUPS[1:]:
        texts = [f"{parts.findings} {parts.impression}" for _, parts in _by_group(written, group)]
        assert len(set(texts)) > 0.97 * len(texts)
        wording = {re.sub(r"\d+", "0", text) for text in texts}
        assert len(wording) > 0.9 * len(texts)


def test_ejection_fraction_in_words_is_the_truth(written):
    said = 0
    for built, parts in written:
        for text in (parts.findings, parts.impression):
            for name, low, high in re.findall(
                r"\b(LVEF|ejection fraction|EF|RVEF)\b\D{0,20}?(\d+)(?:-(\d+))? ?%", text
            ):
                true = built.rv_ef if name == "RVEF" else built.lvef
                middle = (int(low) + int(high)) / 2 if high else int(low)
                assert abs(middle - true) <= 2.6
                said += 1
    assert said > 300


def test_volumes_walls_and_mass_in_words_are_the_truth(written):
    said = collections.Counter()
    for built, parts in written:
        text = f"{parts.findings} {parts.impression}"
        patterns = {
            r"\(EDV (\d+) mL|end-diastolic volume (\d+) ml": built.edv,
            r"RV EDV (\d+) mL": built.rv_edv,
            r"LV mass (\d+) g": built.mass,
            r"(\d+) mm": built.wall_max,
        }
        for pattern, true in patterns.items():
            for match in re.finditer(pattern, text):
                number = next(int(g) for g in match.groups() if g)
                assert abs(number - true) <= 0.51
                said[pattern] += 1
    assert len(said) == 4 and min(said.values()) > 20


def test_statements_agree_with_the_truth(written):
    for built, parts in written:
        read = reading.read(built)
        text = f"{parts.findings} {parts.impression}".lower()
        positive = text.replace("no left ventricular hypertrophy", "")
        assert bool(re.search("hypertroph|lvh|thickened", positive)) == bool(read.wall)
        if built.targets.territory:
            assert built.targets.territory in text
            others = set(truth.TERRITORIES) - {built.targets.territory}
            assert not [word for word in others if re.search(rf"\b{word}\b", text)]
        else:
            assert "infarct" not in text and "akine" not in text and "dyskine" not in text
        assert "enhancement" not in text and "lge" not in text and "scar" not in text
        if built.targets.group == "normal":
            assert not (read.lv_function or read.wall)


def test_grades_rise_with_the_measure():
    assert [reading.grade(value, 10.0, 20.0, 30.0) for value in (9.0, 10.0, 25.0, 99.0)] == [
        "", "mild", "moderate", "severe"]  # fmt: skip


def test_severity_reaches_every_grade(written):
    for group, field in (("dilated", "lv_size"), ("hypertrophic", "wall"), ("right-ventricular", "rv_size")):
        grades = collections.Counter(getattr(reading.read(built), field) for built, _ in _by_group(written, group))
        assert min(grades[name] for name in ("mild", "moderate", "severe")) >= 4, (group, grades)
    assert {b.targets.territory for b, _ in _by_group(written, "infarcted")} == set(truth.TERRITORIES)


def test_letterhead_is_sometimes_there_and_sections_can_be_found_again(written):
    heads = 0
    for number, (_, parts) in enumerate(written[:100]):
        text = reports.compose(
            np.random.default_rng(number),
            parts,
            patient_name="Testwell^Ada",
            study_date="20200101",
            physician="Nobody^Una",
        )
        heads += "Testwell" in text
        for name in ("indication", "technique", "findings", "impression"):
            assert len(re.findall(rf"(?mi)^{name}:", text)) == 1
            assert getattr(parts, name) in text
        assert ("comparison:" in text.lower()) == bool(parts.comparison)
    assert 10 < heads < 60


def test_words_are_clean(written):
    for _, parts in written:
        for text in dataclasses.asdict(parts).values():
            assert "  " not in text and " ," not in text and ".." not in text and "( " not in text
            assert not text or text[0].isupper() or text[0].isdigit() or text[0] == "-", text
