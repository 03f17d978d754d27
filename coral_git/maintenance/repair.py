"""Repairing a store: what can be made anew is, what is intact is saved, the rest is fetched.

Nothing is ever deleted: damaged files go to ``bad/``, and only after every intact object in them has been
saved into a new pack.
"""

from __future__ import annotations

import contextlib
import os

from coral_git import fsops
from coral_git.errors import CoralError, IntegrityError, from_os_error
from coral_git.maintenance import trash
from coral_git.maintenance.findings import FsckReport
from coral_git.maintenance.fsck import Progress, check_store
from coral_git.maintenance.survey import take_survey
from coral_git.pipeline.fetch import fetch_objects
from coral_git.pipeline.workspace import Workspace
from coral_git.store.layout import PACK_SUFFIX
from coral_git.store.location import Location, PackInfo
from coral_git.store.locks import exclusive_lock
from coral_git.store.pack_files import PackFile
from coral_git.store.pack_format import ENTRY_HEADER_LENGTH, ENTRY_MAGIC, decode_entry_header, locate_entry
from coral_git.store.pack_index import decode_index
from coral_git.store.pack_scan import scan_pack
from coral_git.store.publishing import write_incoming_index
from coral_git.store.store import Store
from coral_git.store.verify import check_entries
from coral_git.types import ObjectId

_CACHE_FILES = ("", "-wal", "-shm")


def repair_store(
    workspace: Workspace, *, quick: bool = False, progress: Progress | None = None
) -> FsckReport:
    """Check a store, repair what can be repaired, and check it again.

    Args:
        workspace: the repository.
        quick: as for ``check_store``.
        progress: is told how far it is.

    Returns:
        What the second check found, and what was done.

    Raises:
        LockedError: gc or another repair is running.
        StorageFullError: there is no space for what has to be saved; nothing was moved then.
    """
    with exclusive_lock(workspace.store.layout.lock, "fsck --repair"):
        done: list[str] = []
        try:
            _remake_cache(workspace.store)
            first = check_store(workspace, quick=quick, progress=progress)
            done += _repair(workspace, first)
        except OSError as error:
            raise from_os_error(error, f"repair the store '{workspace.store_root}'") from error
    report = check_store(workspace, quick=quick, progress=progress) if done else first
    report.repaired = done
    return report


def _repair(workspace: Workspace, report: FsckReport) -> list[str]:
    store = workspace.store
    # A pack with the right digest is as it was written: what is wrong with its objects is elsewhere.
    damaged = {finding.path for finding in report.findings if finding.kind == "pack"}
    lost = {
        finding.object_id: None
        for finding in report.findings
        if finding.kind in ("object", "base", "missing") and finding.object_id is not None
    }
    done = [_save_and_set_aside(store, info, lost) for info in store.packs() if info.path in damaged]
    indexes = [finding.path for finding in report.findings if finding.kind == "index"]
    done += [_remake_index(store, path) for path in indexes if os.path.exists(_pack_of(path))]
    return done + _bring(workspace, list(lost)) if lost else done


def _remake_cache(store: Store) -> None:
    """Let go of the hints; they are read from the packs again."""
    store.close()
    for suffix in _CACHE_FILES:
        fsops.remove(store.layout.cache + suffix)
    store.refresh()


def _remake_index(store: Store, path: str) -> str:
    """Write the index of a sound pack anew."""
    pack_path = _pack_of(path)
    info = next(info for info in store.packs() if info.path == pack_path)
    locations = list(scan_pack(PackFile(pack_path), info.id, store.limits))
    incoming = write_incoming_index(store.layout, info.id, locations, fsync=store.fsync)
    try:
        fsops.rename(incoming, path)
    except BaseException:
        with contextlib.suppress(OSError):
            fsops.remove(incoming)
        raise
    _remake_cache(store)
    return f"wrote the index '{path}' anew"


def _save_and_set_aside(store: Store, info: PackInfo, lost: dict[ObjectId, None]) -> str:
    """Copy every intact object of a damaged pack into a new one, then move it to ``bad/``."""
    file = PackFile(info.path)
    entries = _entries(file, info, store)
    wrong = {
        problem.object_id
        for problem in check_entries(file, info.id, entries, store.limits, store)
        if problem.kind == "object"
    }
    saved = 0
    with store.writer() as writer:
        for location in entries:
            # A delta on a damaged base decodes again when the base has been brought back.
            if location.object_id not in wrong or location.base in wrong:
                with contextlib.suppress(IntegrityError):  # its own stored bytes are damaged
                    saved += bool(writer.copy(location))
        writer.finish()
    lost.update(dict.fromkeys(one.object_id for one in entries if one.object_id in wrong))
    trash.set_pack_aside(store, info)
    _remake_cache(store)
    return (
        f"moved '{info.path}' to '{store.layout.quarantine}' after saving {saved} of {len(entries)} objects"
    )


def _entries(file: PackFile, info: PackInfo, store: Store) -> list[Location]:
    """Whatever entries of a damaged pack can be found: by its index, by walking it, by their magic."""
    found: dict[int, Location] = {}
    with contextlib.suppress(CoralError, OSError):
        index = PackFile(store.layout.index_path(info.id))
        for location in decode_index(index.read(0, index.size), info.id, file.size):
            found[location.offset] = location
    data = file.read(0, file.size)
    offset = data.find(ENTRY_MAGIC)
    while offset >= 0:
        with contextlib.suppress(CoralError):
            header = decode_entry_header(data[offset : offset + ENTRY_HEADER_LENGTH], store.limits)
            if offset + header.entry_length <= file.size:
                found[offset] = locate_entry(header, info.id, offset)
        offset = data.find(ENTRY_MAGIC, offset + 1)
    by_object: dict[ObjectId, Location] = {}
    for offset in sorted(found):
        by_object.setdefault(found[offset].object_id, found[offset])
    return list(by_object.values())


def _bring(workspace: Workspace, lost: list[ObjectId]) -> list[str]:
    """Bring damaged and missing objects from the trash and from remote stores."""
    store = workspace.store
    before = {state.info.id for state in take_survey(store).packs}
    done = []
    try:
        fetch_objects(workspace, lost, quiet=False)
    except CoralError as error:
        done.append(f"could not fetch everything: {error.message}")
    store.refresh()
    gained = len({info.id for info in store.packs()} - before)
    if gained:
        done.append(f"brought {gained} packs from the trash or from remote stores")
    return done


def _pack_of(index: str) -> str:
    return index.removesuffix(".idx") + PACK_SUFFIX
