"""Tell git's index that files we wrote ourselves are unchanged, without git reading them.

After coral-git has written a file, git would run the clean filter over it again, because the stat data in
the index is that of the manifest. The patcher replaces the stat data (40 bytes at the start of an entry,
see ``gitformat-index(5)``) of the entries it is told about, and the trailing checksum. Every other byte
stays as it is, so versions 2 to 4, SHA-1 and SHA-256, sparse indexes, the untracked cache and unknown
optional extensions all keep working.

An entry is patched only while it still names the expected blob, so another git that got in between loses
nothing. Where the patch is not possible, nothing happens, and the price is one more run of the filter.

Racy entries: git does not believe the stat data of a file that was modified in the same second as the
index was written, or later, and looks into it. The patched index is younger than the old one, so entries that
were racy would begin to look safe. Where our files are older than the old index, the new one gets the time of
the old one, and nothing changes for the others. Else entries that were racy get size zero, as git's own
``ce_smudge_racily_clean_entry()`` does; then ``git merge --abort`` takes such files for modified, until a
``git status``.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import stat
import struct
import time
from collections.abc import Iterator, Mapping

from coral_git import fsops

Item = tuple[bytes, os.stat_result]
"""The raw blob id an entry must name, and the stat data of its file."""

_Entry = tuple[int, bytes, int, bytes]
"""Offset of the entry, its path, its flags (the extended ones in the upper half), its raw blob id."""

_STAT = struct.Struct(">10I")
_HEADER = struct.Struct(">4sII")
_STAGE = 0x3000
_EXTENDED = 0x4000
_NAME_LENGTH = 0x0FFF
_INTENT_TO_ADD = 0x2000 << 16
_SKIP_WORKTREE = 0x4000 << 16
_UNTOUCHABLE = _STAGE | _INTENT_TO_ADD | _SKIP_WORKTREE
_U32 = 0xFFFF_FFFF
_SECOND = 1_000_000_000


class _UnsupportedError(Exception):
    """The index is of a kind, or in a state, in which it cannot be patched."""


def patch_index(
    index_path: str,
    items: Mapping[bytes, Item],
    hash_length: int,
    munge: bool = True,
    timeout: float = 2.0,
) -> set[bytes]:
    """Put the stat data of files into their index entries.

    The stat data must be *settled* (see ``is_settled``); ``WorkTreeFile.commit`` returns such.

    Args:
        index_path: the index of the work tree; a symbolic link is followed, as git does.
        items: path as in the index → blob id that its entry must name, and ``lstat`` of its file.
        hash_length: bytes of a blob id, 20 or 32.
        munge: write 0x80000000 for a size that is a multiple of 4 GiB, as git does since 2.43.
        timeout: seconds to wait for ``index.lock``.

    Returns:
        The paths that were patched. Empty, without an exception, when the index is locked, split, damaged,
        of an unknown kind, or cannot be written.
    """
    if not items:
        return set()
    real = os.path.realpath(index_path)
    lock = real + ".lock"
    try:
        fd = _take_lock(real, lock, timeout)
    except OSError:
        return set()
    try:
        new, status, patched = _read_and_patch(real, items, hash_length, munge)
        if patched:
            fsops.write_all(fd, new, lock)
            os.fchmod(fd, stat.S_IMODE(status.st_mode))
            if _are_older(items, status):
                os.utime(fd, ns=(status.st_atime_ns, status.st_mtime_ns))
            fsops.rename(lock, real)  # not synced, as git does not sync its index by default
    except (OSError, _UnsupportedError):
        return set()
    finally:
        _release(fd, lock)
    return patched


def is_settled(status: os.stat_result, taken_ns: int) -> bool:
    """Whether every later change of the file will show in its stat data.

    git compares whole seconds, so a file that was modified in the second in which it was looked at may be
    modified once more without a trace.

    Args:
        status: the stat data.
        taken_ns: the wall-clock time just before they were taken, in nanoseconds since the epoch.
    """
    return status.st_mtime_ns // _SECOND < taken_ns // _SECOND


def _take_lock(index: str, lock: str, timeout: float) -> int:
    """Create ``index.lock`` as git does, waiting for another holder; OSError when it cannot be had."""
    deadline = time.monotonic() + timeout
    while True:
        os.stat(index)  # where there is no index, there must be no lock either
        try:
            return fsops.create_exclusive(lock)
        except FileExistsError:
            if time.monotonic() >= deadline:
                raise
        time.sleep(0.02)


def _release(fd: int, lock: str) -> None:
    """Close the lock file, and unlink it unless it was renamed; never another process's lock."""
    with contextlib.suppress(OSError):
        if os.path.samestat(os.fstat(fd), os.lstat(lock)):
            os.unlink(lock)
    os.close(fd)


