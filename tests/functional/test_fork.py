"""A pull request from a fork: the maintainer fetches the fork's weights by its URL."""

from __future__ import annotations

import subprocess

import pytest


@pytest.fixture
def clone_of(tmp_path, at):
    def clone(url, name: str, *options: str):
        subprocess.run(
            ["git", "clone", "-q", *options, url, tmp_path / name], check=True, capture_output=True
        )
        return at(tmp_path / name)

    return clone


@pytest.fixture
def project(make_repo, model, safetensors):
    """The maintainer's repository, and the bare one it is published in."""
    bare = make_repo("project.git", bare=True)
    maintainer = make_repo("maintainer")
    maintainer.git("remote", "add", "origin", bare.path)
    maintainer.commit(m__safetensors=safetensors(model(0)))
    maintainer.git("push", "-q", "-u", "origin", "main")
    return maintainer, bare


@pytest.fixture
def contribution(project, clone_of, make_repo, model, tune, safetensors):
    """A fork in which two versions were pushed to a branch: the fork, and the bytes of both."""
    _, bare = project
    fork = make_repo("fork.git", bare=True)
    contributor = clone_of(bare.path, "contributor")
    contributor.git("remote", "rename", "origin", "upstream")
    contributor.git("remote", "add", "origin", fork.path)
    contributor.git("switch", "-q", "-c", "topic")
    tensors = tune(model(0), 1)
    data = [safetensors(tensors), safetensors(tune(tensors, 2))]
    for version in data:
        contributor.commit(m__safetensors=version)
    contributor.git("push", "-q", "origin", "topic")
    return fork, data


@pytest.mark.parametrize("scheme", ["", "file://"])
def test_the_maintainer_fetches_merges_and_pushes(project, contribution, clone_of, assert_healthy, scheme):
    maintainer, bare = project
    fork, data = contribution
    said = maintainer.coral("fetch", f"{scheme}{fork.path}", "topic")
    assert "fetched" in said
    maintainer.git("merge", "-q", "--no-ff", "-m", "merge", "FETCH_HEAD")
    assert maintainer.read("m.safetensors") == data[1]
    maintainer.git("push", "-q", "origin", "main")
    clone = clone_of(bare.path, "clone")
    assert clone.read("m.safetensors") == data[1]
    clone.git("checkout", "-q", "HEAD^2~1")
    assert clone.read("m.safetensors") == data[0]
    assert_healthy(clone)


def test_pull_from_a_fork_takes_its_weights(project, contribution, assert_healthy):
    maintainer, _ = project
    fork, data = contribution
    maintainer.coral("pull", "-q", "--ff-only", str(fork.path), "topic")
    assert maintainer.read("m.safetensors") == data[1]
    assert maintainer.status() == ""
    maintainer.coral("fetch", str(fork.path), "topic")
    assert_healthy(maintainer)


def test_a_fork_gets_the_history_from_upstream(project, make_repo, clone_of, model, tune, safetensors):
    """The contributor has the newest version only; the fork needs all, and upstream has it."""
    maintainer, bare = project
    maintainer.commit(m__safetensors=safetensors(model(5)))
    maintainer.git("push", "-q", "origin", "main")
    fork = make_repo("fork.git", bare=True)
    contributor = clone_of(bare.path, "contributor")
    contributor.git("remote", "add", "fork", fork.path)
    data = safetensors(tune(model(5), 1))
    contributor.commit(m__safetensors=data)
    contributor.git("push", "-q", "fork", "main")
    alone = clone_of(fork.path, "alone")
    assert alone.read("m.safetensors") == data
    alone.git("checkout", "-q", "HEAD~2")
    assert alone.read("m.safetensors") == safetensors(model(0))


def test_fetch_takes_revisions_and_all(project, clone_of, model, safetensors):
    maintainer, bare = project
    maintainer.git("rm", "-q", "m.safetensors")
    maintainer.commit(n__bin=safetensors(model(6))[::-1])
    maintainer.git("tag", "v2")
    maintainer.git("push", "-q", "origin", "main", "v2")
    clone = clone_of(bare.path, "clone")
    assert "would fetch" in clone.coral("fetch", "--dry-run", "HEAD~1")
    count = len(clone.packs())
    assert "fetched" in clone.coral("fetch", "HEAD~1")
    assert len(clone.packs()) > count
    assert "are here" in clone.coral("fetch", "--all")
    assert "are here" in clone.coral("fetch", "origin", "v2")
    assert "are here" in clone.coral("fetch", "HEAD~1..HEAD")
    said = clone.run("coral", "fetch", "nonsense", code=2).stderr.decode()
    assert "neither a remote nor a revision" in said
