"""How much of a label is in the image embedding, by linear probe, neighbours, few shots and zero-shot prompts; and, by
fine-tuning, in the image tower.

Names: `protocol/label/metric`. A yes-or-no label is scored on its positive value. A label of several classes is scored
one-vs-rest under `protocol/label/class/metric`, and `protocol/label/metric` is the mean over the classes that could be
scored; only `accuracy` there is that of the likeliest class. Studies without a value are left out and counted.

Fitted on the training split, chosen (regularisation, k, thresholds) on `val`, or by patient-grouped cross-validation
within the training split where `val` is too small; the test split is only scored. Intervals resample test patients
and hold the fitted model fixed. NumPy, SciPy and scikit-learn only.

Letters: N studies of the test split, E embedding, Q classes in question (one for a yes-or-no label), R resamples.
"""

import dataclasses
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np

from cmr_jax.errors import InputError, nearest
from cmr_jax.evals import binary, bootstrap, few_shot
from cmr_jax.evals.export import Embeddings
from cmr_jax.evals.labels import Label, parse_label
from cmr_jax.evals.protocols import Fit, Task, knn, linear, sentences_of, zero_shot
from cmr_jax.evals.splits import split_rows

PROTOCOLS = ("zero_shot", "few_shot", "knn", "linear", "finetune", "regression")
ACCURACY = "accuracy"
# The protocols that fit once; few_shot fits hundreds of times and regression asks another question.
_ONE_FIT = ("zero_shot", "knn", "linear", "finetune")

EmbedPrompts = Callable[[list[str]], np.ndarray]
Watch = Callable[[str, Iterable[Any]], Iterable[Any]]


@dataclasses.dataclass(frozen=True)
class Scored:
    """The test studies of one protocol and label. `rows_N` are rows of the embeddings; `predicted_N` are indices into
    `label.classes`, -1 where there is no decision; `truth_NQ` bool; `fit` what the protocol said."""

    protocol: str
    label: Label
    rows_N: np.ndarray
    truth_N: np.ndarray
    truth_NQ: np.ndarray
    predicted_N: np.ndarray
    fit: Fit

    def prefix(self, question: int | None = None) -> str:
        """`protocol/label/`, or `protocol/label/class/` of one class of several."""
        base = f"{self.protocol}/{self.label.name}/"
        if question is None or self.label.positive is not None:
            return base
        return f"{base}{self.label.classes[self.label.questions[question]]}/"

    def take(self, places: np.ndarray) -> "Scored":
        """The test studies at `places`."""
        probability_NQ, score_NQ = self.fit.probability_NQ[places], self.fit.score_NQ[places]
        return dataclasses.replace(
            self,
            rows_N=self.rows_N[places],
            truth_N=self.truth_N[places],
            truth_NQ=self.truth_NQ[places],
            predicted_N=self.predicted_N[places],
            fit=dataclasses.replace(self.fit, score_NQ=score_NQ, probability_NQ=probability_NQ),
        )


@dataclasses.dataclass(frozen=True)
class Classification:
    """`figures`: each figure X (None where it is undefined: `notes` says why), and X/ci95 as [low, high] or None."""

    figures: dict[str, Any]
    scored: tuple[Scored, ...]
    notes: tuple[str, ...]


def check_protocols(names: Sequence[str]) -> None:
    """Raises InputError for a protocol that is not available, listing those that are."""
    for name in names:
        if name not in PROTOCOLS:
            raise InputError(f"no protocol {name!r}{nearest(name, PROTOCOLS)}")


