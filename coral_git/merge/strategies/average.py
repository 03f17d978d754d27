"""The mean of all sides."""

from __future__ import annotations

from coral_git.merge.strategies.base import Blend, Block, Parameters, Values, Versions


class Average:
    """The mean."""

    name = "average"
    needs_base = False
    most_sides = None
    parameters: tuple[str, ...] = ()

    def prepare(self, versions: Versions, parameters: Parameters) -> Blend:
        """Mean."""
        return _mean


def _mean(block: Block) -> Values:
    total = block.sides[0] + block.sides[1]
    for side in block.sides[2:]:
        total += side
    total /= len(block.sides)
    return total
