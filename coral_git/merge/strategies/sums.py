"""Weighted sums: of the sides themselves, and of their differences to the base."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import NamedTuple

import numpy as np

from coral_git.merge.strategies.base import Blend, Block, Parameters, Values, Versions
from coral_git.merge.strategies.checks import check_scale, delta_weights
from coral_git.merge.strategies.differences import bits_of, differences

Sparsify = Callable[[Values, int, int], None]
"""Sets values of a difference to zero, in place; gets it, the number of its side, and the block's start."""

_PIECE_VALUES = 1 << 15
_NO_DIVISOR = 1e-8  # weights that cancel each other do not divide anything; as in mergekit


class Recipe(NamedTuple):
    """How differences are put together.

    Attributes:
        weights: one per side.
        scale: what the sum is multiplied by.
        normalize: whether the sum is divided by the weights of what was added.
        sparsify: drops values of each difference before; None where all are kept.
    """

    weights: Sequence[float]
    scale: float
    normalize: bool
    sparsify: Sparsify | None = None


def delta_recipe(versions: Versions, parameters: Parameters, *, normalize: bool) -> Recipe:
    """The recipe that parameters ask for; all differences are kept.

    Args:
        versions: the tensor.
        parameters: what the user set.
        normalize: what the strategy does unless the user says otherwise.

    Raises:
        UsageError: weights or scale are out of range.
    """
    wanted = normalize if parameters.normalize is None else parameters.normalize
    return Recipe(delta_weights(versions.sides, parameters), check_scale(parameters), wanted)


def drop(delta: Values, kept: Values) -> None:
    """Set to zero what is not kept, in place; NaN and infinite values that are dropped become NaN.

    Args:
        delta: the values.
        kept: which of them stay, bool of the same shape.
    """
    np.multiply(delta, kept, out=delta)


def blend_sum(block: Block, weights: Sequence[float]) -> Values:
    """The weighted sum of the sides; a side with the weight 0 does not count, whatever it has."""
    return _piecewise(block, lambda piece: _sum(piece, weights))


def blend_mean(block: Block, weights: Sequence[float]) -> Values:
    """The weighted mean of the sides. A value that they all agree about stays as it is, bit for bit.

    Args:
        block: the sides.
        weights: one per side; they add up to 1.
    """
    return _piecewise(block, lambda piece: _mean(piece, weights))


def blend_deltas(block: Block, recipe: Recipe) -> Values:
    """The base and the sum of the differences."""
    return _piecewise(block, lambda piece: _add_deltas(piece, recipe))


def blend_elected(block: Block, recipe: Recipe) -> Values:
    """The base and the sum of those differences that have the elected sign; normalized, it is their mean.

    Per value the sign of the sum of all differences is elected, plus where that is zero (TIES-Merging, arXiv
    2306.01708).
    """
    return _piecewise(block, lambda piece: _add_elected(piece, recipe))


def _piecewise(block: Block, blend: Blend) -> Values:
    """Blend pieces that stay in the cache of a core while they are worked on."""
    merged = np.empty_like(block.sides[0])
    with np.errstate(all="ignore"):
        for start in range(0, len(merged), _PIECE_VALUES):
            merged[start : start + _PIECE_VALUES] = blend(block.part(start, start + _PIECE_VALUES))
    return merged


def _sum(block: Block, weights: Sequence[float]) -> Values:
    total: Values | None = None
    for side, weight in zip(block.sides, weights, strict=True):
        if weight:
            term = side.copy() if weight == 1 else side * weight
            total = term if total is None else np.add(total, term, out=total)
    return np.zeros_like(block.sides[0]) if total is None else total


def _mean(block: Block, weights: Sequence[float]) -> Values:
    merged = _sum(block, weights)
    first, *others = (bits_of(side) for side, weight in zip(block.sides, weights, strict=True) if weight)
    agreed = np.ones(len(first), np.bool_)
    for other in others:
        agreed &= other == first
    if agreed.any():
        bits = bits_of(merged)
        # Whole words, as numpy is slow where it must choose value by value.
        bits ^= (bits ^ first) & np.negative(agreed.astype(bits.dtype))
    return merged


def _add_deltas(block: Block, recipe: Recipe) -> Values:
    total = _total(_weighted(block, recipe))
    divisor = sum(recipe.weights)
    if recipe.normalize and abs(divisor) >= _NO_DIVISOR:
        total /= divisor
    return _move(block, total, recipe.scale)


def _add_elected(block: Block, recipe: Recipe) -> Values:
    deltas = list(_weighted(block, recipe))
    number = deltas[0].dtype.type
    sign = (_total(deltas) >= 0) * number(2) - number(1)
    total, divisor = np.zeros_like(sign), np.zeros_like(sign)
    for delta, weight in zip(deltas, recipe.weights, strict=True):
        agrees = delta * sign > 0
        drop(delta, agrees)
        total += delta
        if recipe.normalize:
            divisor += agrees * number(weight)
    if recipe.normalize:
        divisor += divisor == 0
        total /= divisor
    return _move(block, total, recipe.scale)


def _weighted(block: Block, recipe: Recipe) -> Iterator[Values]:
    """The difference of each side, without what is dropped, times its weight."""
    for side, (weight, delta) in enumerate(zip(recipe.weights, differences(block), strict=True)):
        if recipe.sparsify is not None:
            recipe.sparsify(delta, side, block.start)
        if weight != 1:
            delta *= weight
        yield delta


def _total(deltas: Iterable[Values]) -> Values:
    first, *others = deltas
    total = first.copy()
    for other in others:
        total += other
    return total


def _move(block: Block, delta: Values, scale: float) -> Values:
    """The base and a scaled difference, which is overwritten."""
    assert block.base is not None
    # Subtracting 0.0 leaves any base as it is; adding it would make 0.0 of -0.0.
    delta *= -scale
    delta += 0.0
    return np.subtract(block.base, delta, out=delta)
