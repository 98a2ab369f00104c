"""What leaving a part of the phantom out costs, in tables: the same hearts for all runs, compared heart by heart.

A run is the JSON that bench.what_parts_buy leaves: `without`, `seed`, and for each set of hearts `asked`, `ASKED/truth`
and `ASKED/said`, the fraction known and said of each heart in one order (None: not known).
Letters: N hearts, R resamples.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from bench.spread import mean_of_seeds
from cmr_jax.evals import bootstrap, regression

WHOLE = "nothing"
_ASKED = {
    "sketches": "held-out sketches, drawn whole",
    "clinical": "exams of the clinical phantom",
    "real": "real hearts",
}
_DRAWS = 2000
_FIGURES = ("Spearman", "MAE", "bias")
_DIGITS = {"Spearman": 2, "MAE": 1, "bias": 1}


def tables(runs: Sequence[dict[str, Any]], parts: dict[str, str]) -> str:
    """Markdown, a table a set of hearts and a line a part left out (`parts`: what each is), the whole phantom first.

    Figures are means over the seeds, with the lowest and highest where there are several. Changes are a run's figure
    less that of the whole phantom with the same seed, mean over the seeds that have both, with the interval of
    resampled hearts, drawn alike for all runs; what another seed would change is not in it.
    """
    lines: list[str] = []
    for asked, title in _ASKED.items():
        mine = [run for run in runs if f"{asked}/said" in run]
        if mine:
            lines += [f"**{title}**, n = {len(_known(mine[0], asked)[0])}:", "", *_table(mine, asked, parts), ""]
    return "\n".join(lines)


def _table(runs: Sequence[dict[str, Any]], asked: str, parts: dict[str, str]) -> list[str]:
    lines = ["| left out | seeds | rank | error | bias | change of rank | change of error |"]
    lines.append("|---|" + "---|" * 6)
    whole = {run["seed"]: run for run in runs if run["without"] == WHOLE}
    for part, what in {WHOLE: "nothing: the sketches as they are", **parts}.items():
        mine = {run["seed"]: run for run in runs if run["without"] == part}
        if not mine:
            continue
        found = [_figures(run, asked) for run in mine.values()]
        cells = [mean_of_seeds([float(each[name][0]) for each in found], _DIGITS[name]) for name in _FIGURES]
        pairs = [(mine[seed], whole[seed]) for seed in mine if seed in whole] if part != WHOLE else []
        cells += [change(pairs, asked, name) for name in ("Spearman", "MAE")]
        lines.append(f"| {what} | {len(mine)} | " + " | ".join(cells) + " |")
    return lines


def change(pairs: Sequence[tuple[dict[str, Any], dict[str, Any]]], asked: str, name: str) -> str:
    """`value [95 % interval]` of figure `name` of the first of each pair less that of the second, mean over the pairs;
    empty without pairs."""
    if not pairs:
        return ""

    def difference_R(weights_RN: np.ndarray | None = None) -> np.ndarray:
        each = [_figures(a, asked, weights_RN)[name] - _figures(b, asked, weights_RN)[name] for a, b in pairs]
        return np.mean(each, axis=0)

    hearts = [str(heart) for heart in range(len(_known(pairs[0][0], asked)[0]))]
    drawn = [difference_R(weights_RN) for weights_RN in bootstrap.resamples(hearts, _DRAWS, 0)]
    span = bootstrap.interval(np.concatenate(drawn)) if len(hearts) > 1 else None
    digits = _DIGITS[name]
    text = f"{float(difference_R()[0]):+.{digits}f}"
    return f"{text} [{span[0]:+.{digits}f}, {span[1]:+.{digits}f}]" if span else text


def _known(run: dict[str, Any], asked: str) -> tuple[np.ndarray, np.ndarray]:
    """The fractions known and said of the N hearts whose fraction is known."""
    truth_N = np.array([np.nan if each is None else each for each in run[f"{asked}/truth"]], float)
    known = np.isfinite(truth_N)
    return truth_N[known], np.array(run[f"{asked}/said"], float)[known]


def _figures(run: dict[str, Any], asked: str, weights_RN: np.ndarray | None = None) -> dict[str, np.ndarray]:
    """_FIGURES by name, R each; of the hearts as they are where no weights are given."""
    truth_N, said_N = _known(run, asked)
    weights_RN = np.ones((1, len(truth_N))) if weights_RN is None else weights_RN
    return regression.figures_of(truth_N, said_N, float(truth_N.mean()), weights_RN)
