"""The base of a delta: which object it may be, and its bytes, which are compared with its id.

A delta is worth what its base is worth. So a base that cannot be read, or that has not the bytes that its id
names, is passed over, and the next version of a file is stored in full.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import NamedTuple

from coral_git.errors import IntegrityError, ObjectMissingError
from coral_git.limits import KIB, Limits
from coral_git.pipeline.part_source import HashedPart, ReadRange
from coral_git.store.location import Location
from coral_git.store.objects import ObjectReader, verify_object
from coral_git.store.store import Store
from coral_git.types import Buffer, Element, ObjectId

_SMALL_CHAIN = 64 * KIB  # beside this the headers of small objects do not count


class DeltaBase(NamedTuple):
    """An object to build on.

    Attributes:
        object_id: its id.
        read: reads a range of its raw bytes.
        is_verified: whether what ``read`` gives is known to be what the id names. Otherwise whoever reads
            all of it from start to end has to compare.
    """

    object_id: ObjectId
    read: ReadRange
    is_verified: bool


class BaseOpener:
    """Finds and opens the bases of parts; may be used from several threads.

    Args:
        store: where bases are.
        kept_bytes: a base up to this length is decoded once and stays in memory while it is in use.
    """

    def __init__(self, store: Store, kept_bytes: int) -> None:
        self._store = store
        self._kept_bytes = kept_bytes
        self._limits: Limits = store.limits
        self._readers = _Readers(store)

    def find(self, part: HashedPart) -> ObjectId | None:
        """The first base that is here and alike; where its chain is at a limit, the full copy at its end.

        Gc is told that it is wanted.
        """
        for base in part.source.bases:
            if base == part.object_id or not self._store.freshen(base):
                continue
            try:
                chain = self._store.chain(base)
            except (IntegrityError, ObjectMissingError):
                continue  # it lacks a base itself, after a fetch that was interrupted
            if chain[0].element != part.source.element:
                continue
            if not self._is_exhausted(chain):
                return base
            if self._store.freshen(chain[-1].object_id):
                return chain[-1].object_id
        return None

    def open(self, base: ObjectId, part: HashedPart) -> DeltaBase:
        """A base ready to be read.

        Raises:
            CoralError: it is damaged or gone.
        """
        reader = self._store.reader(base)
        if reader.raw_length <= self._kept_bytes:
            data = memoryview(b"".join(reader.verified_blocks()))
            return DeltaBase(base, lambda start, length: data[start : start + length], True)
        is_aligned = reader.raw_length == part.source.length and part.source.element != Element.BYTES
        if not is_aligned:  # nobody will read all of it in one go
            damage = verify_object(reader)
            if damage is not None:
                raise damage
        return DeltaBase(base, lambda start, length: self._readers.read(base, start, length), not is_aligned)

    def _is_exhausted(self, chain: Sequence[Location]) -> bool:
        """Whether nothing more may be built on the first entry of a chain."""
        stored = sum(location.entry_length for location in chain)
        limits = self._limits
        if len(chain) > limits.chain_depth:
            return True
        allowed = chain[0].raw_length * limits.chain_percent // 100 + _SMALL_CHAIN
        return len(chain) > 1 and stored > allowed


class _Readers(threading.local):
    """The object reader last used by this thread: consecutive blocks have the same base."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._object_id: ObjectId | None = None
        self._reader: ObjectReader | None = None

    def read(self, object_id: ObjectId, start: int, length: int) -> Buffer:
        if self._reader is None or self._object_id != object_id:
            self._reader = self._store.reader(object_id)
            self._object_id = object_id
        return self._reader.read(start, length)
