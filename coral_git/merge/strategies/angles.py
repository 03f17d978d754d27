"""Inner products of whole tensors, in float64, from which lengths and angles follow.

Sums of floats depend on their order. So that they do not depend on the blocks, they are taken over runs that
begin at fixed places of the tensor, and then over the runs in order.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from itertools import combinations_with_replacement

import numpy as np

from coral_git.merge.strategies.base import Block, Values, Versions

_RUN = 1 << 12
_MOST = 8 * _RUN  # values that stay in the cache of a core while they are worked on

Vectors = Callable[[Block], Iterable[Values]]
"""Picks the vectors out of a block of all versions."""


@np.errstate(all="ignore")
def inner_products(versions: Versions, vectors: Vectors) -> list[list[float]]:
    """The inner products of all pairs of vectors, also of each with itself; NaN and infinity do not count.

    Args:
        versions: the tensor.
        vectors: gives a block of each vector; there is one per side.
    """
    sides = range(versions.sides)
    totals = [[0.0 for _ in sides] for _ in sides]
    for block in _whole_runs(versions.blocks()):
        wide = [vector.astype(np.float64) for vector in vectors(block)]
        for row, column in combinations_with_replacement(sides, 2):
            total = _add_runs(totals[row][column], wide[row] * wide[column])
            totals[row][column] = totals[column][row] = total
    return totals


def cosine(products: list[list[float]], first: int, second: int, least: float = 0.0) -> float:
    """The cosine of the angle between two vectors, -1 to 1; 0 where that cannot be told.

    Args:
        products: the inner products of the vectors.
        first: the number of one vector.
        second: that of the other one.
        least: a vector of this length or less has no direction.
    """
    lengths = [math.sqrt(products[one][one]) for one in (first, second)]
    if min(lengths) <= least:
        return 0.0
    value = products[first][second] / lengths[0] / lengths[1]
    return min(max(value, -1.0), 1.0) if math.isfinite(value) else 0.0


def _add_runs(total: float, terms: Values) -> float:
    """A sum, and that of each run of terms after the other."""
    sums = _sum_runs(terms)
    if not all(map(math.isfinite, sums)):
        terms[~np.isfinite(terms)] = 0
        sums = _sum_runs(terms)
    for one in sums:
        total += one
    return total


def _sum_runs(terms: Values) -> list[float]:
    whole = len(terms) - len(terms) % _RUN
    sums: list[float] = terms[:whole].reshape(-1, _RUN).sum(axis=1).tolist()
    if whole < len(terms):
        sums.append(float(terms[whole:].sum()))
    return sums


def _whole_runs(blocks: Iterable[Block]) -> Iterator[Block]:
    """The same versions in small blocks that hold whole runs; only the last one may end within a run."""
    rest: Block | None = None
    for block in blocks:
        joined = block if rest is None else _join(rest, block)
        length = len(joined.sides[0])
        whole = length - length % _RUN
        for start in range(0, whole, _MOST):
            yield joined.part(start, min(start + _MOST, whole))
        rest = joined.part(whole, length) if whole < length else None
    if rest is not None:
        yield rest


def _join(first: Block, second: Block) -> Block:
    base = None
    if first.base is not None and second.base is not None:
        base = np.concatenate((first.base, second.base))
    sides = tuple(np.concatenate(pair) for pair in zip(first.sides, second.sides, strict=True))
    return Block(first.start, base, sides)
