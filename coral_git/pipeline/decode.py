"""A manifest back into the bytes of its file: into an open file, or as a stream.

Every object is checked against its BLAKE3 id. Into a file, objects are written by several threads at
once; as a stream, blocks are decoded ahead and come in file order. Memory is a few blocks per thread.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from blake3 import blake3

from coral_git import fsops
from coral_git.errors import IntegrityError, ObjectMissingError
from coral_git.limits import Limits
from coral_git.manifest.escape import escape_name
from coral_git.manifest.model import Manifest, Placement, expand, placements
from coral_git.pipeline.parallel import Workers
from coral_git.store.objects import ObjectReader
from coral_git.store.store import Store
from coral_git.types import Buffer, ObjectId


def expanded(manifest: Manifest, store: Store) -> Manifest:
    """The manifest with its table objects read and put in place.

    Raises:
        ObjectMissingError: a table object is not in the store.
    """
    if not manifest.tables:
        return manifest
    limits = store.limits
    return expand(manifest, lambda object_id: store.read(object_id, limits.table_bytes), limits)


def write_file(manifest: Manifest, store: Store, fd: int, workers: Workers, path: str = "") -> None:
    """Write the bytes of an expanded manifest into an open, empty file.

    Raises:
        IntegrityError: an object does not have the bytes that its id names; the message names the tensor.
        ObjectMissingError: an object is not in the store.
    """

    def write(placement: Placement) -> None:
        position = 0
        try:
            for block in _open(store, placement).verified_blocks():
                for offset, piece in _scatter(placement.ranges, position, block):
                    fsops.write_at(fd, piece, offset, path)
                position += len(block)
        except (IntegrityError, ObjectMissingError) as error:
            raise named(error, manifest, placement.object_id, store.limits) from error

    order = sorted(placements(manifest, store.limits), key=lambda placement: -placement.length)
    for _ in workers.map(write, order):
        pass


def stream_file(manifest: Manifest, store: Store, workers: Workers) -> Iterator[Buffer]:
    """The bytes of an expanded manifest in file order.

    Raises:
        IntegrityError: as in ``write_file``, after some of the bytes have been handed out.
        ObjectMissingError: an object is not in the store.
    """
    readers = _Readers(store)
    hasher = blake3()

    def read(run: _Run) -> tuple[_Run, bytes]:
        return run, bytes(readers.get(run.placement).read(run.start, run.length))

    runs = _runs(placements(manifest, store.limits), store.limits.block_elements * 4)
    for run, data in workers.map(read, runs):
        if len(data) != run.length:
            raise IntegrityError(f"object {run.placement.object_id.hex()} is shorter than its manifest says")
        if run.start == 0:
            hasher = blake3()
        if run.is_rest:
            _check_rest(run, readers.get(run.placement))
        else:
            hasher.update(data)
            if run.start + run.length == run.placement.length and hasher.digest() != run.placement.object_id:
                error = IntegrityError(f"object {run.placement.object_id.hex()} has the wrong bytes")
                raise named(error, manifest, run.placement.object_id, store.limits)
        yield data


def named(
    error: IntegrityError | ObjectMissingError, manifest: Manifest, object_id: ObjectId, limits: Limits
) -> IntegrityError | ObjectMissingError:
    """The same error, with the tensor that the object belongs to in its message."""
    owner = owner_of(manifest, object_id)
    if not owner or owner in error.message:
        return error
    return type(error)(f"{error.message} ({owner})", hint=error.hint)


def owner_of(manifest: Manifest, object_id: ObjectId) -> str:
    """What an object is in a manifest, for messages, e.g. ``tensor 'a.b'``; empty when it is unknown."""
    if object_id in manifest.rest:
        return "bytes between the tensors"
    for tensor in manifest.tensors:
        if object_id in tensor.objects:
            return f"tensor '{escape_name(tensor.name)}'"
    for index, chunk in enumerate(manifest.chunks):
        if chunk.object_id == object_id:
            return f"chunk {index + 1} of {len(manifest.chunks)}"
    for table in manifest.tables:
        if table.object_id == object_id:
            return "table"
    return ""


class _Run(NamedTuple):
    """Consecutive bytes of a file that lie in one object from ``start`` on."""

    placement: Placement
    offset: int
    start: int
    length: int
    is_rest: bool


def _runs(all_placements: Iterable[Placement], step: int) -> list[_Run]:
    runs = []
    for placement in all_placements:
        is_rest = len(placement.ranges) > 1
        start = 0
        for offset, length in placement.ranges:
            for inner in range(0, length, step):
                take = min(step, length - inner)
                runs.append(_Run(placement, offset + inner, start + inner, take, is_rest))
            start += length
    runs.sort(key=lambda run: run.offset)
    return runs


def _open(store: Store, placement: Placement) -> ObjectReader:
    reader = store.reader(placement.object_id)
    if reader.raw_length != placement.length:
        raise IntegrityError(
            f"object {placement.object_id.hex()} has {reader.raw_length} bytes, "
            f"its manifest says {placement.length}",
            hint="run 'git coral fsck'",
        )
    return reader


def _scatter(
    ranges: tuple[tuple[int, int], ...], position: int, block: Buffer
) -> Iterator[tuple[int, Buffer]]:
    """Pieces of a block with the file offsets they belong to."""
    if len(ranges) == 1:
        yield ranges[0][0] + position, block
        return
    view = memoryview(block)
    start = 0
    for offset, length in ranges:
        low, high = max(start, position), min(start + length, position + len(view))
        if low < high:
            yield offset + low - start, view[low - position : high - position]
        start += length


def _check_rest(run: _Run, reader: ObjectReader) -> None:
    """Rest objects are small and read in pieces: check the whole of one when its first piece is read."""
    if run.start == 0:
        for _ in reader.verified_blocks():
            pass


class _Readers(threading.local):
    """The object readers that this thread used last."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._readers: dict[ObjectId, ObjectReader] = {}

    def get(self, placement: Placement) -> ObjectReader:
        reader = self._readers.pop(placement.object_id, None)
        if reader is None:
            reader = _open(self._store, placement)
            while len(self._readers) >= 2:
                del self._readers[next(iter(self._readers))]
        self._readers[placement.object_id] = reader
        return reader
