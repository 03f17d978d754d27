"""Writing packs: one session collects entries, then publishes all its packs at once."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator, Sequence
from typing import Self

from coral_git import fsops
from coral_git.codecs.base import EncodedObject
from coral_git.errors import PolicyError, from_os_error
from coral_git.limits import Limits
from coral_git.store.catalog import Catalog
from coral_git.store.chains import missing_object
from coral_git.store.incoming import IncomingPack, SealedPack
from coral_git.store.layout import Layout
from coral_git.store.location import Location
from coral_git.store.objects import Entry, is_entry
from coral_git.store.pack_files import PackFiles
from coral_git.store.pack_format import (
    MAX_BLOCK_SIZE,
    MAX_BLOCKS,
    PACK_HEADER_LENGTH,
    TRAILER_LENGTH,
    EntryHeader,
    block_count_of,
    checksum_pieces,
    encode_entry_header,
    encode_table,
    max_raw_length,
    table_digest,
)
from coral_git.store.publishing import publish_pack, write_incoming_index
from coral_git.types import Buffer, ObjectId, PackId

_FRESH_SECONDS = 86_400


class PackWriter:
    """A session that writes packs. Nothing is visible before :meth:`finish` has returned.

    Use it as a context manager: leaving the block without :meth:`finish` discards everything, and so does
    any error. The methods may be called from several threads.

    Args:
        layout: the store.
        limits: the caps.
        catalog: answers what is stored, and learns of new packs.
        files: the open packs.
        fsync: whether packs are made durable.
    """

    __slots__ = (
        "_catalog", "_closed", "_current", "_files", "_fresh", "_fsync", "_layout", "_limits", "_lock",
        "_sealed", "_written",
    )  # fmt: skip

    def __init__(
        self, layout: Layout, limits: Limits, catalog: Catalog, files: PackFiles, *, fsync: bool
    ) -> None:
        self._layout = layout
        self._limits = limits
        self._catalog = catalog
        self._files = files
        self._fsync = fsync
        self._lock = threading.RLock()
        self._current: IncomingPack | None = None
        self._sealed: list[SealedPack] = []
        self._written: set[ObjectId] = set()
        self._fresh: set[PackId] = set()
        self._closed = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.discard()

    def contains(self, object_id: ObjectId) -> bool:
        """Whether the object was added in this session or is stored.

        A stored object counts only when its entry header is found intact on disk. Its pack is touched when
        it is older than a day, so that gc knows that the object is wanted. Asking does not wait for an
        object that is being written.
        """
        return object_id in self._written or self._is_stored(object_id)

    def _is_stored(self, object_id: ObjectId) -> bool:
        for _ in range(2):
            try:
                for location in self._catalog.find((object_id,), thorough=False).get(object_id, ()):
                    if is_entry(self._files.open(location.pack), location, self._limits) and self._freshen(
                        location.pack
                    ):
                        return True
            except FileNotFoundError:
                self._catalog.rescan()
            else:
                return False
        return False

    def _freshen(self, pack: PackId) -> bool:
        if pack not in self._fresh:
            if not self._catalog.freshen_pack(pack, _FRESH_SECONDS):
                return False
            self._fresh.add(pack)
        return True

    def add(self, encoded: EncodedObject) -> int:
        """Write an encoded object; one that this session has written already is left out.

        Returns:
            The bytes that it takes in the pack.

        Raises:
            StorageFullError: no space is left.
            PolicyError: the entry is larger than a pack may be.
        """
        rows = [
            (sum(memoryview(piece).nbytes for piece in pieces), checksum_pieces(pieces))
            for pieces in encoded.blocks
        ]
        table = encode_table(rows)
        header = _header_of(encoded, len(table) + sum(length for length, _ in rows), table, self._limits)
        pieces = [encode_entry_header(header), table, *(piece for block in encoded.blocks for piece in block)]
        return self._append(header, pieces)

    def copy(self, location: Location) -> int:
        """Write an entry of an existing pack again, byte for byte, checking its checksums on the way.

        Returns:
            The bytes that it takes in the pack.

        Raises:
            IntegrityError: the entry is damaged.
            ObjectMissingError: its pack is gone, and no other pack has the object.
            StorageFullError: no space is left.
        """
        entry = self._open_entry(location)
        blocks = [entry.stored_block(number) for number in range(entry.header.block_count)]
        pieces = [encode_entry_header(entry.header), encode_table(entry.rows), *blocks]
        return self._append(entry.header, pieces)

    def _open_entry(self, location: Location) -> Entry:
        try:
            return Entry(self._files.open(location.pack), location, self._limits)
        except FileNotFoundError:
            self._catalog.rescan()
        for other in self._catalog.find((location.object_id,)).get(location.object_id, ()):
            with contextlib.suppress(FileNotFoundError):
                return Entry(self._files.open(other.pack), other, self._limits)
        raise missing_object(location.object_id)

    def _append(self, header: EntryHeader, pieces: Sequence[Buffer]) -> int:
        length = header.entry_length
        if PACK_HEADER_LENGTH + length + TRAILER_LENGTH > self._limits.pack_max:
            raise PolicyError(
                f"object '{header.object_id.hex()}' takes {length} bytes, more than a pack may have"
            )
        with self._lock, self._guarded():
            if header.object_id in self._written:
                return 0
            if self._current and self._current.length + length + TRAILER_LENGTH > self._limits.pack_max:
                self._seal()
            if self._current is None:
                self._current = IncomingPack(self._layout, fsync=self._fsync)
            self._current.append(header, pieces)
            self._written.add(header.object_id)
            if self._current.length >= self._limits.pack_target:
                self._seal()
        return length

    def _seal(self) -> None:
        if self._current is not None:
            self._sealed.append(self._current.seal())
            self._current = None

    def finish(self) -> list[PackId]:
        """Publish every pack of the session and make it durable; the session is over then.

        Returns:
            The packs, in the order in which they were written; none when nothing was added.

        Raises:
            StorageFullError: no space is left. Packs that have their names already stay; they do no harm.
        """
        with self._lock, self._guarded():
            self._seal()
            indexes: list[str] = []
            try:
                for sealed in self._sealed:
                    indexes.append(  # noqa: PERF401  (what exists must be known when one fails)
                        write_incoming_index(self._layout, sealed.pack, sealed.locations, fsync=self._fsync)
                    )
                for sealed, index in zip(self._sealed, indexes, strict=True):
                    publish_pack(self._layout, sealed.pack, sealed.path, index)
                if self._fsync and (self._sealed or self._fresh):
                    # Also without a new pack: one that was found may be so new that its name is not durable.
                    fsops.sync_directory(self._layout.packs)
            except BaseException:
                for index in indexes:
                    _unlink(index)
                raise
            for sealed in self._sealed:
                self._catalog.published(sealed.pack, sealed.locations)
            packs = [sealed.pack for sealed in self._sealed]
            self._sealed = []
            self._closed = True
            return packs

    def discard(self) -> None:
        """Remove what was not published. Harmless after :meth:`finish`, and when called again."""
        with self._lock:
            self._closed = True
            if self._current is not None:
                self._current.discard()
                self._current = None
            for sealed in self._sealed:
                _unlink(sealed.path)
            self._sealed = []

    @contextlib.contextmanager
    def _guarded(self) -> Iterator[None]:
        """Discard the session on any error: a pack that was half written to is of no use."""
        if self._closed:
            raise ValueError("the session is over")
        try:
            yield
        except OSError as error:
            self.discard()
            raise from_os_error(error, f"write a pack in {self._layout.incoming!r}") from error
        except BaseException:
            self.discard()
            raise


def _unlink(path: str) -> None:
    with contextlib.suppress(OSError):
        fsops.remove(path)


def _header_of(encoded: EncodedObject, payload_length: int, table: bytes, limits: Limits) -> EntryHeader:
    """The entry header of an encoded object; refuses what no reader would accept."""
    count = block_count_of(encoded.raw_length, encoded.block_size)
    if encoded.raw_length > max_raw_length(limits):
        raise PolicyError(
            f"object '{encoded.object_id.hex()}' has {encoded.raw_length} bytes, too many for one"
        )
    if count > MAX_BLOCKS or encoded.block_size > MAX_BLOCK_SIZE:
        raise ValueError("the blocks of an encoded object are too many or too large")
    if count != len(encoded.blocks) or (encoded.raw_length and not count):
        raise ValueError("the blocks of an encoded object do not cover it")
    if encoded.base == encoded.object_id:
        raise ValueError("an object is its own base")
    return EntryHeader(
        object_id=encoded.object_id,
        codec=encoded.codec,
        element=encoded.element,
        base=encoded.base,
        base_element=encoded.base_element,
        base_offset=encoded.base_offset,
        raw_length=encoded.raw_length,
        block_size=encoded.block_size,
        block_count=count,
        payload_length=payload_length,
        table_checksum=table_digest(table),
    )
