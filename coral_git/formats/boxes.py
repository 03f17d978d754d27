"""Ranges of an array as boxes: what is one behind the other in the order of C, axis by axis."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise
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


Block = tuple[tuple[int, ...], tuple[int, ...]]
"""Offsets and sizes of a part of an array along each axis."""

_MOST_CUTS = 64


def is_tiling(shape: tuple[int, ...], blocks: Sequence[Block]) -> bool:
    """Whether blocks fill an array, each element once.

    Only what can be cut apart along axes, again and again, is looked at; whatever shards tensors is.

    Args:
        shape: of the array.
        blocks: none of them is empty.
    """
    if not prod(shape):
        return not blocks
    whole: Block = ((0,) * len(shape), shape)
    todo = [(whole, list(blocks), 0)]
    while todo:
        region, inside, cuts = todo.pop()
        if len(inside) == 1 and inside[0] == region:
            continue
        parts = _cut(region, inside) if len(inside) > 1 and cuts < _MOST_CUTS else None
        if parts is None:
            return False
        todo += [(part, found, cuts + 1) for part, found in parts]
    return True


def _cut(region: Block, blocks: list[Block]) -> list[tuple[Block, list[Block]]] | None:
    """Regions side by side along an axis, with their blocks; None where there is no cut, or a gap."""
    for axis, (start, size) in enumerate(zip(*region, strict=True)):
        groups: list[list[Block]] = []
        ends = [start]
        for block in sorted(blocks, key=lambda block: block[0][axis]):
            first, last = block[0][axis], block[0][axis] + block[1][axis]
            if first >= ends[-1]:
                if first > ends[-1]:
                    return None
                groups.append([])
                ends.append(last)
            groups[-1].append(block)
            ends[-1] = max(ends[-1], last)
        if ends[-1] != start + size:
            return None
        if len(groups) > 1:
            return [
                (_narrowed(region, axis, first, last - first), found)
                for (first, last), found in zip(pairwise(ends), groups, strict=True)
            ]
    return None


def _narrowed(region: Block, axis: int, start: int, size: int) -> Block:
    """A region with another extent along an axis."""
    offsets, sizes = region
    return (
        (*offsets[:axis], start, *offsets[axis + 1 :]),
        (*sizes[:axis], size, *sizes[axis + 1 :]),
    )
