"""Every write of add, gc and fetch fails once, or the process ends there; the store stays whole."""

import errno
import itertools
import os
import shutil
import time

import pytest

from coral_git import fsops
from coral_git.maintenance.fsck import check_store
from coral_git.maintenance.gc import collect_garbage
from coral_git.pipeline.clean import clean_content
from coral_git.pipeline.fetch import fetch_objects
from coral_git.pipeline.history import named_in_history
from coral_git.pipeline.inventory import Inventory
from coral_git.pipeline.push import push_objects
from coral_git.pipeline.stores import open_store
from coral_git.remotes.directory import create
from coral_git.testing.faults import count_operations, fail_each
from coral_git.testing.health import assert_store_healthy

DAY = 86_400
MODES = [
    {"mode": "error", "code": errno.EIO},
    {"mode": "error", "code": errno.ENOSPC},
    {"mode": "kill"},
]


@pytest.fixture
def copies(make_repo, tmp_path):
    """Makes a template repository once, and a copy of it for each run: ``copies(fill)`` gives ``prepare``."""

    def make(fill):
        template = make_repo("template")
        fill(template)
        numbers = itertools.count()

        def prepare():
            path = tmp_path / f"run-{next(numbers)}"
            shutil.copytree(template.path, path, symlinks=True)
            return make_repo(path.name)

        return prepare

    return make


@pytest.mark.parametrize("fault", MODES, ids=["eio", "enospc", "kill"])
def test_add(copies, model, fault):
    new = model({"a": 1, "b": 9})

    def add(repo):
        with repo.workspace() as workspace:
            return clean_content(workspace, b"m.safetensors", [new])

    def verify(repo, completed):
        assert_store_healthy(str(repo.path), repo.limits)
        repo.stage("m.safetensors", add(repo))
        assert assert_store_healthy(str(repo.path), repo.limits).manifests == 2

    prepare = copies(lambda repo: repo.commit(a=1, b=2))
    assert fail_each(add, prepare, verify, **fault) > 3


@pytest.mark.slow
@pytest.mark.parametrize("fault", MODES, ids=["eio", "enospc", "kill"])
def test_gc(copies, model, fault):
    """One pack is dead, one is mixed, eight are merged, and something was left over."""
    named = {}

    def fill(repo):
        repo.add("x.bin", b"x" * 300)
        repo.git("rm", "--quiet", "--cached", "x.bin")
        repo.commit(a=1, b=2)
        repo.add("m.safetensors", model({"a": 1, "b": 3}))
        repo.git("commit", "--quiet", "--amend", "-m", "other")
        repo.forget()
        for seed in range(8):
            repo.add(f"{seed}.safetensors", model({"c": 10 + seed}))
        repo.git("commit", "--quiet", "-m", "many")
        repo.forget()
        repo.age()
        for spec in ("m", *range(8)):
            named[spec] = repo.objects(f"HEAD:{spec}.safetensors")
        (repo.store_root / "objects" / "incoming" / "pack-999999999-1-00000000").write_bytes(b"x")

    def run(repo):
        with repo.workspace() as workspace:
            return collect_garbage(workspace, grace=0, now=time.time() + 60)

    live_count = []

    def verify(repo, completed):
        live = set().union(*named.values())
        assert repo.stored(live) == live
        assert_store_healthy(str(repo.path), repo.limits)
        run(repo)
        assert repo.stored(live) == live
        assert (repo.trash(), repo.incoming()) == ([], [])
        assert len(repo.packs()) <= 3
        live_count.append(len(live))
        if completed:
            assert_store_healthy(str(repo.path), repo.limits)

    assert fail_each(run, copies(fill), verify, **fault) > 7
    assert set(live_count) == {len(set().union(*named.values()))}


@pytest.mark.parametrize("fault", MODES, ids=["eio", "enospc", "kill"])
def test_fetch(copies, tmp_path, fault):
    remote = str(tmp_path / "remote")
    wanted = set()

    def fill(repo):
        create(remote)
        repo.git("config", "coral.remote.backup.url", remote)
        repo.commit(a=1, b=2)
        repo.commit(a=1, b=3)
        wanted.update(repo.objects("HEAD:m.safetensors") | repo.objects("HEAD~:m.safetensors"))
        with repo.workspace() as workspace:
            push_objects(
                workspace,
                Inventory(workspace, open_store(workspace, "backup")),
                named_in_history(workspace, ["HEAD"]),
            )
        shutil.rmtree(repo.store_root)

    def fetch(repo):
        with repo.workspace() as workspace:
            return fetch_objects(workspace, wanted, quiet=True)

    def verify(repo, completed):
        with repo.workspace() as workspace:
            assert {finding.kind for finding in check_store(workspace).findings} <= {"missing", "base"}
        assert fetch(repo) == []
        assert assert_store_healthy(str(repo.path), repo.limits).restored == 2

    assert fail_each(fetch, copies(fill), verify, **fault) > 5


def test_counting(tmp_path):
    def write():
        fsops.replace_file(str(tmp_path / "file"), b"text")

    assert count_operations(write) == 4
    assert (tmp_path / "file").read_bytes() == b"text"


def test_a_fault_that_is_not_survived_is_reported(tmp_path):
    def careless(path):
        os.truncate(path, 0)
        with open(path, "r+b") as file:
            fsops.write_all(file.fileno(), b"new", str(path))

    def prepare():
        (tmp_path / "file").write_bytes(b"old")
        return tmp_path / "file"

    def verify(path, completed):
        assert path.read_bytes() == (b"new" if completed else b"old")

    for mode in ("error", "kill"):
        with pytest.raises(AssertionError):
            fail_each(careless, prepare, verify, mode=mode)
