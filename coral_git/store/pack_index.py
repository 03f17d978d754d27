"""The bytes of a pack index (``docs/format/pack-index.md``)."""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Iterable, Sequence

from coral_git.errors import FormatVersionError, IntegrityError
from coral_git.store.location import Location
from coral_git.store.pack_format import NO_BASE, PACK_HEADER_LENGTH, TRAILER_LENGTH
from coral_git.types import Element, ObjectId, PackId

INDEX_VERSION = 1
INDEX_MAGIC = b"CORALIDX"
DIGEST_LENGTH = 32

_HEADER = struct.Struct("<8sII32s")
_FANOUT = struct.Struct("<256I")
_RECORD = struct.Struct("<32sQQQ32sBB6s")
_ZEROS = bytes(6)
_MOST = (1 << 63) - 1
_FIXED = _HEADER.size + _FANOUT.size + DIGEST_LENGTH
_ELEMENTS = {int(element): element for element in Element}


def index_length(count: int) -> int:
    """Bytes of an index with this many records."""
    return _FIXED + count * _RECORD.size


def encode_index(pack: PackId, locations: Iterable[Location]) -> bytes:
    """The index of a pack from the locations of all its entries, in any order."""
    ordered = sorted(locations, key=lambda location: location.object_id)
    parts = [_HEADER.pack(INDEX_MAGIC, INDEX_VERSION, len(ordered), pack), _FANOUT.pack(*_fanout(ordered))]
    parts += [
        _RECORD.pack(
            location.object_id,
            location.offset,
            location.entry_length,
            location.raw_length,
            location.base or NO_BASE,
            location.codec,
            location.element,
            _ZEROS,
        )
        for location in ordered
    ]
    body = b"".join(parts)
    return body + hashlib.sha256(body).digest()


def decode_index(data: bytes, pack: PackId, pack_size: int | None = None) -> list[Location]:
    """Parse and check an index; the locations come back in the order of their ids.

    Args:
        data: all bytes of the index.
        pack: the pack it has to belong to.
        pack_size: length of that pack where it is known; the entries must fill it.

    Raises:
        IntegrityError: it is damaged, or belongs to another pack.
        FormatVersionError: a newer version wrote it.
    """
    damaged = IntegrityError(f"the index of pack '{pack.hex()}' is damaged")
    if len(data) < _FIXED:
        raise damaged
    magic, version, count, named = _HEADER.unpack_from(data)
    if magic != INDEX_MAGIC or data[-DIGEST_LENGTH:] != hashlib.sha256(data[:-DIGEST_LENGTH]).digest():
        raise damaged
    if version != INDEX_VERSION:
        raise FormatVersionError(f"the index of pack '{pack.hex()}' has version {version}")
    if named != pack or len(data) != index_length(count):
        raise damaged
    locations = _decode_records(data[_HEADER.size + _FANOUT.size : -DIGEST_LENGTH], pack)
    if locations is None or list(_FANOUT.unpack_from(data, _HEADER.size)) != _fanout(locations):
        raise damaged
    if not _fills(locations, pack_size):
        raise damaged
    return locations


def _decode_records(data: bytes, pack: PackId) -> list[Location] | None:
    locations = []
    previous = b""
    for object_id, offset, length, raw_length, base, codec, element, zeros in _RECORD.iter_unpack(data):
        if object_id <= previous or zeros != _ZEROS or element not in _ELEMENTS or raw_length > _MOST:
            return None
        previous = object_id
        named = ObjectId(base) if base != NO_BASE else None
        kind = _ELEMENTS[element]
        locations.append(Location(ObjectId(object_id), pack, offset, length, raw_length, named, codec, kind))
    return locations


def _fanout(ordered: Sequence[Location]) -> list[int]:
    counts = [0] * 256
    for location in ordered:
        counts[location.object_id[0]] += 1
    total = 0
    for first, count in enumerate(counts):
        total += count
        counts[first] = total
    return counts


def _fills(locations: Sequence[Location], pack_size: int | None) -> bool:
    """Whether the entries lie back to back between the header and the trailer of the pack."""
    end = PACK_HEADER_LENGTH
    for offset, length in sorted((location.offset, location.entry_length) for location in locations):
        if offset != end:
            return False
        end += length
    return pack_size is None or end + TRAILER_LENGTH == pack_size
