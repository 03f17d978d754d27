"""A manifest back into the bytes of its file: into an open file, or as a stream.

Every object is checked against its BLAKE3 id. Into a file, objects are written by several threads at
once; as a stream, spans are decoded ahead and come in file order. Memory is a few blocks per thread.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, NamedTuple

from blake3 import blake3

from coral_git import fsops
from coral_git.errors import IntegrityError, ObjectMissingError
from coral_git.limits import Limits
from coral_git.manifest.model import Manifest, Placement, expand, placements
from coral_git.pipeline.messages import owner_of
from coral_git.pipeline.parallel import Workers
from coral_git.pipeline.part_source import ReadRange
from coral_git.types import Buffer, ObjectId

if TYPE_CHECKING:
    from coral_git.store.objects import ObjectReader
    from coral_git.store.store import Store


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

    A thread decodes, checks and writes a short object from start to end, while its blocks are in the cache of
    the processor. Long ones come first, and the threads share each.

    Raises:
        IntegrityError: an object does not have the bytes that its id names; the message names the tensor.
        ObjectMissingError: an object is not in the store.
    """
    write = _FileWriter(manifest, store, fd, path)
    check = _Check(manifest, store.limits)
    for written in workers.map(write, _tasks(manifest, store.limits)):
        if written is not None:
            check.add(*written)


def stream_file(
    manifest: Manifest, store: Store, workers: Workers, held: Mapping[ObjectId, ReadRange] | None = None
) -> Iterator[Buffer]:
    """The bytes of an expanded manifest in file order.

    Args:
        manifest: the file.
        store: has its objects.
        workers: threads that decode ahead.
        held: reads objects that are at hand elsewhere; their bytes are compared with their ids all the same.

    Raises:
        IntegrityError: as in ``write_file``, after some of the bytes have been handed out.
        ObjectMissingError: an object is not in the store.
    """
    read = _SpanReader(manifest, store, held)
    check = _Check(manifest, store.limits)
    spans = []
    for placement in placements(manifest, store.limits):
        if len(placement.ranges) == 1:
            spans += [
                (placement.ranges[0][0] + span.start, span) for span in _spans(placement, _step(store.limits))
            ]
        else:  # pieces between the tensors: checked as a whole here, read piece by piece below
            for span in _spans(placement, placement.length):
                check.add(span, read(span))
            spans += _pieces(placement)
    spans.sort(key=lambda item: item[0])
    for span, data in workers.map(lambda span: (span, read(span)), (span for _, span in spans)):
        if len(span.placement.ranges) == 1:
            check.add(span, data)
        yield data


class _Span(NamedTuple):
    """Consecutive bytes of an object."""

    placement: Placement
    start: int
    length: int


def _tasks(manifest: Manifest, limits: Limits) -> Iterator[Placement | _Span]:
    """The objects of a file, the longest first and cut into spans, the short ones whole."""
    for placement in sorted(placements(manifest, limits), key=lambda placement: -placement.length):
        if placement.length > limits.kept_part_bytes:
            yield from _spans(placement, _step(limits))
        else:
            yield placement


class _FileWriter:
    """Decodes objects and spans of objects and writes them where they belong."""

    def __init__(self, manifest: Manifest, store: Store, fd: int, path: str) -> None:
        self._manifest = manifest
        self._store = store
        self._read = _SpanReader(manifest, store)
        self._fd = fd
        self._path = path

    def __call__(self, task: Placement | _Span) -> tuple[_Span, Buffer] | None:
        """Write an object or a span; the bytes of a span are given back to be checked."""
        if isinstance(task, _Span):
            data = self._read(task)
            self._put(task.placement, task.start, data)
            return task, data
        with _naming(self._manifest, task.object_id, self._store.limits):
            position = 0
            for block in _open(self._store, task).verified_blocks():
                self._put(task, position, block)
                position += len(block)
        return None

    def _put(self, placement: Placement, position: int, data: Buffer) -> None:
        for offset, piece in _scatter(placement.ranges, position, data):
            fsops.write_at(self._fd, piece, offset, self._path)


def _step(limits: Limits) -> int:
    """Bytes that are decoded at once: a block of the most usual element."""
    return limits.block_elements * 4


def _spans(placement: Placement, step: int) -> Iterator[_Span]:
    """An object cut into spans."""
    for start in range(0, placement.length, step):
        yield _Span(placement, start, min(step, placement.length - start))


def _pieces(placement: Placement) -> Iterator[tuple[int, _Span]]:
    """The pieces of an object that lies in several places, with their file offsets."""
    start = 0
    for offset, length in placement.ranges:
        yield offset, _Span(placement, start, length)
        start += length


class _Check:
    """Compares objects with their ids, as their spans come in one after the other."""

    def __init__(self, manifest: Manifest, limits: Limits) -> None:
        self._manifest = manifest
        self._limits = limits
        self._hasher = blake3()

    def add(self, span: _Span, data: Buffer) -> None:
        """Take the next span of an object; the last one decides."""
        placement = span.placement
        if span.start == 0:
            self._hasher = blake3()
        self._hasher.update(data)
        is_last = span.start + span.length == placement.length
        if is_last and self._hasher.digest() != placement.object_id:
            error = IntegrityError(
                f"object {placement.object_id.hex()} has the wrong bytes", hint="run 'git coral fsck'"
            )
            raise named(error, self._manifest, placement.object_id, self._limits)


class _SpanReader(threading.local):
    """Reads spans; each thread keeps the readers of the objects it used last."""

    def __init__(
        self, manifest: Manifest, store: Store, held: Mapping[ObjectId, ReadRange] | None = None
    ) -> None:
        self._manifest = manifest
        self._store = store
        self._held = held or {}
        self._readers: dict[ObjectId, ObjectReader] = {}

    def __call__(self, span: _Span) -> Buffer:
        held = self._held.get(span.placement.object_id)
        if held is not None:
            return held(span.start, span.length)
        with _naming(self._manifest, span.placement.object_id, self._store.limits):
            return self._reader(span.placement).read(span.start, span.length)

    def _reader(self, placement: Placement) -> ObjectReader:
        reader = self._readers.pop(placement.object_id, None)
        if reader is None:
            reader = _open(self._store, placement)
            while len(self._readers) >= 2:
                del self._readers[next(iter(self._readers))]
        self._readers[placement.object_id] = reader
        return reader


@contextlib.contextmanager
def _naming(manifest: Manifest, object_id: ObjectId, limits: Limits) -> Iterator[None]:
    try:
        yield
    except (IntegrityError, ObjectMissingError) as error:
        raise named(error, manifest, object_id, limits) from error


def named(
    error: IntegrityError | ObjectMissingError, manifest: Manifest, object_id: ObjectId, limits: Limits
) -> IntegrityError | ObjectMissingError:
    """The same error, with the tensor that the object belongs to in its message."""
    owner = owner_of(manifest, object_id)
    if not owner or owner in error.message:
        return error
    kind = ObjectMissingError if isinstance(error, ObjectMissingError) else IntegrityError
    return kind(f"{error.message} ({owner})", hint=error.hint)


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
