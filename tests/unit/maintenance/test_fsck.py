import os
import shutil
from pathlib import Path

import pytest

from coral_git.limits import Limits
from coral_git.maintenance.fsck import check_store
from coral_git.maintenance.repair import repair_store
from coral_git.manifest.parse import parse
from coral_git.testing.health import assert_store_healthy


def fsck(repo, run=check_store, **options):
    with repo.workspace() as workspace:
        return run(workspace, **options)


def repair(repo, **options):
    return fsck(repo, repair_store, **options)


@pytest.fixture
def tensor_location(repo):
    """Pack file, offset and length of the entry of a tensor: ``tensor_location(spec, name)``."""

    def find(spec, name):
        with repo.workspace() as workspace:
            manifest = parse(workspace.objects.blob(spec.encode())[1], repo.limits)
            (object_id,) = next(tensor.objects for tensor in manifest.tensors if tensor.name == name)
            location = workspace.store.locate(object_id)
            return Path(workspace.store.layout.pack_path(location.pack)), location

    return find


def test_a_sound_store(repo, model):
    repo.commit(a=1, b=2)
    repo.commit(a=1, b=3)
    repo.add("x.bin", b"x" * 500)
    report = assert_store_healthy(str(repo.path), repo.limits)
    assert (report.packs, report.manifests, report.restored) == (3, 3, 3)
    quick = fsck(repo, quick=True)
    assert (quick.findings, quick.restored) == ([], 0)


@pytest.mark.parametrize("quick", [False, True])
def test_a_flipped_bit_is_named_with_file_tensor_and_commit(repo, flip, tensor_location, quick):
    first = repo.commit(a=1, b=2)
    repo.commit("other.safetensors", c=3)
    path, location = tensor_location(f"{first}:m.safetensors", "b")
    flip(path, location.offset + location.entry_length - 1)
    report = fsck(repo, quick=quick)
    (found,) = [finding for finding in report.findings if finding.kind == "object"]
    assert found.object_id == location.object_id
    (use,) = found.uses
    assert (use.where.path, use.where.commit, use.tensor) == (b"m.safetensors", first, "tensor 'b'")
    assert f"tensor 'b' of m.safetensors in commit {first[:12]}" in str(found)
    assert {finding.kind for finding in report.findings} == {"object", "pack"}


def test_every_flipped_byte_of_a_pack_and_an_index_is_found(repo, model, flip):
    repo.add("m.safetensors", model({"a": 1}, length=24))
    (pack,) = repo.packs()
    for path in (pack, pack.with_suffix(".idx")):
        data = path.read_bytes()
        for offset in range(0, len(data), 37):
            flip(path, offset)
            assert fsck(repo, quick=True).findings, f"{path.suffix} {offset}"
            path.chmod(0o644)
            path.write_bytes(data)
    assert_store_healthy(str(repo.path), repo.limits)


@pytest.mark.parametrize("where", ["history", "stash", "index"])
def test_a_missing_pack_gives_an_exact_list(repo, model, where, tensor_location):
    repo.commit(a=1, b=2)
    if where == "index":
        repo.add("m.safetensors", model({"a": 7, "b": 2}))
        spec, commit = ":m.safetensors", ""
    else:
        commit = repo.commit(a=7, b=2)
        spec = f"{commit}:m.safetensors"
        repo.git("update-ref", "HEAD", "HEAD~")
        repo.git("read-tree", "HEAD")
        if where == "stash":
            repo.git("reflog", "expire", "--expire=now", "--all")
            repo.git("update-ref", "refs/stash", commit)
    path, location = tensor_location(spec, "a")
    path.unlink()
    path.with_suffix(".idx").unlink()
    (found,) = fsck(repo).findings
    assert (found.kind, found.object_id) == ("missing", location.object_id)
    assert [(use.tensor, use.where.commit) for use in found.uses] == [("tensor 'a'", commit)]


def test_what_only_a_dangling_blob_names_is_not_missed(repo, model):
    repo.blob(repo.clean("m.safetensors", model({"a": 1})))
    for path in repo.packs():
        path.unlink()
    assert fsck(repo).findings == []


