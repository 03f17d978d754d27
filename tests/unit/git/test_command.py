"""Running the git binary."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from coral_git.errors import GitError
from coral_git.git import command
from coral_git.git.command import Git, clean_environment, executable

pytestmark = pytest.mark.usefixtures("git_environment")


@pytest.fixture
def fresh_lookup():
    executable.cache_clear()
    yield
    executable.cache_clear()


def test_input_and_output(repo):
    git = Git(str(repo.path))
    oid = git.run("hash-object", "-w", "--stdin", input=b"hello\0").decode().strip()
    assert git.run("cat-file", "blob", oid) == b"hello\0"
    assert git.version >= (2, 35)


def test_a_failure_carries_what_git_said(repo):
    with pytest.raises(GitError, match=r"^git cat-file failed \(128\): fatal: Not a valid object name gone$"):
        Git(str(repo.path)).run("cat-file", "blob", "gone")
    assert Git(str(repo.path)).run("cat-file", "blob", "gone", check=False) == b""
    assert not Git(str(repo.path)).succeeds("cat-file", "-e", "gone")
    assert Git(str(repo.path)).succeeds("version")


def test_messages_are_english_and_cannot_control_the_terminal(repo, monkeypatch):
    monkeypatch.setenv("LC_ALL", "de_DE.UTF-8")
    monkeypatch.setenv("LANGUAGE", "de")
    repo.git("config", "alias.shout", "!printf 'fatal: \\033[31mred\\n' >&2; exit 3")
    with pytest.raises(GitError) as caught:
        Git(str(repo.path)).run("shout")
    assert caught.value.message == "git shout failed (3): fatal: \\x1b[31mred"


def test_option_values_are_not_shown(repo):
    with pytest.raises(GitError) as caught:
        Git(str(repo.path)).run("-c", "http.extraHeader=secret", "--git-dir", "nowhere", "log")
    assert caught.value.message.startswith("git log failed (128)")
    assert "secret" not in caught.value.message


def test_a_folder_that_is_not_there(tmp_path):
    for use in (
        lambda git: git.run("version"),
        lambda git: git.start("version"),
        lambda git: git.succeeds("version"),
    ):
        with pytest.raises(GitError, match=r"cannot run git in '.*gone': no such file"):
            use(Git(str(tmp_path / "gone")))


def test_git_in_the_current_directory_is_never_run(tmp_path, monkeypatch, fresh_lookup):
    trap = tmp_path / "git"
    trap.write_text("#!/bin/sh\necho trapped\n")
    trap.chmod(0o755)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", os.pathsep.join((".", "", os.environ["PATH"])))
    assert Path(executable()).is_absolute()
    assert b"trapped" not in Git().run("version")


def test_no_git_at_all(tmp_path, monkeypatch, fresh_lookup):
    (tmp_path / "git").mkdir()  # a folder is no program
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(GitError, match="no git on the search path"):
        Git().run("version")


def test_pathspec_variables_of_the_user_do_not_count(repo, monkeypatch):
    repo.commit(**{"a.st": b"x"})
    monkeypatch.setenv("GIT_LITERAL_PATHSPECS", "1")
    assert Git(str(repo.path)).run("ls-files", "--", ":(top)*.st") == b"a.st\n"


def test_another_repository(make_repo, monkeypatch):
    here, there = make_repo("here"), make_repo("there.git", bare=True)
    here.commit(a=b"x")
    for name, value in (
        ("GIT_DIR", str(here.path / ".git")),
        ("GIT_WORK_TREE", str(here.path)),
        ("GIT_INDEX_FILE", str(here.path / ".git/index")),
        ("GIT_OBJECT_DIRECTORY", str(here.path / ".git/objects")),
        ("GIT_QUARANTINE_PATH", str(here.path)),
        ("GIT_CONFIG_PARAMETERS", "'user.name=kept'"),
    ):
        monkeypatch.setenv(name, value)
    assert Git().succeeds("rev-parse", "HEAD")
    monkeypatch.chdir(there.path.parent)
    git = Git.elsewhere("there.git")
    assert not git.succeeds("rev-parse", "--verify", "HEAD")
    oid = git.run("hash-object", "-w", "--stdin", input=b"x y").decode().strip()
    assert (there.path / "objects" / oid[:2] / oid[2:]).exists()
    assert git.run("config", "user.name") == b"kept\n"
    assert "GIT_DIR" not in clean_environment()


def test_every_variable_of_a_repository_is_dropped():
    listed = set(Git().run("rev-parse", "--local-env-vars").decode().split())
    users = {"GIT_CONFIG_PARAMETERS", "GIT_CONFIG_COUNT"}
    assert listed - users <= command._REPOSITORY_VARIABLES


def test_added_variables(repo):
    assert (
        Git(str(repo.path))
        .run("var", "GIT_AUTHOR_IDENT", env={"GIT_AUTHOR_NAME": "Ann"})
        .startswith(b"Ann <")
    )


def test_stream(repo):
    git = Git(str(repo.path))
    oid = git.run("hash-object", "-w", "--stdin", input=bytes(3_000_000)).decode().strip()
    with git.stream("cat-file", "blob", oid) as output:
        assert sum(map(len, iter(lambda: output.read(1 << 16), b""))) == 3_000_000
    with git.stream("cat-file", "blob", oid) as output:  # what is left unread is no failure
        assert output.read(1) == b"\0"
    with git.stream("cat-file", "--batch") as output:  # standard input is closed
        assert output.read() == b""
    with (
        pytest.raises(GitError, match="Not a valid object name gone"),
        git.stream("cat-file", "blob", "gone") as output,
    ):
        assert output.read() == b""
    with pytest.raises(ZeroDivisionError), git.stream("cat-file", "blob", oid):
        raise ZeroDivisionError


def test_stream_of_a_git_that_complains_at_length(repo):
    noise = (
        "i=0; while [ $i -lt 3000 ]; do echo 'a line of forty characters, more or less' >&2; i=$((i+1)); done"
    )
    repo.git("config", "alias.noisy", f"!{noise}; echo out; echo fatal: enough >&2; exit 1")
    with pytest.raises(GitError, match=r"fatal: enough$"), Git(str(repo.path)).stream("noisy") as output:
        assert output.read() == b"out\n"


def test_a_stream_that_is_left_early_reads_no_descriptor_any_more(repo):
    """Its number may belong to another thread's git by then, whose output would be taken away."""
    rest = "yes; head -c 200000000 /dev/zero | cksum >/dev/null"  # has standard error a little longer
    repo.git("config", "alias.lingering", f"!({rest}) & echo out")
    before = threading.active_count()
    with pytest.raises(ZeroDivisionError), Git(str(repo.path)).stream("lingering"):
        raise ZeroDivisionError
    assert threading.active_count() == before


def test_what_git_says_is_kept_off_the_terminal(repo, capfd):
    git = Git(str(repo.path))
    assert git.ask("rev-parse", "--is-bare-repository") == (0, b"false\n")
    code, said = git.ask("cat-file", "blob", "gone")
    assert (code, b"Not a valid object name gone" in said) == (128, True)
    assert git.ask("hash-object", "--stdin")[0] == 0  # nothing to read there
    assert capfd.readouterr() == ("", "")


def test_call_uses_the_terminal_of_the_process(repo):
    call = f"Git({str(repo.path)!r}).call('-c', 'a.b=x', 'config', 'a.b')"
    code = f"from coral_git.git.command import Git; raise SystemExit({call})"
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    assert (done.returncode, done.stdout) == (0, b"x\n")
