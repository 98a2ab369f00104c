"""Finds studies: `python -m cmr_jax.bin.search --embeddings E --study ID`, or `--text "…" --workdir W`.

`--text -` reads a text a line from standard input and answers each at once: the model is read once for all.
"""

import sys
from collections.abc import Iterator

import numpy as np
from absl import flags

from cmr_jax import cli
from cmr_jax.errors import InputError
from cmr_jax.evals import export, search
from cmr_jax.evals.tables import table

# The --text that stands for standard input.
STDIN = "-"

_EMBEDDINGS = flags.DEFINE_string("embeddings", None, "Folder of embeddings, the --out of cmr_jax.bin.embed.")
_STUDY = flags.DEFINE_string("study", None, "Pseudonym of a study: finds others like it, of other patients.")
_TEXT = flags.DEFINE_string(
    "text", None, "Words of a report, or - for a line each of stdin: finds studies; needs the model."
)
_WORKDIR = flags.DEFINE_string("workdir", None, "Workdir of a training run: the text tower of --text.")
_CHECKPOINT = flags.DEFINE_string("checkpoint", None, "Instead of --workdir: one checkpoint of it.")
_STEP = flags.DEFINE_integer("step", None, "Step to take from --workdir; default the newest undamaged one.")
_AMONG = flags.DEFINE_enum("among", "images", ["images", "texts"], "Compare with the studies' images or reports.")
_SPLIT = flags.DEFINE_string("split", export.ALL_SPLITS, "Search train, val or test alone.")
_TOP = flags.DEFINE_integer("top", 10, "How many to show.", 1)


def _main() -> None:
    if not _EMBEDDINGS.value or (_STUDY.value is None) == (_TEXT.value is None):
        raise InputError("give --embeddings, and either --study or --text (see --help)")
    if _TEXT.value is not None and not _TEXT.value.strip():
        raise InputError("--text is empty")
    everything = export.load(_EMBEDDINGS.value)
    if _AMONG.value == "texts" and everything.text_studies is not None:
        raise InputError("--among=texts needs one text a study; this folder has several")
    embeddings = everything.take(everything.rows(_SPLIT.value))
    if _STUDY.value is not None:
        row = search.row_of(everything, _STUDY.value)
        query_E = (everything.image_NE if _AMONG.value == "images" else everything.text_NE)[row]
        _answer(embeddings, query_E, search.of_patient(embeddings, everything.patients()[row]))
        return
    from cmr_jax.evals import embed

    encode = embed.prompt_encoder(workdir=_WORKDIR.value, checkpoint=_CHECKPOINT.value, step=_STEP.value)
    for text in _stdin_lines() if _TEXT.value == STDIN else [str(_TEXT.value)]:
        _answer(embeddings, encode([text])[0])


def _stdin_lines() -> Iterator[str]:
    """The lines of standard input that are not blank, asked for where a person types them."""
    while True:
        if sys.stdin.isatty():
            print("words of a report (ctrl-D ends): ", end="", file=sys.stderr, flush=True)
        line = sys.stdin.readline()
        if not line:
            return
        if line.strip():
            yield line.strip()


def _answer(embeddings: export.Embeddings, query_E: np.ndarray, leave_out_N: np.ndarray | None = None) -> None:
    gallery_NE = embeddings.image_NE if _AMONG.value == "images" else embeddings.text_NE
    rows, scores = search.nearest(query_E, gallery_NE, _TOP.value, leave_out_N)
    names = ["study_id", "patient_id", "split", *embeddings.labels]
    lines = [
        [str(place), f"{score:.4f}", *(embeddings.ids[name][row] for name in names)]
        for place, (row, score) in enumerate(zip(rows, scores, strict=True), start=1)
    ]
    print(table(["", "cosine", *names], lines), flush=True)


def main() -> None:
    cli.run(_main)


if __name__ == "__main__":
    main()
