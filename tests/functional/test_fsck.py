"""``git coral fsck``: finds damage, names what it hits, repairs what it can."""

from __future__ import annotations

import json

import pytest

from coral_git.manifest.parse import parse
from coral_git.testing.health import assert_store_healthy


@pytest.fixture
def two_commits(repo, model, tune, safetensors):
    """A repository with two versions of a model; the second changes one tensor."""
    first = model(layers=2, width=16)
    repo.commit("first", m__safetensors=safetensors(first))
    repo.commit("second", m__safetensors=safetensors(tune(first, only={"layer.1.weight"})))
    return repo


def tensor_entry(repo, spec, name):
    with repo.store() as store:
        manifest = parse(repo.blob(spec), store.limits)
        (object_id,) = next(tensor.objects for tensor in manifest.tensors if tensor.name == name)
        location = store.locate(object_id)
        return repo.common_dir() / "coral/objects/packs" / f"{location.pack.hex()}.pack", location


def flip(path, offset):
    path.chmod(0o644)
    data = bytearray(path.read_bytes())
    data[offset] ^= 0x10
    path.write_bytes(data)


def test_a_sound_repository(two_commits):
    assert "2 manifests, 2 files restored: no problems" in two_commits.coral("fsck")
    assert two_commits.coral("fsck", "--quick", "-q") == ""
    assert_store_healthy(str(two_commits.path))


def test_a_flipped_bit_is_named(two_commits):
    repo = two_commits
    path, location = tensor_entry(repo, "HEAD:m.safetensors", "layer.1.weight")
    flip(path, location.offset + location.entry_length - 2)
    done = repo.run("coral", "fsck", code=1)
    head = repo.git("rev-parse", "--short=12", "HEAD")
    assert f"tensor 'layer.1.weight' of m.safetensors in commit {head}".encode() in done.stdout
    assert b"hint: run 'git coral fsck --repair'" in done.stderr
    report = json.loads(repo.run("coral", "fsck", "--json", "--quick", code=1).stdout)
    affected = [use for finding in report["findings"] for use in finding["affects"]]
    assert {(use["file"], use["part"]) for use in affected} == {("m.safetensors", "tensor 'layer.1.weight'")}


def test_repair_fetches_what_was_damaged_from_the_git_remote(two_commits, tmp_path, make_repo):
    repo = two_commits
    make_repo("hub.git", bare=True)
    repo.git("remote", "add", "origin", tmp_path / "hub.git")
    repo.coral("push", "origin", "main")
    for name in ("layer.1.weight", "embed.weight"):
        path, location = tensor_entry(repo, "HEAD:m.safetensors", name)
        flip(path, location.offset + 40)
    repo.run("coral", "fsck", code=1)
    repo.coral("fsck", "--repair")
    assert len(list((repo.common_dir() / "coral" / "bad").glob("*.pack*"))) == 2
    assert_store_healthy(str(repo.path))


def test_a_clone_without_the_history_is_healthy(two_commits, tmp_path, make_repo, at):
    repo = two_commits
    hub = make_repo("hub.git", bare=True)
    repo.git("remote", "add", "origin", hub.path)
    repo.coral("push", "origin", "main")
    repo.git("clone", "--quiet", "-b", "main", hub.path, tmp_path / "clone")
    clone = at(tmp_path / "clone")
    assert "no problems" in clone.coral("fsck")
    for path in (clone.common_dir() / "coral/objects/packs").iterdir():
        path.unlink()
    assert b"in commit" in clone.run("coral", "fsck", code=1).stdout
