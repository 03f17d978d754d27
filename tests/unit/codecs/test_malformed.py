"""Payloads that no codec wrote: an IntegrityError or the right length, never anything else."""

from __future__ import annotations

import random
import struct
import tracemalloc

import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from coral_git.codecs.base import Codec
from coral_git.codecs.registry import BUILT_IN, codec_by_id
from coral_git.errors import IntegrityError
from coral_git.types import Element

from .cases import CODEC_IDS, CODECS, joined

NOISE = random.Random(0).randbytes(4096)
SKEWED = bytes(byte & 3 for byte in NOISE)


def stream(kind: int, data: bytes, stored: int | None = None) -> bytes:
    return struct.pack("<BI", kind, len(data) if stored is None else stored) + data


def frame_header(content_size: int) -> bytes:
    """A single-segment zstd frame header that states a content size, and an empty last raw block."""
    return b"\x28\xb5\x2f\xfd\xe0" + struct.pack("<Q", content_size) + b"\x01\x00\x00"


def window_header(window_log: int, content_size: int) -> bytes:
    """A zstd frame header that asks for a window, and an empty last raw block."""
    return (
        b"\x28\xb5\x2f\xfd\xc0"
        + bytes([(window_log - 10) << 3])
        + struct.pack("<Q", content_size)
        + b"\x01\x00\x00"
    )


def zstd(data: bytes, **options: bool) -> bytes:
    return zstandard.ZstdCompressor(**options).compress(data)  # type: ignore[arg-type]


MALFORMED = {
    "empty": b"",
    "table cut": stream(1, b"")[:4],
    "unknown kind": stream(3, NOISE),
    "raw too short": stream(1, NOISE[:-1]),
    "raw too long": stream(1, NOISE + b"x"),
    "stored runs past the end": stream(1, NOISE, stored=0xFFFFFFFF),
    "bytes after the streams": stream(1, NOISE) + b"x",
    "constant of nothing": stream(0, b""),
    "constant of two": stream(0, b"ab"),
    "zstd of nothing": stream(2, b""),
    "no zstd": stream(2, NOISE),
    "zstd of less": stream(2, zstd(SKEWED[:-1])),
    "zstd of more": stream(2, zstd(SKEWED + b"x")),
    "zstd cut": stream(2, zstd(SKEWED)[:-1]),
    "zstd with a trailing byte": stream(2, zstd(SKEWED) + b"x"),
    "two zstd frames": stream(2, zstd(SKEWED[:2048]) + zstd(SKEWED[2048:])),
    "a frame and an empty one": stream(2, zstd(SKEWED) + zstd(b"")),
    "zstd without a content size": stream(2, zstd(SKEWED, write_content_size=False)),
    "zstd that states 2^40": stream(2, frame_header(1 << 40)),
    "zstd that states 2^63": stream(2, frame_header(1 << 63)),
    "zstd that states all and holds nothing": stream(2, frame_header(len(NOISE))),
    "zstd that states less than it holds": stream(
        2, zstd(SKEWED).replace(struct.pack("<H", 4096 - 256), b"\0\0", 1)
    ),
    "zstd with a window of 2 GiB": stream(2, window_header(31, len(NOISE))),
    "zstd with a window of 16 MiB": stream(2, window_header(24, len(NOISE))),
    "skippable frame": stream(2, b"\x50\x2a\x4d\x18" + struct.pack("<I", 4096) + NOISE),
    "skippable frame before a frame": stream(2, b"\x50\x2a\x4d\x18\0\0\0\0" + zstd(SKEWED)),
}


@pytest.mark.parametrize("payload", MALFORMED.values(), ids=MALFORMED)
@pytest.mark.parametrize("base", [b"", NOISE], ids=["alone", "base"])
@pytest.mark.parametrize("codec", BUILT_IN, ids=lambda codec: codec.name)
def test_malformed_payloads_are_refused(codec: Codec, base: bytes, payload: bytes) -> None:
    tracemalloc.start()
    try:
        with pytest.raises(IntegrityError):
            codec.decode_block(payload, len(NOISE), base, Element.INT8)
        assert tracemalloc.get_traced_memory()[1] < 1 << 20
    finally:
        tracemalloc.stop()


