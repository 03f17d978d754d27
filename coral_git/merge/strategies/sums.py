"""Weighted sums: of the sides themselves, and of their differences to the base."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import numpy as np

from coral_git.merge.strategies.base import Block, Parameters, Values, Versions
from coral_git.merge.strategies.checks import check_scale, delta_weights

Sparsify = Callable[[Values, int, int], None]
"""Sets values of a difference to zero, in place; gets it, the number of its side, and the block's start."""

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


@np.errstate(all="ignore")
def blend_sum(block: Block, weights: Sequence[float]) -> Values:
    """The weighted sum of the sides; a side with the weight 0 does not count, whatever it has."""
    total: Values | None = None
    for side, weight in zip(block.sides, weights, strict=True):
        if weight == 0:
            continue
        term = side.copy() if weight == 1 else side * weight
        total = term if total is None else np.add(total, term, out=total)
    return np.zeros_like(block.sides[0]) if total is None else total


def blend_mean(block: Block, weights: Sequence[float]) -> Values:
    """The weighted mean of the sides. A value that they all agree about stays as it is, bit for bit.

    Args:
        block: the sides.
        weights: one per side; they add up to 1.
    """
    merged = blend_sum(block, weights)
    counted = [_bits(side) for side, weight in zip(block.sides, weights, strict=True) if weight]
    agreed = counted[0] == counted[-1]
    for bits in counted[1:-1]:
        agreed &= bits == counted[0]
    np.copyto(_bits(merged), counted[0], where=agreed)
    return merged


@np.errstate(all="ignore")
def blend_deltas(block: Block, recipe: Recipe) -> Values:
    """The base and the sum of the differences."""
    total: Values | None = None
    for _, delta in _weighted(block, recipe):
        total = delta if total is None else np.add(total, delta, out=total)
    assert total is not None
    divisor = sum(recipe.weights)
    if recipe.normalize and abs(divisor) >= _NO_DIVISOR:
        total /= divisor
    return _move(block, total, recipe.scale)


@np.errstate(all="ignore")
def blend_elected(block: Block, recipe: Recipe) -> Values:
    """The base and the sum of those differences that have the elected sign; normalized, it is their mean.

    Per value the sign of the sum of all differences is elected, plus where that is zero (TIES-Merging, arXiv
    2306.01708). As a sum has the sign of the larger of its positive and its negative part, both are added up.
    """
    like = block.sides[0]
    ups, downs = np.zeros_like(like), np.zeros_like(like)
    ups_weight, downs_weight = np.zeros_like(like), np.zeros_like(like)
    for weight, delta in _weighted(block, recipe):
        if recipe.normalize:
            ups_weight += (delta > 0) * like.dtype.type(weight)
            downs_weight += (delta < 0) * like.dtype.type(weight)
        ups += np.maximum(delta, 0)
        downs += np.minimum(delta, 0, out=delta)
    elected = ups >= -downs
    np.copyto(downs, ups, where=elected)
    if recipe.normalize:
        np.copyto(downs_weight, ups_weight, where=elected)
        np.copyto(downs_weight, 1, where=downs_weight == 0)
        downs /= downs_weight
    return _move(block, downs, recipe.scale)


def _weighted(block: Block, recipe: Recipe) -> Iterator[tuple[float, Values]]:
    """The weight and the weighted difference of each side."""
    for side, (weight, delta) in enumerate(zip(recipe.weights, block.deltas(), strict=True)):
        if recipe.sparsify is not None:
            recipe.sparsify(delta, side, block.start)
        if weight != 1:
            delta *= weight
        yield weight, delta


def _move(block: Block, delta: Values, scale: float) -> Values:
    """The base and a scaled difference; where there is none, the base keeps its bits, also of -0.0."""
    assert block.base is not None
    if scale != 1:
        delta *= scale
    still = delta == 0
    np.add(block.base, delta, out=delta)
    np.copyto(delta, block.base, where=still)
    return delta


def _bits(values: Values) -> Values:
    return values.view(f"u{values.itemsize}")
