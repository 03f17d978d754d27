"""Where the members of a zip file lie: its central directory, believed only where the local headers agree.

After PKWARE's APPNOTE 6.3.10. Two programs may see two different archives in one file: a directory that is
not the last one, a local header with another name, members that share bytes, junk in front that moves every
offset. Such files are refused, as are encrypted and split ones. Nothing is decompressed, and no checksum is
computed. Memory grows with the central directory, whose length is capped.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import NamedTuple

from coral_git.formats.base import MAX_TENSORS, NotThisFormat
from coral_git.limits import Limits
from coral_git.types import ByteSource

STORED = 0
"""The method of members that are not compressed."""

_END = struct.Struct("<4s4H2IH")
_END64 = struct.Struct("<4sQ2H2I4Q")
_LOCATOR = struct.Struct("<4sIQI")
_CENTRAL = struct.Struct("<4s6H3I5H2I")
_LOCAL = struct.Struct("<4s5H3I2H")
_CENTRAL_CRC_AT, _LOCAL_CRC_AT = 16, 14
_LONGEST_COMMENT = 0xFFFF
_MASK16, _MASK32 = 0xFFFF, 0xFFFFFFFF
_DESCRIPTOR_FLAG, _UTF8_FLAG = 1 << 3, 1 << 11
_KNOWN_FLAGS = _DESCRIPTOR_FLAG | _UTF8_FLAG | 0b110
"""The bits of encryption and of patches are not among them; bits 1 and 2 are hints about compression."""

_ZIP64, _OTHER_NAME = 1, 0x7075
_DESCRIPTORS = tuple(struct.Struct(form) for form in ("<4sIII", "<4sIQQ", "<III", "<IQQ"))
_DESCRIPTOR_SIGN = b"PK\7\b"


class ZipEntry(NamedTuple):
    """A member of a zip file.

    Attributes:
        name: its name.
        method: how it is compressed; ``STORED`` if it is not.
        offset: the byte of the file where its data begins.
        size: length of that data in the file.
        raw_size: length when it is decompressed, as the file claims.
        crc: CRC-32 of the decompressed data, as the file claims.
        crc_places: the bytes of the file where these 32 bits are written, little endian.
    """

    name: str
    method: int
    offset: int
    size: int
    raw_size: int
    crc: int
    crc_places: tuple[int, ...]


class _Record(NamedTuple):
    """What the central directory says of a member."""

    raw_name: bytes
    flags: int
    method: int
    crc: int
    size: int
    raw_size: int
    header: int
    crc_at: int


def read_zip(source: ByteSource, limits: Limits) -> tuple[ZipEntry, ...]:
    """The members of a zip file, in the order of their bytes.

    Raises:
        NotThisFormat: it is no zip file, or one that two programs might understand differently.
    """
    start, length, count = _directory(source)
    if length > limits.header_bytes or count > MAX_TENSORS:
        raise NotThisFormat("the central directory is too long")
    directory = source.read_at(start, length)
    records = sorted(_records(directory, start, count), key=lambda record: record.header)
    entries = []
    names: set[str] = set()
    end = 0
    for record in records:
        if record.header < end:
            raise NotThisFormat("members of the archive overlap")
        entry, end = _entry(source, record, start)
        if entry.name in names:
            raise NotThisFormat("two members have the same name")
        names.add(entry.name)
        entries.append(entry)
    return tuple(entries)


def _directory(source: ByteSource) -> tuple[int, int, int]:
    """Offset, length and number of entries of the central directory."""
    tail_at = max(source.size - _END.size - _LONGEST_COMMENT, 0)
    tail = source.read_at(tail_at, source.size - tail_at)
    places = [place for place in _occurrences(tail, b"PK\5\6") if _is_end(tail, place)]
    if len(places) != 1:
        raise NotThisFormat("the archive has no end, or two")
    end_at = tail_at + places[0]
    _, disk, first_disk, here, count, length, start, _ = _END.unpack_from(tail, places[0])
    if disk or first_disk or here != count:
        raise NotThisFormat("the archive is split")
    locator = source.read_at(end_at - _LOCATOR.size, _LOCATOR.size) if end_at >= _LOCATOR.size else b""
    if locator.startswith(b"PK\6\7"):
        found = _directory64(source, locator, end_at - _LOCATOR.size)
        for short, long, mask in zip((start, length, count), found, (_MASK32, _MASK32, _MASK16), strict=True):
            if short not in (long, mask):
                raise NotThisFormat("the two ends of the archive disagree")
        return found
    if start + length != end_at:
        raise NotThisFormat("the central directory is not where it should be")
    return start, length, count


def _occurrences(text: bytes, wanted: bytes) -> Iterator[int]:
    place = text.find(wanted)
    while place >= 0:
        yield place
        place = text.find(wanted, place + 1)


def _is_end(tail: bytes, place: int) -> bool:
    """Whether a record there would end with the file."""
    if place + _END.size > len(tail):
        return False
    return place + _END.size + int(_END.unpack_from(tail, place)[-1]) == len(tail)


def _directory64(source: ByteSource, locator: bytes, locator_at: int) -> tuple[int, int, int]:
    """The same from the record of large archives, which must lie right before its locator."""
    _, disk, place, disks = _LOCATOR.unpack(locator)
    record = source.read_at(place, _END64.size)
    if disk or disks > 1 or len(record) != _END64.size:
        raise NotThisFormat("the archive is split or cut short")
    sign, size, _, _, disk, first_disk, here, count, length, start = _END64.unpack(record)
    if sign != b"PK\6\6" or place + 12 + size != locator_at or disk or first_disk or here != count:
        raise NotThisFormat("the end of the archive is malformed")
    if start + length != place:
        raise NotThisFormat("the central directory is not where it should be")
    return start, length, count


def _records(directory: bytes, start: int, count: int) -> Iterator[_Record]:
    """The entries of the central directory."""
    position = 0
    for _ in range(count):
        if position + _CENTRAL.size > len(directory):
            raise NotThisFormat("the central directory is cut short")
        fields = _CENTRAL.unpack_from(directory, position)
        sign, _, _, flags, method, _, _, crc, size, raw_size, name_length, extra_length = fields[:12]
        comment_length, disk, _, _, header = fields[12:]
        name_at = position + _CENTRAL.size
        extra_at = name_at + name_length
        end = extra_at + extra_length + comment_length
        if sign != b"PK\1\2" or end > len(directory) or flags & ~_KNOWN_FLAGS:
            raise NotThisFormat("a member is malformed or encrypted")
        long = _long_sizes(directory[extra_at : extra_at + extra_length])
        raw_size, size, header = _lengthened((raw_size, size, header), long)
        if disk not in (0, _MASK16):
            raise NotThisFormat("the archive is split")
        name = directory[name_at:extra_at]
        yield _Record(name, flags, method, crc, size, raw_size, header, start + position + _CENTRAL_CRC_AT)
        position = end
    if position != len(directory):
        raise NotThisFormat("something follows the central directory")


def _long_sizes(extra: bytes) -> bytes | None:
    """The field for large files among the extra fields of a member."""
    long = None
    position = 0
    while position + 4 <= len(extra):
        kind, length = struct.unpack_from("<2H", extra, position)
        position += 4
        if position + length > len(extra) or kind == _OTHER_NAME or (kind == _ZIP64 and long is not None):
            raise NotThisFormat("the extra fields of a member are malformed, or rename it")
        if kind == _ZIP64:
            long = extra[position : position + length]
        position += length
    return long


def _lengthened(numbers: tuple[int, ...], long: bytes | None) -> tuple[int, ...]:
    """The numbers, each of them that does not fit into 32 bits from the field for large files."""
    result = []
    position = 0
    for number in numbers:
        if number == _MASK32 and long is not None:
            if position + 8 > len(long):
                raise NotThisFormat("the sizes of a member are cut short")
            result.append(int.from_bytes(long[position : position + 8], "little"))
            position += 8
        else:
            result.append(number)
    return tuple(result)


def _entry(source: ByteSource, record: _Record, limit: int) -> tuple[ZipEntry, int]:
    """A member, after a look at its local header, and where it ends with all that belongs to it."""
    fixed = source.read_at(record.header, _LOCAL.size)
    if len(fixed) != _LOCAL.size:
        raise NotThisFormat("a member lies outside the file")
    sign, _, flags, method, _, _, crc, size, raw_size, name_length, extra_length = _LOCAL.unpack(fixed)
    rest = source.read_at(record.header + _LOCAL.size, name_length + extra_length)
    raw_size, size = _lengthened((raw_size, size), _long_sizes(rest[name_length:]))
    told = (record.crc, record.size, record.raw_size)
    later = flags & _DESCRIPTOR_FLAG and (crc, size, raw_size) == (0, 0, 0)
    if sign != b"PK\3\4" or rest[:name_length] != record.raw_name:
        raise NotThisFormat("a member has another name in its own header")
    if (flags, method) != (record.flags, record.method) or ((crc, size, raw_size) != told and not later):
        raise NotThisFormat("a member says something else in its own header")
    if method == STORED and record.size != record.raw_size:
        raise NotThisFormat("a member has two lengths")
    offset = record.header + _LOCAL.size + name_length + extra_length
    end = offset + record.size
    places = [record.crc_at] if later else [record.header + _LOCAL_CRC_AT, record.crc_at]
    if end <= limit and flags & _DESCRIPTOR_FLAG:
        place, end = _descriptor(source, end, told)
        places.append(place)
    if end > limit:
        raise NotThisFormat("a member runs into the central directory")
    name = _name(record.raw_name, record.flags)
    return ZipEntry(
        name, method, offset, record.size, record.raw_size, record.crc, tuple(sorted(places))
    ), end


def _descriptor(source: ByteSource, place: int, told: tuple[int, int, int]) -> tuple[int, int]:
    """Where the checksum behind the data is, and where the record with it ends; it has four forms."""
    data = source.read_at(place, _DESCRIPTORS[1].size)
    for form in _DESCRIPTORS:
        if form.size <= len(data):
            fields = form.unpack_from(data)
            if fields[-3:] == told and (len(fields) == 3 or fields[0] == _DESCRIPTOR_SIGN):
                return place + 4 * (len(fields) - 3), place + form.size
    raise NotThisFormat("a member says something else behind its data")


def _name(raw: bytes, flags: int) -> str:
    if raw.isascii():
        return raw.decode("ascii")
    try:
        return raw.decode("utf-8" if flags & _UTF8_FLAG else "cp437")
    except UnicodeDecodeError as error:
        raise NotThisFormat("the name of a member is not UTF-8") from error
