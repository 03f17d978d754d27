"""The lowest level of HDF5: the superblock, addresses that are checked, and fields one after the other.

The names of structures and fields here and in the modules ``hdf5_*`` are those of the HDF5 File Format
Specification, version 3.0 (https://support.hdfgroup.org/documentation/hdf5/latest/_f_m_t3.html). Checksums
of metadata are not looked at: whatever the metadata says, the file comes back byte for byte.
"""

from __future__ import annotations

from coral_git.formats.base import MAX_TENSORS, NotThisFormat
from coral_git.limits import Limits
from coral_git.types import ByteSource

SIGNATURE = b"\x89HDF\r\n\x1a\n"
"""What a superblock begins with."""

MAX_ITEMS = 4 * MAX_TENSORS
"""Messages, links, nodes and chunks that are looked at in one file, at most."""

_LONGEST_SUPERBLOCK = 160
_WIDTHS = (2, 4, 8)


class Fields:
    """Reads one field after the other from the bytes of a structure; integers are little endian.

    Every method raises NotThisFormat where the bytes end too early.
    """

    __slots__ = ("_address_size", "_at", "_data", "_length_size")

    def __init__(self, data: bytes, address_size: int, length_size: int) -> None:
        self._data = data
        self._at = 0
        self._address_size = address_size
        self._length_size = length_size

    @property
    def left(self) -> int:
        """Bytes that were not read yet."""
        return len(self._data) - self._at

    def take(self, length: int) -> bytes:
        """The next bytes."""
        start = self._at
        self._at += length
        if self._at > len(self._data):
            raise NotThisFormat("a structure is cut short")
        return self._data[start : self._at]

    def integer(self, width: int) -> int:
        """An unsigned integer of ``width`` bytes."""
        return int.from_bytes(self.take(width), "little")

    def address(self) -> int | None:
        """An address (the specification says *offset*); None where it is undefined, which is all ones."""
        value = self.integer(self._address_size)
        return None if value == (1 << 8 * self._address_size) - 1 else value

    def length(self) -> int:
        """A number as wide as the lengths of this file."""
        return self.integer(self._length_size)

    def expect(self, *choices: bytes) -> bytes:
        """The next bytes, which are one of these signatures or versions of the same length."""
        found = self.take(len(choices[0]))
        if found not in choices:
            raise NotThisFormat("a structure is another one than its place says")
        return found


class Hdf5File:
    """Reads metadata, never more than the caps allow.

    Attributes:
        size: bytes from the superblock to the end; addresses count from the superblock.
        address_size: width of an address in bytes.
        length_size: width of a length in bytes.
    """

    def __init__(self, source: ByteSource, limits: Limits, address_size: int, length_size: int) -> None:
        if address_size not in _WIDTHS or length_size not in _WIDTHS:
            raise NotThisFormat("addresses have an odd width")
        self.size = source.size
        self.address_size = address_size
        self.length_size = length_size
        self._source = source
        self._bytes_left = limits.header_bytes
        self._items_left = MAX_ITEMS

    def read(self, address: int | None, length: int) -> Fields:
        """The fields of a structure.

        Raises:
            NotThisFormat: it lies outside of the file, or too much was read already.
        """
        if address is None or address + length > self.size:
            raise NotThisFormat("a structure lies outside of the file")
        self._bytes_left -= length
        if self._bytes_left < 0:
            raise NotThisFormat("there is too much metadata")
        return self.fields(self._source.read_at(address, length))

    def fields(self, data: bytes) -> Fields:
        """The fields of bytes that were read already."""
        return Fields(data, self.address_size, self.length_size)

    def count(self, items: int = 1) -> None:
        """Note that so many things will be looked at.

        Raises:
            NotThisFormat: they are too many.
        """
        self._items_left -= items
        if self._items_left < 0:
            raise NotThisFormat("there are too many things in the file")


def open_file(source: ByteSource, limits: Limits) -> tuple[Hdf5File, int]:
    """Read the superblock, which is at byte 0: the file, and the address of the header of the root group.

    Raises:
        NotThisFormat: there is no superblock of version 0 to 3.
    """
    head = source.read_at(0, _LONGEST_SUPERBLOCK)
    if not head.startswith(SIGNATURE) or len(head) < len(SIGNATURE) + 8:
        raise NotThisFormat("there is no superblock")
    version = head[8]
    if version in (0, 1):
        file = Hdf5File(source, limits, head[13], head[14])
        skipped = 24 + 4 * version + 5 * file.address_size  # up to the symbol table entry, and its name
    elif version in (2, 3):
        file = Hdf5File(source, limits, head[9], head[10])
        skipped = 12 + 3 * file.address_size
    else:
        raise NotThisFormat("the superblock has an unknown version")
    fields = file.fields(head)
    fields.take(skipped)
    root = fields.address()
    if root is None:
        raise NotThisFormat("there is no root group")
    return file, root
