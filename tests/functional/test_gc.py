"""``git coral gc``: what git still knows stays, the rest goes."""

from __future__ import annotations

import json
import os

import numpy as np
import pytest

DAY = 86_400


@pytest.fixture
def version(safetensors):
    """A model that differs from every other version: ``version(seed)``."""
    return lambda seed: safetensors({"w": np.random.default_rng(seed).standard_normal((16, 16), np.float32)})


def make_old(repo, days=30):
    folder = repo.common_dir() / "coral" / "objects" / "packs"
    for path in folder.glob("*.pack"):
        old = path.stat().st_mtime - days * DAY
        os.utime(path, (old, old))


def trashed(repo):
    return sorted((repo.common_dir() / "coral" / "trash").glob("*/*.pack"))


def test_everything_that_git_can_still_name_is_kept(repo, version, tmp_path, at, assert_healthy):
    versions = {name: version(seed) for seed, name in enumerate(("base", "reflog", "tree", "stash", "index"))}
    repo.commit("base", m__safetensors=versions["base"])
    repo.git("branch", "base")
    in_reflog = repo.commit("will be reset", m__safetensors=versions["reflog"])
    repo.git("reset", "--quiet", "--hard", "base")
    repo.git("worktree", "add", "--quiet", "--detach", tmp_path / "linked")
    linked = at(tmp_path / "linked")
    linked.commit("on a detached head", m__safetensors=versions["tree"])
    repo.write("m.safetensors", versions["stash"])
    repo.git("stash", "--quiet")
    repo.git("checkout", "--quiet", "-b", "side", "base")
    repo.commit("side", other__safetensors=versions["base"])
    repo.git("checkout", "--quiet", "main")
    repo.git("merge", "--quiet", "--no-commit", "--no-ff", "side")
    repo.git("branch", "--quiet", "-D", "side")
    repo.write("m.safetensors", versions["index"])
    repo.git("add", "m.safetensors")
    make_old(repo)
    repo.coral("gc", "--prune", "now", "-q")
    repo.coral("fsck", "-q")
    assert_healthy(repo)
    assert repo.git("rev-parse", "MERGE_HEAD")
    assert repo.objects(":m.safetensors") == repo.objects(repo.git("hash-object", "m.safetensors"))
    repo.git("checkout", "--quiet", "--force", in_reflog)
    assert repo.read("m.safetensors") == versions["reflog"]
    linked.git("checkout", "--quiet", "base")
    linked.git("checkout", "--quiet", "-")
    assert linked.read("m.safetensors") == versions["tree"]
    repo.git("checkout", "--quiet", "--force", "main")
    repo.git("stash", "pop", "--quiet")
    assert repo.read("m.safetensors") == versions["stash"]


def test_the_rest_waits_in_the_trash_and_then_goes(repo, version, assert_healthy):
    repo.commit("first", m__safetensors=version(1))
    repo.write("m.bin", version(2))
    repo.git("add", "m.bin")
    repo.git("rm", "--quiet", "--cached", "m.bin")
    (repo.path / "m.bin").unlink()
    repo.git("gc", "--quiet", "--prune=now")
    assert json.loads(repo.coral("gc", "--json"))["trashed"] == 0
    make_old(repo)
    would = json.loads(repo.coral("gc", "--json", "--dry-run"))
    assert (would["trashed"], would["dry_run"], trashed(repo)) == (1, True, [])
    assert "moved 1 pack" in repo.coral("gc")
    (pack,) = trashed(repo)
    repo.commit("it is wanted again", m__bin=version(2))
    assert trashed(repo) == []
    assert pack.name in repo.packs()
    assert_healthy(repo)


def test_prune_now_gives_the_space_back(repo, version, assert_healthy):
    repo.commit("first", m__safetensors=version(1))
    repo.write("m.bin", version(2))
    repo.git("add", "m.bin")
    repo.git("rm", "--quiet", "--cached", "m.bin")
    repo.git("gc", "--quiet", "--prune=now")
    report = json.loads(repo.coral("gc", "--prune", "now", "--json"))
    assert report["freed_bytes"] > 1000
    assert (len(repo.packs()), trashed(repo)) == (1, [])
    assert repo.run("coral", "gc", "--prune", "soon", code=2).stderr.startswith(b"error: bad age 'soon'")
    assert_healthy(repo)
