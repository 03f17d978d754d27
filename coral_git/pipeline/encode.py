"""Parts into encoded objects: hash, skip what is stored, choose base and codec, encode block by block.

Blocks are encoded in parallel and collected in order, so that memory is bounded by a few blocks and
one encoded part. The bytes that were hashed are the bytes that are encoded: a small part is kept
between the two, a large one is hashed again while it is encoded.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import NamedTuple

from blake3 import blake3

from coral_git.codecs.base import Codec, EncodedObject
from coral_git.codecs.choose import choose_codec, sample
from coral_git.codecs.registry import codec_by_id
from coral_git.errors import CoralError, IntegrityError, ObjectMissingError
from coral_git.limits import KIB, MIB, Limits
from coral_git.pipeline.closure import find_incomplete
from coral_git.pipeline.parallel import Workers
from coral_git.store.location import Location
from coral_git.store.objects import ObjectReader
from coral_git.store.store import Store
from coral_git.store.writer import PackWriter
from coral_git.types import Buffer, ByteSource, Element, ObjectId

ReadRange = Callable[[int, int], bytes]
"""Reads (start, length) of the raw bytes of a part."""

_KEPT_BYTES = 8 * MIB
_READ_BYTES = MIB
_SMALL_CHAIN = 64 * KIB  # beside this the headers of small objects do not count
_MARGIN_BYTES = MIB  # how far behind its own end a block may look into the base


class PartSource(NamedTuple):
    """The raw bytes of one part and what is known about them.

    Attributes:
        read: reads a range of the part.
        length: bytes of the part.
        element: how codecs see the bytes.
        bases: objects the part may be a small change of, the best guess first.
    """

    read: ReadRange
    length: int
    element: Element
    bases: tuple[ObjectId, ...] = ()


class HashedPart(NamedTuple):
    """A part and its id; ``data`` holds the raw bytes of a small one."""

    source: PartSource
    object_id: ObjectId
    data: bytes | None

    def read(self, start: int, length: int) -> bytes:
        """A range of the raw bytes."""
        if self.data is None:
            return self.source.read(start, length)
        return self.data[start : start + length]


class _Choice(NamedTuple):
    """How a part will be encoded."""

    part: HashedPart
    codec: Codec
    base: ObjectId | None
    read_base: ReadRange | None
    block_size: int

    @property
    def block_count(self) -> int:
        return -(-self.part.source.length // self.block_size)


def read_ranges(source: ByteSource, ranges: Sequence[tuple[int, int]]) -> ReadRange:
    """A reader over the concatenation of byte ranges (offset, length) of a file."""
    if len(ranges) == 1:
        first = ranges[0][0]
        return lambda start, length: source.read_at(first + start, length)

    def read(start: int, length: int) -> bytes:
        pieces = []
        for offset, size in ranges:
            if length <= 0:
                break
            if start < size:
                take = min(size - start, length)
                pieces.append(source.read_at(offset + start, take))
                length -= take
                start = 0
            else:
                start -= size
        return b"".join(pieces)

    return read


def part_of_bytes(data: bytes, bases: tuple[ObjectId, ...] = ()) -> PartSource:
    """A part that is in memory already."""
    return PartSource(lambda start, length: data[start : start + length], len(data), Element.BYTES, bases)


def hash_part(part: PartSource) -> HashedPart:
    """The id of a part: BLAKE3-256 of its raw bytes.

    Raises:
        CoralError: the file ended before the part did.
    """
    keep = part.length <= _KEPT_BYTES
    hasher = blake3()
    data = None
    if keep:
        data = part.read(0, part.length)
        _check_length(data, part.length)
        hasher.update(data)
    else:
        for start in range(0, part.length, _READ_BYTES):
            piece = part.read(start, min(_READ_BYTES, part.length - start))
            _check_length(piece, min(_READ_BYTES, part.length - start))
            hasher.update(piece)
    return HashedPart(part, ObjectId(hasher.digest()), data)


class Encoder:
    """Stores parts; one per session, used from one thread, encoding in many.

    Args:
        store: where bases are found, and what need not be written again.
        workers: the threads.
        store_all: whether objects are written even though the store has them (packs for somebody else).
    """

    def __init__(self, store: Store, workers: Workers, *, store_all: bool = False) -> None:
        self._store = store
        self._store_all = store_all
        self._workers = workers
        self._limits: Limits = store.limits
        self._readers = _Readers(store)

    def store_parts(self, parts: Iterable[PartSource], writer: PackWriter) -> list[ObjectId]:
        """Store every part that the store lacks.

        Returns:
            The ids in the order of the parts. They are durable once the writer has finished.

        Raises:
            IntegrityError: an encoded block did not decode to the bytes it was made of.
        """
        ids: list[ObjectId] = []
        choices = self._workers.map(self._choose, self._unknown(parts, writer, ids))
        blocks = self._workers.map(self._encode_block, self._blocks(choices))
        for choice in self._collect(blocks):
            writer.add(choice)
        return ids

    def _unknown(
        self, parts: Iterable[PartSource], writer: PackWriter, ids: list[ObjectId]
    ) -> Iterator[HashedPart]:
        """Hash all parts, note their ids, let through those that must be stored."""
        seen: set[ObjectId] = set()
        for part in self._workers.map(hash_part, parts):
            ids.append(part.object_id)
            if part.object_id in seen:
                continue
            seen.add(part.object_id)
            if self._store_all or not (writer.contains(part.object_id) and self._is_whole(part.object_id)):
                yield part

    def _is_whole(self, object_id: ObjectId) -> bool:
        """Whether a stored object can be decoded: an interrupted fetch may have left it without its base."""
        return not find_incomplete(self._store, (object_id,))

    def _choose(self, part: HashedPart) -> _Choice:
        """Base and codec of a part, by the size of an encoded sample."""
        element, length = part.source.element, part.source.length
        base = self._usable_base(part)
        read_base: ReadRange | None = None
        faced = None
        if base is not None:
            try:
                read_base = self._base_reader(base, length)
                faced = sample(read_base, length, element)
            except (CoralError, OSError):
                base = None  # a damaged base must not keep its next version from being stored
        codec = codec_by_id(choose_codec(element, sample(part.read, length, element), faced))
        if not codec.needs_base:
            base, read_base = None, None
        block_size = codec.block_size(element, self._limits)
        return _Choice(part, codec, base, read_base, block_size)

    def _base_reader(self, base: ObjectId, length: int) -> ReadRange:
        """Reads ranges of a base; a small one is decoded once, because the sample and the blocks want it."""
        if length > _KEPT_BYTES:
            return lambda start, size: bytes(self._readers.get(base).read(start, size))
        data = bytes(self._store.reader(base).read(0, length + _MARGIN_BYTES))
        return lambda start, size: data[start : start + size]

    def _usable_base(self, part: HashedPart) -> ObjectId | None:
        """The first base that is here and alike; where its chain is at a limit, the full copy at its end."""
        for base in part.source.bases:
            if base == part.object_id or not self._store.has(base):
                continue
            try:
                chain = self._store.chain(base)
            except (IntegrityError, ObjectMissingError):
                continue  # it lacks a base itself, after a fetch that was interrupted
            if chain[0].element != part.source.element:
                continue
            return chain[-1].object_id if self._is_exhausted(chain) else base
        return None

    def _is_exhausted(self, chain: Sequence[Location]) -> bool:
        """Whether nothing more may be built on the first entry of a chain."""
        stored = sum(location.entry_length for location in chain)
        limits = self._limits
        if len(chain) > limits.chain_depth:
            return True
        allowed = chain[0].raw_length * limits.chain_percent // 100 + _SMALL_CHAIN
        return len(chain) > 1 and stored > allowed

    def _blocks(self, choices: Iterable[_Choice]) -> Iterator[tuple[_Choice, int]]:
        for choice in choices:
            for index in range(choice.block_count):
                yield choice, index

    def _encode_block(self, task: tuple[_Choice, int]) -> tuple[_Choice, int, bytes | None, list[Buffer]]:
        """Encode one block, decode it again and compare."""
        choice, index = task
        start = index * choice.block_size
        length = min(choice.block_size, choice.part.source.length - start)
        raw = choice.part.read(start, length)
        base: Buffer = b""
        if choice.read_base is not None:
            base = choice.read_base(*choice.codec.base_window(start, length))
        element = choice.part.source.element
        payload = choice.codec.encode_block(raw, base, element)
        if not _same(choice.codec.decode_block(b"".join(payload), length, base, element), raw):
            raise IntegrityError(
                f"codec '{choice.codec.name}' does not decode to what it encoded "
                f"(object {choice.part.object_id.hex()}, block {index})",
                hint="nothing was stored; please report this with the file",
            )
        return choice, index, raw if choice.part.data is None else None, payload

    def _collect(
        self, blocks: Iterable[tuple[_Choice, int, bytes | None, list[Buffer]]]
    ) -> Iterator[EncodedObject]:
        """Put the blocks of each part together; large parts are hashed again on the way."""
        payloads: list[list[Buffer]] = []
        hasher = blake3()
        for choice, index, raw, payload in blocks:
            if index == 0:
                payloads = []
                hasher = blake3()
            if raw is not None:
                hasher.update(raw)
            payloads.append(payload)
            if index + 1 == choice.block_count:
                if choice.part.data is None and hasher.digest() != choice.part.object_id:
                    raise CoralError("the file changed while it was read", hint="add it again")
                yield _encoded(choice, payloads)


def _encoded(choice: _Choice, payloads: list[list[Buffer]]) -> EncodedObject:
    return EncodedObject(
        object_id=choice.part.object_id,
        raw_length=choice.part.source.length,
        codec=choice.codec.codec_id,
        element=choice.part.source.element,
        base=choice.base,
        base_element=Element.BYTES if choice.base is None else choice.part.source.element,
        base_offset=0,
        block_size=choice.block_size,
        blocks=payloads,
    )


def _same(decoded: Buffer, raw: bytes) -> bool:
    """Whether the bytes are equal; views are compared byte by byte in Python, everything else at once."""
    return (bytes(decoded) if isinstance(decoded, memoryview) else decoded) == raw


def _check_length(piece: bytes, wanted: int) -> None:
    if len(piece) != wanted:
        raise CoralError("the file became shorter while it was read", hint="add it again")


class _Readers(threading.local):
    """The object reader last used by this thread: consecutive blocks have the same base."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._object_id: ObjectId | None = None
        self._reader: ObjectReader | None = None

    def get(self, object_id: ObjectId) -> ObjectReader:
        if self._reader is None or self._object_id != object_id:
            self._reader = self._store.reader(object_id)
            self._object_id = object_id
        return self._reader
