"""A version of a weight file whose tensors can be read: in the store, or as a file on disk."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import NamedTuple, Protocol

from coral_git.errors import UsageError
from coral_git.formats.chunked import chunk_file
from coral_git.formats.registry import read_layout
from coral_git.limits import Limits
from coral_git.manifest.build import build, build_chunked
from coral_git.manifest.entries import Manifest, TensorEntry
from coral_git.manifest.escape import printable
from coral_git.manifest.parts import chunk_parts
from coral_git.manifest.parts import parts as list_parts
from coral_git.pipeline.parallel import Workers
from coral_git.pipeline.part_source import PartSource, hash_part, read_ranges
from coral_git.pipeline.source import FileSource, open_regular
from coral_git.pipeline.stored_file import layout_of
from coral_git.pipeline.tensors import StoredBytes
from coral_git.store.store import Store
from coral_git.types import Buffer, FileDigest, ObjectId

Read = Callable[[int, int], Buffer]
"""Reads (start, length) of the bytes of a tensor."""


class Version(Protocol):
    """A version of a file."""

    @property
    def manifest(self) -> Manifest:
        """Its expanded manifest."""
        ...

    def reader(self, entry: TensorEntry, held: dict[ObjectId, Read]) -> Read:
        """What reads a tensor.

        Args:
            entry: a tensor of the manifest.
            held: readers of objects that are open already.
        """
        ...


class StoredVersion(NamedTuple):
    """A version in the store; bytes that are read from start to end are compared with their ids.

    Attributes:
        manifest: expanded.
        store: has its objects.
    """

    manifest: Manifest
    store: Store

    def reader(self, entry: TensorEntry, held: dict[ObjectId, Read]) -> Read:
        """What reads a tensor."""
        return StoredBytes(entry, self.manifest, self.store, held)


class FileVersion:
    """A file on disk, hashed to know which tensors are the same; nothing is stored.

    Args:
        source: the open file.
        manifest: its manifest, expanded.
    """

    def __init__(self, source: FileSource, manifest: Manifest) -> None:
        self._source = source
        self._manifest = manifest
        self._offsets = {segment.name: segment.offset for segment in layout_of(manifest).tensors}

    @property
    def manifest(self) -> Manifest:
        """Its manifest."""
        return self._manifest

    def close(self) -> None:
        """Close the file."""
        self._source.close()

    def reader(self, entry: TensorEntry, held: dict[ObjectId, Read]) -> Read:
        """What reads a tensor."""
        first = self._offsets[entry.name]
        return lambda start, length: self._source.read_at(first + start, min(length, entry.nbytes - start))


def open_file(path: bytes, workers: Workers, limits: Limits) -> FileVersion:
    """A file as a version; it stays open as long as the version is used.

    Raises:
        UsageError: it is no regular file, or changed while it was read.
    """
    source = open_regular(path)
    if source is None:
        raise UsageError(f"'{printable(os.fsdecode(path))}' is no file that can be read")
    return FileVersion(source, describe(source, workers, limits))


def describe(source: FileSource, workers: Workers, limits: Limits) -> Manifest:
    """The expanded manifest that a file has; its SHA-256 is left out.

    Raises:
        CoralError: the file changed while it was read.
    """
    layout = read_layout(source, limits)
    parts = (
        list(chunk_parts(chunk_file(source))) if layout is None else list_parts(layout, source.size, limits)
    )
    sources = (PartSource(read_ranges(source, part.ranges), part.length, part.element) for part in parts)
    ids = [part.object_id for part in workers.map(hash_part, sources)]
    source.check_unchanged()
    nothing = FileDigest(bytes(32))
    if layout is None:
        lengths = (part.length for part in parts)
        return build_chunked(zip(lengths, ids, strict=True), source.size, nothing)
    return build(layout, source.size, nothing, ids, limits)
