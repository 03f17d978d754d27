"""Checkpoints in several files: a tensor that moves to another one is found and not stored again."""

from __future__ import annotations

import json

import numpy as np

RNG = np.random.default_rng(3)
MODEL = {f"layer.{number}": RNG.standard_normal((64, 64)).astype(np.float32) for number in range(9)}


def shards(safetensors, count):
    """The files of a checkpoint in ``count`` shards, as other programs name them."""
    groups = np.array_split(sorted(MODEL), count)
    names = [f"model-{number:05}-of-{count:05}.safetensors" for number in range(1, count + 1)]
    files = {
        name: safetensors({tensor: MODEL[tensor] for tensor in group})
        for name, group in zip(names, groups, strict=True)
    }
    weight_map = {
        tensor: name for name, group in zip(names, groups, strict=True) for tensor in map(str, group)
    }
    files["model.safetensors.index.json"] = json.dumps({"weight_map": weight_map}).encode()
    return files


def test_a_tensor_in_another_shard_is_the_same_object(repo, safetensors, assert_healthy):
    two, three = shards(safetensors, 2), shards(safetensors, 3)
    for name, data in two.items():
        repo.write(name, data)
    repo.git("add", ".")
    repo.commit("two")
    stored = set().union(*(repo.objects(f"HEAD:{name}") for name in two if name.endswith(".safetensors")))
    for name in two:
        (repo.path / name).unlink()
    for name, data in three.items():
        repo.write(name, data)
    repo.git("add", "-A")
    repo.commit("three")
    found = [repo.manifest(f"HEAD:{name}") for name in three if name.endswith(".safetensors")]
    tensors = {tensor.name: tensor.objects for manifest in found for tensor in manifest.tensors}
    assert set(tensors) == set(MODEL)
    assert stored.issuperset(one for objects in tensors.values() for one in objects)
    repo.git("checkout", "-q", "HEAD~1")
    assert all(repo.read(name) == data for name, data in two.items())
    repo.git("checkout", "-q", "main")
    assert all(repo.read(name) == data for name, data in three.items())
    assert_healthy(repo)
