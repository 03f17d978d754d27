"""Tables and vectors of FlatBuffers, read where they lie.

https://flatbuffers.dev/internals/. Whatever an offset points to is looked at once for each time it is asked
for; offsets may share a target or lie, but never lead outside the file.
"""

from __future__ import annotations

from coral_git.formats.base import NotThisFormat
from coral_git.formats.page import Page

IDENTIFIER_AT = 4
"""Where the four letters are that say what the root table is."""


class FlatBuffer(Page):
    """A file that begins with a FlatBuffer."""

    def root(self) -> int:
        """The root table."""
        return self.follow(0)

    def number(self, at: int, width: int) -> int:
        """The unsigned number of ``width`` bytes at a place."""
        return int.from_bytes(self.take(at, width), "little")

    def follow(self, at: int) -> int:
        """The place that the offset at another one points to."""
        return at + self.number(at, 4)

    def field(self, table: int, index: int) -> int | None:
        """The place of a field of a table, by its number in the schema; None where it is not set.

        Raises:
            NotThisFormat: the table lies outside the file, or there were too many fields.
        """
        self.count()
        vtable = table - int.from_bytes(self.take(table, 4), "little", signed=True)
        entry = 4 + 2 * index
        if entry + 2 > self.number(vtable, 2):
            return None
        offset = self.number(vtable + entry, 2)
        return table + offset if offset else None

    def scalar(self, table: int, index: int, width: int) -> int:
        """An unsigned number in a table; 0 where it is not set."""
        at = self.field(table, index)
        return 0 if at is None else self.number(at, width)

    def vector(self, table: int, index: int, width: int) -> tuple[int, int]:
        """Where a vector in a table begins and how many elements of ``width`` bytes it has.

        Raises:
            NotThisFormat: it exceeds the file.
        """
        at = self.field(table, index)
        if at is None:
            return 0, 0
        start = self.follow(at)
        count = self.number(start, 4)
        start += 4
        if start + width * count > self.size:
            raise NotThisFormat("a vector exceeds the file")
        return start, count

    def string(self, table: int, index: int) -> str:
        """A text in a table, cut where it is longer than a name may be."""
        return self.text(*self.vector(table, index, 1))
