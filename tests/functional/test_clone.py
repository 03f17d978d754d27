"""Cloning: with and without an installation, from a work tree, and when something is missing."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from coral_git.store.pack_index import decode_index
from coral_git.types import PackId


@pytest.fixture
def published(make_repo, model, tune, safetensors):
    """A bare repository with two versions of a model, and their bytes."""
    bare = make_repo("bare.git", bare=True)
    work = make_repo("work")
    work.git("remote", "add", "origin", bare.path)
    tensors = model(0)
    first, second = safetensors(tensors), safetensors(tune(tensors))
    work.commit(m__safetensors=first)
    work.commit(m__safetensors=second)
    work.git("push", "-q", "origin", "main")
    return bare, first, second


@pytest.fixture
def nothing_installed(home) -> None:
    (home / ".gitconfig").write_text("[init]\n\tdefaultBranch = main\n")


def run_clone(folder: Path, *args, code: int = 0) -> str:
    done = subprocess.run(["git", "coral", "clone", *args], cwd=folder, capture_output=True, text=True)
    assert done.returncode == code, done.stdout + done.stderr
    return done.stdout + done.stderr


def test_clone_without_any_installation(
    published, nothing_installed, tmp_path, at, assert_healthy, model, safetensors
):
    bare, first, second = published
    run_clone(tmp_path, bare.path)
    clone = at(tmp_path / "bare")
    assert clone.read("m.safetensors") == second
    assert clone.git("config", "--local", "filter.coral.required") == "true"
    assert clone.status() == ""
    clone.git("checkout", "-q", "HEAD~1")
    assert clone.read("m.safetensors") == first
    clone.git("switch", "-q", "main")
    clone.commit(m__safetensors=safetensors(model(4)))
    clone.git("push", "-q")
    assert_healthy(clone)


def test_clone_with_an_installation_writes_no_local_drivers(published, tmp_path, at):
    bare, _, second = published
    run_clone(tmp_path, "--quiet", bare.path, "there", "--", "--depth", "1")
    clone = at(tmp_path / "there")
    assert clone.read("m.safetensors") == second
    assert clone.run("config", "--local", "filter.coral.process", code=1).stdout == b""


def test_clone_of_a_work_tree_reads_its_store(repo, model, safetensors, tmp_path, at, assert_healthy):
    """Nothing was pushed: what the manifests name is in the store of the neighbour alone."""
    data = safetensors(model(1))
    repo.commit(m__safetensors=data)
    for number, url in enumerate((str(repo.path), f"file://{repo.path}")):
        subprocess.run(["git", "clone", "-q", url, tmp_path / f"c{number}"], check=True, capture_output=True)
        clone = at(tmp_path / f"c{number}")
        assert clone.read("m.safetensors") == data
        assert clone.status() == ""
        assert_healthy(clone)


def test_clone_fails_when_something_is_missing(published, tmp_path, at):
    bare, _, _ = published
    for ref in bare.git("for-each-ref", "--format=%(refname)", "refs/coral").split():
        bare.git("update-ref", "-d", ref)
    said = run_clone(tmp_path, bare.path, "clone", code=12)
    assert "m.safetensors" in said
    assert "tensor 'embed.weight'" in said
    assert at(tmp_path / "clone").status() == ""


def test_clone_says_what_git_says(tmp_path, installed):
    assert "does not exist" in run_clone(tmp_path, tmp_path / "nowhere.git", code=128)
    assert "no repository to clone" in run_clone(tmp_path, code=2)


def test_pull_brings_the_next_version(published, make_repo, tmp_path, at, model, safetensors, assert_healthy):
    bare = published[0]
    clones = []
    for name in ("one", "two"):
        run_clone(tmp_path, bare.path, name)
        clones.append(at(tmp_path / name))
    data = safetensors(model(8))
    clones[0].commit(m__safetensors=data)
    clones[0].git("push", "-q")
    clones[1].coral("pull", "-q")
    assert clones[1].read("m.safetensors") == data
    assert clones[1].status() == ""
    assert_healthy(clones[1])


def test_pull_finishes_what_was_left(published, tmp_path, at):
    bare, _, second = published
    subprocess.run(
        ["git", "clone", "-q", bare.path, tmp_path / "c"], check=True, env=_without_smudge(), cwd=tmp_path
    )
    clone = at(tmp_path / "c")
    assert clone.read("m.safetensors") != second
    clone.coral("pull", "-q")
    assert clone.read("m.safetensors") == second


def test_a_store_left_half_fetched_heals(published, tmp_path, at, assert_healthy):
    """A delta whose base did not come counts as missing, and is fetched when it is wanted."""
    bare, first, _ = published
    run_clone(tmp_path, bare.path, "c")
    clone = at(tmp_path / "c")
    packs = clone.common_dir() / "coral" / "objects" / "packs"
    whole = {path.name: path.read_bytes() for path in packs.iterdir()}
    assert whole
    shutil.rmtree(packs)
    packs.mkdir()
    with_deltas = _packs_with_deltas(bare)
    for name in with_deltas:
        for suffix in (".pack", ".idx"):
            (packs / (name + suffix)).write_bytes(whole[name + suffix])
    (clone.common_dir() / "coral" / "cache.sqlite").unlink()
    clone.coral("fetch", "--all")
    clone.git("checkout", "-q", "HEAD~1")
    assert clone.read("m.safetensors") == first
    assert_healthy(clone)


def _without_smudge() -> dict[str, str]:
    return {**os.environ, "CORAL_SKIP_SMUDGE": "1"}


def _packs_with_deltas(bare) -> list[str]:
    found = []
    prefix = "refs/coral/store/idx/"
    for ref in bare.git("for-each-ref", "--format=%(refname)", prefix).split():
        name = ref.removeprefix(prefix)
        parts = bare.git("ls-tree", "--format=%(objectname)", ref).split()
        data = b"".join(map(bare.blob, parts))
        if any(entry.base for entry in decode_index(data, PackId(bytes.fromhex(name)))):
            found.append(name)
    return found
