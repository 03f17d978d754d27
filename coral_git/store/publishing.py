"""Giving finished packs and indexes their names."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Sequence

from coral_git import fsops
from coral_git.store.layout import Layout
from coral_git.store.location import Location
from coral_git.store.pack_files import PackFile
from coral_git.store.pack_index import encode_index
from coral_git.store.pack_scan import pack_digest
from coral_git.types import PackId


def write_incoming_index(layout: Layout, pack: PackId, locations: Sequence[Location], *, fsync: bool) -> str:
    """Write the index of a pack to a new incoming file and return its path."""
    path = layout.incoming_path("index")
    fd = fsops.create_exclusive(path, 0o444)
    try:
        fsops.write_all(fd, encode_index(pack, locations), path)
        if fsync:
            fsops.sync_file(fd, path)
    except BaseException:
        fsops.discard(fd, path)
        raise
    os.close(fd)
    return path


def publish_pack(layout: Layout, pack: PackId, incoming: str, incoming_index: str) -> None:
    """Link a finished pack, then its index, under their final names.

    A pack of that name that is there already has the same bytes and is kept, unless it is damaged. The
    directory is not synced: the caller does it once for all packs.
    """
    final = layout.pack_path(pack)
    if os.path.lexists(final) and not is_intact(final, pack):
        set_aside(layout, final)
    fsops.publish(incoming, final)
    index = layout.index_path(pack)
    if os.path.lexists(index):  # left over from a pack that went away, maybe damaged
        fsops.rename(incoming_index, index)
    else:
        fsops.publish(incoming_index, index)


def is_intact(path: str, pack: PackId) -> bool:
    """Whether the file at ``path`` has the bytes that its name promises."""
    try:
        return pack_digest(PackFile(path)) == pack
    except FileNotFoundError:
        return False


def set_aside(layout: Layout, path: str) -> None:
    """Move a damaged file to ``bad/``; nothing is deleted, as parts of it may still be of use."""
    fsops.make_directory(layout.quarantine)
    target = os.path.join(layout.quarantine, fsops.unique_name(os.path.basename(path)))
    with contextlib.suppress(FileNotFoundError):
        fsops.rename(path, target)
