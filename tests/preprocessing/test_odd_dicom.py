"""The 56 odd files: each verdict is what plain pydicom makes of the file, or better. Codecs against what was encoded.

"As good or better", from the manifest's two columns (what plain pydicom did):

| pydicom_read | pydicom_pixels | our verdict on the file | our decoders |
|---|---|---|---|
| an error | anything | rejected with a reason, never an exception | not asked |
| ok | ok (shape) | a greyscale MR image with a place in space: a candidate; else ignored or rejected with a reason | one channel of 8 to 32 bit: this shape, and pydicom's values bit for bit |
| ok | an error | ignored or rejected with a reason | the header's size, or a refusal |
| ok | none | ignored or rejected with a reason | not asked |
"""  # noqa: E501

import csv
import dataclasses
import pathlib
import re

import imagecodecs
import numpy as np
import pydicom
import pytest
from pydicom.encaps import encapsulate
from pydicom.uid import ExplicitVRBigEndian, RLELossless

from preprocessing import pixels, scan
from preprocessing.study import FileScan
from tests.preprocessing.test_assemble import frame
from tests.preprocessing.tiny_dicom import coded, mr_dataset, save

JPEG = "1.2.840.10008.1.2.4."
MR = ("MR Image Storage", "Enhanced MR Image Storage")
# MR images that are no candidates although pydicom reads them, and why.
KEPT_OUT = {
    "mosaic": 7,  # many slices tiled in one picture
    "no usable geometry": 4,  # emri_small*: the functional groups were taken out of them
}


@pytest.fixture(scope="module")
def odd(real_data) -> tuple[pathlib.Path, list[dict[str, str]]]:
    root = real_data / "odd_dicom"
    with (root / "manifest.csv").open(newline="") as file:
        return root, list(csv.DictReader(file))


def shape_of(row: dict[str, str]) -> tuple[int, ...]:
    """Of the pixels as the manifest has them; empty where pydicom decoded none."""
    inside = re.fullmatch(r"ok \((.*)\)", row["pydicom_pixels"])
    return tuple(int(n) for n in inside[1].split(",") if n) if inside else ()


def test_every_verdict_is_as_good_as_pydicoms_or_better(odd):
    root, rows = odd
    kept_out: dict[str, int] = {}
    candidates = 0
    for row in rows:
        one = scan.scan_file(root, row["file"])
        if row["pydicom_read"] != "ok":
            assert one.status == "rejected" and one.reason, row["file"]
        elif row["sop_class"] in MR and shape_of(row) and one.status:
            kept_out[one.reason] = kept_out.get(one.reason, 0) + 1
        elif row["sop_class"] in MR and shape_of(row):
            assert len(one.frames) == int(row["frames"] or 1), row["file"]
            candidates += 1
        else:
            assert one.status in ("ignored", "rejected") and one.reason, row["file"]
    assert kept_out == KEPT_OUT
    assert (len(rows), candidates) == (56, 16)


