"""What a scanner adds to the signal: coils, blurring, banding, ghosts, noise, its own gain and masks.

Letters: T phases, H W pixels.
"""

import dataclasses

import numpy as np

from preprocessing.phantom import tissue
from preprocessing.phantom.chest import Chest


@dataclasses.dataclass(frozen=True)
class Scanner:
    """How one study is seen; the same for its planes."""

    palette: tissue.Palette
    flip_deg: float
    tr: float
    thickness: float  # mm
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
    misplaced: float  # standard deviation of the heart's place between breath-holds, mm


def draw(rng: np.random.Generator, chest: Chest, vendor: str) -> Scanner:
    """A scanner, its protocol and its bad day."""
    flip, tr = float(rng.uniform(40.0, 70.0)), float(rng.uniform(2.8, 3.9))
    wide, deep = chest.half_width, chest.half_depth
    angles = rng.uniform(-np.pi, 0.0, 4) * 0.8 - 0.1 * np.pi
    front = np.stack([1.05 * wide * np.cos(angles), 1.08 * deep * np.sin(angles), rng.normal(0.0, 60.0, 4)], -1)
    back = np.array([[rng.normal(0.0, 0.5 * wide), 1.1 * deep, rng.normal(0.0, 60.0)]])
    ge = vendor == "ge"
    blur = rng.uniform(-0.02, 0.2, 2)
    return Scanner(
        palette=tissue.cine(rng, flip, tr),
        flip_deg=flip,
        tr=tr,
        thickness=float(rng.choice([6.0, 8.0, 8.0, 8.0, 10.0])),
        noise=float(rng.lognormal(np.log(0.03), 0.5)),
        gain=float(rng.lognormal(np.log(280.0), 0.45)),
        blur=(float(blur[0]), float(blur[1])),
        coils=chest.centre + np.concatenate([front, back]),
        coil_mm=float(rng.uniform(60.0, 130.0)),
        floor=float(rng.uniform(0.1, 0.5)),
        evenness=float(rng.choice([0.0, 0.3, 0.9], p=[0.6, 0.2, 0.2])),
        banding=float(rng.uniform(0.0, 0.8)) if rng.random() < 0.3 else 0.0,
        band_mm=float(rng.uniform(120.0, 320.0)),
        band_way=rng.normal(0.0, 1.0, 3),
        ghost=float(rng.uniform(0.02, 0.12)) if rng.random() < 0.3 else 0.0,
        swirl=float(rng.uniform(0.0, 0.12)),
        round_field=float(rng.uniform(0.86, 1.02)) if ge and rng.random() < 0.5 else 0.0,
        bow=float(rng.uniform(0.02, 0.09)) if ge and rng.random() < 0.6 else 0.0,
        misplaced=float(rng.choice([0.5, 2.0, 5.0], p=[0.4, 0.4, 0.2])),
    )


def careful(scan: Scanner) -> Scanner:
    """`scan` without its bad day: even coils, still patients, no bands, ghosts or cut corners."""
    return dataclasses.replace(
        scan, thickness=8.0, noise=min(scan.noise, 0.04), evenness=0.9, floor=0.5, banding=0.0, ghost=0.0,
        round_field=0.0, bow=0.0, misplaced=0.0,
    )  # fmt: skip


def sensitivity(scanner: Scanner, points: np.ndarray, heart: np.ndarray) -> np.ndarray:
    """Coil shading at LPS `points` (`H W 3`), 1 at `heart`; float32 `H W`."""

    def at(where: np.ndarray) -> np.ndarray:
        out = np.float32(scanner.floor)
        for coil in scanner.coils.astype(np.float32):
            off = where - coil
            near = np.einsum("...i,...i->...", off, off) * np.float32(scanner.coil_mm**-2.0)
            out = out + 1.0 / (np.float32(0.12) + near)
        return np.asarray(out)

    seen = at(points.astype(np.float32)) / at(heart.astype(np.float32))
    return (seen ** (1.0 - scanner.evenness)).astype(np.float32)


def bands(scanner: Scanner, points: np.ndarray, heart: np.ndarray) -> np.ndarray | float:
    """Where off-resonance turns the balanced signal dark, as a factor `H W`; the heart's middle is shimmed."""
    if not scanner.banding:
        return 1.0
    off = (points - heart).astype(np.float32)
    way = (scanner.band_way / np.linalg.norm(scanner.band_way)).astype(np.float32)
    turns = off @ way / scanner.band_mm + np.einsum("...i,...i->...", off, off) / scanner.band_mm**2
    return (1.0 - scanner.banding * np.maximum(-np.cos(2.0 * np.pi * turns), 0.0) ** 8).astype(np.float32)


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


def blurred(scanner: Scanner, frames: np.ndarray) -> np.ndarray:
    """Cut k-space and interpolation: a short kernel (negative weights ring), `T H W`; edges are kept."""
    for axis, weight in zip((1, 2), scanner.blur, strict=True):
        frames = np.moveaxis(frames, axis, 0)
        out = frames.copy()
        out[1:-1] *= 1.0 - 2.0 * weight
        out[1:-1] += np.float32(weight) * (frames[:-2] + frames[2:])
        frames = np.moveaxis(out, 0, axis)
    return frames


class Noise:
    """A pool of correlated receiver noise of unit deviation, from which frames take what lies at a drawn place."""

    def __init__(self, rng: np.random.Generator, count: int):
        pool = rng.standard_normal(count + count // 2 + 1, np.float32)
        mix = rng.uniform(0.0, 0.5)
        self._pool = (pool[1:] + np.float32(mix) * pool[:-1]) * np.float32(1.0 / np.sqrt(1.0 + mix**2))

    def __call__(self, rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
        count = int(np.prod(shape))
        start = int(rng.integers(len(self._pool) - count + 1))
        return self._pool[start : start + count].reshape(shape)


def stored(scanner: Scanner, noise: Noise, rng: np.random.Generator, frames: np.ndarray) -> np.ndarray:
    """Magnitude with Rician noise in the scanner's gain, `T H W` uint16 of 12 bits. Overwrites `frames`."""
    scale = np.float32(scanner.noise)
    other = noise(rng, frames.shape) * scale
    other *= other
    frames += noise(rng, frames.shape) * scale
    frames *= frames
    frames += other
    np.sqrt(frames, out=frames)
    frames *= np.float32(scanner.gain)
    frames += np.float32(0.5)
    np.minimum(frames, np.float32(4095.0), out=frames)
    out = frames.astype(np.uint16)
    kept = mask(scanner, frames.shape[-1])
    if kept is not None:
        out *= kept
    return out
