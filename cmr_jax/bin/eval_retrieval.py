"""Scores retrieval: `python -m cmr_jax.bin.eval_retrieval --embeddings E --out R`, or --workdir W --data D."""

from absl import flags

from cmr_jax import cli
from cmr_jax.data import schema
from cmr_jax.errors import InputError
from cmr_jax.evals import export, plots, report, retrieval

_EMBEDDINGS = flags.DEFINE_string("embeddings", None, "Folder of embeddings, the --out of cmr_jax.bin.embed.")
_WORKDIR = flags.DEFINE_string("workdir", None, "Instead of --embeddings: workdir of a training run; needs --data.")
_CHECKPOINT = flags.DEFINE_string("checkpoint", None, "Instead of --workdir: one checkpoint of it.")
_STEP = flags.DEFINE_integer("step", None, "Step to take from --workdir; default the newest undamaged one.")
_DATA = flags.DEFINE_string("data", None, "Dataset folder, the --out of preprocessing.run.")
_SPLIT = flags.DEFINE_string("split", "test", "train, val or test; all scores every study against every other.")
_OUT = flags.DEFINE_string("out", None, "Folder for retrieval.json, retrieval.md and the plots.")
_LABELS = flags.DEFINE_list("labels", [], "Label columns; studies that agree in all of them are relevant.")
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
    labels = list(dict.fromkeys(_LABELS.value))
    found = retrieval.evaluate(
        embeddings, labels=labels, draws=_BOOTSTRAP.value, seed=_SEED.value, watch=report.progress
    )
    settings = {"split": _SPLIT.value, "labels": labels, "bootstrap": _BOOTSTRAP.value, "seed": _SEED.value}
    tables = report.retrieval_tables(found)
    about = f"{found.figures['n_studies']} studies of {found.figures['n_patients']} patients, split {_SPLIT.value}."
    with report.staged(_OUT.value) as folder:
        report.write_json(folder / "retrieval.json", found.figures, embeddings, settings=settings, notes=found.notes)
        page = report.markdown(
            "Retrieval",
            [about, report.interval_sentence(_BOOTSTRAP.value, _SEED.value)],
            tables,
            found.notes,
            embeddings,
            report.command("cmr_jax.bin.eval_retrieval", _folders(), {**settings, "step": _STEP.value}),
            plots.retrieval(folder, found.ranks),
        )
        (folder / "retrieval.md").write_text(page, encoding="utf-8")
    print("\n\n".join([about, *(f"{title}\n{text}" for title, text in tables)]))
    print(f"\nreport: {_OUT.value}/retrieval.md")


def _folders() -> dict[str, str | None]:
    return {flag.name: flag.value for flag in (_EMBEDDINGS, _WORKDIR, _CHECKPOINT, _DATA, _OUT)}


def main() -> None:
    cli.run(_main)


if __name__ == "__main__":
    main()
