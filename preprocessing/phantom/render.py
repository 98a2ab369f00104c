"""Planes through the scene, as a scanner would lay them, and the pictures it would make of them.

Letters: T phases, H W pixels.
"""

import dataclasses

import numpy as np

from preprocessing.phantom import anatomy, beating, receiver, scene
from preprocessing.phantom.paint import cover, lay, paint

SLICE_MM = 8.0
_AT_ONCE = 1 << 15  # values of as many phases as are worked out together: they stay in the processor's cache
# Long-axis planes hold the long axis and the direction of this theta (radians).
LONG_AXIS = {"2ch": np.deg2rad(-88.0), "3ch": np.deg2rad(-132.0), "4ch": np.deg2rad(172.0)}


@dataclasses.dataclass(frozen=True)
class Plane:
    """`origin` is the LPS of the centre of pixel (0, 0); `row` points along a row of pixels, `column` down."""

    name: str
    origin: np.ndarray
    row: np.ndarray
    column: np.ndarray
    spacing: float
    size: int

    @property
    def normal(self) -> np.ndarray:
        return np.cross(self.row, self.column)

    def points(self) -> np.ndarray:
        """LPS of the pixel centres, `H W 3`."""
        step = np.arange(self.size) * self.spacing
        origin, row, column = (vector[:, None, None] for vector in (self.origin, self.row, self.column))
        # Each coordinate lies together in memory: whoever works on one of them has long rows.
        return np.moveaxis(origin + step[:, None] * column + step * row, 0, -1)


def oriented(name: str, centre: np.ndarray, normal: np.ndarray, spacing: float, size: int) -> Plane:
    """The plane through `centre`, turned in itself as scanners do: a transverse one with left to the right, any other
    with the feet down."""
    from_left = name in ("2ch", "3ch")  # two views that are always shown from the patient's left
    if abs(normal[2]) > max(abs(normal[0]), abs(normal[1])) and not from_left:
        row = _within(np.array([1.0, 0.0, 0.0]), normal)
        column = np.cross(normal, row)
        column = column if column[1] > 0 else -column
    else:
        column = _within(np.array([0.0, 0.0, -1.0]), normal)
        row = np.cross(column, normal)
        rightwards = np.array([0.0, 1.0, 0.0]) if from_left else np.array([1.0, 0.3, 0.0])
        row = row if row @ rightwards > 0 else -row
    half = (size - 1) / 2 * spacing
    return Plane(name, centre - half * (row + column), row, column, spacing, size)


def _within(direction: np.ndarray, normal: np.ndarray) -> np.ndarray:
    flat = direction - (direction @ normal) * normal
    return flat / np.linalg.norm(flat)


@dataclasses.dataclass(frozen=True)
class Subject:
    """One heart in one body, on one day."""

    heart: anatomy.Heart
    chest: scene.Chest
    pose: scene.Pose


def plan(
    subject: Subject, rng: np.random.Generator, *, slices: int, size: int, field_mm: float
) -> tuple[list[Plane], dict[str, Plane]]:
    """The short-axis stack, base to apex, and the three long-axis planes, with an operator's small errors."""
    heart, pose = subject.heart, subject.pose
    spacing = round(field_mm / size, 4)
    across, down, along = pose.axes
    aim = pose.to_patient(np.array([-12.0, 0.0, 0.0])) + rng.normal(0.0, 3.0, 3)
    tilted = along + 0.03 * (rng.normal() * across + rng.normal() * down)
    tilted /= np.linalg.norm(tilted)
    gap = max(SLICE_MM, np.round(2.0 * heart.length / (slices - 0.2)) / 2.0)
    first = 0.5 * (heart.length - (slices - 1) * gap) + rng.uniform(-2.0, 2.0)
    sax = [oriented("sax", aim + (first + i * gap) * tilted, -tilted, spacing, size) for i in range(slices)]
    lax = {}
    for name, theta in LONG_AXIS.items():
        angle = theta + rng.normal(0.0, 0.05)
        direction = np.cos(angle) * across + np.sin(angle) * down
        normal = np.cross(along, direction)
        centre = pose.to_patient(np.array([-8.0, 0.0, 0.3 * heart.length])) + rng.normal(0.0, 3.0, 3)
        # The plane itself holds the axis, but for a millimetre or two.
        off = (centre - pose.origin) @ normal
        lax[name] = oriented(name, centre + (rng.normal(0.0, 1.0) - off) * normal, normal, spacing, size)
    return sax, lax


def scouts(subject: Subject, size: int, field_mm: float) -> list[Plane]:
    """Transverse, sagittal and coronal, through the heart."""
    centre = subject.pose.to_patient(np.array([0.0, 0.0, 30.0]))
    axes = np.eye(3)
    return [oriented("scout", centre, axes[i], round(field_mm / size, 4), size) for i in (2, 0, 1)]


