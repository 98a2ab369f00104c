"""Planes through the scene, as a scanner would lay them, and the pictures it would make of them.

Letters: T phases, H W pixels.
"""

import dataclasses

import numpy as np

from preprocessing.phantom import anatomy, scanner, scene, tissue
from preprocessing.phantom.chest import Body, Chest
from preprocessing.phantom.scanner import Scanner

SLICE_MM = 8.0
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
    thickness: float = SLICE_MM
    shift: np.ndarray = dataclasses.field(default_factory=lambda: np.zeros(3))  # of the organs in this breath-hold, LPS

    @property
    def normal(self) -> np.ndarray:
        return np.cross(self.row, self.column)

    def points(self) -> np.ndarray:
        """LPS of the pixel centres, `H W 3`."""
        step = np.arange(self.size) * self.spacing
        return self.origin + step[:, None, None] * self.column + step[None, :, None] * self.row


def oriented(
    name: str, centre: np.ndarray, normal: np.ndarray, spacing: float, size: int, *, turn: float = 0.0,
    thickness: float = SLICE_MM,
) -> Plane:  # fmt: skip
    """The plane through `centre`, turned in itself as scanners do: a transverse one with left to the right, any other
    with the feet down; then by `turn` radians as its operator likes."""
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
    row, column = np.cos(turn) * row + np.sin(turn) * column, np.cos(turn) * column - np.sin(turn) * row
    half = (size - 1) / 2 * spacing
    return Plane(name, centre - half * (row + column), row, column, spacing, size, thickness)


def _within(direction: np.ndarray, normal: np.ndarray) -> np.ndarray:
    flat = direction - (direction @ normal) * normal
    return flat / np.linalg.norm(flat)


@dataclasses.dataclass(frozen=True)
class Subject:
    """One heart in one body, on one day."""

    heart: anatomy.Heart
    chest: Chest
    pose: scene.Pose


@dataclasses.dataclass(frozen=True)
class Protocol:
    """How an operator lays the planes; mm, radians. Made by `protocol`, or by hand for ideal ones."""

    thickness: float = SLICE_MM
    off_centre: float = 3.0  # standard deviation of the heart's place in the picture
    turn: float = 0.0  # of the pictures in themselves
    tilt: float = 0.03  # standard deviation of the stack's slant against the axis
    misplaced: float = 0.0  # standard deviation of the heart's place between breath-holds


def protocol(rng: np.random.Generator, scan: Scanner) -> Protocol:
    """An operator's habit: hearts not quite in the middle, pictures turned at will."""
    turn = rng.normal(0.0, 0.22) if rng.random() < 0.9 else rng.uniform(-np.pi, np.pi)
    return Protocol(
        thickness=scan.thickness,
        off_centre=float(rng.choice([4.0, 10.0, 18.0])),
        turn=float(turn),
        tilt=float(rng.uniform(0.02, 0.1)),
        misplaced=scan.misplaced,
    )


def _breath(rng: np.random.Generator, laid: Protocol) -> np.ndarray:
    """Where the organs lie in this breath-hold against the planning, LPS."""
    return laid.misplaced * rng.normal(0.0, 1.0, 3) * np.array([0.3, 0.5, 1.0])


def plan(
    subject: Subject, rng: np.random.Generator, *, slices: int, size: int, field_mm: float,
    laid: Protocol = Protocol(),
) -> tuple[list[Plane], dict[str, Plane]]:  # fmt: skip
    """The short-axis stack, base to apex, and the three long-axis planes, with an operator's small errors."""
    heart, pose = subject.heart, subject.pose
    spacing = round(field_mm / size, 4)
    across, down, along = pose.axes
    aim = pose.to_patient(np.array([-12.0, 0.0, 0.0])) + rng.normal(0.0, laid.off_centre, 3)
    tilted = along + laid.tilt * (rng.normal() * across + rng.normal() * down)
    tilted /= np.linalg.norm(tilted)
    # The stack reaches from the base to the apex; with many slices it starts above the valve and ends below the apex.
    gap = max(laid.thickness, np.round(2.0 * heart.length / (slices - 0.2)) / 2.0)
    first = 0.5 * (heart.length - (slices - 1) * gap) + rng.uniform(-0.25, 0.25) * gap
    middle = pose.to_heart(aim)[2]
    sax = [
        oriented("sax", aim + (first - middle + i * gap) * tilted, -tilted, spacing, size, turn=laid.turn,
                 thickness=laid.thickness)
        for i in range(slices)
    ]  # fmt: skip
    sax = [dataclasses.replace(plane, shift=_breath(rng, laid)) for plane in sax]
    lax = {}
    for name, theta in LONG_AXIS.items():
        angle = theta + rng.normal(0.0, 0.05)
        direction = np.cos(angle) * across + np.sin(angle) * down
        normal = np.cross(along, direction)
        centre = pose.to_patient(np.array([-8.0, 0.0, 0.3 * heart.length])) + rng.normal(0.0, laid.off_centre, 3)
        # The plane itself holds the axis, but for a millimetre or two.
        off = (centre - pose.origin) @ normal
        centre = centre + (rng.normal(0.0, 1.0) - off) * normal
        plane = oriented(name, centre, normal, spacing, size, turn=0.3 * laid.turn, thickness=laid.thickness)
        lax[name] = dataclasses.replace(plane, shift=_breath(rng, laid))
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


