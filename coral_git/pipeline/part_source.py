"""The raw bytes of a part: where they are read, and their id."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

from blake3 import blake3

from coral_git.errors import CoralError
from coral_git.types import Buffer, ByteSource, Element, ObjectId

ReadRange = Callable[[int, int], Buffer]
"""Reads (start, length) of the raw bytes of a part."""

_READ_BYTES = 1 << 20


class PartSource(NamedTuple):
    """The raw bytes of one part and what is known about them.

    Attributes:
        read: reads a range of the part.
        length: bytes of the part.
        element: how codecs see the bytes.
        bases: objects the part may be a small change of, the best guess first.
        namesakes: finds more of them under the same name in other files; asked where those do not help.
    """

    read: ReadRange
    length: int
    element: Element
    bases: tuple[ObjectId, ...] = ()
    namesakes: Callable[[], Sequence[ObjectId]] = tuple


class HashedPart(NamedTuple):
    """A part and its id; ``data`` holds the raw bytes of a small one."""

    source: PartSource
    object_id: ObjectId
    data: bytes | None

    def read(self, start: int, length: int) -> Buffer:
        """A range of the raw bytes."""
        if self.data is None:
            return self.source.read(start, length)
        return memoryview(self.data)[start : start + length]


def read_ranges(source: ByteSource, ranges: Sequence[tuple[int, int]]) -> ReadRange:
    """A reader over the concatenation of byte ranges (offset, length) of a file."""
    if len(ranges) == 1:
        first = ranges[0][0]
        return lambda start, length: source.read_at(first + start, length)

    def read(start: int, length: int) -> bytes:
        pieces = []
        for offset, size in ranges:
            if length <= 0:
                break
            if start < size:
                take = min(size - start, length)
                pieces.append(source.read_at(offset + start, take))
                length -= take
                start = 0
            else:
                start -= size
        return b"".join(pieces)

    return read


def part_of_bytes(data: bytes, bases: tuple[ObjectId, ...] = ()) -> PartSource:
    """A part that is in memory already."""
    return PartSource(lambda start, length: data[start : start + length], len(data), Element.BYTES, bases)


def hash_part(part: PartSource, kept_bytes: int = 0) -> HashedPart:
    """The id of a part: BLAKE3-256 of its raw bytes.

    Args:
        part: the part.
        kept_bytes: a part up to this length is read once and stays in memory.

    Raises:
        CoralError: the file ended before the part did.
    """
    hasher = blake3()
    if part.length <= kept_bytes:
        data = bytes(part.read(0, part.length))
        _check_length(data, part.length)
        hasher.update(data)
        return HashedPart(part, ObjectId(hasher.digest()), data)
    for start in range(0, part.length, _READ_BYTES):
        length = min(_READ_BYTES, part.length - start)
        piece = part.read(start, length)
        _check_length(piece, length)
        hasher.update(piece)
    return HashedPart(part, ObjectId(hasher.digest()), None)


def _check_length(piece: Buffer, wanted: int) -> None:
    if len(piece) != wanted:
        raise CoralError("the file became shorter while it was read", hint="add it again")
