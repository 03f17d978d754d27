"""What a zip file holds and where: its central directory, checked against its local headers.

After PKWARE's APPNOTE 6.3.10 (https://pkware.cachefly.net/webdocs/casestudies/APPNOTE.TXT), sections 4.3 and
4.5.3. Nothing is decompressed. This reader takes fewer files than most: the directory must end where the
end records begin, nothing may follow them, entries may not overlap, and every local header must say what the
directory says. Whatever two programs might understand differently is refused.
"""

from __future__ import annotations

import struct
from typing import NamedTuple

from coral_git.formats.base import MAX_TENSORS, NotThisFormat
from coral_git.limits import Limits
from coral_git.types import ByteSource

LOCAL_MAGIC = b"PK\x03\x04"
"""How a local header begins, and so every zip file that has entries."""

DESCRIPTOR_MAGIC = b"PK\x07\x08"
"""How a data descriptor begins."""

STORED = 0
"""The method of entries that are not compressed."""

HAS_DESCRIPTOR = 1 << 3
"""The flag of entries whose CRC and lengths follow their data."""

LOCAL = struct.Struct("<4s5H3L2H")
"""Magic, version, flags, method, time, date, CRC, stored bytes, bytes, lengths of name and extra."""

CENTRAL = struct.Struct("<4s6H3L5H2L")
"""Magic, two versions, then as above; length of the comment, disk, attributes, place of the local header."""

END = struct.Struct("<4s4H2LH")
"""Magic, two disks, entries here and in all, bytes and place of the directory, length of the comment."""

END64 = struct.Struct("<4sQ2H2L4Q")
"""Magic, length of what follows, two versions, and the fields of ``END`` in more bits."""

LOCATOR = struct.Struct("<4sLQL")
"""Magic, disk, place of ``END64``, disks."""

ZIP64_EXTRA = 1
"""The extra field with the lengths that do not fit 32 bits."""

MAX16 = 0xFFFF
MAX32 = 0xFFFFFFFF
_ENCRYPTED = 1 | 1 << 6 | 1 << 13


class ZipEntry(NamedTuple):
    """An entry of a zip file.

    Attributes:
        name: its name.
        flags: its flags.
        method: how it is compressed; 0 for not at all.
        stored: the bytes it takes in the file.
        length: its bytes when it is decompressed.
        header: the byte of the file at which its local header begins.
        offset: the byte of the file at which its data begin.
        central: the byte of the file at which its record in the directory begins.
    """

    name: str
    flags: int
    method: int
    stored: int
    length: int
    header: int
    offset: int
    central: int

    @property
    def end(self) -> int:
        """The byte behind its data."""
        return self.offset + self.stored


def read_zip(source: ByteSource, limits: Limits) -> list[ZipEntry]:
    """The entries of a zip file, in the order of their data. Memory is the directory and what it says.

    Raises:
        NotThisFormat: it is no zip file, a damaged one, or one that could be understood in two ways.
    """
    start, length, count = _find_directory(source)
    if length > limits.header_bytes or count > MAX_TENSORS or length < count * CENTRAL.size:
        raise NotThisFormat("the directory has an impossible length")
    directory = source.read_at(start, length)
    if len(directory) != length:
        raise NotThisFormat("the file is cut short")
    entries = []
    position = 0
    for _ in range(count):
        entry, position = _central_entry(directory, position, start)
        entries.append(_with_local_header(source, entry))
    if position != length:
        raise NotThisFormat("the directory has another length than it says")
    if len({entry.name for entry in entries}) != count:
        raise NotThisFormat("two entries have the same name")
    entries.sort(key=lambda entry: entry.header)
    for entry, following in zip(entries, [*(entry.header for entry in entries[1:]), start], strict=False):
        if entry.end > following:
            raise NotThisFormat("entries overlap")
    return entries


def read_entry(source: ByteSource, entry: ZipEntry, most: int) -> bytes:
    """The bytes of an entry.

    Raises:
        NotThisFormat: it is compressed, or longer than ``most`` bytes.
    """
    if entry.method != STORED or entry.length > most:
        raise NotThisFormat("an entry is compressed or too long")
    data = source.read_at(entry.offset, entry.length)
    if len(data) != entry.length:
        raise NotThisFormat("the file is cut short")
    return data


