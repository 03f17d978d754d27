"""The strategy "average": the mean of all sides (model soups, arXiv 2203.05482)."""

from __future__ import annotations

from functools import partial
from typing import NamedTuple

from coral_git.merge.strategies.base import Blend, Parameters, Versions
from coral_git.merge.strategies.sums import blend_mean


class Average(NamedTuple):
    """The mean of all sides; a value that all have stays as it is."""

    name: str = "average"
    needs_base: bool = False
    most_sides: int | None = None
    parameters: tuple[str, ...] = ()

    def prepare(self, versions: Versions, parameters: Parameters) -> Blend:
        """Nothing needs to be measured."""
        return partial(blend_mean, weights=[1 / versions.sides] * versions.sides)
