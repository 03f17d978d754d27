"""The operations that change the disk: whole writes, names given once, replacement in one step."""

from __future__ import annotations

import errno
import itertools
import os
import threading
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from coral_git import fsops
from coral_git.testing.faults import count_operations, fail_each


@pytest.fixture(autouse=True)
def no_fault_hook_left():
    yield
    fsops.set_fault_hook(None)


@pytest.fixture
def incoming(tmp_path):
    """Makes a finished incoming file: ``incoming(data)`` gives its path."""
    numbers = itertools.count()

    def make(data: bytes) -> str:
        path = tmp_path / f"incoming-{next(numbers)}"
        path.write_bytes(data)
        return str(path)

    return make


# Whole writes

PIECES = st.lists(st.binary(max_size=40), max_size=12)


def stingy(function, steps):
    """The same system call, writing only so many bytes each time."""
    most = itertools.cycle(steps)

    def write(fd, data, *rest):
        if isinstance(data, list):
            data = [b"".join(bytes(piece) for piece in data)[: next(most)]]
        else:
            data = memoryview(data).cast("B")[: next(most)]
        return function(fd, data, *rest)

    return write


@pytest.fixture(scope="module")
def scratch(tmp_path_factory):
    """Runs a function on the descriptor of a new file, with short writes; gives what is in it then."""
    path = tmp_path_factory.mktemp("scratch") / "file"

    def run(function, steps=None):
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC)
        try:
            with pytest.MonkeyPatch.context() as patch:
                for name in ("write", "writev", "pwrite"):
                    if steps is not None:
                        patch.setattr(os, name, stingy(getattr(os, name), steps))
                function(fd)
        finally:
            os.close(fd)
        return path.read_bytes()

    return run


@given(pieces=PIECES, steps=st.lists(st.integers(1, 30), min_size=1, max_size=4), start=st.integers(0, 9))
@settings(max_examples=50, deadline=None)
def test_short_writes_are_continued(scratch, pieces, steps, start):
    whole = b"".join(pieces)
    assert scratch(lambda fd: fsops.write_all(fd, whole), steps) == whole
    assert scratch(lambda fd: fsops.write_pieces(fd, pieces), steps) == whole
    expected = bytes(start) + whole if whole else b""
    assert scratch(lambda fd: fsops.write_at(fd, whole, start), steps) == expected


def test_views_of_larger_items_are_written_as_bytes(scratch):
    view = memoryview(bytes(range(16))).cast("I")
    assert scratch(lambda fd: fsops.write_all(fd, view), [5]) == bytes(range(16))
    assert scratch(lambda fd: fsops.write_pieces(fd, [view, b"x"]), [5]) == bytes(range(16)) + b"x"
    assert scratch(lambda fd: fsops.write_at(fd, view, 0), [5]) == bytes(range(16))


def test_more_pieces_than_one_call_takes(scratch):
    pieces = [bytes([number % 256]) * (number % 3) for number in range(5000)]
    assert scratch(lambda fd: fsops.write_pieces(fd, pieces)) == b"".join(pieces)


def test_writing_at_a_place_does_not_move_the_position(scratch):
    def run(fd):
        fsops.write_all(fd, b"abc")
        fsops.write_at(fd, b"X", 0)
        fsops.write_all(fd, b"d")

    assert scratch(run) == b"Xbcd"


# Names given once


def test_publish_keeps_the_first_content(tmp_path, incoming):
    final = str(tmp_path / "final")
    first, second = incoming(b"first"), incoming(b"second")
    assert fsops.publish(first, final) is True
    assert fsops.publish(second, final) is False
    assert Path(final).read_bytes() == b"first"
    assert os.listdir(tmp_path) == ["final"]


@pytest.mark.parametrize("code", [errno.EPERM, errno.ENOTSUP, errno.EMLINK, errno.ENOSYS])
def test_publish_without_hard_links(tmp_path, incoming, monkeypatch, code):
    def link(source, target):
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(os, "link", link)
    final = str(tmp_path / "final")
    assert fsops.publish(incoming(b"first"), final) is True
    assert fsops.publish(incoming(b"second"), final) is False
    assert Path(final).read_bytes() == b"first"
    assert os.listdir(tmp_path) == ["final"]


