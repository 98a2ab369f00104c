"""Damage to a finished dataset is found and named (field/faults.md row 10)."""

import json
import pathlib
import re
import shutil

import numpy as np
import pytest

from cmr_jax.data import records, schema
from preprocessing import check, write


@pytest.fixture
def data(cohort, tmp_path) -> pathlib.Path:
    """A copy to spoil, with two shards in the training split."""
    if not (cohort.root / "sharded").exists():
        done = cohort.run("sharded", "--studies_per_shard=1")
        assert done.returncode == 0, done.stderr
    return pathlib.Path(shutil.copytree(cohort.root / "sharded", tmp_path / "data"))


def shards(data: pathlib.Path) -> list[pathlib.Path]:
    found = sorted(p for p in data.glob("cmr-*.tfrecord-*") if p.suffix != ".index")
    assert len(found) == 3
    return found


def read_split(data: pathlib.Path, name: str) -> list[records.Example]:
    split = records.Split(data, name)
    return [split[row] for row in range(len(split))]


def problems(data: pathlib.Path) -> list[str]:
    manifest = records.load_manifest(data)
    return check.file_problems(data, manifest) or check.record_problems(data, manifest)


def flip_a_bit(shard: pathlib.Path) -> None:
    content = bytearray(shard.read_bytes())
    content[len(content) // 2] ^= 4
    shard.write_bytes(content)


def cut(shard: pathlib.Path) -> None:
    shard.write_bytes(shard.read_bytes()[:-100])


def double(shard: pathlib.Path) -> None:
    shard.write_bytes(shard.read_bytes() * 2)


def pad(shard: pathlib.Path) -> None:
    shard.write_bytes(shard.read_bytes() + bytes(64))


def empty(shard: pathlib.Path) -> None:
    shard.write_bytes(b"")


def remove(shard: pathlib.Path) -> None:
    shard.unlink()


def remove_index(shard: pathlib.Path) -> None:
    shard.with_name(schema.index_name(shard.name)).unlink()


def test_what_is_whole_has_no_problem(data, cohort):
    assert problems(data) == []
    done = cohort.run("out", module="preprocessing.verify")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("ok: 6 studies")


@pytest.mark.parametrize("damage", [flip_a_bit, cut, double, pad, empty, remove, remove_index])
def test_damage_names_its_shard(data, damage):
    shard = shards(data)[2]
    damage(shard)
    found = problems(data)
    assert len(found) == 1
    assert found[0].startswith(shard.name)


def test_a_cut_at_a_record_boundary_is_found(cohort, tmp_path):
    data = pathlib.Path(shutil.copytree(cohort.root / "out", tmp_path / "data"))
    shard = data / schema.shard_name("test", 0, 1)
    index = schema.ShardIndex.from_json((data / schema.index_name(shard.name)).read_text())
    assert len(index.records) > 1
    last = index.records[-1][0] - 12
    shard.write_bytes(shard.read_bytes()[:last])
    assert [p.startswith(shard.name) for p in problems(data)] == [True]


def test_swapped_shards_are_both_named(data):
    one, two = shards(data)[:2]
    content = one.read_bytes()
    one.write_bytes(two.read_bytes())
    two.write_bytes(content)
    assert [p.split(":")[0] for p in problems(data)] == [one.name, two.name]


def test_a_changed_table_and_a_foreign_shard_are_found(data):
    (data / "studies.csv").write_text((data / "studies.csv").read_text().replace("train", "test"))
    shutil.copy(shards(data)[0], data / schema.shard_name("train", 7, 8))
    (data / "features.json").unlink()
    assert [p.split(":")[0] for p in problems(data)] == [
        "studies.csv",
        "features.json",
        schema.shard_name("train", 7, 8),
    ]


def test_the_binary_exits_1_with_the_name_and_2_without_data(data, cohort, tmp_path):
    flip_a_bit(shards(data)[0])
    done = cohort.run("ignored", f"--data={data}", module="preprocessing.verify")
    assert done.returncode == 1
    assert shards(data)[0].name in done.stderr
    done = cohort.run("ignored", f"--data={tmp_path / 'nowhere'}", module="preprocessing.verify")
    assert done.returncode == 2
    assert done.stderr.startswith("error: ") and done.stderr.count("\n") == 1


def test_records_that_contradict_themselves_are_found_behind_good_hashes(data):
    """A patient on both sides of a split, a study twice, a frame too few: written with every hash right."""
    manifest = records.load_manifest(data)
    size = manifest["image_size"]
    train, test = read_split(data, "train"), read_split(data, "test")
    test[0]["patient_id"] = train[0]["patient_id"]
    test[1] = train[1] | {"patient_id": test[1]["patient_id"], "frames": train[1]["frames"][:-1]}
    for shard in shards(data):
        shard.unlink()
        shard.with_name(schema.index_name(shard.name)).unlink()
    features = write.features(size, 8)
    for name, found in (("train", train), ("test", test)):
        payloads = [write.serialize(features, example) for example in found]
        shard = data / schema.shard_name(name, 0, 1)
        manifest["splits"][name]["shards"] = [write.write_shard(shard, payloads)]
    (data / schema.MANIFEST).write_text(json.dumps(manifest))
    text = "\n".join(problems(data))
    assert re.search(rf"the same patient of study .* \(patient {train[0]['patient_id']}, test\)", text)
    assert f"study {train[1]['study_id']} stands twice" in text
    assert "frames do not add up" in text and "frame times do not add up" in text
    assert "studies.csv" in text


def test_the_payload_written_is_the_example_read(data):
    (example, *_) = read_split(data, "train")
    payload = write.serialize(write.features(32, 8), example)
    again = records.decode(payload, schema.fields(32))
    for name, value in example.items():
        np.testing.assert_array_equal(again[name], value)