def every_image(root: pathlib.Path, path: str) -> FileScan:
    """The scan of a file as if any class of image with any place in space would do."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(scan, "_not_an_image", lambda header: "")
        patch.setattr(
            scan,
            "_frames",
            lambda header, path, rows, cols, count: (dataclasses.replace(frame(0, 0), rows=rows, cols=cols),) * count,
        )
        return scan.scan_file(root, path)


def test_every_mr_with_pixels_decodes_and_so_do_the_other_greyscale_files(odd):
    root, rows = odd
    count = {"MR": 0, "other": 0, "better": 0, "refused": 0}
    for row in rows:
        if row["pydicom_read"] != "ok" or row["pydicom_pixels"] == "none" or shape_of(row)[-1:] == (3,):
            continue
        one = every_image(root, row["file"])
        with scan.quiet_pydicom():
            if shape_of(row) and not one.status:
                theirs = pydicom.dcmread(root / row["file"]).pixel_array
                ours = pixels.read(root, one)
                np.testing.assert_array_equal(ours, theirs.reshape(ours.shape), err_msg=row["file"])
                count["MR" if row["sop_class"] in MR else "other"] += 1
            elif one.status:
                count["refused"] += 1
            else:
                try:
                    values = pixels.read(root, one)
                except pixels.Undecodable:
                    count["refused"] += 1
                else:
                    assert values.shape[1:] == (int(row["rows"]), int(row["cols"])) and values.std() > 10
                    count["better"] += 1
    print(count)
    # Better: progressive JPEG of 12 bit. Refused: one bit a pixel (5), no study (3), "1A" frames, cut short.
    assert count == {"MR": 27, "other": 2, "better": 2, "refused": 10}


ENCODERS = {
    "RLE": (RLELossless, None),
    "JPEG baseline": (JPEG + "50", lambda a: imagecodecs.jpeg8_encode(a, level=100)),
    "JPEG extended, 12 bit": (JPEG + "51", lambda a: imagecodecs.jpeg8_encode(a, level=100, bitspersample=12)),
    "JPEG lossless, predictor 6": (JPEG + "57", lambda a: imagecodecs.jpeg8_encode(a, lossless=True, predictor=6)),
    "JPEG lossless": (JPEG + "70", lambda a: imagecodecs.jpeg8_encode(a, lossless=True, predictor=1)),
    "JPEG-LS": (JPEG + "80", imagecodecs.jpegls_encode),
    "JPEG-LS near": (JPEG + "81", lambda a: imagecodecs.jpegls_encode(a, level=2)),
    "J2K lossless": (JPEG + "90", lambda a: imagecodecs.jpeg2k_encode(a, codecformat="j2k", reversible=True, level=0)),
    "J2K": (JPEG + "91", lambda a: imagecodecs.jpeg2k_encode(a, codecformat="j2k", level=100)),
    "HTJ2K lossless": (JPEG + "201", lambda a: imagecodecs.htj2k_encode(a, reversible=True)),
    "HTJ2K lossless RPCL": (JPEG + "202", lambda a: imagecodecs.htj2k_encode(a, reversible=True)),
    "HTJ2K": (JPEG + "203", lambda a: imagecodecs.htj2k_encode(a, reversible=True)),
}
LARGEST_ERROR = {"JPEG baseline": 2, "JPEG extended, 12 bit": 3, "JPEG-LS near": 2, "J2K": 8}
EIGHT_BIT = ("JPEG baseline",)


def smooth(size: int = 64, frames: int = 3) -> np.ndarray:
    """Twelve-bit pictures that look a little like anatomy."""
    y, x = np.mgrid[:size, :size] / size
    noise = np.random.default_rng(0).integers(0, 20, (frames, size, size))
    values = 1500 + 1200 * np.sin(9 * x + 3 * y) * np.cos(7 * y)
    return (values[None] + noise + 100 * np.arange(frames)[:, None, None]).astype(np.uint16)


def compressed(folder: pathlib.Path, codec: str, values_FHW: np.ndarray, **attributes: object) -> pathlib.Path:
    """A multi-frame file in `codec`; negative values are stored as two's complement of 16 bits."""
    syntax, encode = ENCODERS[codec]
    bits = {"BitsStored": 8, "HighBit": 7} if values_FHW.itemsize == 1 else {"BitsStored": 12, "HighBit": 11}
    data = mr_dataset(values_FHW[0], **{**bits, "NumberOfFrames": len(values_FHW), **attributes})
    data.PixelData = values_FHW.tobytes()
    if encode is None:
        data.compress(syntax, generate_instance_uid=False, encoding_plugin="pydicom")
    else:
        plain = values_FHW.view(values_FHW.dtype.str.replace("i", "u"))
        data.PixelData = encapsulate([encode(frame) for frame in plain])
        data["PixelData"].is_undefined_length = True
        data.file_meta.TransferSyntaxUID = syntax
    return save(data, folder / "a.dcm")


@pytest.mark.parametrize("codec", ENCODERS)
def test_every_codec_gives_back_what_was_encoded(tmp_path, codec):
    values = (smooth() >> 4).astype(np.uint8) if codec in EIGHT_BIT else smooth()
    compressed(tmp_path, codec, values)
    one = scan.scan_file(tmp_path, "a.dcm")
    assert one.status == "" and one.layout is not None and one.layout.syntax == ENCODERS[codec][0]
    error = np.abs(pixels.read(tmp_path, one).astype(int) - values).max()
    assert error <= LARGEST_ERROR.get(codec, 0)