@pytest.mark.parametrize("damage", ["missing", "foreign", "garbage", "other entries"])
def test_an_index_is_repaired(repo, damage):
    first = repo.commit(a=1)
    repo.commit("n.safetensors", b=2)
    one, other = (path.with_suffix(".idx") for path in repo.packs())
    right = one.read_bytes()
    one.chmod(0o644)
    if damage == "missing":
        one.unlink()
    elif damage == "foreign":
        one.write_bytes(other.read_bytes())
    elif damage == "garbage":
        one.write_bytes(b"CORALIDX" + bytes(100))
    else:
        one.write_bytes(_with_another_length(right))
    assert {finding.kind for finding in fsck(repo).findings} == (set() if damage == "missing" else {"index"})
    assert repair(repo).findings == []
    assert one.read_bytes() == right
    assert repo.stored(repo.objects(f"{first}:m.safetensors"))
    assert_store_healthy(str(repo.path), repo.limits)


def _with_another_length(index):
    """A sound index that gives its first object another raw length."""
    import hashlib
    import struct

    data = bytearray(index[:-32])
    start = 8 + 4 + 4 + 32 + 1024 + 32 + 8 + 8
    data[start : start + 8] = struct.pack("<Q", struct.unpack_from("<Q", data, start)[0] + 1)
    return bytes(data) + hashlib.sha256(data).digest()


def test_repair_saves_what_is_intact_and_keeps_the_damaged_pack(repo, flip, tensor_location):
    repo.commit(a=1, b=2, c=3)
    path, location = tensor_location("HEAD:m.safetensors", "b")
    flip(path, location.offset + location.entry_length - 1)
    report = repair(repo)
    assert [finding.kind for finding in report.findings] == ["missing"]
    assert report.findings[0].object_id == location.object_id
    assert not path.exists()
    bad = list((repo.store_root / "bad").iterdir())
    assert len(bad) == 2
    live = repo.objects("HEAD:m.safetensors")
    assert repo.stored(live) == live - {location.object_id}
    again = repair(repo)
    assert (len(again.findings), again.repaired) == (1, [])


def test_repair_finds_entries_without_the_index_behind_a_damaged_header(repo, flip, tensor_location):
    repo.commit(a=1, b=2, c=3)
    path, location = tensor_location("HEAD:m.safetensors", "a")
    flip(path, location.offset + 20)
    path.with_suffix(".idx").unlink()
    (repo.store_root / "cache.sqlite").unlink()
    assert fsck(repo).findings
    report = repair(repo)
    assert [finding.object_id for finding in report.findings] == [location.object_id]


def test_repair_brings_the_good_copy_back_from_the_trash(repo, flip, tensor_location, model):
    repo.commit(a=1)
    path, location = tensor_location("HEAD:m.safetensors", "a")
    trash = repo.store_root / "trash" / "1700000000"
    trash.mkdir(parents=True)
    for suffix in (".pack", ".idx"):
        os.rename(path.with_suffix(suffix), trash / path.with_suffix(suffix).name)
    repo.commit("n.safetensors", z=1, a=1)
    with repo.workspace() as workspace:  # a second copy in another pack, while the first is in the trash
        with workspace.store.writer() as writer:
            writer.copy(workspace.store.locate(location.object_id))
            (copy,) = writer.finish()
        copy_path = Path(workspace.store.layout.pack_path(copy))
    for suffix in (".pack", ".idx"):
        if path.exists() and path != copy_path:
            os.rename(path.with_suffix(suffix), trash / path.with_suffix(suffix).name)
    flip(copy_path, 200)
    assert fsck(repo).findings
    repair(repo)
    assert_store_healthy(str(repo.path), repo.limits)


