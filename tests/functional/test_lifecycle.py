"""A model through its life: added, changed, looked at, checked out again."""

from __future__ import annotations

import sqlite3

import numpy as np
import pytest

from coral_git.types import ObjectId


def changed_tensors(diff: str) -> set[str]:
    """Names on the added and removed tensor lines of a diff."""
    lines = (line[1:].split() for line in diff.splitlines() if line[:1] in "+-")
    return {words[1] for words in lines if words[:1] == ["tensor"]}


@pytest.fixture
def two_versions(repo, model, tune, safetensors):
    """A repository with two commits of a model; gives it and the bytes of both."""
    first = model()
    second = tune(first, only={"layer.1.weight"})
    old, new = safetensors(first), safetensors(second)
    repo.commit("first", m__safetensors=old)
    repo.commit("second", m__safetensors=new)
    return repo, old, new


def test_git_shows_manifests_and_only_changed_tensors_differ(two_versions, assert_healthy):
    repo, _, _ = two_versions
    assert b"tensor layer.1.weight F32 48x48 " in repo.blob("HEAD:m.safetensors")
    assert len(repo.blob("HEAD:m.safetensors")) < 2000
    for command in (["diff", "HEAD~"], ["log", "-p", "-1"], ["show"]):
        assert changed_tensors(repo.git(*command)) == {"layer.1.weight"}
    assert repo.status() == ""
    assert_healthy(repo)


def test_a_hunk_is_headed_by_the_tensor_before_it(repo, model, tune, safetensors, assert_healthy):
    many = {f"block.{n:02}.weight": np.full((4, 4), n, np.float32) for n in range(40)}
    repo.commit("first", m__safetensors=safetensors(many))
    repo.commit("second", m__safetensors=safetensors(tune(many, only={"block.30.weight"})))
    assert "@@ tensor block.26.weight F32 4x4 " in repo.git("show")
    assert_healthy(repo)


def test_every_version_comes_back_byte_for_byte(two_versions, assert_healthy):
    repo, old, new = two_versions
    repo.git("checkout", "--quiet", "HEAD~")
    assert repo.read("m.safetensors") == old
    assert repo.status() == ""
    repo.git("checkout", "--quiet", "main")
    assert repo.read("m.safetensors") == new
    assert repo.status() == ""
    assert_healthy(repo)


def test_an_unchanged_file_adds_nothing(two_versions, assert_healthy):
    repo, old, new = two_versions
    packs = repo.packs()
    repo.write("copy.safetensors", new)
    repo.write("m.safetensors", old)
    repo.git("add", "--all")
    assert repo.packs() == packs
    assert repo.blob(":copy.safetensors") == repo.blob("HEAD:m.safetensors")
    assert repo.blob(":m.safetensors") == repo.blob("HEAD~:m.safetensors")
    assert_healthy(repo)


def pruned(tensors):
    return {
        **tensors,
        "embed.weight": np.where(np.abs(tensors["embed.weight"]) < 0.5, 0, tensors["embed.weight"]),
    }


def renamed(tensors):
    return {name.replace("layer.1", "layer.one"): value for name, value in tensors.items()}


def deeper(tensors):
    return {
        **tensors,
        "layer.3.weight": tensors["layer.0.weight"] * 2,
        "layer.3.bias": np.ones(48, np.float32),
    }


def grown(tensors):
    more = np.random.default_rng(9).standard_normal((5, 48), np.float32)
    return {**tensors, "embed.weight": np.concatenate([tensors["embed.weight"], more])}


def halved(tensors):
    return {**tensors, "embed.weight": tensors["embed.weight"].astype(np.float16)}


@pytest.mark.parametrize(
    ("change", "stored"),
    [
        (pruned, {"embed.weight"}),
        (renamed, set()),
        (deeper, {"layer.3.weight", "layer.3.bias"}),
        (grown, {"embed.weight"}),
        (halved, {"embed.weight"}),
    ],
)
def test_only_what_changed_is_stored(repo, model, safetensors, assert_healthy, change, stored):
    before = model()
    after = change(before)
    repo.commit("before", m__safetensors=safetensors(before))
    old = set(repo.packs())
    repo.commit("after", m__safetensors=safetensors(after))
    tensors = {tensor.name: tensor for tensor in repo.manifest("HEAD:m.safetensors").tensors}
    header = set(repo.manifest("HEAD:m.safetensors").rest) - repo.objects("HEAD~:m.safetensors")
    with repo.store() as store:
        fresh = [pack for pack in store.packs() if pack.id.hex() + ".pack" not in old]
        added = {one.object_id for pack in fresh for one in store.pack_objects(pack.id)}
    wanted = {one for name in stored for one in tensors[name].objects}
    assert added == wanted | header
    assert repo.read("m.safetensors") == safetensors(after)
    repo.git("checkout", "--quiet", "HEAD~")
    assert repo.read("m.safetensors") == safetensors(before)
    assert_healthy(repo)


