"""Finding a repository in every way there is of having one."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from coral_git.errors import NotARepositoryError
from coral_git.git.repository import GitPaths, discover


@pytest.mark.parametrize("object_format", ["sha1", "sha256"])
def test_plain(make_repo, monkeypatch, object_format):
    repo = make_repo("größe x", object_format=object_format)
    (repo.path / "a/b").mkdir(parents=True)
    root = str(repo.path)
    expected = GitPaths(f"{root}/.git", f"{root}/.git", root, f"{root}/.git/index", object_format, False)
    assert discover(root) == expected
    found = discover(f"{root}/a/b")
    assert (found.prefix, found.work_tree, found.index_path) == ("a/b/", root, f"{root}/.git/index")
    monkeypatch.chdir(repo.path / "a")
    assert discover().prefix == "a/"
    assert discover(".").git_dir == f"{root}/.git"


def test_bare(make_repo):
    root = str(make_repo("r.git", bare=True).path)
    assert discover(root) == GitPaths(root, root, None, f"{root}/index", "sha1", True)
    assert discover(f"{root}/refs").git_dir == root


def test_inside_the_git_directory(repo):
    found = discover(str(repo.path / ".git/refs"))
    assert (found.git_dir, found.work_tree, found.is_bare) == (str(repo.path / ".git"), None, False)


def test_linked_work_tree_and_submodule(repo, make_repo, tmp_path):
    repo.commit(a=b"x")
    repo.git("worktree", "add", "-q", tmp_path / "linked")
    linked = discover(str(tmp_path / "linked"))
    own = f"{repo.path}/.git/worktrees/linked"
    assert linked == GitPaths(
        own, f"{repo.path}/.git", str(tmp_path / "linked"), f"{own}/index", "sha1", False
    )

    outer = make_repo("outer")
    outer.git("-c", "protocol.file.allow=always", "submodule", "--quiet", "add", str(repo.path), "inner")
    inner = discover(str(outer.path / "inner"))
    assert inner.git_dir == inner.common_dir == f"{outer.path}/.git/modules/inner"
    assert inner.work_tree == str(outer.path / "inner")


def test_linked_work_tree_of_a_bare_repository(repo, make_repo, tmp_path):
    repo.commit(a=b"x")
    bare = make_repo("r.git", bare=True)
    bare.git("fetch", "-q", repo.path, "main:main")
    bare.git("worktree", "add", "-q", tmp_path / "linked", "main")
    found = discover(str(tmp_path / "linked"))
    assert (found.common_dir, found.is_bare) == (str(bare.path), False)


@pytest.mark.parametrize("relative", [False, True])
def test_variables_of_git_count(repo, tmp_path, monkeypatch, relative):
    work_tree = tmp_path / "elsewhere"
    (work_tree / "sub").mkdir(parents=True)
    monkeypatch.chdir(work_tree / "sub")

    def place(path: Path) -> str:
        return os.path.relpath(path) if relative else str(path)

    monkeypatch.setenv("GIT_DIR", place(repo.path / ".git"))
    monkeypatch.setenv("GIT_WORK_TREE", place(work_tree))
    found = discover()
    assert (found.git_dir, found.work_tree, found.prefix) == (str(repo.path / ".git"), str(work_tree), "sub/")
    monkeypatch.setenv("GIT_INDEX_FILE", "other-index" if relative else str(work_tree / "other-index"))
    assert discover().index_path == str(work_tree / "other-index")  # relative to the root of the work tree


def test_a_symbolic_link_to_a_repository(repo, tmp_path):
    (tmp_path / "link").symlink_to(repo.path)
    found = discover(str(tmp_path / "link"))
    assert os.path.samefile(found.work_tree, repo.path)
    assert os.path.samefile(found.git_dir, repo.path / ".git")


def test_a_line_feed_in_the_path(make_repo):
    repo = make_repo("line\nfeed")
    assert discover(str(repo.path)).work_tree == str(repo.path)
    bare = make_repo("bare\n.git", bare=True)
    assert discover(str(bare.path)) == GitPaths(
        *[str(bare.path)] * 2, None, f"{bare.path}/index", "sha1", True
    )


def test_no_repository(tmp_path, git_environment, monkeypatch):
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    with pytest.raises(NotARepositoryError, match="is not in a git repository") as caught:
        discover(str(tmp_path))
    assert "git coral init" in caught.value.hint


def test_a_repository_that_git_does_not_trust(repo, monkeypatch):
    monkeypatch.setenv("GIT_TEST_ASSUME_DIFFERENT_OWNER", "1")
    with pytest.raises(NotARepositoryError, match="does not open") as caught:
        discover(str(repo.path))
    assert "safe.directory" in caught.value.hint


def test_a_folder_that_is_not_there(tmp_path):
    with pytest.raises(Exception, match="no such file"):
        discover(str(tmp_path / "gone"))
