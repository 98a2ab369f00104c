"""Figures of a transfer against what is known of them."""

import numpy as np
import pytest

from bench import transfer_scores as scores


def embeddings(value_N: np.ndarray, draws: int, seed: int, noise: float = 0.05) -> np.ndarray:
    """`K N 6` in which the value lies along one direction."""
    rng = np.random.default_rng(seed)
    along = np.random.default_rng(0).normal(size=6)
    return value_N[None, :, None] / 20 * along + rng.normal(0, noise, (draws, len(value_N), 6))


def test_a_probe_reads_what_is_there_and_nothing_else():
    fit, asked = (np.random.default_rng(s).uniform(15, 75, n) for s, n in ((1, 80), (2, 30)))
    probe = scores.Probe(embeddings(fit, 3, 3), fit)
    figures = scores.measurement(asked, probe.predict(embeddings(asked, 4, 4)), probe.mean, list(map(str, range(30))))
    assert figures["n"] == 30 and figures["spearman"] > 0.97 and figures["mae"] < 3
    low, high = figures["spearman/ci95"]
    assert low <= figures["spearman"] <= high
    noise = np.random.default_rng(5).normal(size=(4, 30, 6))
    blind = scores.measurement(asked, probe.predict(noise), probe.mean, list(map(str, range(30))))
    assert abs(blind["spearman"]) < 0.5 and blind["mae"] > 8


def test_the_draws_of_a_study_are_averaged():
    value = np.linspace(20, 70, 40)
    probe = scores.Probe(embeddings(value, 2, 0), value)
    one, many = (np.abs(probe.predict(embeddings(value, draws, 1, noise=0.4)) - value).mean() for draws in (1, 16))
    assert many < 0.6 * one


def test_unknown_truth_is_left_out_and_counted():
    truth = np.array([30.0, np.nan, 60.0])
    figures = scores.measurement(truth, np.array([32.0, 0.0, 61.0]), 50.0, ["a", "b", "c"])
    assert figures["n"] == 2 and figures["mae"] == pytest.approx(1.5) and figures["mae_of_the_mean"] == 15
    assert scores.measurement(np.full(2, np.nan), np.zeros(2), 50.0, ["a", "b"]) == {"n": 0}


def test_one_study_has_an_error_but_no_rank():
    figures = scores.measurement(np.array([30.0]), np.array([35.0]), 50.0, ["a"])
    assert figures["mae"] == 5 and figures["spearman"] is None and figures["mae/ci95"] is None


def test_groups_are_ranked():
    names = ["a", "b", "a", "", "b"]
    right = np.array([[2.0, 1], [0, 3], [3, 1], [9, 9], [1, 2]])
    figures = scores.groups(names, right, ["a", "b"], list("vwxyz"))
    assert figures["n"] == 4 and figures["auroc"] == 1 and figures["accuracy"] == 1
    swapped = scores.groups(names, right[:, ::-1], ["a", "b"], list("vwxyz"))
    assert swapped["auroc"] == 0 and swapped["accuracy"] == 0
    assert scores.groups(["a"], right[:1, :1], ["a"], ["v"])["n"] == 1


def test_statements_that_cannot_be_told_apart_score_chance():
    flat = scores.statements(np.zeros((40, 40)), np.arange(40), list(map(str, range(40))))
    assert flat["mean_rank"] == flat["chance/mean_rank"] == 20.5
    assert scores.statements(np.eye(40), np.arange(40), list(map(str, range(40))))["R@1"] == 100


def test_a_measurement_without_a_probe():
    value_S = np.array([10.0, 40.0, 70.0])
    said = scores.expected_value(np.array([[0.0, 1, 0], [0, 0, 1]]), value_S, 50.0)
    np.testing.assert_allclose(said, [40, 70], atol=1e-6)
