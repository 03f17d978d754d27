"""The strategy "weighted": a mean in which some sides count more (arXiv 2111.09832 with given weights)."""

from __future__ import annotations

from functools import partial
from typing import NamedTuple

from coral_git.merge.strategies.base import Blend, Parameters, Versions
from coral_git.merge.strategies.checks import mean_weights
from coral_git.merge.strategies.sums import blend_mean


class Weighted(NamedTuple):
    """alpha * ours + (1 - alpha) * theirs, or a mean with one weight per side; one of 0 does not count."""

    name: str = "weighted"
    needs_base: bool = False
    most_sides: int | None = None
    parameters: tuple[str, ...] = ("alpha", "weights")

    def prepare(self, versions: Versions, parameters: Parameters) -> Blend:
        """Nothing needs to be measured.

        Raises:
            UsageError: ``alpha`` or ``weights`` are out of range.
        """
        return partial(blend_mean, weights=mean_weights(versions.sides, parameters))
