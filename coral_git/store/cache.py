"""What the store remembers between runs to be fast: file stats and the objects that manifests name.

Every answer is a hint that may be missing. The tables of packs and objects are in
:mod:`coral_git.store.pack_table`; all of them share one SQLite file.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from coral_git.store.database import Database
from coral_git.types import ID_LENGTH, ObjectId

_WRAP = 1 << 64


class StatRecord(NamedTuple):
    """What a file looked like when its manifest was made.

    Attributes:
        size: length in bytes.
        mtime_ns: last change of the content, nanoseconds since the epoch.
        ctime_ns: last change of the inode.
        inode: number of the inode.
        device: number of the device.
        recorded_ns: when this record was made.
        manifest: the manifest of the file at that time.
    """

    size: int
    mtime_ns: int
    ctime_ns: int
    inode: int
    device: int
    recorded_ns: int
    manifest: bytes


class Cache:
    """The hints of one store. May be used from several threads; never raises an SQLite error.

    Args:
        path: the SQLite file, which may be deleted at any time.

    Attributes:
        database: the connection, for further tables of hints.
    """

    __slots__ = ("database",)

    def __init__(self, path: str) -> None:
        self.database = Database(path)

    def close(self) -> None:
        """Close the file; the next use opens it again."""
        self.database.close()

    def stat(self, path: bytes) -> StatRecord | None:
        """The record of a file, or None. The caller decides whether it is still believed."""
        row = self.database.run(
            lambda connection: connection.execute(
                "SELECT size, mtime_ns, ctime_ns, inode, device, recorded_ns, manifest"
                " FROM stat WHERE path=?",
                (path,),
            ).fetchone()
        )
        if row is None:
            return None
        size, mtime_ns, ctime_ns, inode, device, recorded_ns, manifest = row
        return StatRecord(size, mtime_ns, ctime_ns, inode % _WRAP, device % _WRAP, recorded_ns, manifest)

    def record_stat(self, records: Iterable[tuple[bytes, StatRecord]]) -> None:
        """Remember what files look like, each under its path."""
        rows = [
            (
                path,
                record.size,
                record.mtime_ns,
                record.ctime_ns,
                _to_signed(record.inode),
                _to_signed(record.device),
                record.recorded_ns,
                record.manifest,
            )
            for path, record in records
        ]
        self.database.write_rows("INSERT OR REPLACE INTO stat VALUES (?,?,?,?,?,?,?,?)", rows)

    def forget_stat(self, paths: Iterable[bytes]) -> None:
        """Forget files."""
        rows = [(path,) for path in paths]
        self.database.write_rows("DELETE FROM stat WHERE path=?", rows)

    def manifest_objects(self, blob: bytes) -> tuple[ObjectId, ...] | None:
        """The objects that a git blob names as a manifest; () when it is none, None when not known yet.

        Args:
            blob: the id of the blob, 20 or 32 bytes.
        """
        row = self.database.run(
            lambda connection: connection.execute(
                "SELECT objects FROM manifests WHERE blob=?", (blob,)
            ).fetchone()
        )
        if row is None or len(row[0]) % ID_LENGTH:
            return None
        packed = row[0]
        return tuple(
            ObjectId(packed[start : start + ID_LENGTH]) for start in range(0, len(packed), ID_LENGTH)
        )

    def record_manifests(self, manifests: Iterable[tuple[bytes, Iterable[ObjectId]]]) -> None:
        """Remember what git blobs name; no objects for a blob that is no manifest."""
        rows = [(blob, b"".join(object_ids)) for blob, object_ids in manifests]
        self.database.write_rows("INSERT OR REPLACE INTO manifests VALUES (?,?)", rows)


def _to_signed(value: int) -> int:
    """SQLite has signed 64-bit numbers; some file systems number inodes beyond them."""
    return value - _WRAP if value >= _WRAP // 2 else value
