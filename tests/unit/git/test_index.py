"""The index patcher against the real git."""

from __future__ import annotations

import errno
import hashlib
import os
import subprocess
import time
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from coral_git import fsops
from coral_git.git.index import is_settled, patch_index

PAST = time.time() - 100


def git(repo: Path, *args: str) -> bytes:
    return subprocess.run(("git", *args), cwd=repo, check=True, capture_output=True).stdout


@pytest.fixture(autouse=True)
def _quiet_git(tmp_path, monkeypatch):
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", os.devnull)
    monkeypatch.setenv("GIT_CONFIG_NOSYSTEM", "1")
    for name in ("AUTHOR", "COMMITTER"):
        monkeypatch.setenv(f"GIT_{name}_NAME", "T")
        monkeypatch.setenv(f"GIT_{name}_EMAIL", "t@example.org")


def write(path: Path, data: bytes, mtime: float = PAST) -> os.stat_result:
    """Write a file beside its place and rename, as a checkout does."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name("temporary")
    temporary.write_bytes(data)
    os.utime(temporary, (mtime, mtime))
    temporary.rename(path)
    return path.lstat()


def make_repo(root: Path, object_format: str = "sha1") -> Path:
    """A repository whose filter turns everything into one line, and notes each run in the file ``runs``."""
    root.mkdir()
    git(root, "init", "-q", f"--object-format={object_format}", ".")
    git(root, "config", "filter.t.clean", f"echo run >>'{root}/.git/runs'; cat >/dev/null; echo manifest")
    (root / ".git/info/attributes").write_text("*.st filter=t\n")
    for name in ("a.st", "dir/b.st", "dir/sub/c.st", "plain.txt", "x" * 60):
        write(root / name, name.encode())
    git(root, "add", ".")
    git(root, "commit", "-qm", "one")
    (root / ".git/runs").unlink()
    return root


def oid_of(repo: Path, path: str) -> bytes:
    return bytes.fromhex(git(repo, "rev-parse", f":{path}").decode())


def changed_ranges(old: bytes, new: bytes) -> list[int]:
    assert len(old) == len(new)
    return [position for position, (a, b) in enumerate(zip(old, new, strict=True)) if a != b]


def rewrite_and_patch(repo: Path, names=("a.st", "dir/b.st"), **options) -> set[bytes]:
    hash_length = len(oid_of(repo, names[0]))
    items = {
        name.encode(): (oid_of(repo, name), write(repo / name, b"weights of " + name.encode()))
        for name in names
    }
    return patch_index(str(repo / ".git/index"), items, hash_length, **options)


def assert_clean_without_filter(repo: Path) -> None:
    assert git(repo, "status", "--porcelain") == b""
    assert not (repo / ".git/runs").exists()


@pytest.mark.parametrize("version", [2, 3, 4])
@pytest.mark.parametrize("object_format", ["sha1", "sha256"])
def test_status_runs_no_filter_after_a_patch(tmp_path, version, object_format):
    repo = make_repo(tmp_path / "r", object_format)
    git(repo, "update-index", "--index-version", str(4 if version == 4 else 2))
    if version == 3:  # git writes version 3 when an entry has extended flags
        git(repo, "update-index", "--skip-worktree", "plain.txt")
    index = repo / ".git/index"
    old = index.read_bytes()
    assert old[7] == version

    assert rewrite_and_patch(repo) == {b"a.st", b"dir/b.st"}

    new = index.read_bytes()
    assert git(repo, "ls-files", "--debug", "a.st").count(b"size: 15") == 1
    assert_clean_without_filter(repo)
    git(repo, "fsck", "--strict")
    hash_length = len(oid_of(repo, "a.st"))
    starts = [old.index(oid_of(repo, name)) - 40 for name in ("a.st",)]
    starts.append(old.index(oid_of(repo, "dir/b.st"), starts[0] + 40 + hash_length) - 40)
    allowed = {start + i for start in starts for i in range(40) if not 24 <= i < 28}
    allowed |= set(range(len(old) - hash_length, len(old)))
    assert set(changed_ranges(old, new)) <= allowed


def test_without_a_patch_the_filter_runs(tmp_path):
    repo = make_repo(tmp_path / "r")
    write(repo / "a.st", b"a.xx", PAST + 1)  # the size the index knows
    git(repo, "status", "--porcelain")
    assert (repo / ".git/runs").exists()


def test_extensions_survive(tmp_path):
    repo = make_repo(tmp_path / "r")
    git(repo, "update-index", "--force-untracked-cache")
    git(repo, "status")
    old = (repo / ".git/index").read_bytes()
    assert b"UNTR" in old
    assert b"TREE" in old
    assert rewrite_and_patch(repo) == {b"a.st", b"dir/b.st"}
    new = (repo / ".git/index").read_bytes()
    assert new[new.index(b"TREE") : -20] == old[old.index(b"TREE") : -20]
    assert_clean_without_filter(repo)


def test_sparse_index(tmp_path):
    repo = make_repo(tmp_path / "r")
    git(repo, "sparse-checkout", "init", "--cone", "--sparse-index")
    git(repo, "sparse-checkout", "set", "other")
    (repo / ".git/runs").unlink(missing_ok=True)
    assert b"sdir" in (repo / ".git/index").read_bytes()
    assert rewrite_and_patch(repo, ("a.st",)) == {b"a.st"}
    assert b"sdir" in (repo / ".git/index").read_bytes()
    assert_clean_without_filter(repo)


def test_split_index_is_left_alone(tmp_path):
    repo = make_repo(tmp_path / "r")
    git(repo, "update-index", "--split-index")
    write(repo / "new.st", b"new")
    git(repo, "add", "new.st")
    old = (repo / ".git/index").read_bytes()
    assert b"new.st" in old
    assert rewrite_and_patch(repo, ("a.st", "new.st")) == set()
    assert (repo / ".git/index").read_bytes() == old
    assert not (repo / ".git/index.lock").exists()


def test_other_content_conflicts_and_flags_are_left_alone(tmp_path):
    repo = make_repo(tmp_path / "r")
    index = str(repo / ".git/index")
    status = write(repo / "a.st", b"weights")
    assert patch_index(index, {b"a.st": (bytes(20), status)}, 20) == set()
    assert patch_index(index, {b"absent": (oid_of(repo, "a.st"), status)}, 20) == set()
    assert patch_index(index, {}, 20) == set()

    oid = oid_of(repo, "a.st")
    git(repo, "update-index", "--skip-worktree", "a.st")
    assert patch_index(index, {b"a.st": (oid, status)}, 20) == set()

    (repo / "new.st").write_bytes(b"x")
    git(repo, "add", "--intent-to-add", "new.st")
    empty = bytes.fromhex(git(repo, "ls-files", "-s", "new.st").split()[1].decode())
    assert patch_index(index, {b"new.st": (empty, status)}, 20) == set()

    lines = b"".join(b"100644 %s %d\tdir/b.st\n" % (oid.hex().encode(), stage) for stage in (1, 2, 3))
    subprocess.run(
        ("git", "update-index", "--index-info"),
        cwd=repo,
        check=True,
        input=b"0 %s\tdir/b.st\n" % (b"0" * 40) + lines,
    )
    assert patch_index(index, {b"dir/b.st": (oid, status)}, 20) == set()


def test_a_racy_entry_of_another_file_stays_suspicious(tmp_path):
    repo = make_repo(tmp_path / "r")
    git(repo, "config", "core.trustctime", "false")
    other = repo / "plain.txt"
    second = int(PAST) + 50
    other.write_bytes(b"one")
    os.utime(other, (second, second))
    git(repo, "add", "plain.txt")
    git(repo, "commit", "-qm", "two")
    os.utime(repo / ".git/index", (second, second))
    with other.open("r+b") as file:  # same inode, same size, same second
        file.write(b"two")
    os.utime(other, (second, second))
    assert rewrite_and_patch(repo, ("a.st",)) == {b"a.st"}
    assert git(repo, "status", "--porcelain") == b" M plain.txt\n"


def test_an_index_without_a_checksum_stays_without(tmp_path):
    repo = make_repo(tmp_path / "r")
    index = repo / ".git/index"
    index.write_bytes(index.read_bytes()[:-20] + bytes(20))
    assert rewrite_and_patch(repo) == {b"a.st", b"dir/b.st"}
    assert index.read_bytes()[-20:] == bytes(20)
    assert_clean_without_filter(repo)


@pytest.mark.parametrize(("munge", "size"), [(True, 0x80000000), (False, 0)])
def test_sizes_that_are_multiples_of_four_gibibytes(tmp_path, munge, size):
    repo = make_repo(tmp_path / "r")
    oid = oid_of(repo, "a.st")
    with (repo / "a.st").open("wb") as file:
        file.truncate(1 << 32)
    os.utime(repo / "a.st", (PAST, PAST))
    index = repo / ".git/index"
    assert patch_index(str(index), {b"a.st": (oid, (repo / "a.st").lstat())}, 20, munge) == {b"a.st"}
    data = index.read_bytes()
    start = data.index(oid) - 40
    assert int.from_bytes(data[start + 36 : start + 40], "big") == size


@pytest.mark.parametrize("version", ["2", "4"])
def test_paths_longer_than_the_length_field(tmp_path, version):
    repo = make_repo(tmp_path / "r")
    git(repo, "update-index", "--index-version", version)
    blob = git(repo, "rev-parse", ":a.st").decode().strip()
    for letter in "bc":
        path = "/".join(letter * 200 for _ in range(25))
        record = f"100644 {blob}\t{path}\n".encode()
        subprocess.run(("git", "update-index", "--index-info"), cwd=repo, check=True, input=record)
    assert rewrite_and_patch(repo, ("a.st", "dir/sub/c.st")) == {b"a.st", b"dir/sub/c.st"}
    assert b"weights" not in git(repo, "ls-files")
    assert (
        git(repo, "ls-files", "-m")
        == b"\n".join("/".join(letter * 200 for _ in range(25)).encode() for letter in "bc") + b"\n"
    )


def test_mode_and_symbolic_link_of_the_index_are_kept(tmp_path):
    repo = make_repo(tmp_path / "r")
    index, real = repo / ".git/index", tmp_path / "elsewhere"
    index.rename(real)
    index.symlink_to(real)
    real.chmod(0o640)
    assert rewrite_and_patch(repo) == {b"a.st", b"dir/b.st"}
    assert index.is_symlink()
    assert real.stat().st_mode & 0o777 == 0o640
    assert_clean_without_filter(repo)


def test_a_held_lock_is_respected(tmp_path):
    repo = make_repo(tmp_path / "r")
    lock = repo / ".git/index.lock"
    lock.write_bytes(b"somebody")
    old = (repo / ".git/index").read_bytes()
    assert rewrite_and_patch(repo, timeout=0.05) == set()
    assert lock.read_bytes() == b"somebody"
    assert (repo / ".git/index").read_bytes() == old


def test_without_an_index_no_lock_is_left(tmp_path):
    status = os.lstat(tmp_path)
    assert patch_index(str(tmp_path / "index"), {b"a": (bytes(20), status)}, 20) == set()
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("failing", ["create", "write", "rename"])
@pytest.mark.parametrize("error", [OSError(errno.ENOSPC, "No space left on device"), KeyboardInterrupt()])
def test_a_failed_write_leaves_the_old_index_and_no_lock(tmp_path, failing, error):
    repo = make_repo(tmp_path / "r")
    old = (repo / ".git/index").read_bytes()

    def fail(name: str, path: str) -> None:
        if name == failing:
            raise error

    fsops.set_fault_hook(fail)
    try:
        if isinstance(error, OSError):
            assert rewrite_and_patch(repo) == set()
        else:
            with pytest.raises(KeyboardInterrupt):
                rewrite_and_patch(repo)
    finally:
        fsops.set_fault_hook(None)
    assert (repo / ".git/index").read_bytes() == old
    assert not (repo / ".git/index.lock").exists()


@pytest.fixture(scope="module")
def small_indexes(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GIT_CONFIG_GLOBAL", os.devnull)
        repo = tmp_path_factory.mktemp("indexes") / "r"
        repo.mkdir()
        git(repo, "init", "-q", ".")
        for name in ("aa", "ab", "b"):
            write(repo / name, b"x")
        git(repo, "add", ".")
        found = []
        for version in ("2", "4"):
            git(repo, "update-index", "--index-version", version)
            found.append((repo / ".git/index").read_bytes())
        return found, oid_of(repo, "ab")


@given(data=st.data())
@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_damaged_index_never_raises(tmp_path, small_indexes, data):
    indexes, oid = small_indexes
    content = bytearray(data.draw(st.sampled_from(indexes))[:-20])
    for _ in range(data.draw(st.integers(1, 3))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    del content[data.draw(st.integers(12, len(content))) :]
    if data.draw(st.booleans()):
        content += hashlib.sha1(content).digest()
    index = tmp_path / "index"
    index.write_bytes(content)
    patched = patch_index(str(index), {b"ab": (oid, os.lstat(index))}, 20)
    assert patched <= {b"ab"}
    assert len(index.read_bytes()) == len(content)
    if not patched:
        assert index.read_bytes() == content
    assert not (tmp_path / "index.lock").exists()


def test_settled_means_an_earlier_second(tmp_path):
    status = write(tmp_path / "f", b"", 1000.9)
    assert is_settled(status, 1_001_000_000_000)
    assert not is_settled(status, 1_000_999_999_999)
