"""What a scanner's receiver adds and what its files keep: Rician noise, 12 bits.

Letters: T phases, H W pixels.
"""

import functools

import numpy as np
import scipy.special

LARGEST = 4095  # of 12 bits


@functools.cache
def _normal_of() -> np.ndarray:
    """The normal deviate of each 16-bit number, float32: the middle of the 1/65536 of probability it stands for.

    A table read at random is four times faster than drawing deviates one by one; its deviation is 1 within 1e-4, its
    largest value 4.3, and a picture of 12 bits sees neither.
    """
    steps = 1 << 16
    return scipy.special.ndtri((np.arange(steps) + 0.5) / steps).astype(np.float32)


def normals(rng: np.random.Generator, shape: tuple[int, ...], deviation: float = 1.0) -> np.ndarray:
    """Normal deviates about 0, float32 of `shape`, from 16 random bits each."""
    count = int(np.prod(shape))
    bits = rng.bit_generator.random_raw(-(-count // 4)).astype("<u8", copy=False).view("<u2")[:count]
    out = _normal_of().take(bits).reshape(shape)
    out *= np.float32(deviation)
    return out


def stored(rng: np.random.Generator, frames: np.ndarray, level: float) -> np.ndarray:
    """The magnitude of two noisy channels, as stored: uint16 of 12 bits, `T H W`.

    Args:
        frames: noiseless signal `T H W` float32 in stored units.
        level: standard deviation of either channel's noise, in stored units.
    """
    out = np.empty(frames.shape, np.uint16)
    for t, frame in enumerate(frames):  # one at a time stays in the processor's cache
        real, other = normals(rng, (2, *frame.shape), level)
        real += frame
        real *= real
        other *= other
        real += other
        np.sqrt(real, out=real)
        real += np.float32(0.5)
        np.minimum(real, np.float32(LARGEST), out=real)
        out[t] = real
    return out
