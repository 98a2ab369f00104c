"""Every way in which a shard can be wrong is found at open or at read, and the shard is named."""

import json
from pathlib import Path

import numpy as np
import pytest

from cmr_jax.data import records, schema
from cmr_jax.errors import InputError
from tests import datasets


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return datasets.write_dataset(tmp_path / "data", {"train": 6, "val": 0, "test": 2})


def _shard(folder: Path, number: int = 0) -> Path:
    return folder / schema.shard_name("train", number, 2)


def _read_all(folder: Path) -> list[records.Example]:
    split = records.Split(folder, "train")
    return [split[row] for row in range(len(split))]


def test_what_was_written_comes_back(folder: Path):
    found = _read_all(folder)
    assert [one["study_id"] for one in found] == [f"s{i:04d}" for i in range(6)]
    want = datasets.study(3)
    np.testing.assert_array_equal(found[3]["frames"], want["frames"])
    assert found[3]["series/view"] == ["cine_sax", "cine_4ch"]
    assert [s.shape for s in schema.split_series(found[3])] == [(2, 4, 16, 16), (1, 4, 16, 16)]
    assert len(records.Split(folder, "val")) == 0


def _flip(path: Path, at: int) -> None:
    raw = bytearray(path.read_bytes())
    raw[at] ^= 4
    path.write_bytes(raw)


def _faults():
    def swap(folder):
        one, two = _shard(folder, 0), _shard(folder, 1)
        first, second = one.read_bytes(), two.read_bytes()
        one.write_bytes(second)
        two.write_bytes(first)

    def swap_with_indexes(folder):
        swap(folder)
        one, two = (Path(schema.index_name(str(_shard(folder, i)))) for i in (0, 1))
        first, second = one.read_bytes(), two.read_bytes()
        one.write_bytes(second)
        two.write_bytes(first)

    def at_boundary(folder):
        raw = _shard(folder).read_bytes()
        _shard(folder).write_bytes(raw[: len(raw) // 3])

    def doubled(folder):
        raw = _shard(folder).read_bytes()
        _shard(folder).write_bytes(raw + raw[: len(raw) // 3])

    return {
        "bit flip": lambda f: _flip(_shard(f), 400),
        "cut mid-record": lambda f: _shard(f).write_bytes(_shard(f).read_bytes()[:-7]),
        "cut at a boundary": at_boundary,
        "empty": lambda f: _shard(f).write_bytes(b""),
        "missing": lambda f: _shard(f).unlink(),
        "missing index": lambda f: Path(schema.index_name(str(_shard(f)))).unlink(),
        "duplicated record": doubled,
        "trailing zeros": lambda f: _shard(f).write_bytes(_shard(f).read_bytes() + bytes(64)),
        "swapped shards": swap,
        "swapped with their indexes": swap_with_indexes,
    }


@pytest.mark.parametrize("name", list(_faults()))
def test_a_damaged_shard_is_found_and_named(folder: Path, name: str):
    _faults()[name](folder)
    with pytest.raises(InputError, match=r"cmr-train\.tfrecord-0000[01]-of-00002"):
        _read_all(folder)


def test_a_flip_in_any_byte_of_a_record_is_found(folder: Path):
    index = records.Split(folder, "train")._rows[0]
    for at in np.random.default_rng(0).integers(index[1], index[1] + index[2], 20):
        _flip(_shard(folder), int(at))
        with pytest.raises(InputError, match="damaged"):
            _read_all(folder)
        _flip(_shard(folder), int(at))
    assert len(_read_all(folder)) == 6


def test_no_dataset_no_manifest_other_schema(folder: Path, tmp_path: Path):
    with pytest.raises(InputError, match="no dataset folder"):
        records.load_manifest(tmp_path / "nowhere")
    with pytest.raises(InputError, match="did not finish"):
        records.load_manifest(tmp_path)
    manifest = json.loads((folder / "manifest.json").read_text())
    (folder / "manifest.json").write_text(json.dumps({**manifest, "schema": 99}))
    with pytest.raises(InputError, match="schema 99"):
        records.load_manifest(folder)
    (folder / "manifest.json").write_text("{")
    with pytest.raises(InputError, match="damaged"):
        records.load_manifest(folder)


def test_an_unknown_split_names_those_there_are(folder: Path):
    with pytest.raises(InputError, match="train, val, test"):
        records.Split(folder, "tets")


def _varint(value: int) -> bytes:
    return bytes([value & 0x7F | 0x80]) + _varint(value >> 7) if value > 0x7F else bytes([value])


def _written(number: int, body: bytes) -> bytes:
    return bytes([number << 3 | 2]) + _varint(len(body)) + body


def _entry(name: bytes, value: bytes, *, value_first: bool = False, more: bytes = b"") -> bytes:
    parts = [_written(1, name), _written(2, _written(1, _written(1, value) + more))]
    return _written(1, b"".join(reversed(parts) if value_first else parts))


PIXELS = np.random.default_rng(0).integers(0, 256, (20, 16, 16), np.uint8)


@pytest.mark.parametrize(
    "frames",
    [
        _entry(b"frames", PIXELS.tobytes()),
        _entry(b"frames", PIXELS.tobytes(), value_first=True),
        _entry(b"frames", PIXELS.tobytes(), more=_written(1, b"a second value")),
        _entry(b"frames", PIXELS.tobytes()) + _written(9, b"?" * 5000),
        _entry(b"other", b"x" * 9000) + _entry(b"frames", PIXELS.tobytes()),
        _entry(b"a name of its own that is longer than what is looked at first" * 2, b"x" * 9000)
        + _entry(b"frames", PIXELS.tobytes()),
    ],
    ids=["plain", "value first", "two values", "unknown field", "another large one", "long name"],
)
@pytest.mark.parametrize("outside", [b"", _written(5, b"not features")], ids=["", "beside"])
def test_frames_are_found_however_they_are_written(frames: bytes, outside: bytes):
    payload = _written(1, _entry(b"study_id", b"s1") + frames + _entry(b"report", b"words")) + outside
    fields = {name: schema.fields(16)[name] for name in ("study_id", "frames", "report")}
    found = records.decode(payload, fields)
    np.testing.assert_array_equal(found["frames"], PIXELS)
    assert found["study_id"] == "s1" and found["report"] == "words"


def test_frames_are_not_copied(folder: Path):
    large = datasets.write_dataset(folder.parent / "large", {"train": 2}, image_size=48, shards=1)
    split = records.Split(large, "train")
    example = split[1]
    assert np.shares_memory(example["frames"], split._shards[0][1]) and not example["frames"].flags.writeable
    np.testing.assert_array_equal(example["frames"], datasets.study(1, 48)["frames"])
