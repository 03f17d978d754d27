"""The store as the layers above see it: find objects, read them, write packs.

What writes is imported only when something is written: a checkout reads, and the user waits.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Self

from coral_git import fsops
from coral_git.errors import IntegrityError, ObjectMissingError, from_os_error
from coral_git.limits import DEFAULT_LIMITS, Limits
from coral_git.store.cache import Cache
from coral_git.store.catalog import Catalog
from coral_git.store.chains import find_chain, missing_object
from coral_git.store.layout import Layout, check_format, create_layout, parse_pack_name
from coral_git.store.location import Location, PackInfo
from coral_git.store.objects import DamagedEntry, ObjectReader, open_chain, read_object
from coral_git.store.pack_files import PackFile, PackFiles
from coral_git.types import ObjectId, PackId

if TYPE_CHECKING:
    from coral_git.store.verify import Problem
    from coral_git.store.writer import PackWriter

FRESH_SECONDS = 86_400
"""A pack that was wanted within this time is not touched again."""

_ATTEMPTS = 16


class Store:
    """A directory of immutable packs. Safe to use from several threads and processes at once.

    Use :meth:`open` or :meth:`create`. Reading works where nothing can be written.

    Attributes:
        root: the directory that holds ``FORMAT``.
        limits: the caps that apply.
        fsync: whether packs are made durable before they are named.
        layout: the paths below the root.
        cache: the stat cache and the other hints; may vanish at any time.
    """

    __slots__ = ("_catalog", "_files", "cache", "fsync", "layout", "limits", "root")

    def __init__(self, layout: Layout, limits: Limits, *, fsync: bool) -> None:
        self.root = layout.root
        self.layout = layout
        self.limits = limits
        self.fsync = fsync
        self.cache = Cache(layout.cache)
        self._files = PackFiles(layout)
        self._catalog = Catalog(layout, limits, self.cache, self._files, fsync=fsync)

    @classmethod
    def open(cls, root: str, limits: Limits = DEFAULT_LIMITS, *, fsync: bool = True) -> Store:
        """Open an existing store; nothing but its ``FORMAT`` file is read.

        Raises:
            NotARepositoryError: ``root`` is no store.
            FormatVersionError: a newer version made it.
        """
        layout = Layout(os.path.abspath(root))
        check_format(layout)
        return cls(layout, limits, fsync=fsync)

    @classmethod
    def create(cls, root: str, limits: Limits = DEFAULT_LIMITS, *, fsync: bool = True) -> Store:
        """Make a store, or open the one that is there."""
        layout = Layout(os.path.abspath(root))
        try:
            create_layout(layout)
        except OSError as error:
            raise from_os_error(error, f"create the store {root!r}") from error
        return cls.open(root, limits, fsync=fsync)

    def close(self) -> None:
        """Close files and the cache; both open again when the store is used once more."""
        self._files.clear()
        self.cache.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # Finding

    def refresh(self) -> None:
        """Look at the pack directory and the trash again."""
        self._catalog.rescan()

    def has(self, object_id: ObjectId) -> bool:
        """Whether the object is stored; cheap enough to ask for every object one by one.

        The directories are listed again only when their times changed, so a pack that another process
        published within the last clock tick can be overlooked. :meth:`find_missing` always looks.
        """
        return object_id in self._catalog.find((object_id,), thorough=False)

    def find_missing(self, object_ids: Iterable[ObjectId]) -> list[ObjectId]:
        """The ids among ``object_ids`` that are not stored, in their order and without repetition.

        Rescans once when something misses; packs in the trash that hold a wanted object come back.
        """
        wanted = list(dict.fromkeys(object_ids))
        found = self._catalog.find(wanted)
        return [object_id for object_id in wanted if object_id not in found]

    def locations(self, object_ids: Iterable[ObjectId]) -> dict[ObjectId, list[Location]]:
        """Every copy of each stored object, best first; ids that are not stored have no entry."""
        return self._catalog.find(tuple(object_ids))

    def stored_bytes(self, object_ids: Iterable[ObjectId]) -> int | None:
        """Bytes that the best copies of objects take in packs; None where one of them is not stored."""
        wanted = tuple(object_ids)
        lengths = self.stored_lengths(wanted)
        return None if any(one not in lengths for one in wanted) else sum(lengths.values())

    def stored_lengths(self, object_ids: Iterable[ObjectId]) -> dict[ObjectId, int]:
        """Bytes that the best copy of each object takes in its pack; as cheap as ``has``, and as certain."""
        found = self._catalog.find(tuple(object_ids), thorough=False)
        return {object_id: copies[0].entry_length for object_id, copies in found.items()}

    def locate(self, object_id: ObjectId) -> Location:
        """Where the object lies; of several copies a full one, else the newest.

        Raises:
            ObjectMissingError: it is not stored.
        """
        found = self._catalog.find((object_id,)).get(object_id)
        if not found:
            raise missing_object(object_id)
        return found[0]

    def chain(self, object_id: ObjectId) -> list[Location]:
        """The entry of an object, the entry of its base, and so on to a full copy.

        Raises:
            ObjectMissingError: the object or a base is not stored.
            IntegrityError: the deltas form a cycle, or are deeper than ``limits.chain_depth_read``.
        """
        return find_chain(object_id, self.locations, self.limits.chain_depth_read)

    def depth(self, object_id: ObjectId) -> int:
        """Deltas between the object and its full copy; 0 for a full copy."""
        return len(self.chain(object_id)) - 1

    # Reading

    def reader(self, object_id: ObjectId) -> ObjectReader:
        """A reader of one object. It holds its packs open, so gc cannot take them away.

        An entry whose header is damaged is skipped where another copy exists. A pack that vanished
        after it was looked up leads to a rescan and another attempt.

        Raises:
            ObjectMissingError: the object or a base is not stored.
            IntegrityError: every copy is damaged.
        """
        damaged: dict[Location, DamagedEntry] = {}
        reloaded = False

        def intact(object_ids: Iterable[ObjectId]) -> dict[ObjectId, list[Location]]:
            found = self.locations(object_ids)
            return {key: [one for one in copies if one not in damaged] for key, copies in found.items()}

        for _ in range(_ATTEMPTS):
            try:
                chain = find_chain(object_id, intact, self.limits.chain_depth_read)
                return open_chain(chain, self._files.open, self.limits)
            except FileNotFoundError:
                self._catalog.rescan()
            except DamagedEntry as error:
                damaged[error.location] = error
                self._catalog.reload(error.location.pack)  # the location was a hint, and maybe a wrong one
            except (ObjectMissingError, IntegrityError):  # no chain, as far as the cache knows
                if damaged:
                    raise next(iter(damaged.values())) from None
                if reloaded:
                    raise
                reloaded = True
                self._catalog.reload_object(object_id)
            except OSError as error:
                raise from_os_error(error, f"read object '{object_id.hex()}'") from error
        raise IntegrityError(
            f"cannot read object '{object_id.hex()}': its packs are damaged or keep vanishing",
            hint="run 'git coral fsck'",
        )

    def read(self, object_id: ObjectId, limit: int) -> bytes:
        """The bytes of a small object, verified against its id.

        Args:
            object_id: the object.
            limit: bytes that the caller is ready to hold.

        Raises:
            ObjectMissingError: it is not stored.
            IntegrityError: it is damaged.
            PolicyError: it is longer than ``limit``.
        """
        return read_object(self.reader(object_id), limit)

    def open_pack(self, pack: PackId) -> PackFile:
        """The file of a pack, opened; it stays readable when gc moves it.

        Raises:
            FileNotFoundError: it is gone.
        """
        return self._files.open(pack)

    # Writing

    def writer(self) -> PackWriter:
        """A session that writes packs; see :class:`coral_git.store.writer.PackWriter`."""
        from coral_git.store.writer import PackWriter

        return PackWriter(self.layout, self.limits, self._catalog, self._files, fsync=self.fsync)

    def exporter(self, other: Store) -> PackWriter:
        """A session that writes packs into another store and may copy entries of this one."""
        from coral_git.store.writer import PackWriter

        return PackWriter(other.layout, other.limits, other._catalog, self._files, fsync=other.fsync)

    def import_pack(self, incoming: str, *, expected: PackId | None = None, decode: bool = True) -> PackId:
        """Check a pack that came from outside and publish it; the incoming file is removed in any case.

        Args:
            incoming: a file on the file system of the store, best made in ``layout.incoming``.
            expected: the id that the sender promised.
            decode: decode every object whose bases are at hand and compare it with its id, so that a
                hostile pack cannot claim an id that somebody else is about to store.

        Raises:
            IntegrityError: the bytes are not a valid pack, not the promised one, or an object is wrong.
            FormatVersionError: a newer version wrote it.
            PolicyError: it is larger than ``limits.pack_max``.
            StorageFullError: no space is left.
        """
        from coral_git.store.importing import check_incoming, take_in

        try:
            locations = check_incoming(incoming, self.limits, expected, self if decode else None)
            pack = take_in(self.layout, incoming, locations, fsync=self.fsync)
        finally:
            with contextlib.suppress(OSError):
                fsops.remove(incoming)
        self._catalog.published(pack, locations)
        return pack

    def freshen(self, object_id: ObjectId) -> bool:
        """Tell gc that an object is wanted: touch its packs when they are older than a day.

        Returns:
            Whether the object is stored.
        """
        return self._catalog.freshen(object_id, FRESH_SECONDS)

    # Packs

    def packs(self) -> list[PackInfo]:
        """The packs in ``objects/packs`` by name, read from the directory now."""
        found = []
        with contextlib.suppress(FileNotFoundError), os.scandir(self.layout.packs) as entries:
            for entry in entries:
                pack = parse_pack_name(entry.name)
                if pack is not None:
                    with contextlib.suppress(FileNotFoundError):  # gone since it was listed
                        status = entry.stat(follow_symlinks=False)
                        found.append(PackInfo(pack, entry.path, status.st_size, status.st_mtime))
        return sorted(found, key=lambda info: info.id)

    def pack_objects(self, pack: PackId) -> list[Location]:
        """The entries of one pack by offset, from its index.

        Raises:
            ObjectMissingError: the store has no such pack.
            IntegrityError: the pack and its index are both damaged.
        """
        return self._catalog.pack_objects(pack)

    def verify(self, pack: PackId, *, decode: bool = True) -> Iterator[Problem]:
        """Check one pack, its objects too; see :func:`coral_git.store.verify.verify_pack`."""
        from coral_git.store.verify import verify_pack

        return verify_pack(self.layout.pack_path(pack), self.limits, bases=self, decode=decode)
