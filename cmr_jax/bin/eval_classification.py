"""Scores labels: `python -m cmr_jax.bin.eval_classification --embeddings E --labels a,b --out R`."""

import dataclasses
import pathlib
from collections.abc import Callable
from typing import Any

import numpy as np
from absl import flags

from cmr_jax import cli
from cmr_jax.data import schema
from cmr_jax.errors import InputError
from cmr_jax.evals import (
    card,
    classification,
    compare,
    export,
    failures,
    groups,
    labels,
    page,
    plots,
    regression,
    report,
    tables,
)
from cmr_jax.evals.protocols import Fit, Task

_EMBEDDINGS = flags.DEFINE_string("embeddings", None, "Folder of embeddings that holds every split that is used.")
_WORKDIR = flags.DEFINE_string(
    "workdir",
    None,
    "Workdir of a training run: the text tower of zero_shot, the image tower of finetune, and with --data instead of "
    "--embeddings.",
)
_CHECKPOINT = flags.DEFINE_string("checkpoint", None, "Instead of --workdir: one checkpoint of it.")
_STEP = flags.DEFINE_integer("step", None, "Step to take from --workdir; default the newest undamaged one.")
_DATA = flags.DEFINE_string(
    "data", None, "Dataset folder, the --out of preprocessing.run; its tables serve --groups, its images finetune."
)
_OUT = flags.DEFINE_string("out", None, "Folder for classification.json, .md, report.html, plots and failures.csv.")
_LABELS = flags.DEFINE_list("labels", [], "Label columns to score: classes, or measurements (regression).")
_PROTOCOLS = flags.DEFINE_list(
    "protocols",
    None,
    "Of zero_shot, few_shot, knn, linear, finetune, regression. Default: knn and linear, zero_shot where there is a "
    "model, and regression of the measurements. finetune trains the image tower for every label: it needs --workdir "
    "or --checkpoint and the --data of the embeddings, and takes up to --epochs times what embedding takes, four-fold.",
)
_TRAIN_SPLIT = flags.DEFINE_string("train_split", "train", "Split that fits.")
_TEST_SPLIT = flags.DEFINE_string("test_split", "test", "Split that is scored. Choices are made on val.")
_PROMPTS = flags.DEFINE_string("prompts", None, "YAML or JSON: label -> class -> sentences, for zero_shot.")
_EPOCHS = flags.DEFINE_integer("epochs", 20, "Most epochs of finetune; validation ends it earlier.", 1)
_COMPARE = flags.DEFINE_string("compare", None, "Embeddings of another model: paired differences on common studies.")
_GROUPS = flags.DEFINE_list("groups", [], "Score parts too: sex, age_band, vendor, site or any column; see --data.")
_BOOTSTRAP = flags.DEFINE_integer("bootstrap", 1000, "Resamples of the test patients for the intervals; 0: none.", 0)
_SEED = flags.DEFINE_integer("seed", 0, "Seed of the resamples, and of finetune.", 0)
_SHOWN = ("AUROC", "AUPRC", "accuracy", "F1")
_FOLDERS = (_EMBEDDINGS, _WORKDIR, _CHECKPOINT, _DATA, _COMPARE, _OUT, _PROMPTS)


