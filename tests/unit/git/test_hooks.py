"""The pre-push hook, with real pushes."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from coral_git.git import hooks
from coral_git.git.command import Git
from coral_git.git.hook_folder import HookFolder, has_foreign_hook, locate
from coral_git.git.hooks import ADVICE, HookState
from coral_git.git.repository import discover

OTHER = b'#!/bin/sh\n# not ours\necho "other $*" >>log\ncat >>log\n'


@pytest.fixture
def repo(tmp_path, monkeypatch):
    """A repository with a remote, and a ``git-coral`` that notes its arguments and input in ``log``."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", str(tmp_path / "gitconfig"))
    monkeypatch.setenv("GIT_CONFIG_NOSYSTEM", "1")
    for name in ("AUTHOR", "COMMITTER"):
        monkeypatch.setenv(f"GIT_{name}_NAME", "T")
        monkeypatch.setenv(f"GIT_{name}_EMAIL", "t@example.org")
    program(tmp_path / "bin", 'echo "coral $*" >>log\ncat >>log\n')
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{system_path()}")
    root = tmp_path / "repo"
    for command in (
        f"init -q {root}",
        f"init -q --bare {tmp_path / 'remote.git'}",
        f"-C {root} remote add origin {tmp_path / 'remote.git'}",
        f"-C {root} commit -q --allow-empty -m one",
    ):
        subprocess.run(("git", *command.split()), check=True)
    return root


def system_path() -> str:
    """The search path without folders that happen to have a real ``git-coral``."""
    folders = os.environ["PATH"].split(":")
    return ":".join(folder for folder in folders if not os.path.exists(os.path.join(folder, "git-coral")))


def program(folder: Path, text: str) -> Path:
    folder.mkdir(exist_ok=True)
    path = folder / "git-coral"
    path.write_text("#!/bin/sh\n" + text)
    path.chmod(0o755)
    return path


def folder_of(repo: Path) -> HookFolder:
    return locate(Git(str(repo)), discover(str(repo)))


def hook(repo: Path, text: bytes, name: str = "pre-push", mode: int = 0o755) -> Path:
    path = repo / ".git/hooks" / name
    path.write_bytes(text)
    path.chmod(mode)
    return path


def push(repo: Path, *args: str) -> tuple[int, list[str], str]:
    """Exit code, first words of the lines of the log, and standard error of a push."""
    (repo / "log").unlink(missing_ok=True)
    done = subprocess.run(
        ("git", "push", "-q", "origin", "HEAD:main", *args), cwd=repo, capture_output=True, text=True
    )
    log = (repo / "log").read_text().splitlines() if (repo / "log").exists() else []
    return done.returncode, [line.split()[0] for line in log], done.stderr


def test_a_new_hook_gets_the_arguments_and_the_refs(repo):
    folder = folder_of(repo)
    assert hooks.inspect(folder).state is HookState.MISSING
    report = hooks.install(folder)
    assert (report.state, report.is_current, report.advice) == (HookState.OURS, True, "")
    assert report.path == str(repo / ".git/hooks/pre-push")
    assert Path(report.path).read_bytes() == hooks.shipped_hook()
    assert push(repo) == (0, ["coral", "HEAD"], "")
    assert (
        (repo / "log").read_text().startswith(f"coral hook pre-push origin {repo.parent}/remote.git\nHEAD ")
    )
    assert hooks.uninstall(folder).state is HookState.MISSING
    assert push(repo, "HEAD:other")[1] == []


def test_a_failing_upload_stops_the_push(repo, tmp_path):
    hooks.install(folder_of(repo))
    program(tmp_path / "bin", "exit 12")
    assert push(repo)[0] != 0
    assert subprocess.run(("git", "ls-remote", "-q"), cwd=repo, capture_output=True).stdout == b""


def test_nothing_to_push_gives_no_refs(repo):
    hooks.install(folder_of(repo))
    push(repo)
    assert push(repo)[1] == ["coral"]


