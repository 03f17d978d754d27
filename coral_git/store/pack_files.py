"""Open pack files, bounded in number and shared by threads."""

from __future__ import annotations

import contextlib
import errno
import os
import threading
from collections import OrderedDict

from coral_git.errors import IntegrityError
from coral_git.store.layout import LIVE, Layout
from coral_git.types import PackId

_MOST_OPEN = 64
_NO_MORE = frozenset({errno.EMFILE, errno.ENFILE})
_FLAGS = os.O_RDONLY | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_BINARY", 0)


class PackFile:
    """One pack opened for reading. It stays open as long as somebody holds it, even when gc moves it.

    Args:
        path: the file.
    """

    __slots__ = ("__weakref__", "_fd", "path", "size")

    def __init__(self, path: str) -> None:
        self._fd = -1
        self.path = path
        self._fd = os.open(path, _FLAGS)
        self.size = os.fstat(self._fd).st_size

    def __del__(self) -> None:
        if self._fd >= 0:
            with contextlib.suppress(OSError):
                os.close(self._fd)

    def read(self, offset: int, length: int) -> bytes:
        """Exactly these bytes.

        Raises:
            IntegrityError: the file ends before.
        """
        if offset + length > self.size:
            raise IntegrityError(f"the pack {self.path!r} is cut short")
        data = os.pread(self._fd, length, offset)
        if len(data) == length:
            return data
        parts = [data]
        while length > len(data):  # a read of a network file system, or one over 2 GiB, may come in pieces
            length -= len(data)
            offset += len(data)
            data = os.pread(self._fd, length, offset)
            if not data:
                raise IntegrityError(f"the pack {self.path!r} is cut short")
            parts.append(data)
        return b"".join(parts)

    def read_up_to(self, offset: int, length: int) -> bytes:
        """These bytes, fewer at the end of the file."""
        return self.read(offset, max(0, min(length, self.size - offset)))


class PackFiles:
    """The most recently used packs of one store, open.

    Args:
        layout: the store.
    """

    __slots__ = ("_layout", "_lock", "_open", "_places")

    def __init__(self, layout: Layout) -> None:
        self._layout = layout
        self._lock = threading.Lock()
        self._open: OrderedDict[PackId, PackFile] = OrderedDict()
        self._places: dict[PackId, str] = {}

    def path(self, pack: PackId) -> str:
        """Where the pack lies as far as this process knows."""
        return self._layout.pack_path(pack, self._places.get(pack, LIVE))

    def set_place(self, pack: PackId, place: str) -> None:
        """Read a pack from another place, as its own cannot be written."""
        self._places[pack] = place

    def open(self, pack: PackId) -> PackFile:
        """The opened pack.

        Raises:
            FileNotFoundError: it is gone.
        """
        with self._lock:
            file = self._open.get(pack)
            if file is not None:
                self._open.move_to_end(pack)
                return file
            path = self.path(pack)
            try:
                file = PackFile(path)
            except OSError as error:
                if error.errno not in _NO_MORE or not self._open:
                    raise
                self._open.clear()
                file = PackFile(path)
            self._open[pack] = file
            if len(self._open) > _MOST_OPEN:
                self._open.popitem(last=False)
            return file

    def forget(self, pack: PackId) -> None:
        """Open the pack anew next time."""
        with self._lock:
            self._open.pop(pack, None)

    def clear(self) -> None:
        """Let go of every file."""
        with self._lock:
            self._open.clear()
