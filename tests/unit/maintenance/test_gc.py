import os
import time
from pathlib import Path

import pytest

from coral_git import fsops
from coral_git.errors import LockedError
from coral_git.limits import Limits
from coral_git.maintenance.gc import collect_garbage
from coral_git.maintenance.repair import repair_store
from coral_git.manifest.parse import parse
from coral_git.store.locks import exclusive_lock
from coral_git.testing.health import assert_store_healthy

DAY = 86_400


def gc(repo, **options):
    with repo.workspace() as workspace:
        return collect_garbage(workspace, **options)


@pytest.fixture
def amend(repo, model):
    """Replaces the last commit by one with another model, lets git forget the old one, gives what is dead."""

    def replace(**seeds):
        objects = repo.objects("HEAD:m.safetensors")
        repo.add("m.safetensors", model(seeds))
        repo.git("commit", "--quiet", "--amend", "-m", "other")
        repo.forget()
        return objects - repo.objects("HEAD:m.safetensors")

    return replace


def test_dead_packs_wait_in_the_trash_and_then_go(repo, amend):
    repo.commit(a=1, b=2)
    dead = amend(a=3, b=4)
    assert len(dead) == 2
    assert gc(repo).trashed == 0  # too young
    repo.age()
    report = gc(repo)
    assert (report.trashed, report.rewritten, report.deleted) == (0, 1, 0)  # the header lives on
    assert len(repo.trash()) == 1
    assert gc(repo, now=time.time() + 13 * DAY).deleted == 0
    later = gc(repo, now=time.time() + 15 * DAY)
    assert later.deleted == 1
    assert later.freed_bytes > 0
    assert repo.stored(dead) == set()


def test_prune_now_frees_at_once_and_keeps_what_lives(repo, amend):
    repo.commit(a=1, b=2)
    dead = amend(a=3, b=2)
    live = repo.objects("HEAD:m.safetensors")
    report = gc(repo, grace=0)
    assert report.freed_bytes > 0
    assert repo.stored(dead) == set()
    assert repo.stored(live) == live
    assert repo.trash() == []


def test_a_dry_run_changes_nothing(repo, amend):
    repo.commit(a=1, b=2)
    amend(a=3, b=4)
    repo.age()
    before = [(path, path.stat().st_mtime) for path in (*repo.packs(), *repo.trash())]
    report = gc(repo, dry_run=True)
    assert report.rewritten == 1
    assert [(path, path.stat().st_mtime) for path in (*repo.packs(), *repo.trash())] == before


def test_a_clock_in_the_future_or_the_past_removes_nothing(repo, amend):
    repo.commit(a=1)
    dead = amend(c=3)
    assert gc(repo, now=time.time() - 400 * DAY).trashed == 0
    for path in repo.packs():
        os.utime(path, (time.time() + 400 * DAY,) * 2)
    assert gc(repo, grace=0).trashed == 0
    assert repo.stored(dead) == dead


@pytest.mark.parametrize("where", ["stash", "reflog", "worktree", "index", "merge_head", "dangling"])
def test_what_only_git_remembers_is_kept(repo, model, tmp_path, where):
    first = repo.commit(a=1)
    if where == "stash":
        repo.add("m.safetensors", model({"a": 2}))
        tree = repo.git("write-tree")
        spec = repo.git("commit-tree", "-p", "HEAD", "-p", "HEAD", "-m", "WIP", tree)
        repo.git("stash", "store", "-m", "WIP", spec)
        spec += ":m.safetensors"
        repo.git("read-tree", "HEAD")
    elif where == "index":
        spec = repo.add("other.safetensors", model({"a": 2}))
    elif where == "dangling":
        spec = repo.blob(repo.clean("m.safetensors", model({"a": 2})))
    else:
        second = repo.commit(a=2)
        spec = f"{second}:m.safetensors"
        if where == "worktree":
            repo.git("worktree", "add", "--quiet", "--no-checkout", "--detach", str(tmp_path / "w"), second)
        repo.git("update-ref", "HEAD", first)
        if where == "merge_head":
            (repo.path / ".git" / "MERGE_HEAD").write_text(second + "\n")
        repo.git("read-tree", "HEAD")
        if where == "worktree":
            repo.git("reflog", "expire", "--expire=now", "--all")
    if where != "dangling":
        repo.git("gc", "--quiet", "--prune=now")
    objects = repo.objects(spec)
    repo.age()
    gc(repo, grace=0)
    assert repo.stored(objects) == objects


def test_trash_gives_back_what_is_named_again(repo, model, amend):
    repo.commit(a=1)
    dead = amend(a=3)
    repo.age()
    gc(repo)
    assert repo.trash()
    repo.add("m.safetensors", model({"a": 1}))
    assert repo.stored(dead) == dead
    gc(repo, now=time.time() + 20 * DAY)
    assert repo.stored(dead) == dead