def test_a_missing_program_is_explained_and_stops_the_push(repo, tmp_path):
    hooks.install(folder_of(repo))
    (tmp_path / "bin/git-coral").unlink()
    code, _, errors = push(repo)
    assert code != 0
    assert "pip install coral-git" in errors


def test_a_program_that_is_not_on_the_path(repo, tmp_path):
    (tmp_path / "bin/git-coral").unlink()
    path = program(tmp_path / "it's a place", 'echo "coral $*" >>log; cat >>log')
    assert hooks.install(folder_of(repo), str(path)).is_current
    assert push(repo) == (0, ["coral", "HEAD"], "")
    report = hooks.inspect(folder_of(repo))
    assert (report.state, report.is_current) == (HookState.OURS, False)
    assert hooks.install(folder_of(repo)).is_current
    assert (repo / ".git/hooks/pre-push").read_bytes() == hooks.shipped_hook()


@pytest.mark.parametrize("mode", [0o755, 0o700])
def test_another_hook_is_chained_and_comes_back(repo, mode):
    path = hook(repo, OTHER, mode=mode)
    folder = folder_of(repo)
    assert hooks.inspect(folder).state is HookState.FOREIGN
    assert hooks.install(folder, chain=False).state is HookState.FOREIGN
    assert path.read_bytes() == OTHER
    for _ in range(2):
        report = hooks.install(folder)
        assert (report.state, report.is_current) == (HookState.CHAINED, True)
    assert push(repo) == (0, ["other", "HEAD", "coral", "HEAD"], "")
    assert hooks.uninstall(folder).state is HookState.FOREIGN
    assert path.read_bytes() == OTHER
    assert path.stat().st_mode & 0o777 == mode
    assert not path.with_name("pre-push.local").exists()


def test_the_other_hook_can_refuse_and_need_not_read(repo):
    hook(repo, b"#!/bin/sh\nexit 3\n")
    hooks.install(folder_of(repo))
    code, log, _ = push(repo)
    assert code != 0
    assert log == []


def test_a_hook_that_is_not_executable_stays_silent(repo):
    hook(repo, OTHER, mode=0o644)
    hooks.install(folder_of(repo))
    assert push(repo)[1] == ["coral", "HEAD"]


def test_a_linked_hook_comes_back_as_a_link(repo):
    (repo / "tool").write_bytes(OTHER)
    (repo / "tool").chmod(0o755)
    path = repo / ".git/hooks/pre-push"
    path.symlink_to("../../tool")
    hooks.install(folder_of(repo))
    assert push(repo)[1] == ["other", "HEAD", "coral", "HEAD"]
    hooks.uninstall(folder_of(repo))
    assert os.readlink(path) == "../../tool"
    assert (repo / "tool").read_bytes() == OTHER


def test_two_hooks_in_the_way_are_left_with_advice(repo):
    path, earlier = hook(repo, OTHER), hook(repo, b"#!/bin/sh\n", "pre-push.local")
    report = hooks.install(folder_of(repo))
    assert (report.state, report.advice) == (HookState.FOREIGN, ADVICE)
    assert (path.read_bytes(), earlier.read_bytes()) == (OTHER, b"#!/bin/sh\n")
    hook(repo, OTHER, "pre-push.local")
    assert hooks.install(folder_of(repo)).state is HookState.CHAINED


def test_an_interrupted_chaining_is_completed(repo):
    hook(repo, OTHER, "pre-push.local")
    assert hooks.install(folder_of(repo)).state is HookState.CHAINED
    assert push(repo)[1] == ["other", "HEAD", "coral", "HEAD"]


def test_the_pre_commit_tool_may_move_ours(repo):
    hook(repo, OTHER)
    hooks.install(folder_of(repo))
    path = repo / ".git/hooks/pre-push"
    path.rename(path.with_name("pre-push.legacy"))
    hook(repo, b'#!/bin/sh\n# generated\nexec "$(dirname "$0")/pre-push.legacy" "$@"\n')
    assert hooks.install(folder_of(repo)).state is HookState.CHAINED
    assert push(repo)[1] == ["other", "HEAD", "coral", "HEAD"]
    hooks.uninstall(folder_of(repo))
    assert path.with_name("pre-push.legacy").read_bytes() == OTHER


