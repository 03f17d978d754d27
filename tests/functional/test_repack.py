"""``git coral repack``: the same objects in less space."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import shutil

import numpy as np
import pytest

from coral_git import fsops
from coral_git.errors import StorageFullError
from coral_git.maintenance.repack import repack
from coral_git.pipeline.workspace import Workspace
from coral_git.testing.health import assert_store_healthy


@pytest.fixture
def history(repo, safetensors):
    """A repository with four versions of a model of half-precision weights; gives it and their bytes."""
    draw = np.random.default_rng(0)
    weights = draw.standard_normal(60_000).astype(np.float32) / 40
    versions = []
    for _ in range(4):
        weights = weights + draw.standard_normal(60_000).astype(np.float32) * 2e-5
        data = safetensors({"w": weights.astype(np.float16), "ids": np.arange(50, dtype=np.int64)})
        versions.append(data)
        repo.commit(m__safetensors=data)
    return repo, versions


def read_all(repo, versions):
    for age, data in enumerate(reversed(versions)):
        repo.git("checkout", "-q", f"main~{age}", "--", "m.safetensors")
        assert repo.read("m.safetensors") == data


def stored(repo):
    folder = repo.common_dir() / "coral" / "objects" / "packs"
    return sum(path.stat().st_size for path in folder.glob("*.pack"))


def test_differences_get_smaller_and_every_version_comes_back(history, assert_healthy):
    repo, versions = history
    before, packs = stored(repo), repo.packs()
    would = json.loads(repo.coral("repack", "--dry-run", "--json"))
    assert would["rewritten"] == 3
    assert (stored(repo), repo.packs()) == (before, packs)
    said = repo.coral("repack")
    assert "3 objects in 3 of 4 packs are now encoded anew, 0 of them with another base" in said
    assert before - stored(repo) == would["bytes_saved"] > 0.05 * would["bytes_before"]
    with repo.store() as store:
        codecs = {store.locate(one).codec for one in repo.objects("HEAD:m.safetensors")}
    assert 5 in codecs
    assert repo.coral("repack") == "nothing to gain"
    assert repo.coral("fsck", "-q") == ""
    read_all(repo, versions)
    assert_healthy(repo)
    repo.coral("gc", "--prune", "now", "-q")
    read_all(repo, versions)
    assert_healthy(repo)


def test_half_precision_in_float32_is_sorted_with_other_16_bit_floats(repo, safetensors, assert_healthy):
    draw = np.random.default_rng(1)
    weights = draw.standard_normal(60_000).astype(np.float32) / 40
    versions = []
    for _ in range(3):
        weights = weights + draw.standard_normal(60_000).astype(np.float32) * 2e-5
        versions.append(safetensors({"w": weights.astype(np.float16).astype(np.float32)}))
        repo.commit(m__safetensors=versions[-1])
    before = stored(repo)
    assert "2 objects in 2 of 3 packs" in repo.coral("repack", "--profile", "balanced")
    assert stored(repo) < 0.95 * before
    with repo.store() as store:
        assert 12 in {store.locate(one).codec for one in repo.objects("HEAD:m.safetensors")}
    assert repo.coral("repack", "--profile", "balanced") == "nothing to gain"
    read_all(repo, versions)
    assert_healthy(repo)


def test_full_copies_and_integers_have_nothing_to_gain(repo, safetensors, assert_healthy):
    values = np.random.default_rng(0).integers(0, 1 << 30, 20_000)
    repo.commit(m__safetensors=safetensors({"w": values}))
    repo.commit(m__safetensors=safetensors({"w": values + 1}))
    assert repo.coral("repack", "--profile", "best") == "nothing to gain"
    assert_healthy(repo)


def test_a_damaged_pack_stays_as_it_is(history, assert_healthy):
    repo, versions = history
    folder = repo.common_dir() / "coral" / "objects" / "packs"
    with repo.store() as store:
        (newest,) = {store.locate(one).pack for one in repo.manifest("HEAD:m.safetensors").tensors[0].objects}
    path = folder / f"{newest.hex()}.pack"
    whole = path.read_bytes()
    path.chmod(0o644)
    path.write_bytes(whole[:2000] + bytes((whole[2000] ^ 1,)) + whole[2001:])
    done = repo.run("coral", "repack")
    assert f"pack '{newest.hex()}' stays as it is".encode() in done.stderr
    assert b"2 of 4 packs" in done.stdout
    assert path.exists()
    path.write_bytes(whole)
    read_all(repo, versions)
    assert_healthy(repo)


class _Failing:
    """Fails the n-th operation that changes the disk."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.count = 0

    def __call__(self, name: str, path: str) -> None:
        self.count += 1
        if self.count == self.number:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@pytest.mark.slow
def test_what_a_failing_operation_leaves_is_whole(history, tmp_path, assert_healthy, monkeypatch):
    repo, versions = history
    monkeypatch.chdir(repo.path)
    store = repo.common_dir() / "coral"
    shutil.copytree(store, tmp_path / "before")
    for number in range(1, 500):
        shutil.rmtree(store)
        shutil.copytree(tmp_path / "before", store)
        failing = _Failing(number)
        workspace = Workspace.open()
        fsops.set_fault_hook(failing)
        try:
            with contextlib.suppress(StorageFullError):
                repack(workspace)
        finally:
            fsops.set_fault_hook(None)
            workspace.close()
        assert_store_healthy(str(repo.path))
        if number % 7 == 0 or failing.count < number:
            read_all(repo, versions)
            assert repo.coral("repack", "-q") == ""
            assert_healthy(repo)
        if failing.count < number:
            break
    assert 30 < number < 499
