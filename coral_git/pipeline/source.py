"""Where the bytes of a file come from: the work-tree file itself, or a spool of what git sent."""

from __future__ import annotations

import os
import stat
import time
from collections.abc import Iterable

from coral_git import fsops
from coral_git.errors import CoralError
from coral_git.types import Buffer

_OPEN_FLAGS = (
    os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_CLOEXEC", 0)
)
HEAD_BYTES = 256
"""How much of a stream is looked at to tell a manifest from data."""


class FileSource:
    """A byte source over an open file.

    Args:
        fd: a descriptor open for reading; closed by ``close``.
        status: what ``fstat`` said when it was opened.
        path: the work-tree file behind it, or None for a spool.
    """

    def __init__(self, fd: int, status: os.stat_result, path: bytes | None) -> None:
        self.fd = fd
        self.status = status
        self.path = path
        self.opened_ns = time.time_ns()

    @property
    def size(self) -> int:
        """Length in bytes."""
        return self.status.st_size

    def read_at(self, offset: int, length: int) -> bytes:
        """The bytes from ``offset``; fewer than ``length`` only at the end."""
        data = os.pread(self.fd, length, offset)
        while 0 < len(data) < length:
            more = os.pread(self.fd, length - len(data), offset + len(data))
            if not more:
                break
            data += more
        return data

    def check_unchanged(self) -> None:
        """Fail when the work-tree file was written to since it was opened.

        Raises:
            CoralError: size, times or inode differ.
        """
        if self.path is None:
            return
        try:
            now = os.lstat(self.path)
        except OSError:
            now = None
        if now is None or identity(now) != identity(self.status):
            raise CoralError(
                f"'{os.fsdecode(self.path)}' changed while it was read",
                hint="wait until it is written, then add it again",
            )

    def close(self) -> None:
        """Close the descriptor."""
        os.close(self.fd)


def identity(status: os.stat_result) -> tuple[int, int, int, int, int]:
    """The numbers that change when a file is written to or replaced."""
    return status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino, status.st_dev


def open_regular(path: bytes) -> FileSource | None:
    """Open a regular file of the work tree; None for anything else (a link, a pipe, nothing)."""
    try:
        fd = os.open(path, _OPEN_FLAGS)
    except OSError:
        return None
    status = os.fstat(fd)
    if not stat.S_ISREG(status.st_mode):
        os.close(fd)
        return None
    return FileSource(fd, status, path)


class Intake:
    """Takes in the content that git sends for one path and says where its bytes can be read again.

    While the content equals the work-tree file, nothing is written. At the first difference the
    content goes to a spool: an unlinked file in the store, so that nothing is left behind.

    Args:
        path: the work-tree file to compare with.
        spool_directory: where a spool may be made.
    """

    def __init__(self, path: bytes, spool_directory: str) -> None:
        self._spool_directory = spool_directory
        self._file = open_regular(path)
        self._spool_fd: int | None = None
        self._length = 0
        self.head = b""

    def take(self, content: Iterable[Buffer]) -> FileSource:
        """Read the whole content.

        Returns:
            The source of its bytes; the caller closes it.

        Raises:
            OSError: the spool could not be written.
        """
        try:
            for piece in content:
                self._add(bytes(piece))
            if self._file is not None and self._length != self._file.size:
                self._start_spool()
        except BaseException:
            self._close()
            raise
        if self._file is not None:
            return self._file
        if self._spool_fd is None:
            self._start_spool()
        fd = self._spool_fd
        assert fd is not None
        return FileSource(fd, os.fstat(fd), None)

    def _add(self, piece: bytes) -> None:
        if len(self.head) < HEAD_BYTES:
            self.head += piece[: HEAD_BYTES - len(self.head)]
        if (self._file is not None and os.pread(self._file.fd, len(piece), self._length) != piece) or (
            self._file is None and self._spool_fd is None
        ):
            self._start_spool()
        if self._spool_fd is not None:
            fsops.write_all(self._spool_fd, piece, "spool")
        self._length += len(piece)

    def _start_spool(self) -> None:
        path = os.path.join(self._spool_directory, fsops.unique_name("spool"))
        self._spool_fd = fsops.create_exclusive(path, 0o600)
        os.unlink(path)
        if self._file is not None:
            self._copy_prefix(self._file)
            self._file.close()
            self._file = None

    def _copy_prefix(self, file: FileSource) -> None:
        """The bytes so far were equal to the file's, and are compared no more: take them from there."""
        assert self._spool_fd is not None
        offset = 0
        while offset < self._length:
            data = file.read_at(offset, min(1 << 20, self._length - offset))
            if not data:
                file.check_unchanged()
                raise CoralError("a file shrank while it was read", hint="add it again")
            fsops.write_all(self._spool_fd, data, "spool")
            offset += len(data)
        file.check_unchanged()

    def _close(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None
        if self._spool_fd is not None:
            os.close(self._spool_fd)
            self._spool_fd = None