def test_any_version_of_our_block_is_replaced_and_its_surroundings_kept(repo):
    old = b"# >>> coral-git hook 0 >>> x\ngit coral hook pre-push\n# <<< coral-git hook <<<\n"
    path = hook(repo, b"#!/bin/bash\nset -e\n" + old + b"echo done >>log\n", mode=0o644)
    report = hooks.inspect(folder_of(repo))
    assert (report.state, report.is_current) == (HookState.CHAINED, False)
    assert hooks.install(folder_of(repo)).is_current
    assert push(repo)[1] == ["coral", "HEAD", "done"]
    hooks.uninstall(folder_of(repo))
    assert path.read_bytes() == b"#!/bin/bash\nset -e\necho done >>log\n"


@pytest.mark.parametrize("value", ["husky", "/abs"])
def test_a_configured_folder_is_never_written(repo, tmp_path, value):
    folder_path = repo / value if value == "husky" else tmp_path / "abs"
    folder_path.mkdir()
    subprocess.run(
        ("git", "config", "core.hooksPath", value if value == "husky" else str(folder_path)),
        cwd=repo,
        check=True,
    )
    (repo / "sub").mkdir()
    folder = folder_of(repo / "sub")
    assert folder == HookFolder(str(folder_path), True)
    for report in (hooks.inspect(folder), hooks.install(folder), hooks.uninstall(folder)):
        assert (report.state, report.advice) == (HookState.HOOKS_PATH, ADVICE)
    assert os.listdir(folder_path) == []

    (folder_path / "pre-push").write_text(f"#!/bin/sh\n# {ADVICE}\n")
    assert hooks.inspect(folder).state is HookState.HOOKS_PATH
    (folder_path / "pre-push").write_text(f"#!/bin/sh\n{ADVICE}\n")
    (folder_path / "pre-push").chmod(0o755)
    assert hooks.inspect(folder).state is HookState.CHAINED
    assert push(repo)[1] == ["coral", "HEAD"]
    assert hooks.uninstall(folder).state is HookState.CHAINED


def test_a_configured_folder_that_is_the_usual_one(repo):
    subprocess.run(("git", "config", "core.hooksPath", ".git/hooks"), cwd=repo, check=True)
    assert not folder_of(repo).is_configured


def test_linked_work_trees_share_the_hook(repo, tmp_path):
    subprocess.run(
        ("git", "worktree", "add", "-q", str(tmp_path / "linked"), "-b", "b"), cwd=repo, check=True
    )
    hooks.install(folder_of(tmp_path / "linked"))
    assert hooks.inspect(folder_of(repo)).state is HookState.OURS
    assert push(tmp_path / "linked")[1] == ["coral", "HEAD"]


def test_a_missing_hooks_folder_is_made(repo):
    for file in (repo / ".git/hooks").iterdir():
        file.unlink()
    (repo / ".git/hooks").rmdir()
    assert hooks.install(folder_of(repo)).state is HookState.OURS


def test_other_hooks_are_noticed(repo, tmp_path):
    paths = discover(str(repo))
    assert not has_foreign_hook(paths, "post-checkout")
    path = hook(repo, OTHER, "post-checkout", 0o644)
    assert not has_foreign_hook(paths, "post-checkout")
    path.chmod(0o755)
    assert has_foreign_hook(paths, "post-checkout")
    assert not has_foreign_hook(paths, "post-checkout", "elsewhere")
    path.rename(tmp_path / "post-checkout")
    assert has_foreign_hook(paths, "post-checkout", "~")
    assert not has_foreign_hook(paths, "post-checkout")
    hooks.install(folder_of(repo))
    assert not has_foreign_hook(paths, "pre-push")
