"""The still body around the heart: chest wall, lungs and their vessels, diaphragm, upper abdomen, spine.

Every piece is a quadric (ellipsoid or elliptic cylinder) clipped by regions; `body` makes pictures of them.
"""

import dataclasses

import numpy as np

ENDLESS = 1e5  # half axis of a cylinder, mm


@dataclasses.dataclass(frozen=True)
class Chest:
    """The body around the heart; mm."""

    centre: np.ndarray  # LPS
    half_width: float
    half_depth: float
    fat: float  # thickness under the skin
    wall: float  # muscle and ribs
    epicardial_fat: float
    diaphragm: float  # S of its right dome
    breasts: float  # size, 0 none
    seed: int  # of everything else


@dataclasses.dataclass(frozen=True)
class Solid:
    """`part` of the signal of `tissue` in the quadric and, where a region is named, `inset` mm within that region."""

    tissue: str
    part: float
    centre: np.ndarray
    half: np.ndarray
    region: str = ""
    inset: float = 0.0
    turn: np.ndarray | None = None  # rows: its axes in LPS


def _axes(along: np.ndarray) -> np.ndarray:
    """Three unit rows, the first along `along`."""
    along = along / np.linalg.norm(along)
    x, y, z = along
    other = np.array([y, -x, 0.0] if abs(z) < 0.9 else [0.0, z, -y])
    u, v, w = other / np.sqrt(other @ other)
    return np.array([along, (u, v, w), (y * w - z * v, z * u - x * w, x * v - y * u)])


def _rod(part: float, start: np.ndarray, stop: np.ndarray, radius: float, region: str, inset: float) -> Solid:
    half = np.array([0.55 * np.linalg.norm(stop - start), radius, radius])
    return Solid("blood", part, 0.5 * (start + stop), half, region, inset, _axes(stop - start))


def _lungs(rng: np.random.Generator, wide: float, deep: float, heart: np.ndarray) -> list[Solid]:
    """Vessels fan out from the hila and are seen as bright dots and branches."""
    out = []
    bright = 0.75 * rng.uniform(0.5, 1.0)
    for side in (-1.0, 1.0):
        hilum = np.array([side * 32.0, 22.0, heart[2] + 42.0])
        for _ in range(20):
            reach = np.array([side * rng.uniform(0.1, 0.75) * wide, rng.uniform(-0.75, 0.75) * deep, 0.0])
            reach[2] = rng.uniform(-110.0, 60.0)
            start, stop = hilum + rng.uniform(0.0, 0.55) * reach, hilum + reach
            out.append(_rod(bright, start, stop, rng.uniform(1.2, 3.4), "cavity", 4.0))
    return out


def _abdomen(rng: np.random.Generator, wide: float, deep: float, top: float) -> list[Solid]:
    out = [Solid("fat", rng.uniform(0.5, 0.9), np.zeros(3), np.full(3, ENDLESS), "abdomen", 1.0)]

    def organ(tissue: str, centre: list[float], half: list[float], inset: float = 2.0) -> None:
        size = rng.lognormal(0.0, 0.1)
        out.append(
            Solid(
                tissue, 1.0, np.array(centre) + rng.normal(0.0, 6.0, 3), size * np.array(half), "abdomen", inset,
                _axes(np.array([1.0, 0.0, 0.0]) + rng.normal(0.0, 0.15, 3)),
            )
        )  # fmt: skip

    for _ in range(7):  # bowel: a wall and whatever it holds
        at = [rng.uniform(-0.6, 0.6) * wide, rng.uniform(-0.7, 0.2) * deep, top - rng.uniform(70.0, 150.0)]
        half = rng.uniform(12.0, 28.0, 3)
        out.append(Solid("skeletal", 1.0, np.array(at), half + 3.0, "abdomen", 2.0))
        out.append(Solid(str(rng.choice(["gas", "bowel", "fluid", "fat"])), 1.0, np.array(at), half, "abdomen", 2.0))
    for side in (-1.0, 1.0):
        at = [side * 0.36 * wide, 0.42 * deep, top - 125.0 + 10.0 * side]
        organ("kidney", at, [29.0, 29.0, 56.0])
        out.append(Solid("fluid", 0.6, out[-1].centre, 0.5 * out[-1].half, "abdomen", 2.0))
    organ("spleen", [0.66 * wide, 0.3 * deep, top - 62.0], [30.0, 48.0, 48.0])
    organ("liver", [-0.36 * wide, -5.0, top - 80.0], [0.74 * wide, 0.8 * deep, 88.0])
    organ("liver", [0.12 * wide, -0.38 * deep, top - 58.0], [rng.uniform(50.0, 95.0), 42.0, 55.0])
    for _ in range(9):
        start = np.array([-0.2 * wide, 10.0, top - 45.0]) + rng.normal(0.0, 10.0, 3)
        stop = start + np.array(
            [rng.uniform(-0.5, 0.3) * wide, rng.uniform(-0.5, 0.4) * deep, rng.uniform(-60.0, 25.0)]
        )
        out.append(_rod(0.8, start, stop, rng.uniform(1.5, 4.0), "abdomen", 5.0))
    at = np.array([0.42 * wide, rng.uniform(-30.0, 20.0), top - rng.uniform(42.0, 72.0)])
    half = rng.uniform(26.0, 52.0, 3)
    out.append(Solid("skeletal", 1.0, at, half + 4.0, "abdomen", 1.0))
    out.append(Solid(str(rng.choice(["gas", "bowel", "fluid", "fat"])), 1.0, at, half, "abdomen", 4.0))
    air = at + np.array([0.0, -0.4 * half[1], 5.0])
    out.append(Solid("gas", 1.0, air, half * rng.uniform(0.2, 0.7), "abdomen", 4.0))
    return out


