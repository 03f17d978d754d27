"""Reading blobs out of real object databases."""

from __future__ import annotations

import os
import signal
import threading

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from coral_git.errors import GitError
from coral_git.git.command import Git
from coral_git.git.objects import CatFile, blob_oid


@pytest.fixture(params=["sha1", "sha256"])
def stocked(request, make_repo):
    """A repository with one commit and a staged change on top."""
    repo = make_repo(object_format=request.param)
    repo.commit(**{"dir/a.st": b"one", "empty": b"", "with blob 3": b"spaces", "line\nfeed": b"lf"})
    repo.write("dir/a.st", b"two")
    repo.git("add", ".")
    return repo


@pytest.fixture
def reader(stocked):
    with CatFile(Git(str(stocked.path))) as reader:
        yield reader


def children(reader: CatFile) -> list[int]:
    return [child._process.pid for child in (reader._batch, reader._check) if child._process is not None]


@pytest.mark.parametrize("max_size", [None, 6])
def test_names(stocked, reader, max_size):
    def blob(spec: bytes):
        return reader.blob(spec, max_size=max_size)

    oid = stocked.git("rev-parse", "HEAD:dir/a.st")
    assert blob(b"HEAD:dir/a.st") == (oid, b"one")
    assert blob(oid.encode()) == (oid, b"one")
    assert blob(b":dir/a.st") == (stocked.git("rev-parse", ":dir/a.st"), b"two")
    assert blob(b":0:empty")[1] == b""
    assert blob(b":with blob 3")[1] == b"spaces"
    assert blob(b":line\nfeed")[1] == b"lf"
    for nothing in (
        b":gone",
        b":gone blob 3",
        b"HEAD:dir",
        b"HEAD",
        b"",
        b":",
        b"-x",
        b"gone\nHEAD",
        b"gone:\xff",
        b"0" * 40,
    ):
        assert blob(nothing) is None, nothing
    assert blob(b":dir/a.st")[1] == b"two"  # still in step


def test_ambiguous(repo):
    oids: dict[str, str] = {}
    number = 0
    while (oid := blob_oid(b"%d" % number, "sha1").hex())[:4] not in oids:
        oids[oid[:4]] = oid
        number += 1
    twins = {
        name: b"%d" % name
        for name in range(number + 1)
        if blob_oid(b"%d" % name, "sha1").hex()[:4] == oid[:4]
    }
    repo.commit(**{str(name): data for name, data in twins.items()})
    with CatFile(Git(str(repo.path))) as reader:
        assert len(twins) == 2
        assert reader.blob(oid[:4].encode()) is None
        assert reader.blob(oid.encode()) == (oid, b"%d" % number)


def test_too_large_is_not_read(reader):
    assert reader.blob(b":dir/a.st", max_size=2) is None
    assert reader._batch._process is None
    assert reader.blob(b":dir/a.st", max_size=3)[1] == b"two"


def test_nothing_runs_before_the_first_question(stocked):
    reader = CatFile(Git(str(stocked.path)))
    assert children(reader) == []
    reader.close()
    reader.close()


def test_no_child_is_left(stocked):
    with CatFile(Git(str(stocked.path))) as reader:
        reader.blob(b":empty", max_size=1)
        pids = children(reader)
        assert len(pids) == 2
    for pid in pids:
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)


def test_after_closing_the_new_index_is_seen(stocked, reader):
    assert reader.blob(b":new") is None
    stocked.write("new", b"new")
    stocked.git("add", ".")
    reader.close()
    assert reader.blob(b":new")[1] == b"new"


def test_sizes(stocked, reader):
    blob, tree = stocked.git("rev-parse", ":dir/a.st"), stocked.git("rev-parse", "HEAD:dir")
    size = int(stocked.git("cat-file", "-s", tree))
    many = [blob, "0" * len(blob), tree] * 300
    assert list(reader.sizes(many)) == [(blob, "blob", 3), (tree, "tree", size)] * 300
    assert list(reader.sizes([])) == []
    partly = reader.sizes(many)
    next(partly)
    partly.close()
    assert reader.info(blob.encode()) == (blob, "blob", 3)


def test_a_child_that_is_killed(stocked, reader):
    reader.blob(b":empty")
    os.kill(children(reader)[0], signal.SIGKILL)
    with pytest.raises(GitError, match="ended"):
        reader.blob(b":empty")
    assert reader.blob(b":empty")[1] == b""


def test_a_damaged_object(stocked, reader):
    oid = stocked.git("rev-parse", ":dir/a.st")
    path = stocked.path / ".git/objects" / oid[:2] / oid[2:]
    path.chmod(0o644)
    path.write_bytes(path.read_bytes()[:-4])
    with pytest.raises(GitError):
        reader.blob(oid.encode())
    assert reader.blob(b":empty")[1] == b""


def test_no_repository(tmp_path, git_environment):
    with CatFile(Git(str(tmp_path))) as reader, pytest.raises(GitError):
        reader.blob(b"HEAD")


def test_threads(stocked, reader):
    names = {b":dir/a.st": b"two", b":empty": b"", b":with blob 3": b"spaces", b"HEAD:dir/a.st": b"one"}
    wrong = []

    def ask(spec: bytes, content: bytes) -> None:
        wrong.extend(1 for _ in range(50) if reader.blob(spec, max_size=9)[1] != content)

    threads = [threading.Thread(target=ask, args=item) for item in names.items()]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def test_a_large_blob(repo):
    content = os.urandom(3_000_000)
    repo.write("big", content)
    repo.git("add", ".")
    with CatFile(Git(str(repo.path))) as reader:
        assert reader.blob(b":big")[1] == content


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.binary(max_size=300))
def test_ids_are_gits(stocked, data):
    object_format = stocked.git("rev-parse", "--show-object-format")
    expected = Git(str(stocked.path)).run("hash-object", "--stdin", input=data).decode().strip()
    assert blob_oid(data, object_format).hex() == expected


def test_known_id():
    assert blob_oid(b"", "sha1").hex() == "e69de29bb2d1d6434b8b29ae775ad8c2e48c5391"
