"""What the store says about an object and about a pack."""

from __future__ import annotations

from typing import NamedTuple

from coral_git.types import Element, ObjectId, PackId


class Location(NamedTuple):
    """Where an encoded object lies.

    Attributes:
        object_id: the object.
        pack: the pack that holds the entry.
        offset: first byte of the entry in the pack.
        entry_length: bytes of the entry, header and block table included.
        raw_length: bytes of the object.
        base: the object it is a delta against, or None for a full copy.
        codec: id of the codec, known to this program or not.
        element: how the codec saw the units.
    """

    object_id: ObjectId
    pack: PackId
    offset: int
    entry_length: int
    raw_length: int
    base: ObjectId | None
    codec: int
    element: Element


class PackInfo(NamedTuple):
    """One pack on disk.

    Attributes:
        id: SHA-256 of its bytes.
        path: its file.
        size: length in bytes.
        mtime: seconds since the epoch; gc reads it as "last wanted".
    """

    id: PackId
    path: str
    size: int
    mtime: float