def _find_directory(source: ByteSource) -> tuple[int, int, int]:
    """Where the directory begins, its bytes, and its entries."""
    end = source.size - END.size
    tail = source.read_at(max(end, 0), END.size)
    if end < 0 or len(tail) != END.size or tail[:4] != b"PK\x05\x06":
        raise NotThisFormat("the file does not end as a zip file")
    _, disk, first_disk, here, count, length, start, comment = END.unpack(tail)
    if disk not in (0, MAX16) or first_disk not in (0, MAX16) or here != count or comment:
        raise NotThisFormat("the end of the zip file is odd")
    locator = source.read_at(max(end - LOCATOR.size, 0), LOCATOR.size)
    if locator[:4] == b"PK\x06\x07":
        end, wide = _read_end64(source, end, locator)
        for short, value, most in zip((start, length, count), wide, (MAX32, MAX32, MAX16), strict=True):
            if short not in (value, most):
                raise NotThisFormat("the two ends of the zip file differ")
        start, length, count = wide
    if start + length != end:
        raise NotThisFormat("something lies before the zip file or behind its directory")
    return start, length, count


def _read_end64(source: ByteSource, end: int, locator: bytes) -> tuple[int, tuple[int, int, int]]:
    """Where the 64-bit end record begins, and what it says of place, bytes and entries of the directory."""
    _, disk, place, disks = LOCATOR.unpack(locator)
    record = source.read_at(place, END64.size) if place + END64.size + LOCATOR.size == end else b""
    if len(record) != END64.size or record[:4] != b"PK\x06\x06" or disk or disks != 1:
        raise NotThisFormat("the end of the zip file is odd")
    _, following, _, _, disk, first_disk, here, count, length, start = END64.unpack(record)
    if following != END64.size - 12 or disk or first_disk or here != count:
        raise NotThisFormat("the end of the zip file is odd")
    return place, (start, length, count)


def _central_entry(directory: bytes, position: int, start: int) -> tuple[ZipEntry, int]:
    """The entry whose record is at ``position``, its data not found yet, and where the next record is."""
    if len(directory) - position < CENTRAL.size:
        raise NotThisFormat("the directory is cut short")
    fields = CENTRAL.unpack_from(directory, position)
    magic, _, _, flags, method, _, _, _, stored, length, name_length, extra_length, comment, *rest = fields
    if magic != b"PK\x01\x02" or flags & _ENCRYPTED or comment:
        raise NotThisFormat("an entry is odd")
    name_end = position + CENTRAL.size + name_length
    name = directory[position + CENTRAL.size : name_end]
    end = name_end + extra_length
    if end > len(directory):
        raise NotThisFormat("the directory is cut short")
    header = rest[-1]
    wide = _zip64_values(directory[name_end:end])
    length, wide = (wide[0], wide[1:]) if length == MAX32 and wide else (length, wide)
    stored, wide = (wide[0], wide[1:]) if stored == MAX32 and wide else (stored, wide)
    header, wide = (wide[0], wide[1:]) if header == MAX32 and wide else (header, wide)
    if header >= start or (method == STORED and stored != length):
        raise NotThisFormat("an entry is odd")
    text = _decode(name)
    return ZipEntry(text, flags, method, stored, length, header, header, start + position), end


def _zip64_values(extra: bytes) -> tuple[int, ...]:
    """The numbers of 64 bits in the first such extra field; ``()`` where there is none."""
    position = 0
    while len(extra) - position >= 4:
        kind, length = struct.unpack_from("<HH", extra, position)
        position += 4
        if kind == ZIP64_EXTRA:
            count = min(length, len(extra) - position) // 8
            return struct.unpack_from(f"<{count}Q", extra, position)
        position += length
    return ()


def _decode(name: bytes) -> str:
    try:
        return name.decode()
    except UnicodeDecodeError as error:
        raise NotThisFormat("the name of an entry is not UTF-8") from error


def _with_local_header(source: ByteSource, entry: ZipEntry) -> ZipEntry:
    """The entry with the place of its data, after its local header has said the same as the directory."""
    name = entry.name.encode()
    header = source.read_at(entry.header, LOCAL.size + len(name))
    if len(header) != LOCAL.size + len(name):
        raise NotThisFormat("the file is cut short")
    magic, _, flags, method, _, _, _, stored, length, name_length, extra = LOCAL.unpack_from(header)
    if magic != LOCAL_MAGIC or header[LOCAL.size :] != name or name_length != len(name):
        raise NotThisFormat("an entry is elsewhere than the directory says")
    unknown = (MAX32, 0) if flags & HAS_DESCRIPTOR else (MAX32,)
    same = stored in (entry.stored, *unknown) and length in (entry.length, *unknown)
    if not same or (flags, method) != (entry.flags, entry.method):
        raise NotThisFormat("an entry is another than the directory says")
    return entry._replace(offset=entry.header + LOCAL.size + name_length + extra)
