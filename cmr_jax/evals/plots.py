"""Plots of the evaluations, drawn without a display."""

import pathlib
import textwrap
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from cmr_jax.evals.ranking import Ranks
from cmr_jax.evals.retrieval import DIRECTIONS, DUPLICATE_AWARE

if TYPE_CHECKING:
    # Only for annotations: matplotlib is imported when the first figure is drawn.
    from matplotlib.figure import Figure

    from cmr_jax.evals.classification import Scored
    from cmr_jax.evals.regression import Predicted

_DEEPEST = 100
_BINS = 10
_MOST_COLOURS = 12
# Of failures side by side.
_MOST_FRAMES = 4
_KINDS = {"": "own partner only", DUPLICATE_AWARE: "same report is a hit"}
_CHANCE = {"color": "0.5", "linestyle": "--", "linewidth": 1}


def retrieval(folder: pathlib.Path, ranks: Mapping[str, Ranks]) -> list[str]:
    """Writes the recall curves and the rank histogram; returns their file names."""
    items = len(ranks[DIRECTIONS[0]].above_N)
    depths = np.arange(1, min(items, _DEEPEST) + 1)
    figure, axes = _figure(1, 2, (10, 4.2))
    for axis, (prefix, title) in zip(axes, _KINDS.items(), strict=True):
        for way in DIRECTIONS:
            recall = [100 * np.nanmean(ranks[prefix + way].hit_probability(int(k))) for k in depths]
            axis.plot(depths, recall, marker="o", markersize=3, label=way.replace("_", " "))
        chance_ranks = ranks.get(f"{prefix}chance") or ranks[f"{prefix}{DIRECTIONS[0]}/chance"]
        chance = [100 * np.nanmean(chance_ranks.hit_probability(int(k))) for k in depths]
        axis.plot(depths, chance, label="chance", **_CHANCE)
        axis.set(title=f"Recall, {title} (n = {items})", xlabel="k", ylabel="R@k (%)", xscale="log", ylim=(0, 103))
        axis.legend()
    names = ["retrieval_recall.png"]
    _save(figure, folder / names[0])
    figure, axes = _figure(1, 2, (10, 4.2))
    edges = np.unique(np.geomspace(1, items + 1, 25).round())
    edges = edges if len(edges) > 1 else np.array([1, 2])
    for axis, (prefix, title) in zip(axes, _KINDS.items(), strict=True):
        for way in DIRECTIONS:
            axis.hist(ranks[prefix + way].expected_rank(), bins=list(edges), alpha=0.55, label=way.replace("_", " "))
        axis.set(title=f"Rank of the first hit, {title}", xlabel="expected rank", ylabel="queries", xscale="log")
        axis.legend()
    names.append("retrieval_ranks.png")
    _save(figure, folder / names[1])
    return names


def classification(folder: pathlib.Path, scored: "Sequence[Scored]") -> list[str]:
    """Writes ROC, precision-recall, calibration and confusion of each protocol and label; returns the file names."""
    names = []
    for number, each in enumerate(scored):
        figure, axes = _figure(2, 2, (10, 9))
        _curves(axes[0, 0], axes[0, 1], each)
        _calibration(axes[1, 0], each)
        _confusion(axes[1, 1], each)
        figure.suptitle(f"{each.protocol}: {each.label.name} (n = {len(each.rows_N)})")
        # A label's name may not be fit for a file name, and two may become equal once they are: the number tells.
        safe = "".join(letter if letter.isalnum() or letter in "-_" else "_" for letter in each.label.name)
        names.append(f"classification_{number:02d}_{each.protocol}_{safe}.png")
        _save(figure, folder / names[-1])
    return names


def pca_map(folder: pathlib.Path, image_NE: np.ndarray, text_ME: np.ndarray, column: Sequence[str], label: str) -> str:
    """Writes the first two principal components of images and texts, coloured by `column` (classes or numbers)."""
    rows = np.concatenate([image_NE, text_ME]).astype(np.float64)
    # Of the images' own mean and axes, so that the gap between the two kinds does not take the first component.
    centre = image_NE.mean(axis=0, dtype=np.float64)
    spread_EE = (image_NE - centre).T @ (image_NE - centre)
    axes_E = np.linalg.eigh(spread_EE)[1].T[::-1]
    parts = [(rows[: len(image_NE)] - centre), (rows[len(image_NE) :] - rows[len(image_NE) :].mean(axis=0))]
    figure, axes = _figure(1, 2, (12, 5.2))
    numbers = _numbers(column)
    for axis, part, title in zip(axes, parts, ("images", "texts (centred apart)"), strict=True):
        where = part @ axes_E[:2].T if len(axes_E) > 1 else np.zeros((len(part), 2))
        if numbers is not None and len(part) == len(numbers):
            drawn = axis.scatter(*where.T, c=numbers, s=9, cmap="viridis")
            figure.colorbar(drawn, ax=axis, label=label)
        elif len(part) == len(column):
            for value in sorted(set(column)):
                here = np.array(column) == value
                axis.scatter(*where[here].T, s=9, label=value or "(missing)", alpha=0.7)
            if len(set(column)) <= _MOST_COLOURS:
                axis.legend(fontsize="small", markerscale=2)
        else:
            axis.scatter(*where.T, s=9, alpha=0.7)
        axis.set(title=f"PCA of the {title}", xlabel="component 1", ylabel="component 2")
    _save(figure, folder / "map.png")
    return "map.png"


