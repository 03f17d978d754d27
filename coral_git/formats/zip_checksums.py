"""Puts the checksums of a zip file right after bytes of its entries were overwritten in place."""

from __future__ import annotations

import os
import struct
import zlib
from bisect import bisect_right
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from coral_git import fsops
from coral_git.errors import IntegrityError
from coral_git.formats.base import TensorSegment
from coral_git.formats.zip_index import DESCRIPTOR_MAGIC, HAS_DESCRIPTOR, ZipEntry, read_zip
from coral_git.limits import DEFAULT_LIMITS, MIB

_CRC = struct.Struct("<L")
_CRC_IN_LOCAL = 14
_CRC_IN_CENTRAL = 16


class _OpenFile(NamedTuple):
    """A byte source over a descriptor."""

    fd: int
    size: int

    def read_at(self, offset: int, length: int) -> bytes:
        data = os.pread(self.fd, length, offset)
        while 0 < len(data) < length:
            more = os.pread(self.fd, length - len(data), offset + len(data))
            if not more:
                break
            data += more
        return data


def mend_checksums(fd: int, changed: Iterable[TensorSegment]) -> None:
    """Compute the CRC of every entry that a changed tensor lies in, and write it wherever it stands.

    Args:
        fd: the zip file, open for reading and writing.
        changed: the tensors with new bytes.

    Raises:
        NotThisFormat: it is no sound zip file.
        IntegrityError: an entry says that its CRC follows its data, and it does not.
    """
    source = _OpenFile(fd, os.fstat(fd).st_size)
    for entry in _entries_of(read_zip(source, DEFAULT_LIMITS), changed):
        old = source.read_at(entry.central + _CRC_IN_CENTRAL, _CRC.size)
        places = [entry.central + _CRC_IN_CENTRAL, _crc_place(source, entry, old)]
        crc = 0
        for offset in range(entry.offset, entry.end, MIB):
            crc = zlib.crc32(source.read_at(offset, min(MIB, entry.end - offset)), crc)
        for place in places:
            fsops.write_at(fd, _CRC.pack(crc), place)


def _entries_of(entries: Sequence[ZipEntry], changed: Iterable[TensorSegment]) -> list[ZipEntry]:
    """The entries that changed tensors lie in, each once."""
    starts = [entry.offset for entry in entries]
    touched = {bisect_right(starts, tensor.offset) - 1 for tensor in changed if tensor.length} - {-1}
    return [entries[index] for index in sorted(touched)]


def _crc_place(source: _OpenFile, entry: ZipEntry, old: bytes) -> int:
    """Where the CRC stands beside the one in the directory: before the data of an entry, or behind them."""
    if not entry.flags & HAS_DESCRIPTOR:
        return entry.header + _CRC_IN_LOCAL
    following = source.read_at(entry.end, len(DESCRIPTOR_MAGIC) + _CRC.size)
    if following == DESCRIPTOR_MAGIC + old:
        return entry.end + len(DESCRIPTOR_MAGIC)
    if following.startswith(old):  # the magic may be left out
        return entry.end
    raise IntegrityError(
        f"the checksum of the zip entry {entry.name[:80]!r} is missing",
        hint="write the file with torch.save again",
    )
