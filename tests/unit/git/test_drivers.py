"""The drivers in git's configuration, and what their commands do in a shell."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from coral_git.errors import UsageError
from coral_git.git import drivers
from coral_git.git.command import Git
from coral_git.git.drivers import PROGRAM, DriverState


@pytest.fixture
def repo(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", str(tmp_path / "gitconfig"))
    monkeypatch.setenv("GIT_CONFIG_SYSTEM", str(tmp_path / "system"))
    folders = os.environ["PATH"].split(":")
    clean = [folder for folder in folders if not os.path.exists(os.path.join(folder, PROGRAM))]
    monkeypatch.setenv("PATH", ":".join(clean))
    (tmp_path / "repo").mkdir()
    subprocess.run(("git", "init", "-q", "."), cwd=tmp_path / "repo", check=True)
    return tmp_path / "repo"


def config(repo: Path, *args: str) -> str:
    return subprocess.run(
        ("git", "config", *args), cwd=repo, check=True, capture_output=True, text=True
    ).stdout


def program(folder: Path, text: str = 'printf "%s|" "$@"') -> str:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / PROGRAM
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return str(path)


def sh(line: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(("sh", "-c", line), capture_output=True, text=True)


@pytest.mark.parametrize("scope", ["system", "global", "local"])
def test_install_and_uninstall(repo, tmp_path, scope):
    git = Git(str(repo))
    assert drivers.inspect(git, PROGRAM).state is DriverState.ABSENT
    file = {"system": tmp_path / "system", "global": tmp_path / "gitconfig", "local": repo / ".git/config"}[
        scope
    ]
    config(repo, f"--{scope}", "user.name", "T")
    before = file.read_bytes()
    for _ in range(2):
        drivers.install(git, scope, PROGRAM)
        report = drivers.inspect(git, PROGRAM)
        assert report == drivers.DriverReport(DriverState.OURS, scope, PROGRAM, (scope,))
    assert config(repo, "--type=bool", "filter.coral.required") == "true\n"
    assert config(repo, "merge.coral.recursive") == "binary\n"
    assert drivers.uninstall(git, scope)
    assert not drivers.uninstall(git, scope)
    assert drivers.inspect(git, PROGRAM).state is DriverState.ABSENT
    assert file.read_bytes() == before


def test_work_tree_scope_and_precedence(repo):
    git = Git(str(repo))
    config(repo, "extensions.worktreeConfig", "true")
    drivers.install(git, "global", PROGRAM)
    drivers.install(git, "worktree", "/opt/git-coral")
    report = drivers.inspect(git, PROGRAM)
    assert (report.state, report.scope, report.program) == (
        DriverState.OUTDATED,
        "worktree",
        "/opt/git-coral",
    )
    assert report.scopes == ("global", "worktree")
    assert drivers.inspect(git, "/opt/git-coral").state is DriverState.OURS
    drivers.uninstall(git, "worktree")
    assert drivers.inspect(git, PROGRAM).state is DriverState.OURS


def test_an_unknown_scope(repo):
    with pytest.raises(UsageError):
        drivers.install(Git(str(repo)), "everywhere", PROGRAM)


@pytest.mark.parametrize(
    ("key", "value", "state"),
    [
        ("filter.coral.process", "other-tool filter", DriverState.FOREIGN),
        ("filter.coral.clean", "coral-clean %f", DriverState.FOREIGN),
        ("merge.coral.driver", "other %A", DriverState.FOREIGN),
        ("filter.coral.process", "git-coral filter-process", DriverState.OUTDATED),
        ("filter.coral.process", "git coral filter-process", DriverState.OUTDATED),
        ("filter.coral.process", "/old/bin/git-coral filter-process", DriverState.OUTDATED),
        ("filter.coral.required", "false", DriverState.OUTDATED),
        ("filter.other.process", "other", DriverState.ABSENT),
    ],
)
def test_what_stands_there_is_judged(repo, key, value, state):
    git = Git(str(repo))
    config(repo, key, value)
    assert drivers.inspect(git, PROGRAM).state is state
    if state is DriverState.FOREIGN:
        assert not drivers.uninstall(git, "local")
        assert config(repo, key) == value + "\n"
    drivers.install(git, "local", PROGRAM)
    assert drivers.inspect(git, PROGRAM).state is DriverState.OURS


@pytest.mark.parametrize("folder", ["bin", "it's a $HOME; 'place'"])
def test_the_command_becomes_the_program(repo, tmp_path, folder):
    path = program(tmp_path / folder)
    values = drivers.settings(path)
    drivers.install(Git(str(repo)), "local", path)
    assert drivers.inspect(Git(str(repo)), path).program == path
    for key, value in values.items():
        assert config(repo, key) == value + "\n"
    done = sh(values["filter.coral.process"])
    assert (done.returncode, done.stdout, done.stderr) == (0, "filter-process|", "")


def test_git_runs_the_clean_command_with_the_path(repo, tmp_path):
    path = program(tmp_path / "b c")
    drivers.install(Git(str(repo)), "local", path)
    config(repo, "--unset", "filter.coral.process")
    (repo / ".gitattributes").write_text("*.st filter=coral\n")
    (repo / "-a b.st").write_text("weights")
    subprocess.run(("git", "add", "."), cwd=repo, check=True)
    blob = subprocess.run(("git", "cat-file", "blob", ":-a b.st"), cwd=repo, check=True, capture_output=True)
    assert blob.stdout == b"clean|--|-a b.st|"


def test_a_missing_program_is_explained_and_fails(repo, tmp_path):
    values = drivers.settings(PROGRAM)
    for key in ("filter.coral.process", "filter.coral.clean", "filter.coral.smudge", "merge.coral.driver"):
        done = sh(values[key])
        assert done.returncode == (129 if key == "merge.coral.driver" else 127)
        assert "pip install coral-git" in done.stderr
        assert done.stdout == ""
    drivers.install(Git(str(repo)), "local", str(tmp_path / "gone/git-coral"))
    (repo / ".gitattributes").write_text("*.st filter=coral\n")
    (repo / "a.st").write_text("weights")
    added = subprocess.run(("git", "add", "a.st"), cwd=repo, capture_output=True, text=True)
    assert added.returncode != 0
    assert "pip install coral-git" in added.stderr
    assert subprocess.run(("git", "ls-files"), cwd=repo, capture_output=True).stdout == b""


def test_the_hunk_header_names_the_tensor(repo):
    drivers.install(Git(str(repo)), "local", PROGRAM)
    (repo / ".gitattributes").write_text("*.st diff=coral\n")
    lines = ["tensor layer.a F32 4 aaaa", *(f"  part {number}" for number in range(9)), ""]
    (repo / "a.st").write_text("\n".join(lines))
    subprocess.run(("git", "add", "."), cwd=repo, check=True)
    (repo / "a.st").write_text("\n".join([*lines[:-2], "  part x", ""]))
    diff = subprocess.run(("git", "diff"), cwd=repo, check=True, capture_output=True, text=True).stdout
    assert "@@ tensor layer.a F32 4 aaaa" in diff


def test_the_program_is_named_plainly_only_where_it_stays_on_the_path(tmp_path):
    lasting, passing = tmp_path / "lasting", tmp_path / "venv/bin"
    program(passing)
    environment = {"PATH": f"{passing}:relative:{lasting}", "VIRTUAL_ENV": str(tmp_path / "venv")}
    assert drivers.find_program(environment) != PROGRAM
    assert os.path.isabs(drivers.find_program(environment))
    program(lasting)
    assert drivers.find_program(environment) == PROGRAM
    assert drivers.find_program({"PATH": str(passing)}) == PROGRAM
