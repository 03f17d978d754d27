"""What a strategy is: versions of a tensor in, values of the merged tensor out.

A strategy never sees a file, a dtype or a store. It gets the values of each version in float32 (float64 for
float64 tensors), a block at a time, and gives values of the same kind, which are rounded once to the dtype of
the tensor. It may go over all blocks first, to measure what it needs to know of the whole tensor (a norm, a
threshold); memory is bounded by blocks, never by tensors. The same versions and parameters give the same bits
on every run, whatever the blocks are.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

if TYPE_CHECKING:  # who only asks for names and parameters does not need numpy
    import numpy as np

from coral_git.merge.parameters import Parameters as Parameters
from coral_git.pipeline.float_dtypes import Values as Values


class Block(NamedTuple):
    """The same range of all versions of a tensor.

    Attributes:
        start: index of its first value in the tensor.
        base: the values of the common ancestor; None where there is none.
        sides: the values of the sides, ours first; at least two, of the same length as ``base``.
    """

    start: int
    base: Values | None
    sides: tuple[Values, ...]

    def part(self, start: int, end: int) -> Block:
        """A part of the block: views of the values from ``start`` to ``end``, which are counted within it."""
        base = None if self.base is None else self.base[start:end]
        return Block(self.start + start, base, tuple(side[start:end] for side in self.sides))


class Versions(Protocol):
    """A tensor in all its versions."""

    @property
    def name(self) -> str:
        """The name of the tensor."""

    @property
    def count(self) -> int:
        """How many values it has."""

    @property
    def sides(self) -> int:
        """How many sides there are."""

    @property
    def dtype(self) -> np.dtype[Any]:
        """What values are computed in: float32 or float64."""

    @property
    def has_base(self) -> bool:
        """Whether there is a common ancestor with this tensor."""

    def blocks(self) -> Iterator[Block]:
        """All blocks, in order; may be asked for again, and reads the versions anew."""


Blend = Callable[[Block], Values]
"""Gives the merged values of a block, of the dtype of the sides. Has no state: blocks come in any order."""


class Strategy(Protocol):
    """A way to merge a tensor that both sides changed."""

    @property
    def name(self) -> str:
        """The name in configuration, attributes and trailers: lower-case words with hyphens."""

    @property
    def needs_base(self) -> bool:
        """Whether it works with differences to the common ancestor."""

    @property
    def most_sides(self) -> int | None:
        """How many sides it can merge; None for any number."""

    @property
    def parameters(self) -> tuple[str, ...]:
        """The names of the ``Parameters`` that it takes; the others change nothing."""

    def prepare(self, versions: Versions, parameters: Parameters) -> Blend:
        """Measure what is needed of the whole tensor, and give what merges its blocks.

        Raises:
            UsageError: a parameter is out of range; its message names it.
        """
