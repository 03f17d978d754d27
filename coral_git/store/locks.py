"""The lock of gc: held by the kernel, so that it is free again when its owner dies."""

from __future__ import annotations

import contextlib
import errno
import os
import time
from collections.abc import Iterator

from coral_git import fsops
from coral_git.errors import LockedError, from_os_error

_NOTE_LENGTH = 256
_HELD = frozenset({errno.EWOULDBLOCK, errno.EAGAIN, errno.EACCES})


@contextlib.contextmanager
def exclusive_lock(path: str, purpose: str) -> Iterator[None]:
    """Hold the lock file at ``path`` while the block runs.

    The file stays; what is in it only tells who holds the lock and is never believed for anything else.

    Args:
        path: the lock file.
        purpose: what the owner does, for the message that others get.

    Raises:
        LockedError: somebody holds the lock; the message says who, since when and for what.
    """
    import fcntl

    try:
        fd = _open(path)
    except OSError as error:
        raise from_os_error(error, f"open the lock {path!r}") from error
    try:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno not in _HELD:
                raise from_os_error(error, f"lock {path!r}") from error
            raise LockedError(
                f"the lock {path!r} is held by {_owner(fd)}", hint="wait until it has ended, then try again"
            ) from None
        with contextlib.suppress(OSError):  # a full disk must not keep gc from making room
            fsops.write_at(fd, _note(purpose), 0, path)
        try:
            yield
        finally:  # by itself: a process that another thread has just begun to start has the descriptor too
            fcntl.flock(fd, fcntl.LOCK_UN)
    finally:
        os.close(fd)


def _open(path: str) -> int:
    flags = os.O_RDWR | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_NOFOLLOW", 0)
    for _ in range(3):
        try:
            return os.open(path, flags)
        except FileNotFoundError:
            with contextlib.suppress(FileExistsError):
                return fsops.create_exclusive(path)
    return os.open(path, flags)


def _note(purpose: str) -> bytes:
    """Who holds the lock, at a fixed length, so that no older note shines through."""
    since = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    text = f"process {os.getpid()} on {os.uname().nodename} since {since} for {purpose}"
    note = text.encode("utf-8", "replace")[: _NOTE_LENGTH - 1]
    return note.ljust(_NOTE_LENGTH - 1) + b"\n"


def _owner(fd: int) -> str:
    text = os.pread(fd, _NOTE_LENGTH, 0).decode("utf-8", "replace").strip()
    return "".join(character for character in text if character.isprintable()) or "another process"
