"""Measuring the change of a tensor, block by block; memory is a few blocks."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np

from coral_git.diff.model import Figures, Histogram
from coral_git.diff.numbers import count_unlike, has_numbers, numbers, width_of
from coral_git.diff.rank import RankFinder
from coral_git.diff.version import Read
from coral_git.manifest.entries import TensorEntry
from coral_git.pipeline.float_dtypes import BLOCK_VALUES, Values
from coral_git.types import Buffer

_BINS = 32
_DEVIATIONS = 6.0
_PIECE = 1 << 20


@np.errstate(all="ignore")
def measure(old: TensorEntry, old_read: Read, new: TensorEntry, new_read: Read, bins: bool) -> Figures | None:
    """The figures of a tensor that is there in both versions.

    A tensor that grew or shrank in its first dimension is compared as far as both go.

    Args:
        old: as it was.
        old_read: reads its bytes.
        new: as it is.
        new_read: reads its bytes.
        bins: whether to make a histogram, which reads both once more.

    Returns:
        None where values do not face each other.

    Raises:
        IntegrityError: an object is damaged.
        ObjectMissingError: an object is not there.
    """
    if not (has_numbers(old.dtype) and has_numbers(new.dtype)):
        return _count_units(old, old_read, new, new_read) if old[1:3] == new[1:3] else None
    counts = [entry.nbytes // width_of(entry.dtype) for entry in (old, new)]
    if counts[0] != counts[1] and old.shape[1:] != new.shape[1:]:
        return None
    sums = _Sums(old, new, min(counts))
    for pair in _blocks(old, old_read, new, new_read, min(counts)):
        sums.add(*pair)
    histogram = None
    if bins and sums.delta_squares:
        edges = _edges(sums)
        total = np.zeros(len(edges) - 1, np.int64)
        for before, after in _blocks(old, old_read, new, new_read, min(counts)):
            delta = _finite(numbers(after, new.dtype) - numbers(before, old.dtype))
            total += np.histogram(delta, edges)[0]
        histogram = Histogram(tuple(map(float, edges)), tuple(map(int, total)))
    return sums.figures(histogram)


class _Sums:
    """What is summed up over the blocks of a pair."""

    def __init__(self, old: TensorEntry, new: TensorEntry, count: int) -> None:
        self._old, self._new, self._count = old, new, count
        self._changed = self._zeros = self._old_zeros = self._nans = self._infinities = 0
        self._old_squares = self._new_squares = self._product = self._most = 0.0
        self.delta_squares = 0.0
        is_whole = old.shape == new.shape and RankFinder.suits(new.shape, new.dtype)
        self._rank = RankFinder((new.shape[0], new.shape[1]), new.dtype) if is_whole else None

    def add(self, before: Buffer, after: Buffer) -> None:
        """Take in a block of both versions."""
        is_alike = self._old.dtype == self._new.dtype
        start = numbers(before, self._old.dtype)
        if is_alike and before == after:
            self._add_equal(start)
            return
        end = numbers(after, self._new.dtype)
        self._changed += self._unlike(before, after, start, end)
        self._count_odd(end)
        self._old_zeros += int(start.size - np.count_nonzero(start))
        delta = _finite(end - start)
        start, end = _finite(start), _finite(end)
        self._old_squares += float(start @ start)
        self._new_squares += float(end @ end)
        self._product += float(start @ end)
        self.delta_squares += float(delta @ delta)
        self._most = max(self._most, float(delta.max()), -float(delta.min()))
        if self._rank is not None:
            self._rank.add(delta)

    def figures(self, histogram: Histogram | None) -> Figures:
        """The result."""
        norm, new_norm = math.sqrt(self._old_squares), math.sqrt(self._new_squares)
        rank = None
        if self._rank is not None and self.delta_squares:
            rank = self._rank.rank(self.delta_squares, self._new_squares)
        return Figures(
            values=self._count,
            changed=self._changed,
            norm=norm,
            new_norm=new_norm,
            delta_norm=math.sqrt(self.delta_squares),
            max_delta=self._most,
            cosine=self._product / (norm * new_norm) if norm and new_norm else None,
            zeros=self._zeros,
            old_zeros=self._old_zeros,
            nans=self._nans,
            infinities=self._infinities,
            rank=rank,
            histogram=histogram,
        )

    @property
    def spread(self) -> tuple[float, float]:
        """The standard deviation of the change around zero, and its largest value."""
        return math.sqrt(self.delta_squares / max(self._count, 1)), self._most

    def _add_equal(self, values: Values) -> None:
        """A block that is the same in both."""
        self._count_odd(values)
        self._old_zeros += int(values.size - np.count_nonzero(values))
        values = _finite(values)
        square = float(values @ values)
        self._old_squares += square
        self._new_squares += square
        self._product += square
        if self._rank is not None:
            self._rank.add(np.zeros_like(values))

    def _count_odd(self, values: Values) -> None:
        self._zeros += int(values.size - np.count_nonzero(values))
        if not math.isfinite(float(values.sum())):
            self._nans += int(np.isnan(values).sum())
            self._infinities += int(np.isinf(values).sum())

    def _unlike(self, before: Buffer, after: Buffer, start: Values, end: Values) -> int:
        if self._old.dtype == self._new.dtype:
            return count_unlike(before, after, width_of(self._new.dtype))
        return int(np.count_nonzero((start != end) & ~(np.isnan(start) & np.isnan(end))))


def _blocks(
    old: TensorEntry, old_read: Read, new: TensorEntry, new_read: Read, count: int
) -> Iterator[tuple[Buffer, Buffer]]:
    """The same values of both versions, block by block; the old one is read first."""
    widths = width_of(old.dtype), width_of(new.dtype)
    for first in range(0, count, BLOCK_VALUES):
        length = min(BLOCK_VALUES, count - first)
        before = old_read(first * widths[0], length * widths[0])
        yield before, new_read(first * widths[1], length * widths[1])


def _count_units(old: TensorEntry, old_read: Read, new: TensorEntry, new_read: Read) -> Figures:
    """Of units that are no numbers, only how many are not the same."""
    unit = max(new.dtype.bits // 8, 1)
    step = max(_PIECE // unit, 1) * unit
    changed = 0
    for start in range(0, new.nbytes, step):
        changed += count_unlike(old_read(start, step), new_read(start, step), unit)
    return Figures(values=new.nbytes // unit, changed=changed)


def _edges(sums: _Sums) -> Values:
    """Bounds of bins around zero; what lies far out falls into the first and the last one."""
    deviation, most = sums.spread
    reach = min(_DEVIATIONS * deviation, most)
    edges = reach * np.linspace(-1, 1, _BINS + 1)
    edges[0], edges[-1] = -most, most
    return edges


def _finite(values: Values) -> Values:
    """The values with zero for what is not finite."""
    if math.isfinite(float(values.sum())):
        return values
    return np.where(np.isfinite(values), values, 0.0)
