from __future__ import annotations

import random
from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from coral_git.codecs.base import Codec
from coral_git.codecs.registry import BUILT_IN
from coral_git.limits import DEFAULT_LIMITS, MIB, Limits
from coral_git.types import Element

from .cases import CODEC_IDS, CODECS, joined, misaligned, raw_and_base


def round_trip(codec: Codec, element: Element, raw: bytes, base: bytes) -> int:
    window_start, window_length = codec.base_window(0, len(raw))
    window = misaligned(base[window_start : window_start + window_length])
    payload = joined(codec.encode_block(misaligned(raw), window, element))
    assert bytes(codec.decode_block(misaligned(payload), len(raw), window, element)) == raw
    return len(payload)


@pytest.mark.parametrize(("codec", "element"), CODECS, ids=CODEC_IDS)
def test_every_input_comes_back(codec: Codec, element: Element) -> None:
    @settings(max_examples=60, deadline=None)
    @given(raw_and_base(element))
    def check(pair: tuple[bytes, bytes]) -> None:
        round_trip(codec, element, *pair)

    check()


@pytest.mark.parametrize(("codec", "element"), CODECS, ids=CODEC_IDS)
def test_large_blocks_take_every_stream_kind(codec: Codec, element: Element) -> None:
    noise = random.Random(7).randbytes(300_003)
    skewed = bytes(byte & 3 for byte in noise)
    for raw in (noise, skewed, bytes(300_003), bytes([9]) * 300_003):
        for base in (b"", noise[:1000], noise, skewed + b"tail"):
            round_trip(codec, element, raw, base)


@pytest.mark.parametrize(
    "codec", [codec for codec in BUILT_IN if codec.needs_base], ids=lambda codec: codec.name
)
def test_an_equal_base_costs_almost_nothing(codec: Codec) -> None:
    noise = random.Random(3).randbytes(MIB)
    assert round_trip(codec, Element.F32, noise, noise) < 200


@pytest.mark.parametrize("codec", BUILT_IN, ids=lambda codec: codec.name)
def test_nothing_encodes_to_nothing(codec: Codec) -> None:
    assert joined(codec.encode_block(b"", b"", Element.F32)) == b""
    assert bytes(codec.decode_block(b"", 0, b"", Element.F32)) == b""


@pytest.mark.parametrize("codec", BUILT_IN, ids=lambda codec: codec.name)
def test_noise_grows_by_its_stream_table_only(codec: Codec) -> None:
    noise = random.Random(5).randbytes(MIB)
    base = random.Random(6).randbytes(MIB)
    most_buckets = 256 if codec.name == "bucket" else 1
    assert round_trip(codec, Element.F32, noise, base) <= MIB + most_buckets * (1 + 4 * 5) + 50


def test_sub_finds_steps_across_zero() -> None:
    # +0.0 and -0.0 are neighbours in the order, and so are 1.0 and the next float
    sub = BUILT_IN[3]
    base = bytes.fromhex("00000000 0000803f")
    raw = bytes.fromhex("00000080 0100803f")
    payload = joined(sub.encode_block(raw, base, Element.F32))
    assert payload == bytes.fromhex("01 02000000 00 01000000 00 01000000 00 01000000  01 02  00 00 00")


def test_planes_rotate_the_sign_away_and_keep_the_tail() -> None:
    planes = BUILT_IN[2]
    raw = bytes.fromhex("803f 80bf 05")
    payload = joined(planes.encode_block(raw, b"", Element.BF16))
    assert payload == bytes.fromhex("01 02000000 00 01000000 00 01000000  00 01  7f  05")


def test_sub_treats_missing_base_bytes_as_zero() -> None:
    sub = BUILT_IN[3]
    raw = random.Random(1).randbytes(4099)
    for length in (0, 1, 7, 4096, 4099):
        short = raw[:length]
        padded = short + bytes(5000)
        expected = joined(sub.encode_block(raw, padded, Element.F32))
        assert joined(sub.encode_block(raw, short, Element.F32)) == expected
        assert bytes(sub.decode_block(expected, len(raw), short, Element.F32)) == raw


def test_raw_streams_are_views_not_copies() -> None:
    noise = random.Random(2).randbytes(MIB)
    for codec in BUILT_IN[0], BUILT_IN[2]:
        pieces = codec.encode_block(noise, b"", Element.INT8)
        assert memoryview(pieces[1]).obj is noise
        payload = joined(pieces)
        decoded = codec.decode_block(payload, len(noise), b"", Element.INT8)
        assert memoryview(decoded).obj is payload


@given(st.integers(0, 1 << 40), st.integers(0, 1 << 24))
def test_windows_start_inside_the_base(start: int, length: int) -> None:
    for codec in BUILT_IN:
        first, count = codec.base_window(start, length)
        assert 0 <= first <= start
        if codec.needs_base:
            assert first + count >= start + length
            assert count <= length + 2 * MIB
        else:
            assert count == 0


def test_a_prefix_reaches_bytes_that_moved_within_the_margin() -> None:
    codec = BUILT_IN[1]
    base = random.Random(4).randbytes(6 * MIB)
    new = random.Random(8).randbytes(700_000) + base
    start, length = 3 * MIB, MIB
    first, count = codec.base_window(start, length)
    raw, window = new[start : start + length], base[first : first + count]
    payload = joined(codec.encode_block(raw, window, Element.BYTES))
    assert len(payload) < 2000
    assert bytes(codec.decode_block(payload, length, window, Element.BYTES)) == raw


def test_blocks_are_counted_in_elements() -> None:
    small = Limits(block_elements=8)
    bytes_codec, prefix, planes, sub, bucket = BUILT_IN[:5]
    assert (
        bytes_codec.block_size(Element.BYTES, DEFAULT_LIMITS)
        == MIB
        == prefix.block_size(Element.F64, DEFAULT_LIMITS)
    )
    assert planes.block_size(Element.BF16, DEFAULT_LIMITS) == MIB // 2
    assert sub.block_size(Element.F64, small) == 64 == bucket.block_size(Element.F64, small)


def test_threads_share_codecs() -> None:
    rng = random.Random(9)
    jobs = [(codec, element, rng.randbytes(70_000) + bytes(70_000)) for codec, element in CODECS]

    def job(index: int) -> None:
        codec, element, raw = jobs[index % len(jobs)]
        round_trip(codec, element, raw, raw[5:])

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(job, range(3 * len(jobs))))
