"""A walk through the header of a GGUF file, of which only a window is in memory."""

from __future__ import annotations

from typing import Literal

from coral_git.formats.base import NotThisFormat
from coral_git.limits import KIB
from coral_git.types import ByteSource

_WINDOW = 256 * KIB


class Cursor:
    """A place in a file that only moves forward.

    Args:
        source: the file.
        position: where to begin.
        limit: the header must end before this byte.
        big_endian: whether numbers are.
    """

    def __init__(self, source: ByteSource, position: int, limit: int, big_endian: bool) -> None:
        self._source = source
        self._end = min(source.size, limit)
        self._window = b""
        self._window_at = position
        self._order: Literal["big", "little"] = "big" if big_endian else "little"
        self.big_endian = big_endian
        self.position = position

    def number(self, width: int) -> int:
        """The unsigned number of ``width`` bytes that comes next.

        Raises:
            NotThisFormat: the header ends before.
        """
        return int.from_bytes(self.take(width), self._order)

    def take(self, length: int) -> bytes:
        """The bytes that come next, at most a few KiB.

        Raises:
            NotThisFormat: the header ends before.
        """
        data = self.peek(length)
        self.skip(length)  # which fails where data is too short
        return data

    def peek(self, length: int) -> bytes:
        """The same, without moving; fewer bytes where the file ends."""
        start = self.position - self._window_at
        if start + length > len(self._window):
            self._window = self._source.read_at(self.position, max(length, _WINDOW))
            self._window_at, start = self.position, 0
        return self._window[start : start + length]

    def skip(self, length: int) -> None:
        """Move on.

        Raises:
            NotThisFormat: the header ends before.
        """
        self.position += length
        if self.position > self._end:
            raise NotThisFormat("the header is cut short, or too long")

    def skip_strings(self, count: int) -> None:
        """Pass over strings, each with its length in 8 bytes before it; vocabularies have many.

        Raises:
            NotThisFormat: the header ends before.
        """
        order = self._order
        for _ in range(count):
            start = self.position - self._window_at
            length = self._window[start : start + 8]
            if len(length) < 8:
                length = self.peek(8)
            self.position += 8 + int.from_bytes(length, order)
            if self.position > self._end:
                raise NotThisFormat("the header is cut short, or too long")
