"""How fast are records read, beside the ways of others? `python -m bench.reader [--studies 48] [--image 224]`.

Every way runs in a process of its own, in turn and several times (paired), over the same studies in warm files. CPU
seconds are those of the whole process, all its threads. The order is that of a training epoch: a permutation of all
studies where the way has one, else a shuffle buffer of `--buffer` studies, which is none of the whole.

  raw       the bytes alone: open, pread of each record in a permuted order; nothing checked, nothing parsed
  ours      records.Split in a permuted order: index, CRC of every record, parsed, frames as an array
  grain     ours below grain.MapDataset.shuffle with two reading threads, as the trainer reads
  tf.data   TFRecordDataset of interleaved shards (its CRC on), shuffle buffer, parse_single_example, decode_raw
  tfds      builder_from_directory(...).as_dataset, shuffled files and shuffle buffer, as NumPy
  array_record  the same payloads in ArrayRecord files (uncompressed, one record a chunk), permuted, parsed as ours

Also: CPU-seconds to the first study of an epoch, and to the first one when beginning in the middle of it; and the most
memory of its own (not that of files, which the system can drop) that the process had in a pass, its libraries among it,
beyond what it had before.
"""

import argparse
import json
import multiprocessing
import os
import statistics
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

WAYS = ("raw", "ours", "grain", "tf.data", "tfds", "array_record")
SHARDS = 4


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--studies", type=int, default=48)
    parser.add_argument("--image", type=int, default=224, help="pixels a side")
    parser.add_argument("--phases", type=int, default=64, help="frames of each of a study's three slices")
    parser.add_argument("--rounds", type=int, default=5, help="times each way is run, in turn")
    parser.add_argument("--buffer", type=int, default=16, help="studies of a shuffle buffer")
    parser.add_argument("--ways", default=",".join(WAYS))
    parser.add_argument("--json", type=Path, help="also write the figures to this file")
    options = parser.parse_args()
    ways = options.ways.split(",")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        with multiprocessing.get_context("spawn").Pool(1) as pool:
            size = pool.apply(write, (folder, options.studies, options.image, options.phases))
        print(f"{options.studies} studies, {size / 1e6:.0f} MB")
        runs: dict[str, list[dict[str, float]]] = {way: [] for way in ways}
        for _ in range(options.rounds):
            for way in ways:
                runs[way].append(_in_a_process(way, folder, options.buffer))
    rows = [_row(way, runs, size) for way in ways]
    for row in rows:
        print("  ".join(f"{key} {value:.3g}" if key != "way" else f"{value:13}" for key, value in row.items()))
    if options.json:
        options.json.write_text(json.dumps(rows, indent=1) + "\n")


def _row(way: str, runs: dict[str, list[dict[str, float]]], size: int) -> dict[str, Any]:
    rates = [size / 1e9 / run["seconds"] for run in runs[way]]
    row: dict[str, Any] = {"way": way, "GB/CPU-s": statistics.median(rates), "min": min(rates), "max": max(rates)}
    if "ours" in runs:
        pairs = zip(runs[way], runs["ours"], strict=True)
        row["ours_is_times"] = statistics.median(one["seconds"] / ours["seconds"] for one, ours in pairs)
    for name in ("first_study_s", "middle_of_epoch_s", "own_mib"):
        row[name] = statistics.median(run[name] for run in runs[way])
    return row


