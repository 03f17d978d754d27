"""When the stat cache is believed."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from coral_git.pipeline import statcache
from coral_git.store.cache import Cache, StatRecord

SECOND = 1_000_000_000


@pytest.fixture
def cache(tmp_path):
    """An empty cache."""
    opened = Cache(str(tmp_path / "cache.sqlite"))
    yield opened
    opened.close()


@pytest.fixture
def file(tmp_path) -> Path:
    """A file that was written a while ago, and touched now."""
    path = tmp_path / "w.bin"
    path.write_bytes(b"weights")
    os.utime(path, ns=(0, time.time_ns() - 100 * SECOND))
    return path


def record(status: os.stat_result, recorded_ns: int, text: bytes = b"manifest") -> StatRecord:
    return StatRecord(*statcache.identity(status), recorded_ns=recorded_ns, manifest=text)


def test_an_unknown_file(cache, file):
    assert statcache.recall(cache, b"w.bin", file.lstat()) is None


def test_a_record_of_a_fresh_file_is_a_hint_only(cache, file):
    statcache.remember(cache, b"w.bin", file.lstat(), b"manifest")
    assert statcache.recall(cache, b"w.bin", file.lstat()) == (b"manifest", False)


@pytest.mark.parametrize(("age", "believed"), [(0, False), (2 * SECOND - 1, False), (2 * SECOND, True)])
def test_both_times_must_be_two_seconds_older_than_the_record(cache, file, age, believed):
    status = file.lstat()
    newest = max(status.st_mtime_ns, status.st_ctime_ns)
    cache.record_stat([(b"w.bin", record(status, newest + age))])
    assert statcache.recall(cache, b"w.bin", status) == (b"manifest", believed)


def test_the_time_of_the_inode_counts_too(cache, file):
    status = file.lstat()
    assert status.st_mtime_ns < status.st_ctime_ns  # the content is old, the inode was touched now
    cache.record_stat([(b"w.bin", record(status, status.st_mtime_ns + 5 * SECOND))])
    assert statcache.recall(cache, b"w.bin", status) == (b"manifest", False)


@pytest.mark.parametrize(
    "change",
    [
        lambda path: path.write_bytes(b"weights and more"),
        lambda path: os.utime(path, ns=(0, path.stat().st_mtime_ns + 1)),
        lambda path: (path.rename(path.with_name("old")), path.write_bytes(b"weights")),
        lambda path: path.chmod(0o600),
    ],
    ids=["size", "mtime", "inode", "ctime"],
)
def test_a_file_that_looks_different_is_unknown(cache, file, change):
    before = file.lstat()
    cache.record_stat([(b"w.bin", record(before, before.st_ctime_ns + 9 * SECOND))])
    assert statcache.recall(cache, b"w.bin", before) == (b"manifest", True)
    while time.time_ns() - before.st_ctime_ns < 20_000_000:  # clocks of file systems tick slowly
        pass
    change(file)
    assert statcache.recall(cache, b"w.bin", file.lstat()) is None


def test_a_new_record_replaces_the_old_one(cache, file):
    statcache.remember(cache, b"w.bin", file.lstat(), b"first")
    statcache.remember(cache, b"w.bin", file.lstat(), b"second")
    found = statcache.recall(cache, b"w.bin", file.lstat())
    assert found is not None
    assert found[0] == b"second"
    assert statcache.recall(cache, b"other.bin", file.lstat()) is None
