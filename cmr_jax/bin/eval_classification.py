"""Scores labels: `python -m cmr_jax.bin.eval_classification --embeddings E --labels a,b --out R`."""

import pathlib
from typing import Any

import numpy as np
from absl import flags

from cmr_jax import cli
from cmr_jax.data import schema
from cmr_jax.errors import InputError
from cmr_jax.evals import classification, export, plots, report

_EMBEDDINGS = flags.DEFINE_string("embeddings", None, "Folder of embeddings that holds every split that is used.")
_WORKDIR = flags.DEFINE_string(
    "workdir", None, "Workdir of a training run: the text tower of zero_shot, and with --data instead of --embeddings."
)
_CHECKPOINT = flags.DEFINE_string("checkpoint", None, "Instead of --workdir: one checkpoint of it.")
_STEP = flags.DEFINE_integer("step", None, "Step to take from --workdir; default the newest undamaged one.")
_DATA = flags.DEFINE_string("data", None, "Dataset folder, the --out of preprocessing.run.")
_OUT = flags.DEFINE_string("out", None, "Folder for classification.json, .md, the plots and failures.csv.")
_LABELS = flags.DEFINE_list("labels", [], "Label columns to score.")
_PROTOCOLS = flags.DEFINE_list(
    "protocols", None, "Of zero_shot, knn, linear. Default: knn and linear, and zero_shot where there is a model."
)
_TRAIN_SPLIT = flags.DEFINE_string("train_split", "train", "Split that fits.")
_TEST_SPLIT = flags.DEFINE_string("test_split", "test", "Split that is scored. Choices are made on val.")
_PROMPTS = flags.DEFINE_string("prompts", None, "YAML or JSON: label -> class -> sentences, for zero_shot.")
_BOOTSTRAP = flags.DEFINE_integer("bootstrap", 1000, "Resamples of the test patients for the intervals; 0: none.", 0)
_SEED = flags.DEFINE_integer("seed", 0, "Seed of the resamples.", 0)
_SHOWN = ("AUROC", "AUPRC", "accuracy", "F1")


def _main() -> None:
    if not _OUT.value or not _LABELS.value:
        raise InputError("give --out and --labels (see --help)")
    has_model = bool(_WORKDIR.value or _CHECKPOINT.value)
    protocols = list(dict.fromkeys(_PROTOCOLS.value or [*["zero_shot"] * has_model, "knn", "linear"]))
    classification.check_protocols(protocols)
    if "zero_shot" in protocols and not has_model:
        raise InputError("zero_shot needs --workdir or --checkpoint for the text tower")
    prompts = _read_prompts(_PROMPTS.value)
    labels = list(dict.fromkeys(_LABELS.value))
    embeddings = export.obtain(
        embeddings=_EMBEDDINGS.value,
        workdir=_WORKDIR.value,
        checkpoint=_CHECKPOINT.value,
        data=_DATA.value,
        splits=schema.SPLITS,
        step=_STEP.value,
    )
    found = classification.evaluate(
        embeddings,
        labels,
        protocols=protocols,
        train_split=_TRAIN_SPLIT.value,
        test_split=_TEST_SPLIT.value,
        prompts=prompts,
        embed_prompts=_embed_prompts if has_model else None,
        draws=_BOOTSTRAP.value,
        seed=_SEED.value,
        watch=report.progress,
    )
    with report.staged(_OUT.value) as folder:
        _write(folder, embeddings, found, labels, protocols)
    print("\n\n".join(f"{title}\n{text}" for title, text in report.classification_tables(found, _SHOWN)))
    print(f"\nreport: {_OUT.value}/classification.md")


def _write(
    folder: pathlib.Path,
    embeddings: export.Embeddings,
    found: classification.Classification,
    labels: list[str],
    protocols: list[str],
) -> None:
    splits = {"train_split": _TRAIN_SPLIT.value, "test_split": _TEST_SPLIT.value}
    settings = {"labels": labels, "protocols": protocols, **splits, "bootstrap": _BOOTSTRAP.value, "seed": _SEED.value}
    report.write_json(folder / "classification.json", found.figures, embeddings, settings=settings, notes=found.notes)
    report.write_failures(folder / "failures.csv", embeddings, found)
    about = (
        f"{found.figures['n_studies']} studies of {found.figures['n_patients']} patients tested (split "
        f"{_TEST_SPLIT.value}), {found.figures['n_train']} studies trained on, {found.figures['n_val']} in val."
    )
    folders = {flag.name: flag.value for flag in (_EMBEDDINGS, _WORKDIR, _CHECKPOINT, _DATA, _OUT, _PROMPTS)}
    page = report.markdown(
        "Classification",
        [
            about,
            "A label of several classes is scored one-vs-rest; its first row is the mean over the classes, with the "
            "accuracy of the likeliest class. Thresholds have the largest sensitivity + specificity on validation.",
            report.interval_sentence(_BOOTSTRAP.value, _SEED.value),
        ],
        report.classification_tables(found),
        found.notes,
        embeddings,
        report.command("cmr_jax.bin.eval_classification", folders, {**settings, "step": _STEP.value}),
        plots.classification(folder, found.scored),
    )
    (folder / "classification.md").write_text(page, encoding="utf-8")


def _embed_prompts(sentences: list[str]) -> np.ndarray:
    from cmr_jax.evals import embed

    return embed.embed_prompts(sentences, workdir=_WORKDIR.value, checkpoint=_CHECKPOINT.value, step=_STEP.value)


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
