"""Strategies that measure angles: slerp and model stock."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from coral_git.merge.strategies.angles import cosine, inner_products
from coral_git.merge.strategies.base import Parameters
from coral_git.merge.strategies.model_stock import interpolation_ratio

from .memory import InMemory, draw, in_memory, is_near, merge, with_block


def angle_between(first: np.ndarray, second: np.ndarray) -> float:
    return float(np.arccos(first @ second / np.linalg.norm(first) / np.linalg.norm(second)))


# Inner products


@given(st.integers(0, 99), st.integers(0, 9000), st.integers(1000, 9000))
@settings(max_examples=20, deadline=None)
def test_inner_products_do_not_depend_on_blocks(seed: int, count: int, block: int) -> None:
    rng = np.random.default_rng(seed)
    versions = InMemory(None, tuple(rng.standard_normal((3, count)).astype(np.float32)), block)
    products = inner_products(versions, lambda part: part.sides)
    assert products == inner_products(with_block(versions, 1 << 18), lambda part: part.sides)
    wide = np.array(versions.values, np.float64)
    if count:
        np.testing.assert_allclose(products, wide @ wide.T, rtol=1e-12, atol=1e-9)


def test_odd_values_do_not_count() -> None:
    versions = in_memory(None, [1.0, np.nan, 2.0, 3.0], [1.0, 5.0, np.inf, -1.0])
    products = inner_products(versions, lambda part: part.sides)
    assert products == [[14.0, -2.0], [-2.0, 27.0]]


def test_products_beyond_all_numbers_say_nothing() -> None:
    assert cosine([[1e300, 1e308], [1e308, 1.0]], 0, 1) == 1.0
    assert cosine([[float("inf"), float("inf")], [float("inf"), 1.0]], 0, 1) == 0.0
    assert cosine([[0.0, 0.0], [0.0, 1.0]], 0, 1) == 0.0


# Slerp


@pytest.mark.parametrize("dtype", ["f4", "f8"])
@pytest.mark.parametrize("alpha", [0.0, 0.1, 0.5, 0.9, 1.0])
def test_slerp(alpha: float, dtype: str) -> None:
    rng = np.random.default_rng(1)
    versions = InMemory(None, tuple(rng.standard_normal((2, 5000)).astype(dtype)), 999)
    ours, theirs = (side.astype(np.float64) for side in versions.values)
    angle = angle_between(ours, theirs)
    expected = (np.sin(alpha * angle) * ours + np.sin((1 - alpha) * angle) * theirs) / np.sin(angle)
    assert is_near(merge("slerp", versions, Parameters(alpha=alpha)), expected, versions)


@pytest.mark.parametrize("opposite", [1, -1])
@pytest.mark.parametrize("alpha", [0.0, 0.25, 1.0])
def test_slerp_of_nearly_collinear_tensors_is_linear(alpha: float, opposite: int) -> None:
    near = draw(1, 400)
    versions = InMemory(None, (near.values[0], opposite * near.values[0] + np.float32(0.01)))
    merged = merge("slerp", versions, Parameters(alpha=alpha))
    assert merged.tobytes() == merge("weighted", versions, Parameters(alpha=alpha)).tobytes()


@pytest.mark.parametrize("alpha", [0.0, 1.0])
def test_slerp_with_all_of_one_side_is_that_side(alpha: float) -> None:
    odd = np.array([0x7F800001, 0x7FC12345, 0x80000000, 0x3F800000], np.uint32).view(np.float32)
    other = np.float32([1.0, 2.0, np.inf, 0.5])
    sides = (odd, other) if alpha else (other, odd)
    assert merge("slerp", in_memory(None, *sides), Parameters(alpha=alpha)).tobytes() == odd.tobytes()


def test_slerp_keeps_the_length_on_the_arc() -> None:
    merged = merge("slerp", in_memory(None, [1.0, 0.0], [0.0, 1.0]))
    np.testing.assert_allclose(merged, [0.5**0.5, 0.5**0.5], rtol=1e-6)


@pytest.mark.parametrize("tiny", [0.0, 2e-9])
def test_slerp_counts_what_has_no_length_as_orthogonal(tiny: float) -> None:
    merged = merge("slerp", in_memory(None, [2 * tiny, tiny], [4.0, 2.0]), Parameters(alpha=2 / 3))
    np.testing.assert_allclose(merged, [2.0, 1.0], rtol=1e-6)


# Model stock


@pytest.mark.parametrize("dtype", ["f4", "f8"])
@pytest.mark.parametrize("sides", [2, 3, 4, 5])
def test_model_stock(sides: int, dtype: str) -> None:
    rng = np.random.default_rng(sides)
    base = rng.standard_normal(3000)
    shared = rng.standard_normal(3000)
    values = tuple((base + shared + rng.standard_normal(3000)).astype(dtype) for _ in range(sides))
    versions = InMemory(base.astype(dtype), values, 1000)
    pairs = combinations(versions.deltas(), 2)
    mean = np.mean([np.cos(angle_between(first, second)) for first, second in pairs])
    ratio = sides * mean / (1 + (sides - 1) * mean)
    average = np.mean([side.astype(np.float64) for side in versions.values], axis=0)
    expected = ratio * average + (1 - ratio) * versions.base.astype(np.float64)
    assert 0.5 < ratio < 1
    assert is_near(merge("model-stock", versions), expected, versions)


def test_model_stock_takes_the_mean_of_sides_that_agree() -> None:
    assert merge("model-stock", in_memory([1.0, 1.0], [3.0, 3.0], [2.0, 2.0])).tolist() == [2.5, 2.5]


def test_model_stock_keeps_the_base_between_orthogonal_sides() -> None:
    assert merge("model-stock", in_memory([1.0, 1.0], [3.0, 1.0], [1.0, 9.0])).tolist() == [1.0, 1.0]


def test_model_stock_does_not_depend_on_how_far_the_sides_went() -> None:
    small, large = (in_memory([0.0] * 3, [size, 0, 0], [size, size, 0]) for size in (1e-9, 1.0))
    np.testing.assert_allclose(merge("model-stock", small), merge("model-stock", large) * 1e-9, rtol=1e-6)


@pytest.mark.parametrize("sides", [2, 3, 5])
def test_model_stock_where_only_some_sides_moved(sides: int) -> None:
    still = [[1.0, 1.0]] * (sides - 1)
    assert merge("model-stock", in_memory([1.0, 1.0], [3.0, 3.0], *still)).tolist() == [1.0, 1.0]


def test_sides_that_contradict_each_other_have_no_share() -> None:
    assert interpolation_ratio(2, -1.0) == 0.0
    assert interpolation_ratio(3, -0.5) == 0.0
    assert interpolation_ratio(2, 0.5) == pytest.approx(2 / 3)
    assert merge("model-stock", in_memory([0.0, 0.0], [1.0, 1.0], [-1.0, -1.0])).tolist() == [0.0, 0.0]
