"""The strategy "model-stock": the less the sides agree, the nearer to the base (arXiv 2403.19522)."""

from __future__ import annotations

from functools import partial
from itertools import combinations
from typing import NamedTuple

from coral_git.merge.strategies.angles import cosine, inner_products
from coral_git.merge.strategies.base import Blend, Parameters, Versions
from coral_git.merge.strategies.differences import differences
from coral_git.merge.strategies.sums import Recipe, blend_deltas

_SINGULAR = 1e-6  # as in mergekit


class ModelStock(NamedTuple):
    """t * mean of the sides + (1 - t) * base, with t from the mean cosine between their differences."""

    name: str = "model-stock"
    needs_base: bool = True
    most_sides: int | None = None
    parameters: tuple[str, ...] = ()

    def prepare(self, versions: Versions, parameters: Parameters) -> Blend:
        """Measure the angles between the differences."""
        products = inner_products(versions, differences)
        cosines = [cosine(products, *pair) for pair in combinations(range(versions.sides), 2)]
        share = interpolation_ratio(versions.sides, sum(cosines) / len(cosines))
        return partial(blend_deltas, recipe=Recipe([1.0] * versions.sides, share, normalize=True))


def interpolation_ratio(sides: int, mean_cosine: float) -> float:
    """N cos θ / (1 + (N - 1) cos θ), the share of the mean of N sides (Model Stock).

    Args:
        sides: how many sides there are.
        mean_cosine: the mean of the cosines between the differences of all pairs.

    Returns:
        The share; 0 where the sides contradict each other so much that there is none.
    """
    divisor = 1 + (sides - 1) * mean_cosine
    return 0.0 if abs(divisor) < _SINGULAR else sides * mean_cosine / divisor
