"""About the rank of the change of a matrix, from one pass over it.

The matrix Δ is multiplied by a few random vectors (the range finder of Halko, Martinsson and Tropp, 2011,
arXiv 0909.4061). If Δ has rank r, so has the product; what is left beyond its r largest singular values is
noise. How much noise is expected is known: the new weights were rounded to their dtype.
"""

from __future__ import annotations

import numpy as np

from coral_git.pipeline.float_dtypes import Values
from coral_git.types import DType

MOST_RANK = 64
"""Ranks above this are not told apart from full rank."""

_VECTORS = MOST_RANK + 8
_WIDEST = 1 << 18
_EPSILON = {"F64": 2.0**-52, "F32": 2.0**-23, "F16": 2.0**-10, "BF16": 2.0**-7}
_NEGLIGIBLE = 1e-8
_SURPLUS = 4.0


class RankFinder:
    """Takes in the rows of a change and estimates its rank.

    Args:
        shape: rows and columns of the matrix.
        dtype: what the new weights were rounded to.
    """

    def __init__(self, shape: tuple[int, int], dtype: DType) -> None:
        self._shape = shape
        self._epsilon = _EPSILON[dtype.name.removesuffix("_BE")]
        generator = np.random.Generator(np.random.PCG64(0))
        self._vectors = generator.standard_normal((shape[1], min(_VECTORS, *shape)), dtype=np.float32)
        self._gram = np.zeros((self._vectors.shape[1],) * 2)
        self._rest: Values = np.zeros(0)

    @classmethod
    def suits(cls, shape: tuple[int, ...], dtype: DType) -> bool:
        """Whether the rank of changes of such a tensor can be estimated."""
        is_matrix = len(shape) == 2 and min(shape) >= 2 and shape[1] <= _WIDEST
        return is_matrix and dtype.name.removesuffix("_BE") in _EPSILON

    def add(self, delta: Values) -> None:
        """Take in the next values of the change, row by row; they are finite."""
        values = np.concatenate([self._rest, delta]) if self._rest.size else delta
        columns = self._shape[1]
        rows = values.size // columns
        product = values[: rows * columns].astype(np.float32).reshape(rows, columns) @ self._vectors
        self._gram += product.T.astype(np.float64) @ product
        self._rest = values[rows * columns :].copy()

    def rank(self, delta_squares: float, new_squares: float) -> int | None:
        """The estimate; None where the rank is not low.

        Args:
            delta_squares: sum of the squares of the change.
            new_squares: sum of the squares of the new values.
        """
        if not np.isfinite(self._gram).all():
            return None  # squares of the largest doubles
        energies = np.linalg.eigvalsh(self._gram)[::-1] / self._gram.shape[0]
        left = np.append(np.cumsum(energies[::-1])[::-1], 0.0)  # beyond the largest 0, 1, 2, …
        noise = new_squares * self._epsilon**2 / 12
        found = int(np.argmax(left <= max(_SURPLUS * noise, _NEGLIGIBLE * delta_squares)))
        return found if 0 < found <= min(MOST_RANK, min(self._shape) // 2) else None
