"""The only module that writes files.

Every operation that changes the disk is announced to a fault hook first, so that tests can make the n-th
one fail or kill the process there. The order in which a file becomes visible is always the same: write to
an *incoming* file, ``fsync`` it, ``link`` it under its final name (which fails when the name exists),
``fsync`` the directory, unlink the incoming name. A published file is never changed.
"""

from __future__ import annotations

import contextlib
import errno
import os
import sys
from collections.abc import Callable, Sequence

from coral_git.types import Buffer

FaultHook = Callable[[str, str], None]

_fault_hook: FaultHook | None = None
_serial = 0
_NOFOLLOW = getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0)
_UNSUPPORTED = frozenset({errno.EINVAL, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EPERM})
_IOV_MAX = 512


def set_fault_hook(hook: FaultHook | None) -> None:
    """Install a function that is called before every write operation with its name and path (tests only)."""
    global _fault_hook
    _fault_hook = hook


def fault_point(name: str, path: str) -> None:
    """Announce the operation ``name`` on ``path``; the hook may raise or end the process."""
    if _fault_hook is not None:
        _fault_hook(name, path)


def unique_name(prefix: str) -> str:
    """A file name that no other process and no other call uses: prefix, process id, serial, randomness."""
    global _serial
    _serial += 1
    return f"{prefix}-{os.getpid()}-{_serial}-{os.urandom(4).hex()}"


def process_is_alive(process: int) -> bool:
    """Whether a process of this host runs, so that what bears its id is in use; when in doubt, it does."""
    if os.name != "posix":
        return True  # cannot be asked there without harm
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except (OSError, OverflowError):  # somebody else's, and alive
        return True
    return True


def make_directory(path: str) -> None:
    """Create a directory and its missing parents; an existing one is fine."""
    if not os.path.isdir(path):
        fault_point("mkdir", path)
        os.makedirs(path, exist_ok=True)


def create_exclusive(path: str, mode: int = 0o666) -> int:
    """Open a new file for writing and reading; fails when the name exists, never follows a link."""
    fault_point("create", path)
    return os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | _NOFOLLOW, mode)


def write_all(fd: int, data: Buffer, path: str = "") -> None:
    """Write every byte; short writes are continued."""
    fault_point("write", path)
    view = memoryview(data).cast("B")
    while view:
        view = view[os.write(fd, view) :]


def write_pieces(fd: int, pieces: Sequence[Buffer], path: str = "") -> None:
    """Write pieces back to back without joining them; short writes are continued."""
    fault_point("write", path)
    views = [memoryview(piece).cast("B") for piece in pieces if len(piece)]
    while views:
        written = os.writev(fd, views[:_IOV_MAX])
        while views and written >= len(views[0]):
            written -= len(views[0])
            del views[0]
        if written:
            views[0] = views[0][written:]


def write_at(fd: int, data: Buffer, offset: int, path: str = "") -> None:
    """Write every byte at ``offset`` without moving the file position."""
    fault_point("write", path)
    view = memoryview(data).cast("B")
    while view:
        written = os.pwrite(fd, view, offset)
        offset += written
        view = view[written:]


def reserve(fd: int, length: int, path: str = "") -> None:
    """Have the file system set aside the room of a file that is about to be written, where it can.

    A full disk is known before the first byte then. And ext4 need not find the room in the middle of the
    rename over an older file, which otherwise waits for most of the data to be written.

    Raises:
        OSError: there is not enough room.
    """
    fault_point("reserve", path)
    if length and hasattr(os, "posix_fallocate"):
        try:
            os.posix_fallocate(fd, 0, length)
        except OSError as error:
            if error.errno not in _UNSUPPORTED:
                raise


def sync_file(fd: int, path: str = "") -> None:
    """``fsync``; a file system that cannot do it is tolerated, a failed one is fatal and never retried."""
    fault_point("fsync", path)
    try:
        os.fsync(fd)
    except OSError as error:
        if error.errno not in _UNSUPPORTED:
            raise


def start_writeback(fd: int, offset: int, length: int) -> None:
    """Ask the system to begin writing a range to the disk, so that a later ``fsync`` has less to wait for.

    On Linux, ``POSIX_FADV_DONTNEED`` starts to write what is dirty; elsewhere this may do nothing.
    """
    if hasattr(os, "posix_fadvise"):
        with contextlib.suppress(OSError):
            os.posix_fadvise(fd, offset, length, os.POSIX_FADV_DONTNEED)


def sync_directory(path: str) -> None:
    """``fsync`` a directory, so that the names in it survive a power cut."""
    fault_point("fsync-directory", path)
    if sys.platform == "win32":
        return
    fd = os.open(path, os.O_RDONLY | getattr(os, "O_DIRECTORY", 0))
    try:
        os.fsync(fd)
    except OSError as error:
        if error.errno not in _UNSUPPORTED:
            raise
    finally:
        os.close(fd)


def publish(incoming: str, final: str) -> bool:
    """Give a finished file its final name, unless that name exists already.

    Returns:
        True when the name is new; False when somebody published it before (the incoming file is gone).
    """
    fault_point("link", final)
    try:
        os.link(incoming, final)
        created = True
    except FileExistsError:
        created = False
    except OSError as error:
        if error.errno not in _UNSUPPORTED and error.errno != errno.EMLINK:
            raise
        created = not os.path.lexists(final)
        if created:  # no hard links here: names are content hashes, so a lost race writes the same bytes
            os.rename(incoming, final)
            return True
    remove(incoming)
    return created


def rename(source: str, target: str) -> None:
    """Rename, replacing the target."""
    fault_point("rename", target)
    os.rename(source, target)


def remove(path: str) -> None:
    """Unlink a file; a missing one is fine."""
    fault_point("unlink", path)
    with contextlib.suppress(FileNotFoundError):
        os.unlink(path)


def remove_directory(path: str) -> None:
    """Remove an empty directory; a missing or filled one is left."""
    fault_point("rmdir", path)
    with contextlib.suppress(OSError):
        os.rmdir(path)


def discard(fd: int, path: str) -> None:
    """Close and unlink an unfinished file, whatever the state of either."""
    with contextlib.suppress(OSError):
        os.close(fd)
    with contextlib.suppress(OSError):
        os.unlink(path)


def touch(path: str, ns: int | None = None) -> None:
    """Set both times of a file, to now or to ``ns`` (nanoseconds since the epoch)."""
    fault_point("utime", path)
    if ns is None:
        os.utime(path)
    else:
        os.utime(path, ns=(ns, ns))


def make_link(target: str, path: str) -> None:
    """Create a symbolic link."""
    fault_point("symlink", path)
    os.symlink(target, path)


def replace_file(path: str, data: bytes, mode: int | None = None) -> None:
    """Replace a small text file in one step: a new file beside it, ``fsync``, rename."""
    temporary = f"{path}.{unique_name('coral')}"
    fd = create_exclusive(temporary)
    try:
        write_all(fd, data, path)
        if mode is not None:
            os.fchmod(fd, mode)
        sync_file(fd, path)
    except BaseException:
        discard(fd, temporary)
        raise
    os.close(fd)
    try:
        rename(temporary, path)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(temporary)
        raise
