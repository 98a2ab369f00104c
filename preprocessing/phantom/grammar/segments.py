"""The 17 segments of the left ventricle in words, and which of them a plane shows.

Numbers and names are those of the American Heart Association (Cerqueira et al., Circulation 2002).
"""

from collections.abc import Collection, Iterable, Sequence

# The segments that each plane cuts; a short-axis stack misses the tip.
SHOWN = {
    "sax": frozenset(range(1, 17)),
    "2ch": frozenset({1, 4, 7, 10, 13, 15, 17}),
    "3ch": frozenset({2, 5, 8, 11, 14, 16, 17}),
    "4ch": frozenset({3, 6, 9, 12, 14, 16, 17}),
}
_WALLS = ("anterior", "anteroseptal", "inferoseptal", "inferior", "inferolateral", "anterolateral")
# Two walls that are one where the same of both is meant, as at the apex, which has four segments only.
_JOINED = {"septal": ("anteroseptal", "inferoseptal"), "lateral": ("inferolateral", "anterolateral")}
_APICAL = {"anterior": 13, "septal": 14, "inferior": 15, "lateral": 16}
_LEVELS = ("basal", "mid", "apical")


def shown(acquired: Iterable[str], kind: str) -> frozenset[int]:
    """The segments that the series of `kind` ("cine", "lge") among `acquired` show."""
    planes = [name.removeprefix(f"{kind}_") for name in acquired if name.startswith(f"{kind}_")]
    return frozenset().union(*(SHOWN[plane] for plane in planes))


def describe(segments: Collection[int]) -> str:
    """Segments (1..17) in words: "mid to apical anteroseptal wall and apex". Says each of them and no other.

    Raises ValueError on an empty collection or a number outside of 1..17.
    """
    if not segments or not set(segments) <= set(range(1, 18)):
        raise ValueError(f"segments must be some of 1 to 17, not {sorted(segments)}")
    if len(set(segments)) == 17:
        return "all segments"
    ordinary = set(segments) - {17}
    parts = [*_rings(ordinary), *_groups(_by_wall(ordinary - _whole(ordinary)))]
    return _listed([*parts, *(["apex"] if 17 in segments else [])])


def _ring(level: int) -> set[int]:
    return set(range(13, 17)) if level == 2 else set(range(1 + 6 * level, 7 + 6 * level))


def _whole(segments: set[int]) -> set[int]:
    """Those that lie in a ring all of which is meant."""
    return set().union(*(_ring(level) for level in range(3) if _ring(level) <= segments))


def _rings(segments: set[int]) -> list[str]:
    levels = tuple(level for level in range(3) if _ring(level) <= segments)
    return [f"all {_listed([_LEVELS[level] for level in levels])} segments"] if levels else []


def _by_wall(segments: set[int]) -> dict[str, tuple[int, ...]]:
    """Levels (0 basal, 1 mid, 2 apical) by wall, in the order of the numbers."""
    levels = {wall: [level for level in (0, 1) if 1 + 6 * level + at in segments] for at, wall in enumerate(_WALLS)}
    for wall, number in _APICAL.items():
        if number in segments:
            neighbours = [half for half in _JOINED.get(wall, (wall,)) if 1 in levels[half]]
            for name in neighbours or [wall]:
                levels.setdefault(name, []).append(2)
    for wall, (first, second) in _JOINED.items():
        if levels[first] and levels[first] == levels[second]:
            levels[wall] = levels.pop(first) + levels.get(wall, [])
            levels.pop(second)
    return {wall: tuple(of) for wall, of in levels.items() if of}


def _groups(by_wall: dict[str, tuple[int, ...]]) -> list[str]:
    """One phrase for all the walls that are meant at the same levels."""
    out = []
    for levels in dict.fromkeys(by_wall.values()):
        walls = [wall for wall, of in by_wall.items() if of == levels]
        out.append(f"{_span(levels)} {_listed(walls)} wall{'s' if len(walls) > 1 else ''}")
    return out


def _span(levels: Sequence[int]) -> str:
    names = [_LEVELS[level] for level in levels]
    if levels in ((0, 1), (1, 2)):
        return " to ".join(names)
    return "basal to apical" if len(names) == 3 else " and ".join(names)


def _listed(parts: Sequence[str]) -> str:
    return parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} and {parts[-1]}"
