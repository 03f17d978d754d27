"""Files are replaced in the work tree in one step, and never through a link."""

from __future__ import annotations

import errno
import os
import subprocess
import time
from pathlib import Path

import pytest

from coral_git import fsops
from coral_git.errors import CoralError, PolicyError, StorageFullError
from coral_git.git.index import is_settled
from coral_git.git.worktree import TEMPORARY_FOLDER, WorkTreeFile, require_space, sweep_temporaries


@pytest.fixture
def root(tmp_path):
    (tmp_path / "w/.git").mkdir(parents=True)
    return tmp_path / "w"


@pytest.fixture
def fault():
    yield fsops.set_fault_hook
    fsops.set_fault_hook(None)


def write(root: Path, path: bytes, content: bytes, expected, *, git_dir: Path | None = None, **options):
    with WorkTreeFile(str(root), path, git_dir=str(git_dir or root / ".git"), **options) as file:
        os.pwrite(file.fd, content, 0)
        return file.commit(expected)


def leftovers(root: Path) -> list[str]:
    return [name for _, _, names in os.walk(root) for name in names if "coral-tmp" in name]


def missing(fd: int | None) -> bool:
    return fd is None


def anything(fd: int | None) -> bool:
    return True


def test_replaces_the_expected_content(root):
    (root / "a.st").write_bytes(b"manifest")
    before = time.time_ns()
    status = write(root, b"a.st", b"weights", b"manifest")
    assert status == (root / "a.st").lstat()
    assert (root / "a.st").read_bytes() == b"weights"
    assert is_settled(status, before - 1_000_000_000)
    assert leftovers(root) == []


@pytest.mark.parametrize("content", [b"", b"manifes", b"manifest2", b"manifesT"])
def test_other_content_is_kept(root, content):
    (root / "a.st").write_bytes(content)
    assert write(root, b"a.st", b"weights", b"manifest") is None
    assert (root / "a.st").read_bytes() == content
    assert leftovers(root) == []


def test_a_long_expected_content_is_compared_in_full(root):
    content = os.urandom(3_000_000)
    (root / "a.st").write_bytes(content[:-1] + b"x" if content[-1:] != b"x" else content[:-1] + b"y")
    assert write(root, b"a.st", b"weights", content) is None
    (root / "a.st").write_bytes(content)
    assert write(root, b"a.st", b"weights", content) is not None


def test_a_missing_target_needs_a_judge_and_gets_its_folders(root):
    assert write(root, b"a.st", b"weights", b"") is None
    assert not (root / "a.st").exists()
    assert write(root, b"d/e/a.st", b"weights", missing) is not None
    assert (root / "d/e/a.st").read_bytes() == b"weights"
    assert write(root, b"d/e/a.st", b"again", missing) is None


def test_a_judge_reads_the_target(root):
    (root / "a.st").write_bytes(b"manifest")
    assert write(root, b"a.st", b"w", lambda fd: os.read(fd, 100) == b"manifest") is not None


@pytest.mark.parametrize(
    ("existing", "executable", "mode"),
    [
        (0o644, None, 0o644),
        (0o755, None, 0o755),
        (0o640, True, 0o750),
        (0o755, False, 0o644),
        (0o600, None, 0o600),
        (None, None, 0o644),
        (None, True, 0o755),
    ],
)
def test_permission_bits(root, existing, executable, mode):
    if existing is not None:
        (root / "a.st").write_bytes(b"m")
        (root / "a.st").chmod(existing)
    old = os.umask(0o022)
    try:
        status = write(root, b"a.st", b"w", anything, executable=executable)
    finally:
        os.umask(old)
    assert status.st_mode & 0o777 == mode


def test_a_hard_link_elsewhere_is_not_written_to(root, tmp_path):
    (root / "a.st").write_bytes(b"m")
    os.link(root / "a.st", tmp_path / "twin")
    assert write(root, b"a.st", b"w", b"m") is not None
    assert (tmp_path / "twin").read_bytes() == b"m"