def _cut(subject: Subject, plane: Plane, inner_n3: np.ndarray, thickness: float) -> scene.Cut:
    across = scene.Slice(subject.pose.axes @ plane.normal, 1.1 * plane.spacing, thickness)
    return scene.Cut(subject.heart, across, subject.pose.to_heart(inner_n3))


def label_map(subject: Subject, plane: Plane, contracted: np.ndarray) -> np.ndarray:
    """The labels of `scene` at the pixel centres of an infinitely thin slice, `T H W` uint8.

    Args:
        contracted: `T` or `T 2`, from `anatomy.contraction` or `anatomy.beat`.
    """
    points = plane.points() - plane.shift
    out = np.zeros((len(contracted), plane.size, plane.size), np.uint8)
    rows, columns = _heart_box(subject, points)
    inner = points[rows, columns]
    if not inner.size:
        return out
    cut = _cut(subject, plane, inner.reshape(-1, 3), 0.0)
    flat = np.zeros((len(contracted), len(cut.x)), np.uint8)
    for layer in scene.heart_layers(cut, _PLAIN, subject.pose, contracted, epicardial_fat=0.0):
        if layer.label:
            flat[np.broadcast_to(layer.distance < 0.0, flat.shape)] = layer.label
    out[:, rows, columns] = flat.reshape(len(contracted), *inner.shape[:2])
    return out


def paint(canvas: np.ndarray, layer: scene.Layer) -> None:
    """Lays `layer` over `canvas` (`T N`, changed in place), blending over the layer's edge."""
    cover = np.float32(0.5) - layer.distance
    np.clip(cover, 0.0, 1.0, out=cover)
    np.add(canvas, cover * (np.float32(layer.signal) - canvas), out=canvas)


class Camera:
    """One subject before one scanner; makes the pictures of a study.

    Args:
        rng: of the noise.
        count: of pixels of the largest series of frames of a plane.
    """

    def __init__(self, subject: Subject, scan: Scanner, rng: np.random.Generator, count: int):
        self.subject, self.scan, self._rng = subject, scan, rng
        self._heart = subject.pose.to_patient(np.array([0.0, 0.0, 30.0]))
        chest = subject.chest
        self._body = Body(chest, scan.palette, self._heart - chest.centre, subject.pose.axes[2])
        self._noise = scanner.Noise(rng, count)

    def signal(self, plane: Plane, contracted: np.ndarray) -> np.ndarray:
        """Noiseless signal before the coils, `T H W`, blood 1, fat negative where it is in opposed phase."""
        scan, subject = self.scan, self.subject
        still = self._body.slice(plane.origin - plane.shift, plane.row, plane.column, plane.spacing, plane.size)
        frames = np.repeat(still[None], len(contracted), 0)
        points = plane.points() - plane.shift
        rows, columns = _heart_box(subject, points)
        inner = points[rows, columns]
        if not inner.size:
            return frames
        beating = frames[:, rows, columns].reshape(len(contracted), -1)
        cut = _cut(subject, plane, inner.reshape(-1, 3), plane.thickness)
        for layer in scene.heart_layers(
            cut, scan.palette, subject.pose, contracted, epicardial_fat=subject.chest.epicardial_fat, swirl=scan.swirl
        ):
            paint(beating, layer)
        frames[:, rows, columns] = beating.reshape(len(contracted), *inner.shape[:2])
        return frames

    def picture(self, plane: Plane, contracted: np.ndarray) -> np.ndarray:
        """What the scanner stores, `T H W` uint16: coil shading, artefacts, Rician noise and its arbitrary gain."""
        scan = self.scan
        frames = scanner.blurred(scan, self.signal(plane, contracted))
        points = plane.points()
        shade = scanner.sensitivity(scan, points, self._heart) * scanner.bands(scan, points, self._heart)
        if scan.ghost:
            beating = frames - frames.mean(0)
            frames += np.float32(scan.ghost) * np.roll(beating, plane.size // 3, axis=1 + int(plane.spacing * 1e4) % 2)
        frames *= shade
        return scanner.stored(scan, self._noise, self._rng, frames)


_PLAIN = tissue.Palette(
    muscle=0.3, skeletal=0.3, fat=1.0, liver=0.4, spleen=0.5, kidney=0.6, marrow=0.5, fluid=1.5, disc=0.3, lung=0.05,
    valve=0.5,
)  # fmt: skip
