"""What a scanner makes of a sketch: blurring, ghosts, coils, flicker, noise, its gain and its mask.

Letters: T phases, H W pixels.
"""

import dataclasses
from collections.abc import Collection

import numpy as np

from preprocessing.phantom import receiver


@dataclasses.dataclass(frozen=True)
class Scanner:
    """The same for all slices of a study."""

    shade: np.ndarray  # 5: how the logarithm of the coils' brightness changes with x, y, xy, x², y²
    blur: np.ndarray  # 2: weight of the two neighbours along rows and columns; below 0 it sharpens
    noise: float  # standard deviation of either receiver channel against the signal of blood
    gain: float
    ghost: float
    bow: float  # how far corrected edges bend inwards
    flicker: float  # of whole frames


def draw(rng: np.random.Generator, *, without: Collection[str] = ()) -> Scanner:
    """A scanner and its bad day; `without` names parts as in `stack.PARTS`."""
    made = Scanner(
        shade=rng.normal(0.0, 1.0, 5) * np.array([0.35, 0.35, 0.2, 0.2, 0.2]) * rng.uniform(0.0, 1.6),
        blur=rng.uniform(-0.04, 0.2, 2),
        noise=float(rng.lognormal(np.log(0.025), 0.6)),
        gain=float(rng.lognormal(np.log(300.0), 0.4)),
        ghost=rng.uniform(0.02, 0.12) if rng.random() < 0.2 else 0.0,
        bow=rng.uniform(0.02, 0.09) if rng.random() < 0.4 else 0.0,
        flicker=rng.uniform(0.0, 0.05),
    )
    if "scanner" in without:
        made = Scanner(np.zeros(5), np.zeros(2), noise=0.005, gain=made.gain, ghost=0.0, bow=0.0, flicker=0.0)
    return made


def _blur(scanner: Scanner, frame: np.ndarray) -> np.ndarray:
    """`H W`; a new array, its edges kept."""
    down, along = (np.float32(weight) for weight in scanner.blur)
    out = frame * (1 - 2 * down)
    out[1:-1] += down * (frame[:-2] + frame[2:])
    out[0], out[-1] = frame[0], frame[-1]
    sides = along * (out[:, :-2] + out[:, 2:])
    out[:, 1:-1] *= 1 - 2 * along
    out[:, 1:-1] += sides
    return out


def stored(scanner: Scanner, rng: np.random.Generator, frames: np.ndarray) -> np.ndarray:
    """What the scanner keeps of signal `T H W` float32 (overwritten), blood 1; uint16 of 12 bits."""
    size = frames.shape[-1]
    line = np.linspace(-1, 1, size, dtype=np.float32)
    x, y = line, line[:, None]
    a, b, c, d, e = (float(weight) for weight in scanner.shade)
    bright = np.float32(scanner.gain) * np.exp(a * x + b * y + c * x * y + d * x * x + e * y * y)
    if scanner.ghost:
        beating = frames - frames.mean(0)
        beating *= np.float32(scanner.ghost)
        frames += np.roll(beating, size // 3, axis=1)
    flicker = 1 + np.float32(scanner.flicker) * rng.standard_normal(len(frames), np.float32)
    for t, frame in enumerate(frames):  # one at a time stays in the processor's cache
        frames[t] = _blur(scanner, frame)
        frames[t] *= bright * flicker[t]
    out = receiver.stored(rng, frames, scanner.noise * scanner.gain)
    if scanner.bow:
        out *= np.abs(x) < 1 - 2 * scanner.bow * y * y
    return out