@pytest.mark.parametrize("path", [b"link/a.st", b"link/deeper/a.st", b"d/link/a.st"])
def test_a_parent_that_is_a_link_is_refused(root, tmp_path, path):
    outside = tmp_path / "outside"
    (outside / "deeper").mkdir(parents=True)
    (root / "d").mkdir()
    (root / "link").symlink_to(outside)
    (root / "d/link").symlink_to(outside)
    with pytest.raises(PolicyError, match="symbolic link"):
        write(root, path, b"w", anything)
    assert os.listdir(outside) == ["deeper"]


def test_a_target_that_is_a_link_is_not_followed(root, tmp_path):
    (tmp_path / "outside").write_bytes(b"m")
    (root / "a.st").symlink_to(tmp_path / "outside")
    assert write(root, b"a.st", b"w", b"m") is None
    assert (root / "a.st").is_symlink()
    assert write(root, b"a.st", b"w", missing) is not None
    assert (tmp_path / "outside").read_bytes() == b"m"
    assert (root / "a.st").read_bytes() == b"w"
    assert not (root / "a.st").is_symlink()


def test_special_files_and_folders_are_no_targets(root):
    os.mkfifo(root / "fifo")
    (root / "folder").mkdir()
    assert write(root, b"fifo", b"w", b"") is None
    assert write(root, b"folder", b"w", b"") is None
    with pytest.raises(CoralError):
        write(root, b"folder", b"w", anything)
    (root / "file").write_bytes(b"")
    with pytest.raises(CoralError):
        write(root, b"file/a.st", b"w", anything)
    assert leftovers(root) == []


@pytest.mark.parametrize(
    "path",
    [b"", b"/a", b"../a", b"a/../b", b"./a", b"a//b", b".git/config", b"d/.GIT/config", b"a/", b"a\0b"],
)
def test_paths_outside_the_work_tree_are_refused(root, path):
    with pytest.raises(PolicyError):
        WorkTreeFile(str(root), path, git_dir=str(root / ".git"))


def test_names_that_are_not_utf8(root):
    assert write(root, b"\xff\n \"'.st", b"w", missing) is not None
    assert os.listdir(os.fsencode(root)).count(b"\xff\n \"'.st") == 1


def test_discard_leaves_nothing_and_may_be_repeated(root):
    (root / "a.st").write_bytes(b"m")
    open_before = len(os.listdir("/dev/fd"))
    file = WorkTreeFile(str(root), b"a.st", git_dir=str(root / ".git"))
    os.pwrite(file.fd, b"half", 0)
    assert len(leftovers(root)) == 1
    file.discard()
    file.discard()
    assert (root / "a.st").read_bytes() == b"m"
    assert leftovers(root) == []
    assert len(os.listdir("/dev/fd")) == open_before


@pytest.mark.parametrize("failing", ["mkdir", "create", "utime", "rename"])
def test_a_failure_leaves_the_target_and_no_temporary_file(root, fault, failing):
    (root / "a.st").write_bytes(b"m")
    open_before = len(os.listdir("/dev/fd"))

    def fail(name: str, path: str) -> None:
        if name == failing:
            raise OSError(errno.ENOSPC, "No space left on device")

    fault(fail)
    with pytest.raises(StorageFullError):
        write(root, b"a.st", b"w", b"m")
    assert (root / "a.st").read_bytes() == b"m"
    assert leftovers(root) == []
    assert len(os.listdir("/dev/fd")) == open_before


def test_two_mounts_with_one_device_number(root, fault):
    (root / "d").mkdir()
    (root / "d/a.st").write_bytes(b"m")
    (root / "d/a.st").chmod(0o640)
    content = os.urandom(2_500_000)
    renames = []

    def refuse_once(name: str, path: str) -> None:
        if name == "rename":
            renames.append(path)
            if len(renames) == 1:
                raise OSError(errno.EXDEV, "Invalid cross-device link")

    fault(refuse_once)
    before = time.time_ns()
    status = write(root, b"d/a.st", content, b"m")
    assert len(renames) == 2
    assert status == (root / "d/a.st").lstat()
    assert (root / "d/a.st").read_bytes() == content
    assert status.st_mode & 0o777 == 0o640
    assert is_settled(status, before - 1_000_000_000)
    assert leftovers(root) == []


