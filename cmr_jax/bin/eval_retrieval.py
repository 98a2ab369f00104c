"""Scores retrieval: `python -m cmr_jax.bin.eval_retrieval --embeddings E --out R`, or --workdir W --data D."""

import pathlib

from absl import flags

from cmr_jax import cli
from cmr_jax.data import schema
from cmr_jax.errors import InputError
from cmr_jax.evals import card, export, failures, page, plots, report, retrieval, tables

_EMBEDDINGS = flags.DEFINE_string("embeddings", None, "Folder of embeddings, the --out of cmr_jax.bin.embed.")
_WORKDIR = flags.DEFINE_string("workdir", None, "Instead of --embeddings: workdir of a training run; needs --data.")
_CHECKPOINT = flags.DEFINE_string("checkpoint", None, "Instead of --workdir: one checkpoint of it.")
_STEP = flags.DEFINE_integer("step", None, "Step to take from --workdir; default the newest undamaged one.")
_DATA = flags.DEFINE_string("data", None, "Dataset folder, the --out of preprocessing.run.")
_SPLIT = flags.DEFINE_string("split", "test", "train, val or test; all scores every study against every other.")
_OUT = flags.DEFINE_string("out", None, "Folder for retrieval.json, retrieval.md, report.html and the plots.")
_LABELS = flags.DEFINE_list("labels", [], "Label columns; studies that agree in all of them are relevant.")
_COMPARE = flags.DEFINE_string("compare", None, "Embeddings of another model: paired differences on common studies.")
_BOOTSTRAP = flags.DEFINE_integer("bootstrap", 1000, "Resamples of the patients for the intervals; 0: none.", 0)
_SEED = flags.DEFINE_integer("seed", 0, "Seed of the resamples.", 0)


def _main() -> None:
    if not _OUT.value:
        raise InputError("give --out (see --help)")
    splits = schema.SPLITS if _SPLIT.value == export.ALL_SPLITS else (_SPLIT.value,)
    everything = export.obtain(
        embeddings=_EMBEDDINGS.value,
        workdir=_WORKDIR.value,
        checkpoint=_CHECKPOINT.value,
        data=_DATA.value,
        splits=splits,
        step=_STEP.value,
    )
    embeddings = everything.take(everything.rows(_SPLIT.value))
    other = None
    if _COMPARE.value:
        other = export.load(_COMPARE.value)
        other = other.take(other.rows(_SPLIT.value))
    labels = list(dict.fromkeys(_LABELS.value))
    found = retrieval.evaluate(
        embeddings, labels=labels, draws=_BOOTSTRAP.value, seed=_SEED.value, other=other, watch=report.progress
    )
    with report.staged(_OUT.value) as folder:
        content = _write(folder, everything, embeddings, found, labels)
    print("\n\n".join([content.about[0], *(f"{each.title}\n{each.markdown()}" for each in content.tables)]))
    print(f"\nreport: {_OUT.value}/report.html, {_OUT.value}/retrieval.md")


def _write(
    folder: pathlib.Path,
    everything: export.Embeddings,
    embeddings: export.Embeddings,
    found: retrieval.Retrieval,
    labels: list[str],
) -> page.Page:
    settings = {"split": _SPLIT.value, "labels": labels, "bootstrap": _BOOTSTRAP.value, "seed": _SEED.value}
    intervals = report.interval_sentence(_BOOTSTRAP.value, _SEED.value)
    report.write_json(folder / "retrieval.json", found.figures, embeddings, settings=settings, notes=found.notes)
    column = embeddings.label(labels[0]) if labels else embeddings.ids["split"]
    colour = labels[0] if labels else "split"
    names = plots.retrieval(folder, found.ranks)
    shown = ["Recall at k", "Rank of the first hit"]
    pictures = list(zip(names, shown, strict=True))
    pictures.append(
        (plots.pca_map(folder, embeddings.image_NE, embeddings.text_NE, column, colour), f"Map by {colour}")
    )
    late, captions = failures.of_retrieval(embeddings, found)
    seen = {}
    if _DATA.value:
        from cmr_jax.data import glimpse  # it brings protobuf, which scores do without

        seen = glimpse.glimpses(_DATA.value, captions)
    content = page.Page(
        title="Retrieval",
        about=[
            f"{found.figures['n_studies']} studies of {found.figures['n_patients']} patients, split {_SPLIT.value}.",
            "R@k in percent, ranks from 1; chance is the exact expectation of random scores, and ties score the "
            "expectation over their orders.",
            intervals,
        ],
        flow=card.flow(everything, {"scored": everything.rows(_SPLIT.value)}),
        tables=tables.retrieval_tables(found),
        pictures=[page.Picture(*each) for each in pictures],
        failures=late,
        failure_pictures=[page.Picture(name, "Found last") for name in plots.failures(folder, seen, captions)],
        dataset=card.dataset_flow(embeddings),
        config=card.configuration(embeddings),
        notes=found.notes,
        checklist=card.checklist(intervals, "studies without a label are left out of its measures and counted"),
        card=card.model_card(embeddings),
        provenance=[(name.replace("_", " "), value) for name, value in embeddings.provenance().items()],
        command=report.command("cmr_jax.bin.eval_retrieval", _folders(), {**settings, "step": _STEP.value}),
    )
    page.write(folder, content, "retrieval")
    return content


def _folders() -> dict[str, str | None]:
    return {flag.name: flag.value for flag in (_EMBEDDINGS, _WORKDIR, _CHECKPOINT, _DATA, _COMPARE, _OUT)}


def main() -> None:
    cli.run(_main)


if __name__ == "__main__":
    main()
