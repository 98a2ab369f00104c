import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score

from cmr_jax.evals import classification, few_shot, protocols
from cmr_jax.evals.labels import parse_label
from tests.evals.synthetic import GROUPS, embeddings, relabel


def task_of(source, name):
    rows = {split: np.flatnonzero(np.array(source.ids["split"]) == split) for split in ("train", "val", "test")}
    label = parse_label(name, source.ids[name])
    known = {split: each[label.codes[each] >= 0] for split, each in rows.items()}
    patients = np.array(source.patients())
    return protocols.Task(label, source.image_NE, known["train"], known["val"], known["test"], patients)


def directly(task, method, shots, episodes, seed):
    """The protocol written out with scikit-learn and loops: mean AUROC (macro) and accuracy over episodes."""
    x = task.image_NE.astype(np.float64) - task.image_NE[task.train].astype(np.float64).mean(axis=0)
    x /= np.linalg.norm(x, axis=1, keepdims=True)
    codes, truth = task.label.codes, task.label.codes[task.test]
    rng, areas, right = np.random.default_rng([seed, shots]), [], []
    for _ in range(episodes):
        drawn = [rng.choice(np.flatnonzero(codes[task.train] == c), shots, replace=False) for c in np.unique(truth)]
        support = [x[task.train[rows]] for rows in drawn]
        if method == "prototype":
            away = [(np.abs(x[task.test] - rows.mean(axis=0)) ** 3).sum(axis=1) ** (1 / 3) for rows in support]
            score = np.exp(-np.stack(away, 1)) / np.exp(-np.stack(away, 1)).sum(axis=1, keepdims=True)
        else:
            names = np.repeat(np.unique(truth), shots)
            model = LogisticRegression(C=1.0, max_iter=2000).fit(np.concatenate(support), names)
            score = model.predict_proba(x[task.test])
        areas.append(np.mean([roc_auc_score(truth == c, score[:, c]) for c in task.label.questions]))
        right.append((score.argmax(axis=1) == truth).mean())
    return np.mean(areas), np.mean(right), np.std(areas, ddof=1)


@pytest.mark.parametrize("label", ["group", "scar"])
@pytest.mark.parametrize(("method", "shots"), [("prototype", 1), ("prototype", 8), ("logistic", 4)])
def test_it_is_what_the_protocol_gives_written_out(label, method, shots):
    task = task_of(embeddings(), label)
    found, _ = few_shot.evaluate(task, draws=0, seed=3, episodes=7)
    area, right, spread = directly(task, method, shots, 7, 3)
    prefix = f"few_shot/{label}/{method}_{shots}"
    assert found[f"{prefix}/AUROC"] == pytest.approx(area, abs=1e-6)
    assert found[f"{prefix}/accuracy"] == pytest.approx(right)
    assert found[f"{prefix}/AUROC/sd_episodes"] == pytest.approx(spread, abs=1e-6)
    assert found[f"{prefix}/AUROC/ci95"] is None


def test_more_shots_help_and_intervals_hold_their_figure():
    found, notes = few_shot.evaluate(task_of(embeddings(n=800), "group"), draws=100, seed=0, episodes=10)
    for method in few_shot.METHODS:
        areas = [found[f"few_shot/group/{method}_{shots}/AUROC"] for shots in few_shot.SHOTS]
        assert 0.55 < areas[0] < areas[2] < areas[5] and not notes
        for shots in few_shot.SHOTS:
            for name in ("AUROC", "accuracy"):
                key = f"few_shot/group/{method}_{shots}/{name}"
                low, high = found[f"{key}/ci95"]
                assert low <= found[key] <= high and found[f"{key}/sd_episodes"] > 0


def test_intervals_are_those_of_the_mean_of_the_areas_of_each_draw():
    task = task_of(embeddings(), "scar")
    # Rounded, so that some positives tie with negatives.
    scores = few_shot.episode_scores(task, *few_shot.features(task), "prototype", 2, 5, 0).round(2)
    truth, weights = task.label.codes[task.test] == 1, np.random.default_rng(0).integers(3, size=(4, len(task.test)))
    wins, each = few_shot._wins(truth, scores[:, :, 1])
    expected = [[roc_auc_score(truth, s[:, 1], sample_weight=w) for s in scores] for w in weights]
    np.testing.assert_allclose(few_shot._weighted_area(wins, truth, weights), np.mean(expected, axis=1), atol=1e-6)
    np.testing.assert_allclose(each, [roc_auc_score(truth, s[:, 1]) for s in scores])


def test_permuted_labels_score_one_half():
    source = embeddings()
    shuffled = relabel(source, group=np.random.default_rng(0).permutation(source.ids["group"]).tolist())
    found, _ = few_shot.evaluate(task_of(shuffled, "group"), draws=200, seed=0, episodes=20)
    for method in few_shot.METHODS:
        low, high = found[f"few_shot/group/{method}_16/AUROC/ci95"]
        assert low <= 0.5 <= high


def test_no_more_shots_than_the_rarest_class_has():
    source = embeddings()
    rare = [("rare" if row in (0, 4, 8, 300) else "common") for row in range(400)]
    found, notes = few_shot.evaluate(task_of(relabel(source, rare=rare), "rare"), draws=0, seed=0, episodes=3)
    assert {key.split("/")[2] for key in found} == {
        f"{method}_{shots}" for method in few_shot.METHODS for shots in (1, 2)
    }
    assert notes == ["few_shot/rare: 3 training studies of rare: no more shots than that"]


def test_it_is_a_protocol_of_the_evaluation():
    source = embeddings()
    found = classification.evaluate(source, ["group"], protocols=["few_shot"], draws=0)
    assert found.scored == () and found.figures["few_shot/group/prototype_16/AUROC"] > 0.7
    assert set(GROUPS) <= set(source.ids["group"])
