"""What a scanner adds to the signal: coils, blurring, banding, ghosts, noise, its own gain and masks.

Letters: T phases, H W pixels.
"""

import dataclasses

import numpy as np

from preprocessing.phantom.clinical.chest import Chest
from preprocessing.phantom.render import Plane


@dataclasses.dataclass(frozen=True)
class Scanner:
    """How one study is seen; the same for its planes."""

    noise: float  # standard deviation of either receiver channel against the signal of blood
    gain: float
    blur: tuple[float, float]  # weights of the two neighbours along rows and columns
    coils: np.ndarray  # `K 3`, LPS
    coil_mm: float  # how far a coil sees
    floor: float  # what is seen everywhere
    evenness: float  # 0 keeps the coils' shading, 1 removes it
    banding: float  # depth of dark bands
    band_mm: float
    band_way: np.ndarray
    ghost: float
    swirl: float
    round_field: float  # radius of the stored circle over half the field of view, 0 none
    bow: float  # how far corrected edges bend inwards, as a part of the field


def draw(rng: np.random.Generator, chest: Chest, vendor: str, breathing: bool) -> Scanner:
    """A scanner of `vendor`, its protocol and its bad day; failed breath-holds ghost."""
    wide, deep = chest.half_width, chest.half_depth
    angles = rng.uniform(-np.pi, 0.0, 4) * 0.8 - 0.1 * np.pi
    front = np.stack([1.05 * wide * np.cos(angles), 1.08 * deep * np.sin(angles), rng.normal(0.0, 60.0, 4)], -1)
    back = np.array([[rng.normal(0.0, 0.5 * wide), 1.1 * deep, rng.normal(0.0, 60.0)]])
    ge = vendor == "ge"
    blur = rng.uniform(-0.02, 0.15, 2)
    bands = rng.random() < 0.2
    ghosts = breathing or rng.random() < 0.15
    return Scanner(
        noise=float(rng.lognormal(np.log(0.025), 0.4)),
        gain=float(rng.lognormal(np.log(280.0), 0.4)),
        blur=(float(blur[0]), float(blur[1])),
        coils=chest.centre + np.concatenate([front, back]),
        coil_mm=float(rng.uniform(70.0, 130.0)),
        floor=float(rng.uniform(0.1, 0.5)),
        evenness=float(rng.choice([0.0, 0.4, 0.9], p=[0.55, 0.25, 0.2])),
        banding=float(rng.uniform(0.1, 0.7)) if bands else 0.0,
        band_mm=float(rng.uniform(140.0, 320.0)),
        band_way=rng.normal(0.0, 1.0, 3),
        ghost=float(rng.uniform(0.04, 0.14)) if ghosts else 0.0,
        swirl=float(rng.uniform(0.0, 0.1)),
        round_field=float(rng.uniform(0.9, 1.02)) if ge and rng.random() < 0.4 else 0.0,
        bow=float(rng.uniform(0.02, 0.07)) if ge and rng.random() < 0.5 else 0.0,
    )


def _off2(plane: Plane, place: np.ndarray) -> np.ndarray:
    """Squared distance of the pixels from `place` (LPS, mm), `H W` float32: numbers of its row and column, added."""
    step, off = np.arange(plane.size) * plane.spacing, plane.origin - place
    down = off @ off + (2.0 * (off @ plane.column) + step) * step
    along = (2.0 * (off @ plane.row) + step) * step
    return down.astype(np.float32)[:, None] + along.astype(np.float32)


def sensitivity(scanner: Scanner, plane: Plane, heart: np.ndarray) -> np.ndarray:
    """Coil shading on `plane`, 1 at `heart` (LPS); float32 `H W`."""
    seen = np.full((plane.size, plane.size), scanner.floor, np.float32)
    there = scanner.floor
    for coil in scanner.coils:
        near = _off2(plane, coil)
        near *= np.float32(scanner.coil_mm**-2.0)
        near += np.float32(0.12)
        seen += np.reciprocal(near, out=near)
        there += 1.0 / (0.12 + ((heart - coil) ** 2).sum() * scanner.coil_mm**-2.0)
    seen *= np.float32(1.0 / there)
    return seen if not scanner.evenness else seen ** np.float32(1.0 - scanner.evenness)


