"""The strategy "slerp": along the arc between the sides (K. Shoemake, SIGGRAPH 1985)."""

from __future__ import annotations

import math
from functools import partial
from typing import NamedTuple

from coral_git.merge.strategies.angles import cosine, inner_products
from coral_git.merge.strategies.base import Blend, Parameters, Versions
from coral_git.merge.strategies.checks import check_alpha
from coral_git.merge.strategies.sums import blend_mean, blend_sum

_COLLINEAR = 0.9995
_NO_LENGTH = 1e-8  # both as in mergekit


class Slerp(NamedTuple):
    """Spherical linear interpolation of the flattened tensors; ``alpha`` is the share of ours.

    With θ the angle between them: (sin(alpha * θ) * ours + sin((1 - alpha) * θ) * theirs) / sin(θ). Where
    they are nearly collinear, the mean with the same shares. A tensor of zeros counts as orthogonal to all
    others.
    """

    name: str = "slerp"
    needs_base: bool = False
    most_sides: int | None = 2
    parameters: tuple[str, ...] = ("alpha",)

    def prepare(self, versions: Versions, parameters: Parameters) -> Blend:
        """Measure the angle between both sides.

        Raises:
            UsageError: ``alpha`` is out of range.
        """
        alpha = check_alpha(parameters)
        shares = [alpha, 1 - alpha]
        along = cosine(inner_products(versions, lambda block: block.sides), 0, 1, _NO_LENGTH)
        if abs(along) > _COLLINEAR:
            return partial(blend_mean, weights=shares)
        angle = math.acos(along)
        return partial(blend_sum, weights=[math.sin(share * angle) / math.sin(angle) for share in shares])
