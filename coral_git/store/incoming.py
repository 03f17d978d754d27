"""A pack that is being written."""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import Sequence
from typing import NamedTuple

from coral_git import fsops
from coral_git.store.layout import Layout
from coral_git.store.location import Location
from coral_git.store.pack_format import PACK_HEADER, EntryHeader, encode_trailer, locate_entry
from coral_git.types import Buffer, PackId

_WRITEBACK_BYTES = 8 << 20
"""The disk is kept busy while the next entries are encoded, in steps of this length."""


class SealedPack(NamedTuple):
    """A complete pack that has no name yet.

    Attributes:
        pack: SHA-256 of its bytes.
        path: its incoming file.
        locations: its entries.
    """

    pack: PackId
    path: str
    locations: tuple[Location, ...]


class IncomingPack:
    """A file in ``objects/incoming`` that grows entry by entry; its SHA-256 is computed on the way.

    Args:
        layout: the store.
        fsync: whether it will have to be durable when it is sealed.
    """

    __slots__ = ("_digest", "_entries", "_fd", "_fsync", "_started", "length", "path")

    def __init__(self, layout: Layout, *, fsync: bool) -> None:
        self._fsync = fsync
        self._started = 0
        self.path = layout.incoming_path("pack")
        self.length = 0
        self._digest = hashlib.sha256()
        self._entries: list[tuple[EntryHeader, int]] = []
        self._fd = self._create(layout)
        try:
            self._write((PACK_HEADER,))
        except BaseException:
            self.discard()
            raise

    def _create(self, layout: Layout) -> int:
        try:
            return fsops.create_exclusive(self.path, 0o444)
        except FileNotFoundError:  # gc or a user removed the empty directory
            fsops.make_directory(layout.incoming)
            return fsops.create_exclusive(self.path, 0o444)

    def _write(self, pieces: Sequence[Buffer]) -> None:
        fsops.write_pieces(self._fd, pieces, self.path)
        for piece in pieces:
            self._digest.update(piece)
            self.length += memoryview(piece).nbytes

    def append(self, header: EntryHeader, pieces: Sequence[Buffer]) -> None:
        """Write an entry: its header, its table and its blocks as pieces."""
        offset = self.length
        self._write(pieces)
        if self.length - offset != header.entry_length:
            raise ValueError("an entry has another length than its header says")
        self._entries.append((header, offset))
        if self._fsync and self.length - self._started >= _WRITEBACK_BYTES:
            fsops.start_writeback(self._fd, self._started, self.length - self._started)
            self._started = self.length

    def seal(self) -> SealedPack:
        """Write the trailer, make the file durable and close it."""
        self._write((encode_trailer(len(self._entries)),))
        if self._fsync:
            fsops.sync_file(self._fd, self.path)
        pack = PackId(self._digest.digest())
        fd, self._fd = self._fd, -1
        os.close(fd)
        locations = tuple(locate_entry(header, pack, offset) for header, offset in self._entries)
        return SealedPack(pack, self.path, locations)

    def discard(self) -> None:
        """Close and remove the file."""
        if self._fd >= 0:
            fsops.discard(self._fd, self.path)
            self._fd = -1
        else:
            with contextlib.suppress(OSError):
                os.unlink(self.path)
