"""``git coral deduplicate`` and ``repack``: bases for what had none, and chains that stay short."""

from __future__ import annotations

import json

import numpy as np
import pytest

RNG = np.random.default_rng(11)
BASE = RNG.standard_normal((400, 160)).astype(np.float32) * np.float32(0.02)


def tuned(steps):
    """The weights after some small steps."""
    values = BASE
    for _ in range(steps):
        values = values + RNG.standard_normal(values.shape).astype(np.float32) * np.float32(1e-6)
    return values


@pytest.fixture
def strangers(repo, safetensors):
    """Four files of one model that did not find each other when added; gives the repository and bytes."""
    repo.git("config", "coral.similarityThreshold", "1")
    files = {}
    for number in range(4):
        files[f"m{number}.safetensors"] = safetensors({f"w{number}": tuned(number), "same": BASE[:9]})
        name = f"m{number}__safetensors"
        repo.commit(str(number), **{name: files[f"m{number}.safetensors"]})
    repo.git("config", "--unset", "coral.similarityThreshold")
    assert depths(repo, files) == [0] * 4
    return repo, files


def depths(repo, files):
    """How many deltas each file's first tensor lies on."""
    found = []
    with repo.store() as store:
        for path in files:
            depth, one = (
                0,
                next(t for t in repo.manifest(f"HEAD:{path}").tensors if t.name != "same").objects[0],
            )
            while (base := store.locate(one).base) is not None:
                depth, one = depth + 1, base
            found.append(depth)
    return found


def check_out_all(repo, files):
    for path, data in files.items():
        (repo.path / path).unlink()
        repo.git("checkout", "-q", "HEAD", "--", path)
        assert repo.read(path) == data


def test_full_copies_become_differences(strangers, assert_healthy):
    repo, files = strangers
    packs = repo.packs()
    would = json.loads(repo.coral("deduplicate", "--dry-run", "--json"))
    assert repo.packs() == packs
    assert would["equal"] == {
        "files": 4,
        "parts": 8,
        "parts_bytes": 4 * (BASE.nbytes + BASE[:9].nbytes),
        "objects": 5,
        "objects_bytes": 4 * BASE.nbytes + BASE[:9].nbytes,
    }
    assert would["similar"]["rebased"] == 3
    said = repo.coral("deduplicate")
    assert "5 of them, 1.0 MB, are different" in said
    assert "3 full copies have become differences" in said
    assert would["similar"]["bytes_saved"] > BASE.nbytes
    found = depths(repo, files)
    assert sorted(found)[0] == 0
    assert all(0 < depth <= 4 for depth in sorted(found)[1:])
    assert "similar: nothing to gain" in repo.coral("deduplicate")
    check_out_all(repo, files)
    assert_healthy(repo)
    repo.coral("gc", "--prune", "now", "-q")
    check_out_all(repo, files)
    assert_healthy(repo)


def test_chains_are_cut_to_the_depth(repo, safetensors, assert_healthy):
    versions = {}
    for number in range(5):
        data = safetensors({"w": tuned(number)})
        repo.commit(str(number), m__safetensors=data)
        versions[f"HEAD~{4 - number}"] = data
    repo.coral("repack", "--depth", "1")
    with repo.store() as store:
        for revision in versions:
            one = repo.manifest(f"{revision}:m.safetensors").tensors[0].objects[0]
            base = store.locate(one).base
            assert base is None or store.locate(base).base is None
    for revision, data in versions.items():
        repo.git("checkout", "-q", revision, "--", "m.safetensors")
        assert repo.read("m.safetensors") == data
    assert_healthy(repo)


def test_a_base_in_a_damaged_pack_is_not_taken(strangers, assert_healthy):
    repo, files = strangers
    path = sorted((repo.common_dir() / "coral" / "objects" / "packs").glob("*.pack"))[0]
    whole = path.read_bytes()
    path.chmod(0o644)
    middle = len(whole) // 2
    path.write_bytes(whole[:middle] + bytes((whole[middle] ^ 1,)) + whole[middle + 1 :])
    done = repo.run("coral", "deduplicate")
    assert b"Traceback" not in done.stderr
    assert path.exists()
    path.write_bytes(whole)
    check_out_all(repo, files)
    assert_healthy(repo)


def test_an_empty_store_has_nothing_to_gain(repo):
    equal, similar = repo.coral("deduplicate").splitlines()
    assert equal.startswith("equal: 0 files name 0 tensors and chunks of 0 B")
    assert similar == "similar: nothing to gain"
