"""Which bytes of a file are tensors, from the storages in it and the tensors that view them.

Where the tensors of a storage are contiguous and do not overlap, each is a segment of its own, and one that
has several names has the first. Otherwise the storage is one segment without a shape, named by the first of
them: a tensor that is transposed, expanded or tied to a part of another loses nothing but its shape.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from coral_git.formats.base import MAX_TENSORS, NotThisFormat, TensorSegment
from coral_git.formats.segments import Names
from coral_git.formats.torch_dtypes import TorchDType, in_byte_order
from coral_git.formats.torch_objects import UNTYPED, View, name_of
from coral_git.limits import Limits


class Extent(NamedTuple):
    """Where a storage is.

    Attributes:
        name: what it is called where no tensor has a name for it.
        dtype: what it holds, as far as known.
        offset: the byte of the file it starts at.
        length: its bytes.
    """

    name: str
    dtype: TorchDType
    offset: int
    length: int


class _Piece(NamedTuple):
    """A part of a storage: a segment without a name."""

    view: View | None
    dtype: TorchDType
    shape: tuple[int, ...]
    offset: int
    length: int


def segments(
    storages: Mapping[str, Extent], views: Iterable[View], big_endian: bool, limits: Limits
) -> tuple[TensorSegment, ...]:
    """The tensors of a file, in the order of their bytes.

    Args:
        storages: key → where it is; they do not overlap.
        views: the tensors; those of storages that are not there are left out.
        big_endian: whether values lie in that order.
        limits: the caps; the names together are no longer than a header may be.

    Raises:
        NotThisFormat: there are too many tensors, or their names are too long.
    """
    by_storage: dict[str, list[View]] = {key: [] for key in storages}
    for view in views:
        if view.key in by_storage:
            by_storage[view.key].append(view)
    pieces: list[tuple[Extent, _Piece]] = []
    for key, extent in storages.items():
        pieces.extend((extent, piece) for piece in _pieces(extent, by_storage[key]))
    if len(pieces) > MAX_TENSORS:
        raise NotThisFormat("too many tensors")
    pieces.sort(key=lambda pair: (pair[1].offset, pair[1].length))
    names = Names(limits)
    return tuple(
        TensorSegment(
            names.take((piece.view and name_of(piece.view.way, names.longest)) or extent.name),
            in_byte_order(piece.dtype.dtype, big_endian),
            piece.shape,
            piece.offset,
            piece.length,
        )
        for extent, piece in pieces
    )


def _pieces(extent: Extent, views: Sequence[View]) -> list[_Piece]:
    """The segments of a storage; none for one without bytes that no tensor views."""
    pieces: dict[tuple[int, int], _Piece] = {}
    empty: list[_Piece] = []
    for view in views:
        length = _length(view)
        start = view.offset * view.dtype.width
        if not length:
            empty.append(_Piece(view, view.dtype, count_values(view.dtype, view.shape), extent.offset, 0))
        elif start + length > extent.length or not is_contiguous(view):
            return [*empty, *_whole(extent, views)]
        elif (start, length) not in pieces:
            pieces[start, length] = _Piece(
                view, view.dtype, count_values(view.dtype, view.shape), extent.offset + start, length
            )
    end = 0
    for start, length in sorted(pieces):
        if start < end:
            return [*empty, *_whole(extent, views)]
        end = start + length
    return [*empty, *(pieces.values() or _whole(extent, ()))]


def _whole(extent: Extent, views: Sequence[View]) -> list[_Piece]:
    """A storage as one segment, named by the first tensor that has bytes."""
    if not extent.length:
        return []
    view = next(filter(_length, views), None)
    dtype = view.dtype if view else extent.dtype
    if extent.length % dtype.width:
        dtype = UNTYPED
    values = extent.length // dtype.width * dtype.values
    return [_Piece(view, dtype, (values,), extent.offset, extent.length)]


def _length(view: View) -> int:
    """The bytes of a tensor."""
    length = view.dtype.width
    for dimension in view.shape:
        length *= dimension
    return length


def count_values(dtype: TorchDType, shape: tuple[int, ...]) -> tuple[int, ...]:
    """The dimensions of a tensor in values as coral-git sees them, from those in elements of torch.

    Pairs of four-bit floats double the last dimension, as in safetensors; other pairs get one of their own.
    """
    if dtype.values == 1:
        return shape
    if dtype.dtype.bits < 8 and shape:
        return (*shape[:-1], shape[-1] * dtype.values)
    return (*shape, dtype.values)


def is_contiguous(view: View) -> bool:
    """Whether the elements lie one after the other in the order of C."""
    step = 1
    for dimension, stride in zip(reversed(view.shape), reversed(view.stride), strict=True):
        if dimension != 1:
            if stride != step:
                return False
            step *= dimension
    return True