def test_gc_itself_brings_back_what_was_named_after_it_was_thrown_away(repo, model, amend):
    repo.commit(a=1)
    text = repo.git("cat-file", "blob", "HEAD:m.safetensors") + "\n"
    dead = amend(c=3)
    repo.age()
    gc(repo)
    repo.stage("again.safetensors", text.encode())  # as a fetch of somebody's branch does
    report = gc(repo, now=time.time() + 20 * DAY)
    assert report.restored == 1
    assert repo.stored(dead) == dead


@pytest.mark.parametrize("moment", ["before", "after"])
def test_what_a_writer_reuses_meanwhile_stays(repo, model, moment):
    repo.commit("m.safetensors", a=1)
    repo.add("x.bin", b"x" * 500)
    dead_text = repo.git("cat-file", "blob", ":x.bin") + "\n"
    dead = repo.objects(":x.bin")
    repo.git("rm", "--quiet", "--cached", "x.bin")
    repo.forget()
    repo.age()
    reused = []

    def reuse(name, path):
        if name == ("mkdir" if moment == "before" else "rename") and "/trash" in path and not reused:
            fsops.set_fault_hook(None)
            reused.append(repo.clean("x.bin", b"x" * 500))

    fsops.set_fault_hook(reuse)
    report = gc(repo)
    fsops.set_fault_hook(None)
    assert reused == [dead_text.encode()]
    assert report.trashed == 0
    assert repo.trash() == []
    assert repo.stored(dead) == dead


def test_an_unreadable_table_keeps_everything(make_repo, model):
    repo = make_repo(limits=Limits(inline_tensors=2, table_lines=2, pack_target=64 << 10))
    repo.commit("m.safetensors", a=1, b=2, c=3)
    live = repo.objects("HEAD:m.safetensors")
    dead = repo.objects(repo.blob(repo.clean("x.bin", b"x" * 500)))
    repo.forget()
    with repo.workspace() as workspace:
        text = workspace.objects.blob(b"HEAD:m.safetensors")[1]
        table = parse(text, repo.limits).tables[0].object_id
        pack = workspace.store.locate(table).pack
    (path,) = [path for path in repo.packs() if path.stem == pack.hex()]
    hidden = repo.path / "hidden"
    path.rename(hidden)
    (repo.store_root / "cache.sqlite").unlink()
    report = gc(repo, grace=0)
    assert "manifest" in report.keep_all
    assert repo.stored(dead) == dead
    hidden.rename(path)
    assert gc(repo, grace=0).keep_all == ""
    assert repo.stored(live | dead) == live


def test_a_broken_manifest_keeps_what_it_names(repo, model):
    text = repo.clean("x.bin", b"x" * 500)
    objects = repo.objects(repo.blob(text))
    repo.stage("x.bin", text.replace(b"size 500", b"size 501"))
    repo.forget()
    assert gc(repo, grace=0).keep_all == ""
    assert repo.stored(objects) == objects


def test_a_manifest_of_a_newer_version_keeps_everything(repo):
    text = repo.clean("x.bin", b"x" * 500)
    objects = repo.objects(repo.blob(text))
    repo.forget()
    repo.stage("y.bin", text.replace(b"# coral 1: ", b"# coral 2: "))
    for _ in range(2):  # also when it has been seen before
        assert "version 2" in gc(repo, grace=0).keep_all
    assert repo.stored(objects) == objects


def test_a_pack_that_cannot_be_read_keeps_everything(repo, amend):
    repo.commit(a=1)
    dead = amend(a=3)
    assert repo.stored(dead) == dead
    victim = repo.packs()[0]
    for path in (victim, victim.with_suffix(".idx")):
        path.chmod(0o644)
        path.write_bytes(b"nothing" * 20)
    (repo.store_root / "cache.sqlite").unlink()
    count = len(repo.packs())
    assert "cannot be read" in gc(repo, grace=0).keep_all
    assert len(repo.packs()) == count


def test_a_shallow_and_a_partial_clone_keep_everything(repo, model, amend):
    repo.commit(a=1)
    dead = amend(a=3)
    repo.age()
    repo.git("config", "remote.origin.promisor", "true")
    assert "partial" in gc(repo, grace=0).keep_all
    repo.git("config", "--unset", "remote.origin.promisor")
    (repo.path / ".git" / "shallow").write_text(repo.git("rev-parse", "HEAD") + "\n")
    assert "shallow" in gc(repo, grace=0).keep_all
    assert repo.stored(dead) == dead
    (repo.path / ".git" / "shallow").unlink()
    gc(repo, grace=0)
    assert repo.stored(dead) == set()