def evaluate(
    embeddings: Embeddings,
    labels: Sequence[str],
    *,
    protocols: Sequence[str],
    train_split: str = "train",
    test_split: str = "test",
    prompts: dict[str, Any] | None = None,
    embed_prompts: EmbedPrompts | None = None,
    finetune: Callable[[Task], Fit] | None = None,
    draws: int = 1000,
    seed: int = 0,
    watch: Watch = lambda _, steps: steps,
) -> Classification:
    """Scores each protocol on each label.

    Args:
      prompts: label → class → sentences (or label → sentences for the positive value) for zero_shot; a default
        sentence stands in for what it does not name.
      embed_prompts: sentences → `sentences E`, the text tower; needed by zero_shot.
      finetune: trains the image tower for a task and scores its test studies; needed by finetune.

    Raises:
      InputError: unknown label, protocol or split; a label that cannot be scored at all; nobody to train on.
    """
    check_protocols(protocols)
    if "finetune" in protocols and finetune is None:
        raise InputError("finetune needs --workdir or --checkpoint for the image tower, and --data for the images")
    columns = {name: parse_label(name, embeddings.label(name)) for name in labels}
    patients = np.array(embeddings.patients())
    rows, apart = split_rows(embeddings, train_split, test_split, must_train=set(protocols) != {"zero_shot"})
    vectors = _embed_sentences(columns.values(), prompts or {}, embed_prompts) if "zero_shot" in protocols else {}
    figures: dict[str, Any] = {}
    scored: list[Scored] = []
    notes = [*embeddings.notes, *apart]
    for label in columns.values():
        task, missing = _task(embeddings, label, rows, patients)
        notes += missing
        for protocol in watch(f"classify {label.name}", [name for name in protocols if name in _ONE_FIT]):
            fit = _fit(protocol, task, prompts or {}, vectors, finetune)
            each = _score(protocol, task, fit)
            scored.append(each)
            notes += [f"{each.prefix()[:-1]}: {note}" for note in each.fit.notes]
            found, reasons = _figures(each, patients[each.rows_N], draws, seed)
            figures |= found
            notes += reasons
        if "few_shot" in protocols:
            found, more = few_shot.evaluate(task, draws=draws, seed=seed, watch=watch)
            figures, notes = figures | found, notes + more
    counts = {"n_studies": len(rows["test"]), "n_patients": len(set(patients[rows["test"]]))}
    counts |= {"n_train": len(rows["training"]), "n_val": len(rows["validation"])}
    return Classification(counts | figures, tuple(scored), tuple(notes))


def _task(
    embeddings: Embeddings, label: Label, rows: dict[str, np.ndarray], patients: np.ndarray
) -> tuple[Task, list[str]]:
    """The studies of each part that have a value, and a note where others have none."""
    known = {name: part[label.codes[part] >= 0] for name, part in rows.items()}
    left_out = [
        f"{label.name}: {len(part) - len(known[name])} of {len(part)} {name} studies have no value and are left out"
        for name, part in rows.items()
        if len(known[name]) < len(part)
    ]
    if not len(known["test"]):
        raise InputError(f"no test study has a value of label {label.name!r}")
    task = Task(label, embeddings.image_NE, known["training"], known["validation"], known["test"], patients)
    return task, left_out


def _embed_sentences(
    labels: Iterable[Label], prompts: dict[str, Any], embed_prompts: EmbedPrompts | None
) -> dict[str, np.ndarray]:
    """The text embedding of every sentence that is needed, in one call: opening a model takes longer than using it."""
    if embed_prompts is None:
        raise InputError("zero_shot needs --workdir or --checkpoint for the text tower")
    sentences = list(
        dict.fromkeys(text for label in labels for texts in sentences_of(label, prompts) for text in texts)
    )
    return dict(zip(sentences, np.asarray(embed_prompts(sentences)), strict=True))


def _fit(
    protocol: str,
    task: Task,
    prompts: dict[str, Any],
    vectors: dict[str, np.ndarray],
    finetune: Callable[[Task], Fit] | None,
) -> Fit:
    if protocol == "zero_shot":
        return zero_shot(task, prompts, vectors)
    fits = {"linear": linear, "knn": knn} | ({"finetune": finetune} if finetune else {})
    return fits[protocol](task)


