"""The trash: where packs wait out the grace time, and from where any reader brings them back."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable
from dataclasses import replace

from coral_git import fsops
from coral_git.maintenance.survey import PackState, trash_places
from coral_git.store.layout import INDEX_SUFFIX, PACK_SUFFIX, Layout, parse_pack_name
from coral_git.store.location import PackInfo
from coral_git.store.publishing import set_aside
from coral_git.store.store import Store


def throw_away(store: Store, states: Iterable[PackState], now: float) -> list[PackState]:
    """Move packs to the trash, unless somebody wanted them since they were listed.

    A writer that relies on a stored object touches its pack first. The time is looked at right before and
    right after the move, and a writer that comes later does not find the pack and looks again; so a pack
    that is wanted never stays in the trash unnoticed.

    Args:
        store: the store.
        states: the packs, with the times they had when it was decided.
        now: names the place in the trash.

    Returns:
        The packs that were moved, as they lie now.

    Raises:
        OSError: the file system refused; what was moved before stays moved.
    """
    place = f"trash/{int(now)}"
    moved = []
    for state in states:
        source, target = state.info.path, store.layout.pack_path(state.info.id, place)
        fsops.make_directory(os.path.dirname(target))
        if _time(source) != state.info.mtime:
            continue
        fsops.rename(source, target)
        if _time(target) != state.info.mtime:
            fsops.rename(target, source)
            continue
        with contextlib.suppress(FileNotFoundError):
            fsops.rename(_index(source), _index(target))
        moved.append(replace(state, info=state.info._replace(path=target), place=place))
    if moved and store.fsync:
        fsops.sync_directory(store.layout.packs)
    store.refresh()
    return moved


def delete(store: Store, states: Iterable[PackState]) -> int:
    """Delete packs of the trash for good.

    Returns:
        The bytes that were freed.
    """
    freed = 0
    for state in states:
        freed += delete_file(state.info.path) + delete_file(_index(state.info.path))
    remove_empty_places(store)
    store.refresh()
    return freed


def delete_file(path: str) -> int:
    """Delete a file; the return value is its length, 0 when it was gone."""
    try:
        size = os.lstat(path).st_size
    except FileNotFoundError:
        return 0
    fsops.remove(path)
    return size


def remove_empty_places(store: Store) -> None:
    """Remove indexes without a pack from the trash, and places without anything in them."""
    for place in trash_places(store):
        folder = os.path.join(store.root, place)
        with contextlib.suppress(FileNotFoundError, NotADirectoryError):
            names = os.listdir(folder)
            for name in names:
                pack = _pack_of_index(name)
                if pack is not None and pack not in names:
                    fsops.remove(os.path.join(folder, name))
            fsops.remove_directory(folder)


def remove_orphaned_indexes(layout: Layout) -> int:
    """Remove indexes whose pack is not beside them: a move was cut short after the pack.

    Returns:
        The bytes that were freed.
    """
    freed = 0
    for name in os.listdir(layout.packs):
        pack = _pack_of_index(name)
        if pack is not None and not os.path.exists(os.path.join(layout.packs, pack)):
            freed += delete_file(os.path.join(layout.packs, name))
    return freed


def set_pack_aside(store: Store, info: PackInfo) -> None:
    """Move a damaged pack and its index to ``bad/``; its bytes stay, parts of them may be of use."""
    set_aside(store.layout, info.path)
    index = _index(info.path)
    if os.path.lexists(index):
        set_aside(store.layout, index)
    store.refresh()


def _pack_of_index(name: str) -> str | None:
    """The file name of the pack that an index of this name belongs to; None for other names."""
    pack = name.removesuffix(INDEX_SUFFIX) + PACK_SUFFIX
    return pack if name.endswith(INDEX_SUFFIX) and parse_pack_name(pack) is not None else None


def _index(path: str) -> str:
    return path.removesuffix(PACK_SUFFIX) + INDEX_SUFFIX


def _time(path: str) -> float | None:
    try:
        return os.stat(path).st_mtime
    except FileNotFoundError:
        return None
