"""The ``.coral`` link and the line that hides it from git."""

from __future__ import annotations

import os
import subprocess

import pytest

from coral_git.git.exclude import add_link, remove_link
from coral_git.git.repository import discover


@pytest.fixture
def repo(tmp_path):
    root = tmp_path / "repo"
    subprocess.run(("git", "init", "-q", str(root)), check=True)
    (root / ".git/coral").mkdir()
    (root / ".git/coral/FORMAT").write_text("x")
    return root


def status(root) -> bytes:
    return subprocess.run(("git", "status", "--porcelain"), cwd=root, check=True, capture_output=True).stdout


def test_link_and_line_come_and_go(repo):
    before = (repo / ".git/info/exclude").read_bytes()
    paths = discover(str(repo))
    assert add_link(paths)
    assert add_link(paths)
    assert (repo / ".coral/FORMAT").read_text() == "x"
    assert os.readlink(repo / ".coral") == ".git/coral"
    assert (repo / ".git/info/exclude").read_bytes() == before + b"/.coral\n"
    assert status(repo) == b""
    subprocess.run(("git", "clean", "-ffdxq"), cwd=repo, check=True)
    assert not (repo / ".coral").exists()
    assert (repo / ".git/coral/FORMAT").exists()
    assert add_link(paths)
    remove_link(paths)
    assert not os.path.lexists(repo / ".coral")
    assert (repo / ".git/info/exclude").read_bytes() == before


@pytest.mark.parametrize("text", [b"", b"*.o", b"*.o\r\n", b"/.coral\r\n*.o\n"])
def test_the_rest_of_the_exclude_file_is_kept(repo, text):
    exclude = repo / ".git/info/exclude"
    exclude.write_bytes(text)
    assert add_link(discover(str(repo)))
    assert exclude.read_bytes().startswith(text)
    assert exclude.read_bytes().count(b"/.coral") == 1
    assert status(repo) == b""


def test_a_missing_info_folder(repo):
    (repo / ".git/info/exclude").unlink()
    (repo / ".git/info").rmdir()
    assert add_link(discover(str(repo)))
    assert status(repo) == b""


def test_what_stands_at_its_place_is_never_touched(repo):
    (repo / ".coral").mkdir()
    (repo / ".coral/data").write_text("theirs")
    paths = discover(str(repo))
    assert not add_link(paths)
    remove_link(paths)
    assert (repo / ".coral/data").read_text() == "theirs"
    (repo / ".coral/data").unlink()
    (repo / ".coral").rmdir()
    (repo / ".coral").symlink_to("/elsewhere")
    assert not add_link(paths)
    remove_link(paths)
    assert os.readlink(repo / ".coral") == "/elsewhere"


def test_linked_work_trees_leave_the_link_in_the_main_one(repo, tmp_path):
    subprocess.run(
        ("git", "-c", "user.name=T", "-c", "user.email=t@e", "commit", "-q", "--allow-empty", "-m", "x"),
        cwd=repo,
        check=True,
    )
    subprocess.run(("git", "worktree", "add", "-q", str(tmp_path / "linked")), cwd=repo, check=True)
    linked = discover(str(tmp_path / "linked"))
    assert add_link(linked)
    assert (repo / ".coral").is_symlink()
    assert not os.path.lexists(tmp_path / "linked/.coral")
    remove_link(linked)
    assert not os.path.lexists(repo / ".coral")

    subprocess.run(("git", "config", "core.bare", "true"), cwd=repo, check=True)
    (repo / ".git/index").unlink()
    assert not add_link(linked)


def test_a_separate_git_directory_gets_an_absolute_link(tmp_path):
    subprocess.run(
        ("git", "init", "-q", "--separate-git-dir", str(tmp_path / "data"), str(tmp_path / "w")), check=True
    )
    assert add_link(discover(str(tmp_path / "w")))
    assert os.readlink(tmp_path / "w/.coral") == str(tmp_path / "data/coral")


def test_a_bare_repository_gets_nothing(tmp_path):
    subprocess.run(("git", "init", "-q", "--bare", str(tmp_path / "r.git")), check=True)
    before = sorted(os.listdir(tmp_path / "r.git"))
    assert not add_link(discover(str(tmp_path / "r.git")))
    remove_link(discover(str(tmp_path / "r.git")))
    assert sorted(os.listdir(tmp_path / "r.git")) == before