def _score(protocol: str, task: Task, fit: Fit) -> Scored:
    truth_N = task.label.codes[task.test]
    if task.label.positive is None:
        usable = np.isfinite(fit.score_NQ).all(axis=0)
        best_N = np.argmax(np.where(usable, fit.score_NQ, -np.inf), axis=1)
        predicted_N = np.where(usable.any(), best_N, -1)
    elif np.isfinite(fit.threshold_Q[0]):
        yes = task.label.positive
        predicted_N = np.where(fit.score_NQ[:, 0] >= fit.threshold_Q[0], yes, 1 - yes)
    else:
        predicted_N = np.full(len(truth_N), -1)
    truth_NQ = truth_N[:, None] == np.asarray(task.label.questions)
    return Scored(protocol, task.label, task.test, truth_N, truth_NQ, predicted_N, fit)


def _figures(scored: Scored, patients_N: np.ndarray, draws: int, seed: int) -> tuple[dict[str, Any], list[str]]:
    """Point figures from equal weights, intervals from resampled patients, and why a figure is missing."""
    point = weighted_figures(scored, np.ones((1, len(patients_N))))
    parts: dict[str, list[np.ndarray]] = {name: [] for name in point}
    if len(set(patients_N)) > 1:
        for weights_RN in bootstrap.resamples(list(patients_N), draws, seed):
            for name, values in weighted_figures(scored, weights_RN).items():
                parts[name].append(values)
    figures: dict[str, Any] = {}
    reasons = []
    for name, values in point.items():
        value = float(values[0])
        figures[name] = value if np.isfinite(value) else None
        known = np.isfinite(value) and parts[name]
        figures[f"{name}/ci95"] = bootstrap.interval(np.concatenate(parts[name])) if known else None
    for question, truth_N in enumerate(scored.truth_NQ.T):
        prefix = scored.prefix(question)
        undefined = [name for name in binary.FIGURES if figures[prefix + name] is None]
        if undefined:
            reasons.append(f"{prefix[:-1]}: no {', '.join(undefined)}: {_reason(scored, question, truth_N)}")
    return figures, reasons


def weighted_figures(scored: Scored, weights_RN: np.ndarray) -> dict[str, np.ndarray]:
    """Each figure of `scored` by its whole name, R each, for many weightings of its studies; NaN where undefined."""
    fit, out = scored.fit, {}
    for question, truth_N in enumerate(scored.truth_NQ.T):
        calibrated = np.isfinite(fit.probability_NQ[:, question]).all()
        probability_N = fit.probability_NQ[:, question] if calibrated else None
        usable = np.isfinite(fit.score_NQ[:, question]).all()
        found = (
            binary.figures(
                truth_N, fit.score_NQ[:, question], probability_N, float(fit.threshold_Q[question]), weights_RN
            )
            if usable
            else dict.fromkeys(binary.FIGURES, np.full(len(weights_RN), np.nan))
        )
        out |= {scored.prefix(question) + name: values for name, values in found.items()}
    if scored.label.positive is not None:
        return out
    for name in binary.FIGURES:
        each_QR = np.stack([out[scored.prefix(question) + name] for question in range(scored.truth_NQ.shape[1])])
        defined = np.isfinite(each_QR)
        total_R, count_R = np.where(defined, each_QR, 0.0).sum(axis=0), defined.sum(axis=0)
        out[scored.prefix() + name] = np.where(count_R > 0, total_R, np.nan) / np.maximum(count_R, 1)
    right_N = np.where(scored.predicted_N < 0, np.nan, scored.predicted_N == scored.truth_N)
    out[scored.prefix() + ACCURACY] = weights_RN @ right_N / weights_RN.sum(axis=1)
    return out


def _reason(scored: Scored, question: int, truth_N: np.ndarray) -> str:
    if not np.isfinite(scored.fit.score_NQ[:, question]).all():
        return "training could not learn it"
    if not truth_N.any():
        return "no test study is positive"
    if truth_N.all():
        return "every test study is positive"
    if not np.isfinite(scored.fit.threshold_Q[question]):
        return "too few labelled studies to choose a threshold or to calibrate"
    return "the scores separate the classes, or all are equal"
