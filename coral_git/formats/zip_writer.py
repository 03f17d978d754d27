"""Writes zip files whose members are stored, in a stream. The same members give the same bytes.

The length of a member is known before its bytes are; the checksum is not and is put right afterwards.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterable
from typing import BinaryIO, NamedTuple

from coral_git.types import Buffer

_LOCAL = struct.Struct("<4s5H3I2H")
_CENTRAL = struct.Struct("<4s6H3I5H2I")
_END = struct.Struct("<4s4H2IH")
_END64 = struct.Struct("<4sQ2H2I4Q")
_LOCATOR = struct.Struct("<4sIQI")
_CRC_AT = 14
_UTF8_FLAG = 1 << 11
_VERSION, _VERSION64 = 20, 45
_UNIX = 3 << 8
_DATE = (1 << 5) | 1  # 1 January 1980, the first day that zip knows
_MODE = 0o100644 << 16
_MASK16, _MASK32 = 0xFFFF, 0xFFFFFFFF
LARGE = _MASK32
"""Sizes and offsets from here on are written as those of large files."""

MANY = _MASK16
"""As many members as that make a large file too."""


class _Member(NamedTuple):
    name: bytes
    flags: int
    crc: int
    size: int
    header: int


class ZipWriter:
    """A zip file that is being written.

    Args:
        out: an empty file, open for writing and seekable.
    """

    def __init__(self, out: BinaryIO) -> None:
        self._out = out
        self._members: list[_Member] = []
        self._position = 0

    def add(self, name: str, size: int, pieces: Iterable[Buffer]) -> None:
        """Write a member.

        Args:
            name: its name, at most 65,535 bytes of UTF-8.
            size: its length in bytes.
            pieces: its bytes.

        Raises:
            ValueError: the pieces do not have that length.
        """
        raw_name = name.encode("utf-8")
        flags = 0 if raw_name.isascii() else _UTF8_FLAG
        header = self._position
        extra = _extra64(size, size) if size >= LARGE else b""
        short = _MASK32 if size >= LARGE else size
        version = _VERSION64 if size >= LARGE else _VERSION
        head = _LOCAL.pack(b"PK\3\4", version, flags, 0, 0, _DATE, 0, short, short, len(raw_name), len(extra))
        self._write(head + raw_name + extra)
        crc = 0
        start = self._position
        for piece in pieces:
            crc = zlib.crc32(piece, crc)
            self._write(piece)
        if self._position != start + size:
            raise ValueError(f"the member {name!a} has {self._position - start} bytes, not {size}")
        self._out.seek(header + _CRC_AT)
        self._out.write(crc.to_bytes(4, "little"))
        self._out.seek(self._position)
        self._members.append(_Member(raw_name, flags, crc, size, header))

    def close(self) -> None:
        """Write the central directory; ``out`` stays open."""
        start = self._position
        for member in self._members:
            self._write(_central(member))
        length = self._position - start
        count = len(self._members)
        if max(start, length) >= LARGE or count >= MANY:
            here = self._position
            self._write(_END64.pack(b"PK\6\6", 44, _VERSION64, _VERSION64, 0, 0, count, count, length, start))
            self._write(_LOCATOR.pack(b"PK\6\7", 0, here, 1))
            count, length, start = _MASK16, _MASK32, _MASK32
        self._write(_END.pack(b"PK\5\6", 0, 0, count, count, length, start, 0))

    def _write(self, data: Buffer) -> None:
        self._out.write(data)
        self._position += len(data)


def _central(member: _Member) -> bytes:
    """The entry of a member in the central directory."""
    large = [number for number in (member.size, member.size, member.header) if number >= LARGE]
    extra = _extra64(*large) if large else b""
    size = _MASK32 if member.size >= LARGE else member.size
    header = _MASK32 if member.header >= LARGE else member.header
    version = _VERSION64 if large else _VERSION
    lengths = (len(member.name), len(extra), 0, 0, 0)
    sign, made = b"PK\1\2", version | _UNIX
    fixed = (sign, made, version, member.flags, 0, 0, _DATE, member.crc, size, size, *lengths, _MODE, header)
    return _CENTRAL.pack(*fixed) + member.name + extra


def _extra64(*numbers: int) -> bytes:
    return struct.pack(f"<2H{len(numbers)}Q", 1, 8 * len(numbers), *numbers)
