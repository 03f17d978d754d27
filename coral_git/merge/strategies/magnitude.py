"""Ranks by magnitude, exact and in bounded memory: which values of a difference are the largest.

The magnitude of a float is the integer of its bits without the sign: integers have the same order, and NaN is
above infinity. The one with a given rank is found by counting digits of 16 bits, from the highest one down;
each digit is a pass over all blocks (radix selection: D. Knuth, "The Art of Computer Programming", vol. 3,
5.2.5 and 5.3.3). Of equal magnitudes the first in the tensor ranks first.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from coral_git.merge.strategies.base import Values, Versions
from coral_git.merge.strategies.differences import bits_of, differences

_DIGIT = 16
_DIGITS = 1 << _DIGIT


class Cut(NamedTuple):
    """Where a rank is in the order of falling magnitudes.

    Attributes:
        bits: the magnitude that has the rank.
        place: its index in the tensor. Equal magnitudes at lower indexes precede it.
    """

    bits: int
    place: int


def find_cuts(versions: Versions, ranks: Sequence[int]) -> list[list[Cut]]:
    """For each side, where the given ranks are among the magnitudes of its difference to the base.

    Takes two passes over float32, four over float64, and another part of one where magnitudes are equal.

    Args:
        versions: the tensor.
        ranks: 0 is the largest magnitude; what is not below ``versions.count`` comes after everything.
    """
    width = versions.dtype.itemsize * 8
    sides = [[_Search(rank, width) for rank in ranks] for _ in range(versions.sides)]
    wanted = [[one for one in side if 0 < one.rank < versions.count] for side in sides]
    if any(wanted):
        for _ in range(0, width, _DIGIT):
            _count_digits(versions, wanted)
        _find_indexes(versions, wanted)
    return [[_cut(one, versions) for one in side] for side in sides]


def precede(delta: Values, start: int, cut: Cut) -> Values:
    """Which values come before a cut, bool of the same shape.

    Args:
        delta: a block of the difference that the cut is of.
        start: where the block starts in the tensor.
        cut: the cut.
    """
    bits = _magnitudes(delta)
    split = min(max(cut.place - start, 0), len(bits))
    before = np.empty(len(bits), np.bool_)
    np.greater_equal(bits[:split], cut.bits, out=before[:split])
    np.greater(bits[split:], cut.bits, out=before[split:])
    return before


@dataclass
class _Search:
    """A rank that is looked for.

    Attributes:
        rank: the rank among those magnitudes that begin with ``prefix``.
        shift: how many bits of the magnitude are not known yet.
        prefix: those that are.
        index: where in the tensor it is, once that is known.
    """

    rank: int
    shift: int
    prefix: int = 0
    index: int = 0


def _cut(found: _Search, versions: Versions) -> Cut:
    if found.shift:  # it was not looked for: nothing precedes it, or everything
        return Cut(0, versions.count) if found.rank else Cut((1 << found.shift) - 1, 0)
    return Cut(found.prefix, found.index)


def _magnitudes(delta: Values) -> Values:
    width = delta.itemsize
    bits: Values = bits_of(delta) & ((1 << (width * 8 - 1)) - 1)
    return bits


def _count_digits(versions: Versions, sides: Sequence[Sequence[_Search]]) -> None:
    """Find the next digit of everything that is looked for, in one pass."""
    counts = [{one.prefix: np.zeros(_DIGITS, np.int64) for one in side} for side in sides]
    shift = next(one.shift for side in sides for one in side) - _DIGIT
    for block in versions.blocks():
        for prefixes, delta in zip(counts, differences(block), strict=True):
            bits = _magnitudes(delta)
            for prefix, count in prefixes.items():
                count += _histogram(bits, prefix, shift)
    for side, prefixes in zip(sides, counts, strict=True):
        for one in side:
            falling = np.cumsum(prefixes[one.prefix][::-1])
            place = int(np.searchsorted(falling, one.rank, side="right"))
            one.rank -= int(falling[place - 1]) if place else 0
            one.prefix = one.prefix << _DIGIT | (_DIGITS - 1 - place)
            one.shift = shift


def _histogram(bits: Values, prefix: int, shift: int) -> Values:
    """How often each digit follows a prefix, int64, shape (65536,)."""
    if shift + _DIGIT < bits.itemsize * 8:
        bits = bits[bits >> (shift + _DIGIT) == prefix]
    digits = (bits >> shift).astype(np.intp) & (_DIGITS - 1)
    return np.bincount(digits, minlength=_DIGITS)


def _find_indexes(versions: Versions, sides: Sequence[Sequence[_Search]]) -> None:
    """Find which of equal magnitudes have the wanted ranks, in a pass that ends with the last of them."""
    waiting = [[one for one in side if one.rank] for side in sides]
    if not any(waiting):
        return
    for block in versions.blocks():
        for side, delta in enumerate(differences(block)):
            if waiting[side]:
                waiting[side] = _still_waiting(waiting[side], _magnitudes(delta), block.start)
        if not any(waiting):
            return


def _still_waiting(searches: Sequence[_Search], bits: Values, start: int) -> list[_Search]:
    waiting = []
    for one in searches:
        equal = bits == one.prefix
        count = int(np.count_nonzero(equal))
        if one.rank < count:
            one.index = start + int(np.flatnonzero(equal)[one.rank])
        else:
            one.rank -= count
            waiting.append(one)
    return waiting
