"""Readers and assemblers by the names of their modules, which are imported when a file needs them."""

from __future__ import annotations

from functools import cache
from importlib import import_module
from typing import NamedTuple, cast

from coral_git.formats.base import FormatReader, Layout
from coral_git.limits import Limits
from coral_git.types import ByteSource


@cache
def make(place: str) -> object:
    """The one object of a class of this package.

    Args:
        place: ``module:Class``.
    """
    module, _, class_name = place.partition(":")
    made: object = getattr(import_module(f"coral_git.formats.{module}"), class_name)()
    return made


class LateReader(NamedTuple):
    """A reader whose module is imported when a file begins as those of its format do.

    Attributes:
        name: the name of the reader.
        place: its module and class, ``module:Class``.
        signs: what is at ``sign_at`` in all files of the format: one of these; anything by default.
        sign_at: a byte of the file.
    """

    name: str
    place: str
    signs: tuple[bytes, ...] = (b"",)
    sign_at: int = 0

    @property
    def version(self) -> int:
        """The version of the reader."""
        return self._reader().version

    def sniff(self, head: bytes, size: int) -> bool:
        """Whether the sign is there, and the reader thinks so, too."""
        return head.startswith(self.signs, self.sign_at) and self._reader().sniff(head, size)

    def layout(self, source: ByteSource, limits: Limits) -> Layout:
        """What the reader says."""
        return self._reader().layout(source, limits)

    def _reader(self) -> FormatReader:
        return cast("FormatReader", make(self.place))
