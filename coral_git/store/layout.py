"""Where things lie in a store, and the names they may have."""

from __future__ import annotations

import os
import re

from coral_git import fsops
from coral_git.errors import FormatVersionError, NotARepositoryError
from coral_git.types import PackId, parse_id

FORMAT_TEXT = b"coral store 1\n"
PACK_SUFFIX = ".pack"
INDEX_SUFFIX = ".idx"
LIVE = ""
"""The place of a pack that is in ``objects/packs``; packs in the trash have ``trash/<unix seconds>``."""

_PLACE = re.compile(r"(?:trash/[0-9]{1,20})?")
_FORMAT = re.compile(rb"coral store ([0-9]{1,9})\n")


def parse_pack_name(name: str) -> PackId | None:
    """The id in ``<64 hex>.pack``, or None for every other file name."""
    stem, dot, suffix = name.partition(".")
    identifier = parse_id(stem) if dot + suffix == PACK_SUFFIX else None
    return None if identifier is None else PackId(identifier)


def is_place(text: str) -> bool:
    """Whether a text names a place where packs may lie."""
    return _PLACE.fullmatch(text) is not None


class Layout:
    """The paths of one store. Nothing here touches the disk.

    Args:
        root: the directory that holds ``FORMAT``.
    """

    __slots__ = ("cache", "format", "incoming", "lock", "packs", "quarantine", "root", "trash")

    def __init__(self, root: str) -> None:
        self.root = root
        self.format = os.path.join(root, "FORMAT")
        self.packs = os.path.join(root, "objects", "packs")
        self.incoming = os.path.join(root, "objects", "incoming")
        self.trash = os.path.join(root, "trash")
        self.quarantine = os.path.join(root, "bad")
        self.cache = os.path.join(root, "cache.sqlite")
        self.lock = os.path.join(root, "gc.lock")

    def pack_path(self, pack: PackId, place: str = LIVE) -> str:
        """The file of a pack: in ``objects/packs``, or in a place below the root."""
        folder = os.path.join(self.root, place) if place else self.packs
        return os.path.join(folder, pack.hex() + PACK_SUFFIX)

    def index_path(self, pack: PackId, place: str = LIVE) -> str:
        """The index that belongs beside :meth:`pack_path`."""
        return self.pack_path(pack, place)[: -len(PACK_SUFFIX)] + INDEX_SUFFIX

    def incoming_path(self, kind: str) -> str:
        """A new name in ``objects/incoming``; the process id in it tells gc whether its owner lives."""
        return os.path.join(self.incoming, fsops.unique_name(kind))


def create_layout(layout: Layout) -> None:
    """Make the directories and the ``FORMAT`` file of a store where they are missing."""
    for directory in (layout.packs, layout.incoming):
        fsops.make_directory(directory)
    if not os.path.exists(layout.format):
        fsops.replace_file(layout.format, FORMAT_TEXT)


def check_format(layout: Layout) -> None:
    """Refuse a directory that is no store, or that a newer version made.

    Raises:
        NotARepositoryError: there is no ``FORMAT`` file, or it says something else.
        FormatVersionError: the store has a version this program does not know.
    """
    try:
        with open(layout.format, "rb") as file:
            text = file.read(64)
    except (FileNotFoundError, NotADirectoryError):
        raise NotARepositoryError(
            f"no coral store in {layout.root!r}", hint="run 'git coral init' in the repository"
        ) from None
    if text == FORMAT_TEXT:
        return
    match = _FORMAT.fullmatch(text)
    if match is None:
        raise NotARepositoryError(f"{layout.format!r} does not name a coral store")
    version = int(match[1])
    raise FormatVersionError(
        f"the store {layout.root!r} has version {version}; this program knows version 1",
        hint="install a newer coral-git",
    )
