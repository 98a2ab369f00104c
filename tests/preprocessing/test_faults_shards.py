"""Eight kinds of damage to shards: found at open or at read, and the shard named (faults.md row 10)."""

import pathlib
import random
import shutil

import pytest

from cmr_jax.data import records, schema
from cmr_jax.errors import InputError

DAMAGES = 20


def framed_records(shard: pathlib.Path) -> list[bytes]:
    """The records of a shard with their framing."""
    data = shard.read_bytes()
    index = schema.ShardIndex.from_json(shard.with_name(schema.index_name(shard.name)).read_text())
    return [data[offset - 12 : offset + length + 4] for offset, length, _ in index.records]


def bit_flip(shard: pathlib.Path, chance: random.Random) -> None:
    """In a payload: the framing around it is not read by us, for the index holds the same."""
    data = bytearray(shard.read_bytes())
    index = schema.ShardIndex.from_json(shard.with_name(schema.index_name(shard.name)).read_text())
    offset, length, _ = chance.choice(index.records)
    data[offset + chance.randrange(length)] ^= 1 << chance.randrange(8)
    shard.write_bytes(data)


def cut_in_a_record(shard: pathlib.Path, chance: random.Random) -> None:
    data = shard.read_bytes()
    shard.write_bytes(data[: len(data) - chance.randrange(1, len(framed_records(shard)[-1]))])


def cut_at_a_boundary(shard: pathlib.Path, chance: random.Random) -> None:
    whole = framed_records(shard)
    shard.write_bytes(b"".join(whole[: chance.randrange(1, len(whole))]))


def empty(shard: pathlib.Path, chance: random.Random) -> None:
    shard.write_bytes(b"")


def missing(shard: pathlib.Path, chance: random.Random) -> None:
    shard.unlink()


def doubled_record(shard: pathlib.Path, chance: random.Random) -> None:
    """One more of a record, or one in place of another."""
    whole = framed_records(shard)
    if chance.random() < 0.5:
        whole.insert(chance.randrange(len(whole) + 1), chance.choice(whole))
    else:
        one, other = chance.sample(range(len(whole)), 2)
        whole[one] = whole[other]
    shard.write_bytes(b"".join(whole))


def trailing_zeros(shard: pathlib.Path, chance: random.Random) -> None:
    shard.write_bytes(shard.read_bytes() + bytes(chance.choice((1, 8, 512, 4096))))


def swapped(shard: pathlib.Path, chance: random.Random) -> None:
    """With another shard; half of the time the indexes are swapped too."""
    others = [p for p in shard.parent.glob("cmr-*") if p.suffix != ".index" and p != shard]
    other = chance.choice(sorted(others))
    names = [(shard, other)]
    if chance.random() < 0.5:
        names.append((shard.with_name(schema.index_name(shard.name)), other.with_name(schema.index_name(other.name))))
    for one, two in names:
        data = one.read_bytes()
        one.write_bytes(two.read_bytes())
        two.write_bytes(data)


KINDS = (bit_flip, cut_in_a_record, cut_at_a_boundary, empty, missing, doubled_record, trailing_zeros, swapped)


@pytest.fixture
def data(cohort, tmp_path) -> pathlib.Path:
    return pathlib.Path(shutil.copytree(cohort.root / "out", tmp_path / "data"))


def read_all(data: pathlib.Path) -> int:
    """Reads every study as training does; how many."""
    splits = [records.Split(data, name) for name in schema.SPLITS]
    return sum(len(str(split[row]["study_id"])) > 0 for split in splits for row in range(len(split)))


def found(data: pathlib.Path, kind, number: int) -> None:
    chance = random.Random(f"{kind.__name__} {number}")
    shard = data / schema.shard_name(chance.choice(("train", "test")), 0, 1)
    kind(shard, chance)
    with pytest.raises(InputError) as error:
        read_all(data)
    # Where two shards are swapped the first that is opened is named.
    assert shard.name in str(error.value) or (kind is swapped and ".tfrecord-" in str(error.value))


def test_undamaged_all_are_read(data):
    assert read_all(data) == 6
    assert len(framed_records(data / schema.shard_name("train", 0, 1))) > 1


@pytest.mark.parametrize("kind", KINDS)
def test_damage_is_found_and_named(data, kind):
    found(data, kind, 0)


@pytest.mark.slow
@pytest.mark.parametrize("number", range(DAMAGES))
@pytest.mark.parametrize("kind", KINDS)
def test_twenty_of_each_kind_are_found_and_named(data, kind, number):
    found(data, kind, number)


@pytest.mark.parametrize("damage", ["framing", "index"])
def test_damage_beside_the_payloads_is_found_too(data, damage):
    """The framing by `verify` (nothing of ours reads it), the index when the split is opened."""
    from preprocessing import check

    shard = data / schema.shard_name("train", 0, 1)
    path = shard if damage == "framing" else shard.with_name(schema.index_name(shard.name))
    content = bytearray(path.read_bytes())
    content[3] ^= 16
    path.write_bytes(content)
    (problem,) = check.file_problems(data, records.load_manifest(data))
    assert problem.startswith(path.name)
    if damage == "index":
        with pytest.raises(InputError, match=shard.name):
            records.Split(data, "train")
