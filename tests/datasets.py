"""A small dataset in the records' own format, for tests of everything after preprocessing."""

import hashlib
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import sentencepiece

from cmr_jax.data import records, schema

REPORTS = (
    "the left ventricle is of normal size",
    "the left ventricle is severely dilated",
    "there is septal hypertrophy",
    "inferior wall motion abnormality",
)


def study(row: int, image_size: int = 16, phases: int = 4) -> dict[str, Any]:
    """Study `row`: its group (row % 4) is a bright quadrant of the SAX frames and the words of the report."""
    rng = np.random.default_rng(row)
    group = row % len(REPORTS)
    frames = rng.integers(0, 60, (3 * phases, image_size, image_size), dtype=np.uint8)
    half = image_size // 2
    y, x = half * (group // 2), half * (group % 2)
    frames[:, y : y + half, x : x + half] += 180
    report = REPORTS[group]
    empty = {f"section/{name}": "" for name in schema.SECTIONS}
    return {
        **empty,
        "study_id": f"s{row:04d}",
        "patient_id": f"p{row // 2:04d}",
        "sex": "",
        "age": "",
        "vendor": "",
        "frames": frames,
        "series/id": ["a", "b"],
        "series/view": ["cine_sax", "cine_4ch"],
        "series/view_rule": ["test", "test"],
        "series/contrast": ["", ""],
        "series/unit": ["", ""],
        "series/scale": [1 / 255, 1 / 255],
        "series/offset": [0.0, 0.0],
        "series/slices": [2, 1],
        "series/phases": [phases, phases],
        "series/spacing_mm": [1.0, 1.0],
        "series/slice_gap_mm": [8.0, 0.0],
        "series/n_interpolated": [0, 0],
        "slice_position_mm": [0.0, 8.0, 0.0],
        "slice_level": ["base", "apex", ""],
        "frame_interpolated": np.zeros(3 * phases, np.int64),
        "frame_time_ms": np.arange(3 * phases, dtype=np.float32),
        "report": report,
        "report_hash": hashlib.sha256(report.encode()).hexdigest(),
        "section/findings": report,
        "label/name": ["group"],
        "label/value": [str(group)],
        "label/source": ["table"],
    }


def write_dataset(path: Path, counts: dict[str, int], image_size: int = 16, shards: int = 2) -> Path:
    """Writes `counts[split]` studies a split; rows are numbered through train, val and test."""
    path.mkdir(parents=True)
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(REPORTS * 4), model_writer=model, vocab_size=40, hard_vocab_limit=False, pad_id=0,
        unk_id=1, bos_id=2, eos_id=3, minloglevel=2,
    )  # fmt: skip
    (path / schema.TOKENIZER).write_bytes(model.getvalue())
    encode = sentencepiece.SentencePieceProcessor(model_proto=model.getvalue())
    row, splits = 0, {}
    for split, count in counts.items():
        studies = [study(row + i, image_size) for i in range(count)]
        row += count
        for one in studies:
            one |= {f"tokens/{name}": encode.encode(one[f"section/{name}"]) for name in schema.SECTIONS}
        parts = [part.tolist() for part in np.array_split(np.arange(count), min(shards, count))] if count else []
        entries = [
            _write_shard(path, schema.shard_name(split, i, len(parts)), [studies[j] for j in part], image_size)
            for i, part in enumerate(parts)
        ]
        splits[split] = {"studies": count, "shards": entries}
    manifest = {
        "schema": schema.SCHEMA_VERSION,
        "image_size": image_size,
        "bits": 8,
        "splits": splits,
        "label_names": ["group"],
        "tokenizer": {
            "sha256": hashlib.sha256(model.getvalue()).hexdigest(),
            "vocab_size": encode.vocab_size(),
        },
    }
    (path / schema.MANIFEST).write_text(json.dumps(manifest))
    return path


def _write_shard(path: Path, name: str, studies: list[dict[str, Any]], image_size: int) -> dict[str, Any]:
    data, rows = b"", []
    for one in studies:
        payload = serialize(one, image_size)
        rows.append((len(data) + 12, len(payload), schema.masked_crc(payload)))
        data += schema.frame_record(payload)
    index = schema.ShardIndex(name, len(data), tuple(rows)).to_json().encode()
    (path / name).write_bytes(data)
    (path / schema.index_name(name)).write_bytes(index)
    return {
        "name": name,
        "records": len(rows),
        "bytes": len(data),
        "sha256": hashlib.sha256(data).hexdigest(),
        "index_sha256": hashlib.sha256(index).hexdigest(),
    }


def serialize(example: dict[str, Any], image_size: int) -> bytes:
    message = records._example_class()()
    for name, field in schema.fields(image_size).items():
        feature, value = message.features.feature[name], example[name]
        if field.raw:
            feature.bytes_list.value.append(value.tobytes())
        elif field.dtype == "str":
            feature.bytes_list.value.extend(v.encode() for v in (value if field.shape else [value]))
        elif field.dtype.startswith("float"):
            feature.float_list.value.extend(float(v) for v in value)
        else:
            feature.int64_list.value.extend(int(v) for v in value)
    return message.SerializeToString(deterministic=True)