def _read_and_patch(
    index: str, items: Mapping[bytes, Item], hash_length: int, munge: bool
) -> tuple[bytearray, os.stat_result, set[bytes]]:
    """The new content of the index, the stat data of the old one and the patched paths."""
    with open(index, "rb") as file:
        status = os.fstat(file.fileno())
        old = file.read()
    try:
        racy_from = None if _are_older(items, status) else status.st_mtime_ns // _SECOND
        new, patched = _patch(old, items, hash_length, munge, racy_from)
    except (IndexError, ValueError, struct.error) as error:
        raise _UnsupportedError(str(error)) from error
    return new, status, patched


def _are_older(items: Mapping[bytes, Item], index: os.stat_result) -> bool:
    """Whether git will believe the stat data of our files in an index with the time of the old one."""
    second = index.st_mtime_ns // _SECOND
    return all(status.st_mtime_ns // _SECOND < second for _, status in items.values())


def _patch(
    old: bytes, items: Mapping[bytes, Item], hash_length: int, munge: bool, racy_from: int | None
) -> tuple[bytearray, set[bytes]]:
    """The content with the stat data of ``items``; entries from that second on must not look safe."""
    digest = hashlib.sha1 if hash_length == 20 else hashlib.sha256
    without_checksum = old[-hash_length:] == bytes(hash_length)  # index.skipHash
    if not without_checksum and digest(memoryview(old)[:-hash_length]).digest() != old[-hash_length:]:
        raise _UnsupportedError("checksum")
    new = bytearray(old)
    patched: set[bytes] = set()
    for start, path, flags, oid in _entries(old, hash_length):
        item = items.get(path)
        if item is not None and item[0] == oid and not flags & _UNTOUCHABLE:
            mode = old[start + 24 : start + 28]
            new[start : start + 40] = _stat_bytes(item[1], mode, munge)
            patched.add(path)
        elif racy_from is not None and int.from_bytes(old[start + 8 : start + 12], "big") >= racy_from:
            new[start + 36 : start + 40] = bytes(4)
    if not without_checksum:
        new[-hash_length:] = digest(memoryview(new)[:-hash_length]).digest()
    return new, patched


def _stat_bytes(status: os.stat_result, mode: bytes, munge: bool) -> bytes:
    """The stat data of an entry as ``fill_stat_data()`` of git writes it, with the mode given."""
    size = status.st_size & _U32
    if munge and status.st_size and not size:
        size = 0x8000_0000
    return _STAT.pack(
        status.st_ctime_ns // _SECOND & _U32,
        status.st_ctime_ns % _SECOND,
        status.st_mtime_ns // _SECOND & _U32,
        status.st_mtime_ns % _SECOND,
        status.st_dev & _U32,
        status.st_ino & _U32,
        int.from_bytes(mode, "big"),
        status.st_uid & _U32,
        status.st_gid & _U32,
        size,
    )


def _entries(data: bytes, hash_length: int) -> Iterator[_Entry]:
    """Walk the entries of an index, then its extensions; malformed data raises one of the usual errors."""
    signature, version, count = _HEADER.unpack_from(data)
    if signature != b"DIRC" or version not in (2, 3, 4):
        raise _UnsupportedError("version")
    position, path = _HEADER.size, b""
    for _ in range(count):
        start = position
        position = start + 40 + hash_length
        flags = data[position] << 8 | data[position + 1]
        position += 2
        if flags & _EXTENDED:
            flags |= data[position] << 24 | data[position + 1] << 16
            position += 2
        if version == 4:
            path, position = _prefixed_path(data, position, path)
        else:
            length = flags & _NAME_LENGTH
            end = position + length if length < _NAME_LENGTH else data.index(0, position)
            path = data[position:end]
            position = start + ((end - start + 8) & ~7)
        yield start, path, flags, data[start + 40 : start + 40 + hash_length]
    _check_extensions(data, position, len(data) - hash_length)


def _prefixed_path(data: bytes, position: int, previous: bytes) -> tuple[bytes, int]:
    """The path of a version-4 entry (bytes to drop from the previous one, a suffix), and where it ends."""
    byte = data[position]
    drop = byte & 0x7F
    while byte & 0x80:
        position += 1
        byte = data[position]
        drop = (drop + 1) << 7 | byte & 0x7F
    if drop > len(previous):
        raise _UnsupportedError("path prefix")
    end = data.index(0, position + 1)
    return previous[: len(previous) - drop] + data[position + 1 : end], end + 1


def _check_extensions(data: bytes, position: int, end: int) -> None:
    """Refuse mandatory extensions whose entries lie elsewhere (split index) or that are unknown."""
    while position < end:
        name = data[position : position + 4]
        if not name[:1].isupper() and name != b"sdir":
            raise _UnsupportedError("extension")
        position += 8 + int.from_bytes(data[position + 4 : position + 8], "big")
    if position != end:
        raise _UnsupportedError("length")