def test_publish_tells_of_other_errors(tmp_path, incoming):
    source = incoming(b"data")
    with pytest.raises(FileNotFoundError):
        fsops.publish(source, str(tmp_path / "no" / "final"))
    assert Path(source).read_bytes() == b"data"


def test_one_of_many_publishes(tmp_path, incoming):
    final = str(tmp_path / "final")
    sources = [incoming(str(number).encode()) for number in range(8)]
    start = threading.Barrier(len(sources))
    results: dict[int, bool] = {}

    def publish(number: int) -> None:
        start.wait()
        results[number] = fsops.publish(sources[number], final)

    threads = [threading.Thread(target=publish, args=(number,)) for number in range(len(sources))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    (winner,) = (number for number, created in results.items() if created)
    assert Path(final).read_bytes() == str(winner).encode()
    assert os.listdir(tmp_path) == ["final"]


@pytest.mark.parametrize("mode", ["error", "kill"])
def test_publish_interrupted_anywhere(tmp_path, mode):
    numbers = itertools.count()

    def prepare() -> Path:
        folder = tmp_path / f"{mode}-{next(numbers)}"
        folder.mkdir()
        (folder / "incoming").write_bytes(b"data")
        return folder

    def verify(folder: Path, completed: bool) -> None:
        names = set(os.listdir(folder))
        assert names
        assert not completed or names == {"final"}
        assert all((folder / name).read_bytes() == b"data" for name in names)

    points = fail_each(
        lambda folder: fsops.publish(str(folder / "incoming"), str(folder / "final")),
        prepare,
        verify,
        mode=mode,
    )
    assert points == 2


# New files


def test_a_new_file_never_is_an_old_one(tmp_path):
    (tmp_path / "there").write_bytes(b"old")
    (tmp_path / "link").symlink_to(tmp_path / "target")
    for name in ("there", "link"):
        with pytest.raises(FileExistsError):
            fsops.create_exclusive(str(tmp_path / name))
    assert (tmp_path / "there").read_bytes() == b"old"
    assert not (tmp_path / "target").exists()
    fd = fsops.create_exclusive(str(tmp_path / "new"), 0o600)
    fsops.write_all(fd, b"new")
    assert os.pread(fd, 3, 0) == b"new"
    assert not os.get_inheritable(fd)
    assert os.fstat(fd).st_mode & 0o777 == 0o600
    fsops.discard(fd, str(tmp_path / "new"))
    fsops.discard(fd, str(tmp_path / "new"))
    assert not (tmp_path / "new").exists()


def test_names_are_unique():
    names = {fsops.unique_name("x") for _ in range(1000)}
    assert len(names) == 1000
    assert all(name.startswith(f"x-{os.getpid()}-") for name in names)


def test_what_is_gone_is_removed(tmp_path):
    fsops.remove(str(tmp_path / "absent"))
    fsops.remove_directory(str(tmp_path / "absent"))
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "file").touch()
    fsops.remove_directory(str(tmp_path / "folder"))
    assert (tmp_path / "folder" / "file").exists()
    fsops.remove(str(tmp_path / "folder" / "file"))
    fsops.remove_directory(str(tmp_path / "folder"))
    assert os.listdir(tmp_path) == []


# Durability


@pytest.mark.parametrize("sync", ["file", "directory"])
def test_a_failed_fsync_is_an_error_and_an_impossible_one_is_not(tmp_path, monkeypatch, sync):
    codes = [errno.EINVAL, errno.EIO]

    def fsync(fd):
        code = codes.pop(0)
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(os, "fsync", fsync)
    fd = os.open(tmp_path, os.O_RDONLY)
    run = (lambda: fsops.sync_file(fd)) if sync == "file" else (lambda: fsops.sync_directory(str(tmp_path)))
    try:
        run()
        with pytest.raises(OSError, match=os.strerror(errno.EIO)):
            run()
    finally:
        os.close(fd)
    assert codes == []


# Replacement in one step


