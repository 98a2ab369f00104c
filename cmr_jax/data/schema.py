"""The record contract: what one study is on disk. The preprocessing and the trainer meet here and nowhere else.

A dataset is a folder of TFRecord shards, one `tf.train.Example` a study. Each shard has a sidecar `.index` and the
folder a `manifest.json`. NumPy only, so that both sides (and outsiders) can import it anywhere.

Letters: N frames of a study (all series together), R series, S slices of a series, T phases of a slice, H W pixels.
"""

import dataclasses
import json
import struct
from typing import Any

import google_crc32c
import numpy as np

SCHEMA_VERSION = 2
DATASET_NAME = "cmr"
SPLITS = ("train", "val", "test")
# The order is the order of the view embedding's rows: append only.
VIEWS = (
    "unknown", "scout", "cine_sax", "cine_2ch", "cine_3ch", "cine_4ch", "cine_lax",
    "cine_lvot", "cine_rvot", "lge_sax", "lge_2ch", "lge_3ch", "lge_4ch", "lge_lax",
    "t1_map", "t2_map", "ecv_map", "perfusion", "flow",
)  # fmt: skip
# Of late enhancement and flow what the pixels show; of the others under what condition ("post": after contrast agent).
CONTRASTS = ("", "magnitude", "psir", "phase", "native", "post", "rest", "stress")
LEVELS = ("", "base", "mid", "apex")
BITS = (8, 16)
SECTIONS = ("indication", "technique", "comparison", "findings", "impression")
MANIFEST = "manifest.json"
TOKENIZER = "tokenizer.model"


@dataclasses.dataclass(frozen=True)
class Map:
    """A quantitative map: its unit, and what one step of the stored integer is worth by the bits of a record."""

    unit: str
    steps: dict[int, float]


# 8 bits reach to 2,550 ms, 127.5 ms and 127.5 %; 16 bits to 6,553.5 ms, 655.35 ms and 655.35 %.
MAPS = {
    "t1_map": Map("ms", {8: 10.0, 16: 0.1}),
    "t2_map": Map("ms", {8: 0.5, 16: 0.01}),
    "ecv_map": Map("%", {8: 0.5, 16: 0.01}),
}


# Numbers that a model can be told of (`model.numbers`), by the names that preprocessing reads out of reports: a usual
# value, and how far from it is one unit of error. Round figures of mixed clinical series, not of one set of records, so
# that every run has the same scale.
NUMBERS = {
    "lvef_percent": (50.0, 15.0), "rvef_percent": (50.0, 15.0),
    "lv_edv_ml": (190.0, 70.0), "lv_esv_ml": (100.0, 70.0), "rv_edv_ml": (180.0, 60.0), "rv_esv_ml": (90.0, 50.0),
    "lv_edvi_ml_m2": (100.0, 35.0), "lv_esvi_ml_m2": (50.0, 35.0),
    "rv_edvi_ml_m2": (95.0, 30.0), "rv_esvi_ml_m2": (45.0, 25.0),
    "lv_mass_g": (140.0, 60.0), "lv_massi_g_m2": (75.0, 30.0),
    "t1_ms": (1020.0, 70.0), "t2_ms": (50.0, 7.0), "ecv_percent": (28.0, 6.0),
}  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Field:
    """One feature of a record. `shape` holds None where the size varies; `raw` arrays are stored as their bytes."""

    dtype: str
    shape: tuple[int | None, ...] = ()
    raw: bool = False


