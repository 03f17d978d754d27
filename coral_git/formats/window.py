"""A part of a file, seen as a file: a member of an archive, or what follows a block in front."""

from __future__ import annotations

from typing import NamedTuple

from coral_git.types import ByteSource


class Window(NamedTuple):
    """A byte source over a range of another one.

    Attributes:
        source: the whole.
        offset: the byte of it that is byte 0 here.
        size: length in bytes; the range lies within the whole.
    """

    source: ByteSource
    offset: int
    size: int

    def read_at(self, offset: int, length: int) -> bytes:
        """The bytes from ``offset``; fewer than ``length`` only at the end."""
        return self.source.read_at(self.offset + offset, max(0, min(length, self.size - offset)))
