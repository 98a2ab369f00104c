import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss, roc_auc_score
from sklearn.neighbors import KNeighborsClassifier
from sklearn.preprocessing import StandardScaler

from cmr_jax.errors import InputError
from cmr_jax.evals import binary, classification, groups, protocols
from cmr_jax.evals.labels import parse_label
from tests.evals.synthetic import GROUPS, embeddings, relabel


def rows_of(source, split):
    return np.flatnonzero(np.array(source.ids["split"]) == split)


def test_the_probe_is_what_scikit_learn_gives_when_called_directly():
    source = embeddings()
    found = classification.evaluate(source, ["group"], protocols=["linear"], draws=0).figures
    train, val, test = (rows_of(source, split) for split in ("train", "val", "test"))
    x, y = source.image_NE.astype(np.float64), np.array(source.ids["group"])
    scale = StandardScaler().fit(x[train])
    fits = [
        LogisticRegression(C=c, max_iter=2000).fit(scale.transform(x[train]), y[train])
        for c in protocols.REGULARISATION
    ]
    best = min(fits, key=lambda fit: log_loss(y[val], fit.predict_proba(scale.transform(x[val]))))
    p = best.predict_proba(scale.transform(x[test]))
    areas = [roc_auc_score(y[test] == name, p[:, place]) for place, name in enumerate(best.classes_)]
    assert [found[f"linear/group/{name}/AUROC"] for name in GROUPS] == pytest.approx(areas)
    assert found["linear/group/AUROC"] == pytest.approx(np.mean(areas))
    assert found["linear/group/accuracy"] == pytest.approx(np.mean(best.classes_[p.argmax(axis=1)] == y[test]))
    assert found["linear/group/AUROC"] > 0.85


@pytest.mark.parametrize("protocol", ["linear", "knn"])
def test_permuted_labels_score_one_half(protocol):
    source = embeddings()
    shuffled = relabel(source, group=np.random.default_rng(0).permutation(source.ids["group"]).tolist())
    found = classification.evaluate(shuffled, ["group"], protocols=[protocol], draws=200).figures
    low, high = found[f"{protocol}/group/AUROC/ci95"]
    assert low <= 0.5 <= high and found[f"{protocol}/group/AUROC"] == pytest.approx(0.5, abs=0.1)
    informed = classification.evaluate(source, ["group"], protocols=[protocol], draws=200).figures
    assert informed[f"{protocol}/group/AUROC/ci95"][0] > 0.6


def test_every_figure_has_an_interval_that_holds_it():
    found = classification.evaluate(embeddings(signal=0.4), ["group", "scar"], protocols=["linear"], draws=200).figures
    for prefix in ("linear/scar/", "linear/group/", "linear/group/normal/"):
        for name in binary.FIGURES:
            low, high = found[f"{prefix}{name}/ci95"]
            assert low <= found[prefix + name] <= high, prefix + name
    assert (found["n_studies"], found["n_patients"], found["n_train"], found["n_val"]) == (100, 50, 240, 60)


def test_missing_values_are_left_out_and_counted():
    source = embeddings()
    found = classification.evaluate(source, ["scar"], protocols=["linear"], draws=0)
    known = np.flatnonzero([value != "" for value in source.ids["scar"]])
    alone = classification.evaluate(source.take(known), ["scar"], protocols=["linear"], draws=0)
    assert found.figures["linear/scar/AUROC"] == alone.figures["linear/scar/AUROC"]
    assert "scar: 10 of 100 test studies have no value and are left out" in found.notes
    assert len(found.scored[0].rows_N) == 90


def test_a_class_that_is_not_in_the_test_split_is_null_with_its_reason():
    source = embeddings()
    keep = [row for row in range(400) if row < 300 or source.ids["group"][row] != "infarct"]
    found = classification.evaluate(source.take(np.array(keep)), ["group"], protocols=["linear", "knn"], draws=20)
    assert found.figures["linear/group/infarct/AUROC"] is None
    assert found.figures["linear/group/infarct/AUROC/ci95"] is None
    assert any(note.startswith("linear/group/infarct:") and "no test study" in note for note in found.notes)
    others = [found.figures[f"linear/group/{name}/AUROC"] for name in GROUPS if name != "infarct"]
    assert found.figures["linear/group/AUROC"] == pytest.approx(np.mean(others))


