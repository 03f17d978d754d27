"""Half-precision weights kept as float32, and payloads that are not what "upcast" writes."""

from __future__ import annotations

import struct

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from coral_git.codecs.base import Codec
from coral_git.codecs.bucket import BucketCodec
from coral_git.codecs.choose import PROFILES, delta_codec, estimate, fitted_codec
from coral_git.codecs.facing import face
from coral_git.codecs.sparse import SparseCodec
from coral_git.codecs.sub import SubCodec
from coral_git.codecs.upcast import UpcastCodec, narrow_pair
from coral_git.errors import IntegrityError
from coral_git.types import Element

from .cases import joined, misaligned, raw_bytes, special_bytes
from .test_decay import reader

F32 = Element.F32
HALVES = (Element.BF16, Element.F16)
INNER: list[Codec] = [SubCodec(), BucketCodec(), SparseCodec()]
CODECS = [UpcastCodec(inner=codec) for codec in INNER]
UNITS = 40_000


def rounded(values: np.ndarray, half: Element) -> bytes:
    """Float32 with the values that a 16-bit float has."""
    return bytes(face(face(values.astype("<f4").tobytes(), F32, half), half, F32))


def trained(half: Element, seed: int = 3) -> tuple[bytes, bytes, bytes]:
    """A tuned version kept as float32, the version before it, and that before it was rounded."""
    draw = np.random.default_rng(seed)
    base = draw.standard_normal(UNITS) / 30
    tuned = base + draw.standard_normal(UNITS) * 1e-4
    return rounded(tuned, half), rounded(base, half), base.astype("<f4").tobytes()


def size(codec: Codec, raw: bytes, base: bytes) -> int:
    payload = codec.encode_block(raw, base, F32)
    assert codec.decodes_to(payload, raw, base, F32)
    for place in (0, len(raw) - 1):
        other = raw[:place] + bytes([raw[place] ^ 1]) + raw[place + 1 :]
        assert not codec.decodes_to(payload, other, base, F32)
    assert bytes(codec.decode_block(joined(payload), len(raw), base, F32)) == raw
    return len(joined(payload))


@pytest.mark.parametrize("half", HALVES, ids=lambda half: half.name)
@pytest.mark.parametrize("profile", PROFILES)
def test_a_sample_decides(half: Element, profile: str) -> None:
    raw, before, exact = trained(half)
    inner = delta_codec(half, UNITS, profile)
    assert inner.name == ("sub" if profile == "fast" else "bucket")
    for base, share in ((before, 0.7 if half is Element.BF16 else 0.9), (exact, 0.6)):
        chosen = fitted_codec(F32, UNITS, profile, raw[:65536], base[:65536])
        assert chosen == UpcastCodec(inner=inner)
        assert size(chosen, raw, base) < share * size(inner, raw, base)
    assert fitted_codec(F32, UNITS, profile, exact[:65536], raw[:65536]).name != "upcast"


@pytest.mark.parametrize("half", HALVES, ids=lambda half: half.name)
def test_a_base_in_full_precision_is_recognised(half: Element) -> None:
    raw, _, exact = trained(half)
    own, faced = raw[:65536], exact[:65536]
    narrow = bytes(face(own, F32, half)), bytes(face(faced, F32, half))
    assert estimate(F32, own, faced) == estimate(half, *narrow) < estimate(F32, own, None) / 2


def test_zeros_say_nothing_about_the_rest() -> None:
    exact = trained(Element.BF16)[2][:65536]
    assert fitted_codec(F32, UNITS, "fast", bytes(65536), exact).name != "upcast"
    padding_row = bytes(1600) + exact[1600:]
    assert fitted_codec(F32, UNITS, "fast", padding_row, exact).name != "upcast"


def test_few_changes_are_stored_with_their_places_inside() -> None:
    base = trained(Element.BF16)[0]
    changed = np.frombuffer(base, "<u4").copy()
    changed[::130] ^= 1 << 16
    raw = changed.tobytes()
    chosen = fitted_codec(F32, UNITS, "fast", raw, base)
    assert chosen == UpcastCodec(inner=SparseCodec())
    assert size(chosen, raw, base) < size(UpcastCodec(), raw, base)


