"""Embeddings in other programs' formats: `python -m cmr_jax.bin.convert --embeddings E --to parquet --out F`.

parquet    one file: the columns of ids.csv and image, text as lists of float32 (needs pyarrow)
projector  a folder for the TensorBoard projector: tensors.tsv, metadata.tsv, projector_config.pbtxt
faiss      an exact inner-product index of the images, row i is study i (needs faiss)
"""

import importlib
import pathlib
from collections.abc import Callable
from typing import Any

import numpy as np
from absl import flags

from cmr_jax import cli
from cmr_jax.errors import InputError
from cmr_jax.evals import export, report

_EMBEDDINGS = flags.DEFINE_string("embeddings", None, "Folder of embeddings, the --out of cmr_jax.bin.embed.")
_TO = flags.DEFINE_enum("to", None, ["parquet", "projector", "faiss"], "The format.")
_OUT = flags.DEFINE_string("out", None, "The folder to write to.")


def _main() -> None:
    if not _EMBEDDINGS.value or not _TO.value or not _OUT.value:
        raise InputError("give --embeddings, --to and --out (see --help)")
    write: Callable = {"parquet": _parquet, "projector": _projector, "faiss": _faiss}[_TO.value]
    embeddings = export.load(_EMBEDDINGS.value)
    if embeddings.text_studies is not None:
        raise InputError("this folder has several texts a study; convert one with a text a study")
    with report.staged(_OUT.value) as folder:
        write(embeddings, folder)
    print(f"{len(embeddings)} studies in {_OUT.value}")


def _parquet(embeddings: export.Embeddings, folder: pathlib.Path) -> None:
    pyarrow, parquet = _needs("pyarrow", "pyarrow"), _needs("pyarrow.parquet", "pyarrow")
    columns: dict[str, Any] = {name: values for name, values in embeddings.ids.items() if name != "row"}
    for name, rows_NE in (("image", embeddings.image_NE), ("text", embeddings.text_NE)):
        flat = pyarrow.array(np.ascontiguousarray(rows_NE).reshape(-1))
        columns[name] = pyarrow.FixedSizeListArray.from_arrays(flat, rows_NE.shape[1])
    parquet.write_table(pyarrow.table(columns), folder / "embeddings.parquet")


def _projector(embeddings: export.Embeddings, folder: pathlib.Path) -> None:
    np.savetxt(folder / "tensors.tsv", embeddings.image_NE, fmt="%.7g", delimiter="\t")
    names = [name for name in embeddings.ids if name != "row"]
    with (folder / "metadata.tsv").open("w", encoding="utf-8") as file:
        file.write("\t".join(names) + "\n")
        for values in zip(*(embeddings.ids[name] for name in names), strict=True):
            # A tab or a line break in a value would shift every row below it.
            file.write("\t".join(" ".join(value.split()) for value in values) + "\n")
    config = 'embeddings {\n  tensor_path: "tensors.tsv"\n  metadata_path: "metadata.tsv"\n}\n'
    (folder / "projector_config.pbtxt").write_text(config, encoding="utf-8")


def _faiss(embeddings: export.Embeddings, folder: pathlib.Path) -> None:
    faiss = _needs("faiss", "faiss-cpu")
    index = faiss.IndexFlatIP(embeddings.image_NE.shape[1])
    index.add(np.ascontiguousarray(embeddings.image_NE))
    faiss.write_index(index, str(folder / "images.faiss"))
    lines = "".join(f"{study}\n" for study in embeddings.ids["study_id"])
    (folder / "study_ids.txt").write_text(lines, encoding="utf-8")


def _needs(module: str, package: str) -> Any:
    try:
        return importlib.import_module(module)
    except ImportError:
        raise InputError(f"--to={_TO.value} needs {package}: pip install {package}") from None


def main() -> None:
    cli.run(_main)


if __name__ == "__main__":
    main()
