"""The fractal heap of HDF5, as far as groups need it: no filters, no objects outside of its blocks."""

from __future__ import annotations

from bisect import bisect_right

from coral_git.formats.base import NotThisFormat
from coral_git.formats.hdf5_file import Fields, Hdf5File

_MANAGED = 0
_MOST_ROWS = 64


class FractalHeap:
    """Finds the objects of a heap.

    The heap is a space of its own, cut into direct blocks: rows of ``width`` blocks each, the first two rows
    of the smallest blocks, every further one of blocks twice as long. Rows beyond the longest direct block
    are of indirect blocks, each again a table of that kind over a part of the space.
    """

    def __init__(self, file: Hdf5File, address: int) -> None:
        """Read the header, and the indirect blocks below it.

        Raises:
            NotThisFormat: the heap is broken or has filters.
        """
        self._file = file
        fields = file.read(address, 22 + 12 * file.length_size + 3 * file.address_size)
        fields.expect(b"FRHP\0")
        fields.take(2)
        if fields.integer(2):
            raise NotThisFormat("a heap has filters")
        fields.take(5 + 10 * file.length_size + 2 * file.address_size)
        self._width, self._smallest, self._longest = fields.integer(2), fields.length(), fields.length()
        self._offset_size = (fields.integer(2) + 7) // 8
        fields.take(2)
        root, rows = fields.address(), fields.integer(2)
        for number in (self._width, self._smallest, self._longest):
            if number == 0 or number & (number - 1):
                raise NotThisFormat("a heap has impossible blocks")
        self._blocks: list[tuple[int, int, int]] = []
        if root is not None:
            self._find_blocks(root, rows)
        self._blocks.sort()

    def get(self, heap_id: bytes) -> bytes:
        """The object with this id.

        Raises:
            NotThisFormat: there is none.
        """
        fields = self._file.fields(heap_id)
        if fields.integer(1) & 0xF0 != _MANAGED:
            raise NotThisFormat("an object is not in the blocks of its heap")
        offset = fields.integer(self._offset_size)
        length = fields.integer(fields.left)
        index = bisect_right(self._blocks, offset, key=lambda block: block[0]) - 1
        if index < 0:
            raise NotThisFormat("an object is in no block of its heap")
        start, size, address = self._blocks[index]
        if offset + length > start + size:
            raise NotThisFormat("an object exceeds its block")
        return self._file.read(address + offset - start, length).take(length)

    def _find_blocks(self, root: int, rows: int) -> None:
        """Note start in the heap, length and address of each direct block."""
        if rows == 0:
            self._blocks.append((0, self._smallest, root))
            return
        pending = [(root, rows, 0)]
        while pending:
            address, rows, start = pending.pop()
            self._file.count(rows * self._width)
            fields = self._read_indirect(address, rows)
            for row in range(rows):
                size = self._smallest << max(row - 1, 0)
                for _ in range(self._width):
                    child = fields.address()
                    if child is not None and size <= self._longest:
                        self._blocks.append((start, size, child))
                    elif child is not None:
                        pending.append((child, self._rows_of(size), start))
                    start += size

    def _read_indirect(self, address: int, rows: int) -> Fields:
        if rows > _MOST_ROWS:
            raise NotThisFormat("a heap has too many blocks")
        head = 5 + self._file.address_size + self._offset_size
        fields = self._file.read(address, head + rows * self._width * self._file.address_size)
        fields.expect(b"FHIB\0")
        fields.take(head - 5)
        return fields

    def _rows_of(self, size: int) -> int:
        """Rows of an indirect block that covers so much of the heap."""
        rows = size.bit_length() - (self._smallest * self._width).bit_length() + 1
        if rows < 1:
            raise NotThisFormat("a heap has impossible blocks")
        return rows