@st.composite
def narrowable(draw: st.DrawFn, half: Element) -> bytes:
    """Float32 units that a 16-bit float has too, infinities and NaNs among them."""
    unit = st.one_of(st.sampled_from(special_bytes(half)), st.binary(min_size=2, max_size=2))
    return bytes(face(b"".join(draw(st.lists(unit, min_size=1, max_size=60))), half, F32))


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_whatever_comes_back_is_narrow(data: st.DataObject) -> None:
    half = data.draw(st.sampled_from(HALVES))
    codec = data.draw(st.sampled_from(CODECS))
    raw = data.draw(narrowable(half))
    units, is_narrow = len(raw) // 4, True
    if data.draw(st.booleans()):  # one unit that no 16-bit float has
        place = 4 * data.draw(st.integers(0, units - 1))
        raw = (
            raw[:place] + data.draw(st.sampled_from([b"\1\0\xc0\x7f", b"\0\x10\x80\x3f"])) + raw[place + 4 :]
        )
        is_narrow = False
    tail = data.draw(st.binary(max_size=3))
    base = data.draw(raw_bytes(F32, 80))
    payload = codec.encode_block(misaligned(raw + tail), misaligned(base), F32)
    narrow_codes = {int(one) for one in HALVES}
    assert payload[0][0] == codec.inner.codec_id
    assert (payload[0][1] in narrow_codes) == is_narrow
    assert codec.decodes_to(payload, raw + tail, base, F32)
    assert bytes(UpcastCodec().decode_block(joined(payload), len(raw + tail), base, F32)) == raw + tail
    faced = base[: 4 * units].ljust(4 * units, b"\0")
    assert joined(codec.encode_block(raw + tail, faced, F32)) == joined(payload)
    assert reader().decode_block(12, int(F32), joined(payload), len(raw + tail), base, 0) == raw + tail


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_the_independent_reader_agrees(data: st.DataObject) -> None:
    element = data.draw(st.sampled_from(list(Element)))
    codec = data.draw(st.sampled_from(CODECS))
    raw, base = data.draw(raw_bytes(element, 60)), data.draw(raw_bytes(element, 60))
    payload = joined(codec.encode_block(raw, base, element))
    assert bytes(UpcastCodec().decode_block(payload, len(raw), base, element)) == raw
    assert reader().decode_block(12, int(element), payload, len(raw), base, 0) == raw


def test_bfloat16_goes_before_float16() -> None:
    both = struct.pack("<3f", 0.0, 1.0, -0.5)
    assert narrow_pair(both + b"\5", b"", F32) == (bytes.fromhex("0000 803f 00bf 05"), bytes(6), Element.BF16)


RAW = struct.pack("<4f", 1, 2, 3, 4)
NARROW = bytes.fromhex("803f 0040 4040 8040")
SAME = joined(SubCodec().encode_block(NARROW, NARROW, Element.BF16))
BAD_HEADS = {
    "no head": b"\4",
    "an inner codec that needs no base": b"\3\2" + SAME,
    "itself inside": b"\x0c\2" + SAME,
    "an element that is no float": b"\4\7" + SAME,
    "an element that is not narrower": b"\4\4" + SAME,
    "no element": b"\4\xff" + SAME,
    "the payload of another element": b"\4\3" + SAME,
    "no inner payload": b"\4\2",
}


@pytest.mark.parametrize("payload", BAD_HEADS.values(), ids=BAD_HEADS)
def test_malformed_heads_are_refused(payload: bytes) -> None:
    assert bytes(UpcastCodec().decode_block(b"\4\2" + SAME, len(RAW), RAW, F32)) == RAW
    with pytest.raises(IntegrityError):
        UpcastCodec().decode_block(payload, len(RAW), RAW, F32)


def test_only_float32_is_narrowed() -> None:
    for element in set(Element) - {F32}:
        for half in set(HALVES) - {element}:
            with pytest.raises(IntegrityError, match="not narrowed"):
                UpcastCodec().decode_block(bytes((4, half)) + SAME, 16, bytes(16), element)