def write(folder: Path, studies: int, image: int, phases: int) -> int:
    """Writes the dataset, and its records as ArrayRecord; returns the bytes of all payloads."""
    from cmr_jax.data import schema
    from preprocessing import write as writer

    features = writer.features(image, 8)
    rng = np.random.default_rng(0)
    names = [[f"{shard:08x}{i:08x}" for i in range(shard, studies, SHARDS)] for shard in range(SHARDS)]
    entries = writer.write_split(
        folder, "train", names, lambda study: writer.serialize(features, _study(study, image, phases, rng))
    )
    writer.write_tfds_metadata(folder, features, {"train": entries})
    manifest = {"schema": schema.SCHEMA_VERSION, "image_size": image, "bits": 8, "label_names": []}
    manifest["splits"] = {"train": {"studies": studies, "shards": entries}}
    (folder / schema.MANIFEST).write_text(json.dumps(manifest))
    payloads = [p for entry in entries for p in writer.payloads(folder, entry["name"])]
    try:
        from array_record.python import array_record_module  # pyright: ignore[reportAttributeAccessIssue]

        out = array_record_module.ArrayRecordWriter(str(folder / "records.array_record"), "group_size:1,uncompressed")
        for payload in payloads:
            out.write(payload)
        out.close()
    except ImportError:
        print("array_record is not installed: left out")
    return sum(map(len, payloads))


def _study(study_id: str, image: int, phases: int, rng: np.random.Generator) -> dict[str, Any]:
    from cmr_jax.data import schema

    count = 3 * phases
    words = "the left ventricle is of normal size"
    return {
        **dict.fromkeys(("patient_id", "sex", "age", "vendor"), ""),
        **{f"section/{name}": words for name in schema.SECTIONS},
        **{f"tokens/{name}": np.arange(40) for name in schema.SECTIONS},
        "study_id": study_id,
        "report": words,
        "report_hash": "0" * 64,
        "frames": rng.integers(0, 256, (count, image, image), np.uint8),
        "series/view": ["cine_sax", "cine_4ch"],
        **{f"series/{name}": ["a", "b"] for name in ("id", "view_rule", "contrast", "unit")},
        **{f"series/{name}": np.ones(2, np.float32) for name in ("scale", "offset", "spacing_mm", "slice_gap_mm")},
        "series/slices": np.array([2, 1]),
        "series/phases": np.array([phases, phases]),
        "series/n_interpolated": np.zeros(2, np.int64),
        "slice_position_mm": np.zeros(3, np.float32),
        "slice_level": ["base", "apex", ""],
        "frame_interpolated": np.zeros(count, np.int64),
        "frame_time_ms": np.arange(count, dtype=np.float32),
        **{f"label/{name}": ["x"] for name in ("name", "value", "source")},
    }


def _in_a_process(way: str, folder: Path, buffer: int) -> dict[str, float]:
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(_measure, (way, folder, buffer))


