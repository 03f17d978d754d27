"""The strategy "ties": small changes are trimmed, the majority decides the sign (arXiv 2306.01708)."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import NamedTuple

from coral_git.merge.strategies.base import Blend, Parameters, Values, Versions
from coral_git.merge.strategies.checks import check_density
from coral_git.merge.strategies.magnitude import Cut, find_cuts, precede
from coral_git.merge.strategies.sums import blend_elected, delta_recipe, drop


class Ties(NamedTuple):
    """TIES-Merging: trim, elect sign, and the mean of the differences that have the elected sign."""

    name: str = "ties"
    needs_base: bool = True
    most_sides: int | None = None
    parameters: tuple[str, ...] = ("density", "weights", "scale", "normalize")

    def prepare(self, versions: Versions, parameters: Parameters) -> Blend:
        """Find the magnitude down to which the changes of each side are kept.

        Raises:
            UsageError: ``density``, ``weights`` or ``scale`` are out of range.
        """
        recipe = delta_recipe(versions, parameters, normalize=True)
        if check_density(parameters) < 1:
            kept = max(1, int(parameters.density * versions.count))
            cuts = [cut for (cut,) in find_cuts(versions, [kept])]
            recipe = recipe._replace(sparsify=partial(_trim, cuts))
        return partial(blend_elected, recipe=recipe)


def _trim(cuts: Sequence[Cut], delta: Values, side: int, start: int) -> None:
    drop(delta, precede(delta, start, cuts[side]))
