"""What the store holds: the directories on disk, mirrored in the tables of the cache."""

from __future__ import annotations

import contextlib
import errno
import os
import threading
import time
from collections.abc import Mapping, Sequence

from coral_git import fsops
from coral_git.errors import CoralError, IntegrityError, ObjectMissingError
from coral_git.limits import Limits
from coral_git.store.cache import Cache
from coral_git.store.layout import LIVE, Layout, is_place, parse_pack_name
from coral_git.store.location import Location
from coral_git.store.pack_files import PackFile, PackFiles
from coral_git.store.pack_index import decode_index
from coral_git.store.pack_scan import pack_digest, scan_pack
from coral_git.store.pack_table import PackRow, PackTable, Placed
from coral_git.store.publishing import write_incoming_index
from coral_git.types import ObjectId, PackId

_MAX_INDEX = 1 << 30
_INODE_MASK = (1 << 63) - 1
_CANNOT_WRITE = frozenset({errno.EACCES, errno.EPERM, errno.EROFS})
_Watch = tuple[int, int, int]
_Remembered = Mapping[ObjectId, Sequence[Placed]]


class Catalog:
    """Finds objects. What the cache says is checked against the disk before it is handed out.

    Args:
        layout: the store.
        limits: the caps.
        cache: holder of the tables.
        files: the open packs, to be told where packs lie.
        fsync: whether new names are made durable.
    """

    __slots__ = ("_files", "_fsync", "_layout", "_limits", "_lock", "_table", "_watch")

    def __init__(
        self, layout: Layout, limits: Limits, cache: Cache, files: PackFiles, *, fsync: bool
    ) -> None:
        self._layout = layout
        self._limits = limits
        self._files = files
        self._fsync = fsync
        self._table = PackTable(cache.database)
        self._lock = threading.RLock()
        self._watch: _Watch | None = None

    def find(
        self, object_ids: Sequence[ObjectId], *, thorough: bool = True
    ) -> dict[ObjectId, list[Location]]:
        """Every copy of the objects that are stored, best first.

        Args:
            object_ids: what is wanted.
            thorough: list the directories when something misses even if their times did not change.
        """
        found, missing, remembered = self._look(object_ids)
        if missing and (thorough or self._watch is None or self._watch != self._observe()):
            self.rescan()
            found, missing, remembered = self._look(object_ids)
        if missing and remembered:
            found.update(self._restore(missing, remembered))
        return found

    def _look(
        self, object_ids: Sequence[ObjectId]
    ) -> tuple[dict[ObjectId, list[Location]], list[ObjectId], _Remembered]:
        """The copies whose packs are in place, the ids without one, and all that is remembered."""
        remembered = self._table.lookup(object_ids)
        present: dict[tuple[PackId, str], bool] = {}
        found = {}
        for object_id, copies in remembered.items():
            live = [placed.location for placed in copies if self._is_live(placed, present)]
            if live:
                found[object_id] = live
        return found, [object_id for object_id in object_ids if object_id not in found], remembered

    def _is_live(self, placed: Placed, present: dict[tuple[PackId, str], bool]) -> bool:
        pack = placed.location.pack
        key = (pack, placed.place)
        if key not in present:
            path = self._layout.pack_path(pack, placed.place)
            readable_there = placed.place == LIVE or self._files.path(pack) == path
            present[key] = readable_there and os.path.exists(path)
        return present[key]

    # Mirroring the directories

    def rescan(self) -> None:
        """List the directories and bring the tables up to date."""
        with self._lock:
            before = self._observe()
            disk = self._list_disk()
            known = self._table.packs()
            gone = [pack for pack in known if pack not in disk]
            if gone:
                self._table.forget(gone)
                for pack in gone:
                    self._files.forget(pack)
            moved = {}
            for pack, (place, size, inode) in disk.items():
                row = known.get(pack)
                if row is None or (row.size, row.inode) != (size, inode):
                    self._ingest(pack, place, size, inode)
                elif row.place != place:
                    moved[pack] = place
            if moved:
                self._table.move(moved)
            self._watch = before

    def _observe(self) -> _Watch:
        """Numbers that change when a pack comes or goes, or when the tables lost rows."""
        times = []
        for directory in (self._layout.packs, self._layout.trash):
            try:
                times.append(os.stat(directory).st_mtime_ns)
            except OSError:
                times.append(0)
        return times[0], times[1], self._table.database.generation

    def _list_disk(self) -> dict[PackId, tuple[str, int, int]]:
        """Every pack with its place, size and inode; the live place wins."""
        places = [LIVE]
        with contextlib.suppress(OSError):
            trash = (f"trash/{name}" for name in os.listdir(self._layout.trash))
            places = [*sorted(place for place in trash if is_place(place)), LIVE]
        disk = {}
        for place in places:
            directory = os.path.join(self._layout.root, place) if place else self._layout.packs
            with contextlib.suppress(FileNotFoundError, NotADirectoryError), os.scandir(directory) as entries:
                for entry in entries:
                    pack = parse_pack_name(entry.name)
                    if pack is not None:
                        with contextlib.suppress(FileNotFoundError):
                            status = entry.stat(follow_symlinks=False)
                            disk[pack] = (place, status.st_size, status.st_ino & _INODE_MASK)
        return disk

    def _ingest(self, pack: PackId, place: str, size: int, inode: int) -> None:
        """Read the index of a pack into the tables; a pack that cannot be used is remembered as such."""
        try:
            locations = self._load(pack, place, size)
        except CoralError:
            self._table.add(pack, PackRow(place, size, inode, usable=False), ())
        except OSError:
            return  # moved on since it was listed, or not readable now: the next rescan tries again
        else:
            self._table.add(pack, PackRow(place, size, inode, usable=True), locations)

    def _load(self, pack: PackId, place: str, size: int) -> list[Location]:
        """The entries of a pack from its index, or from the pack itself where the index is no good."""
        path = self._layout.index_path(pack, place)
        try:
            file = PackFile(path)
            return decode_index(file.read_up_to(0, _MAX_INDEX), pack, size)
        except (CoralError, FileNotFoundError) as error:
            file_of_pack = PackFile(self._layout.pack_path(pack, place))
            if pack_digest(file_of_pack) != pack:
                raise IntegrityError(f"the pack '{pack.hex()}' is damaged, and so is its index") from error
            locations = list(scan_pack(file_of_pack, pack, self._limits))
            newer = not isinstance(error, (IntegrityError, FileNotFoundError))
            if place == LIVE and not newer:
                self._replace_index(pack, locations)
            return locations

    def _replace_index(self, pack: PackId, locations: Sequence[Location]) -> None:
        """Write the index of a pack anew; a store that cannot be written does without."""
        with contextlib.suppress(OSError):
            incoming = write_incoming_index(self._layout, pack, locations, fsync=self._fsync)
            try:
                fsops.rename(incoming, self._layout.index_path(pack))
            except BaseException:
                with contextlib.suppress(OSError):
                    os.unlink(incoming)
                raise

    def published(self, pack: PackId, locations: Sequence[Location]) -> None:
        """Remember a pack that this process has just published."""
        self._files.forget(pack)
        with contextlib.suppress(FileNotFoundError):
            status = os.stat(self._layout.pack_path(pack))
            row = PackRow(LIVE, status.st_size, status.st_ino & _INODE_MASK, usable=True)
            self._table.add(pack, row, locations)

    def reload(self, pack: PackId) -> None:
        """Forget what is remembered of a pack and read its index again."""
        with self._lock:
            self._table.forget((pack,))
            self._files.forget(pack)
            self.rescan()

    def reload_object(self, object_id: ObjectId) -> None:
        """Read the indexes of the packs again that are remembered to hold an object."""
        for location in self.find((object_id,)).get(object_id, ()):
            self.reload(location.pack)

    def pack_objects(self, pack: PackId) -> list[Location]:
        """The entries of one live pack by offset, from its index.

        Raises:
            ObjectMissingError: there is no such pack.
            IntegrityError: pack and index are damaged.
        """
        try:
            size = os.stat(self._layout.pack_path(pack)).st_size
            return sorted(self._load(pack, LIVE, size), key=lambda location: location.offset)
        except FileNotFoundError:
            raise ObjectMissingError(f"pack '{pack.hex()}' is not in the store") from None

    # The trash, and wanted packs

    def _restore(
        self, missing: Sequence[ObjectId], remembered: _Remembered
    ) -> dict[ObjectId, list[Location]]:
        """Bring packs back from the trash that hold wanted objects."""
        found: dict[ObjectId, list[Location]] = {}
        moved: dict[PackId, str] = {}
        for object_id in missing:
            for placed in remembered.get(object_id, ()):
                pack = placed.location.pack
                if placed.place == LIVE:
                    continue
                if pack not in moved:
                    if not os.path.exists(self._layout.pack_path(pack, placed.place)):
                        continue
                    moved[pack] = self._bring_back(pack, placed.place)
                if os.path.exists(self._layout.pack_path(pack, moved[pack])):
                    found.setdefault(object_id, []).append(placed.location)
        live = {pack: place for pack, place in moved.items() if place == LIVE}
        if live:
            self._table.move(live)
        return found

    def _bring_back(self, pack: PackId, place: str) -> str:
        """Move one pack out of the trash; where that is not allowed, read it there."""
        try:
            # The time goes first: gc must not find the pack old again in the moment after the rename.
            fsops.touch(self._layout.pack_path(pack, place))
            fsops.rename(self._layout.pack_path(pack, place), self._layout.pack_path(pack))
            with contextlib.suppress(FileNotFoundError):
                fsops.rename(self._layout.index_path(pack, place), self._layout.index_path(pack))
            if self._fsync:
                fsops.sync_directory(self._layout.packs)
        except FileNotFoundError:
            return LIVE  # somebody else brought it back, or the next look finds it gone
        except OSError as error:
            if error.errno not in _CANNOT_WRITE:
                raise
            self._files.set_place(pack, place)
            return place
        self._files.forget(pack)
        return LIVE

    def freshen(self, object_id: ObjectId, max_age: float) -> bool:
        """Touch the packs of an object that are older than ``max_age`` seconds; whether it is stored."""
        copies = self.find((object_id,), thorough=False).get(object_id, [])
        fresh = [self.freshen_pack(location.pack, max_age) for location in copies]
        return any(fresh)

    def freshen_pack(self, pack: PackId, max_age: float) -> bool:
        """Touch a pack that is older than ``max_age`` seconds; whether it is still there."""
        path = self._files.path(pack)
        try:
            if os.stat(path).st_mtime < time.time() - max_age:
                fsops.touch(path)
        except FileNotFoundError:
            return False
        except OSError as error:
            if error.errno not in _CANNOT_WRITE:  # somebody else's file: what is named stays live anyway
                raise
        return True