def _measure(way: str, folder: Path, buffer: int) -> dict[str, float]:
    os.environ |= {"TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": "", "JAX_PLATFORMS": "cpu"}
    read: Callable[[Path, int, int], Iterator[int]] = {
        "raw": _raw, "ours": _ours, "grain": _grain, "tf.data": _tf_data, "tfds": _tfds, "array_record": _array_record,
    }[way]  # fmt: skip
    # Imports and first-call costs; the watch would cost a timed pass some of its seconds.
    count, own_mib = _watched(lambda: len(list(read(folder, buffer, 0))))
    out = {"seconds": 0.0, "own_mib": own_mib}
    started = time.process_time()
    for seen, frames in enumerate(read(folder, buffer, 0)):
        if seen == 0:
            out["first_study_s"] = time.process_time() - started
        if not frames:
            raise SystemExit(f"{way} read no frames")
    out["seconds"] = time.process_time() - started
    if seen + 1 != count:
        raise SystemExit(f"{way} read {seen + 1} studies of {count}")
    started = time.process_time()
    next(iter(read(folder, buffer, count // 2)))
    out["middle_of_epoch_s"] = time.process_time() - started
    return out


def _watched(run: Callable[[], int]) -> tuple[int, float]:
    """What `run` returns, and the most MiB of anonymous memory meanwhile beyond those before. The peak of resident
    memory would count the pages of mapped files too."""
    before, seen, done = _anonymous_mib(), [0.0], threading.Event()

    def watch() -> None:
        while not done.wait(0.001):
            seen.append(_anonymous_mib() - before)

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        return run(), max(seen)
    finally:
        done.set()
        watcher.join()


def _anonymous_mib() -> float:
    status = Path("/proc/self/status").read_text()
    return int(status.split("RssAnon:")[1].split()[0]) / 1024


def _order(count: int, start: int) -> list[int]:
    return np.random.default_rng(0).permutation(count)[start:].tolist()


def _index(folder: Path) -> list[tuple[str, int, int]]:
    from cmr_jax.data import schema

    names = sorted(p.name for p in folder.glob("*.tfrecord-*") if p.suffix != ".index")
    indexes = {name: schema.ShardIndex.from_json((folder / schema.index_name(name)).read_text()) for name in names}
    return [(name, offset, length) for name in names for offset, length, _ in indexes[name].records]


def _raw(folder: Path, _: int, start: int) -> Iterator[int]:
    rows = _index(folder)
    files = {name: os.open(folder / name, os.O_RDONLY) for name, _, _ in rows}
    for row in _order(len(rows), start):
        name, offset, length = rows[row]
        yield len(os.pread(files[name], length, offset))
    for file in files.values():
        os.close(file)


def _ours(folder: Path, _: int, start: int) -> Iterator[int]:
    from cmr_jax.data.records import Split

    split = Split(folder, "train")
    for row in _order(len(split), start):
        yield split[row]["frames"].size


def _grain(folder: Path, _: int, start: int) -> Iterator[int]:
    import grain

    from cmr_jax.data.records import Split

    split = Split(folder, "train")
    rows: Any = grain.MapDataset.range(len(split)).seed(0).shuffle()[start:]
    options = grain.ReadOptions(num_threads=2, prefetch_buffer_size=4)
    for example in rows.map(lambda row: split[int(row)]).to_iter_dataset(options):
        yield example["frames"].size


def _tf_data(folder: Path, buffer: int, start: int) -> Iterator[int]:
    import tensorflow as tf

    names = sorted(str(p) for p in folder.glob("*.tfrecord-*") if p.suffix != ".index")
    wanted = {"frames": tf.io.FixedLenFeature([], tf.string), "report": tf.io.FixedLenFeature([], tf.string)}
    options = tf.data.Options()
    options.threading.private_threadpool_size = 2  # pyright: ignore[reportOptionalMemberAccess]

    def parse(payload: Any) -> Any:
        return tf.io.decode_raw(tf.io.parse_single_example(payload, wanted)["frames"], tf.uint8)

    records = tf.data.Dataset.from_tensor_slices(names).shuffle(len(names), seed=0)
    records = records.interleave(tf.data.TFRecordDataset, cycle_length=2, num_parallel_calls=2)
    records = records.shuffle(buffer, seed=0).map(parse, num_parallel_calls=2).skip(start).prefetch(2)
    for frames in records.with_options(options).as_numpy_iterator():
        yield frames.size


def _tfds(folder: Path, buffer: int, start: int) -> Iterator[int]:
    import tensorflow_datasets as tfds

    config: Any = tfds.ReadConfig(interleave_cycle_length=2, shuffle_seed=0, add_tfds_id=False)
    config.options.threading.private_threadpool_size = 2
    builder: Any = tfds.builder_from_directory(str(folder))
    records = builder.as_dataset(split="train", shuffle_files=True, read_config=config)
    for example in records.shuffle(buffer, seed=0).skip(start).prefetch(2).as_numpy_iterator():
        yield example["frames"].size


def _array_record(folder: Path, _: int, start: int) -> Iterator[int]:
    from array_record.python import array_record_module  # pyright: ignore[reportAttributeAccessIssue]

    from cmr_jax.data import records, schema

    fields = schema.fields_of(records.load_manifest(folder))
    reader = array_record_module.ArrayRecordReader(str(folder / "records.array_record"), "readahead_buffer_size:0")
    for row in _order(reader.num_records(), start):
        yield records.decode(reader.read([row])[0], fields)["frames"].size
    reader.close()


if __name__ == "__main__":
    main()