def test_a_class_that_is_not_in_the_training_split_is_null_with_its_reason():
    source = embeddings()
    keep = [row for row in range(400) if row >= 240 or source.ids["group"][row] != "infarct"]
    found = classification.evaluate(source.take(np.array(keep)), ["group"], protocols=["linear"], draws=20)
    assert found.figures["linear/group/infarct/AUROC"] is None
    assert found.figures["linear/group/normal/AUROC"] > 0.6
    assert found.figures["linear/group/accuracy"] < 1
    assert any("infarct" in note and "training could not learn it" in note for note in found.notes)


def test_a_label_that_training_cannot_learn_is_null_and_no_crash():
    source = embeddings()
    late = relabel(source, finding=["0"] * 300 + ["1", "0"] * 50, never=["0"] * 400)
    found = classification.evaluate(late, ["finding", "never"], protocols=["linear", "knn"], draws=5)
    assert found.figures["linear/finding/AUROC"] is None and found.figures["linear/finding/prevalence"] is None
    assert any("fewer than two classes in the training split" in note for note in found.notes)
    assert all((scored.predicted_N == -1).all() for scored in found.scored)


def test_without_enough_validation_the_choice_is_made_by_patients_within_training():
    source = embeddings()
    rows = np.flatnonzero(np.array(source.ids["split"]) != "val")
    found = classification.evaluate(source.take(rows), ["group"], protocols=["linear"], draws=0)
    assert any("cross-validation in the training split" in note for note in found.notes)
    assert found.figures["linear/group/AUROC"] > 0.8
    assert found.figures["linear/group/normal/sensitivity"] > 0.3


def test_cross_validation_never_scores_a_patient_who_was_fitted():
    # Each patient is one point seen twice with a coin-flip label: only a leak could tell.
    rng = np.random.default_rng(0)
    source = embeddings(n=200)
    image = np.repeat(source.image_NE[::2], 2, axis=0)
    coin = np.repeat(rng.integers(2, size=100), 2)
    task = protocols.Task(
        parse_label("coin", [str(each) for each in coin]),
        image,
        np.arange(160),
        np.arange(0),
        np.arange(160, 200),
        np.array(source.ids["patient_id"]),
    )
    out = protocols._out_of_fold(lambda _: KNeighborsClassifier(1, metric="cosine"), image.astype(np.float64), task, 5)
    assert abs(roc_auc_score(coin[:160], out[:, 1]) - 0.5) < 0.2


def test_zero_shot_ranks_by_the_cosine_with_the_mean_prompt():
    source = embeddings(signal=0.8)
    rng = np.random.default_rng(1)
    centre = {name: source.image_NE[np.array(source.ids["group"]) == name].mean(axis=0) for name in GROUPS}
    asked = []

    def tower(sentences):
        asked.extend(sentences)
        found = [next((centre[name] for name in GROUPS if name in text), rng.standard_normal(16)) for text in sentences]
        return np.array(found, np.float32)

    prompts = {"group": {name: [f"{name} seen", f"{name} again"] for name in GROUPS}, "scar": ["an infarct"]}
    found = classification.evaluate(
        source, ["group", "scar"], protocols=["zero_shot"], prompts=prompts, embed_prompts=tower, draws=20
    )
    assert sorted(asked) == sorted([*(text for texts in prompts["group"].values() for text in texts), "an infarct"])
    direction = centre["normal"] / np.linalg.norm(centre["normal"])
    test = rows_of(source, "test")
    truth = np.array(source.ids["group"])[test] == "normal"
    assert found.figures["zero_shot/group/normal/AUROC"] == pytest.approx(
        roc_auc_score(truth, source.image_NE[test] @ direction)
    )
    assert found.figures["zero_shot/group/AUROC"] > 0.8
    assert found.figures["zero_shot/scar/AUROC"] > 0.8
    assert found.figures["zero_shot/scar/calibration_slope"] > 0


