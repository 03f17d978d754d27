"""What parameters may be, and which weights they give the sides."""

from __future__ import annotations

import math
from collections.abc import Sequence

from coral_git.errors import UsageError
from coral_git.merge.strategies.base import Parameters


def check_density(parameters: Parameters) -> float:
    """The density, where it is a share above zero.

    Raises:
        UsageError: it is not.
    """
    if not 0 < parameters.density <= 1:
        raise UsageError(f"density is {parameters.density}", hint="it is above 0, and 1 at most")
    return parameters.density


def check_gamma(parameters: Parameters) -> float:
    """The share of outliers, where it is one that leaves something.

    Raises:
        UsageError: it is not.
    """
    if not 0 <= parameters.gamma < 1:
        raise UsageError(f"gamma is {parameters.gamma}", hint="it is 0 or more, and below 1")
    return parameters.gamma


def check_alpha(parameters: Parameters) -> float:
    """The share of ours.

    Raises:
        UsageError: it is not between 0 and 1.
    """
    if not 0 <= parameters.alpha <= 1:
        raise UsageError(f"alpha is {parameters.alpha}", hint="it is the share of ours, from 0 to 1")
    return parameters.alpha


def check_scale(parameters: Parameters) -> float:
    """What a sum of differences is multiplied by.

    Raises:
        UsageError: it is infinite or not a number.
    """
    if not math.isfinite(parameters.scale):
        raise UsageError(f"scale is {parameters.scale}", hint="give a finite number")
    return parameters.scale


def mean_weights(sides: int, parameters: Parameters) -> list[float]:
    """One weight per side that add up to 1: those given, those that ``alpha`` says of two, or equal ones.

    Raises:
        UsageError: the weights are not one per side, or cannot be those of a mean; or alpha is out of range.
    """
    if parameters.weights:
        _check_weights(sides, parameters.weights)
        total = sum(parameters.weights)
        if min(parameters.weights) < 0 or not 0 < total < math.inf:
            raise UsageError(
                f"weights are {_listed(parameters.weights)}", hint="none is negative, and one is above 0"
            )
        return [weight / total for weight in parameters.weights]
    if sides == 2:
        alpha = check_alpha(parameters)
        return [alpha, 1 - alpha]
    return [1 / sides] * sides


def delta_weights(sides: int, parameters: Parameters) -> list[float]:
    """One weight per side for sums of differences: those given, or 1 each.

    Raises:
        UsageError: they are not one finite number per side.
    """
    if not parameters.weights:
        return [1.0] * sides
    _check_weights(sides, parameters.weights)
    return list(parameters.weights)


def _check_weights(sides: int, weights: Sequence[float]) -> None:
    if len(weights) != sides:
        raise UsageError(
            f"weights are {_listed(weights)}, and there are {sides} sides", hint="one per side, ours first"
        )
    if not all(map(math.isfinite, weights)):
        raise UsageError(f"weights are {_listed(weights)}", hint="give finite numbers")


def _listed(weights: Sequence[float]) -> str:
    return ",".join(map(str, weights))
