from __future__ import annotations

import random
import struct
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coral_git.codecs.base import Codec
from coral_git.codecs.choose import (
    PROFILES,
    delta_codec,
    estimate,
    fitted_codec,
    sample,
    sample_ranges,
    standalone_codec,
)
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
    ("element", "raw", "base", "is_smaller"),
    [
        (Element.F32, TUNED, WEIGHTS, True),
        (Element.F32, TUNED, OTHER, False),
        (Element.F32, WEIGHTS, WEIGHTS, True),
        (Element.F32, bytes(400_000), bytes(400_000), False),
        (Element.BYTES, TUNED, TUNED, True),
        (Element.BYTES, TUNED, OTHER, False),
        (Element.BYTES, TUNED, TUNED[100:], True),
    ],
)
def test_the_estimate_tells_a_base_from_another_tensor(
    element: Element, raw: bytes, base: bytes, is_smaller: bool
) -> None:
    own, faced = sampled(raw, element), sampled(base, element, len(raw))
    assert (estimate(element, own, faced) < estimate(element, own, None)) == is_smaller


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
    assert delta_codec(element, units, profile).codec_id == expected


def test_empty_samples_are_nothing() -> None:
    for element in Element:
        assert estimate(element, b"", None) == estimate(element, b"", b"") == 0
        assert standalone_codec(element).codec_id == (1 if element == Element.BYTES else 3)


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


@pytest.mark.parametrize("element", [Element.F32, Element.BF16, Element.INT8, Element.INT64])
@pytest.mark.parametrize("profile", PROFILES)
def test_few_changes_are_stored_with_their_places(element: Element, profile: str) -> None:
    rng = random.Random(4)
    base = rng.randbytes(40_000 * element.width)
    raw = bytearray(base)
    for place in rng.sample(range(40_000), 400):
        raw[place * element.width] ^= rng.randrange(1, 255)
    usual = delta_codec(element, 40_000, profile)
    chosen = fitted_codec(element, 40_000, profile, raw, base)
    assert "sparse" in (chosen.name, getattr(chosen, "inner", chosen).name)
    assert _length(chosen, raw, base, element) < 0.99 * _length(usual, raw, base, element)
    dense = bytes(byte ^ 1 for byte in base)
    assert fitted_codec(element, 40_000, profile, dense, base).name != "sparse"
    assert (
        fitted_codec(element, 40_000, profile, raw[: 400 * element.width], base[: 400 * element.width])
        == usual
    )
    assert _length(fitted_codec(element, 40_000, profile, base, base), base, base, element) <= 10


def _length(codec: Codec, raw: bytes, base: bytes, element: Element) -> int:
    return sum(len(piece) for piece in codec.encode_block(raw, base, element))
