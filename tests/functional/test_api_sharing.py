"""Push, fetch, pull and clone for programs: weights travel with the history, and nothing is printed."""

from __future__ import annotations

import subprocess
from pathlib import Path

import numpy as np
import pytest

from coral_git import MergeConflictError, Repository
from coral_git.errors import GitError, UsageError


def save(project, message, **values):
    random = np.random.default_rng(0).standard_normal((64, 64), np.float32)
    project.stage_weights({name: random + np.float32(value) for name, value in values.items()})
    return project.commit(message)


@pytest.fixture
def hub(tmp_path, installed, at):
    at(tmp_path).git("init", "-q", "--bare", "-b", "main", tmp_path / "hub.git")
    return tmp_path / "hub.git"


@pytest.fixture
def project(tmp_path, hub):
    with Repository(tmp_path / "models", init=True) as repository:
        save(repository, "base", w=0, v=0)
        repository.add_remote("origin", str(hub))
        repository.push()
        yield repository


@pytest.fixture
def other(tmp_path, project, hub):
    with Repository.clone(hub, tmp_path / "clone") as repository:
        yield repository


def test_there_and_back(project, other, at, capfd, assert_healthy):
    assert other.list_remotes() == {"origin": project.list_remotes()["origin"]}
    assert np.array_equal(other.get_weight("w", "HEAD").data, project.get_weight("w", "HEAD").data)
    assert Path(other.path, "model.safetensors").stat().st_size > 30_000
    save(other, "more", w=1)
    other.push()
    pulled = project.pull()
    assert (pulled.status, pulled.metadata.message) == ("fast-forward", "more")
    assert np.array_equal(project.get_weight("w", "HEAD").data, other.get_weight("w", "HEAD").data)
    assert project.pull().status == "up to date"
    assert capfd.readouterr() == ("", "")
    for one in (project, other):
        assert at(Path(one.path)).status() == ""
        assert_healthy(at(Path(one.path)))


def test_both_sides_went_on(project, other, at):
    save(project, "here", w=1, mine=2)
    save(other, "there", w=3, yours=4)
    other.push()
    with pytest.raises(GitError, match=r"rejected|fetch first"):
        project.push()
    with pytest.raises(MergeConflictError) as caught:
        project.pull()
    assert caught.value.conflicts == ("w",)
    assert at(Path(project.path)).status() == ""
    merged = project.pull(strategy="average")
    assert (merged.status, len(merged.parent_hashes)) == ("merged", 2)
    assert set(project.list_weights("HEAD")) == {"w", "v", "mine", "yours"}
    project.push()
    assert other.pull().commit_hash == merged.commit_hash


def test_fetch_brings_weights_of_branches_that_are_named(project, other):
    project.create_branch("exp")
    project.checkout("exp")
    save(project, "exp", w=9)
    project.push("origin", "exp")
    assert other.fetch().named == 0
    assert other.list_weights("origin/exp") == ["w", "v"]
    report = other.fetch("origin", "exp")
    assert report.wanted > 0
    assert other.fetch("origin", "exp").wanted == 0
    assert other.get_weight("w", "origin/exp").data.mean() == pytest.approx(9, abs=0.1)


def test_push_of_tags_of_everything_and_by_force(project, hub, at):
    project.create_branch("exp")
    project.tag_version("v1")
    project.push(everything=True)
    project.push(tags=True)
    names = at(hub).git("for-each-ref", "--format=%(refname)", "refs/heads", "refs/tags").split()
    assert names == ["refs/heads/exp", "refs/heads/main", "refs/tags/v1"]
    at(Path(project.path)).git("commit", "-q", "--amend", "-m", "otherwise")
    with pytest.raises(GitError):
        project.push()
    project.push(force=True)
    assert at(hub).git("log", "-1", "--format=%s", "main") == "otherwise"


def test_pull_into_a_repository_without_commits(tmp_path, project, hub):
    with Repository(tmp_path / "new", init=True) as new:
        new.add_remote("origin", str(hub))
        Path(new.path, ".gitattributes").unlink()
        new.close()
        subprocess.run(["git", "rm", "-q", "--cached", ".gitattributes"], cwd=new.path, check=True)
        assert new.pull(branch="main").status == "fast-forward"
        assert new.list_weights("HEAD") == ["w", "v"]


def test_remotes_and_mistakes(project, tmp_path, hub):
    project.add_remote("backup", str(hub))
    with pytest.raises(UsageError, match="a remote 'backup' already"):
        project.add_remote("backup", "elsewhere")
    assert list(project.list_remotes()) == ["origin", "backup"]
    project.remove_remote("backup")
    assert list(project.list_remotes()) == ["origin"]
    for call in (project.push, project.fetch, project.pull, project.remove_remote):
        with pytest.raises(UsageError, match="no remote 'backup'"):
            call("backup")
    with pytest.raises(UsageError, match="is no commit"):
        project.pull(branch="nowhere")
    with pytest.raises(GitError, match="does not exist"):
        Repository.clone(tmp_path / "nothing", tmp_path / "x")
    with pytest.raises(GitError, match="not an empty directory"):
        Repository.clone(hub, project.path)
    with pytest.raises(GitError):
        project.push("origin", "--mirror")
    project.checkout("HEAD~0")
    with pytest.raises(UsageError, match="no branch is checked out"):
        project.push()


def test_clone_of_a_branch(project, hub, tmp_path, monkeypatch):
    project.create_branch("exp")
    project.push("origin", "exp")
    monkeypatch.chdir(tmp_path)
    with Repository.clone(str(hub), branch="exp") as clone:
        assert (clone.current_branch, Path(clone.path)) == ("exp", tmp_path / "hub")
