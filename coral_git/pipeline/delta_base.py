"""The base of a delta: which object it is, and its bytes, which are compared with its id.

The previous version of a path is nearly always the best base and is taken when it helps. Where there is none,
or it is no help, a better one may be stored under another name: then several are tried on a sample, and the
smallest estimate decides.

A delta is worth what its base is worth. So a base that cannot be read, or that has not the bytes that its id
names, is passed over, and the next version of a file is stored in full.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import cache
from itertools import islice
from typing import NamedTuple, Protocol

from coral_git.codecs.base import Codec
from coral_git.codecs.choose import estimate, facing_sample
from coral_git.codecs.facing import base_window, can_face
from coral_git.errors import CoralError, IntegrityError, ObjectMissingError
from coral_git.limits import KIB, Limits
from coral_git.pipeline.part_source import HashedPart, ReadRange
from coral_git.store.location import Location
from coral_git.store.objects import ObjectReader, verify_object
from coral_git.store.store import Store
from coral_git.types import Buffer, Element, ObjectId

_SMALL_CHAIN = 64 * KIB  # beside this the headers of small objects do not count
_TRIED = 4
"""So many bases from elsewhere are compared, each by decoding a few of its blocks."""


class BaseSearch(Protocol):
    """Where bases are looked for when the previous version of the path has none."""

    def similar(self, part: HashedPart) -> Iterable[ObjectId]:
        """Objects that may be a base of a part, the best guess first."""

    def is_similar(self, own: bytes, other: bytes, element: Element) -> bool:
        """Whether the samples of two objects are alike enough for the one to be a base of the other."""


MakeSearch = Callable[[], BaseSearch | None]


def _nowhere() -> None:
    """Only bases that a part names are allowed."""


class DeltaBase(NamedTuple):
    """An object to build on.

    Attributes:
        object_id: its id.
        element: how its units are seen.
        read: reads a range of its raw bytes.
        is_verified: whether what ``read`` gives is known to be what the id names. Otherwise whoever reads
            all of it from start to end has to compare.
    """

    object_id: ObjectId
    element: Element
    read: ReadRange
    is_verified: bool

    def window(self, codec: Codec, element: Element, start: int, length: int) -> Buffer:
        """The bytes that belong to a raw range of an object with this codec and element, as they are."""
        return self.read(*base_window(codec, element, self.element, 0, start, length))

    def sample(self, length: int, element: Element) -> bytes:
        """What faces the sample of an object of ``length`` bytes, in its element."""
        return facing_sample(self.read, self.element, length, element)


class Facing(NamedTuple):
    """A base that was chosen, and what faces the sample of the part in it."""

    base: DeltaBase
    sample: bytes


class BaseOpener:
    """Finds and opens the bases of parts; may be used from several threads.

    Args:
        store: where bases are.
        kept_bytes: a base up to this length is decoded once and stays in memory while it is in use.
        search: gives, when it is asked first, where else bases are looked for, if anywhere.
    """

    def __init__(self, store: Store, kept_bytes: int, search: MakeSearch | None = None) -> None:
        self._store = store
        self._kept_bytes = kept_bytes
        self._limits: Limits = store.limits
        self._readers = _Readers(store)
        self._lock = threading.Lock()
        self._search = cache(search or _nowhere)

    def choose(self, part: HashedPart, own: bytes) -> Facing | None:
        """The base that a part should be built on: one against which its sample is smaller than alone.

        Args:
            part: the part.
            own: its sample.
        """
        element = part.source.element
        alone = estimate(element, own, None)
        for named in islice(self._usable(part.source.bases, part), 1):
            facing = self._face(named, part)
            if facing is not None and estimate(element, own, facing.sample) < alone:
                return facing
        found = self._best_elsewhere(part, own, alone)
        return None if found is None else self._face(found, part)

    def _face(self, base: ObjectId, part: HashedPart) -> Facing | None:
        """A base ready to be read, or None where it is damaged or gone."""
        try:
            opened = self._open(base, part)
            return Facing(opened, opened.sample(part.source.length, part.source.element))
        except (CoralError, OSError):
            return None

    def _best_elsewhere(self, part: HashedPart, own: bytes, alone: int) -> ObjectId | None:
        """The best base under another name, by the estimated size; None where none is smaller than alone."""
        with self._lock:
            search = self._search()
        if search is None:
            return None
        best, smallest = None, alone
        for guess, is_named in self._guesses(part, search):
            size = self._try(guess, part, own, None if is_named else search)
            if size is not None and size < smallest:
                best, smallest = guess, size
        return best

    def _guesses(self, part: HashedPart, search: BaseSearch) -> Iterator[tuple[ObjectId, bool]]:
        """Usable bases from elsewhere, and whether they were found by the name of the tensor."""
        tried = set(part.source.bases)
        for is_named, found in ((True, part.source.namesakes()), (False, search.similar(part))):
            fresh = [one for one in dict.fromkeys(self._usable(found, part)) if one not in tried]
            tried.update(fresh[:_TRIED])
            yield from ((one, is_named) for one in fresh[:_TRIED])

    def _try(self, guess: ObjectId, part: HashedPart, own: bytes, judge: BaseSearch | None) -> int | None:
        """The estimated size of a part's sample on a base; None where it cannot or should not be one."""
        element, length = part.source.element, part.source.length
        try:
            reader = self._store.reader(guess)
            faced = facing_sample(reader.read, reader.element, length, element)
        except (CoralError, OSError):
            return None
        if judge is not None and not judge.is_similar(own, faced, element):
            return None
        return estimate(element, own, faced)

    def _usable(self, candidates: Iterable[ObjectId], part: HashedPart) -> Iterator[ObjectId]:
        """Those that are here and of a kind; where a chain is at a limit, the full copy at its end.

        Gc is told that they are wanted.
        """
        for base in candidates:
            if base == part.object_id or not self._store.freshen(base):
                continue
            try:
                chain = self._store.chain(base)
            except (IntegrityError, ObjectMissingError):
                continue  # it lacks a base itself, after a fetch that was interrupted
            if not can_face(part.source.element, chain[0].element):
                continue
            if not self._is_exhausted(chain):
                yield base
            elif self._is_good_end(chain[-1], part):
                yield chain[-1].object_id

    def _is_good_end(self, end: Location, part: HashedPart) -> bool:
        if end.object_id == part.object_id or not can_face(part.source.element, end.element):
            return False
        return self._store.freshen(end.object_id)

    def _open(self, base: ObjectId, part: HashedPart) -> DeltaBase:
        reader = self._store.reader(base)
        element = reader.element
        if reader.raw_length <= self._kept_bytes:
            data = memoryview(b"".join(reader.verified_blocks()))
            return DeltaBase(base, element, lambda start, length: data[start : start + length], True)
        is_alike = reader.raw_length == part.source.length and element == part.source.element
        is_aligned = is_alike and element != Element.BYTES
        if not is_aligned:  # nobody will read all of it in one go
            damage = verify_object(reader)
            if damage is not None:
                raise damage
        return DeltaBase(
            base, element, lambda start, length: self._readers.read(base, start, length), not is_aligned
        )

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
