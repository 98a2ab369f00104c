import dataclasses

import numpy as np
import pytest

from cmr_jax.errors import InputError
from cmr_jax.evals import retrieval
from cmr_jax.evals.retrieval import DIRECTIONS, KS
from tests.evals.synthetic import embeddings, relabel, unit


def test_a_constant_matrix_scores_chance():
    flat = np.ones((200, 8), np.float32)
    found = retrieval.metrics(flat, flat)
    for way in (*DIRECTIONS, "chance"):
        assert found[f"{way}/R@1"] == pytest.approx(0.5)
        assert found[f"{way}/R@50"] == pytest.approx(25)
        assert found[f"{way}/MedR"] == found[f"{way}/MeanR"] == 100.5
        assert found[f"{way}/MRR"] == pytest.approx(np.mean(1 / np.arange(1, 201)))


def test_perfect_pairs_score_100_and_depths_may_exceed_n():
    eye = np.eye(6, dtype=np.float32)
    found = retrieval.metrics(eye, eye, ks=(1, 50))
    for way in DIRECTIONS:
        assert [found[f"{way}/{name}"] for name in ("R@1", "R@50", "MedR", "MeanR", "MRR")] == [100, 100, 1, 1, 1]
    assert found["chance/R@50"] == pytest.approx(100)
    assert "duplicate_aware/image_to_text/R@1" not in found and "image_to_text/R@5" not in found


def test_identical_reports_cost_plain_recall_and_not_the_duplicate_aware_one():
    rng = np.random.default_rng(0)
    text = unit(rng.standard_normal((100, 64)))
    text[:30] = text[0]
    image = unit(text + 0.01 * rng.standard_normal((100, 64)))
    hashes = ["normal"] * 30 + [f"h{row}" for row in range(70)]
    found = retrieval.metrics(image, text, relevant_ids=hashes)
    assert found["image_to_text/R@1"] == pytest.approx(70 + 30 / 30)
    assert found["duplicate_aware/image_to_text/R@1"] == pytest.approx(100)
    # A query hits by chance with the share of its group: 30 queries 30 %, 70 queries 1 %.
    assert found["duplicate_aware/chance/R@1"] == pytest.approx(0.3 * 30 + 0.7 * 1)
    assert found["chance/R@1"] == pytest.approx(1)


def test_shuffled_pairs_fall_to_chance():
    source = embeddings(n=400)
    found = retrieval.metrics(source.image_NE, np.random.default_rng(3).permutation(source.text_NE))
    assert found["image_to_text/MeanR"] == pytest.approx(200.5, rel=0.1)
    assert retrieval.metrics(source.image_NE, source.text_NE)["image_to_text/MeanR"] < 20


def test_the_directions_are_named_by_what_asks_first():
    source = embeddings(n=60, noise=3.0)
    there = retrieval.metrics(source.image_NE, source.text_NE)
    back = retrieval.metrics(source.text_NE, source.image_NE)
    assert there["image_to_text/MeanR"] == back["text_to_image/MeanR"] != there["text_to_image/MeanR"]
    # Image 0 is nearer to text 1; text 0 is nearest to its image, and text 1 equally near to both.
    image, text = np.array([[2, 1], [1, 2]], np.float32), np.array([[1, 0], [2, 2]], np.float32)
    found = retrieval.metrics(image, text)
    assert (found["image_to_text/R@1"], found["text_to_image/R@1"]) == (50, 75)


@pytest.mark.parametrize(
    ("text", "ids", "ks", "message"),
    [
        (np.ones((4, 3), np.float32), None, (1,), "must agree"),
        (np.full((5, 3), np.nan, np.float32), None, (1,), "text embeddings hold NaN or infinity in 5 of 5 rows"),
        (np.ones((5, 3), np.float32), [1, 2], (1,), "as many relevant_ids"),
        (np.ones((5, 3), np.float32), None, (0,), "1 or more"),
        (np.ones((5, 3), np.int64), None, (1,), "float32 matrix"),
    ],
)
def test_what_cannot_be_scored_is_refused(text, ids, ks, message):
    with pytest.raises(InputError, match=message):
        retrieval.metrics(np.ones((5, 3), np.float32), text, relevant_ids=ids, ks=ks)


