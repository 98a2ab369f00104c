"""The non-compacted layer that lines the left cavity: a sponge of muscle and blood within the endocardial contour.

At end-diastole it is deep and partly filled with blood, so that pictures show it grey with a few coarser ridges; as
the cavity empties, blood is pressed out of it until it is muscle throughout and looks like wall. Its muscle keeps its
volume.
Readers draw the contour around it (Chuang et al., JACC Cardiovasc Imaging 2012;5:1115: papillary muscles and trabeculae
are 23 +- 3 % of the end-diastolic volume in 1,494 people, and as wall they add 7.5 points to the ejection fraction).

Letters: T phases, Z levels, A angles (see `heart`).
"""

import dataclasses

import numpy as np

from preprocessing.phantom.clinical import heart as hearts
from preprocessing.phantom.clinical.heart import Beat, Heart

PACKED = 0.65  # part of the relaxed layer that is muscle
_DEEPEST = 0.62  # of the cavity's radius: the layer leaves at least a core of blood
_CLOSING = 0.75  # part of the clefts between its ridges that closes when it is muscle throughout
_CORE = 0.15  # of the squared radius that stays blood at every moment


@dataclasses.dataclass(frozen=True)
class Layer:
    """The layer over a beat."""

    inner2: np.ndarray  # squared radius of its inner surface, `T Z A` float32, mm²; its outer one is the endocardium
    packed: np.ndarray  # part of it that is muscle, `T`


def layer(beat: Beat) -> Layer:
    """Where the layer lies at each phase of `beat`."""
    heart = beat.heart
    packed = _packed(heart, beat.contracted)
    relaxed = muscle2(heart)
    ridged, even = hearts.carried(beat, [relaxed, _even(relaxed)])
    closed = (_CLOSING * (packed - PACKED) / (1.0 - PACKED)).astype(np.float32)[:, None, None]
    muscle = ridged + closed * (even - ridged)
    longer = 1.0 / (1.0 - heart.shortening * beat.contracted)  # it thickens as the ventricle shortens
    return Layer(beat.endo2 - muscle * (longer / packed).astype(np.float32)[:, None, None], packed)


def muscle2(heart: Heart) -> np.ndarray:
    """The layer's muscle as a squared radius at end-diastole, `Z A`, mm²: `trabeculae_ml` of it, or what there is room
    for, and what non-compaction adds."""
    cavity = np.maximum(hearts.wall(heart).cavity, 0.0)
    room, shape = _room(heart), _shape(heart)
    extra = _of_depth(cavity, heart.trabeculae_apical * _apical() * _ridges(heart))

    def within(depth: float) -> np.ndarray:
        return np.minimum(_of_depth(cavity, depth * shape) + extra, room)

    without = hearts.volume_ml(extra, heart.length)
    low, high = 0.0, 12.0
    for _ in range(24):
        middle = 0.5 * (low + high)
        enough = hearts.volume_ml(within(middle), heart.length) - without >= heart.trabeculae_ml
        low, high = (low, middle) if enough else (middle, high)
    return within(high)


def _of_depth(cavity: np.ndarray, depth: np.ndarray) -> np.ndarray:
    """Muscle (squared radius) of a relaxed layer that reaches `depth` mm into a cavity of this squared radius."""
    radius = np.sqrt(cavity)
    return PACKED * (cavity - (radius - np.minimum(depth, _DEEPEST * radius)) ** 2)


def _apical() -> np.ndarray:
    """1 in the apical part and the middle, next to nothing at the base, `Z 1`."""
    return (1.0 / (1.0 + np.exp((0.4 - hearts.ZETA) * 12.0)))[:, None]


def _shape(heart: Heart) -> np.ndarray:
    """Depth of a healthy layer against its mean, `Z A`: little at the base, little on the septum, which is smooth."""
    smooth = 1.0 - 0.7 * hearts.bump(hearts.THETA, hearts.SEPTUM, 1.5)
    return (0.25 + 0.75 * _apical()) * smooth * _ridges(heart)


def _ridges(heart: Heart) -> np.ndarray:
    """Trabeculae run along the wall, slightly askew: coarse ridges with clefts between them, `Z A`, about 1."""
    count, along = heart.trabeculae_count, 9.0 * hearts.ZETA[:, None]
    slow = np.sin(2.0 * hearts.THETA + 0.4 * along + count)
    waves = (0.75 + 0.4 * slow) * np.sin(count * hearts.THETA + along + 1.2 * slow)
    waves = waves + 0.5 * np.sin((count + 5) * hearts.THETA - 1.7 * along + 2.0)
    waves = waves + 0.3 * np.sin((2 * count + 1) * hearts.THETA + 2.3 * along)
    return np.clip(1.0 + 0.75 * waves, 0.15, 2.2)


def _even(muscle: np.ndarray) -> np.ndarray:
    """`muscle` (`Z A`) with the clefts between its ridges closed: as much of it at each level, wider than a ridge."""
    waves = np.fft.rfft(muscle, axis=1)
    waves *= np.exp(-((np.arange(waves.shape[1]) / 3.5) ** 2))
    return np.maximum(np.fft.irfft(waves, muscle.shape[1], axis=1), 0.0)


def _packed(heart: Heart, contracted: np.ndarray) -> np.ndarray:
    """Part of the layer that is muscle at contractions `T`: it is emptied in proportion with the cavity."""
    both = hearts.volumes(hearts.beat(heart, np.concatenate([[0.0], contracted]))).lv
    return np.minimum(PACKED * both[0] / both[1:], 1.0)


def _room(heart: Heart) -> np.ndarray:
    """The most muscle (squared radius at end-diastole, `Z A`) that leaves a core of blood throughout the beat."""
    now = np.linspace(0.0, 1.0, 6)
    piece = hearts.wall(heart)
    endo2 = hearts.emptied(heart, piece.cavity, piece.motion, now)
    loose = _packed(heart, now) * (1.0 - heart.shortening * now)
    return (np.maximum(endo2, 0.0) * (1.0 - _CORE) * loose[:, None, None]).min(0)