@pytest.mark.parametrize("mode", ["error", "kill"])
@pytest.mark.parametrize("old", [b"old content", None], ids=["there", "new"])
def test_replacement_interrupted_anywhere(tmp_path, mode, old):
    """The old content or the new one, never anything else, and after an error nothing beside it."""
    numbers = itertools.count()
    new = b"new content, longer than the old one"

    def prepare() -> Path:
        folder = tmp_path / str(next(numbers))
        folder.mkdir()
        if old is not None:
            (folder / "file").write_bytes(old)
        return folder

    def verify(folder: Path, completed: bool) -> None:
        path = folder / "file"
        found = path.read_bytes() if path.exists() else None
        assert found == new if completed else found in (old, new)
        if mode == "error":
            assert os.listdir(folder) == (["file"] if found is not None else [])

    points = fail_each(
        lambda folder: fsops.replace_file(str(folder / "file"), new), prepare, verify, mode=mode
    )
    assert points == 4  # create, write, fsync, rename


def test_replacement_changes_the_mode_only_when_asked(tmp_path):
    path = tmp_path / "file"
    fsops.replace_file(str(path), b"1", 0o751)
    assert path.stat().st_mode & 0o777 == 0o751
    assert path.read_bytes() == b"1"
    umask = os.umask(0o027)
    try:
        fsops.replace_file(str(path), b"2")
    finally:
        os.umask(umask)
    assert path.stat().st_mode & 0o777 == 0o640
    assert path.read_bytes() == b"2"


def test_replacement_leaves_the_target_of_a_link_alone(tmp_path):
    (tmp_path / "target").write_bytes(b"target")
    (tmp_path / "link").symlink_to("target")
    fsops.replace_file(str(tmp_path / "link"), b"new")
    assert (tmp_path / "target").read_bytes() == b"target"
    assert (tmp_path / "link").read_bytes() == b"new"


# Fault points


def test_every_change_is_announced_before_it_is_made(tmp_path):
    seen = []

    def refuse(name, path):
        seen.append(name)
        raise KeyboardInterrupt

    (tmp_path / "file").write_bytes(b"old")
    (tmp_path / "empty").mkdir()
    os.utime(tmp_path / "file", (1, 1))
    fd = os.open(tmp_path / "file", os.O_RDWR)
    name, other = str(tmp_path / "file"), str(tmp_path / "other")
    changes = {
        "mkdir": lambda: fsops.make_directory(other),
        "create": lambda: fsops.create_exclusive(other),
        "write": lambda: fsops.write_all(fd, b"new"),
        "write ": lambda: fsops.write_pieces(fd, [b"new"]),
        "write  ": lambda: fsops.write_at(fd, b"new", 0),
        "fsync": lambda: fsops.sync_file(fd),
        "fsync-directory": lambda: fsops.sync_directory(str(tmp_path)),
        "link": lambda: fsops.publish(name, other),
        "rename": lambda: fsops.rename(name, other),
        "unlink": lambda: fsops.remove(name),
        "rmdir": lambda: fsops.remove_directory(str(tmp_path / "empty")),
        "utime": lambda: fsops.touch(name),
        "symlink": lambda: fsops.make_link(name, other),
    }
    fsops.set_fault_hook(refuse)
    for change in changes.values():
        with pytest.raises(KeyboardInterrupt):
            change()
    fsops.set_fault_hook(None)
    os.close(fd)
    assert seen == [expected.strip() for expected in changes]
    assert sorted(os.listdir(tmp_path)) == ["empty", "file"]
    assert (tmp_path / "file").read_bytes() == b"old"
    assert (tmp_path / "file").stat().st_mtime == 1


def test_a_directory_that_is_there_needs_no_change(tmp_path):
    assert count_operations(lambda: fsops.make_directory(str(tmp_path))) == 0
    assert count_operations(lambda: fsops.make_directory(str(tmp_path / "a" / "b"))) == 1
    assert (tmp_path / "a" / "b").is_dir()


def test_touch_sets_both_times_in_nanoseconds(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(b"")
    fsops.touch(str(path), 1_700_000_000_123_456_789)
    status = path.stat()
    assert status.st_mtime_ns == status.st_atime_ns
    assert abs(status.st_mtime_ns - 1_700_000_000_123_456_789) < 1000
    fsops.touch(str(path))
    assert path.stat().st_mtime_ns > status.st_mtime_ns
