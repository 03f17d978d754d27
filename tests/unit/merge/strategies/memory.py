"""Tensors in memory, in blocks of any size, and what the papers say of them, computed in float64 at once."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from coral_git.merge.strategies.base import Block, Parameters
from coral_git.merge.strategies.registry import strategy_by_name

WEIGHTS = (0.5, 1.25, 0.75, 2.0, 0.25)
"""Sums of them, and of what ``draw`` draws times them, are exact in float32."""


@dataclass(frozen=True)
class InMemory:
    base: np.ndarray | None
    values: tuple[np.ndarray, ...]
    block: int = 1 << 18
    name: str = "layer.weight"

    @property
    def count(self) -> int:
        return len(self.values[0])

    @property
    def sides(self) -> int:
        return len(self.values)

    @property
    def dtype(self) -> np.dtype[Any]:
        return self.values[0].dtype

    @property
    def has_base(self) -> bool:
        return self.base is not None

    def blocks(self) -> Iterator[Block]:
        for start in range(0, self.count, self.block):
            yield Block(0, self.base, self.values).part(start, start + self.block)

    def deltas(self) -> list[np.ndarray]:
        return [(side - self.base).astype(np.float64) for side in self.values]


def in_memory(base: Sequence[float] | np.ndarray | None, *sides: Sequence[float] | np.ndarray) -> InMemory:
    """Versions of a float32 tensor; nobody may write to them."""
    arrays = [None if values is None else np.array(values, np.float32) for values in (base, *sides)]
    for array in arrays:
        if array is not None:
            array.flags.writeable = False
    return InMemory(arrays[0], tuple(array for array in arrays[1:] if array is not None))


def draw(seed: int, count: int, sides: int = 2, dtype: str = "f4", block: int = 1 << 18) -> InMemory:
    """Numbers of few bits, so that many magnitudes are equal and sums are exact."""
    rng = np.random.default_rng(seed)
    base = (rng.integers(-500, 500, count) / 64).astype(dtype)
    others = tuple((base + rng.integers(-60, 60, count) / 64).astype(dtype) for _ in range(sides))
    for array in (base, *others):
        array.flags.writeable = False
    return InMemory(base, others, block)


DEFAULTS = Parameters()


def merge(name: str, versions: InMemory, parameters: Parameters = DEFAULTS) -> np.ndarray:
    blend = strategy_by_name(name).prepare(versions, parameters)
    merged = [blend(block) for block in versions.blocks()]
    return np.concatenate([*merged, np.empty(0, versions.dtype)])


def with_block(versions: InMemory, block: int) -> InMemory:
    return replace(versions, block=block)


def is_near(merged: np.ndarray, expected: np.ndarray, versions: InMemory) -> bool:
    """Whether values differ by a few units in the last place of what was added up."""
    size = sum(np.abs(side.astype(np.float64)) for side in versions.values)
    return bool((np.abs(merged - expected) <= 8 * np.finfo(versions.dtype).eps * (size + 1)).all())


def ranked(delta: np.ndarray) -> np.ndarray:
    """The indexes of a difference by falling magnitude; of equal ones, the first comes first."""
    return np.argsort(-np.abs(delta), kind="stable")


def only(delta: np.ndarray, indexes: np.ndarray) -> np.ndarray:
    kept = np.zeros_like(delta)
    kept[indexes] = delta[indexes]
    return kept


def elected(deltas: Sequence[np.ndarray], weights: Sequence[float], normalize: bool) -> np.ndarray:
    """The sum or mean of those differences that have the sign of the weighted sum."""
    stacked = np.stack([weight * delta for weight, delta in zip(weights, deltas, strict=True)])
    sign = np.where(stacked.sum(axis=0) >= 0, 1, -1)
    agree = np.sign(stacked) == sign
    total = np.where(agree, stacked, 0).sum(axis=0)
    divisor = np.where(agree, np.array(weights)[:, None], 0).sum(axis=0)
    return total / np.where(divisor == 0, 1, divisor) if normalize else total


def summed(deltas: Sequence[np.ndarray], weights: Sequence[float], normalize: bool) -> np.ndarray:
    total = sum(weight * delta for weight, delta in zip(weights, deltas, strict=True))
    return np.asarray(total / sum(weights) if normalize else total)
