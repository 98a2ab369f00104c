"""Random access to the studies of a split: TFRecord shards through their offset index, every byte checked.

A study is megabytes, so a shuffle buffer would be no shuffle; the index gives a true permutation, and it catches what
raw TFRecord readers lose in silence (a shard cut at a record's boundary, an empty or a missing file).
"""

import functools
import hashlib
import json
import mmap
from pathlib import Path
from typing import Any

import numpy as np
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

from cmr_jax.data import schema
from cmr_jax.errors import InputError

Example = dict[str, Any]


def load_manifest(path: str | Path) -> dict[str, Any]:
    """The manifest of a dataset folder.

    Raises:
      InputError: where there is none, or of another schema version.
    """
    path = Path(path)
    if not path.is_dir():
        raise InputError(f"no dataset folder at {str(path)!r}: give the --out folder of preprocessing.run")
    try:
        manifest = json.loads((path / schema.MANIFEST).read_text())
    except FileNotFoundError:
        raise InputError(f"the dataset has no {schema.MANIFEST}: preprocessing.run did not finish there") from None
    except json.JSONDecodeError:
        raise InputError(f"{schema.MANIFEST} of the dataset is damaged: run preprocessing again") from None
    if manifest.get("schema") != schema.SCHEMA_VERSION:
        found, ours = manifest.get("schema"), schema.SCHEMA_VERSION
        raise InputError(f"the dataset has schema {found}, this code reads {ours}: preprocess again")
    return manifest


def manifest_hash(path: str | Path) -> str:
    """SHA-256 of the manifest file: it holds the hash of everything else, so it names the dataset."""
    return hashlib.sha256((Path(path) / schema.MANIFEST).read_bytes()).hexdigest()


class Split:
    """The studies of one split, by row: `len(split)`, `split[row]`. Rows run shard after shard, in file order.

    Opening checks that every shard and index is there, whole and the manifest's; reading checks each record's CRC.

    Raises:
      InputError: naming the shard, at open or at read.
    """

    def __init__(self, path: str | Path, split: str):
        manifest = load_manifest(path)
        if split not in manifest["splits"]:
            raise InputError(f"no split {split!r}; the dataset has {', '.join(manifest['splits'])}")
        self.name = split
        self._fields = schema.fields_of(manifest)
        self._shards: list[tuple[str, Any]] = []
        self._rows: list[tuple[int, int, int, int]] = []
        for entry in manifest["splits"][split]["shards"]:
            index = _open_index(Path(path), entry)
            self._rows += [(len(self._shards), offset, length, crc) for offset, length, crc in index.records]
            self._shards.append((entry["name"], _map_file(Path(path) / entry["name"])))

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, row: int) -> Example:
        """The study at `row`, as `schema.fields` says. Arrays are read-only."""
        shard, offset, length, crc = self._rows[row]
        name, data = self._shards[shard]
        payload = data[offset : offset + length]
        if schema.masked_crc(payload) != crc:
            raise InputError(f"shard {name} is damaged (record at byte {offset}): restore it or preprocess again")
        return decode(payload, self._fields)


def _open_index(folder: Path, entry: dict[str, Any]) -> schema.ShardIndex:
    name = entry["name"]
    remedy = "restore it or preprocess again"
    try:
        raw = (folder / schema.index_name(name)).read_bytes()
        size = (folder / name).stat().st_size
    except FileNotFoundError as error:
        raise InputError(f"{Path(error.filename).name} is missing: {remedy}") from None
    if hashlib.sha256(raw).hexdigest() != entry["index_sha256"]:
        raise InputError(f"the index of shard {name} is not the one of the manifest: {remedy}")
    index = schema.ShardIndex.from_json(raw.decode())
    if size != entry["bytes"] or size != index.total_bytes:
        raise InputError(f"shard {name} has {size} bytes instead of {entry['bytes']}: {remedy}")
    if len(index.records) != entry["records"]:
        raise InputError(f"the index of shard {name} counts {len(index.records)} records: {remedy}")
    return index


def _map_file(path: Path) -> mmap.mmap:
    with path.open("rb") as file:
        return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)


def decode(payload: bytes, fields: dict[str, schema.Field]) -> Example:
    """A serialized `tf.train.Example` to str, list of str, or NumPy array a field."""
    features = _example_class().FromString(payload).features.feature
    return {name: _decode_field(features[name], field) for name, field in fields.items()}


def _decode_field(feature: Any, field: schema.Field) -> Any:
    if field.dtype == "str":
        values = [v.decode() for v in feature.bytes_list.value]
        return values if field.shape else values[0]
    if field.raw:
        shape = tuple(-1 if d is None else d for d in field.shape)
        return np.frombuffer(feature.bytes_list.value[0], field.dtype).reshape(shape)
    values = feature.float_list.value if field.dtype.startswith("float") else feature.int64_list.value
    return np.array(values, field.dtype)


@functools.cache
def _example_class() -> Any:
    """The message class of `tf.train.Example`, built from its four public definitions: protobuf parses, and neither
    TensorFlow nor tensorflow-datasets is needed to read. A pool of its own, so that TensorFlow may live beside it."""
    file = descriptor_pb2.FileDescriptorProto(name="cmr_jax_example.proto", package="cmr_jax", syntax="proto3")
    kinds = descriptor_pb2.FieldDescriptorProto

    def message(name: str, *fields: tuple[str, int, int, int, str]) -> descriptor_pb2.DescriptorProto:
        made = file.message_type.add(name=name)
        for field, number, kind, label, of in fields:
            made.field.add(name=field, number=number, type=kind, label=label, type_name=of or None)
        return made

    one, many = kinds.LABEL_OPTIONAL, kinds.LABEL_REPEATED
    message("BytesList", ("value", 1, kinds.TYPE_BYTES, many, ""))
    message("FloatList", ("value", 1, kinds.TYPE_FLOAT, many, ""))
    message("Int64List", ("value", 1, kinds.TYPE_INT64, many, ""))
    message(
        "Feature",
        ("bytes_list", 1, kinds.TYPE_MESSAGE, one, ".cmr_jax.BytesList"),
        ("float_list", 2, kinds.TYPE_MESSAGE, one, ".cmr_jax.FloatList"),
        ("int64_list", 3, kinds.TYPE_MESSAGE, one, ".cmr_jax.Int64List"),
    )
    features = message("Features", ("feature", 1, kinds.TYPE_MESSAGE, many, ".cmr_jax.Features.FeatureEntry"))
    entry = features.nested_type.add(name="FeatureEntry")
    entry.options.map_entry = True
    entry.field.add(name="key", number=1, type=kinds.TYPE_STRING, label=one)
    entry.field.add(name="value", number=2, type=kinds.TYPE_MESSAGE, label=one, type_name=".cmr_jax.Feature")
    message("Example", ("features", 1, kinds.TYPE_MESSAGE, one, ".cmr_jax.Features"))
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("cmr_jax.Example"))
