"""The strategy "breadcrumbs": the largest and the smallest changes are dropped (arXiv 2312.06795)."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import NamedTuple

from coral_git.merge.strategies.base import Blend, Parameters, Values, Versions
from coral_git.merge.strategies.checks import check_density, check_gamma
from coral_git.merge.strategies.magnitude import Cut, find_cuts, precede
from coral_git.merge.strategies.sums import blend_deltas, delta_recipe, drop


class Breadcrumbs(NamedTuple):
    """Model Breadcrumbs: task arithmetic without outliers and without noise."""

    name: str = "breadcrumbs"
    needs_base: bool = True
    most_sides: int | None = None
    parameters: tuple[str, ...] = ("density", "gamma", "weights", "scale", "normalize")

    def prepare(self, versions: Versions, parameters: Parameters) -> Blend:
        """Find the magnitudes between which the changes of each side are kept.

        Raises:
            UsageError: ``density``, ``gamma``, ``weights`` or ``scale`` are out of range.
        """
        recipe = delta_recipe(versions, parameters, normalize=False)
        density, gamma = check_density(parameters), check_gamma(parameters)
        if density < 1:
            kept = int(density * versions.count)
            outliers = min(int(gamma * versions.count), versions.count - kept)
            cuts = find_cuts(versions, [outliers, outliers + kept])
            recipe = recipe._replace(sparsify=partial(_mask, cuts))
        return partial(blend_deltas, recipe=recipe)


def _mask(cuts: Sequence[Sequence[Cut]], delta: Values, side: int, start: int) -> None:
    outliers, kept = (precede(delta, start, cut) for cut in cuts[side])
    kept ^= outliers
    drop(delta, kept)
