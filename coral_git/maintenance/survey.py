"""What lies in a store: every pack with its entries, in its place and in the trash."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from dataclasses import dataclass

from coral_git.errors import CoralError, IntegrityError, ObjectMissingError
from coral_git.store.layout import INDEX_SUFFIX, LIVE, PACK_SUFFIX, is_place, parse_pack_name
from coral_git.store.location import Location, PackInfo
from coral_git.store.objects import Entry
from coral_git.store.pack_files import PackFile
from coral_git.store.pack_index import decode_index
from coral_git.store.pack_scan import pack_digest, scan_pack
from coral_git.store.store import Store
from coral_git.types import ObjectId, PackId


@dataclass(frozen=True, slots=True)
class PackState:
    """A pack and what is in it.

    Attributes:
        info: its name, file, size and time.
        place: where it lies, see ``store.layout.LIVE``.
        entries: its entries by offset.
    """

    info: PackInfo
    place: str
    entries: tuple[Location, ...]

    @property
    def stamp(self) -> int:
        """When it was thrown away, in seconds since the epoch; only for a pack in the trash."""
        return int(self.place.rpartition("/")[2])


@dataclass(frozen=True, slots=True)
class Survey:
    """The contents of a store at one time.

    Attributes:
        packs: the packs in their place.
        trash: the packs in the trash, the youngest first.
        unreadable: the paths of packs whose entries cannot be listed, with the reason; in either place.
    """

    packs: tuple[PackState, ...]
    trash: tuple[PackState, ...]
    unreadable: dict[str, CoralError]

    def objects(self) -> set[ObjectId]:
        """The objects of the packs in their place."""
        return {location.object_id for state in self.packs for location in state.entries}


def take_survey(store: Store) -> Survey:
    """List every pack. Nothing is decoded."""
    unreadable: dict[str, CoralError] = {}
    packs = []
    for info in store.packs():
        try:
            packs.append(PackState(info, LIVE, tuple(store.pack_objects(info.id))))
        except ObjectMissingError:
            continue  # gone since it was listed
        except CoralError as error:
            unreadable[info.path] = error
        except OSError as error:
            unreadable[info.path] = IntegrityError(f"cannot read it: {error}")
    return Survey(tuple(packs), tuple(_trash(store, unreadable)), unreadable)


def trash_places(store: Store) -> list[str]:
    """The places in the trash, the youngest first."""
    try:
        names = os.listdir(store.layout.trash)
    except (FileNotFoundError, NotADirectoryError):
        return []
    places = [f"trash/{name}" for name in names if is_place(f"trash/{name}")]
    return sorted(places, key=lambda place: -int(place.rpartition("/")[2]))


def is_sound(store: Store, location: Location) -> bool:
    """Whether the stored bytes of an entry match their checksums."""
    try:
        entry = Entry(store.open_pack(location.pack), location, store.limits)
        for number in range(entry.header.block_count):
            entry.stored_block(number)
    except (CoralError, OSError):
        return False
    return True


def _trash(store: Store, unreadable: dict[str, CoralError]) -> Iterator[PackState]:
    for place in trash_places(store):
        folder = os.path.join(store.root, place)
        with contextlib.suppress(FileNotFoundError, NotADirectoryError), os.scandir(folder) as entries:
            for entry in sorted(entries, key=lambda entry: entry.name):
                pack = parse_pack_name(entry.name)
                if pack is None:
                    continue
                status = entry.stat(follow_symlinks=False)
                info = PackInfo(pack, entry.path, status.st_size, status.st_mtime)
                try:
                    yield PackState(info, place, tuple(read_entries(info.path, pack, store)))
                except CoralError as error:
                    unreadable[info.path] = error
                except OSError as error:
                    unreadable[info.path] = IntegrityError(f"cannot read it: {error}")


def read_entries(path: str, pack: PackId, store: Store) -> list[Location]:
    """The entries of a pack anywhere, from the index beside it or, failing that, from the pack.

    Raises:
        CoralError: both are damaged, or of a newer version.
        OSError: the pack cannot be read.
    """
    file = PackFile(path)
    try:
        index = PackFile(path.removesuffix(PACK_SUFFIX) + INDEX_SUFFIX)
        return sorted(decode_index(index.read(0, index.size), pack, file.size), key=_offset)
    except (CoralError, FileNotFoundError) as error:
        if pack_digest(file) != pack:
            raise IntegrityError(f"the pack '{pack.hex()}' is damaged, and so is its index") from error
        return list(scan_pack(file, pack, store.limits))


def _offset(location: Location) -> int:
    return location.offset
