"""The fields of Protocol Buffers messages, one after the other, without any schema.

https://protobuf.dev/programming-guides/encoding/. Groups, which no format here has, are refused, and so are
numbers of more than 64 bits. A message is walked over only where somebody asks for its fields: those inside
the others cost one step each, whatever their length.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from coral_git.formats.base import NotThisFormat
from coral_git.formats.page import Page

VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5
"""The wire types."""

_MAX_VARINT = 10


class Field(NamedTuple):
    """A field of a message.

    Attributes:
        number: its number in the schema.
        wire: its wire type.
        value: the number of a varint; for the others, the byte of the file it starts at.
        end: the byte behind it.
    """

    number: int
    wire: int
    value: int
    end: int


class Wire(Page):
    """A file of Protocol Buffers."""

    def fields(self, start: int, end: int) -> Iterator[Field]:
        """The fields of the message between two bytes of the file.

        Raises:
            NotThisFormat: it is malformed, or there are too many fields.
        """
        position = start
        while position < end:
            self.count()
            key, position = self._varint(position)
            number, wire = key >> 3, key & 7
            value = position
            if wire == VARINT:
                value, position = self._varint(position)
            elif wire == BYTES:
                length, value = self._varint(position)
                position = value + length
            elif wire == FIXED32:
                position += 4
            elif wire == FIXED64:
                position += 8
            else:
                raise NotThisFormat("a field has an unknown wire type")
            if not number or position > end:
                raise NotThisFormat("a field has the number 0, or exceeds its message")
            yield Field(number, wire, value, position)

    def message(self, field: Field) -> Iterator[Field]:
        """The fields of the message that a field is.

        Raises:
            NotThisFormat: the field is none, or malformed.
        """
        self._require_bytes(field)
        return self.fields(field.value, field.end)

    def string(self, field: Field) -> str:
        """A field as text, cut where it is longer than a name may be.

        Raises:
            NotThisFormat: the field is none.
        """
        self._require_bytes(field)
        return self.text(field.value, field.end - field.value)

    def number(self, field: Field) -> int:
        """A field as a number.

        Raises:
            NotThisFormat: the field is none.
        """
        if field.wire != VARINT:
            raise NotThisFormat("a field has another wire type")
        return field.value

    def numbers(self, field: Field) -> Iterator[int]:
        """A repeated field of varints, packed or not.

        Raises:
            NotThisFormat: it is something else.
        """
        if field.wire == VARINT:
            yield field.value
            return
        self._require_bytes(field)
        position = field.value
        while position < field.end:
            self.count()
            value, position = self._varint(position)
            if position > field.end:
                raise NotThisFormat("a number exceeds its field")
            yield value

    def _require_bytes(self, field: Field) -> None:
        if field.wire != BYTES:
            raise NotThisFormat("a field has another wire type")

    def _varint(self, position: int) -> tuple[int, int]:
        """A number and the byte behind it."""
        start = position - self._page_at
        page = self._page
        byte = page[start] if 0 <= start < len(page) else self.take(position, 1)[0]  # the usual case, fast
        position += 1
        if byte < 0x80:
            return byte, position
        value = byte & 0x7F
        for shift in range(7, 7 * _MAX_VARINT, 7):
            byte = self.take(position, 1)[0]
            position += 1
            value |= (byte & 0x7F) << shift
            if byte < 0x80:
                if value >> 64:
                    break
                return value, position
        raise NotThisFormat("a number has more than 64 bits")
