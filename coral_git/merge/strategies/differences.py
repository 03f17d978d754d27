"""What each side changed: its difference to the base."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from coral_git.merge.strategies.base import Block, Values


def differences(block: Block) -> Iterator[Values]:
    """The difference of each side to the base, one after the other; they belong to the caller.

    Equal values differ by zero, also where they are infinite or NaN.

    Raises:
        ValueError: there is no base.
    """
    if block.base is None:
        raise ValueError("there is no base to take differences to")
    for side in block.sides:
        yield _difference(side, block.base)


@np.errstate(all="ignore")
def _difference(side: Values, base: Values) -> Values:
    delta: Values = side - base
    if not np.isfinite(delta).all():
        delta[bits_of(side) == bits_of(base)] = 0
    return delta


def bits_of(values: Values) -> Values:
    """The bits of floats, as unsigned integers of their width: a view."""
    return values.view(f"u{values.itemsize}")