@pytest.mark.parametrize("codec", [name for name in ENCODERS if name not in LARGEST_ERROR])
@pytest.mark.parametrize("bits", [12, 16])
def test_signed_values_keep_their_sign(tmp_path, codec, bits):
    values = smooth().astype(np.int16) - 1400
    assert values.min() < -1000 and values.max() > 1000
    stored = values if bits == 16 else values & 0x0FFF  # scanners write either
    for one_way in (values, stored):
        compressed(tmp_path, codec, one_way, BitsStored=bits, HighBit=bits - 1)
        np.testing.assert_array_equal(pixels.read(tmp_path, scan.scan_file(tmp_path, "a.dcm")), values)


@pytest.mark.parametrize("codec", ["JPEG lossless", "J2K lossless", "HTJ2K lossless", "JPEG-LS"])
def test_values_beyond_the_stored_bits_tell_of_damage(tmp_path, codec):
    values = smooth()
    values[1, 5, 5] = 4096
    compressed(tmp_path, codec, values)
    with pytest.raises(pixels.Undecodable, match="exceed the stored bits"):
        pixels.read(tmp_path, scan.scan_file(tmp_path, "a.dcm"))


@pytest.mark.parametrize(
    ("attributes", "reason"),
    [
        ({"NumberOfFrames": 2}, "frames"),
        ({"NumberOfFrames": 4}, "frames"),
        ({"Rows": 32}, "another image size"),
        ({"Rows": 128, "Columns": 32}, "another image size"),
    ],
)
def test_a_header_that_promises_other_frames_is_not_believed(tmp_path, attributes, reason):
    for codec in ("JPEG lossless", "RLE", "J2K lossless"):
        if codec == "RLE" and attributes.get("Columns"):
            continue  # 128 x 32 are as many bytes, and RLE names no size
        path = compressed(tmp_path, codec, smooth())
        data = pydicom.dcmread(path)
        for name, value in attributes.items():
            setattr(data, name, value)
        data.save_as(path)
        with pytest.raises(pixels.Undecodable, match=f"{reason}|cannot be decoded"):
            pixels.read(tmp_path, scan.scan_file(tmp_path, "a.dcm"))


def damaged(codec: str, kind: str, seed: int, plain: np.ndarray) -> bytes:
    """A frame of `codec` that lost its end, or one bit of its last nine tenths."""
    frame = bytearray(ENCODERS[codec][1](plain))
    rng = np.random.default_rng(seed)
    at = int(rng.integers(len(frame) // 10, len(frame) - 2))
    if kind == "cut":
        return bytes(frame[:at])
    frame[at] ^= 1 << int(rng.integers(8))
    return bytes(frame)


# Of 40 frames with one bit flipped: how many at least are noticed. No decoder and no cheap check finds the others: the
# changed code is a valid one. RLE is not here: a flipped literal byte is a picture like any other.
NOTICED = {"JPEG lossless": 1, "JPEG-LS": 36, "J2K lossless": 0, "HTJ2K lossless": 3}


@pytest.mark.parametrize("codec", NOTICED)
def test_a_cut_frame_is_always_noticed_and_a_flipped_bit_where_it_can_be(tmp_path, codec):
    values = smooth(frames=1)
    path = compressed(tmp_path, codec, values)
    data = pydicom.dcmread(path)
    found = {"flip": 0, "cut": 0}
    for kind in found:
        if kind == "cut":  # no value is out of range then
            data.BitsStored, data.HighBit = 16, 15
        for seed in range(40):
            data.PixelData = encapsulate([damaged(codec, kind, seed, values[0])])
            data.save_as(path)
            try:
                pixels.read(tmp_path, scan.scan_file(tmp_path, "a.dcm"))
            except pixels.Undecodable:
                found[kind] += 1
    print(codec, found)
    assert found["cut"] == 40
    assert found["flip"] >= NOTICED[codec]


def test_big_endian_and_extra_bytes_after_the_frames(tmp_path):
    data = mr_dataset(coded(1, 2).byteswap(), BitsStored=12, HighBit=11)
    data.file_meta.TransferSyntaxUID = ExplicitVRBigEndian
    save(data, tmp_path / "a.dcm")
    one = scan.scan_file(tmp_path, "a.dcm")
    assert one.layout is None
    np.testing.assert_array_equal(pixels.read(tmp_path, one)[0], coded(1, 2))
    path = compressed(tmp_path, "JPEG lossless", smooth())
    path.write_bytes(path.read_bytes() + bytes(100))
    np.testing.assert_array_equal(pixels.read(tmp_path, scan.scan_file(tmp_path, "a.dcm")), smooth())
