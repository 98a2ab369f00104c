"""Unevenness of a sketch's tissue."""

import numpy as np

_WAVES = 40


class Mottling:
    """Unevenness of tissue in a plane: a few of many waves, other ones each time."""

    def __init__(self, rng: np.random.Generator):
        ways = rng.normal(0.0, 1.0, (_WAVES, 2)) * rng.choice([0.04, 0.1, 0.25, 0.5], _WAVES)[:, None]
        self._ways = ways.astype(np.float32)
        self._phases = rng.uniform(0, 2 * np.pi, _WAVES).astype(np.float32)

    def __call__(self, rng: np.random.Generator, x: np.ndarray, y: np.ndarray) -> np.ndarray:
        """About 0, deviation about 1, at x and y (mm)."""
        out = np.zeros_like(x)
        for i in rng.integers(0, _WAVES, 14):
            wave = self._ways[i, 0] * x
            wave += self._ways[i, 1] * y
            wave += self._phases[i]
            out += np.sin(wave, out=wave)
        out *= np.float32(0.38)
        return out