def solids(chest: Chest, heart: np.ndarray, axis: np.ndarray) -> list[Solid]:
    """Everything that stands still, relative to `chest.centre`, in the order of painting.

    Args:
        heart: middle of the heart, LPS relative to `chest.centre`.
        axis: the left ventricle's long axis, pointing to the apex.
    """
    rng = np.random.default_rng(chest.seed)
    wide, deep = chest.half_width, chest.half_depth
    top = chest.diaphragm - chest.centre[2]
    everywhere, endless = np.zeros(3), np.full(3, ENDLESS)
    out = []
    if chest.breasts:
        for side in (-1.0, 1.0):
            half = chest.breasts * np.array([66.0, 27.0, 70.0])
            out.append(Solid("fat", 1.0, np.array([side * 0.48 * wide, -0.88 * deep, heart[2] - 10.0]), half))
    out.append(Solid("fat", 1.0, everywhere, endless, "skin"))
    out.append(Solid("skeletal", 1.0, everywhere, endless, "skin", chest.fat))
    out.append(Solid("fat", 0.6, everywhere, endless, "wall", 0.75 * chest.wall))
    for number in range(7):  # ribs, obliquely around, cut by an oblique plane as spots and bars
        height = heart[2] - 95.0 + 30.0 * number + rng.normal(0.0, 3.0)
        slope = _axes(np.array([0.0, -0.45, -1.0]))[::-1]
        half = np.array([ENDLESS, ENDLESS, rng.uniform(4.0, 6.5)])
        out.append(Solid("marrow", rng.uniform(0.4, 1.0), np.array([0.0, 0.0, height]), half, "wall", 3.0, slope))
    out.append(Solid("lung", 1.0, everywhere, endless, "cavity"))
    out += _lungs(rng, wide, deep, heart)
    plume = np.array([rng.uniform(14.0, 30.0), rng.uniform(40.0, 70.0), 95.0])
    out.append(Solid("fat", rng.uniform(0.5, 1.0), np.array([-6.0, 4.0, heart[2] + 55.0]), plume, "cavity"))
    out.append(Solid("blood", 0.9, np.array([-4.0, -2.0, heart[2] + 72.0]), np.array([15.0, 14.0, 55.0]), "cavity"))
    out.append(Solid("blood", 0.95, np.array([14.0, 12.0, heart[2] + 60.0]), np.array([34.0, 12.0, 12.0]), "cavity"))
    pad = np.array([42.0, 26.0, 42.0]) * (0.6 + 0.1 * chest.epicardial_fat)
    out.append(Solid("fat", 0.9, heart + np.array([-22.0, -30.0, -14.0]), pad, "cavity", 0.0))
    for _ in range(rng.integers(1, 4)):  # fat pads around the heart
        way = np.array([rng.uniform(-1.0, 0.3), rng.uniform(-1.0, 0.2), rng.uniform(-0.8, 0.1)])
        at = heart + 48.0 * way / np.linalg.norm(way) + rng.uniform(-15.0, 45.0) * axis
        half = chest.epicardial_fat / 4.0 * rng.uniform(10.0, 30.0, 3)
        out.append(Solid("fat", rng.uniform(0.7, 1.0), at, half, "cavity", 0.0))
    out += _abdomen(rng, wide, deep, top)
    spine = np.array([0.0, 0.62 * deep, 0.0])
    back = np.array([46.0, 24.0, ENDLESS])
    out.append(Solid("skeletal", 1.0, spine + np.array([0.0, 22.0, 0.0]), back))
    out.append(Solid("marrow", 1.0, spine, np.array([19.0, 16.0, ENDLESS])))
    for number in range(9):
        out.append(
            Solid(
                "disc", 1.0, spine + np.array([0.0, 0.0, heart[2] - 140.0 + 31.0 * number]), np.array([18.0, 15.0, 3.5])
            )
        )
    out.append(Solid("fluid", 1.0, spine + np.array([0.0, 24.0, 0.0]), np.array([7.0, 6.0, ENDLESS])))
    radius = rng.uniform(9.5, 14.0)
    out.append(Solid("blood", 1.0, spine + np.array([24.0, -16.0, 0.0]), np.array([radius, radius, ENDLESS])))
    caval = heart + np.array([-38.0, 12.0, 0.0])
    out.append(Solid("blood", 0.85, np.array([caval[0], caval[1], 0.0]), np.array([11.0, 9.0, ENDLESS])))
    return out
