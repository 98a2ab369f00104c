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
            self._shards.append((entry["name"], np.frombuffer(_map_file(Path(path) / entry["name"]), np.uint8)))

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, row: int) -> Example:
        """The study at `row`, as `schema.fields` says. Arrays are read-only; its frames are the mapped file
        itself: they are read from the disk once, by the check of their CRC, and never copied."""
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


def decode(payload: bytes | np.ndarray, fields: dict[str, schema.Field]) -> Example:
    """A serialized `tf.train.Example`, as bytes or as uint8, to str, list of str, or NumPy array a field."""
    payload = payload if isinstance(payload, np.ndarray) else np.array(memoryview(payload))
    raw, rest = _take_out(payload, {name.encode() for name, field in fields.items() if field.raw})
    features = _example_class().FromString(rest).features.feature
    return {
        name: _shaped(raw[name.encode()], field) if name.encode() in raw else _decode_field(features[name], field)
        for name, field in fields.items()
    }


# Tags of a field of length-delimited kind: number 1, which is all that the way to a value has, and 2, a map's value.
_ONE, _TWO = 0x0A, 0x12
# Bytes from which on an entry is worth taking out.
_LARGE = 4096


def _take_out(payload: np.ndarray, names: set[bytes]) -> tuple[dict[bytes, np.ndarray], bytes]:
    """The large byte strings among the features `names`, as views, and a serialized Example of all the others.

    protobuf would copy them twice. Whatever is not written exactly as a serializer writes it is left to protobuf.
    """
    found: dict[bytes, np.ndarray] = {}
    head = payload[:20].tobytes()
    length, at = _varint(head, 1)
    if head[:1] != bytes([_ONE]) or at + length != len(payload):
        return {}, payload.tobytes()
    kept, start = [], at
    while at < len(payload):
        head = payload[at : at + 80].tobytes()
        length, body = _varint(head, 1)
        end = at + body + length
        if head[0] != _ONE or end > len(payload):
            return {}, payload.tobytes()
        if length >= _LARGE and (value := _value_of(head[body:], length)) is not None and value[0] in names:
            key, size = value
            found[key] = payload[end - size : end]
            kept.append(payload[start:at].tobytes())
            start = end
        at = end
    kept.append(payload[start:].tobytes())
    features = b"".join(kept)
    return found, bytes([_ONE]) + _as_varint(len(features)) + features


def _value_of(entry: bytes, length: int) -> tuple[bytes, int] | None:
    """Name and size of the one byte string that ends an entry of a map of features, whose first bytes are `entry`."""
    size, at = _varint(entry, 1)
    key, at = entry[at : at + size], at + size
    for tag in (_TWO, _ONE, _ONE):  # the map's value, its bytes_list, and of that a value: each must fill what it is in
        if entry[0] != _ONE or entry[at : at + 1] != bytes([tag]) or at + 11 > len(entry):
            return None
        size, at = _varint(entry, at + 1)
        if at + size != length:
            return None
    return key, size


def _varint(data: bytes, at: int) -> tuple[int, int]:
    """The number that is written at `at`, and where it ends."""
    value = shift = 0
    while at < len(data):
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            break
        shift += 7
    return value, at


def _as_varint(value: int) -> bytes:
    out = []
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value])


def _shaped(raw: Any, field: schema.Field) -> np.ndarray:
    return np.frombuffer(raw, field.dtype).reshape(tuple(-1 if d is None else d for d in field.shape))


def _decode_field(feature: Any, field: schema.Field) -> Any:
    if field.dtype == "str":
        values = [v.decode() for v in feature.bytes_list.value]
        return values if field.shape else values[0]
    if field.raw:
        return _shaped(feature.bytes_list.value[0], field)
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
