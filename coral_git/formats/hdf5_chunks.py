"""Where the chunks of a dataset of HDF5 are, by each kind of index that is understood."""

from __future__ import annotations

from collections.abc import Iterator
from math import prod
from typing import NamedTuple

from coral_git.formats.base import MAX_TENSORS, NotThisFormat
from coral_git.formats.hdf5_file import Fields, Hdf5File
from coral_git.formats.hdf5_trees import walk_records, walk_tree

_SINGLE, _IMPLICIT, _FIXED_ARRAY, _BTREE = 1, 2, 3, 5
_CHUNKS_WITHOUT_FILTER = 10
_FILTERED_SINGLE = 0x02
_PAGE_CHECKSUM = 4


class Grid(NamedTuple):
    """How a dataset falls into chunks.

    Attributes:
        shape: the dimensions of the dataset.
        chunk: the dimensions of a chunk.
        length: bytes of a chunk; those at the edges are as long as the others.
    """

    shape: tuple[int, ...]
    chunk: tuple[int, ...]
    length: int

    @property
    def counts(self) -> tuple[int, ...]:
        """The number of chunks along each dimension."""
        return tuple(-(-whole // part) for whole, part in zip(self.shape, self.chunk, strict=True))

    def number(self, place: tuple[int, ...]) -> int:
        """The number of a chunk, the last dimension running fastest.

        Raises:
            NotThisFormat: it lies outside.
        """
        result = 0
        for at, count in zip(place, self.counts, strict=True):
            if at >= count:
                raise NotThisFormat("a chunk lies outside of its dataset")
            result = result * count + at
        return result


def read_old_index(file: Hdf5File, address: int | None, grid: Grid) -> Iterator[tuple[int, int]]:
    """Number and address of each chunk, from a B-tree of version 1 (layouts before version 4).

    Raises:
        NotThisFormat: the tree is broken, or a chunk is not what the grid says.
    """
    rank = len(grid.shape)
    for key, start in walk_tree(file, address, 1, 8 * (rank + 2)):
        fields = file.fields(key)
        if (fields.integer(4), fields.integer(4)) != (grid.length, 0):
            raise NotThisFormat("a chunk has an odd length")
        offsets = [fields.integer(8) for _ in range(rank)]
        if any(offset % size for offset, size in zip(offsets, grid.chunk, strict=True)):
            raise NotThisFormat("a chunk begins within another one")
        places = (offset // size for offset, size in zip(offsets, grid.chunk, strict=True))
        yield grid.number(tuple(places)), start


def read_index(
    file: Hdf5File, fields: Fields, flags: int, grid: Grid, can_grow: bool
) -> Iterator[tuple[int, int]]:
    """Number and address of each chunk, from what follows the dimensions in a layout of version 4.

    Nothing comes from an extensible array, nor where a fixed one leaves room for more chunks.

    Raises:
        NotThisFormat: the index is broken.
    """
    index_type = fields.integer(1)
    if index_type == _SINGLE and not flags & _FILTERED_SINGLE:
        return _single(fields.address())
    if index_type == _IMPLICIT and not can_grow:
        return _implicit(file, fields.address(), grid)
    if index_type == _FIXED_ARRAY and not can_grow:
        fields.take(1)
        return _fixed_array(file, fields.address(), grid)
    if index_type == _BTREE:
        fields.take(6)
        return _btree(file, fields.address(), grid)
    return iter(())


def _single(address: int | None) -> Iterator[tuple[int, int]]:
    if address is not None:
        yield 0, address


def _implicit(file: Hdf5File, address: int | None, grid: Grid) -> Iterator[tuple[int, int]]:
    """All chunks, one after the other; no index bounds them, so the file must hold them."""
    count = prod(grid.counts)
    if address is not None and address + count * grid.length > file.size:
        raise NotThisFormat("the chunks of a dataset exceed the file")
    file.count(count)
    if address is not None:
        for number in range(count):
            yield number, address + number * grid.length


def _fixed_array(file: Hdf5File, address: int | None, grid: Grid) -> Iterator[tuple[int, int]]:
    """An array of addresses, in pages if there are many; pages that were never written are marked so."""
    if address is None:
        return
    fields = file.read(address, 8 + file.length_size + file.address_size)
    fields.expect(b"FAHD\0\0")  # the second zero: chunks without filters
    entry, page_bits, count = fields.integer(1), fields.integer(1), fields.length()
    block = fields.address()
    if entry != file.address_size or count != prod(grid.counts) or count > MAX_TENSORS:
        raise NotThisFormat("an array of chunks has another length than the dataset")
    if block is None:
        return
    file.count(count)
    head = 6 + file.address_size
    file.read(block, head).expect(b"FADB\0\0")
    if count <= 1 << page_bits:
        yield from _addresses(file, block + head, 0, count)
        return
    pages = -(-count >> page_bits)
    written = file.read(block + head, (pages + 7) // 8).take((pages + 7) // 8)
    start = block + head + len(written) + _PAGE_CHECKSUM
    for page in range(pages):
        first = page << page_bits
        if written[page // 8] & 0x80 >> page % 8:
            yield from _addresses(file, start, first, min(count - first, 1 << page_bits))
        start += (1 << page_bits) * file.address_size + _PAGE_CHECKSUM


def _addresses(file: Hdf5File, place: int, first: int, count: int) -> Iterator[tuple[int, int]]:
    fields = file.read(place, count * file.address_size)
    for number in range(first, first + count):
        address = fields.address()
        if address is not None:
            yield number, address


def _btree(file: Hdf5File, address: int | None, grid: Grid) -> Iterator[tuple[int, int]]:
    """A B-tree of version 2, for datasets that grow in several dimensions."""
    if address is None:
        return
    for record in walk_records(file, address, _CHUNKS_WITHOUT_FILTER):
        fields = file.fields(record)
        start = fields.address()
        places = tuple(fields.integer(8) for _ in grid.shape)
        if start is not None:
            yield grid.number(places), start
