"""Records, shards, index, tables and the manifest: written in a hidden folder, then moved into place, manifest last.

Nothing here depends on clocks, paths or the number of workers, so equal inputs give equal bytes.
"""

import csv
import hashlib
import importlib.metadata
import json
import shutil
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow_datasets as tfds
from etils import epath
from tensorflow_datasets.proto import tf_example_pb2

from cmr_jax.data import schema

STAGING = ".staging"
TABLES = ("files.csv", "series.csv", "studies.csv", "summary.md")
TFDS_FILES = ("features.json", "dataset_info.json")
_TEMPLATE = "{DATASET}-{SPLIT}.{FILEFORMAT}-{SHARD_X_OF_Y}"
_VERSIONS_OF = ("numpy", "pydicom", "sentencepiece", "tensorflow-datasets")
_DESCRIPTION = "Cardiac MR studies with reports, de-identified; see manifest.json and summary.md."


def _nested(flat: dict[str, Any]) -> dict[str, Any]:
    """`{"a/b": x}` as `{"a": {"b": x}}`: the form tensorflow-datasets wants; it joins the names again when writing."""
    out: dict[str, Any] = {}
    for name, value in flat.items():
        *outer, last = name.split("/")
        place = out
        for part in outer:
            place = place.setdefault(part, {})
        place[last] = value
    return out


def features(image_size: int) -> tfds.features.FeaturesDict:
    """`schema.fields` as features of tensorflow-datasets."""

    def feature(field: schema.Field) -> Any:
        if field.dtype == "str":
            return tfds.features.Sequence(tfds.features.Text()) if field.shape else tfds.features.Text()
        encoding = "bytes" if field.raw else "none"
        return tfds.features.Tensor(shape=field.shape, dtype=np.dtype(field.dtype), encoding=encoding)

    return tfds.features.FeaturesDict(_nested({k: feature(f) for k, f in schema.fields(image_size).items()}))


def serialize(feature_dict: tfds.features.FeaturesDict, example: dict[str, Any]) -> bytes:
    """One record's payload, a serialized `tf.train.Example`.

    Written a second time with its keys in order: protobuf shuffles them from process to process otherwise.
    """
    payload = feature_dict.serialize_example(_nested(example))
    example_class: Any = tf_example_pb2.Example  # pyright: ignore[reportAttributeAccessIssue]
    return example_class.FromString(payload).SerializeToString(deterministic=True)


def write_split(
    folder: Path, split: str, count: int, payloads: Iterable[bytes], studies_per_shard: int
) -> list[dict[str, Any]]:
    """Writes `count` payloads as shards with their index; returns the shards' entries of the manifest."""
    num_shards = -(-count // studies_per_shard)
    entries = []
    source = iter(payloads)
    for shard in range(num_shards):
        name = schema.shard_name(split, shard, num_shards)
        records, digest = [], hashlib.sha256()
        offset = 0
        with (folder / name).open("wb") as file:
            for _ in range(min(studies_per_shard, count - shard * studies_per_shard)):
                payload = next(source)
                framed = schema.frame_record(payload)
                records.append((offset + 12, len(payload), schema.masked_crc(payload)))
                file.write(framed)
                digest.update(framed)
                offset += len(framed)
        index = schema.ShardIndex(name, offset, tuple(records)).to_json().encode()
        (folder / schema.index_name(name)).write_bytes(index)
        entries.append(
            {
                "name": name,
                "records": len(records),
                "bytes": offset,
                "sha256": digest.hexdigest(),
                "index_sha256": hashlib.sha256(index).hexdigest(),
            }
        )
    return entries


def write_tfds_metadata(folder: Path, image_size: int, shards: dict[str, list[dict[str, Any]]]) -> None:
    """`features.json` and `dataset_info.json`, so that `tfds.builder_from_directory` opens the folder.

    Splits without a study are left out: tensorflow-datasets refuses them.
    """
    template = tfds.core.ShardedFileTemplate(
        data_dir=epath.Path(folder), dataset_name=schema.DATASET_NAME, template=_TEMPLATE, filetype_suffix="tfrecord"
    )
    infos = [
        tfds.core.SplitInfo(
            name=split,
            shard_lengths=[entry["records"] for entry in entries],
            num_bytes=sum(entry["bytes"] for entry in entries),
            filename_template=template,
        )
        for split, entries in shards.items()
        if entries
    ]
    tfds.folder_dataset.write_metadata(
        data_dir=folder,
        features=features(image_size),
        split_infos=infos,
        filename_template=template,
        check_data=False,
        version="1.0.0",
        description=_DESCRIPTION,
    )


def write_table(path: Path, columns: Sequence[str], rows: Iterable[dict[str, Any]]) -> None:
    """A CSV with a header line; absent values stay empty."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, columns, restval="", lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def versions() -> dict[str, str]:
    """Of the libraries that the records depend on."""
    return {name: importlib.metadata.version(name) for name in _VERSIONS_OF}


def _published(out: Path) -> list[Path]:
    """What an earlier run left in `out`, manifest first, so that a half-removed dataset never looks whole."""
    ours = (schema.TOKENIZER, *TFDS_FILES, *TABLES, "qc")
    found = [p for p in sorted(out.iterdir()) if p.name in ours or p.name.startswith(f"{schema.DATASET_NAME}-")]
    manifest = out / schema.MANIFEST
    return [manifest, *found] if manifest.exists() else found


def publish(out: Path, fill: Callable[[Path], dict[str, Any]]) -> dict[str, Any]:
    """Lets `fill(folder)` write everything into a hidden folder and give the manifest, then moves it into `out`.

    Where `fill` fails, what `out` held before stands untouched.
    """
    staging = out / STAGING
    shutil.rmtree(staging, ignore_errors=True)
    staging.mkdir(parents=True)
    try:
        manifest = fill(staging)
        text = json.dumps(manifest, indent=2, sort_keys=True) + "\n"
        (staging / schema.MANIFEST).write_text(text, encoding="utf-8")
    except BaseException:
        shutil.rmtree(staging, ignore_errors=True)
        raise
    for path in _published(out):
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink()
    for path in sorted(staging.iterdir(), key=lambda p: p.name == schema.MANIFEST):
        path.rename(out / path.name)
    staging.rmdir()
    return manifest
