"""The bytes of a pack: its header, entry headers, block tables and trailer (``docs/format/pack.md``)."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import NamedTuple

import xxhash

from coral_git.errors import FormatVersionError, IntegrityError
from coral_git.limits import Limits
from coral_git.store.location import Location
from coral_git.types import Buffer, Element, ObjectId, PackId

PACK_VERSION = 1
PACK_MAGIC = b"CORALPCK"
ENTRY_MAGIC = b"CORALOBJ"
END_MAGIC = b"CORALEND"
PACK_HEADER = PACK_MAGIC + struct.pack("<II", PACK_VERSION, 0)
PACK_HEADER_LENGTH = 16
ENTRY_HEADER_LENGTH = 128
TRAILER_LENGTH = 16
TABLE_ROW_LENGTH = 12
MAX_BLOCKS = 1 << 16
MAX_BLOCK_SIZE = 1 << 23
NO_BASE = bytes(32)

_ENTRY = struct.Struct("<8sBBBBI32sQ32sQIIQQ")
_ROW = struct.Struct("<IQ")
_U64 = struct.Struct("<Q")
_TRAILER = struct.Struct("<8sII")


class EntryHeader(NamedTuple):
    """The header of one entry.

    Attributes:
        object_id: BLAKE3-256 of the raw bytes.
        codec: id of the codec.
        element: how the codec saw the units.
        base: the object this is a delta against, or None.
        base_element: how the codec saw the units of the base.
        base_offset: the byte of the base that the first raw byte faces.
        raw_length: bytes of the object.
        block_size: raw bytes of a block.
        block_count: number of blocks.
        payload_length: bytes of block table and blocks.
        table_checksum: xxh3-64 of the block table.
    """

    object_id: ObjectId
    codec: int
    element: Element
    base: ObjectId | None
    base_element: Element
    base_offset: int
    raw_length: int
    block_size: int
    block_count: int
    payload_length: int
    table_checksum: int

    @property
    def entry_length(self) -> int:
        """Bytes of the whole entry."""
        return ENTRY_HEADER_LENGTH + self.payload_length

    def raw_block_length(self, number: int) -> int:
        """Raw bytes of a block."""
        return min(self.block_size, self.raw_length - number * self.block_size)


def max_raw_length(limits: Limits) -> int:
    """The longest object there can be."""
    return max(limits.part_bytes, limits.table_bytes)


def block_count_of(raw_length: int, block_size: int) -> int:
    """How many blocks an object of this length has."""
    return -(-raw_length // block_size) if block_size else 0


def encode_entry_header(header: EntryHeader) -> bytes:
    """The 128 bytes of an entry header."""
    body = _ENTRY.pack(
        ENTRY_MAGIC,
        header.codec,
        header.element,
        header.base_element,
        0,
        header.block_size,
        header.object_id,
        header.raw_length,
        header.base or NO_BASE,
        header.base_offset,
        header.block_count,
        0,
        header.payload_length,
        header.table_checksum,
    )
    return body + _U64.pack(xxhash.xxh3_64_intdigest(body))


def decode_entry_header(data: Buffer, limits: Limits) -> EntryHeader:
    """Parse and check the 128 bytes of an entry header.

    Raises:
        IntegrityError: they are damaged, or declare what no writer writes.
    """
    if len(data) < ENTRY_HEADER_LENGTH:
        raise IntegrityError("a pack entry is cut short")
    body = bytes(data[: ENTRY_HEADER_LENGTH - 8])
    checksum = _U64.unpack_from(data, ENTRY_HEADER_LENGTH - 8)[0]
    (magic, codec, element, base_element, flags, block_size, object_id, raw_length, base, base_offset) = (
        fields := _ENTRY.unpack(body)
    )[:10]
    block_count, reserved, payload_length, table_checksum = fields[10:]
    if magic != ENTRY_MAGIC or checksum != xxhash.xxh3_64_intdigest(body):
        raise IntegrityError("the header of a pack entry is damaged")
    if flags or reserved or element not in _ELEMENTS or base_element not in _ELEMENTS:
        raise IntegrityError(f"object '{object_id.hex()}' has a header with unknown fields")
    if raw_length > max_raw_length(limits):
        raise IntegrityError(
            f"object '{object_id.hex()}' declares {raw_length} bytes, more than any object has"
        )
    has_base = base != NO_BASE
    if (
        (raw_length and not block_size)
        or block_size > MAX_BLOCK_SIZE
        or block_count > MAX_BLOCKS
        or block_count != block_count_of(raw_length, block_size)
        or payload_length < block_count * TABLE_ROW_LENGTH
        or (not has_base and (base_offset or base_element))
    ):
        raise IntegrityError(f"object '{object_id.hex()}' has a header that contradicts itself")
    return EntryHeader(
        object_id=ObjectId(object_id),
        codec=codec,
        element=Element(element),
        base=ObjectId(base) if has_base else None,
        base_element=Element(base_element),
        base_offset=base_offset,
        raw_length=raw_length,
        block_size=block_size,
        block_count=block_count,
        payload_length=payload_length,
        table_checksum=table_checksum,
    )


_ELEMENTS = frozenset(int(element) for element in Element)


def checksum_pieces(pieces: Sequence[Buffer]) -> int:
    """xxh3-64 of pieces as if they were joined."""
    if len(pieces) == 1:
        return xxhash.xxh3_64_intdigest(pieces[0])
    state = xxhash.xxh3_64()
    for piece in pieces:
        state.update(piece)
    return state.intdigest()


def encode_table(rows: Sequence[tuple[int, int]]) -> bytes:
    """A block table from (stored length, xxh3-64) of each block."""
    return b"".join([_ROW.pack(length, checksum) for length, checksum in rows])


def decode_table(header: EntryHeader, table: Buffer) -> list[tuple[int, int]]:
    """The (stored length, xxh3-64) of each block.

    Raises:
        IntegrityError: the table is damaged or does not add up.
    """
    damaged = IntegrityError(f"the block table of object '{header.object_id.hex()}' is damaged")
    if len(table) != header.block_count * TABLE_ROW_LENGTH:
        raise damaged
    if xxhash.xxh3_64_intdigest(table) != header.table_checksum:
        raise damaged
    rows = list(_ROW.iter_unpack(table))
    if sum(length for length, _ in rows) + len(table) != header.payload_length:
        raise damaged
    return rows


def encode_trailer(count: int) -> bytes:
    """The last 16 bytes of a pack."""
    return _TRAILER.pack(END_MAGIC, count, 0)


def decode_trailer(data: Buffer) -> int:
    """The number of entries that the last 16 bytes of a pack declare.

    Raises:
        IntegrityError: they are no trailer.
    """
    if len(data) != TRAILER_LENGTH:
        raise IntegrityError("a pack is cut short")
    magic, count, reserved = _TRAILER.unpack(data)
    if magic != END_MAGIC or reserved:
        raise IntegrityError("a pack has no trailer")
    return int(count)


def check_pack_header(data: Buffer) -> None:
    """Check the first 16 bytes of a pack.

    Raises:
        IntegrityError: they are no pack header.
        FormatVersionError: a newer version wrote them.
    """
    if bytes(data) == PACK_HEADER:
        return
    if len(data) != PACK_HEADER_LENGTH or bytes(data[:8]) != PACK_MAGIC:
        raise IntegrityError("a file that should be a pack is none")
    version, reserved = struct.unpack_from("<II", data, 8)
    if version > PACK_VERSION and not reserved:
        raise FormatVersionError(
            f"a pack has version {version}; this program knows version {PACK_VERSION}",
            hint="install a newer coral-git",
        )
    raise IntegrityError("the header of a pack is damaged")


def table_digest(table: Buffer) -> int:
    """The checksum of a block table."""
    return int(xxhash.xxh3_64_intdigest(table))


def locate_entry(header: EntryHeader, pack: PackId, offset: int) -> Location:
    """The location that an entry header stands for."""
    return Location(
        object_id=header.object_id,
        pack=pack,
        offset=offset,
        entry_length=header.entry_length,
        raw_length=header.raw_length,
        base=header.base,
        codec=header.codec,
        element=header.element,
    )
