"""Which study stands where in which batch: a pure function of (seed, step), the same for any number of hosts."""

import grain
import numpy as np


class Order:
    """The global order of training: epoch after epoch, each a fresh permutation of all studies."""

    def __init__(self, num_studies: int, seed: int):
        self._order = grain.MapDataset.range(num_studies).seed(seed).shuffle().repeat()

    def batch(self, step: int, batch_size: int) -> np.ndarray:
        """The rows of the global batch of `step`: `B` int64. Batches run across the end of an epoch."""
        start = step * batch_size
        return np.array([self._order[i] for i in range(start, start + batch_size)], np.int64)


def host_rows(rows_B: np.ndarray, process_index: int, process_count: int) -> np.ndarray:
    """The contiguous part of a global batch that one process loads, so that joining the parts in process order gives
    the batch back."""
    return np.split(rows_B, process_count)[process_index]


def shuffled_partner(num_studies: int, seed: int) -> np.ndarray:
    """A fixed permutation without fixed points (one cycle through a random order): `N`, whose report each study gets in
    the shuffled-pairs control."""
    order = np.random.default_rng([seed, 1]).permutation(num_studies)
    partner = np.empty(num_studies, np.int64)
    partner[order] = np.roll(order, 1)
    return partner
