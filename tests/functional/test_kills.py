"""Git and the filter killed in the middle: nothing is lost or half written, and the next try succeeds."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import subprocess
import time

import pytest

ROUNDS = 4
DATA = [random.Random(seed).randbytes(1 << 20) for seed in range(2)]


def kill_during(repo, delay: float, *args: str) -> bool:
    """Start git in a process group of its own and kill the group after ``delay`` seconds.

    Returns:
        Whether it was killed before it had finished.
    """
    process = subprocess.Popen(
        ["git", *args],
        cwd=repo.path,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(delay)
    was_alive = process.poll() is None
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    return was_alive


def clear_locks(repo) -> None:
    """What git asks its user to do after a crash, and the incoming files that gc removes after a while."""
    for lock in (repo.path / ".git").rglob("*.lock"):
        if "coral" not in lock.parts:
            lock.unlink()
    for folder in (repo.path / ".git" / "coral" / "objects" / "incoming", repo.path / ".git" / "coral-tmp"):
        for path in folder.glob("*"):
            path.unlink()


def duration(function) -> float:
    """Seconds that a call takes."""
    start = time.monotonic()
    function()
    return time.monotonic() - start


@pytest.fixture
def prepared(repo, assert_healthy):
    """Two commits of a file; the first one is checked out, and no branch."""
    repo.commit("one", w__bin=DATA[0])
    repo.commit("two", w__bin=DATA[1])
    repo.git("checkout", "--quiet", "HEAD~")
    return repo


def test_killed_while_adding(prepared, assert_healthy):
    repo = prepared
    moments = random.Random(1)
    fresh = random.Random(2)
    whole = duration(lambda: (repo.write("w.bin", fresh.randbytes(1 << 20)), repo.git("add", "w.bin")))
    killed = 0
    for _ in range(ROUNDS):
        data = fresh.randbytes(1 << 20)
        repo.write("w.bin", data)
        killed += kill_during(repo, moments.uniform(0.1, 1) * whole, "add", "w.bin")
        clear_locks(repo)
        repo.git("fsck", "--no-dangling")
        repo.git("add", "w.bin")
        (repo.path / "w.bin").unlink()
        repo.git("checkout", "--", "w.bin")
        assert repo.read("w.bin") == data
    assert killed
    assert_healthy(repo)


def test_killed_while_checking_out(prepared, assert_healthy):
    repo = prepared
    moments = random.Random(3)
    commits = repo.git("rev-parse", "main~", "main").splitlines()
    whole = duration(lambda: repo.git("checkout", "--quiet", commits[1]))
    whole_files = {*DATA, *(repo.blob(f"{commit}:w.bin") for commit in commits)}
    killed = 0
    for number in range(ROUNDS):
        target = commits[number % 2]
        killed += kill_during(repo, moments.uniform(0.1, 1) * whole, "checkout", "--quiet", target)
        clear_locks(repo)
        with contextlib.suppress(FileNotFoundError):  # git removes a file before it writes the new one
            assert repo.read("w.bin") in whole_files
        repo.git("reset", "--quiet", "--hard", target)
        repo.coral("checkout")
        assert repo.read("w.bin") == DATA[number % 2]
        assert repo.status() == ""
    assert killed
    assert_healthy(repo)


@pytest.mark.parametrize("stop", [signal.SIGINT, signal.SIGTERM])
def test_interrupted_while_files_are_written(prepared, stop, hook_python, tmp_path, assert_healthy):
    """The signal comes when git has finished and the filter is at work."""
    repo = prepared
    stopped = tmp_path / "stopped"
    hooked = hook_python(
        "import os, sys\n"
        "if 'filter-process' in sys.orig_argv:\n"
        "    from coral_git import fsops\n"
        "    def stop(name, path):\n"
        "        if name == 'utime':\n"
        f"            open({str(stopped)!r}, 'x').close()\n"
        f"            os.kill(os.getpid(), {int(stop)})\n"
        "    fsops.set_fault_hook(stop)\n"
    )
    done = repo.run("checkout", "--quiet", "main", env=hooked, code=None)
    assert stopped.exists()
    assert b"git coral checkout" in done.stderr
    assert repo.read("w.bin") == repo.blob("main:w.bin")
    assert repo.status() == ""
    repo.coral("checkout")
    assert repo.read("w.bin") == DATA[1]
    assert repo.status() == ""
    assert_healthy(repo)
