"""Write files into the work tree, safely and in one step.

Paths come from the repository, so whoever can push chooses them. Every parent folder is opened relative to
the one above it and without following symbolic links (the fault of CVE-2025-26625 and its kin), and the
final rename happens inside the folder that was opened. An existing file is replaced, never written to: it
may be a hard link to somebody's other copy.

The new file is written in the git directory where that is on the same file system, so that a crash leaves
nothing in the work tree, else beside its target.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
import time
from collections.abc import Callable
from typing import Self

from coral_git import fsops
from coral_git.errors import PolicyError, StorageFullError, from_os_error

TEMPORARY_FOLDER = "coral-tmp"
"""Folder in the git directory where files are written before they are moved into the work tree."""

BACKDATING_NS = 2_000_000_000
"""How far the modification time is set back: git re-reads files as young as its index (*racy git*)."""

_Identity = tuple[int, ...] | None
Expected = bytes | Callable[[int | None], bool]
"""What must be at the target: its content, or a judge of a descriptor of it (None: no regular file there)."""

_CLOEXEC = getattr(os, "O_CLOEXEC", 0)
_NOFOLLOW = getattr(os, "O_NOFOLLOW", 0) | _CLOEXEC
_FOLDER = os.O_RDONLY | getattr(os, "O_DIRECTORY", 0) | _CLOEXEC
_TARGET = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | _NOFOLLOW
_NEW = os.O_RDWR | os.O_CREAT | os.O_EXCL | _NOFOLLOW
_COPY_BYTES = 1 << 20
_EXECUTE = 0o111


class WorkTreeFile:
    """A file that is being written and then takes the place of a file in the work tree.

    Write with ``os.pwrite`` on ``fd`` (several threads may), then call ``commit`` or ``discard``; leaving
    the ``with`` block without ``commit`` discards. Missing parent folders are created.

    Args:
        work_tree: the root of the work tree.
        path: path relative to the root, with ``/`` between its parts.
        git_dir: the git directory of this very work tree.
        executable: whether the file is to be executable; None keeps what the existing file has.
        index: the index in which git will find the file; the file is made to look older than that.

    Raises:
        PolicyError: the path leaves the work tree, enters ``.git`` or leads through a symbolic link.
        CoralError: the file cannot be created.

    Attributes:
        fd: descriptor of the new file, for reading and writing.
        path: the path as given.
    """

    def __init__(
        self,
        work_tree: str,
        path: bytes,
        *,
        git_dir: str,
        executable: bool | None = None,
        index: str = "",
    ) -> None:
        self.path = path
        self._index = index
        self.fd = -1
        self._shown = os.fsdecode(path)
        *parents, self._name = _checked_parts(path)
        self._temporary = ""
        self._home = -1
        self._folder = _open_parents(work_tree, parents)
        try:
            self._create(git_dir, executable)
        except OSError as error:
            self.discard()
            raise from_os_error(error, f"create '{self._shown}'") from error
        except BaseException:
            self.discard()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.discard()

    def commit(self, expected: Expected) -> os.stat_result | None:
        """Move the file to its place, if what is there now is what is expected.

        Args:
            expected: the content the target must have, or a function that is given a read-only descriptor
                of the target (None when it is missing or no regular file) and says whether to go on.

        Returns:
            The stat data of the file in its place, ready for ``patch_index``; None when the target is not
            what was expected, or somebody writes to the new file already. Either way the writer is closed.

        Raises:
            CoralError: the file system refused; the target is untouched.
        """
        try:
            judged = self._identity()
            if not self._target_is(expected):
                return None
            modified = self._age() - BACKDATING_NS
            fsops.fault_point("utime", self._shown)
            os.utime(self.fd, ns=(modified, modified))
            if self._identity() != judged:
                return None
            written = self._move(modified, judged)
            if written is None:
                return None
            placed = os.fstat(self.fd)
            if (placed.st_size, placed.st_mtime_ns) != (written.st_size, written.st_mtime_ns):
                return None  # somebody has written to it since, and git must look at it
            return placed
        except OSError as error:
            raise from_os_error(error, f"write '{self._shown}'") from error
        finally:
            self.discard()

    def _age(self) -> int:
        """Now, or when the index was written if that was earlier, in nanoseconds since the epoch."""
        now = time.time_ns()
        with contextlib.suppress(OSError):
            return min(now, os.stat(self._index).st_mtime_ns) if self._index else now
        return now

    def discard(self) -> None:
        """Remove the temporary file and close everything; a second call does nothing."""
        with contextlib.suppress(OSError):
            if self._temporary:
                os.unlink(self._temporary, dir_fd=self._home)
        for fd in {self.fd, self._home, self._folder} - {-1}:
            with contextlib.suppress(OSError):
                os.close(fd)
        self._temporary = ""
        self.fd = self._home = self._folder = -1

    def _create(self, git_dir: str, executable: bool | None) -> None:
        """Create the temporary file with the permissions the target is to have."""
        if os.stat(git_dir).st_dev == os.fstat(self._folder).st_dev:
            home = os.path.join(git_dir, TEMPORARY_FOLDER)
            fsops.make_directory(home)
            self._home = os.open(home, _FOLDER)
        else:
            self._home = self._folder
        self._open_temporary(0o777 if executable else 0o666)
        mode = self._existing_mode()
        if mode is not None:
            if executable is not None:
                mode = mode | mode >> 2 & _EXECUTE if executable else mode & ~_EXECUTE
            os.fchmod(self.fd, mode)

    def _open_temporary(self, mode: int) -> None:
        name = fsops.unique_name(".coral-tmp")
        fsops.fault_point("create", name)
        self.fd = os.open(name, _NEW, mode, dir_fd=self._home)
        self._temporary = name

    def _existing_mode(self) -> int | None:
        """Permission bits of the regular file that is to be replaced."""
        try:
            status = os.stat(self._name, dir_fd=self._folder, follow_symlinks=False)
        except FileNotFoundError:
            return None
        return status.st_mode & 0o777 if stat.S_ISREG(status.st_mode) else None

    def _identity(self) -> _Identity:
        """The numbers that change when the target is written to or replaced; None when it is missing."""
        try:
            status = os.stat(self._name, dir_fd=self._folder, follow_symlinks=False)
        except FileNotFoundError:
            return None
        return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns

    def _target_is(self, expected: Expected) -> bool:
        fd = self._open_target()
        try:
            if not isinstance(expected, bytes):
                return expected(fd)
            return fd is not None and os.fstat(fd).st_size == len(expected) and _has_content(fd, expected)
        finally:
            if fd is not None:
                os.close(fd)

    def _open_target(self) -> int | None:
        """A descriptor of the target; None when it is missing, a link, a folder or a special file."""
        try:
            fd = os.open(self._name, _TARGET, dir_fd=self._folder)
        except OSError as error:
            if error.errno in (errno.ENOENT, errno.ELOOP, errno.ENXIO):
                return None
            raise
        if stat.S_ISREG(os.fstat(fd).st_mode):
            return fd
        os.close(fd)
        return None

    def _move(self, modified: int, judged: _Identity) -> os.stat_result | None:
        """Rename over the target; where that turns out to be another mount, copy beside it first.

        Returns:
            The stat data of the file just before it took its place; None when somebody wrote to the target
            while it was copied.
        """
        try:
            return self._rename()
        except OSError as error:
            if error.errno != errno.EXDEV or self._home == self._folder:
                raise
            self._copy_beside()
            os.utime(self.fd, ns=(modified, modified))
            return self._rename() if self._identity() == judged else None

    def _rename(self) -> os.stat_result:
        fsops.fault_point("rename", self._shown)
        status = os.fstat(self.fd)
        os.rename(self._temporary, self._name, src_dir_fd=self._home, dst_dir_fd=self._folder)
        self._temporary = ""
        return status

    def _copy_beside(self) -> None:
        """Continue with a copy of the temporary file in the folder of the target."""
        old, home, name = self.fd, self._home, self._temporary
        self.fd, self._home, self._temporary = -1, self._folder, ""
        try:
            self._open_temporary(0o666)
            os.fchmod(self.fd, os.fstat(old).st_mode & 0o777)
            os.lseek(old, 0, os.SEEK_SET)
            while piece := os.read(old, _COPY_BYTES):
                fsops.write_all(self.fd, piece, self._shown)
        finally:
            os.unlink(name, dir_fd=home)
            os.close(home)
            os.close(old)


def require_space(folder: str, needed: int) -> None:
    """Check that a file system has room for files that are about to be written.

    Args:
        folder: an existing folder on the file system.
        needed: bytes that will be written.

    Raises:
        StorageFullError: it has not; the message says how much is missing.
    """
    status = os.statvfs(folder)
    free = status.f_bavail * status.f_frsize
    if free < needed:
        raise StorageFullError(
            f"'{folder}' has {free} bytes free, {needed} are needed", hint="free some space, then try again"
        )


def sweep_temporaries(git_dir: str, age_seconds: float = 86400.0) -> int:
    """Remove the temporary files that a crash left in the git directory.

    Args:
        git_dir: the git directory of a work tree.
        age_seconds: younger files are left: somebody may be writing them.

    Returns:
        The number of files removed.
    """
    oldest = time.time() - age_seconds
    removed = 0
    with (
        contextlib.suppress(FileNotFoundError),
        os.scandir(os.path.join(git_dir, TEMPORARY_FOLDER)) as entries,
    ):
        for entry in entries:
            if entry.is_file(follow_symlinks=False) and entry.stat(follow_symlinks=False).st_mtime < oldest:
                fsops.remove(entry.path)
                removed += 1
    return removed


def _checked_parts(path: bytes) -> list[str]:
    """The parts of a path that stays inside the work tree."""
    parts = path.split(b"/")
    for part in parts:
        if part.lower() in (b"", b".", b"..", b".git", b"git~1") or b"\0" in part:
            raise PolicyError(f"refusing to write '{os.fsdecode(path)}': not a path inside a work tree")
    return [os.fsdecode(part) for part in parts]


def _open_parents(work_tree: str, parents: list[str]) -> int:
    """Open the folder of a file, walking down from the root; folders that are missing are created."""
    folder = -1
    walked = ""
    try:
        folder = os.open(work_tree, _FOLDER)
        for name in parents:
            walked = os.path.join(walked, name)
            below = _open_below(folder, name, walked)
            os.close(folder)
            folder = below
    except OSError as error:
        _close(folder)
        raise from_os_error(error, f"enter folder '{walked or work_tree}'") from error
    except BaseException:
        _close(folder)
        raise
    return folder


def _open_below(folder: int, name: str, shown: str) -> int:
    """Open a folder inside an open folder, without following a symbolic link."""
    try:
        return os.open(name, _FOLDER | _NOFOLLOW, dir_fd=folder)
    except FileNotFoundError:
        fsops.fault_point("mkdir", shown)
        with contextlib.suppress(FileExistsError):
            os.mkdir(name, dir_fd=folder)
        return os.open(name, _FOLDER | _NOFOLLOW, dir_fd=folder)
    except OSError as error:
        if stat.S_ISLNK(os.stat(name, dir_fd=folder, follow_symlinks=False).st_mode):
            raise PolicyError(
                f"refusing to write through the symbolic link '{shown}'", hint=f"git checkout -- '{shown}'"
            ) from error
        raise


def _has_content(fd: int, expected: bytes) -> bool:
    """Whether an open file, read from its start, has just this content."""
    offset = 0
    while offset < len(expected):
        piece = os.pread(fd, _COPY_BYTES, offset)
        if not piece or not expected.startswith(piece, offset):
            return False
        offset += len(piece)
    return not os.pread(fd, 1, offset)


def _close(fd: int) -> None:
    if fd >= 0:
        os.close(fd)
