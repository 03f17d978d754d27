"""Random access to the index of a file, of which only a page is in memory."""

from __future__ import annotations

from coral_git.formats.base import NotThisFormat
from coral_git.limits import KIB, Limits
from coral_git.types import ByteSource

_PAGE = 4 * KIB


class Page:
    """A file that is read in small pieces, many of them close to each other.

    Args:
        source: the file.
        limits: the caps; no more fields are counted than they allow.
    """

    def __init__(self, source: ByteSource, limits: Limits) -> None:
        self.size = source.size
        self._source = source
        self._page = b""
        self._page_at = 0
        self._fields_left = limits.header_fields
        self._name_bytes = limits.name_bytes

    def take(self, offset: int, length: int) -> bytes:
        """The bytes from ``offset``, a few KiB at most.

        Raises:
            NotThisFormat: the file ends before, or begins after.
        """
        start = offset - self._page_at
        if start < 0 or start + length > len(self._page):
            if not 0 <= offset <= self.size - length:
                raise NotThisFormat("something lies outside the file")
            self._page = self._source.read_at(offset, max(length, _PAGE))
            self._page_at, start = offset, 0
            if len(self._page) < length:
                raise NotThisFormat("the file is cut short")
        return self._page[start : start + length]

    def text(self, offset: int, length: int) -> str:
        """A name, or as much of its beginning as names may have; what is not UTF-8 is replaced.

        Raises:
            NotThisFormat: the file ends before.
        """
        return self.take(offset, min(length, self._name_bytes)).decode("utf-8", "replace")

    def count(self) -> None:
        """Note that one more field is looked at.

        Raises:
            NotThisFormat: that is one too many.
        """
        self._fields_left -= 1
        if self._fields_left < 0:
            raise NotThisFormat("the index has too many fields")
