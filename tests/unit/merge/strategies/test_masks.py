"""Random masks, and what dare-linear and dare-ties make with them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from coral_git.merge.strategies.base import Parameters
from coral_git.merge.strategies.masks import mask_key, random_mask

from .memory import WEIGHTS, draw, elected, in_memory, is_near, merge, summed

NAMES = pytest.mark.parametrize("name", ["dare-linear", "dare-ties"])


def test_masks_are_the_same_for_ever() -> None:
    key = mask_key(42, "model.embed_tokens.weight", 1)
    assert key == KEY
    assert np.packbits(random_mask(key, 0, 128, 0.5)).tobytes().hex() == HALF
    assert np.packbits(random_mask(key, 10**12 + 3, 128, 0.1)).tobytes().hex() == TENTH


KEY = 99614003369991814875511377135715802967
HALF = "ee6425a89ec08737398e50f16a847a5d"
TENTH = "000028100100a1022000080100000200"


@given(st.integers(0, 1 << 40), st.integers(0, 50), st.integers(0, 50))
def test_parts_of_a_mask(start: int, first: int, second: int) -> None:
    key = mask_key(1, "w", 0)
    parts = [random_mask(key, start, first, 0.5), random_mask(key, start + first, second, 0.5)]
    assert np.concatenate(parts).tobytes() == random_mask(key, start, first + second, 0.5).tobytes()


@pytest.mark.parametrize("density", [0.01, 0.3, 0.5, 0.9])
def test_density(density: float) -> None:
    count = 1 << 18
    kept = int(random_mask(mask_key(7, "w", 0), 0, count, density).sum())
    assert abs(kept - density * count) < 6 * (count * density * (1 - density)) ** 0.5


def test_extreme_densities() -> None:
    key = mask_key(7, "w", 0)
    assert random_mask(key, 0, 1000, 1.0).all()
    assert not random_mask(key, 0, 1000, 1e-300).any()


def test_masks_differ_by_seed_name_and_side() -> None:
    keys = [mask_key(0, "w", 0), mask_key(1, "w", 0), mask_key(0, "v", 0), mask_key(0, "w", 1)]
    masks = [random_mask(key, 0, 4096, 0.5) for key in keys]
    for index, mask in enumerate(masks):
        for other in masks[:index]:
            assert 0.4 < (mask == other).mean() < 0.6


@NAMES
@pytest.mark.parametrize("dtype", ["f4", "f8"])
@pytest.mark.parametrize("sides", [2, 3, 5])
@pytest.mark.parametrize("normalize", [None, True])
def test_dare(name: str, dtype: str, sides: int, normalize: bool | None) -> None:
    versions = draw(sides, 999, sides, dtype)
    weights = WEIGHTS[:sides]
    parameters = Parameters(density=0.25, seed=3, weights=weights, scale=0.5, normalize=normalize)
    masks = [random_mask(mask_key(3, versions.name, side), 0, 999, 0.25) for side in range(sides)]
    deltas = [delta * mask / 0.25 for delta, mask in zip(versions.deltas(), masks, strict=True)]
    combine = elected if name == "dare-ties" else summed
    expected = versions.base + 0.5 * combine(deltas, weights, bool(normalize))
    assert is_near(merge(name, versions, parameters), expected, versions)


@NAMES
def test_dare_is_random_by_seed_and_tensor_alone(name: str) -> None:
    versions = draw(1, 500)
    plain = merge(name, versions, Parameters(seed=5)).tobytes()
    assert merge(name, versions, Parameters(seed=5)).tobytes() == plain
    assert merge(name, versions, Parameters(seed=6)).tobytes() != plain
    assert merge(name, replace(versions, name="other"), Parameters(seed=5)).tobytes() != plain


def test_dare_keeps_the_expected_value() -> None:
    count = 1 << 16
    versions = in_memory(np.zeros(count), np.ones(count), np.zeros(count))
    merged = merge("dare-linear", versions, Parameters(density=0.25))
    assert set(merged.tolist()) == {0.0, 4.0}
    assert abs(merged.mean() - 1) < 6 * (3 / count) ** 0.5
