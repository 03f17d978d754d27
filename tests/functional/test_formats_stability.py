"""A newer format reader does not rewrite the manifests of files that did not change."""

from __future__ import annotations

import pytest

from coral_git.formats import registry
from coral_git.formats.safetensors import SafetensorsReader
from coral_git.pipeline import statcache
from coral_git.pipeline.clean import clean_content
from coral_git.pipeline.workspace import Workspace


class NewerReader(SafetensorsReader):
    """Cuts the same files, under the next version number."""

    version = 2


@pytest.fixture
def versions(model, tune, safetensors):
    """The bytes of two versions of a model."""
    tensors = model(layers=1, width=24)
    return safetensors(tensors), safetensors(tune(tensors))


@pytest.fixture
def newer(repo, versions, monkeypatch):
    """A repository with a committed model, in a process that has the newer reader."""
    repo.commit("one", m__safetensors=versions[0])
    monkeypatch.chdir(repo.path)
    monkeypatch.setattr(registry, "READERS", (NewerReader(),))
    return repo


def clean(path: bytes, data: bytes) -> bytes:
    """The manifest of a content, in a process of its own as far as caches go."""
    workspace = Workspace.open()
    try:
        return clean_content(workspace, path, [data])
    finally:
        workspace.close()


def test_an_unchanged_file_keeps_its_manifest(newer, versions, assert_healthy):
    before = newer.blob("HEAD:m.safetensors")
    assert b"format safetensors/1\n" in before
    assert clean(b"m.safetensors", versions[0]) == before
    newer.git("config", "coral.trustStat", "false")
    assert clean(b"m.safetensors", versions[0]) == before
    (newer.path / ".git" / "coral" / "cache.sqlite").unlink()
    assert clean(b"m.safetensors", versions[0]) == before
    assert_healthy(newer)


def test_a_changed_file_gets_the_newer_one(newer, versions, assert_healthy):
    newer.write("m.safetensors", versions[1])
    assert b"format safetensors/2\n" in clean(b"m.safetensors", versions[1])
    assert b"format safetensors/2\n" in clean(b"elsewhere.safetensors", versions[0])
    assert_healthy(newer)


def test_going_back_to_what_head_has_keeps_the_manifest_of_head(newer, versions, assert_healthy):
    before = newer.blob("HEAD:m.safetensors")
    text = clean(b"m.safetensors", versions[1])
    oid = newer.git("hash-object", "-w", "--stdin", "--no-filters", data=text)
    newer.git("update-index", "--cacheinfo", f"100644,{oid},m.safetensors")
    assert clean(b"m.safetensors", versions[0]) == before
    assert clean(b"m.safetensors", versions[1]) == text
    assert_healthy(newer)


def test_the_stat_cache_answers_only_for_settled_files(newer, versions, age, assert_healthy):
    path = newer.path / "m.safetensors"
    workspace = Workspace.open()
    recalled = statcache.recall(workspace.store.cache, b"m.safetensors", path.lstat())
    assert recalled is not None
    assert recalled == (newer.blob("HEAD:m.safetensors"), False)
    workspace.close()
    assert_healthy(newer)
