"""Puts the checksums of a file right after the bytes of some tensors were overwritten in place."""

from __future__ import annotations

import os
import zlib
from bisect import bisect_right
from collections.abc import Iterable, Sequence

from coral_git import fsops
from coral_git.errors import IntegrityError
from coral_git.formats.base import Checksum, TensorSegment
from coral_git.limits import MIB


def covering(checksums: Sequence[Checksum], tensors: Iterable[TensorSegment]) -> list[Checksum]:
    """The checksums of ranges that hold some of the tensors."""
    ordered = sorted(checksums)
    offsets = [checksum.offset for checksum in ordered]
    found: dict[int, Checksum] = {}
    for tensor in tensors:
        number = bisect_right(offsets, tensor.offset) - 1
        if number >= 0 and tensor.offset < ordered[number].offset + ordered[number].length:
            found[number] = ordered[number]
    return list(found.values())


def mend(fd: int, checksums: Iterable[Checksum]) -> None:
    """Compute checksums anew and write them to their places.

    Args:
        fd: the file, open for reading and writing.
        checksums: those to put right.

    Raises:
        IntegrityError: the file ends too early.
    """
    for checksum in checksums:
        crc = _crc(fd, checksum).to_bytes(4, "little")
        for place in checksum.places:
            fsops.write_at(fd, crc, place)


def _crc(fd: int, checksum: Checksum) -> int:
    crc, position, end = 0, checksum.offset, checksum.offset + checksum.length
    while position < end:
        piece = os.pread(fd, min(MIB, end - position), position)
        if not piece:
            raise IntegrityError("a file ends before the bytes of a checksum do")
        crc = zlib.crc32(piece, crc)
        position += len(piece)
    return crc
