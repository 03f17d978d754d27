"""Means of the sides: average and weighted."""

from __future__ import annotations

import numpy as np
import pytest

from coral_git.errors import UsageError
from coral_git.merge.strategies.base import Parameters

from .memory import WEIGHTS, draw, in_memory, is_near, merge


@pytest.mark.parametrize("dtype", ["f4", "f8"])
@pytest.mark.parametrize("sides", [2, 3, 5])
def test_average(sides: int, dtype: str) -> None:
    versions = draw(sides, 333, sides, dtype)
    expected = np.mean([side.astype(np.float64) for side in versions.values], axis=0)
    assert is_near(merge("average", versions), expected, versions)


@pytest.mark.parametrize("dtype", ["f4", "f8"])
@pytest.mark.parametrize("sides", [2, 3, 5])
def test_weighted(sides: int, dtype: str) -> None:
    versions = draw(sides, 333, sides, dtype)
    expected = np.average(
        [side.astype(np.float64) for side in versions.values], axis=0, weights=WEIGHTS[:sides]
    )
    merged = merge("weighted", versions, Parameters(weights=WEIGHTS[:sides]))
    assert is_near(merged, expected, versions)


def test_alpha_is_the_share_of_ours() -> None:
    merged = merge("weighted", in_memory(None, [1.0, -8.0], [5.0, 8.0]), Parameters(alpha=0.75))
    assert merged.tolist() == [2.0, -4.0]


def test_more_sides_without_weights_count_alike() -> None:
    versions = draw(3, 100, 3)
    assert merge("weighted", versions).tobytes() == merge("average", versions).tobytes()


ODD = np.array([0x7F800001, 0x7FC12345, 0x80000000, 0x7F800000, 0x00000001, 0x3FC00000], np.uint32)


@pytest.mark.parametrize("alpha", [0.0, 1.0])
def test_all_of_one_side_is_that_side(alpha: float) -> None:
    odd, other = ODD.view(np.float32), np.full(6, np.inf, np.float32)
    sides = (odd, other) if alpha else (other, odd)
    assert merge("weighted", in_memory(None, *sides), Parameters(alpha=alpha)).tobytes() == odd.tobytes()


@pytest.mark.parametrize("sides", [2, 3, 4])
def test_a_value_that_all_sides_have_stays_bit_for_bit(sides: int) -> None:
    values = np.concatenate([ODD.view(np.float32), np.float32([1.1, 3e38, -3e38])])
    changed = [np.concatenate([values, np.float32([index])]) for index in range(sides)]
    merged = merge("average", in_memory(None, *changed))
    assert merged[:-1].tobytes() == values.tobytes()
    assert merged[-1] == np.float32((sides - 1) / 2)


@pytest.mark.parametrize("weights", [(0.0, 0.0), (2.0, -1.0), (1e308, 1e308)])
def test_weights_that_no_mean_has(weights: tuple[float, ...]) -> None:
    with pytest.raises(UsageError, match=r"^weights are "):
        merge("weighted", draw(1, 10), Parameters(weights=weights))
