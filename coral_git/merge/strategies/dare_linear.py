"""The strategy "dare-linear": changes dropped at random, the others scaled and added (arXiv 2311.03099)."""

from __future__ import annotations

from functools import partial
from typing import NamedTuple

from coral_git.merge.strategies.base import Blend, Parameters, Versions
from coral_git.merge.strategies.masks import dare_recipe
from coral_git.merge.strategies.sums import blend_deltas


class DareLinear(NamedTuple):
    """DARE with task arithmetic: base + λ * Σ wᵢ * mᵢ * (sideᵢ - base) / density."""

    name: str = "dare-linear"
    needs_base: bool = True
    most_sides: int | None = None
    parameters: tuple[str, ...] = ("density", "seed", "weights", "scale", "normalize")

    def prepare(self, versions: Versions, parameters: Parameters) -> Blend:
        """Nothing needs to be measured.

        Raises:
            UsageError: ``density``, ``weights`` or ``scale`` are out of range.
        """
        return partial(blend_deltas, recipe=dare_recipe(versions, parameters))