def fields(image_size: int, bits: int = 8) -> dict[str, Field]:
    """The features of a record whose frames are `image_size` x `image_size` pixels of `bits` bits, by flat name.

    Frames stand series after series, slice after slice, phase after phase: frame `(r, s, t)` is at
    `sum(slices[:r] * phases[:r]) + s * phases[r] + t`. Slices run base to apex where the geometry says which end is
    which, and by position along the normal otherwise; phases run in the order of the heart.
    """
    return {
        "study_id": Field("str"),
        "patient_id": Field("str"),
        "sex": Field("str"),
        "age": Field("str"),
        "vendor": Field("str"),
        "frames": Field(f"uint{bits}", (None, image_size, image_size), raw=True),
        "series/id": Field("str", (None,)),
        "series/view": Field("str", (None,)),
        "series/view_rule": Field("str", (None,)),
        # What the pixels show, or when, where a view has several: one of CONTRASTS.
        "series/contrast": Field("str", (None,)),
        # A stored value x is offset + scale * x of this unit: "ms" or "%" for maps; "" for brightness, from 0 to 1
        # between percentiles of the whole series.
        "series/unit": Field("str", (None,)),
        "series/scale": Field("float32", (None,)),
        "series/offset": Field("float32", (None,)),
        "series/slices": Field("int64", (None,)),
        "series/phases": Field("int64", (None,)),
        "series/spacing_mm": Field("float32", (None,)),
        "series/slice_gap_mm": Field("float32", (None,)),
        "series/n_interpolated": Field("int64", (None,)),
        # One a slice, series after series: millimetres along the series' normal from its first slice.
        "slice_position_mm": Field("float32", (None,)),
        # One a slice: which part of the left ventricle it cuts, one of LEVELS.
        "slice_level": Field("str", (None,)),
        # One a frame: 1 where it was not measured but made of its neighbours in time; `n_interpolated` is its sum.
        "frame_interpolated": Field("int64", (None,)),
        # One a frame: milliseconds after the R wave; NaN where the source does not say.
        "frame_time_ms": Field("float32", (None,)),
        "report": Field("str"),
        # Of the normalised report: equal for reports that say the same words.
        "report_hash": Field("str"),
        **{f"section/{name}": Field("str") for name in SECTIONS},
        **{f"tokens/{name}": Field("int64", (None,)) for name in SECTIONS},
        "label/name": Field("str", (None,)),
        "label/value": Field("str", (None,)),
        # "table": given with the reports; "text": read out of the report.
        "label/source": Field("str", (None,)),
    }


def fields_of(manifest: dict[str, Any]) -> dict[str, Field]:
    """The features of the records of a dataset."""
    return fields(manifest["image_size"], manifest["bits"])


def shard_name(split: str, shard: int, num_shards: int) -> str:
    """`cmr-train.tfrecord-00000-of-00002`, the name tensorflow-datasets expects."""
    return f"{DATASET_NAME}-{split}.tfrecord-{shard:05d}-of-{num_shards:05d}"


def index_name(shard: str) -> str:
    return shard + ".index"


def masked_crc(data: Any) -> int:
    """The CRC-32C of TFRecord framing, masked as that format wants it. `bytes`, or a read-only uint8 array, which is
    not copied."""
    crc = google_crc32c.value(data if isinstance(data, np.ndarray) else bytes(data))
    return ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF


def frame_record(payload: bytes) -> bytes:
    """`payload` in TFRecord framing: length, its CRC, payload, its CRC."""
    length = struct.pack("<Q", len(payload))
    return length + struct.pack("<I", masked_crc(length)) + payload + struct.pack("<I", masked_crc(payload))


@dataclasses.dataclass(frozen=True)
class ShardIndex:
    """What a shard must hold. `records` are (offset of the payload, length, masked CRC of the payload)."""

    shard: str
    total_bytes: int
    records: tuple[tuple[int, int, int], ...]

    def to_json(self) -> str:
        return json.dumps({"schema": SCHEMA_VERSION, **dataclasses.asdict(self)})

    @classmethod
    def from_json(cls, text: str) -> "ShardIndex":
        """Raises ValueError or KeyError where `text` is not an index of this schema version."""
        raw = json.loads(text)
        if raw.pop("schema") != SCHEMA_VERSION:
            raise ValueError("index of another schema version")
        return cls(raw["shard"], raw["total_bytes"], tuple((o, n, c) for o, n, c in raw["records"]))


def eight_bits(frames: np.ndarray, view: str) -> np.ndarray:
    """Frames of either depth as uint8, which is what the model is fed: maps at the step of an 8-bit record."""
    if frames.dtype == np.uint8:
        return frames
    factor = MAPS[view].steps[16] / MAPS[view].steps[8] if view in MAPS else 255 / 65535
    return np.minimum(np.rint(frames * np.float32(factor)), 255).astype(np.uint8)


def split_series(example: dict[str, Any]) -> list[np.ndarray]:
    """The frames of a decoded record as one `S T H W` view a series, without a copy."""
    out, start = [], 0
    for slices, phases in zip(example["series/slices"], example["series/phases"], strict=True):
        stop = start + int(slices) * int(phases)
        out.append(example["frames"][start:stop].reshape(int(slices), int(phases), *example["frames"].shape[1:]))
        start = stop
    return out