def test_small_packs_are_merged_and_everything_is_still_there(repo):
    for seed in range(10):
        repo.commit(f"{seed}.safetensors", a=seed)
    live = set()
    for seed in range(10):
        live |= repo.objects(f"HEAD:{seed}.safetensors")
    report = gc(repo)
    assert report.merged == 10
    assert len(repo.packs()) == 1
    assert len(repo.trash()) == 10
    assert repo.stored(live) == live
    with repo.workspace() as workspace:
        assert [one for info in workspace.store.packs() for one in workspace.store.verify(info.id)] == []
    assert gc(repo).merged == 0
    assert gc(repo, now=time.time() + 15 * DAY).deleted == 10
    assert repo.stored(live) == live


def test_a_base_outlives_the_file_that_brought_it(repo, model):
    repo.commit(a=1)
    data = bytearray(model({"a": 1}))
    data[-1] ^= 1
    repo.add("m.safetensors", bytes(data))
    repo.git("commit", "--quiet", "--amend", "-m", "changed")
    repo.forget()
    repo.age()
    live = repo.objects("HEAD:m.safetensors")
    with repo.workspace() as workspace:
        chains = [workspace.store.chain(one) for one in live]
    assert any(len(chain) > 1 for chain in chains)
    gc(repo, grace=0)
    with repo.workspace() as workspace:
        for one in live:
            workspace.store.read(one, 1 << 20)


def test_leftovers_go_when_their_process_is_gone(repo):
    repo.commit(a=1)
    incoming = repo.store_root / "objects" / "incoming"
    dead, alive = incoming / "pack-999999999-1-00000000", incoming / f"pack-{os.getpid()}-1-00000000"
    young = incoming / "pack-999999998-1-00000000"
    folder = repo.store_root / "outgoing-999999999-1-00000000" / "objects"
    folder.mkdir(parents=True)
    (folder / "file").write_bytes(b"x" * 100)
    for path in (dead, alive, young):
        path.write_bytes(b"x" * 50)
    old = time.time() - 30 * DAY
    for path in (dead, alive, folder.parent):
        os.utime(path, (old, old))
    report = gc(repo)
    assert report.leftovers == 2
    assert report.freed_bytes == 150
    assert (dead.exists(), alive.exists(), young.exists(), folder.exists()) == (False, True, True, False)


def test_one_gc_at_a_time(repo):
    repo.commit(a=1)
    with repo.workspace() as workspace:
        with exclusive_lock(workspace.store.layout.lock, "tests"), pytest.raises(LockedError, match="tests"):
            collect_garbage(workspace)
        collect_garbage(workspace)


def test_the_last_good_copy_stays_in_the_trash_and_repair_brings_it_back(repo, flip):
    for seed in range(10):
        repo.commit(f"{seed}.safetensors", a=seed)
    assert gc(repo).merged == 10
    (merged,) = repo.packs()
    flip(merged, merged.stat().st_size - 20)  # in the last block
    report = gc(repo, now=time.time() + 15 * DAY)
    assert report.deleted == 9
    assert "last good copy" in report.warnings[0]
    assert len(repo.trash()) == 1
    with repo.workspace() as workspace:
        assert repair_store(workspace).findings == []
    assert_store_healthy(str(repo.path), repo.limits)


def test_a_damaged_copy_is_no_reason_to_drop_another_one(repo, flip):
    repo.commit(a=1)
    (small,) = repo.packs()
    with repo.workspace() as workspace:
        store = workspace.store
        locations = [one for info in store.packs() for one in store.pack_objects(info.id)]
        repo.clean("x.bin", b"x" * 500)
        everything = [one for info in store.packs() for one in store.pack_objects(info.id)]
        extra = [one for one in everything if one not in locations]
        with store.writer() as writer:
            for location in (*extra, *locations):
                writer.copy(location)
            (large,) = writer.finish()
        large_path = Path(store.layout.pack_path(large))
    repo.age()
    flip(large_path, large_path.stat().st_size - 20)
    report = gc(repo)
    assert "is damaged; no pack was removed" in report.warnings[0]
    assert small.exists()
    flip(large_path, large_path.stat().st_size - 20)
    repo.age()
    report = gc(repo)
    assert (report.warnings, report.trashed, report.rewritten) == ([], 2, 1)
    assert_store_healthy(str(repo.path), repo.limits)


def test_the_trash_is_kept_where_not_everything_is_known(repo, amend):
    repo.commit(a=1)
    amend(a=3)
    repo.age()
    gc(repo)
    assert len(repo.trash()) == 1
    (repo.path / ".git" / "shallow").write_text(repo.git("rev-parse", "HEAD") + "\n")
    assert gc(repo, now=time.time() + 20 * DAY).deleted == 0
    assert len(repo.trash()) == 1
