"""Ranges of an array as boxes: what is one behind the other in the order of C, axis by axis."""

from __future__ import annotations

from collections.abc import Iterator
from math import prod
from typing import NamedTuple


class Box(NamedTuple):
    """A part of an array: some rows along one axis, at one place of the axes before it, whole in those after.

    Attributes:
        place: the index along the first axes.
        first: the first row along the axis after them.
        last: the row behind the last one.
    """

    place: tuple[int, ...]
    first: int
    last: int


class Cover(NamedTuple):
    """Boxes that cover a range of elements.

    Attributes:
        start: the element with which the first box begins.
        boxes: one behind the other.
    """

    start: int
    boxes: list[Box]


def cover(shape: tuple[int, ...], start: int, stop: int, most: int) -> Cover:
    """The boxes that cover the elements from ``start`` to before ``stop``, in the order of C.

    A row is what may have ``most`` elements, or one element; the cover may begin and end in the middle of
    the range's neighbours, by less than a row each.

    Args:
        shape: of the array, with at least one dimension.
        start: the first element.
        stop: the element behind the last one, at most the size of the array.
        most: elements of a row, at most.
    """
    axis = next(axis for axis in range(len(shape)) if prod(shape[axis + 1 :]) <= max(most, 1))
    row = max(prod(shape[axis + 1 :]), 1)
    rows = range(start // row, -(-stop // row))
    return Cover(rows.start * row, list(_boxes(shape[: axis + 1], rows)))


def _boxes(shape: tuple[int, ...], rows: range) -> Iterator[Box]:
    """Boxes of rows that are numbered through."""
    *leading, size = shape
    row = rows.start
    while row < rows.stop:
        number, first = divmod(row, size)
        last = min(size, first + rows.stop - row)
        yield Box(_unravel(number, leading), first, last)
        row += last - first


def _unravel(number: int, shape: list[int]) -> tuple[int, ...]:
    """The index of an element of which the number is known."""
    index = []
    for size in reversed(shape):
        number, place = divmod(number, size)
        index.append(place)
    return tuple(reversed(index))