def test_evaluate_gives_every_figure_of_the_interface_with_its_interval():
    source = relabel(embeddings(n=120), report_hash=["normal"] * 20 + [f"hash{row}" for row in range(100)])
    found = retrieval.evaluate(source, labels=["group"], draws=60).figures
    point = retrieval.metrics(source.image_NE, source.text_NE, relevant_ids=source.reports())
    assert found["n_studies"] == 120 and found["n_patients"] == 60
    for prefix in ("", "duplicate_aware/"):
        for way in DIRECTIONS:
            for name in [*(f"R@{k}" for k in KS), "MedR", "MeanR", "MRR"]:
                key = f"{prefix}{way}/{name}"
                low, high = found[f"{key}/ci95"]
                assert found[key] == pytest.approx(point[key])
                assert low <= found[key] <= high
        assert found[f"{prefix}chance/R@5"] == pytest.approx(point[f"{prefix}chance/R@5"])
    for way in (*DIRECTIONS, *retrieval.WITHIN):
        for name in ("mAP", "P@10", "nDCG@10"):
            low, high = found[f"{way}/{name}/ci95"]
            assert 0 <= low <= found[f"{way}/{name}"] <= high <= 1
            assert found[f"{way}/{name}"] > found[f"{way}/chance/{name}"]


def test_intervals_are_a_function_of_the_seed():
    source = embeddings(n=60, noise=2.0)
    first, again, other = (retrieval.evaluate(source, draws=40, seed=seed).figures for seed in (0, 0, 1))
    assert first == again
    assert first != other


def test_studies_without_the_label_are_left_out_and_counted():
    source = embeddings(n=80)
    found = retrieval.evaluate(source, labels=["scar"], draws=0)
    known = [row for row, value in enumerate(source.ids["scar"]) if value]
    alone = retrieval.evaluate(source.take(np.array(known)), labels=["scar"], draws=0)
    assert found.figures["image_to_text/mAP"] == pytest.approx(alone.figures["image_to_text/mAP"], abs=1e-12)
    assert found.figures["image_to_text/mAP/ci95"] is None
    assert any(f"{len(known)} of 80" in note for note in found.notes)


