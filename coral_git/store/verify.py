"""Checking packs from the first byte to the last."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Literal, NamedTuple, Protocol

from coral_git.errors import CoralError, FormatVersionError, IntegrityError, ObjectMissingError
from coral_git.limits import DEFAULT_LIMITS, Limits
from coral_git.store.chains import find_chain
from coral_git.store.layout import INDEX_SUFFIX, PACK_SUFFIX, parse_pack_name
from coral_git.store.location import Location
from coral_git.store.objects import Entry, open_chain
from coral_git.store.pack_files import PackFile
from coral_git.store.pack_index import decode_index, encode_index
from coral_git.store.pack_scan import pack_digest, scan_pack
from coral_git.types import ObjectId, PackId

Kind = Literal["pack", "index", "object", "base", "version"]


class Problem(NamedTuple):
    """Something that a check found.

    Attributes:
        kind: what is affected: the whole ``pack``; its ``index``, which can be made anew; one ``object``;
            the ``base`` of an object is missing; or a newer ``version`` wrote it.
        path: the file.
        pack: the pack, where its name tells.
        object_id: the object, where it is one.
        message: what is wrong.
    """

    kind: Kind
    path: str
    pack: PackId | None
    object_id: ObjectId | None
    message: str


class Bases(Protocol):
    """Where bases in other packs are found; a ``Store`` is one."""

    def locations(self, object_ids: Iterable[ObjectId]) -> Mapping[ObjectId, Sequence[Location]]:
        """Every copy of the objects that are there."""

    def open_pack(self, pack: PackId) -> PackFile:
        """A pack, opened."""


def verify_pack(
    path: str, limits: Limits = DEFAULT_LIMITS, *, bases: Bases | None = None, decode: bool = True
) -> Iterator[Problem]:
    """Check the digest, the structure, the index and every object of a pack. Nothing is changed.

    Args:
        path: the pack; its index is expected beside it.
        limits: the caps.
        bases: where bases in other packs are found; without it a delta on one is a ``base`` problem.
        decode: decode every object; without, only those of a pack whose digest is wrong.

    Yields:
        What is wrong, nothing for a sound pack.
    """
    name = parse_pack_name(os.path.basename(path))
    try:
        file = PackFile(path)
        digest = pack_digest(file)
    except (OSError, CoralError) as error:
        yield Problem("pack", path, name, None, f"cannot read the pack: {error}")
        return
    if name is not None and digest != name:
        yield Problem("pack", path, name, None, "its bytes do not match its name")
    pack = digest if name is None else name
    locations: list[Location] = []
    try:
        for location in scan_pack(file, pack, limits):
            locations.append(location)  # noqa: PERF402  (those before the damage count)
    except CoralError as error:
        kind: Kind = "version" if isinstance(error, FormatVersionError) else "pack"
        yield Problem(kind, path, name, None, error.message)
        yield from _check_index(path, pack, file.size, None)
        locations = _indexed(path, pack, file.size) or locations
    else:
        yield from _check_index(path, pack, file.size, locations)
    if decode or digest != pack:
        yield from check_entries(file, pack, locations, limits, bases)


def check_entries(
    file: PackFile, pack: PackId, locations: Sequence[Location], limits: Limits, bases: Bases | None
) -> Iterator[Problem]:
    """Decode every entry of a pack and compare it with its id.

    Args:
        file: the pack, which need not have its final name.
        pack: its id.
        locations: its entries.
        limits: the caps.
        bases: where bases in other packs are found.

    Yields:
        A problem for each object that is damaged or cannot be decoded.
    """
    own = {location.object_id: location for location in locations}

    def open_pack(wanted: PackId) -> PackFile:
        if wanted == pack or bases is None:
            return file
        return bases.open_pack(wanted)

    for location in locations:

        def lookup(
            object_ids: Iterable[ObjectId], start: Location = location
        ) -> dict[ObjectId, list[Location]]:
            wanted = list(object_ids)
            elsewhere = {} if bases is None or wanted == [start.object_id] else bases.locations(wanted)
            return {
                key: [own[key]] if key in own else [one for one in elsewhere.get(key, ()) if one.pack != pack]
                for key in wanted
            }

        try:
            reader = open_chain(
                find_chain(location.object_id, lookup, limits.chain_depth_read), open_pack, limits
            )
            for _ in reader.verified_blocks():
                pass
        except ObjectMissingError as error:
            yield from _check_stored(file, location, limits)
            yield _problem("base", file, location, error.message)
        except FormatVersionError as error:
            yield _problem("version", file, location, error.message)
        except CoralError as error:
            yield _problem("object", file, location, error.message)
        except OSError as error:
            yield _problem("object", file, location, f"cannot read it: {error}")


def _check_stored(file: PackFile, location: Location, limits: Limits) -> Iterator[Problem]:
    """Check the stored bytes of an entry that cannot be decoded."""
    try:
        entry = Entry(file, location, limits)
        for number in range(entry.header.block_count):
            entry.stored_block(number)
    except IntegrityError as error:
        yield _problem("object", file, location, error.message)


def _problem(kind: Kind, file: PackFile, location: Location, message: str) -> Problem:
    return Problem(kind, file.path, location.pack, location.object_id, message)


def _index_path(path: str) -> str:
    return path.removesuffix(PACK_SUFFIX) + INDEX_SUFFIX


def _indexed(path: str, pack: PackId, size: int) -> list[Location] | None:
    try:
        return decode_index(_read_index(path), pack, size)
    except (CoralError, OSError):
        return None


def _read_index(path: str) -> bytes:
    file = PackFile(_index_path(path))
    return file.read(0, file.size)


def _check_index(path: str, pack: PackId, size: int, locations: list[Location] | None) -> Iterator[Problem]:
    """Compare the index with what the pack says, or with itself where the pack says nothing."""
    index = _index_path(path)
    try:
        data = _read_index(path)
        decode_index(data, pack, size)
        if locations is not None and data != encode_index(pack, locations):
            yield Problem("index", index, pack, None, "the index names other entries than its pack has")
    except FileNotFoundError:
        yield Problem("index", index, pack, None, "the index is missing")
    except FormatVersionError as error:
        yield Problem("version", index, pack, None, error.message)
    except CoralError as error:
        yield Problem("index", index, pack, None, error.message)
    except OSError as error:
        yield Problem("index", index, pack, None, f"cannot read the index: {error}")
