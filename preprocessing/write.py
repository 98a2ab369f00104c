"""Records, shards, index and tables, in the folder they are told.

Nothing here depends on clocks, paths or the number of workers, so equal inputs give equal bytes.
"""

import csv
import hashlib
import importlib.metadata
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow_datasets as tfds
from etils import epath
from tensorflow_datasets.proto import tf_example_pb2

from cmr_jax.data import records, schema

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


def features(image_size: int, bits: int) -> tfds.features.FeaturesDict:
    """`schema.fields` as features of tensorflow-datasets."""

    def feature(field: schema.Field) -> Any:
        if field.dtype == "str":
            return tfds.features.Sequence(tfds.features.Text()) if field.shape else tfds.features.Text()
        encoding = "bytes" if field.raw else "none"
        return tfds.features.Tensor(shape=field.shape, dtype=np.dtype(field.dtype), encoding=encoding)

    return tfds.features.FeaturesDict(_nested({k: feature(f) for k, f in schema.fields(image_size, bits).items()}))


def serialize(feature_dict: tfds.features.FeaturesDict, example: dict[str, Any]) -> bytes:
    """One record's payload, a serialized `tf.train.Example`.

    Written a second time with its keys in order: protobuf shuffles them from process to process otherwise.
    """
    payload = feature_dict.serialize_example(_nested(example))
    example_class: Any = tf_example_pb2.Example  # pyright: ignore[reportAttributeAccessIssue]
    return example_class.FromString(payload).SerializeToString(deterministic=True)


def layout(study_ids: Iterable[str], studies_per_shard: int) -> list[list[str]]:
    """The studies of a split, shard by shard, in the order of their records.

    A study id is an HMAC, so its first bits are as good as drawn: they name the shard, and a study that comes or goes
    changes no other shard than its own. The number of shards is the smallest power of two that holds
    `studies_per_shard` on average, halved until no shard is empty (outside readers refuse those).
    """
    ids = sorted(study_ids)
    count = 1
    while count * studies_per_shard < len(ids):
        count *= 2
    while count > 1 and not all(buckets(ids, count)):
        count //= 2
    return buckets(ids, count) if ids else []


def buckets(study_ids: Iterable[str], count: int) -> list[list[str]]:
    """The studies of each of `count` shards, in the order of their records."""
    shards: list[list[str]] = [[] for _ in range(count)]
    for study_id in sorted(study_ids):
        shards[int(study_id[:8], 16) * count >> 32].append(study_id)
    return shards


def write_shard(path: Path, payloads: Iterable[bytes]) -> dict[str, Any]:
    """Writes one shard and its index; returns its entry of the manifest."""
    records, digest, offset = [], hashlib.sha256(), 0
    with path.open("wb") as file:
        for payload in payloads:
            framed = schema.frame_record(payload)
            records.append((offset + 12, len(payload), schema.masked_crc(payload)))
            file.write(framed)
            digest.update(framed)
            offset += len(framed)
    index = schema.ShardIndex(path.name, offset, tuple(records)).to_json().encode()
    path.with_name(schema.index_name(path.name)).write_bytes(index)
    return {
        "name": path.name,
        "records": len(records),
        "bytes": offset,
        "sha256": digest.hexdigest(),
        "index_sha256": hashlib.sha256(index).hexdigest(),
    }


def write_split(
    folder: Path, split: str, shards: Sequence[Sequence[str]], payload: Callable[[str], bytes]
) -> list[dict[str, Any]]:
    """Writes the shards of `layout`, `payload(study_id)` a record; returns their entries of the manifest."""
    names = [schema.shard_name(split, number, len(shards)) for number in range(len(shards))]
    return [write_shard(folder / name, map(payload, ids)) for name, ids in zip(names, shards, strict=True)]


def write_tfds_metadata(
    folder: Path, feature_dict: tfds.features.FeaturesDict, shards: dict[str, list[dict[str, Any]]]
) -> None:
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
        features=feature_dict,
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


def read_table(path: Path) -> tuple[list[str], list[dict[str, str]]]:
    """Columns and rows of a table of ours."""
    with path.open(newline="", encoding="utf-8") as file:
        reader = csv.DictReader(file)
        rows = list(reader)
        return list(reader.fieldnames or ()), rows


class Rows(Sequence[dict[str, str]]):
    """The rows of a table too large for memory, read anew at each turn."""

    def __init__(self, path: Path):
        self._path = path

    def __iter__(self) -> Iterator[dict[str, str]]:
        with self._path.open(newline="", encoding="utf-8") as file:
            yield from csv.DictReader(file)

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def __getitem__(self, index: Any) -> Any:
        return list(self)[index]


def payloads(folder: Path, shard: str) -> Iterator[bytes]:
    """The payload of every record of a shard. Raises ValueError where its bytes are not those of its index."""
    index = schema.ShardIndex.from_json((folder / schema.index_name(shard)).read_text(encoding="utf-8"))
    with (folder / shard).open("rb") as file:
        for offset, length, crc in index.records:
            file.seek(offset)
            payload = file.read(length)
            if schema.masked_crc(payload) != crc:
                raise ValueError(f"shard {shard} is damaged")
            yield payload


def study_id(payload: bytes) -> str:
    """Whose record it is."""
    return records.decode(payload, {"study_id": schema.Field("str")})["study_id"]


def digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def versions() -> dict[str, str]:
    """Of the libraries that the records depend on."""
    return {name: importlib.metadata.version(name) for name in _VERSIONS_OF}