def test_fine_tuned_tensors_are_deltas(repo, model, tune, safetensors, assert_healthy):
    tensors = model()
    for seed in range(4):
        repo.commit(f"step {seed}", m__safetensors=safetensors(tensors))
        tensors = tune(tensors, seed)
    manifest = repo.manifest("HEAD:m.safetensors")
    with repo.store() as store:
        for tensor in manifest.tensors:
            if tensor.name.endswith(".weight"):
                assert store.locate(ObjectId(tensor.objects[0])).base is not None, tensor.name
        assert store.depth(manifest.tensors[0].objects[0]) >= 2
    assert_healthy(repo)


def test_pruned_tensors_are_deltas(repo, model, safetensors, assert_healthy):
    before = model()
    repo.commit("before", m__safetensors=safetensors(before))
    repo.commit("after", m__safetensors=safetensors(pruned(before)))
    embed = repo.manifest("HEAD:m.safetensors").tensors[0]
    with repo.store() as store:
        assert store.locate(embed.objects[0]).base is not None
    assert_healthy(repo)


def test_equal_tensors_in_one_file_are_stored_once(repo, safetensors, assert_healthy):
    tied = np.random.default_rng(1).standard_normal((64, 64), np.float32)
    repo.commit("tied", m__safetensors=safetensors({"input": tied, "output": tied}))
    first, second = repo.manifest("HEAD:m.safetensors").tensors
    assert first.objects == second.objects
    with repo.store() as store:
        entries = [one.object_id for pack in store.packs() for one in store.pack_objects(pack.id)]
    assert len(entries) == len(set(entries)) == 2  # the tensor and the header
    repo.path.joinpath("m.safetensors").unlink()
    repo.git("checkout", "--", "m.safetensors")
    assert repo.read("m.safetensors") == safetensors({"input": tied, "output": tied})
    assert_healthy(repo)


def test_a_long_history_stays_readable(repo, safetensors, tune, assert_healthy):
    weights = {"w": np.random.default_rng(3).standard_normal((32, 32), np.float32)}
    versions = []
    for seed in range(11):
        versions.append(safetensors(weights))
        repo.commit(f"{seed}", m__safetensors=versions[-1])
        weights = tune(weights, seed)
    with repo.store() as store:
        depth = store.depth(repo.manifest("HEAD:m.safetensors").tensors[0].objects[0])
        assert depth <= store.limits.chain_depth
    for back in (10, 5, 0):
        repo.git("checkout", "--quiet", f"main~{back}")
        assert repo.read("m.safetensors") == versions[10 - back]
    assert_healthy(repo)


def test_a_base_that_lost_its_own_base_keeps_nothing_from_being_added(repo, model, tune, safetensors):
    """An interrupted fetch can leave a delta without its base; the next version is stored all the same."""
    tensors = model()
    repo.commit("first", m__safetensors=safetensors(tensors))
    packs = repo.path / ".git/coral/objects/packs"
    first = set(packs.iterdir())
    tensors = tune(tensors, 1)
    repo.commit("second", m__safetensors=safetensors(tensors))
    for file in first:
        file.unlink()
    newest = safetensors(tune(tensors, 2))
    repo.commit("third", m__safetensors=newest)
    (repo.path / "m.safetensors").unlink()
    repo.git("checkout", "--", "m.safetensors")
    assert repo.read("m.safetensors") == newest


def test_adding_again_what_is_stored_tells_gc_that_it_is_wanted(
    repo, model, safetensors, age, count_filters, assert_healthy
):
    repo.commit(m__safetensors=safetensors(model(0)))
    (pack,) = (repo.common_dir() / "coral" / "objects" / "packs").glob("*.pack")
    for trust in ("true", "false"):
        age(pack, seconds=3 * 86_400)
        old = pack.stat().st_mtime_ns
        repo.git("rm", "--cached", "-q", "m.safetensors")
        assert count_filters(repo, "-c", f"coral.trustStat={trust}", "add", "m.safetensors") == 1
        assert pack.stat().st_mtime_ns > old
    assert_healthy(repo)


def test_a_rotten_record_of_the_stat_cache_is_no_answer(repo, model, safetensors, assert_healthy):
    data = safetensors(model(0))
    repo.commit(m__safetensors=data)
    for text in (b"", b"garbage", repo.blob("HEAD:m.safetensors").replace(b"coral 1", b"coral 9")):
        connection = sqlite3.connect(repo.common_dir() / "coral" / "cache.sqlite")
        assert connection.execute("UPDATE stat SET manifest = ?", (text,)).rowcount == 1
        connection.commit()
        connection.close()
        repo.git("rm", "--cached", "-q", "m.safetensors")
        repo.git("add", "m.safetensors")
        assert repo.blob(":m.safetensors") == repo.blob("HEAD:m.safetensors")
    assert_healthy(repo)
