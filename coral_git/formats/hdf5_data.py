"""The datasets of HDF5, as tensors."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import pairwise

from coral_git.formats.base import NotThisFormat, TensorSegment
from coral_git.formats.hdf5_chunks import Grid, read_index, read_old_index
from coral_git.formats.hdf5_file import Fields, Hdf5File
from coral_git.formats.hdf5_header import Kind, Message
from coral_git.formats.hdf5_types import Dataspace, read_dataspace, read_dtype
from coral_git.types import DType, tensor_bytes

SMALLEST_CHUNK = 4096
"""Chunks below this length are no tensors of their own."""

_CONTIGUOUS, _CHUNKED = 1, 2
_NEEDED = (Kind.DATASPACE, Kind.DATATYPE, Kind.LAYOUT)


def read_tensors(file: Hdf5File, name: str, messages: Iterable[Message]) -> list[TensorSegment]:
    """The tensors that a dataset is: one, one for each chunk, or none where its bytes stay rest.

    Addresses are offsets from the superblock.

    Raises:
        NotThisFormat: what the messages say does not fit together, or not the file.
    """
    found = {message.kind: message for message in messages}
    if any(kind not in found or found[kind].is_shared for kind in _NEEDED):
        return []
    if Kind.EXTERNAL_FILES in found or Kind.FILTERS in found:
        return []
    space = read_dataspace(file.fields(found[Kind.DATASPACE].data))
    dtype = read_dtype(found[Kind.DATATYPE].data)
    if space is None or dtype is None or 0 in space.shape:
        return []
    tensors = list(_Dataset(file, name, dtype, space).tensors(file.fields(found[Kind.LAYOUT].data)))
    if any(tensor.offset + tensor.length > file.size for tensor in tensors):
        raise NotThisFormat("a dataset exceeds the file")
    return tensors


class _Dataset:
    """A dataset of numbers, stored in this file as they are."""

    def __init__(self, file: Hdf5File, name: str, dtype: DType, space: Dataspace) -> None:
        self._file = file
        self._name = name
        self._dtype = dtype
        self._space = space
        self._length = _length(dtype, space.shape)

    def tensors(self, layout: Fields) -> Iterator[TensorSegment]:
        """The tensors, in the order of their numbers; the layout message says where they are."""
        version = layout.integer(1)
        if version in (1, 2):
            rank, storage = layout.integer(1), layout.integer(1)
            layout.take(5)
        elif version in (3, 4):
            rank, storage = 0, layout.integer(1)
        else:
            return
        if storage == _CONTIGUOUS:
            address = layout.address()
            if version > 2 and layout.length() != self._length:
                raise NotThisFormat("a dataset has another length than its values")
            if address is not None:
                yield TensorSegment(self._name, self._dtype, self._space.shape, address, self._length)
        elif storage == _CHUNKED:
            yield from self._chunked(layout, version, rank)

    def _chunked(self, layout: Fields, version: int, rank: int) -> Iterator[TensorSegment]:
        address, flags, width = None, 0, 4
        if version < 3:
            address = layout.address()
        elif version == 3:
            rank, address = layout.integer(1), layout.address()
        else:
            flags, rank, width = layout.integer(1), layout.integer(1), layout.integer(1)
        sizes = tuple(layout.integer(width) for _ in range(rank))  # the last one is that of a value
        if not 1 < rank == len(self._space.shape) + 1 or 0 in sizes or 8 * sizes[-1] != self._dtype.bits:
            raise NotThisFormat("the chunks of a dataset have other dimensions than itself")
        grid = Grid(self._space.shape, sizes[:-1], _length(self._dtype, sizes[:-1]))
        if grid.length < SMALLEST_CHUNK and grid.chunk != grid.shape:
            return
        if version == 4:
            chunks = read_index(self._file, layout, flags, grid, self._space.can_grow)
        else:
            chunks = read_old_index(self._file, address, grid)
        yield from self._pieces(grid, sorted(chunks))

    def _pieces(self, grid: Grid, chunks: list[tuple[int, int]]) -> Iterator[TensorSegment]:
        """One tensor where the chunks are its rows in their order, otherwise each chunk by itself."""
        is_whole = len(chunks) == grid.counts[0] and grid.chunk[1:] == grid.shape[1:]
        if is_whole and all(after - before == grid.length for (_, before), (_, after) in pairwise(chunks)):
            yield TensorSegment(self._name, self._dtype, grid.shape, chunks[0][1], self._length)
            return
        for number, address in chunks:
            yield TensorSegment(f"{self._name}#{number}", self._dtype, grid.chunk, address, grid.length)


def _length(dtype: DType, shape: tuple[int, ...]) -> int:
    length = tensor_bytes(dtype, shape)
    if length is None:
        raise NotThisFormat("a dataset does not fill its bytes")
    return length