def test_by_label_uncertain_is_no_label():
    source = embeddings(n=80)
    column = ["uncertain" if row % 5 == 0 else ("absent", "present")[row // 2 % 2] for row in range(80)]
    sides = (column, [value.replace("uncertain", "") for value in column])
    one, two = (retrieval.evaluate(relabel(source, scar=each), labels=["scar"], draws=0) for each in sides)
    assert one.figures == two.figures and one.notes == two.notes
    assert any("64 of 80 studies have the labels" in note for note in one.notes)


def test_the_own_patient_is_not_in_the_gallery_of_image_to_image():
    source = embeddings(n=40, signal=0.0)
    # Both studies of a patient are the same picture, and only they share a label.
    image = np.repeat(source.image_NE[::2], 2, axis=0)
    twins = relabel(dataclasses.replace(source, image_NE=image), pair=[str(row // 2) for row in range(40)])
    found = retrieval.evaluate(twins, labels=["pair"], draws=0)
    assert "image_to_image/mAP" not in found.figures and "image_to_text/mAP" in found.figures
    assert any(note.startswith("image_to_image: no study") for note in found.notes)


def test_an_unknown_label_names_the_nearest():
    with pytest.raises(InputError, match=r"'grup'.*did you mean 'group'"):
        retrieval.evaluate(embeddings(n=20), labels=["grup"])


def test_blank_report_hashes_are_not_the_same_report():
    source = embeddings(n=20)
    blank = relabel(source, report_hash=[""] * 20)
    assert retrieval.evaluate(blank, draws=0).figures["duplicate_aware/chance/R@1"] == pytest.approx(5)


def test_several_texts_a_study_are_each_a_query_and_each_a_hit():
    image = np.eye(3, dtype=np.float32)
    # Study 0 has a text like image 1 and a good one; study 1 and 2 have one each.
    text = np.array([[0, 1, 0], [1, 0, 0], [0, 0.9, 0.1], [0, 0, 1]], np.float32)
    found = retrieval.metrics(image, text, text_studies=[0, 0, 1, 2], ks=(1, 2))
    assert found["image_to_text/R@1"] == pytest.approx(200 / 3)  # images 0 and 2; image 1 finds the text of study 0
    assert found["text_to_image/R@1"] == pytest.approx(75)
    assert found["image_to_text/chance/R@1"] == pytest.approx(100 * np.mean([2 / 4, 1 / 4, 1 / 4]))
    assert found["text_to_image/chance/R@1"] == pytest.approx(100 / 3)


@pytest.mark.parametrize("studies", [[0, 1, 2], [0, 1, 2, 5], [0, 1, 2, -1], [0.0, 1.0, 2.0, 2.0]])
def test_texts_of_no_study_are_refused(studies):
    with pytest.raises(InputError, match="text_studies"):
        retrieval.metrics(np.eye(3, dtype=np.float32), np.ones((4, 3), np.float32), text_studies=studies)


def test_doubled_texts_are_the_same_study_twice():
    source = relabel(embeddings(n=40), report_hash=[f"h{row // 3}" for row in range(40)])
    twice = dataclasses.replace(
        source, text_NE=np.repeat(source.text_NE, 2, axis=0), text_studies=np.repeat(np.arange(40), 2)
    )
    one, two = (retrieval.evaluate(each, labels=["group"], draws=30).figures for each in (source, twice))
    for key in ("text_to_image/R@5", "duplicate_aware/text_to_image/MRR", "image_to_text/R@1", "text_to_image/mAP"):
        assert two[key] == pytest.approx(one[key]), key
        if key != "image_to_text/R@1":
            assert two[f"{key}/ci95"] == pytest.approx(one[f"{key}/ci95"]), key
    assert two["n_texts"] == 80


def test_among_images_a_hit_is_another_patient_with_the_same_report_or_the_same_label():
    source = embeddings(n=60)
    reports = [f"h{row % 20}" if row < 40 else f"alone{row}" for row in range(60)]
    found = retrieval.evaluate(relabel(source, report_hash=reports), labels=["group"], draws=0)
    scores = source.image_NE.astype(np.float64) @ source.image_NE.T.astype(np.float64)
    ids = {"duplicate_aware/": np.array(reports), "": np.array(source.ids["group"])}
    patient = np.array(source.ids["patient_id"])
    for prefix, group in ids.items():
        first = []
        for row in range(60):
            others = np.flatnonzero(patient != patient[row])
            ranked = others[np.argsort(-scores[row][others])]
            hits = np.flatnonzero(group[ranked] == group[row])
            first += [hits[0] + 1] if len(hits) else []
        key = f"{prefix}image_to_image"
        assert found.figures[f"{key}/MeanR"] == pytest.approx(np.mean(first))
        assert found.figures[f"{key}/R@5"] == pytest.approx(100 * np.mean(np.array(first) <= 5))
    assert any("image_to_image: 40 of 60 have another" in note for note in found.notes)


def test_a_comparison_with_itself_finds_no_difference():
    source = embeddings(n=60, noise=2.0)
    found = retrieval.evaluate(source, draws=50, other=source).figures
    assert found["difference/image_to_text/R@5"] == 0 and found["difference/image_to_text/R@5/ci95"] == [0, 0]
    assert found["difference/image_to_text/R@5/p"] == 1


def test_a_comparison_is_paired_by_study_whatever_the_order():
    better, worse = embeddings(n=200, noise=1.0), embeddings(n=200, noise=1.6)
    order = np.random.default_rng(0).permutation(200)[:180]
    shuffled = worse.take(order)
    shuffled = relabel(shuffled, row=[str(row) for row in range(180)])
    found = retrieval.evaluate(better, draws=200, other=shuffled)
    figures, rows = found.figures, np.sort(order)
    alone = [retrieval.metrics(each.image_NE[rows], each.text_NE[rows]) for each in (better, worse)]
    key = "image_to_text/R@10"
    assert figures[key] == pytest.approx(alone[0][key]) and figures[f"other/{key}"] == pytest.approx(alone[1][key])
    low, high = figures[f"difference/{key}/ci95"]
    assert 0 < low <= figures[f"difference/{key}"] <= high and figures[f"difference/{key}/p"] < 0.05
    # Both models see the same studies: the paired interval is narrower than independent ones would make it.
    mine, theirs = figures[f"{key}/ci95"], retrieval.evaluate(worse.take(rows), draws=200).figures[f"{key}/ci95"]
    assert high - low < np.hypot(mine[1] - mine[0], theirs[1] - theirs[0])
    assert any("180 studies that both have" in note for note in found.notes)


def test_a_comparison_without_common_studies_is_refused():
    source = embeddings(n=20)
    with pytest.raises(InputError, match="no study in common"):
        retrieval.evaluate(source, other=relabel(source, study_id=[f"x{row}" for row in range(20)]))
    with pytest.raises(InputError, match="do not agree on the patients"):
        retrieval.evaluate(source, other=relabel(source, patient_id=["p"] * 20))