def _numbers(column: Sequence[str]) -> np.ndarray | None:
    """The column as numbers where it is a measurement."""
    try:
        found = np.array([float(value) if value else np.nan for value in column])
    except ValueError:
        return None
    return found if len(np.unique(found[np.isfinite(found)])) > 10 else None


def regression(folder: pathlib.Path, predicted: "Sequence[Predicted]") -> list[str]:
    """Writes predicted against true and the Bland-Altman plot of each measurement; returns the file names."""
    names = []
    for number, each in enumerate(predicted):
        figure, axes = _figure(1, 2, (11, 4.8))
        edges = [min(each.truth_N.min(), each.predicted_N.min()), max(each.truth_N.max(), each.predicted_N.max())]
        axes[0].plot(edges, edges, **_CHANCE)
        axes[0].scatter(each.truth_N, each.predicted_N, s=9, alpha=0.7)
        axes[0].set(title=f"{each.name} (n = {len(each.rows_N)})", xlabel="true", ylabel="predicted")
        difference_N = each.predicted_N - each.truth_N
        bias, spread = difference_N.mean(), difference_N.std(ddof=1) if len(difference_N) > 1 else 0.0
        axes[1].scatter((each.predicted_N + each.truth_N) / 2, difference_N, s=9, alpha=0.7)
        for level, text in ((bias, "bias"), (bias - 1.96 * spread, "-1.96 SD"), (bias + 1.96 * spread, "+1.96 SD")):
            axes[1].axhline(level, color="0.4", linestyle="-" if text == "bias" else "--", linewidth=1)
            axes[1].annotate(
                f"{text} {level:.2f}", (1, level), xycoords=("axes fraction", "data"), ha="right", va="bottom"
            )
        axes[1].set(title="Bland-Altman", xlabel="mean of true and predicted", ylabel="predicted - true")
        names.append(f"regression_{number:02d}.png")
        _save(figure, folder / names[-1])
    return names


def few_shot(folder: pathlib.Path, figures: Mapping[str, Any]) -> list[str]:
    """Writes AUROC against shots, a line a label and method; returns the file names, none where there were no shots."""
    lines: dict[str, dict[int, str]] = {}
    for key in figures:
        if key.startswith("few_shot/") and key.endswith("/AUROC"):
            _, label, setting, _ = key.split("/")
            method, shots = setting.rsplit("_", 1)
            lines.setdefault(f"{label}, {method}", {})[int(shots)] = key
    if not lines:
        return []
    figure, axis = _figure(1, 1, (7, 4.8))
    for name, keys in lines.items():
        shots = sorted(keys)
        values = np.array([figures[keys[each]] for each in shots])
        (line,) = axis.plot(shots, values, marker="o", markersize=4, label=name)
        edges = [figures[f"{keys[each]}/ci95"] for each in shots]
        if all(edges):
            axis.fill_between(shots, *np.array(edges).T, color=line.get_color(), alpha=0.15)
    axis.axhline(0.5, **_CHANCE)
    axis.set(title="Few shots (band: 95 % interval)", xlabel="shots a class", ylabel="AUROC", xscale="log")
    axis.set_xticks(
        sorted({each for keys in lines.values() for each in keys}),
        sorted({str(e) for k in lines.values() for e in k}, key=int),
    )
    axis.minorticks_off()
    _legend(axis)
    _save(figure, folder / "few_shot.png")
    return ["few_shot.png"]


