"""Writes a zip file of entries that are not compressed, in one go, their data aligned as torch wants them.

The CRC of an entry is known only after its data, so it follows them in a data descriptor. Lengths of 64 bits
are written where 32 do not do. See PKWARE's APPNOTE, sections 4.3 and 4.5.3; the padding is an extra field
that nobody else uses, as in torch's ``caffe2/serialize/inline_container.cc``.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterable
from typing import BinaryIO, NamedTuple

from coral_git.formats.zip_index import (
    CENTRAL,
    DESCRIPTOR_MAGIC,
    END,
    END64,
    HAS_DESCRIPTOR,
    LOCAL,
    LOCAL_MAGIC,
    LOCATOR,
    MAX16,
    MAX32,
    STORED,
    ZIP64_EXTRA,
)
from coral_git.types import Buffer

ALIGNMENT = 64
"""The data of every entry begin at a multiple of this."""

WIDE = MAX32
"""Numbers from this on are written in 64 bits."""

_PADDING = struct.unpack("<H", b"FB")[0]
_FLAGS = HAS_DESCRIPTOR | 1 << 11  # names are UTF-8
_VERSION = 20
_VERSION_64 = 45
_FIRST_DAY = 1 << 5 | 1  # 1 January 1980: the same bytes whenever they are written


class _Written(NamedTuple):
    name: bytes
    crc: int
    length: int
    header: int


class ZipStream:
    """A zip file that is being written.

    Args:
        out: an empty file; written from its beginning to its end.
    """

    def __init__(self, out: BinaryIO) -> None:
        self._out = out
        self._position = 0
        self._entries: list[_Written] = []

    def add(self, name: str, length: int, pieces: Iterable[Buffer]) -> None:
        """Write an entry.

        Args:
            name: its name.
            length: its bytes.
            pieces: the bytes, in order.

        Raises:
            ValueError: the pieces have another length.
        """
        raw = name.encode()
        header = self._position
        wide = length >= WIDE
        extra = struct.pack("<HHQQ", ZIP64_EXTRA, 16, 0, 0) if wide else b""
        unpadded = header + LOCAL.size + len(raw) + len(extra) + 4
        padding = -unpadded % ALIGNMENT
        extra += struct.pack("<HH", _PADDING, padding) + b"Z" * padding
        short = MAX32 if wide else 0
        version = _VERSION_64 if wide else _VERSION
        fields = (version, _FLAGS, STORED, 0, _FIRST_DAY, 0, short, short, len(raw), len(extra))
        self._write(LOCAL.pack(LOCAL_MAGIC, *fields) + raw + extra)
        start, crc = self._position, 0
        for piece in pieces:
            crc = zlib.crc32(piece, crc)
            self._write(piece)
        if self._position - start != length:
            raise ValueError(f"'{name}' has {self._position - start} bytes instead of {length}")
        self._write(struct.pack("<4sLQQ" if wide else "<4sLLL", DESCRIPTOR_MAGIC, crc, length, length))
        self._entries.append(_Written(raw, crc, length, header))

    def close(self) -> None:
        """Write the directory and the end records; the file itself stays open."""
        start = self._position
        for entry in self._entries:
            self._write(_central_record(entry))
        length, count = self._position - start, len(self._entries)
        if max(start, length) >= WIDE or count >= MAX16:
            versions = (_VERSION_64, _VERSION_64)
            end = (b"PK\x06\x06", END64.size - 12, *versions, 0, 0, count, count, length, start)
            locator = (b"PK\x06\x07", 0, self._position, 1)
            self._write(END64.pack(*end) + LOCATOR.pack(*locator))
        count = min(count, MAX16)
        length, start = (MAX32 if number >= WIDE else number for number in (length, start))
        self._write(END.pack(b"PK\x05\x06", 0, 0, count, count, length, start, 0))

    def _write(self, data: Buffer) -> None:
        self._out.write(data)
        self._position += len(data)


def _central_record(entry: _Written) -> bytes:
    """The record of an entry in the directory."""
    numbers = (entry.length, entry.length, entry.header)
    long = [number for number in numbers if number >= WIDE]
    extra = struct.pack(f"<HH{len(long)}Q", ZIP64_EXTRA, 8 * len(long), *long) if long else b""
    length, stored, header = (MAX32 if number >= WIDE else number for number in numbers)
    version = _VERSION_64 if long else _VERSION
    head = (b"PK\x01\x02", version, version, _FLAGS, STORED, 0, _FIRST_DAY, entry.crc, stored, length)
    return CENTRAL.pack(*head, len(entry.name), len(extra), 0, 0, 0, 0, header) + entry.name + extra
