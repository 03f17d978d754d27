"""The SQLite file of the store: hints only, made anew whenever something is wrong with it.

Nothing in here is ever the reason why bytes are believed. So no error of SQLite reaches a caller: a damaged
file is deleted and made anew, and where no file can be used the tables live in memory.
"""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, TypeVar

from coral_git import fsops

if TYPE_CHECKING:
    import sqlite3

_T = TypeVar("_T")

SCHEMA_VERSION = 2
_inherited: list[sqlite3.Connection] = []
_BUSY_SECONDS = 30
_SCHEMA = """
CREATE TABLE IF NOT EXISTS packs(
    number INTEGER PRIMARY KEY, id BLOB NOT NULL UNIQUE, place TEXT NOT NULL,
    size INTEGER NOT NULL, inode INTEGER NOT NULL, usable INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS objects(
    id BLOB NOT NULL, pack INTEGER NOT NULL, offset INTEGER NOT NULL, entry_length INTEGER NOT NULL,
    raw_length INTEGER NOT NULL, base BLOB, codec INTEGER NOT NULL, element INTEGER NOT NULL,
    PRIMARY KEY (id, pack)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS stat(
    path BLOB PRIMARY KEY, size INTEGER NOT NULL, mtime_ns INTEGER NOT NULL, ctime_ns INTEGER NOT NULL,
    inode INTEGER NOT NULL, device INTEGER NOT NULL, recorded_ns INTEGER NOT NULL, manifest BLOB NOT NULL
    ) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS manifests(blob BLOB PRIMARY KEY, objects BLOB NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS sketches(
    id BLOB NOT NULL, reach INTEGER NOT NULL, element INTEGER NOT NULL, bits BLOB NOT NULL,
    PRIMARY KEY (id, reach)) WITHOUT ROWID;
"""


class Database:
    """One connection to the hints, shared by the threads of a process.

    Args:
        path: the SQLite file; it is opened when it is first needed.

    Attributes:
        generation: grows whenever the tables may have lost rows.
    """

    __slots__ = ("_connection", "_lock", "_path", "_pid", "generation")

    def __init__(self, path: str) -> None:
        self._path = path
        self._lock = threading.RLock()
        self._connection: sqlite3.Connection | None = None
        self._pid = 0
        self.generation = 0

    def run(self, action: Callable[[sqlite3.Connection], _T]) -> _T:
        """Run an action on the connection; on an SQLite error once more on a repaired one."""
        import sqlite3

        with self._lock:
            for _ in range(2):
                connection = self._connect()
                try:
                    return action(connection)
                except sqlite3.Error as error:
                    with contextlib.suppress(sqlite3.Error):
                        connection.rollback()
                    self._repair(error)
            return action(self._use_memory())

    def transaction(self, action: Callable[[sqlite3.Connection], _T]) -> _T:
        """Run an action that writes, as one transaction."""

        def write(connection: sqlite3.Connection) -> _T:
            connection.execute("BEGIN IMMEDIATE")
            result = action(connection)
            connection.execute("COMMIT")
            return result

        return self.run(write)

    def write_rows(self, statement: str, rows: Sequence[tuple[object, ...]]) -> None:
        """Run a statement for each row, as one transaction."""

        def write(connection: sqlite3.Connection) -> None:
            connection.executemany(statement, rows)  # the cursor must not outlive the lock

        self.transaction(write)

    def close(self) -> None:
        """Close the connection; the next use opens it again."""
        with self._lock:
            if self._connection is not None and self._pid == os.getpid():
                self._connection.close()
            if self._connection is not None:
                self.generation += 1  # tables in memory are gone now
            self._connection = None

    def _connect(self) -> sqlite3.Connection:
        import sqlite3

        if self._connection is not None and self._pid == os.getpid():
            return self._connection
        if self._connection is not None:  # of the parent, before a fork: neither use nor close it
            _inherited.append(self._connection)
            self._connection = None
        self._pid = os.getpid()
        try:
            self._connection = self._open_file()
        except sqlite3.Error as error:
            self._repair(error)
        return self._connection or self._use_memory()

    def _open_file(self) -> sqlite3.Connection:
        import sqlite3

        connection = sqlite3.connect(
            self._path, timeout=_BUSY_SECONDS, isolation_level=None, check_same_thread=False
        )
        try:
            connection.execute("PRAGMA journal_mode=WAL")
            connection.execute("PRAGMA synchronous=OFF")  # hints: a power cut may cost them
            version = connection.execute("PRAGMA user_version").fetchone()[0]
            if version != SCHEMA_VERSION:
                if version:
                    raise sqlite3.DatabaseError("another schema")
                connection.executescript(_SCHEMA)
                connection.execute(f"PRAGMA user_version={SCHEMA_VERSION}")
            connection.execute("SELECT max(number) FROM packs").fetchone()
        except BaseException:
            connection.close()
            raise
        return connection

    def _repair(self, error: sqlite3.Error) -> None:
        """Make the file anew where it is damaged; go on in memory where it cannot be used."""
        import sqlite3

        self.generation += 1
        if self._connection is not None:
            with contextlib.suppress(sqlite3.Error):
                self._connection.close()
            self._connection = None
        try:
            if isinstance(error, sqlite3.OperationalError) and not _schema_is_wrong(error):
                self._use_memory()
                return
            for suffix in ("", "-wal", "-shm"):
                fsops.remove(self._path + suffix)
            self._connection = self._open_file()
        except (sqlite3.Error, OSError):
            self._use_memory()

    def _use_memory(self) -> sqlite3.Connection:
        import sqlite3

        connection = sqlite3.connect(":memory:", isolation_level=None, check_same_thread=False)
        connection.executescript(_SCHEMA)
        self._connection = connection
        self._pid = os.getpid()
        return connection


def _schema_is_wrong(error: Exception) -> bool:
    """Whether the file is a sound database that lacks our tables or columns."""
    return str(error).startswith("no such")
