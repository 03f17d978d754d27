"""Ranks of changes that are known."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest

from coral_git.diff.figures import measure
from coral_git.diff.rank import MOST_RANK, RankFinder
from coral_git.types import DTYPES


@pytest.fixture
def rank_of(array):
    def find(old, new, dtype="F32"):
        before, after = array(old, dtype), array(new, dtype)
        return measure(before.entry, before.read, after.entry, after.read, False).rank

    return find


def weights(rows, columns, seed=0):
    return np.random.default_rng(seed).standard_normal((rows, columns)) * 0.02


def update(rank, rows, columns, size=1e-3, seed=1):
    """A matrix of this rank, whose singular values are alike."""
    random = np.random.default_rng(seed)
    return random.standard_normal((rows, rank)) @ random.standard_normal((rank, columns)) * size / rank**0.5


@pytest.mark.parametrize("rank", [1, 2, 3, 8, 16, 31, 48, MOST_RANK])
@pytest.mark.parametrize("shape", [(192, 160), (130, 700)])
def test_known_ranks_survive_rounding(rank_of, rank, shape):
    old = weights(*shape).astype(np.float32)
    new = (old + update(rank, *shape)).astype(np.float32)
    assert rank_of(old, new) == rank


@pytest.mark.parametrize(
    ("dtype", "kind", "size"), [("F64", "<f8", 1e-6), ("F32_BE", ">f4", 1e-3), ("F16", "<f2", 1e-2)]
)
def test_other_dtypes(rank_of, dtype, kind, size):
    old = weights(160, 192).astype(kind)
    new = (old.astype(np.float64) + update(5, 160, 192, size)).astype(kind)
    assert rank_of(old, new, dtype) == 5


def test_a_lora_that_was_merged(rank_of):
    """As peft does it: W + B A · alpha / r, in bfloat16, where the update is far above the rounding."""
    random = np.random.default_rng(3)
    old = weights(256, 256).astype(ml_dtypes.bfloat16)
    low, high = random.standard_normal((256, 8)) * 0.05, random.standard_normal((8, 256)) * 0.05
    new = (old.astype(np.float32) + (low @ high).astype(np.float32) * 2).astype(ml_dtypes.bfloat16)
    found = rank_of(old, new, "BF16")
    assert found is not None
    assert found <= 8


def test_what_has_no_low_rank(rank_of):
    old = weights(192, 160).astype(np.float32)
    random = np.random.default_rng(2)
    assert rank_of(old, old + random.standard_normal(old.shape).astype(np.float32) * 1e-3) is None
    assert rank_of(old, old + update(MOST_RANK + 6, *old.shape).astype(np.float32)) is None
    assert rank_of(old, old) is None
    small = old[:8, :8]
    assert rank_of(small, (small + update(5, 8, 8)).astype(np.float32)) is None
    assert rank_of(small, (small + update(3, 8, 8)).astype(np.float32)) == 3


def test_one_value_and_one_row(rank_of):
    old = weights(64, 64).astype(np.float32)
    new = old.copy()
    new[3, 4] += 1
    assert rank_of(old, new) == 1
    new = old.copy()
    new[7] *= 2
    assert rank_of(old, new) == 1
    new[9] *= 3
    assert rank_of(old, new) == 2


@pytest.mark.parametrize(
    ("shape", "dtype", "suits"),
    [
        ((4, 4), "F32", True),
        ((2, 1 << 18), "BF16", True),
        ((2, (1 << 18) + 1), "F32", False),
        ((1, 4), "F32", False),
        ((4, 1), "F32", False),
        ((16,), "F32", False),
        ((2, 2, 2), "F32", False),
        ((4, 4), "I32", False),
        ((4, 4), "F8_E4M3", False),
        ((4, 4), "F16_BE", True),
    ],
)
def test_what_it_suits(shape, dtype, suits):
    assert RankFinder.suits(shape, DTYPES[dtype]) is suits


def test_rows_may_come_in_any_pieces():
    delta = update(4, 50, 30).ravel()
    whole = RankFinder((50, 30), DTYPES["F64"])
    whole.add(delta)
    pieces = RankFinder((50, 30), DTYPES["F64"])
    for start in range(0, delta.size, 7):
        pieces.add(delta[start : start + 7])
    squares = float(delta @ delta)
    assert whole.rank(squares, 1.0) == pieces.rank(squares, 1.0) == 4