def test_a_frame_with_a_dictionary_id_is_refused() -> None:
    trained = zstandard.train_dictionary(1024, [NOISE[i : i + 64] * 4 for i in range(0, 4000, 8)])
    frame = zstandard.ZstdCompressor(dict_data=trained).compress(NOISE)
    assert zstandard.get_frame_parameters(frame).dict_id
    for base in (b"", NOISE):
        with pytest.raises(IntegrityError):
            codec_by_id(2).decode_block(stream(2, frame), len(NOISE), base, Element.BYTES)


def test_a_delta_against_another_base_is_refused_or_differs() -> None:
    codec = codec_by_id(2)
    payload = joined(codec.encode_block(NOISE, NOISE, Element.BYTES))
    assert payload[0] == 2
    with pytest.raises(IntegrityError):
        codec.decode_block(payload, len(NOISE), b"", Element.BYTES)
    assert bytes(codec.decode_block(payload, len(NOISE), NOISE[::-1], Element.BYTES)) != NOISE


@pytest.mark.parametrize(("codec", "element"), CODECS, ids=CODEC_IDS)
def test_any_bytes_decode_to_the_right_length_or_not_at_all(codec: Codec, element: Element) -> None:
    valid = joined(codec.encode_block(SKEWED[:1003] + NOISE[:96], SKEWED[5:900], element))

    @settings(max_examples=60, deadline=None)
    @given(
        st.one_of(
            st.binary(max_size=80),
            st.tuples(st.integers(0, len(valid) - 1), st.integers(1, 255)).map(
                lambda flip: valid[: flip[0]] + bytes([valid[flip[0]] ^ flip[1]]) + valid[flip[0] + 1 :]
            ),
            st.integers(0, len(valid) - 1).map(lambda end: valid[:end]),
        ),
        st.sampled_from([0, 1, 7, 8, 1098, 1099, 1100, 5000]),
    )
    def check(payload: bytes, raw_length: int) -> None:
        try:
            raw = codec.decode_block(payload, raw_length, SKEWED[5:900], element)
        except IntegrityError:
            return
        assert len(raw) == raw_length

    check()


def bucket_payload(modes: bytes, masks: bytes = b"", body: bytes = b"") -> bytes:
    return struct.pack("<HI", len(modes), len(masks)) + modes + masks + body


BAD_BUCKETS = {
    "no head": b"\0\0\0",
    "modes run past the end": struct.pack("<HI", 7, 0) + stream(1, b"\2"),
    "masks run past the end": struct.pack("<HI", 6, 1) + stream(1, b"\2"),
    "too few modes": bucket_payload(b"", b"", b""),
    "an unknown mode": bucket_payload(stream(1, b"\3")),
    "a mode too many": bucket_payload(stream(1, b"\2\2")),
    "no mask": bucket_payload(stream(1, b"\1")),
    "a mask of bits that are no units": bucket_payload(stream(1, b"\1"), stream(1, b"\x01\x04")),
    "a mask that is too long": bucket_payload(stream(1, b"\1"), stream(1, b"\1\0\0"), stream(1, b"a")),
    "a mask where none belongs": bucket_payload(stream(1, b"\2"), stream(1, b"\1\0")),
    "fewer units than the mask": bucket_payload(stream(1, b"\1"), stream(1, b"\3\0"), stream(1, b"a")),
    "units of an empty bucket": bucket_payload(stream(1, b"\2"), b"", stream(1, b"a")),
    "fewer units than the bucket": bucket_payload(stream(1, b"\0"), b"", stream(1, b"abcdefghi")),
}


@pytest.mark.parametrize("payload", BAD_BUCKETS.values(), ids=BAD_BUCKETS)
def test_malformed_buckets_are_refused(payload: bytes) -> None:
    base = bytes(range(10))
    fine = bucket_payload(stream(1, b"\1"), stream(1, b"\3\0"), stream(1, b"\2\4"))
    assert bytes(codec_by_id(5).decode_block(fine, 10, base, Element.INT8)) == b"\1\3" + base[2:]
    with pytest.raises(IntegrityError):
        codec_by_id(5).decode_block(payload, 10, base, Element.INT8)
