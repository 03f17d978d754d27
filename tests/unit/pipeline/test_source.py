"""Taking in what git sends: from the work-tree file while it is equal, from a spool otherwise."""

from __future__ import annotations

import os

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from coral_git.errors import CoralError
from coral_git.pipeline.source import HEAD_BYTES, Intake, identity, open_regular

DATA = bytes(range(256)) * 40


@pytest.fixture
def spools(tmp_path):
    """Where spools are made."""
    folder = tmp_path / "spools"
    folder.mkdir()
    return str(folder)


@pytest.fixture
def path(tmp_path) -> bytes:
    """A work-tree file with ``DATA`` in it, an old one."""
    file = tmp_path / "w.bin"
    file.write_bytes(DATA)
    os.utime(file, ns=(0, 10**18))
    return os.fsencode(file)


def pieces(data: bytes, size: int = 1000):
    return (data[start : start + size] for start in range(0, len(data), size))


def take(path: bytes, spools: str, content) -> tuple[bytes, bytes | None]:
    """The bytes of the source, and the path it reads from."""
    source = Intake(path, spools).take(content)
    try:
        data = source.read_at(0, source.size + 10)
        assert source.read_at(source.size, 1) == b""
        return data, source.path
    finally:
        source.close()
        assert os.listdir(spools) == []


def test_an_equal_file_is_read_in_place(path, spools):
    assert take(path, spools, pieces(DATA)) == (DATA, path)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, len(DATA)), st.binary(max_size=3000), st.integers(1, 4000))
def test_what_was_sent_is_what_is_read(tmp_path_factory, start, ending, size):
    folder = tmp_path_factory.mktemp("intake")
    file = folder / "w.bin"
    file.write_bytes(DATA)
    os.utime(file, ns=(0, 10**18))
    (folder / "spools").mkdir()
    sent = DATA[:start] + ending
    data, read_from = take(os.fsencode(file), str(folder / "spools"), pieces(sent, size))
    assert data == sent
    assert (read_from is not None) == (sent == DATA)


@pytest.mark.parametrize("sent", [b"", b"x", DATA[:-1], DATA + b"x", DATA[::-1], b"x" + DATA[1:]])
def test_anything_else_is_spooled(path, spools, sent):
    assert take(path, spools, pieces(sent)) == (sent, None)


def test_no_file_and_no_content(tmp_path, spools):
    assert take(os.fsencode(tmp_path / "absent"), spools, []) == (b"", None)
    (tmp_path / "empty").touch()
    assert take(os.fsencode(tmp_path / "empty"), spools, []) == (b"", os.fsencode(tmp_path / "empty"))


def test_the_head_is_kept(path, spools):
    intake = Intake(path, spools)
    intake.take(iter([DATA[:100], DATA[100:1000]])).close()
    assert intake.head == DATA[:HEAD_BYTES]


def test_views_that_are_used_again_do_no_harm(path, spools):
    buffer = bytearray(1000)

    def content():
        for number in range(5):
            buffer[:] = bytes([number]) * 1000
            yield memoryview(buffer)

    data, _ = take(path, spools, content())
    assert data == b"".join(bytes([number]) * 1000 for number in range(5))


def test_only_regular_files_are_opened(tmp_path):
    (tmp_path / "link").symlink_to("w.bin")
    (tmp_path / "w.bin").write_bytes(DATA)
    os.mkfifo(tmp_path / "pipe")
    for name in ("link", "pipe", "absent", "."):
        assert open_regular(os.fsencode(tmp_path / name)) is None


def test_a_change_is_noticed(path):
    for change in (
        lambda: os.truncate(path, 10),
        lambda: os.utime(path, ns=(0, 10**18 + 1)),
        lambda: (os.rename(path, path + b"2"), open(path, "wb").close()),
        lambda: os.unlink(path),
    ):
        source = open_regular(path)
        assert source is not None
        source.check_unchanged()
        change()
        with pytest.raises(CoralError, match="changed while it was read"):
            source.check_unchanged()
        source.close()


def test_identity_has_every_number_that_matters(path):
    status = os.lstat(path)
    numbers = status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino, status.st_dev
    assert identity(status) == numbers


def test_a_file_that_shrinks_under_the_comparison_is_refused(path, spools):
    def content():
        yield DATA[:5000]
        os.truncate(path, 100)
        yield DATA[5000:]

    with pytest.raises(CoralError):
        Intake(path, spools).take(content())
    assert os.listdir(spools) == []


def test_nothing_stays_open_after_a_failure(path, spools):
    def content():
        yield b"different"
        raise RuntimeError("git went away")

    before = len(os.listdir("/proc/self/fd")) if os.path.isdir("/proc/self/fd") else 0
    with pytest.raises(RuntimeError):
        Intake(path, spools).take(content())
    after = len(os.listdir("/proc/self/fd")) if before else 0
    assert before == after