def bands(scanner: Scanner, plane: Plane, heart: np.ndarray) -> np.ndarray | float:
    """Where off-resonance turns the balanced signal dark, as a factor `H W`; the heart's middle is shimmed."""
    if not scanner.banding:
        return 1.0
    step = np.arange(plane.size) * plane.spacing
    way = scanner.band_way / np.linalg.norm(scanner.band_way)
    down = (plane.origin - heart) @ way + step * (plane.column @ way)
    turns = (down[:, None] + step * (plane.row @ way)) / scanner.band_mm
    turns = turns.astype(np.float32) + _off2(plane, heart) * np.float32(scanner.band_mm**-2.0)
    dark = np.maximum(-np.cos(np.float32(2.0 * np.pi) * turns), np.float32(0.0)) ** 8
    return np.float32(1.0) - np.float32(scanner.banding) * dark


def mask(scanner: Scanner, size: int) -> np.ndarray | None:
    """Which pixels the maker stores at all, `H W`; None for every one."""
    if not scanner.round_field and not scanner.bow:
        return None
    line = np.linspace(-1.0, 1.0, size, dtype=np.float32)
    kept = np.ones((size, size), bool)
    if scanner.round_field:
        kept &= line[:, None] ** 2 + line**2 < scanner.round_field**2
    if scanner.bow:
        kept &= np.abs(line) < 1.0 - 2.0 * scanner.bow * (line[:, None] ** 2)
    return kept


def blurred(scanner: Scanner, frame: np.ndarray) -> np.ndarray:
    """Cut k-space and interpolation: a short kernel (negative weights ring), `H W`; edges are kept."""
    down, along = (np.float32(weight) for weight in scanner.blur)
    out = frame.copy()
    between = frame[:-2] + frame[2:]
    between *= down
    out[1:-1] *= np.float32(1.0) - np.float32(2.0) * down
    out[1:-1] += between
    between = out[:, :-2] + out[:, 2:]
    between *= along
    out[:, 1:-1] *= np.float32(1.0) - np.float32(2.0) * along
    out[:, 1:-1] += between
    return out


class Noise:
    """A pool of correlated receiver noise of unit deviation, from which frames take what lies at a drawn place."""

    def __init__(self, rng: np.random.Generator, count: int):
        pool = rng.standard_normal(count + count // 2 + 1, np.float32)
        mix = rng.uniform(0.0, 0.5)
        self._pool = np.float32(mix) * pool[:-1]
        self._pool += pool[1:]
        self._pool *= np.float32(1.0 / np.sqrt(1.0 + mix**2))

    def __call__(self, rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
        count = int(np.prod(shape))
        start = int(rng.integers(len(self._pool) - count + 1))
        return self._pool[start : start + count].reshape(shape)


def stored(
    scanner: Scanner, noise: Noise, rng: np.random.Generator, frames: np.ndarray, shade: np.ndarray, *,
    quiet: float = 1.0, signed: bool = False,
) -> np.ndarray:  # fmt: skip
    """What the scanner keeps of signal `T H W`, uint16 of 12 bits: blurring, coils, noise and the scanner's gain.

    Args:
        shade: of coils and bands, `H W`.
        quiet: factor on the noise.
        signed: phase-sensitive pictures, whose sign is kept and whose 0 is stored as 2048; else the magnitude, whose
            noise is Rician.
    """
    level = np.float32(scanner.noise * quiet * scanner.gain)
    bright = shade * np.float32(1.0 / (scanner.noise * quiet))  # in units of the noise
    kept = mask(scanner, frames.shape[-1])
    first, second = noise(rng, frames.shape), noise(rng, frames.shape)
    out = np.empty(frames.shape, np.uint16)
    for t, frame in enumerate(frames):  # one at a time stays in the processor's cache
        real = blurred(scanner, frame)
        real *= bright
        real += first[t]
        if signed:
            real *= level
            real += np.float32(2048.5)
        else:
            real *= real
            real += np.square(second[t])
            np.sqrt(real, out=real)
            real *= level
            real += np.float32(0.5)
        np.clip(real, 0.0, 4095.0, out=real)
        out[t] = real
        if kept is not None:
            out[t] *= kept
    return out


def stored_map(rng: np.random.Generator, values: np.ndarray, spread: float, muscle: float, scale: float) -> np.ndarray:
    """Fitted values in ms, stored as `scale` times as much; where there is little to fit the noise is large.

    Args:
        values: `T H W`, ms.
        spread: standard deviation of the fit in muscle, ms.
        muscle: value of muscle, ms.
    """
    weak = values < 0.3 * muscle
    noisy = values + rng.standard_normal(values.shape, np.float32) * np.where(weak, 8.0 * spread, spread)
    return np.clip(np.rint(noisy * scale), 0.0, 4095.0).astype(np.uint16)
