"""Decoding objects from packs."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import xxhash
from blake3 import blake3

from coral_git.codecs.base import Codec
from coral_git.codecs.facing import base_window, can_face, face
from coral_git.errors import CoralError, IntegrityError, PolicyError
from coral_git.limits import Limits
from coral_git.store.location import Location
from coral_git.store.pack_files import PackFile
from coral_git.store.pack_format import (
    ENTRY_HEADER_LENGTH,
    TABLE_ROW_LENGTH,
    EntryHeader,
    decode_entry_header,
    decode_table,
    locate_entry,
)
from coral_git.types import Buffer, Element, ObjectId, PackId

_HEAD_LENGTH = 16 << 10
"""Read at once with the header, so that a small object costs one system call."""

_FSCK = "run 'git coral fsck'"

# What a reader keeps of the blocks that it has decoded. A delta asks its base for one window after another.
# Where windows overlap, keeping the whole last one decodes every block of a chain once; less would be
# exponential in its depth. Where they do not, keeping nothing lets the next level decode into memory that is
# in the cache of the processor.
_LAST_BLOCK, _WINDOW, _NOTHING = range(3)


class DamagedEntry(IntegrityError):
    """The header or block table at a location is not what it should be.

    Attributes:
        location: the location that was tried.
    """

    def __init__(self, location: Location, reason: str) -> None:
        super().__init__(
            f"cannot read object '{location.object_id.hex()}' in pack '{location.pack.hex()}': {reason}",
            hint=_FSCK,
        )
        self.location = location


class Entry:
    """One entry of a pack with its header and block table read and checked.

    Args:
        file: the pack.
        location: what the index says.
        limits: the caps.

    Attributes:
        file: the pack.
        header: the checked header.
        rows: stored length and checksum of each block.

    Raises:
        DamagedEntry: header or table are damaged, or are not those of the location.
    """

    __slots__ = ("_head", "_location", "_starts", "file", "header", "rows")

    def __init__(self, file: PackFile, location: Location, limits: Limits) -> None:
        self.file = file
        self._location = location
        try:
            head = file.read_up_to(location.offset, min(location.entry_length, _HEAD_LENGTH))
            self.header = decode_entry_header(head, limits)
            if locate_entry(self.header, location.pack, location.offset) != location:
                raise IntegrityError("the entry is not the one that the index names")
            table_end = ENTRY_HEADER_LENGTH + self.header.block_count * TABLE_ROW_LENGTH
            if table_end > len(head):
                head = file.read(location.offset, table_end)
            self.rows = decode_table(self.header, head[ENTRY_HEADER_LENGTH:table_end])
        except IntegrityError as error:
            raise DamagedEntry(location, error.message) from None
        self._head = head
        self._starts = [table_end]
        for length, _ in self.rows:
            self._starts.append(self._starts[-1] + length)

    def stored_block(self, number: int) -> Buffer:
        """The stored bytes of a block, checked against their checksum.

        Raises:
            IntegrityError: they are damaged.
        """
        length, checksum = self.rows[number]
        start = self._starts[number]
        if start + length <= len(self._head):
            data: Buffer = memoryview(self._head)[start : start + length]
        else:
            data = self.file.read(self._location.offset + start, length)
        if xxhash.xxh3_64_intdigest(data) != checksum:
            raise self.damaged(f"block {number} has a wrong checksum")
        return data

    def damaged(self, reason: str) -> IntegrityError:
        """The error for damage in this entry."""
        return IntegrityError(
            f"object '{self.header.object_id.hex()}' in the pack {self.file.path!r} is damaged: {reason}",
            hint=_FSCK,
        )


class ObjectReader:
    """Random access to the raw bytes of one object.

    One reader serves one thread; different readers may work at the same time. Blocks are checked against
    their checksums; only :meth:`verified_blocks` and ``Store.read`` compare the object with its id.

    Args:
        entry: the entry of the object.
        base: a reader of its base, for a delta.

    Attributes:
        object_id: BLAKE3-256 of the raw bytes.
        raw_length: bytes of the object.
        block_size: raw bytes of a block, except for the last.
        block_count: number of blocks.
        element: how the codec saw the units.
    """

    __slots__ = (
        "_base", "_base_element", "_codec", "_decoded", "_entry", "_kept", "block_count", "block_size",
        "element", "object_id", "raw_length",
    )  # fmt: skip

    def __init__(self, entry: Entry, base: ObjectReader | None) -> None:
        from coral_git.codecs.registry import codec_by_id  # many commands decode nothing

        header = entry.header
        self.object_id = header.object_id
        self.raw_length = header.raw_length
        self.block_size = header.block_size
        self.block_count = header.block_count
        self.element: Element = header.element
        self._entry = entry
        self._base = base
        self._kept = _LAST_BLOCK
        self._decoded: dict[int, Buffer] = {}
        self._codec: Codec = codec_by_id(header.codec)
        if self._codec.needs_base and base is None:
            raise entry.damaged(f"its codec '{self._codec.name}' needs a base")
        self._base_element = header.base_element
        if base is not None:
            if not can_face(self.element, self._base_element):
                raise entry.damaged(f"a base of {self._base_element.name} cannot serve {self.element.name}")
            base._kept = _NOTHING if self._wants_whole_blocks(base) else _WINDOW

    def _wants_whole_blocks(self, base: ObjectReader) -> bool:
        """Whether each block wants just one block of the base, and no other block wants that."""
        return self._window(self.block_size, self.block_size) == (base.block_size, base.block_size)

    def _window(self, start: int, length: int) -> tuple[int, int]:
        offset = self._entry.header.base_offset
        return base_window(self._codec, self.element, self._base_element, offset, start, length)

    def keep_base(self, object_id: ObjectId) -> ObjectReader | None:
        """The reader of the base, where that is a certain object.

        Who reads a range of it and then the same range here has its blocks decoded once.
        """
        if self._base is None or self._base.object_id != object_id:
            return None
        self._base._kept = _LAST_BLOCK
        return self._base

    def block(self, number: int) -> Buffer:
        """The raw bytes of a block; read-only for the caller.

        Raises:
            IntegrityError: the stored block is damaged.
        """
        if not 0 <= number < self.block_count:
            raise IndexError(number)
        self._keep_only(number - 1, number)
        return self._block(number)

    def _block(self, number: int) -> Buffer:
        data = self._decoded.get(number)
        if data is None:
            data = self._decoded[number] = self._decode(number)
        return data

    def _keep_only(self, first: int, last: int) -> None:
        """Let go of the decoded blocks outside of a range."""
        for number in [number for number in self._decoded if not first <= number <= last]:
            del self._decoded[number]

    def _decode(self, number: int) -> Buffer:
        header: EntryHeader = self._entry.header
        length = header.raw_block_length(number)
        payload = self._entry.stored_block(number)
        window: Buffer = b""
        if self._base is not None and self._codec.needs_base:
            start = number * header.block_size
            base = self._base.read(*self._window(start, length))
            window = face(base, self._base_element, header.element)
        try:
            data = self._codec.decode_block(payload, length, window, header.element)
        except IntegrityError as error:
            raise self._entry.damaged(f"block {number}: {error.message}") from error
        if len(data) != length:
            raise self._entry.damaged(f"block {number} has {len(data)} bytes instead of {length}")
        return data

    def read(self, start: int, length: int) -> Buffer:
        """The raw bytes from ``start``, fewer at the end of the object.

        Raises:
            IntegrityError: a stored block is damaged.
        """
        end = min(start + length, self.raw_length)
        if start >= end:
            return b""
        first, last = start // self.block_size, (end - 1) // self.block_size
        self._keep_only(first, last)
        parts = []
        for number in range(first, last + 1):
            offset = number * self.block_size
            data = self._block(number)
            if start > offset or end < offset + len(data):
                data = memoryview(data)[max(0, start - offset) : end - offset]
            parts.append(data)
        if self._kept == _LAST_BLOCK:
            self._keep_only(last, last)
        elif self._kept == _NOTHING:
            self._decoded.clear()
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def verified_blocks(self) -> Iterator[Buffer]:
        """All blocks in order; what came out is to be believed only when the iterator ended normally.

        Raises:
            IntegrityError: a block is damaged, or the object is not the one its id names.
        """
        digest = blake3()
        for number in range(self.block_count):
            data = self.block(number)
            digest.update(data)
            yield data
        if digest.digest() != self.object_id:
            raise self._entry.damaged("its bytes do not match its id")


def open_chain(
    chain: Sequence[Location], open_pack: Callable[[PackId], PackFile], limits: Limits
) -> ObjectReader:
    """A reader of the first object of a chain.

    Args:
        chain: from the object to a full copy, as ``chains.find_chain`` gives it.
        open_pack: opens a pack.
        limits: the caps.

    Raises:
        DamagedEntry: an entry is damaged or not the one its location names.
        FormatVersionError: an entry has an unknown codec.
        FileNotFoundError: a pack is gone.
    """
    reader: ObjectReader | None = None
    for step in range(len(chain) - 1, -1, -1):
        location = chain[step]
        entry = Entry(open_pack(location.pack), location, limits)
        reader = ObjectReader(entry, reader)
    if reader is None:
        raise ValueError("an empty chain")
    return reader


def read_object(reader: ObjectReader, limit: int) -> bytes:
    """All bytes of an object, verified against its id.

    Raises:
        PolicyError: it is longer than ``limit``.
        IntegrityError: it is damaged.
    """
    if reader.raw_length > limit:
        raise PolicyError(
            f"object '{reader.object_id.hex()}' has {reader.raw_length} bytes; {limit} are allowed here"
        )
    return b"".join(reader.verified_blocks())


def verify_object(reader: ObjectReader) -> CoralError | None:
    """Decode an object completely; the error that comes, or None."""
    try:
        for _ in reader.verified_blocks():
            pass
    except CoralError as error:
        return error
    return None


def is_entry(file: PackFile, location: Location, limits: Limits) -> bool:
    """Whether an intact entry header of this object lies at the location."""
    try:
        header = decode_entry_header(file.read_up_to(location.offset, ENTRY_HEADER_LENGTH), limits)
    except IntegrityError:
        return False
    return locate_entry(header, location.pack, location.offset) == location