def failures(
    folder: pathlib.Path, seen: Mapping[str, Sequence[tuple[str, np.ndarray]]], captions: Mapping[str, str]
) -> list[str]:
    """Writes each study's frames side by side (`seen`: view and frame `H W` by study); returns the file names."""
    studies = [study for study in captions if seen.get(study)][:_MOST_COLOURS]
    if not studies:
        return []
    wide = max(len(seen[study]) for study in studies)
    # Studies of few series stand side by side, each in `wide` columns.
    across = min(max(_MOST_FRAMES // wide, 1), len(studies))
    rows = -(-len(studies) // across)
    figure, axes = _figure(rows, across * wide, (2.2 * across * wide + 1, 3.2 * rows))
    cells = list(np.reshape(axes, (rows * across, wide)))
    for axis in np.ravel(axes):
        axis.set_axis_off()
    for cell, study in zip(cells, studies, strict=False):
        for axis, (view, frame_HW) in zip(cell, seen[study], strict=False):
            axis.imshow(frame_HW, cmap="gray", vmin=0, vmax=255)
            axis.set_title(view, fontsize=8)
        told = "\n".join([study, *textwrap.wrap(captions[study], 34 * wide)])
        cell[0].text(0, -0.06, told, transform=cell[0].transAxes, fontsize=8, va="top")
    _save(figure, folder / "failures.png")
    return ["failures.png"]


def _curves(roc: Any, pr: Any, scored: "Scored") -> None:
    for question, truth_N in enumerate(scored.truth_NQ.T):
        score_N = scored.fit.score_NQ[:, question]
        if truth_N.all() or not truth_N.any() or not np.isfinite(score_N).all():
            continue
        order = np.argsort(-score_N, kind="stable")
        last = np.append(np.diff(score_N[order]) != 0, True)
        true, false = np.cumsum(truth_N[order])[last], np.cumsum(~truth_N[order])[last]
        name = scored.label.classes[scored.label.questions[question]]
        line = roc.plot([0, *(false / false[-1])], [0, *(true / true[-1])], label=name)[0]
        pr.step(true / true[-1], true / (true + false), where="pre", color=line.get_color(), label=name)
        pr.axhline(truth_N.mean(), color=line.get_color(), linestyle=":", linewidth=0.8)
    roc.plot([0, 1], [0, 1], **_CHANCE)
    roc.set(title="ROC", xlabel="1 - specificity", ylabel="sensitivity")
    pr.set(title="Precision-recall (dotted: prevalence)", xlabel="recall", ylabel="precision", ylim=(0, 1.03))
    for axis in (roc, pr):
        _legend(axis)


def _calibration(axis: Any, scored: "Scored") -> None:
    axis.plot([0, 1], [0, 1], **_CHANCE)
    axis.set(title="Calibration (bins of equal count)", xlabel="predicted probability", ylabel="share that is positive")
    if not np.isfinite(scored.fit.probability_NQ).any():
        axis.text(0.5, 0.5, "no probabilities", ha="center")
    for question, truth_N in enumerate(scored.truth_NQ.T):
        probability_N = scored.fit.probability_NQ[:, question]
        if not np.isfinite(probability_N).all():
            continue
        bins = [part for part in np.array_split(np.argsort(probability_N, kind="stable"), _BINS) if len(part)]
        axis.plot(
            [probability_N[part].mean() for part in bins],
            [truth_N[part].mean() for part in bins],
            marker="o",
            markersize=3,
            label=scored.label.classes[scored.label.questions[question]],
        )
    _legend(axis)


def _confusion(axis: Any, scored: "Scored") -> None:
    decided = scored.predicted_N >= 0
    size = len(scored.label.classes)
    counts = np.zeros((size, size), int)
    np.add.at(counts, (scored.truth_N[decided], scored.predicted_N[decided]), 1)
    axis.imshow(counts, cmap="Blues")
    for (truth, said), count in np.ndenumerate(counts):
        dark = count > counts.max() / 2
        axis.text(said, truth, str(count), ha="center", va="center", color="white" if dark else "black")
    short = [name if len(name) < 14 else name[:12] + "…" for name in scored.label.classes]
    axis.set_xticks(range(size), short, rotation=30, ha="right")
    axis.set_yticks(range(size), short)
    axis.set(title=f"Confusion ({int((~decided).sum())} without a decision)", xlabel="predicted", ylabel="true")


def _legend(axis: Any) -> None:
    if axis.get_legend_handles_labels()[0]:
        axis.legend(fontsize="small")


def _figure(rows: int, columns: int, size: tuple[float, float]) -> "tuple[Figure, Any]":
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=size, layout="constrained")
    FigureCanvasAgg(figure)
    return figure, figure.subplots(rows, columns)


def _save(figure: "Figure", path: pathlib.Path) -> None:
    # Without a date or version in the file, equal figures are equal bytes.
    figure.savefig(path, dpi=110, metadata={"Software": None})
