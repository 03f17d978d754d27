"""What the codec tests share: every codec and element, awkward numbers, buffers at odd addresses."""

from __future__ import annotations

import struct

from hypothesis import strategies as st

from coral_git.codecs.registry import BUILT_IN
from coral_git.types import Buffer, Element

CODECS = [(codec, element) for codec in BUILT_IN for element in Element]
CODEC_IDS = [f"{codec.name}-{element.name}" for codec, element in CODECS]

_SPECIAL = {
    Element.F16: [0, 1 << 15, 0x7C00, 0xFC00, 0x7C01, 0x7E00, 0xFE01, 1, 0x8001, 0x3C00, 0xFFFF],
    Element.BF16: [0, 1 << 15, 0x7F80, 0xFF80, 0x7F81, 0x7FC0, 0xFFC1, 1, 0x8001, 0x3F80, 0xFFFF],
    Element.F32: [0, 1 << 31, 0x7F800000, 0xFF800000, 0x7FC00001, 0xFFC00001, 0x7F800001, 1, 0xFFFFFFFF],
    Element.F64: [0, 1 << 63, 0x7FF << 52, 0xFFF << 52, (0x7FF << 52) | 1, 0xFFF8 << 48, 1, (1 << 64) - 1],
    Element.F8: [0, 0x80, 0x7F, 0xFF, 0x7C, 0xFC, 0x38, 1],
}
_FORMATS = {1: "<B", 2: "<H", 4: "<I", 8: "<Q"}


def special_bytes(element: Element) -> list[bytes]:
    """NaNs of several payloads, both zeros, infinities, denormals; the extremes of integers."""
    top = 1 << (8 * element.width - 1)
    values = _SPECIAL.get(element, [0, 1, top, top - 1, 2 * top - 1])
    return [struct.pack(_FORMATS[element.width], value) for value in values]


def misaligned(data: bytes) -> memoryview:
    """The same bytes at an odd address."""
    return memoryview(b"\xa5" + data)[1:]


@st.composite
def raw_bytes(draw: st.DrawFn, element: Element, units: int = 40) -> bytes:
    """Units that may be special, repeated or arbitrary, and up to seven bytes after them."""
    unit = st.one_of(
        st.sampled_from(special_bytes(element)), st.binary(min_size=element.width, max_size=element.width)
    )
    body = b"".join(draw(st.lists(unit, max_size=units))) * draw(st.sampled_from([1, 1, 7, 40]))
    return body + draw(st.binary(max_size=7))


@st.composite
def raw_and_base(draw: st.DrawFn, element: Element) -> tuple[bytes, bytes]:
    """An object and a base for it: unrelated, equal, near, shorter, longer or empty."""
    raw = draw(raw_bytes(element))
    kind = draw(st.sampled_from(["unrelated", "equal", "near", "shorter", "longer", "empty"]))
    if kind == "unrelated":
        return raw, draw(raw_bytes(element))
    if kind == "near":
        step = draw(st.integers(0, 3))
        return raw, bytes(
            (byte + step) & 0xFF if i % element.width == 0 else byte for i, byte in enumerate(raw)
        )
    changed = {
        "equal": raw,
        "shorter": raw[: draw(st.integers(0, len(raw)))],
        "longer": raw + draw(st.binary(min_size=1, max_size=20)),
        "empty": b"",
    }
    return raw, changed[kind]


def joined(pieces: list[Buffer]) -> bytes:
    """A payload as it is on disk."""
    return b"".join(pieces)