@pytest.mark.parametrize("failing", ["write", "create"])
def test_what_happens_while_it_is_copied_beside(root, fault, failing):
    """Somebody writes to the target; or there is no room for the copy."""
    (root / "d").mkdir()
    (root / "d/a.st").write_bytes(b"m")
    events = []

    def interfere(name: str, path: str) -> None:
        events.append(name)
        if events.count("rename") == 1 and name == "rename":
            raise OSError(errno.EXDEV, "Invalid cross-device link")
        if "rename" in events and name == failing:
            if failing == "create":
                raise OSError(errno.ENOSPC, "No space left on device")
            (root / "d/a.st").write_bytes(b"somebody's")

    open_before = len(os.listdir("/dev/fd"))
    file = WorkTreeFile(str(root), b"d/a.st", git_dir=str(root / ".git"))
    os.pwrite(file.fd, b"weights", 0)
    fault(interfere)
    if failing == "create":
        with pytest.raises(StorageFullError):
            file.commit(b"m")
    else:
        assert file.commit(b"m") is None
    assert (root / "d/a.st").read_bytes() == (b"m" if failing == "create" else b"somebody's")
    assert leftovers(root) == []
    assert len(os.listdir("/dev/fd")) == open_before


def test_a_git_directory_on_another_file_system(root):
    shared = Path("/dev/shm")
    if not shared.is_dir() or shared.stat().st_dev == root.stat().st_dev:
        pytest.skip("needs a second file system")
    (root / "d").mkdir()
    (root / "d/a.st").write_bytes(b"m")
    with WorkTreeFile(str(root), b"d/a.st", git_dir=str(shared)) as file:
        os.pwrite(file.fd, b"w", 0)
        assert len(leftovers(root / "d")) == 1
        assert file.commit(b"m") is not None
    assert (root / "d/a.st").read_bytes() == b"w"
    assert leftovers(root) == []


def test_git_sees_no_temporary_file_while_writing(root):
    subprocess.run(("git", "init", "-q", "."), cwd=root, check=True)
    with WorkTreeFile(str(root), b"a.st", git_dir=str(root / ".git")):
        status = subprocess.run(("git", "status", "--porcelain"), cwd=root, check=True, capture_output=True)
    assert status.stdout == b""


def test_space_is_checked(root):
    require_space(str(root), 1)
    with pytest.raises(StorageFullError):
        require_space(str(root), 1 << 62)


def test_old_temporary_files_are_swept(root):
    assert sweep_temporaries(str(root / ".git")) == 0
    folder = root / ".git" / TEMPORARY_FOLDER
    folder.mkdir()
    for name in ("old", "new"):
        (folder / name).write_bytes(b"x")
    os.utime(folder / "old", (1, 1))
    assert sweep_temporaries(str(root / ".git")) == 1
    assert os.listdir(folder) == ["new"]


def test_a_target_written_to_while_it_is_judged_is_kept(root):
    (root / "a.st").write_bytes(b"manifest")

    def judge(fd: int | None) -> bool:
        (root / "a.st").write_bytes(b"somebody's")
        return True

    assert write(root, b"a.st", b"weights", judge) is None
    assert (root / "a.st").read_bytes() == b"somebody's"
    assert leftovers(root) == []


def test_a_target_that_appears_while_its_absence_is_judged_is_kept(root):
    def judge(fd: int | None) -> bool:
        (root / "a.st").write_bytes(b"somebody's")
        return fd is None

    assert write(root, b"a.st", b"weights", judge) is None
    assert (root / "a.st").read_bytes() == b"somebody's"
