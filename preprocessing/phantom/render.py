"""Planes through the scene, as a scanner would lay them, and the pictures it would make of them.

Letters: T phases, H W pixels.
"""

import dataclasses

import numpy as np

from preprocessing.phantom import anatomy, scene

SLICE_MM = 8.0
_THROUGH_PLANE = (-0.25, 0.25)  # where a slice is sampled across its thickness
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
        return self.origin + step[:, None, None] * self.column + step[None, :, None] * self.row


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


def _heart_box(subject: Subject, points: np.ndarray) -> tuple[slice, slice]:
    """The rows and columns outside of which nothing beats."""
    heart = subject.heart
    local = subject.pose.to_heart(points)
    reach = np.sqrt((heart.radius + heart.wall_free + 12.0) ** 2 + heart.rv_squared) + 12.0
    roof = -max(heart.la_length, heart.ra_length) - 90.0
    near = ((local[..., :2] ** 2).sum(-1) < reach**2) & (local[..., 2] > roof) & (local[..., 2] < heart.length + 12.0)
    rows, columns = np.flatnonzero(near.any(1)), np.flatnonzero(near.any(0))
    if not len(rows):
        return slice(0, 0), slice(0, 0)
    return slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1)


def label_map(subject: Subject, plane: Plane, contracted: np.ndarray) -> np.ndarray:
    """The labels of `scene` at the pixel centres of an infinitely thin slice, `T H W` uint8.

    Args:
        contracted: `T`, from `anatomy.contraction`.
    """
    points = plane.points()
    out = np.zeros((len(contracted), plane.size, plane.size), np.uint8)
    rows, columns = _heart_box(subject, points)
    inner = points[rows, columns]
    layers = scene.heart_layers(subject.heart, subject.chest, subject.pose, inner.reshape(-1, 3), contracted)
    flat = np.zeros((len(contracted), inner[..., 0].size), np.uint8)
    for layer in layers:
        if layer.label:
            flat[np.broadcast_to(layer.distance < 0.0, flat.shape)] = layer.label
    out[:, rows, columns] = flat.reshape(len(contracted), *inner.shape[:2])
    return out


def _paint(canvas: np.ndarray, layer: scene.Layer, edge: float) -> np.ndarray:
    cover = np.clip(0.5 - layer.distance / edge, 0.0, 1.0).astype(np.float32)
    return canvas + cover * (np.float32(layer.signal) - canvas)


def _chest(subject: Subject, plane: Plane, edge: float) -> np.ndarray:
    """Signal of everything that stands still, `H W`."""
    points = plane.points().reshape(-1, 3)
    still = np.zeros(len(points), np.float32)
    for layer in scene.chest_layers(subject.chest, subject.pose, points):
        still = _paint(still, layer, edge)
    return (still * _texture(points)).reshape(plane.size, plane.size)


def _signal(subject: Subject, plane: Plane, contracted: np.ndarray) -> np.ndarray:
    """Noiseless signal, `T H W`, blood 1; the heart averaged over the slice's thickness."""
    edge = 1.15 * plane.spacing
    frames = np.repeat(_chest(subject, plane, edge)[None], len(contracted), 0)
    points = plane.points()
    rows, columns = _heart_box(subject, points)
    inner = points[rows, columns].reshape(-1, 3)
    still = frames[:, rows, columns].reshape(len(contracted), -1)
    total = np.zeros_like(still)
    for part in _THROUGH_PLANE:
        beating = still
        moved = inner + part * SLICE_MM * plane.normal
        for layer in scene.heart_layers(subject.heart, subject.chest, subject.pose, moved, contracted):
            beating = _paint(beating, layer, edge)
        total += beating
    frames[:, rows, columns] = (total / len(_THROUGH_PLANE)).reshape(frames[:, rows, columns].shape)
    return frames


def _texture(points: np.ndarray) -> np.ndarray:
    """Mottling of still tissue, fixed in space, `N`."""
    waves = np.array([[0.31, 0.13, 0.08], [-0.11, 0.17, 0.26], [0.07, -0.37, 0.12]], np.float32)
    return 1.0 + 0.03 * np.sin(points.astype(np.float32) @ waves.T).sum(-1)


def picture(
    subject: Subject, plane: Plane, contracted: np.ndarray, rng: np.random.Generator, *, noise: float, gain: float
) -> np.ndarray:
    """What the scanner stores, `T H W` uint16: coil shading, Rician noise and its arbitrary gain.

    Args:
        noise: standard deviation of either receiver channel against the signal of blood.
    """
    signal = _signal(subject, plane, contracted)
    depth = plane.points()[..., 1] - (subject.chest.centre[1] - subject.chest.half_depth)
    signal *= (0.5 + 1.0 * np.exp(-np.maximum(depth, 0.0) / 75.0)).astype(np.float32)
    real = signal + noise * rng.standard_normal(signal.shape, np.float32)
    magnitude = np.hypot(real, noise * rng.standard_normal(signal.shape, np.float32))
    return np.clip(np.rint(gain * magnitude), 0, 4095).astype(np.uint16)