def _main() -> None:
    if not _OUT.value or not _LABELS.value:
        raise InputError("give --out and --labels (see --help)")
    has_model = bool(_WORKDIR.value or _CHECKPOINT.value)
    if _PROTOCOLS.value:
        classification.check_protocols(_PROTOCOLS.value)
        if "zero_shot" in _PROTOCOLS.value and not has_model:
            raise InputError("zero_shot needs --workdir or --checkpoint for the text tower")
        if "finetune" in _PROTOCOLS.value and not (has_model and _DATA.value):
            raise InputError("finetune needs --workdir or --checkpoint for the image tower, and --data for the images")
    prompts = _read_prompts(_PROMPTS.value)
    everything = export.obtain(
        embeddings=_EMBEDDINGS.value,
        workdir=_WORKDIR.value,
        checkpoint=_CHECKPOINT.value,
        data=_DATA.value,
        splits=schema.SPLITS,
        step=_STEP.value,
    )
    plan = _plan(everything, has_model)
    notes: list[str] = []
    embeddings, other = everything, None
    if _COMPARE.value:
        embeddings, other, notes = compare.align(everything, export.load(_COMPARE.value))
    parts = groups.columns(embeddings, _GROUPS.value, _DATA.value)
    found, predicted = _score(embeddings, plan, prompts, has_model)
    figures, notes = {**found.figures, **predicted.figures}, [*notes, *found.notes, *predicted.notes]
    if parts:
        by_group, more = groups.evaluate(embeddings, found, parts, draws=_BOOTSTRAP.value, seed=_SEED.value)
        figures, notes = figures | by_group, notes + more
    if other is not None:
        # The towers are of this model, so zero-shot and fine-tuned scores of the other one cannot be had.
        fits = [name for name in plan.protocols if name in ("knn", "linear")]
        theirs, _ = _score(other, dataclasses.replace(plan, protocols=fits, measurements=[]), {}, False)
        figures |= compare.differences(found, theirs, embeddings, draws=_BOOTSTRAP.value, seed=_SEED.value)
    with report.staged(_OUT.value) as folder:
        content = _write(folder, embeddings, found, predicted, figures, list(dict.fromkeys(notes)), plan)
    short = [*tables.classification_tables(found, _SHOWN), *content.tables[len(tables.classification_tables(found)) :]]
    print("\n\n".join(f"{each.title}\n{each.markdown()}" for each in short))
    print(f"\nreport: {_OUT.value}/report.html, {_OUT.value}/classification.md")


@dataclasses.dataclass(frozen=True)
class _Plan:
    """Columns of classes with the protocols for them, and columns of measurements."""

    classes: list[str]
    protocols: list[str]
    measurements: list[str]


def _plan(embeddings: export.Embeddings, has_model: bool) -> _Plan:
    names, asked = list(dict.fromkeys(_LABELS.value)), list(dict.fromkeys(_PROTOCOLS.value or []))
    measurements = []
    if not asked or "regression" in asked:
        measurements = [name for name in names if labels.is_measurement(embeddings.label(name))]
    if asked == ["regression"]:
        measurements = names
    classes = [name for name in names if name not in measurements]
    protocols = asked or [*["zero_shot"] * has_model, "knn", "linear"]
    return _Plan(classes, [name for name in protocols if name != "regression"], measurements)


def _score(
    embeddings: export.Embeddings, plan: _Plan, prompts: dict[str, Any], has_model: bool
) -> tuple[classification.Classification, regression.Regression]:
    common: dict[str, Any] = {
        "train_split": _TRAIN_SPLIT.value,
        "test_split": _TEST_SPLIT.value,
        "draws": _BOOTSTRAP.value,
        "seed": _SEED.value,
    }
    found = classification.evaluate(
        embeddings,
        plan.classes,
        protocols=plan.protocols,
        prompts=prompts,
        embed_prompts=_embed_prompts if has_model else None,
        finetune=_fine_tuner(embeddings.ids["study_id"]) if "finetune" in plan.protocols else None,
        watch=report.progress,
        **common,
    )
    predicted = regression.Regression({}, (), ())
    if plan.measurements:
        predicted = regression.evaluate(embeddings, plan.measurements, **common)
    return found, predicted