def test_negative_prompts_are_taken_off_and_no_validation_means_no_threshold():
    source = embeddings()
    rows = np.flatnonzero(np.array(source.ids["split"]) != "val")
    towers = {"scar": np.ones(16), "no scar": np.arange(16.0)}
    found = classification.evaluate(
        source.take(rows),
        ["scar"],
        protocols=["zero_shot"],
        prompts={"scar": {"1": "scar", "0": "no scar"}},
        embed_prompts=lambda texts: np.array([towers[text] for text in texts]),
        draws=0,
    )
    (scored,) = found.scored
    direction = np.ones(16) / 4 - np.arange(16) / np.linalg.norm(np.arange(16))
    np.testing.assert_allclose(scored.fit.score_NQ[:, 0], source.take(rows).image_NE[scored.rows_N] @ direction)
    assert found.figures["zero_shot/scar/accuracy"] is None and found.figures["zero_shot/scar/Brier"] is None
    assert any("choose a threshold" in note for note in found.notes)


def test_zero_shot_needs_nothing_but_the_test_split():
    source = embeddings()
    test = source.take(rows_of(source, "test"))
    found = classification.evaluate(
        test, ["group"], protocols=["zero_shot"], embed_prompts=lambda texts: np.ones((len(texts), 16)), draws=10
    )
    assert found.figures["n_train"] == 0
    # Every prompt is the same, so every class has the same score.
    areas = [found.figures[f"zero_shot/group/{name}/AUROC"] for name in GROUPS]
    score = test.image_NE @ np.ones(16)
    assert areas == pytest.approx([roc_auc_score(np.array(test.ids["group"]) == name, score) for name in GROUPS])


def test_zero_shot_of_a_class_that_only_the_test_split_has():
    source = embeddings()
    keep = [row for row in range(400) if row >= 300 or source.ids["group"][row] != "infarct"]
    found = classification.evaluate(
        source.take(np.array(keep)),
        ["group"],
        protocols=["zero_shot"],
        embed_prompts=lambda texts: np.random.default_rng(0).standard_normal((len(texts), 16)),
        draws=10,
    ).figures
    assert found["zero_shot/group/infarct/AUROC"] is not None and found["zero_shot/group/infarct/Brier"] is None
    assert found["zero_shot/group/normal/Brier"] is not None


@pytest.mark.parametrize(
    ("labels", "wanted", "message"),
    [
        (["group"], ["finetune"], "finetune needs --workdir or --checkpoint"),
        (["group"], ["liner"], "did you mean 'linear'"),
        (["group"], ["zero_shot"], "zero_shot needs --workdir or --checkpoint"),
        (["grup"], ["linear"], "did you mean 'group'"),
        (["lvef"], ["linear"], "it is a measurement"),
        (["constant"], ["linear"], "nothing to tell apart"),
        (["late"], ["linear"], "no test study has a value"),
    ],
)
def test_what_cannot_be_scored_is_refused(labels, wanted, message):
    source = relabel(
        embeddings(),
        lvef=[f"{30 + row % 40}.5" for row in range(400)],
        constant=["same"] * 400,
        late=["a", "b"] * 150 + [""] * 100,
    )
    with pytest.raises(InputError, match=message):
        classification.evaluate(source, labels, protocols=wanted)


@pytest.mark.parametrize(("other", "part"), [(0, "training"), (250, "validation")])
def test_a_tested_patient_neither_trains_nor_chooses(other, part):
    source = embeddings()
    patients = list(source.ids["patient_id"])
    patients[399] = patients[other]
    found = classification.evaluate(relabel(source, patient_id=patients), ["scar"], protocols=["linear"], draws=0)
    without = np.setdiff1d(np.arange(400), [other, other + 1])
    clean = classification.evaluate(source.take(without), ["scar"], protocols=["linear"], draws=0)
    assert any(note.startswith(f"2 {part} studies are of patients who are tested too") for note in found.notes)
    assert found.figures["linear/scar/AUROC"] == clean.figures["linear/scar/AUROC"]


def test_training_on_what_is_tested_is_refused():
    with pytest.raises(InputError, match="nobody is left to train on"):
        classification.evaluate(embeddings(), ["group"], protocols=["linear"], train_split="test")


