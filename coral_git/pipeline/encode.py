"""Parts into encoded objects: hash, skip what is stored, choose base and codec, encode block by block.

Blocks are encoded in parallel and collected in order, and a thread writes one object while the next one is
encoded, so that memory is bounded by a few blocks and two encoded parts. The bytes that were hashed are the
bytes that are encoded: a small part is kept between the two, a large one is hashed again while it is encoded.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import partial
from typing import NamedTuple

from blake3 import blake3

from coral_git.codecs.base import Codec, EncodedObject
from coral_git.codecs.choose import sample
from coral_git.codecs.facing import face
from coral_git.codecs.strategies import Strategy
from coral_git.errors import CoralError, IntegrityError
from coral_git.limits import MIB
from coral_git.pipeline.closure import find_incomplete
from coral_git.pipeline.delta_base import BaseOpener, DeltaBase, MakeSearch
from coral_git.pipeline.parallel import Workers
from coral_git.pipeline.part_source import HashedPart, PartSource, hash_part
from coral_git.store.store import Store
from coral_git.store.writer import PackWriter
from coral_git.types import Buffer, Element, ObjectId

_KEPT_IN_ALL = 96 * MIB
"""Three times as much is held at worst: parts that wait, and chosen parts with their bases."""

_DEFAULT = Strategy()


class _Choice(NamedTuple):
    """How a part will be encoded."""

    part: HashedPart
    codec: Codec
    base: DeltaBase | None
    block_size: int

    @property
    def block_count(self) -> int:
        return -(-self.part.source.length // self.block_size)


class _Block(NamedTuple):
    """An encoded block; ``payload`` is None where the base could not be read.

    ``raw`` and ``base`` are the bytes that are still to be compared with the ids, None where that was done.
    """

    choice: _Choice
    number: int
    payload: list[Buffer] | None
    raw: Buffer | None
    base: Buffer | None


class Encoder:
    """Stores parts; one per session, used from one thread, encoding in many.

    Args:
        store: where bases are found, and what need not be written again.
        workers: the threads.
        strategy: which codecs objects get.
        store_all: whether objects are written even though the store has them (packs for somebody else).
        search: gives, when it is asked first, what finds bases that parts do not name themselves.
    """

    def __init__(
        self,
        store: Store,
        workers: Workers,
        *,
        strategy: Strategy = _DEFAULT,
        store_all: bool = False,
        search: MakeSearch | None = None,
    ) -> None:
        self._store = store
        self._strategy = strategy
        self._store_all = store_all
        self._workers = workers
        self._kept_bytes = min(store.limits.kept_part_bytes, _KEPT_IN_ALL // workers.window)
        self._bases = BaseOpener(store, self._kept_bytes, search)

    def store_parts(self, parts: Iterable[PartSource], writer: PackWriter) -> list[ObjectId]:
        """Store every part that the store lacks.

        Returns:
            The ids in the order of the parts. They are durable once the writer has finished.

        Raises:
            IntegrityError: an encoded block did not decode to the bytes it was made of.
        """
        ids: list[ObjectId] = []
        unknown = self._unknown(parts, writer, ids)
        choices = self._workers.map(self._choose, unknown)
        blocks = self._workers.map(_encode_block, _blocks(choices))
        with Workers(1) as writing:
            for _ in writing.map(writer.add, self._collect(blocks)):
                pass
        return ids

    def _unknown(
        self, parts: Iterable[PartSource], writer: PackWriter, ids: list[ObjectId]
    ) -> Iterator[HashedPart]:
        """Hash all parts, note their ids, let through those that must be stored."""
        seen: set[ObjectId] = set()
        for part in self._workers.map(partial(hash_part, kept_bytes=self._kept_bytes), parts):
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
        if self._strategy.uses_bases(element):
            own = sample(part.read, length, element)
            facing = self._bases.choose(part, own)
            if facing is not None:
                codec = self._strategy.delta(element, length // element.width, own, facing.sample)
                return self._choice(part, codec, facing.base)
        return self._choice(part, self._strategy.standalone(element), None)

    def _choice(self, part: HashedPart, codec: Codec, base: DeltaBase | None) -> _Choice:
        return _Choice(part, codec, base, codec.block_size(part.source.element, self._store.limits))

    def _collect(self, blocks: Iterable[_Block]) -> Iterator[EncodedObject]:
        """Put the blocks of each part together; one with a bad base is encoded again without it."""
        assembly: _Assembly | None = None
        for block in blocks:
            if assembly is None:
                assembly = _Assembly(block.choice)
            assembly.add(block)
            if block.number + 1 == block.choice.block_count:
                yield assembly.finish() if assembly.has_good_base() else self._encode_alone(block.choice.part)
                assembly = None

    def _encode_alone(self, part: HashedPart) -> EncodedObject:
        choice = self._choice(part, self._strategy.standalone(part.source.element), None)
        assembly = _Assembly(choice)
        for block in self._workers.map(_encode_block, _blocks((choice,))):
            assembly.add(block)
        return assembly.finish()


class _Assembly:
    """The blocks of one part, as they come in; what is not verified yet is hashed on the way."""

    def __init__(self, choice: _Choice) -> None:
        self._choice = choice
        self._payloads: list[list[Buffer]] = []
        self._raw_digest = blake3()
        self._base_digest = blake3()
        self._is_readable = True

    def add(self, block: _Block) -> None:
        """Take the next block."""
        if block.raw is not None:
            self._raw_digest.update(block.raw)
        if block.base is not None:
            self._base_digest.update(block.base)
        if block.payload is None:
            self._is_readable = False
        else:
            self._payloads.append(block.payload)

    def has_good_base(self) -> bool:
        """Whether the base could be read and has the bytes that its id names; true without a base."""
        base = self._choice.base
        if base is None or base.is_verified:
            return self._is_readable
        return self._is_readable and self._base_digest.digest() == base.object_id

    def finish(self) -> EncodedObject:
        """The encoded object.

        Raises:
            CoralError: the part has other bytes now than when it was hashed.
        """
        choice = self._choice
        part, base = choice.part, choice.base
        if part.data is None and self._raw_digest.digest() != part.object_id:
            raise CoralError("the file changed while it was read", hint="add it again")
        return EncodedObject(
            object_id=part.object_id,
            raw_length=part.source.length,
            codec=choice.codec.codec_id,
            element=part.source.element,
            base=None if base is None else base.object_id,
            base_element=Element.BYTES if base is None else base.element,
            base_offset=0,
            block_size=choice.block_size,
            blocks=self._payloads,
        )


def _blocks(choices: Iterable[_Choice]) -> Iterator[tuple[_Choice, int]]:
    for choice in choices:
        for number in range(choice.block_count):
            yield choice, number


def _encode_block(task: tuple[_Choice, int]) -> _Block:
    """Encode one block, decode it again and compare."""
    choice, number = task
    part, codec = choice.part, choice.codec
    start = number * choice.block_size
    length = min(choice.block_size, part.source.length - start)
    raw = part.read(start, length)
    unverified = raw if part.data is None else None
    element = part.source.element
    window: Buffer = b""
    base: Buffer = b""
    if choice.base is not None:
        try:
            window = choice.base.window(codec, element, start, length)
        except (CoralError, OSError):
            return _Block(choice, number, None, unverified, None)
        base = face(window, choice.base.element, element)
    payload = codec.encode_block(raw, base, element)
    if not codec.decodes_to(payload, raw, base, element):
        raise IntegrityError(
            f"codec '{codec.name}' does not decode to what it encoded "
            f"(object {part.object_id.hex()}, block {number})",
            hint="nothing was stored; please report this with the file",
        )
    checks_base = choice.base is not None and not choice.base.is_verified
    return _Block(choice, number, payload, unverified, window if checks_base else None)
