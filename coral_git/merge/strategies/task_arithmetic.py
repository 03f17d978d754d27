"""The strategy "task-arithmetic": what the sides learned is added up (arXiv 2212.04089)."""

from __future__ import annotations

from functools import partial
from typing import NamedTuple

from coral_git.merge.strategies.base import Blend, Parameters, Versions
from coral_git.merge.strategies.sums import blend_deltas, delta_recipe


class TaskArithmetic(NamedTuple):
    """base + λ * Σ wᵢ * (sideᵢ - base); negative weights take away what a side learned."""

    name: str = "task-arithmetic"
    needs_base: bool = True
    most_sides: int | None = None
    parameters: tuple[str, ...] = ("weights", "scale", "normalize")

    def prepare(self, versions: Versions, parameters: Parameters) -> Blend:
        """Nothing needs to be measured.

        Raises:
            UsageError: ``weights`` or ``scale`` are out of range.
        """
        return partial(blend_deltas, recipe=delta_recipe(versions, parameters, normalize=False))
