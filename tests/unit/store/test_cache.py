import os
import sqlite3
import threading
from pathlib import Path

import pytest

from coral_git.store.cache import Cache, StatRecord
from coral_git.store.store import Store
from coral_git.types import ObjectId

RECORD = StatRecord(1, 2, 3, 2**64 - 1, 5, 6, b"manifest")


@pytest.fixture
def cache(tmp_path):
    made = Cache(str(tmp_path / "cache.sqlite"))
    yield made
    made.close()


def test_stat_records(cache):
    assert cache.stat(b"a\xff") is None
    cache.record_stat([(b"a\xff", RECORD), (b"b", RECORD)])
    assert cache.stat(b"a\xff") == RECORD
    newer = StatRecord(9, 9, 9, 9, 9, 9, b"")
    cache.record_stat([(b"a\xff", newer)])
    cache.close()
    assert cache.stat(b"a\xff") == newer
    cache.forget_stat([b"a\xff"])
    assert cache.stat(b"a\xff") is None
    assert cache.stat(b"b") == RECORD


def test_manifest_objects(cache):
    ids = [ObjectId(bytes([number]) * 32) for number in range(3)]
    assert cache.manifest_objects(b"x" * 20) is None
    cache.record_manifests([(b"x" * 20, ids), (b"y" * 32, [])])
    assert cache.manifest_objects(b"x" * 20) == tuple(ids)
    assert cache.manifest_objects(b"y" * 32) == ()


GARBAGE = {
    "text": b"this is not a database" * 100,
    "short": b"SQLite format 3\0",
    "zeros": bytes(8192),
    "empty": b"",
}


@pytest.mark.parametrize("kind", [*GARBAGE, "deleted", "middle", "schema", "tables", "directory"])
def test_a_bad_file_is_made_anew(store, build, kind):
    raws = [build.raw(number) for number in range(60)]
    build.put(store, *raws)
    store.cache.record_stat([(b"path", RECORD)])
    store.close()
    path = Path(store.layout.cache)
    for suffix in ("-wal", "-shm"):
        Path(str(path) + suffix).unlink(missing_ok=True)
    if kind == "deleted":
        path.unlink()
    elif kind == "directory":
        path.unlink()
        path.mkdir()
    elif kind == "middle":
        data = path.read_bytes()
        path.write_bytes(data[:4096] + os.urandom(len(data) - 4096))
    elif kind in ("schema", "tables"):
        connection = sqlite3.connect(path)
        connection.execute("PRAGMA user_version=77" if kind == "schema" else "DROP TABLE objects")
        connection.close()
    else:
        path.write_bytes(GARBAGE[kind])
    with Store.open(store.root) as fresh:
        for raw in raws:
            assert fresh.read(build.object_id(raw), 1000) == raw
        assert fresh.cache.stat(b"path") in (None, RECORD)
        fresh.cache.record_stat([(b"path", RECORD)])
        assert fresh.cache.stat(b"path") == RECORD


def test_garbage_while_it_is_open(store, build):
    raws = [build.raw(number) for number in range(60)]
    build.put(store, *raws)
    store.cache.database.run(
        lambda connection: connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
    )
    size = os.path.getsize(store.layout.cache)
    with open(store.layout.cache, "r+b") as file:
        file.write(os.urandom(size))
    with Store.open(store.root) as fresh:
        assert fresh.find_missing([build.object_id(raw) for raw in raws]) == []
    assert store.find_missing([build.object_id(raw) for raw in raws]) == []
    assert store.read(build.object_id(raws[5]), 1000) == raws[5]


def test_deleted_while_it_is_open(store, build):
    build.put(store, build.raw(1))
    for path in Path(store.root).glob("cache.sqlite*"):
        path.unlink()
    build.put(store, build.raw(2))
    for number in (1, 2):
        assert store.read(build.object_id(build.raw(number)), 1000) == build.raw(number)


def test_a_locked_file_does_not_stop_anybody(store, build, monkeypatch):
    from coral_git.store import database

    build.put(store, build.raw(1))
    store.close()
    monkeypatch.setattr(database, "_BUSY_SECONDS", 0.05)
    blocker = sqlite3.connect(store.layout.cache, isolation_level=None)
    blocker.execute("BEGIN EXCLUSIVE")
    try:
        with Store.open(store.root) as fresh:
            fresh.cache.record_stat([(b"path", RECORD)])
            assert fresh.read(build.object_id(build.raw(1)), 1000) == build.raw(1)
            build.put(fresh, build.raw(2))
            assert fresh.has(build.object_id(build.raw(2)))
    finally:
        blocker.close()


def test_threads_share_the_cache(cache):
    failures = []

    def work(number):
        try:
            for turn in range(30):
                path = b"%d-%d" % (number, turn)
                cache.record_stat([(path, RECORD)])
                assert cache.stat(path) == RECORD
        except BaseException as error:  # handed to the main thread
            failures.append(error)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []


def test_a_fork_opens_its_own_connection(store, build):
    build.put(store, build.raw(1))
    child = os.fork()
    if child == 0:
        code = 1
        try:
            build.put(store, build.raw(2))
            code = 0 if store.has(build.object_id(build.raw(1))) else 2
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert store.find_missing([build.object_id(build.raw(2))]) == []
