"""Sums of differences: task arithmetic, TIES and breadcrumbs, against the formulas of the papers."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from coral_git.merge.strategies.base import Parameters

from .memory import WEIGHTS, draw, elected, in_memory, is_near, merge, only, ranked, summed, with_block

SHARES = st.one_of(st.floats(0.001, 1), st.sampled_from([0.25, 0.5, 1.0]))
SEEDS = st.integers(0, 9999)
COUNTS = st.integers(1, 100)
SIDES = st.integers(2, 5)
DTYPES = st.sampled_from(["f4", "f8"])
NORMALIZE = st.sampled_from([None, True, False])


@given(SEEDS, COUNTS, SIDES, DTYPES, NORMALIZE)
@settings(max_examples=40, deadline=None)
def test_task_arithmetic(seed: int, count: int, sides: int, dtype: str, normalize: bool | None) -> None:
    versions = draw(seed, count, sides, dtype)
    weights = WEIGHTS[:sides]
    merged = merge("task-arithmetic", versions, Parameters(weights=weights, scale=0.75, normalize=normalize))
    assert is_near(
        merged, versions.base + 0.75 * summed(versions.deltas(), weights, bool(normalize)), versions
    )


def test_task_arithmetic_adds_what_both_learned() -> None:
    versions = in_memory([1.0, 1.0, 1.0], [2.0, 1.0, 2.0], [1.0, 4.0, 2.0])
    assert merge("task-arithmetic", versions).tolist() == [2.0, 4.0, 3.0]


def test_task_arithmetic_forgets_with_a_negative_weight() -> None:
    versions = in_memory([1.0, 1.0], [2.0, 1.0], [1.0, 4.0])
    assert merge("task-arithmetic", versions, Parameters(weights=(1.0, -1.0))).tolist() == [2.0, -2.0]


@pytest.mark.parametrize("normalize", [True, False])
def test_weights_that_cancel_each_other_divide_nothing(normalize: bool) -> None:
    versions = in_memory([0.0, 0.0], [1.0, 5.0], [2.0, 5.0])
    parameters = Parameters(weights=(1.0, -1.0), normalize=normalize)
    assert merge("task-arithmetic", versions, parameters).tolist() == [-1.0, 0.0]


@given(SEEDS, COUNTS, SIDES, DTYPES, NORMALIZE, SHARES, st.sampled_from([5, 64]))
@settings(max_examples=50, deadline=None)
def test_ties(
    seed: int, count: int, sides: int, dtype: str, normalize: bool | None, density: float, block: int
) -> None:
    versions = draw(seed, count, sides, dtype, block)
    weights = WEIGHTS[:sides]
    kept = max(1, int(density * count))
    deltas = [only(delta, ranked(delta)[:kept]) for delta in versions.deltas()]
    expected = versions.base + 0.75 * elected(deltas, weights, normalize is not False)
    parameters = Parameters(weights=weights, scale=0.75, density=density, normalize=normalize)
    assert is_near(merge("ties", versions, parameters), expected, versions)


def test_ties_elects_plus_where_the_sum_is_zero() -> None:
    versions = in_memory([0.0, 0.0, 0.0], [2.0, 1.0, -1.0], [-2.0, -3.0, 0.0])
    assert merge("ties", versions, Parameters(density=1.0)).tolist() == [2.0, -3.0, -1.0]


@pytest.mark.parametrize("name", ["ties", "breadcrumbs", "dare-ties", "dare-linear"])
@pytest.mark.parametrize("sides", [2, 3, 5])
def test_density_one_drops_nothing(name: str, sides: int) -> None:
    versions = draw(sides, 500, sides)
    whole = merge(name, versions, Parameters(density=1.0, gamma=0.3))
    election = name.endswith("ties")
    deltas, weights = versions.deltas(), [1.0] * sides
    moved = elected(deltas, weights, name == "ties") if election else summed(deltas, weights, False)
    assert is_near(whole, versions.base + moved, versions)


@given(SEEDS, COUNTS, SIDES, DTYPES, SHARES, st.floats(0, 0.99), st.sampled_from([5, 64]))
@settings(max_examples=50, deadline=None)
def test_breadcrumbs(
    seed: int, count: int, sides: int, dtype: str, density: float, gamma: float, block: int
) -> None:
    versions = draw(seed, count, sides, dtype, block)
    kept = int(density * count)
    smallest = max(0, count - kept - int(gamma * count))
    rising = [ranked(delta)[::-1] for delta in versions.deltas()]
    if density == 1:
        smallest, kept = 0, count
    deltas = [
        only(delta, order[smallest : smallest + kept])
        for delta, order in zip(versions.deltas(), rising, strict=True)
    ]
    expected = versions.base + 0.75 * summed(deltas, [1.0] * sides, False)
    merged = merge("breadcrumbs", versions, Parameters(scale=0.75, density=density, gamma=gamma))
    assert is_near(merged, expected, versions)


def test_breadcrumbs_drops_outliers_and_noise() -> None:
    versions = in_memory([0.0] * 10, [9.0, 1, 2, 3, 4, 5, 6, 7, 8, 0], [0.0] * 10)
    merged = merge("breadcrumbs", versions, Parameters(density=0.5, gamma=0.2))
    assert merged.tolist() == [0.0, 0, 0, 3, 4, 5, 6, 7, 0, 0]


def test_the_first_of_equal_changes_is_kept_in_any_blocks() -> None:
    versions = in_memory([0.0] * 9, [1.0, 3, 3, 3, 3, -3, 1, 1, 3], [0.0, 0, 0, 0, 0, 0, 0, 0, 5])
    for block in range(1, 10):
        merged = merge("ties", with_block(versions, block), Parameters(density=0.45))
        assert merged.tolist() == [1.0 * value for value in (0, 3, 3, 3, 3, 0, 0, 0, 5)]
