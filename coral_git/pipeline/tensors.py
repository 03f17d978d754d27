"""The tensors of a stored file, read from the store without the file."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping, Sequence
from itertools import accumulate, pairwise

from blake3 import blake3

from coral_git.errors import IntegrityError, ObjectMissingError
from coral_git.formats.base import TensorData
from coral_git.limits import Limits
from coral_git.manifest.entries import Manifest, TensorEntry
from coral_git.manifest.parts import part_lengths
from coral_git.pipeline.decode import named
from coral_git.pipeline.part_source import ReadRange
from coral_git.store.objects import ObjectReader
from coral_git.store.store import Store
from coral_git.types import Buffer, ObjectId, tensor_bytes


def stored_tensors(manifest: Manifest, store: Store) -> list[TensorData]:
    """The tensors of an expanded manifest, in file order.

    Whoever reads a tensor from start to end gets bytes that were compared with its ids, or an error.

    Args:
        manifest: of a file in which tensors were found, expanded.
        store: has their objects.
    """
    return [
        TensorData(entry.name, entry.dtype, entry.shape, StoredBytes(entry, manifest, store))
        for entry in manifest.tensors
    ]


class _Place(threading.local):
    """How far a thread has read a tensor: the part that is open, and the hash of what came of it."""

    def __init__(self) -> None:
        self.open: tuple[int, ObjectReader] | None = None
        self.hasher = blake3()
        self.hashed = 0


class StoredBytes:
    """Reads ranges of a tensor; calling it is what ``TensorData.read`` is. Several threads may do so.

    Args:
        entry: the tensor.
        manifest: names its objects in messages.
        store: has them.
        held: reads objects that are at hand elsewhere; their bytes are compared with their ids as well.
    """

    def __init__(
        self,
        entry: TensorEntry,
        manifest: Manifest,
        store: Store,
        held: Mapping[ObjectId, ReadRange] | None = None,
    ) -> None:
        length = tensor_bytes(entry.dtype, entry.shape) or 0
        lengths = part_lengths(entry.dtype, length, store.limits)
        self._starts = list(accumulate(lengths, initial=0))
        self._objects: Sequence[ObjectId] = entry.objects
        self._manifest = manifest
        self._store = store
        self._limits: Limits = store.limits
        self._held = held or {}
        self._place = _Place()

    def __call__(self, start: int, length: int) -> Buffer:
        """The bytes of a range; fewer at the end of the tensor.

        Raises:
            IntegrityError: an object is damaged; the message names the tensor.
            ObjectMissingError: an object is not in the store.
        """
        pieces = list(self._pieces(start, min(start + length, self._starts[-1])))
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def _pieces(self, start: int, end: int) -> Iterator[Buffer]:
        for number, (low, high) in enumerate(pairwise(self._starts)):
            first, last = max(start, low), min(end, high)
            if first < last:
                data = self._read(number, first - low, last - first)
                self._check(number, first, data)
                yield data

    def _read(self, number: int, start: int, length: int) -> Buffer:
        object_id = self._objects[number]
        held = self._held.get(object_id)
        try:
            return (held or self._reader(number).read)(start, length)
        except (IntegrityError, ObjectMissingError) as error:
            raise named(error, self._manifest, object_id, self._limits) from error

    def _reader(self, number: int) -> ObjectReader:
        """The reader of a part; each thread has one open."""
        place = self._place
        if place.open is None or place.open[0] != number:
            place.open = number, self._store.reader(self._objects[number])
        return place.open[1]

    def _check(self, number: int, start: int, data: Buffer) -> None:
        """Compare a part that was read from start to end with its id."""
        place = self._place
        if start == self._starts[number]:
            place.hasher, place.hashed = blake3(), start
        if start != place.hashed:
            return
        place.hasher.update(data)
        place.hashed += len(data)
        object_id = self._objects[number]
        if place.hashed == self._starts[number + 1] and place.hasher.digest() != object_id:
            error = IntegrityError(
                f"object '{object_id.hex()}' has the wrong bytes", hint="run 'git coral fsck'"
            )
            raise named(error, self._manifest, object_id, self._limits)
