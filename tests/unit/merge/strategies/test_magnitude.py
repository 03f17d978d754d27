"""Ranks by magnitude are exact, for every bit pattern and any blocks."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from coral_git.merge.strategies.differences import differences
from coral_git.merge.strategies.magnitude import find_cuts, precede

from .memory import InMemory, with_block

PATTERNS = {
    width: st.lists(
        st.one_of(
            st.integers(0, (1 << width) - 1),
            st.sampled_from([0, 1 << width - 1, (0x7F80 if width == 32 else 0x7FF0) << width - 16, 1]),
        ),
        min_size=1,
        max_size=60,
    )
    for width in (32, 64)
}


def order_of(bits: np.ndarray) -> np.ndarray:
    width = bits.itemsize * 8
    magnitudes = [int(one) & ((1 << width - 1) - 1) for one in bits]
    return np.array(sorted(range(len(bits)), key=lambda index: (-magnitudes[index], index)))


@pytest.mark.parametrize("width", [32, 64])
@given(data=st.data(), block=st.sampled_from([1, 3, 100]))
@settings(max_examples=60, deadline=None)
def test_every_bit_pattern(width: int, data: st.DataObject, block: int) -> None:
    bits = np.array(data.draw(PATTERNS[width]), f"u{width // 8}")
    ranks = data.draw(st.lists(st.integers(0, len(bits) + 2), min_size=1, max_size=3))
    values = bits.view(f"f{width // 8}")
    versions = InMemory(np.zeros_like(values), (values, values[::-1].copy()), block)
    cuts = find_cuts(versions, ranks)
    (block_of_all,) = with_block(versions, len(bits)).blocks()
    for side, delta in enumerate(differences(block_of_all)):
        order = order_of(delta.view(bits.dtype))
        for rank, cut in zip(ranks, cuts[side], strict=True):
            parts = [
                precede(delta[start : start + block], start, cut) for start in range(0, len(bits), block)
            ]
            assert sorted(np.flatnonzero(np.concatenate(parts))) == sorted(order[:rank])


def test_many_values() -> None:
    rng = np.random.default_rng(1)
    values = rng.standard_normal(200_000).astype(np.float32)
    versions = InMemory(np.zeros_like(values), (values, np.abs(values) // 1), 30_000)
    for kept, cuts in [(n, find_cuts(versions, [n])) for n in (1, 1000, 100_000, 199_999)]:
        for side, (cut,) in zip(versions.values, cuts, strict=True):
            before = precede(side, 0, cut)
            assert before.sum() == kept
            assert np.abs(side[before]).min() >= np.abs(side[~before]).max()
