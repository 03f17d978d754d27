"""Object headers of HDF5: the messages that say what an object is."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from enum import IntEnum
from typing import NamedTuple

from coral_git.formats.base import NotThisFormat
from coral_git.formats.hdf5_file import Hdf5File

_PREFIX = 16
_MESSAGE, _NEW_MESSAGE = struct.Struct("<HHB3x"), struct.Struct("<BHB")
_SHARED = 0x02
_TIMES = 0x20
_PHASE_CHANGE = 0x10
_CREATION_ORDER = 0x04


class Kind(IntEnum):
    """The types of messages that matter here."""

    DATASPACE = 0x01
    LINK_INFO = 0x02
    DATATYPE = 0x03
    LINK = 0x06
    EXTERNAL_FILES = 0x07
    LAYOUT = 0x08
    FILTERS = 0x0B
    CONTINUATION = 0x10
    SYMBOL_TABLE = 0x11


_KINDS = frozenset(Kind)


class Message(NamedTuple):
    """A message of an object header.

    Attributes:
        kind: its type.
        is_shared: the data only say where the message is.
        data: its bytes.
    """

    kind: Kind
    is_shared: bool
    data: bytes


def read_messages(file: Hdf5File, address: int) -> list[Message]:
    """The messages of the object whose header is at ``address``, in their order, continuations included.

    Raises:
        NotThisFormat: there is no object header, or its blocks form a circle.
    """
    fields = file.read(address, _PREFIX)
    if fields.take(1) == b"\x01":
        fields.take(7)
        order_size, signature = 0, b""
        blocks = [(address + _PREFIX, fields.integer(4))]
        is_new = False
    else:
        prefix, length, order_size = _read_new_prefix(file, address)
        blocks = [(address + prefix, length)]
        signature = b"OCHK"
        is_new = True
    found = []
    seen: set[int] = set()
    while blocks:
        start, length = blocks.pop()
        if start in seen:
            raise NotThisFormat("an object header runs in circles")
        fields = file.read(start, length)
        if seen:
            fields.expect(signature)
        seen.add(start)
        for message in _messages(file, fields.take(fields.left), is_new, order_size):
            if message.kind == Kind.CONTINUATION:
                blocks.append(_continuation(file, message, is_new))
            else:
                found.append(message)
    return found


def _read_new_prefix(file: Hdf5File, address: int) -> tuple[int, int, int]:
    """Of a header of version 2: bytes of the prefix and of the first block, bytes of a creation order."""
    fields = file.read(address, 6)
    fields.expect(b"OHDR\x02")
    flags = fields.integer(1)
    optional = (16 if flags & _TIMES else 0) + (4 if flags & _PHASE_CHANGE else 0)
    width = 1 << (flags & 3)
    length = file.read(address + 6 + optional, width).integer(width)
    return 6 + optional + width, length, 2 if flags & _CREATION_ORDER else 0


def _continuation(file: Hdf5File, message: Message, is_new: bool) -> tuple[int, int]:
    """Where a header goes on, without the checksum at the end."""
    fields = file.fields(message.data)
    start = fields.address()
    length = fields.length() - (4 if is_new else 0)
    if start is None or length < 0:
        raise NotThisFormat("an object header goes on nowhere")
    return start, length


def _messages(file: Hdf5File, block: bytes, is_new: bool, order_size: int) -> Iterator[Message]:
    """The messages of one block; what is too short for another one at its end is a gap."""
    head = _NEW_MESSAGE if is_new else _MESSAGE
    at, skipped = 0, head.size + order_size
    while at + skipped <= len(block):
        file.count()
        kind, length, flags = head.unpack_from(block, at)
        at += skipped + length
        if at > len(block):
            raise NotThisFormat("a message is cut short")
        if kind in _KINDS:
            yield Message(Kind(kind), bool(flags & _SHARED), block[at - length : at])
