"""What stands still around a sketched heart: blobs and vessels, the diaphragm, the chest wall.

Millimetres from the ventricle's axis; x to the right, y down the picture, z along the axis. H W: of a picture.
"""

import dataclasses
from collections.abc import Collection

import numpy as np

from preprocessing.phantom.paint import paint
from preprocessing.phantom.sketch.mottling import Mottling


@dataclasses.dataclass(frozen=True)
class Blob:
    """An organ: an ellipse in each slice, moving along `way` from slice to slice."""

    at: np.ndarray  # 2
    way: np.ndarray  # 2
    half: np.ndarray  # 2
    turn: float
    grey: float


@dataclasses.dataclass(frozen=True)
class Vessel:
    """A thin disc in each slice."""

    at: np.ndarray  # 2
    way: np.ndarray  # 2
    radius: float
    grey: float


@dataclasses.dataclass(frozen=True)
class Chest:
    """Greys against the blood's 1; the wall is a large circle about a point on the far side."""

    lung: float
    liver: float
    muscle: float
    blobs: list[Blob]
    vessels: list[Vessel]
    floor_way: float
    floor_at: float
    wall_way: float
    wall_at: tuple[float, float]  # distance, radius
    wall_part: tuple[float, float, float]  # thickness of muscle and of fat, grey of the fat
    mottled: float  # depth


def _blob(rng: np.random.Generator) -> Blob:
    grey = float(rng.choice([rng.uniform(0.0, 0.2), rng.uniform(0.2, 0.6), rng.uniform(0.6, 1.6)]))
    return Blob(rng.normal(0, 65, 2), rng.normal(0, 0.8, 2), rng.uniform(8, 45, 2), rng.uniform(0, np.pi), grey)


def draw(rng: np.random.Generator, muscle: float, axis: float, *, without: Collection[str] = ()) -> Chest:
    """A chest turned by `axis` (radians), its wall of `muscle`; `without` names parts as in `stack.PARTS`."""
    lung, liver = rng.uniform(0.0, 0.15), rng.uniform(0.2, 0.65)
    blobs = [_blob(rng) for _ in range(int(rng.integers(4, 14)))]
    vessels = [
        Vessel(rng.normal(0, 70, 2), rng.normal(0, 0.7, 2), rng.uniform(1.0, 4.0), rng.uniform(0.3, 1.1))
        for _ in range(int(rng.integers(0, 16)))
    ]
    turn = axis + rng.normal(0, 0.3)
    made = Chest(
        lung=lung,
        liver=liver,
        muscle=muscle,
        blobs=blobs,
        vessels=vessels,
        floor_way=0.5 * np.pi + axis + rng.normal(0, 0.3),
        floor_at=rng.uniform(30, 70) if rng.random() < 0.85 else 500.0,
        wall_way=turn - 0.75 * np.pi + rng.normal(0, 0.3),  # up and left
        wall_at=(rng.uniform(50, 100), rng.uniform(130, 330)),
        wall_part=(rng.uniform(4, 18), rng.uniform(3, 40), rng.uniform(0.5, 2.2)),
        mottled=0.6 * rng.uniform(0.0, 0.35),
    )
    if "surroundings" in without:
        made = dataclasses.replace(made, blobs=[], vessels=[], floor_at=500.0)
    return dataclasses.replace(made, mottled=0.0) if "scanner" in without else made


def still(
    chest: Chest, mottling: Mottling, rng: np.random.Generator, x: np.ndarray, y: np.ndarray, z: float, edge: float
) -> np.ndarray:
    """Signal of `chest` in the slice at `z`, `H W` float32, at x and y (`H W`)."""
    out = np.full_like(x, chest.lung)
    for blob in chest.blobs:
        dx, dy = x - float(blob.at[0] + blob.way[0] * z * 0.5), y - float(blob.at[1] + blob.way[1] * z * 0.5)
        c, s = float(np.cos(blob.turn)), float(np.sin(blob.turn))
        u, v = (c * dx + s * dy) / float(blob.half[0]), (c * dy - s * dx) / float(blob.half[1])
        paint(out, (np.sqrt(u * u + v * v) - 1) * float(blob.half.min()), blob.grey, edge)
    c, s = float(np.cos(chest.floor_way)), float(np.sin(chest.floor_way))
    along = c * y - s * x
    bent = (chest.floor_at - 0.15 * z) + 0.002 * along * along
    paint(out, bent - (c * x + s * y), chest.liver, edge)
    for vessel in chest.vessels:
        _disc(out, vessel, x, y, z, edge)
    c, s = float(np.cos(chest.wall_way)), float(np.sin(chest.wall_way))
    distance, radius = chest.wall_at
    off = radius - distance
    outside = np.hypot(x + c * off, y + s * off) - (radius - 0.15 * z)
    muscle, fat, bright = chest.wall_part
    paint(out, -outside, chest.muscle, edge)
    paint(out, muscle - outside, bright, edge)
    paint(out, muscle + fat - outside, 0.0, edge)
    out *= 1 + chest.mottled * mottling(rng, x, y)
    return out


def _disc(canvas: np.ndarray, vessel: Vessel, x: np.ndarray, y: np.ndarray, z: float, edge: float) -> None:
    """Paints `vessel` on the few pixels that it may cover."""
    dx = x[0] - float(vessel.at[0] + vessel.way[0] * z)
    dy = y[:, 0] - float(vessel.at[1] + vessel.way[1] * z)
    reach = vessel.radius + edge
    rows, columns = np.flatnonzero(np.abs(dy) < reach), np.flatnonzero(np.abs(dx) < reach)
    if len(rows) and len(columns):
        box = slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1)
        paint(canvas[box], np.hypot(dx[box[1]], dy[box[0], None]) - vessel.radius, vessel.grey, edge)
