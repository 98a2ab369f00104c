"""Embeddings with known structure, made without a model."""

import dataclasses

import numpy as np

from cmr_jax.evals.export import Embeddings

GROUPS = ("dilated", "hypertrophic", "infarct", "normal", "right_ventricular")


def unit(rows_NE: np.ndarray) -> np.ndarray:
    return (rows_NE / np.linalg.norm(rows_NE, axis=1, keepdims=True)).astype(np.float32)


def embeddings(n: int = 400, e: int = 16, seed: int = 0, signal: float = 0.8, noise: float = 0.5) -> Embeddings:
    """60 % train, 15 % val, 25 % test; two studies a patient; labels `group` (5 classes), `scar` (0/1, gaps)."""
    rng = np.random.default_rng(seed)
    group = rng.integers(5, size=n)
    image = rng.standard_normal((n, e)) + signal * rng.standard_normal((5, e))[group]
    text = unit(image) + noise * rng.standard_normal((n, e)) / np.sqrt(e)
    splits = np.repeat(["train", "val", "test"], [6 * n // 10, 3 * n // 20, n - 6 * n // 10 - 3 * n // 20])
    ids = {
        "row": [str(row) for row in range(n)],
        "study_id": [f"study{row}" for row in range(n)],
        "patient_id": [f"patient{row // 2}" for row in range(n)],
        "split": splits.tolist(),
        "report_hash": [f"hash{row}" for row in range(n)],
        "group": [GROUPS[each] for each in group],
        "scar": ["" if row % 10 == 0 else str(int(each == 2)) for row, each in enumerate(group)],
    }
    return Embeddings(unit(image), unit(text), ids, {"checkpoint_step": 7})


def relabel(source: Embeddings, **columns: list[str]) -> Embeddings:
    return dataclasses.replace(source, ids={**source.ids, **columns})