def test_a_lost_base_is_named_and_comes_back_from_a_remote(repo, model, tmp_path, tensor_location):
    from coral_git.pipeline.history import named_in_history
    from coral_git.pipeline.inventory import Inventory
    from coral_git.pipeline.push import push_objects
    from coral_git.pipeline.stores import open_store
    from coral_git.remotes.directory import create

    repo.commit(a=1)
    changed = bytearray(model({"a": 1}))
    changed[-1] ^= 1
    repo.add("m.safetensors", bytes(changed))
    repo.git("commit", "--quiet", "-m", "second")
    create(str(tmp_path / "remote"))
    repo.git("config", "coral.remote.backup.url", str(tmp_path / "remote"))
    with repo.workspace() as workspace:
        push_objects(
            workspace,
            Inventory(workspace, open_store(workspace, "backup")),
            named_in_history(workspace, ["HEAD"]),
        )
    path, location = tensor_location("HEAD:m.safetensors", "a")
    assert location.base is not None
    base_path, _ = tensor_location("HEAD~:m.safetensors", "a")
    assert base_path != path
    for suffix in (".pack", ".idx"):
        base_path.with_suffix(suffix).unlink()
    for quick in (False, True):
        found = {finding.object_id: finding.kind for finding in fsck(repo, quick=quick).findings}
        assert found[location.object_id] == "base"
    report = repair(repo)
    assert report.findings == []
    assert report.repaired
    assert_store_healthy(str(repo.path), repo.limits)


def test_a_broken_manifest_in_a_commit(repo, model):
    text = repo.clean("m.safetensors", model({"a": 1}))
    repo.stage("m.safetensors", text.replace(b"size ", b"size 9"))
    repo.git("commit", "--quiet", "-m", "by hand")
    (found,) = fsck(repo).findings
    assert found.kind == "manifest"
    assert found.uses[0].where.commit == repo.git("rev-parse", "HEAD")


def test_a_manifest_with_the_wrong_sha256(repo, model):
    from blake3 import blake3

    text = repo.clean("m.safetensors", model({"a": 1}))
    lines = text.split(b"\n")
    lines[3] = b"sha256 " + b"0" * 64
    rest = b"\n".join(lines[:4] + lines[5:])
    lines[4] = b"root " + blake3(rest).hexdigest().encode()
    repo.stage("m.safetensors", b"\n".join(lines))
    repo.git("commit", "--quiet", "-m", "edited")
    (found,) = fsck(repo).findings
    assert found.kind == "restore"
    assert "m.safetensors" in str(found)
    assert fsck(repo, quick=True).findings == []


def test_a_missing_table(make_repo):
    repo = make_repo(limits=Limits(inline_tensors=2, table_lines=2))
    repo.commit(a=1, b=2, c=3)
    assert_store_healthy(str(repo.path), repo.limits)
    for path in repo.packs():
        path.unlink()
    (repo.store_root / "cache.sqlite").unlink()
    kinds = [finding.kind for finding in fsck(repo).findings]
    assert set(kinds) == {"missing"}
    assert len(kinds) >= 2


@pytest.mark.parametrize("object_format", ["sha1", "sha256"])
def test_both_hashes_of_git_and_bare_repositories(tmp_path, make_repo, object_format):
    repo = make_repo(object_format=object_format)
    commit = repo.commit(a=1)
    bare = tmp_path / "bare.git"
    repo.git("clone", "--quiet", "--bare", str(repo.path), str(bare))
    shutil.copytree(repo.store_root, bare / "coral")
    assert assert_store_healthy(str(bare), repo.limits).restored == 1
    for path in (bare / "coral" / "objects" / "packs").iterdir():
        path.unlink()
    clone = make_repo("bare.git")
    assert (fsck(clone).findings, fsck(clone).elsewhere) == (
        [],
        2,
    )  # the repository it was cloned from has them
    clone.git("remote", "remove", "origin")
    findings = fsck(clone).findings
    assert {use.where.commit for finding in findings for use in finding.uses} == {commit}


def test_what_the_index_of_a_linked_work_tree_names_is_missed(repo, model, tmp_path, make_repo):
    repo.git("commit", "--quiet", "--allow-empty", "-m", "empty")
    repo.git("worktree", "add", "--quiet", "--detach", str(tmp_path / "linked"))
    linked = make_repo("linked")
    linked.add("m.safetensors", model({"a": 1}))
    assert linked.store_root == repo.store_root
    assert_store_healthy(str(repo.path), repo.limits)
    for path in repo.packs():
        path.unlink()
    findings = fsck(repo).findings
    assert {str(use.where) for finding in findings for use in finding.uses} == {"m.safetensors in the index"}