def _write(
    folder: pathlib.Path,
    embeddings: export.Embeddings,
    found: classification.Classification,
    predicted: regression.Regression,
    figures: dict[str, Any],
    notes: list[str],
    plan: _Plan,
) -> page.Page:
    splits = {"train_split": _TRAIN_SPLIT.value, "test_split": _TEST_SPLIT.value}
    settings = {
        "labels": [*plan.classes, *plan.measurements],
        "protocols": [*plan.protocols, *["regression"] * bool(plan.measurements)],
        **splits,
        "groups": _GROUPS.value,
        **({"epochs": _EPOCHS.value} if "finetune" in plan.protocols else {}),
        "bootstrap": _BOOTSTRAP.value,
        "seed": _SEED.value,
    }
    report.write_json(folder / "classification.json", figures, embeddings, settings=settings, notes=notes)
    report.write_failures(folder / "failures.csv", embeddings, found, predicted)
    intervals = report.interval_sentence(_BOOTSTRAP.value, _SEED.value)
    folders = {flag.name: flag.value for flag in _FOLDERS}
    wrong, captions = failures.of_classification(embeddings, found)
    seen = {}
    if _DATA.value:
        from cmr_jax.data import glimpse  # it brings protobuf, which scores do without

        seen = glimpse.glimpses(_DATA.value, captions)
    content = page.Page(
        title="Classification",
        about=[
            f"{figures['n_studies']} studies of {figures['n_patients']} patients tested (split {_TEST_SPLIT.value}), "
            f"{figures['n_train']} studies trained on, {figures['n_val']} in val.",
            "A label of several classes is scored one-vs-rest; its first row is the mean over the classes, with the "
            "accuracy of the likeliest class. Thresholds have the largest sensitivity + specificity on validation.",
            intervals,
        ],
        flow=card.flow(embeddings, _used(found, predicted)),
        tables=[
            *tables.classification_tables(found),
            *tables.few_shot_tables(figures),
            *tables.regression_tables(figures),
            *tables.group_tables(figures),
            *tables.comparison_tables(figures),
        ],
        pictures=_pictures(folder, embeddings, found, predicted, figures, plan),
        failures=wrong,
        failure_pictures=[page.Picture(name, "The surest mistakes") for name in plots.failures(folder, seen, captions)],
        dataset=card.dataset_flow(embeddings),
        config=card.configuration(embeddings),
        notes=notes,
        checklist=card.checklist(
            intervals, "studies without a value are left out of that label and counted in the notes"
        ),
        card=card.model_card(embeddings),
        provenance=[(name.replace("_", " "), value) for name, value in embeddings.provenance().items()],
        command=report.command("cmr_jax.bin.eval_classification", folders, {**settings, "step": _STEP.value}),
    )
    page.write(folder, content, "classification")
    return content


def _used(found: classification.Classification, predicted: regression.Regression) -> dict[str, np.ndarray]:
    """The test rows of each label."""
    return {each.label.name: each.rows_N for each in found.scored} | {
        each.name: each.rows_N for each in predicted.predicted
    }


def _pictures(
    folder: pathlib.Path,
    embeddings: export.Embeddings,
    found: classification.Classification,
    predicted: regression.Regression,
    figures: dict[str, Any],
    plan: _Plan,
) -> list[page.Picture]:
    names = plots.classification(folder, found.scored)
    out = [
        page.Picture(name, f"{each.protocol}: {each.label.name}")
        for name, each in zip(names, found.scored, strict=True)
    ]
    out += [page.Picture(name, "Few shots: AUROC against shots a class") for name in plots.few_shot(folder, figures)]
    measured = plots.regression(folder, predicted.predicted)
    out += [page.Picture(n, f"Regression: {e.name}") for n, e in zip(measured, predicted.predicted, strict=True)]
    test = embeddings.take(embeddings.rows(_TEST_SPLIT.value))
    colour = [*plan.classes, *plan.measurements][0]
    name = plots.pca_map(folder, test.image_NE, test.text_NE, test.label(colour), colour)
    return [*out, page.Picture(name, f"Map of the test studies by {colour}")]


def _embed_prompts(sentences: list[str]) -> np.ndarray:
    from cmr_jax.evals import embed

    return embed.embed_prompts(sentences, workdir=_WORKDIR.value, checkpoint=_CHECKPOINT.value, step=_STEP.value)


def _fine_tuner(study_ids: list[str]) -> Callable[[Task], Fit]:
    from cmr_jax.evals import finetune

    return finetune.fine_tuner(
        workdir=_WORKDIR.value,
        checkpoint=_CHECKPOINT.value,
        step=_STEP.value,
        data=_DATA.value or "",
        study_ids=study_ids,
        epochs=_EPOCHS.value,
        seed=_SEED.value,
        watch=report.progress,
    )


def _read_prompts(path: str | None) -> dict[str, Any]:
    if not path:
        return {}
    import yaml

    try:
        # JSON is YAML, so one reader serves both.
        prompts = yaml.safe_load(pathlib.Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"cannot read --prompts: {error.strerror}") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise InputError("--prompts is neither YAML nor JSON") from error
    if not isinstance(prompts, dict):
        raise InputError("--prompts must map each label to its classes and their sentences")
    return {str(name): value for name, value in prompts.items()}


def main() -> None:
    cli.run(_main)


if __name__ == "__main__":
    main()
