import dataclasses

import numpy as np
import pytest

from preprocessing import pixels, scan, views
from tests.preprocessing.test_views import SAX_PLANE, oriented
from tests.preprocessing.tiny_dicom import mr_dataset, save


def read(folder, values, **attributes):
    save(mr_dataset(values, **attributes), folder / "a.dcm")
    return pixels.read(folder, scan.scan_file(folder, "a.dcm"))[0]


def test_monochrome1_is_inverted(tmp_path):
    values = np.array([[0, 10], [200, 4095]], np.uint16)
    got = read(tmp_path, values, PhotometricInterpretation="MONOCHROME1", BitsStored=12, HighBit=11)
    np.testing.assert_array_equal(got, 4095 - values)


def test_signed_monochrome1_is_inverted_within_its_range(tmp_path):
    values = np.array([[-2048, -1], [0, 2047]], np.int16)
    got = read(tmp_path, values, PhotometricInterpretation="MONOCHROME1", BitsStored=12, HighBit=11)
    np.testing.assert_array_equal(got, -1 - values)


def test_bits_above_the_stored_ones_are_cleared(tmp_path):
    values = np.array([[5, 4095]], np.uint16)
    got = read(tmp_path, values | 0xF000, BitsStored=12, HighBit=11)
    np.testing.assert_array_equal(got, values)


def test_short_signed_values_keep_their_sign(tmp_path):
    values = np.array([[-3, 2000]], np.int16)
    got = read(tmp_path, values & np.int16(0x0FFF), BitsStored=12, HighBit=11)
    np.testing.assert_array_equal(got, values)


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.uint16, np.int32])
def test_clipping_uses_the_whole_cine(dtype):
    values = np.zeros((4, 10, 50), dtype)
    values[2] = np.arange(500).reshape(10, 50) // 5  # a bright frame among dark ones
    values[3, 0, 0] = 127  # a hot pixel
    unit = pixels.to_unit(values)
    assert unit.dtype == np.float32
    assert (unit.min(), unit.max()) == (0, 1)
    high = np.percentile(values, 99.5)
    np.testing.assert_allclose(unit[2], np.clip(values[2] / high, 0, 1), atol=0.015)


def test_integers_and_floats_are_clipped_alike():
    values = np.random.default_rng(0).integers(-500, 3000, (3, 40, 40)).astype(np.int16)
    np.testing.assert_allclose(pixels.to_unit(values), pixels.to_unit(values.astype(np.float64)), atol=2e-3)


def test_a_flat_image_is_black_and_a_sparse_one_is_not():
    assert pixels.to_unit(np.full((1, 8, 8), 7, np.uint16)).max() == 0
    sparse = np.zeros((1, 40, 40), np.uint16)
    sparse[0, 3, 3] = 9
    assert pixels.to_unit(sparse).max() == 1


def render(values, spacing, size=64, spacing_mm=1.5, turned=SAX_PLANE):
    series = oriented(*turned, phases=len(values))
    series.frames[0] = [dataclasses.replace(f, spacing=spacing) for f in series.frames[0]]
    views.label([series])
    return pixels.render(values, series, image_size=size, spacing_mm=spacing_mm)[1]


@pytest.mark.parametrize("spacing", [(0.7, 0.7), (1.5, 1.5), (2.5, 1.1)])
def test_a_disc_keeps_its_size_in_millimetres_and_its_place(spacing):
    rows, cols = (int(120 / s) for s in spacing)
    y = (np.arange(rows) - (rows - 1) / 2)[:, None] * spacing[0] - 10
    x = (np.arange(cols) - (cols - 1) / 2)[None, :] * spacing[1] + 6
    disc = (np.hypot(y, x) < 20).astype(np.uint16)[None] * 1000
    out = render(disc, spacing)[0] > 127
    assert out.sum() * 1.5**2 == pytest.approx(np.pi * 20**2, rel=0.03)
    centre = (np.argwhere(out).mean(0) - 31.5) * 1.5
    np.testing.assert_allclose(centre, (10, -6), atol=0.5)


def test_resampling_at_the_same_spacing_is_a_crop():
    values = np.random.default_rng(0).integers(0, 256, (2, 80, 80)).astype(np.uint16)
    out = render(values, (1.5, 1.5))
    unit = pixels.to_unit(values)
    np.testing.assert_array_equal(out, np.rint(unit[:, 8:72, 8:72] * 255))


def test_what_lies_outside_is_zero():
    out = render(np.full((1, 20, 20), 5, np.uint16) + np.arange(20, dtype=np.uint16), (1.5, 1.5))
    assert out[0, :22].max() == 0 and out[0, :, -22:].max() == 0
    assert out[0, 22:42, 30:42].min() > 0
    shrunk = render(np.full((1, 20, 20), 5, np.uint16) + np.arange(20, dtype=np.uint16), (0.5, 0.5))
    assert np.flatnonzero(shrunk[0].any(1)).tolist() == list(range(29, 35))  # 10 mm are six whole pixels of 1.5 mm


def test_shrinking_does_not_alias():
    noise = np.random.default_rng(0).integers(0, 2, (1, 130, 130)).astype(np.uint16) * 1000
    out = render(noise, (0.5, 0.5), size=16, spacing_mm=2.0)
    assert out.std() < 30  # four neighbours alone would leave 64
    assert 110 < out.mean() < 145


def test_unequal_spacing_follows_the_turn():
    values = np.zeros((1, 60, 30), np.uint16)
    values[0, 20:40, 10:20] = 9  # 20 mm x 20 mm, and turned by 90 degrees in store
    out = render(values, (1.0, 2.0), spacing_mm=1.0, turned=((0.15, -0.41, 0.9), (0.77, 0.62, 0.16)))
    inside = np.argwhere(out[0] > 127)
    np.testing.assert_allclose(np.ptp(inside, axis=0) + 1, 20, atol=1)
