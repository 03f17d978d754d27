"""Puts the checksums of a zip file right after the data of stored members was overwritten in place."""

from __future__ import annotations

import os
import zlib
from bisect import bisect_right
from collections.abc import Sequence
from typing import NamedTuple

from coral_git import fsops
from coral_git.errors import IntegrityError
from coral_git.formats.base import Layout, TensorSegment
from coral_git.formats.zip_index import STORED, ZipEntry, read_zip
from coral_git.limits import DEFAULT_LIMITS, MIB


class ZipMender(NamedTuple):
    """The mender of a format whose files are zip files.

    Attributes:
        name: the name of its reader.
    """

    name: str

    def mend(self, fd: int, layout: Layout, changed: Sequence[TensorSegment]) -> None:
        """Write the CRC-32 of every member with changed tensors wherever the file has it.

        Raises:
            NotThisFormat: the file is no plain zip file.
            IntegrityError: a tensor does not lie in a stored member.
        """
        source = _OpenFile(fd, os.fstat(fd).st_size)
        entries = read_zip(source, DEFAULT_LIMITS)
        offsets = [entry.offset for entry in entries]
        touched: dict[int, ZipEntry] = {}
        for tensor in changed:
            number = bisect_right(offsets, tensor.offset) - 1
            if number < 0 or not _holds(entries[number], tensor):
                raise IntegrityError(f"the tensor {tensor.name!a} lies in no stored member of the archive")
            touched[number] = entries[number]
        for entry in touched.values():
            crc = _crc(source, entry).to_bytes(4, "little")
            for place in entry.crc_places:
                fsops.write_at(fd, crc, place)


class _OpenFile(NamedTuple):
    """The bytes of an open file."""

    fd: int
    size: int

    def read_at(self, offset: int, length: int) -> bytes:
        """The bytes from ``offset``; fewer than ``length`` only at the end."""
        pieces = []
        while length > 0 and (piece := os.pread(self.fd, length, offset)):
            pieces.append(piece)
            offset += len(piece)
            length -= len(piece)
        return b"".join(pieces)


def _holds(entry: ZipEntry, tensor: TensorSegment) -> bool:
    return entry.method == STORED and tensor.offset + tensor.length <= entry.offset + entry.size


def _crc(source: _OpenFile, entry: ZipEntry) -> int:
    crc = 0
    for start in range(0, entry.size, MIB):
        crc = zlib.crc32(source.read_at(entry.offset + start, min(MIB, entry.size - start)), crc)
    return crc
