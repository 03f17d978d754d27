"""Real repositories, isolated from the configuration of whoever runs the tests."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest


@pytest.fixture
def git_environment(tmp_path_factory, monkeypatch) -> Path:
    """No variable, file or hook of the user's reaches git; the return value is the home directory."""
    for name in [name for name in os.environ if name.startswith("GIT_")] + ["CI", "CORAL_DEBUG"]:
        monkeypatch.delenv(name, raising=False)
    home = tmp_path_factory.mktemp("home")
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(home / ".config"))
    monkeypatch.setenv("GIT_CONFIG_NOSYSTEM", "1")
    for role in ("AUTHOR", "COMMITTER"):
        monkeypatch.setenv(f"GIT_{role}_NAME", "T")
        monkeypatch.setenv(f"GIT_{role}_EMAIL", "t@example.org")
    return home


class Repo:
    """A repository to be played with."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def run(self, *args: str | Path, check: bool = True) -> subprocess.CompletedProcess[bytes]:
        done = subprocess.run(["git", *map(str, args)], cwd=self.path, capture_output=True, check=False)
        if check:
            assert done.returncode == 0, done.stderr.decode()
        return done

    def git(self, *args: str | Path) -> str:
        return os.fsdecode(self.run(*args).stdout).rstrip("\n")

    def write(self, name: str | bytes, data: bytes) -> Path:
        path = self.path / os.fsdecode(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
        return path

    def commit(self, message: str = "commit", **files: bytes) -> str:
        """Write files, commit everything and give the id of the commit."""
        for name, data in files.items():
            self.write(name, data)
        self.git("add", "--all")
        self.git("commit", "--quiet", "--allow-empty", "-m", message)
        return self.git("rev-parse", "HEAD")


@pytest.fixture
def make_repo(tmp_path: Path, git_environment: Path) -> Callable[..., Repo]:
    """Makes repositories: ``make_repo(name, object_format="sha256", bare=True)``."""

    def make(name: str = "repo", *, object_format: str = "sha1", bare: bool = False) -> Repo:
        repo = Repo(tmp_path / name)
        repo.path.mkdir(parents=True)
        repo.git(
            "init", "--quiet", "-b", "main", f"--object-format={object_format}", *(["--bare"] if bare else [])
        )
        return repo

    return make


@pytest.fixture
def repo(make_repo) -> Repo:
    """An empty SHA-1 repository."""
    return make_repo()