def _box(subject: Subject, plane: Plane) -> tuple[np.ndarray, np.ndarray]:
    """The pixels of the rectangle outside of which nothing beats (`N`, counted along the rows), and where they lie in
    the heart's frame (`N 3`)."""
    heart = subject.heart
    local = subject.pose.to_heart(plane.points().reshape(-1, 3))
    x, y, z = local.T.reshape(3, plane.size, plane.size)
    reach = np.sqrt((heart.radius + heart.wall_free + 12.0) ** 2 + heart.rv_squared) + 12.0
    roof = -max(heart.la_length, heart.ra_length) - 90.0
    near = (x**2 + y**2 < reach**2) & (z > roof) & (z < heart.length + 12.0)
    pixels = np.flatnonzero(near.any(1)[:, None] & near.any(0))
    return pixels, local[pixels]


def _cut(subject: Subject, plane: Plane, local: np.ndarray, *, edge: float, thickness: float) -> beating.Cut:
    """The heart along points (`N 3`) of a plane, given in the heart's frame."""
    across = beating.Slice(subject.pose.axes @ plane.normal, edge, thickness)
    return beating.Cut(subject.heart, subject.pose, across, local, subject.chest.epicardial_fat)


def label_map(subject: Subject, plane: Plane, contracted: np.ndarray) -> np.ndarray:
    """The labels of `scene` at the pixel centres of an infinitely thin slice, `T H W` uint8.

    Args:
        contracted: `T`, from `anatomy.contraction`.
    """
    pixels, local = _box(subject, plane)
    names = np.zeros((len(contracted), len(pixels)), np.uint8)
    for group in beating.heart_groups(_cut(subject, plane, local, edge=1.0, thickness=0.0), contracted):
        for layer in group.layers:
            if layer.label:
                inside = layer.distance if group.flat is None else np.maximum(layer.distance, group.flat)
                names[inside < 0.0] = layer.label
    out = np.zeros((len(contracted), plane.size**2), np.uint8)
    out[:, pixels] = names
    return out.reshape(-1, plane.size, plane.size)


def _paint_group(canvas: np.ndarray, group: beating.Group) -> None:
    """Lays `group` over `canvas` (`T N`, changed in place)."""
    painted = canvas if group.flat is None else canvas.copy()
    for layer in group.layers:
        paint(painted, layer.distance, layer.signal)
    if group.flat is not None:
        lay(canvas, cover(group.flat), painted)


def _chest(subject: Subject, points: np.ndarray, edge: float) -> np.ndarray:
    """Signal of everything that stands still at LPS `points` (`N 3`), `N`."""
    still = np.zeros(len(points), np.float32)
    for layer in scene.chest_layers(subject.chest, subject.pose, points):
        paint(still, layer.distance, layer.signal, edge)
    return still * _texture(points)


def _signal(subject: Subject, plane: Plane, points: np.ndarray, contracted: np.ndarray) -> np.ndarray:
    """Noiseless signal at the plane's `points` (`N 3`), `T N`, blood 1; the heart averaged through the slice."""
    edge = 1.15 * plane.spacing
    still = _chest(subject, points, edge)
    frames = np.repeat(still[None], len(contracted), 0)
    pixels, local = _box(subject, plane)
    cut = _cut(subject, plane, local.astype(np.float32), edge=edge, thickness=SLICE_MM)
    some = beating.touched(cut)
    if not some.any():
        return frames
    pixels = pixels[some]
    cut = _cut(subject, plane, local[some].astype(np.float32), edge=edge, thickness=SLICE_MM)
    step = max(1, _AT_ONCE // len(pixels))
    for t in range(0, len(contracted), step):
        now = contracted[t : t + step]
        canvas = np.repeat(still[None, pixels], len(now), 0)
        for group in beating.heart_groups(cut, now):
            _paint_group(canvas, group)
        frames[t : t + step, pixels] = canvas
    return frames


def _texture(points: np.ndarray) -> np.ndarray:
    """Mottling of still tissue, fixed in space, `N`."""
    waves = np.array([[0.31, 0.13, 0.08], [-0.11, 0.17, 0.26], [0.07, -0.37, 0.12]], np.float32)
    return 1.0 + 0.03 * np.sin(waves @ points.T.astype(np.float32)).sum(0)


def picture(
    subject: Subject, plane: Plane, contracted: np.ndarray, rng: np.random.Generator, *, noise: float, gain: float
) -> np.ndarray:
    """What the scanner stores, `T H W` uint16: coil shading, Rician noise and its arbitrary gain.

    Args:
        noise: standard deviation of either receiver channel against the signal of blood.
    """
    points = plane.points().reshape(-1, 3)
    frames = _signal(subject, plane, points, contracted)
    depth = points[:, 1] - (subject.chest.centre[1] - subject.chest.half_depth)
    frames *= (gain * (0.5 + 1.0 * np.exp(-np.maximum(depth, 0.0) / 75.0))).astype(np.float32)
    return receiver.stored(rng, frames.reshape(-1, plane.size, plane.size), gain * noise)
