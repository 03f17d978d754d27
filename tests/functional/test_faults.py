"""gc and fetch as the user runs them, killed at a write; what is left is whole, and a retry succeeds."""

from __future__ import annotations

import os

import pytest

from coral_git.testing.health import assert_store_healthy

HOOK = """
import os, signal, sys
if any("git-coral" in word or "coral_git" in word for word in sys.orig_argv):
    from coral_git import fsops
    left = int(os.environ.get("TEST_KILL_AT", "0"))
    def count(name, path):
        global left
        left -= 1
        if left == 0:
            open(os.environ["TEST_KILLED"], "w").close()
            os.kill(os.getpid(), signal.SIGKILL)
    fsops.set_fault_hook(count)
"""


@pytest.fixture
def kill(hook_python, tmp_path):
    """Kills ``git coral`` at its n-th write; ``kill(repo, n, "gc")`` says whether it got there."""
    hooked = hook_python(HOOK)
    killed = tmp_path / "killed"

    def run(repo, number, *args):
        killed.unlink(missing_ok=True)
        env = {**hooked, "TEST_KILL_AT": str(number), "TEST_KILLED": str(killed)}
        code = repo.run("coral", *args, env=env, code=None).returncode
        assert (code != 0) == killed.exists()
        return code != 0

    return run


def test_gc(repo, kill):
    for number in range(9):
        repo.commit(f"{number}", m__bin=bytes([number]) * 3000)
    repo.git("update-ref", "HEAD", "HEAD~")
    repo.git("read-tree", "HEAD")
    repo.git("reflog", "expire", "--expire=now", "--all")
    repo.git("gc", "--quiet", "--prune=now")
    killed = [kill(repo, number, "gc", "--prune", "now") for number in (2, 9, 17, 3, 26, 5)]
    assert any(killed)
    assert_store_healthy(str(repo.path))
    repo.coral("gc", "--prune", "now")
    assert_store_healthy(str(repo.path))
    repo.git("checkout", "--quiet", "--force", "HEAD~3")
    assert repo.read("m.bin") == bytes([4]) * 3000


def test_fetch(repo, make_repo, tmp_path, at, kill):
    hub = make_repo("hub.git", bare=True)
    data = os.urandom(5000)
    repo.commit("first", m__bin=data)
    repo.git("remote", "add", "origin", hub.path)
    repo.coral("push", "origin", "main")
    repo.git("clone", "--quiet", "-b", "main", hub.path, tmp_path / "clone", env={"CORAL_SKIP_SMUDGE": "1"})
    clone = at(tmp_path / "clone")
    killed = [kill(clone, number, "fetch") for number in (2, 6, 10, 14)]
    assert any(killed)
    clone.coral("fetch")
    assert_store_healthy(str(clone.path))
    clone.coral("checkout")
    assert clone.read("m.bin") == data


def test_import(make_repo, tmp_path, kill):
    """A file is there as a whole or not at all, and nothing else is; with --force the next try succeeds."""
    repo = make_repo(track=False)
    files = {f"{number}.bin": os.urandom(5000) for number in range(3)}
    (tmp_path / "model").mkdir()
    for name, data in files.items():
        (tmp_path / "model" / name).write_bytes(data)
    killed = []
    for number in range(1, 12):
        killed.append(kill(repo, number, "import", "--force", tmp_path / "model", "."))
        found = {path.name: path.read_bytes() for path in repo.path.iterdir() if path.is_file()}
        found.pop(".gitattributes", None)
        assert found.items() <= files.items()
    assert any(killed)
    repo.coral("import", "--force", tmp_path / "model", ".")
    repo.git("commit", "--quiet", "-m", "import")
    assert repo.status() == ""
    assert_store_healthy(str(repo.path))
