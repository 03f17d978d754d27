"""Both searches for a cut find what the definition of the hash says."""

from __future__ import annotations

import contextlib
import subprocess
import sys

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from coral_git.formats.cuts import WINDOW, FindCut, load_finder
from coral_git.formats.gear import GEAR


def finders() -> list[FindCut]:
    found = [load_finder("numpy")]
    with contextlib.suppress(ImportError):
        found.append(load_finder("c"))
    return found


def slow_find(block: bytes, bound: int) -> int | None:
    """The definition: each window by itself."""
    gear = [int.from_bytes(GEAR[4 * n : 4 * n + 4], "little") for n in range(256)]
    for start in range(len(block) - WINDOW + 1):
        value = 0
        for byte in block[start : start + WINDOW]:
            value = (2 * value + gear[byte]) % (1 << 32)
        if value < bound:
            return start
    return None


bounds = st.integers(0, 32).map(lambda bits: (1 << bits) - 1)
blocks = st.binary(min_size=WINDOW, max_size=400) | st.tuples(
    st.binary(min_size=1, max_size=40), st.integers(WINDOW, 60)
).map(lambda pattern: pattern[0] * pattern[1])


@settings(max_examples=150, deadline=None)
@given(blocks, bounds)
@example(bytes(WINDOW), (1 << 32) - 1)
@example(b"\xff" * 100, 1 << 31)
def test_both_find_the_cut_of_the_definition(block: bytes, bound: int) -> None:
    expected = slow_find(block, bound)
    for find_cut in finders():
        assert find_cut(block, bound) == expected


@settings(max_examples=30, deadline=None)
@given(st.randoms(use_true_random=False), st.integers(WINDOW, 1 << 16), st.integers(8, 24))
def test_both_agree_on_long_blocks(random, length: int, bits: int) -> None:
    block = random.randbytes(length)
    assert len({find_cut(block, 1 << bits) for find_cut in finders()}) == 1


def test_a_search_may_be_used_for_blocks_of_any_order_of_length() -> None:
    for find_cut in finders():
        for length in (WINDOW, 5000, 40, 7000, WINDOW):
            block = bytes(n * n % 251 for n in range(length))
            assert find_cut(block, 1 << 25) == slow_find(block, 1 << 25)


def test_the_c_search_refuses_what_it_cannot_read() -> None:
    gear = pytest.importorskip("coral_git.formats._gear")
    with pytest.raises(ValueError, match="window"):
        gear.find_cut(bytes(WINDOW - 1), GEAR, 1)
    with pytest.raises(ValueError, match="256"):
        gear.find_cut(bytes(WINDOW), GEAR[:-1], 1)


@pytest.mark.parametrize(("name", "expected"), [("", "_gear"), ("numpy", "numpy")])
def test_which_search_is_picked(name: str, expected: str) -> None:
    if not name:
        pytest.importorskip("coral_git.formats._gear")
    code = f"""
import sys
from coral_git.formats.chunked import chunk_file
from coral_git.types import BytesSource
list(chunk_file(BytesSource(bytes(100_000))))
loaded = {{"numpy", "coral_git.formats._gear"}} & set(sys.modules)
sys.exit(not (len(loaded) == 1 and loaded.pop().endswith("{expected}")))
"""
    done = subprocess.run([sys.executable, "-P", "-c", code], env={"CORAL_KERNEL": name}, check=False)
    assert done.returncode == 0
