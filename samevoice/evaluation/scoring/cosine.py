"""Cosines of many pairs, and the mean that is subtracted before them."""

import numpy as np
from numpy.typing import ArrayLike

BLOCK = 1 << 15  # trials at a time: 64 MB of rows at 256 dimensions


class MeanSubtraction:
    """embedding - mean of the embeddings that it was fitted on: of the cohort, in the LAP paper's code.

    Learned: `mean_` (dim,).
    """

    mean_: np.ndarray

    def fit(self, embeddings: np.ndarray) -> "MeanSubtraction":
        """embeddings: (n, dim), at any length; every recording counts the same."""
        self.mean_ = np.asarray(embeddings).mean(axis=0, dtype=np.float64).astype(np.float32)
        return self

    def transform(self, embeddings: np.ndarray) -> np.ndarray:
        """(n, dim) -> (n, dim)."""
        return np.asarray(embeddings) - self.mean_


class Cosine:
    """The cosine of each trial's embeddings. Nothing is learned."""

    def fit(self, embeddings: np.ndarray | None = None) -> "Cosine":
        return self

    def transform(self, embeddings: np.ndarray, enrol: ArrayLike, test: ArrayLike) -> np.ndarray:
        """embeddings (n, dim), rows enrol and test (trials,) -> float32 (trials,) in [-1, 1]."""
        units = unit(embeddings)
        return dots(units, units, enrol, test)


def unit(embeddings: np.ndarray) -> np.ndarray:
    """Each row (n, dim) at length 1, float32. Raises ValueError for a row of zeros or with NaN, and says which."""
    embeddings = np.asarray(embeddings, np.float32)
    lengths = np.linalg.norm(embeddings, axis=1, keepdims=True)
    wrong = np.flatnonzero(~(lengths[:, 0] > 0) | ~np.isfinite(lengths[:, 0]))
    if len(wrong):
        raise ValueError(f"embedding {wrong[0]} has length {lengths[wrong[0], 0]:g} ({len(wrong)} such): no direction")
    return embeddings / lengths


def dots(left: np.ndarray, right: np.ndarray, rows: ArrayLike, columns: ArrayLike) -> np.ndarray:
    """left[rows] . right[columns] of each pair (pairs,), a block at a time."""
    rows, columns = np.asarray(rows), np.asarray(columns)
    if rows.shape != columns.shape:
        raise ValueError(f"{len(rows)} enrolments and {len(columns)} tests are not pairs")
    found = np.empty(len(rows), np.result_type(left, right))
    for start in range(0, len(rows), BLOCK):
        part = slice(start, start + BLOCK)
        np.einsum("ij,ij->i", left[rows[part]], right[columns[part]], out=found[part])
    return found
