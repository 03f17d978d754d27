"""How a file is cut into parts, the units that are named and stored.

Tensors are cut after ``limits.part_elements`` elements, or fewer where that would exceed
``limits.part_bytes``, always on whole bytes; so parts of an fp32 and a bf16 version of a tensor face each
other. The bytes between the tensors, the rest, are concatenated and cut every ``limits.part_elements`` bytes.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from math import gcd
from typing import NamedTuple, Protocol

from coral_git.limits import Limits
from coral_git.types import DType, Element


class TensorLike(Protocol):
    """A tensor as far as cutting is concerned: an entry of a manifest, or a segment of a layout."""

    @property
    def name(self) -> str:
        """Its name."""

    @property
    def dtype(self) -> DType:
        """Its data type."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Its dimensions."""


class SegmentLike(TensorLike, Protocol):
    """A tensor with its place in a file."""

    @property
    def offset(self) -> int:
        """The byte it starts at."""

    @property
    def length(self) -> int:
        """Its bytes."""


class LayoutLike(Protocol):
    """A file that falls into tensors, in file order and without overlap."""

    @property
    def format(self) -> str:
        """Name and version of the reader that says so."""

    @property
    def tensors(self) -> Sequence[SegmentLike]:
        """The tensors."""


class Part(NamedTuple):
    """A part of a file: the bytes of one object, before it has an id.

    Attributes:
        tensor: the name of the tensor it belongs to; None for a part of the rest and for a chunk.
        number: which part of the tensor, of the rest, or which chunk of the file.
        element: how codecs see the bytes.
        length: its bytes.
        ranges: (file offset, length) of its pieces, in order.
    """

    tensor: str | None
    number: int
    element: Element
    length: int
    ranges: tuple[tuple[int, int], ...]


def part_size(dtype: DType, limits: Limits) -> int:
    """Bytes of every part of a tensor but the last: a whole number of blocks of the dtype and of bytes."""
    unit = 8 // gcd(dtype.bits, 8)
    blocks = min(limits.part_elements // dtype.values, limits.part_bytes * 8 // dtype.bits)
    return max(blocks // unit, 1) * unit * dtype.bits // 8


def part_lengths(dtype: DType, nbytes: int, limits: Limits) -> tuple[int, ...]:
    """Bytes of each part of a tensor of ``nbytes`` bytes; ``()`` for none."""
    step = part_size(dtype, limits)
    if nbytes <= step:
        return (nbytes,) if nbytes else ()
    whole, tail = divmod(nbytes, step)
    return (step,) * whole + ((tail,) if tail else ())


def part_count(dtype: DType, nbytes: int, limits: Limits) -> int:
    """Number of parts of a tensor of ``nbytes`` bytes."""
    return -(-nbytes // part_size(dtype, limits))


def rest_part_count(rest_length: int, limits: Limits) -> int:
    """Number of parts of the bytes that belong to no tensor."""
    return -(-rest_length // limits.part_elements)


def gaps_of(layout: LayoutLike, size: int) -> tuple[int, ...]:
    """Bytes before the first tensor, between the tensors, and after the last; ``()`` when there are none.

    Raises:
        ValueError: the tensors are out of order, overlap, or exceed the file.
    """
    gaps = []
    end = 0
    for tensor in layout.tensors:
        gaps.append(tensor.offset - end)
        end = tensor.offset + tensor.length
    gaps.append(size - end)
    if min(gaps) < 0:
        raise ValueError("the tensors do not lie one after the other in the file")
    return tuple(gaps) if any(gaps) else ()


def parts(layout: LayoutLike, size: int, limits: Limits) -> list[Part]:
    """The parts of a file of ``size`` bytes: first those of the rest, then the tensors' in file order.

    Raises:
        ValueError: the tensors are out of order, overlap, or exceed the file.
    """
    return list(cut(gaps_of(layout, size), layout.tensors, limits))


def chunk_parts(chunks: Iterable[tuple[int, int]]) -> Iterator[Part]:
    """The parts of a file that is cut into chunks, given as (file offset, length)."""
    for index, (offset, length) in enumerate(chunks):
        yield Part(None, index, Element.BYTES, length, ((offset, length),))


def cut(gaps: Sequence[int], tensors: Sequence[TensorLike], limits: Limits) -> Iterator[Part]:
    """The parts of a file from the lengths of its gaps (``()``: all zero) and its tensors."""
    gaps = gaps or (0,) * (len(tensors) + 1)
    lengths = [part_lengths(tensor.dtype, _nbytes(tensor), limits) for tensor in tensors]
    offsets = []
    rest: list[tuple[int, int]] = []
    end = 0
    for gap, tensor_parts in zip(gaps, [*lengths, ()], strict=True):
        _append_range(rest, end, gap)
        offsets.append(end + gap)
        end += gap + sum(tensor_parts)
    for index, ranges in enumerate(_group(rest, limits.part_elements)):
        yield Part(None, index, Element.BYTES, sum(length for _, length in ranges), ranges)
    for tensor, offset, tensor_parts in zip(tensors, offsets, lengths, strict=False):
        for index, length in enumerate(tensor_parts):
            yield Part(tensor.name, index, tensor.dtype.element, length, ((offset, length),))
            offset += length


def _nbytes(tensor: TensorLike) -> int:
    values = 1
    for dimension in tensor.shape:
        values *= dimension
    return values // tensor.dtype.values * tensor.dtype.bits // 8


def _append_range(ranges: list[tuple[int, int]], offset: int, length: int) -> None:
    """Add a range; it joins the last one where nothing lies between."""
    if not length:
        return
    if ranges and sum(ranges[-1]) == offset:
        ranges[-1] = (ranges[-1][0], ranges[-1][1] + length)
    else:
        ranges.append((offset, length))


def _group(ranges: Iterable[tuple[int, int]], step: int) -> Iterator[tuple[tuple[int, int], ...]]:
    """Cut the concatenation of ranges into groups of ``step`` bytes; the last may be shorter."""
    group: list[tuple[int, int]] = []
    room = step
    for offset, length in ranges:
        while length:
            take = min(length, room)
            group.append((offset, take))
            offset, length, room = offset + take, length - take, room - take
            if not room:
                yield tuple(group)
                group, room = [], step
    if group:
        yield tuple(group)
