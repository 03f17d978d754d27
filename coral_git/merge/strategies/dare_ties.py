"""The strategy "dare-ties": changes dropped at random, the others scaled up; the majority decides the sign.

arXiv 2311.03099 with the election of arXiv 2306.01708.
"""

from __future__ import annotations

from functools import partial
from typing import NamedTuple

from coral_git.merge.strategies.base import Blend, Parameters, Versions
from coral_git.merge.strategies.masks import dare_recipe
from coral_git.merge.strategies.sums import blend_elected


class DareTies(NamedTuple):
    """DARE with TIES-Merging: the sum of the kept differences that have the elected sign, over density."""

    name: str = "dare-ties"
    needs_base: bool = True
    most_sides: int | None = None
    parameters: tuple[str, ...] = ("density", "seed", "weights", "scale", "normalize")

    def prepare(self, versions: Versions, parameters: Parameters) -> Blend:
        """Nothing needs to be measured.

        Raises:
            UsageError: ``density``, ``weights`` or ``scale`` are out of range.
        """
        return partial(blend_elected, recipe=dare_recipe(versions, parameters))
