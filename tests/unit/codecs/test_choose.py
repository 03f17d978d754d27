from __future__ import annotations

import random
import struct
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coral_git.codecs.choose import choose_codec, sample, sample_ranges
from coral_git.types import Element

RNG = random.Random(11)
WEIGHTS = struct.pack("<100000f", *(RNG.gauss(0, 0.02) for _ in range(100_000)))
TUNED = struct.pack("<100000f", *(w * (1 + RNG.gauss(0, 1e-4)) for (w,) in struct.iter_unpack("<f", WEIGHTS)))
OTHER = struct.pack("<100000f", *(RNG.gauss(0, 0.02) for _ in range(100_000)))


def sampled(data: bytes, element: Element, length: int | None = None, offset: int = 0) -> bytes:
    return sample(
        lambda at, count: data[at : at + count], len(data) if length is None else length, element, offset
    )


@pytest.mark.parametrize(
    ("element", "raw", "base", "expected"),
    [
        (Element.F32, TUNED, WEIGHTS, 4),
        (Element.F32, TUNED, OTHER, 3),
        (Element.F32, TUNED, None, 3),
        (Element.F32, WEIGHTS, WEIGHTS, 4),
        (Element.F32, bytes(400_000), bytes(400_000), 3),
        (Element.BYTES, TUNED, TUNED, 2),
        (Element.BYTES, TUNED, OTHER, 1),
        (Element.BYTES, TUNED, None, 1),
        (Element.BYTES, TUNED, TUNED[100:], 2),
    ],
)
def test_delta_only_where_it_is_smaller(
    element: Element, raw: bytes, base: bytes | None, expected: int
) -> None:
    based = None if base is None else sampled(base, element, len(raw))
    assert choose_codec(element, sampled(raw, element), based) == expected


@pytest.mark.parametrize(
    ("element", "profile", "units", "expected"),
    [
        (Element.F32, "fast", 100_000, 4),
        (Element.F32, "balanced", 100_000, 4),
        (Element.F32, "best", 100_000, 5),
        (Element.F32, "best", 4095, 4),
        (Element.BF16, "balanced", 200_000, 5),
        (Element.INT32, "best", 100_000, 4),
    ],
)
def test_profiles_choose_between_deltas(element: Element, profile: str, units: int, expected: int) -> None:
    raw, base = sampled(TUNED, element), sampled(WEIGHTS, element)
    assert choose_codec(element, raw, base, profile, units) == expected
    assert choose_codec(element, raw, None, profile, units) == 3


def test_empty_samples() -> None:
    assert choose_codec(Element.F32, b"", None) == 3
    assert choose_codec(Element.BYTES, b"", b"") == 1


@given(st.integers(0, 1 << 33), st.sampled_from(list(Element)))
def test_runs_are_whole_units_inside_the_object(length: int, element: Element) -> None:
    ranges = sample_ranges(length, element)
    assert sum(count for _, count in ranges) <= min(length, 256 << 10)
    for start, count in ranges:
        assert start % element.width == 0
        assert start + count <= length
    for (start, count), (following, _) in pairwise(ranges):
        assert start + count <= following
    if ranges:
        assert ranges[0][0] == 0
        assert ranges[-1][0] + ranges[-1][1] > length - element.width


def test_a_base_that_ends_early_gives_zeros() -> None:
    assert sampled(b"abc", Element.BYTES, 5, offset=1) == b"bc\0\0\0"
    assert len(sampled(WEIGHTS[:5000], Element.F32, len(WEIGHTS))) == len(sampled(WEIGHTS, Element.F32))