def test_a_missing_split_is_refused():
    with pytest.raises(InputError, match=r"no study of split 'external'.*test, train, val"):
        classification.evaluate(embeddings(), ["group"], protocols=["linear"], test_split="external")


@pytest.mark.parametrize(
    ("prompts", "message"),
    [
        ({"group": ["one"]}, "must name its classes"),
        ({"group": {"wrong": "x"}}, "name 'wrong'"),
        ({"group": {"normal": []}}, "one or more sentences"),
    ],
)
def test_prompts_that_do_not_fit_the_label_are_refused(prompts, message):
    with pytest.raises(InputError, match=message):
        classification.evaluate(
            embeddings(),
            ["group"],
            protocols=["zero_shot"],
            prompts=prompts,
            embed_prompts=lambda texts: np.ones((len(texts), 16)),
        )


def test_a_text_tower_of_another_width_is_refused():
    with pytest.raises(InputError, match="gives 3 features, the images 16"):
        classification.evaluate(
            embeddings(), ["group"], protocols=["zero_shot"], embed_prompts=lambda texts: np.ones((len(texts), 3))
        )


@pytest.mark.parametrize(
    ("values", "classes", "codes", "positive"),
    [
        (["1", "", "0"], ("0", "1"), [1, -1, 0], 1),
        (["Present", "absent"], ("absent", "present"), [1, 0], 1),
        (["0", "0"], ("0", "1"), [0, 0], 1),
        (["b", " a", ""], ("a", "b"), [1, 0, -1], None),
        (["present", "uncertain", "absent", " Uncertain"], ("absent", "present"), [1, -1, 0, -1], 1),
        (["uncertain", "present"], ("absent", "present"), [-1, 1], 1),
        (["uncertain", "likely"], ("likely", "uncertain"), [1, 0], None),
    ],
)
def test_columns_are_read_as_classes(values, classes, codes, positive):
    found = parse_label("x", values)
    assert (found.classes, found.codes.tolist(), found.positive) == (classes, codes, positive)


@pytest.mark.parametrize("rest", ["third", "common"])
def test_a_class_of_one_patient_does_not_stop_cross_validation(rest):
    # Without "third", one of two folds trains on a single class.
    source = embeddings(n=60)
    kind = ["rare", "rare", *["common"] * 4, *[rest] * 4, *[""] * 35, *["common"] * 14, "rare"]
    found = classification.evaluate(relabel(source, kind=kind), ["kind"], protocols=["linear", "knn"], draws=5)
    assert found.figures["linear/kind/rare/prevalence"] == pytest.approx(1 / 15)
    assert found.figures["knn/kind/rare/AUROC"] is not None


@pytest.mark.parametrize("protocol", ["zero_shot", "few_shot", "knn", "linear"])
def test_uncertain_beside_absent_and_present_is_missing(protocol):
    source = relabel(embeddings(), sex=["F", "F", "M", "M"] * 100)
    states = {"": "", "0": "absent", "1": "present"}
    column = ["uncertain" if row % 7 < 2 else states[value] for row, value in enumerate(source.ids["scar"])]
    found = []
    for each in (column, [value.replace("uncertain", "") for value in column]):
        labelled = relabel(source, late_enhancement=each)
        scored = classification.evaluate(
            labelled, ["late_enhancement"], protocols=[protocol], draws=10,
            embed_prompts=lambda texts: np.ones((len(texts), 16), np.float32),
        )  # fmt: skip
        parts = groups.columns(labelled, ["sex"])
        found.append((scored.figures, scored.notes, groups.evaluate(labelled, scored, parts, draws=10, seed=0)))
    assert found[0] == found[1]
    figures, notes, (by_group, _) = found[0]
    known = sum(value in ("absent", "present") for value in column[300:])
    assert f"late_enhancement: {100 - known} of 100 test studies have no value and are left out" in notes
    assert any(name.startswith(f"{protocol}/late_enhancement/") for name in figures)
    assert sum(value for name, value in by_group.items() if name.endswith("n_studies")) in (0, known)
    assert bool(by_group) == (protocol != "few_shot")
