"""Equal and similar tensors are found, and every one comes back bit for bit."""

from __future__ import annotations

import doctest
import json

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from coral_git import Deduplicator, DeltaConfig, WeightTensor
from coral_git.api import deduplicator
from coral_git.errors import UsageError


def test_the_example():
    done = doctest.testmod(deduplicator)
    assert (done.failed, done.attempted > 5) == (0, True)


def test_groups_and_numbers():
    random = np.random.default_rng(0)
    base = random.standard_normal(5000, np.float32)
    weights = {
        "base": base,
        "copy": base.copy(),
        "tuned": base + np.float32(1e-4) * random.standard_normal(5000, np.float32),
        "other": random.standard_normal(5000, np.float32),
        "shaped": base.reshape(50, 100),
        "double": base.astype(np.float64),
        "small": np.ones(3, np.float32),
        "small again": np.float32(1.01) * np.ones(3, np.float32),
        "zeros": np.zeros(5000, np.float32),
        "nothing": np.zeros((0, 3), np.float32),
    }
    found = Deduplicator()
    hashes = {name: found.add_weight(WeightTensor(value, name)) for name, value in weights.items()}
    assert hashes["base"] == hashes["copy"] == hashes["tuned"]
    assert [name for name in weights if found.is_delta_encoded(name)] == ["tuned"]
    for name, value in weights.items():
        back = found.get_weight_by_name(name)
        assert (back.name, back.shape, back.data.tobytes()) == (name, value.shape, value.tobytes())
    stats = found.compute_stats()
    assert (stats.total_weights, stats.unique_weights) == (10, 8)
    assert (stats.duplicate_weights, stats.similar_weights) == (1, 1)
    assert 0.6 < stats.compression_ratio < 0.9
    report = json.loads(json.dumps(found.get_deduplication_report()))
    assert report["groups"][0]["duplicates"] == ["copy"]
    assert list(report["groups"][0]["similar"]) == ["tuned"]
    assert found.get_weight_group("tuned").total_count == 3
    assert found.get_weight_by_name("gone") is None
    with pytest.raises(UsageError, match="there is a tensor 'base' already"):
        found.add_weight(WeightTensor(base, "base"))
    found.clear()
    assert found.compute_stats().compression_ratio == 1.0


@given(st.lists(st.integers(0, 4), min_size=1, max_size=12), st.booleans())
def test_every_tensor_comes_back(kinds, encode):
    found = Deduplicator(delta_config=DeltaConfig(min_weight_size=1), enable_delta_encoding=encode)
    values = [np.linspace(-1, 1, 700, dtype=np.float32) * np.float32(1 + kind * 1e-3) for kind in kinds]
    for number, value in enumerate(values):
        found.add_weight(WeightTensor(value, str(number)))
    for number, value in enumerate(values):
        assert found.get_weight_by_name(str(number)).data.tobytes() == value.tobytes()
    stats = found.compute_stats()
    assert stats.total_weights == stats.unique_weights + stats.duplicate_weights + stats.similar_weights
    assert encode or not stats.similar_weights


def test_a_threshold_is_a_cosine():
    with pytest.raises(UsageError, match="bad similarity_threshold"):
        Deduplicator(1.5)


def test_arrays_and_numbers_of_differences():
    base = np.random.default_rng(0).standard_normal(5000, np.float32)
    found = Deduplicator()
    first = found.add_weight(base, "base")
    assert found.get_compression_stats()["delta_stats"]["delta_compression_ratio"] == 1.0
    assert found.add_weight(torch.from_numpy(base * np.float32(1.001)), "tuned") == first
    assert found.add_weight(base.copy(), "again") == first
    stats = json.loads(json.dumps(found.get_compression_stats()))
    delta = found.get_delta_by_name("tuned")
    assert stats["delta_stats"] == {
        "total_deltas": 1,
        "total_delta_size": delta.nbytes,
        "original_delta_size": base.nbytes,
        "delta_compression_ratio": delta.compression_ratio,
    }
    group = found.get_weight_group("tuned")
    assert group.deltas == {"tuned": delta}
    assert group.bytes_saved == stats["bytes_saved"] == 2 * base.nbytes - delta.nbytes
