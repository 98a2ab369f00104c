"""Values of decoders against the bits that the header says are stored."""

import imagecodecs
import numpy as np
import pytest
from pydicom.encaps import encapsulate

from preprocessing import decode
from preprocessing.study import PixelLayout

CASES = [
    # decoded, signed, bits, what a lossy codec means by it
    (np.array([-3, 0, 4095, 4099], np.int16), False, 12, [0, 0, 4095, 4095]),
    (np.array([0, 4095, 4096, 5000], np.uint16), False, 12, [0, 4095, 4095, 4095]),
    (np.array([-2050, -2048, 2047, 2060], np.int16), True, 12, [-2048, -2048, 2047, 2047]),
    (np.array([0, 255, 256], np.uint16), False, 8, [0, 255, 255]),
]


@pytest.mark.parametrize("values, signed, bits, meant", CASES)
def test_overshoot_of_a_lossy_codec_is_clipped_and_of_a_lossless_one_is_damage(values, signed, bits, meant):
    found = decode._in_range(values, signed, bits, lossless=False)
    assert found.tolist() == meant
    with pytest.raises(decode.Damaged, match="exceed the stored bits"):
        decode._in_range(values, signed, bits, lossless=True)
    inside = np.array(meant, values.dtype)
    for lossless in (True, False):
        assert decode._in_range(inside, signed, bits, lossless=lossless).tolist() == meant


def test_a_real_lossy_frame_overshoots_and_stays_within_its_bits(tmp_path):
    """A hard edge at the top of 12 bits, compressed a good deal: the wavelet rings beyond it."""
    checks = (np.indices((64, 64)).sum(0) // 3 % 2 * 4095).astype(np.uint16)
    frame = imagecodecs.jpeg2k_encode(checks, codecformat="j2k", level=60)
    assert imagecodecs.jpeg2k_decode(frame).max() > 4095
    (tmp_path / "pixels").write_bytes(encapsulate([bytes(frame)]))
    layout = PixelLayout(0, "<u2", "1.2.840.10008.1.2.4.91")
    values = decode.read(tmp_path / "pixels", layout, (1, 64, 64), 12)
    assert values.max() == 4095 and values.min() == 0
