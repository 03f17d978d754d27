from __future__ import annotations

import contextlib
import random
from collections.abc import Callable, Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from coral_git.codecs.kernels import Kernels, load_kernels
from coral_git.types import Buffer, Element

from .cases import misaligned, special_bytes

WIDTHS = [1, 2, 4, 8]


def kernels() -> list[Kernels]:
    found = [load_kernels("numpy")]
    with contextlib.suppress(ImportError):
        found.append(load_kernels("c"))
    return found


def reference_planes(units: Sequence[int], width: int) -> bytes:
    return b"".join(bytes((unit >> (8 * k)) & 0xFF for unit in units) for k in range(width))


def to_units(data: bytes, width: int) -> list[int]:
    return [int.from_bytes(data[i : i + width], "little") for i in range(0, len(data), width)]


def rotate(unit: int, bits: int) -> int:
    return ((unit << 1) | (unit >> (bits - 1))) & ((1 << bits) - 1)


def ordered(unit: int, bits: int) -> int:
    top = 1 << (bits - 1)
    return unit ^ ((1 << bits) - 1) if unit & top else unit | top


def zigzag_difference(unit: int, base: int, bits: int) -> int:
    modulus = 1 << bits
    difference = (unit - base) % modulus
    signed = difference - modulus if difference >> (bits - 1) else difference
    return 2 * signed if signed >= 0 else -2 * signed - 1


def cut(planes: Buffer, width: int) -> list[memoryview]:
    count = len(planes) // width
    return [memoryview(planes)[k * count : (k + 1) * count] for k in range(width)]


@st.composite
def unit_bytes(draw: st.DrawFn, width: int) -> bytes:
    special = [data for element in Element if element.width == width for data in special_bytes(element)]
    units = draw(
        st.lists(st.one_of(st.sampled_from(special), st.binary(min_size=width, max_size=width)), max_size=50)
    )
    return b"".join(units) * draw(st.sampled_from([1, 1, 11]))


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_both_kernels_do_what_the_plain_arithmetic_says(data: st.DataObject) -> None:
    width = data.draw(st.sampled_from(WIDTHS))
    flag = data.draw(st.booleans())
    raw = data.draw(unit_bytes(width))
    base = data.draw(unit_bytes(width))[: len(raw)].ljust(len(raw), b"\0")
    bits = 8 * width
    rotated = [rotate(unit, bits) if flag else unit for unit in to_units(raw, width)]
    differences = [
        zigzag_difference(*((ordered(u, bits), ordered(b, bits)) if flag else (u, b)), bits)
        for u, b in zip(to_units(raw, width), to_units(base, width), strict=True)
    ]
    for kernel in kernels():
        planes = kernel.split(misaligned(raw), width, flag)
        assert bytes(planes) == reference_planes(rotated, width)
        assert bytes(kernel.merge(cut(planes, width), flag)) == raw
        assert kernel.merges_to(cut(planes, width), misaligned(raw), flag)
        planes = kernel.sub_split(misaligned(raw), misaligned(base), width, flag)
        assert bytes(planes) == reference_planes(differences, width)
        assert bytes(kernel.sub_merge(cut(planes, width), misaligned(base), width, flag)) == raw
        assert kernel.sub_merges_to(cut(planes, width), misaligned(base), misaligned(raw), flag)


@settings(max_examples=100, deadline=None)
@given(st.data())
def test_one_wrong_byte_anywhere_is_seen(data: st.DataObject) -> None:
    width = data.draw(st.sampled_from(WIDTHS))
    flag = data.draw(st.booleans())
    raw = random.Random(data.draw(st.integers(0, 9))).randbytes(width * data.draw(st.integers(1, 600)))
    base = bytes(reversed(raw))
    wrong = bytearray(raw)
    wrong[data.draw(st.integers(0, len(raw) - 1))] ^= data.draw(st.integers(1, 255))
    for kernel in kernels():
        planes = cut(kernel.split(raw, width, flag), width)
        assert kernel.merges_to(planes, raw, flag)
        assert not kernel.merges_to(planes, bytes(wrong), flag)
        assert not kernel.merges_to(planes, raw[:-width], flag)
        planes = cut(kernel.sub_split(raw, base, width, flag), width)
        assert kernel.sub_merges_to(planes, base, raw, flag)
        assert not kernel.sub_merges_to(planes, base, bytes(wrong), flag)


@pytest.mark.parametrize("width", WIDTHS)
def test_kernels_agree_around_the_tile_size(width: int) -> None:
    rng = random.Random(width)
    for units in (255, 256, 257, 511, 512, 1000, 4099):
        raw, base = rng.randbytes(units * width), rng.randbytes(units * width)
        for flag in (False, True):
            results = {bytes(kernel.split(raw, width, flag)) for kernel in kernels()}
            assert len(results) == 1
            results = {bytes(kernel.sub_split(raw, base, width, flag)) for kernel in kernels()}
            assert len(results) == 1
            for kernel in kernels():
                planes = cut(kernel.sub_split(raw, base, width, flag), width)
                assert bytes(kernel.sub_merge(planes, base, width, flag)) == raw
                assert bytes(kernel.merge(cut(kernel.split(raw, width, flag), width), flag)) == raw


@pytest.mark.parametrize("element", [Element.F16, Element.BF16, Element.F8], ids=lambda element: element.name)
def test_every_small_float_survives_against_every_kind_of_base(element: Element) -> None:
    width = element.width
    every = b"".join(i.to_bytes(width, "little") for i in range(1 << (8 * width)))
    for base in (every, every[::-1], bytes(len(every)), b"\xff" * len(every)):
        for kernel in kernels():
            planes = cut(kernel.sub_split(every, base, width, True), width)
            assert bytes(kernel.sub_merge(planes, base, width, True)) == every


BAD_CALLS: list[Callable[[Kernels], object]] = [
    lambda kernel: kernel.split(b"abc", 2, False),
    lambda kernel: kernel.split(b"abc", 3, False),
    lambda kernel: kernel.split(b"abc", 0, False),
    lambda kernel: kernel.split(b"abc", -1, False),
    lambda kernel: kernel.merge([], False),
    lambda kernel: kernel.merge([b"a", b"b", b"c"], False),
    lambda kernel: kernel.merge([b"a", b""], False),
    lambda kernel: kernel.merge([b""] * 9, False),
    lambda kernel: kernel.sub_split(b"abcd", b"ab", 2, False),
    lambda kernel: kernel.sub_split(b"abc", b"abc", 2, False),
    lambda kernel: kernel.sub_merge([b"a", b"b"], b"a", 2, False),
    lambda kernel: kernel.sub_merge([b"a", b"b"], b"abcd", 2, False),
    lambda kernel: kernel.sub_merge([b"a", b"b"], b"ab", 1, False),
    lambda kernel: kernel.sub_merge([b"a", b"bc"], b"abc", 2, False),
]


@pytest.mark.parametrize("call", BAD_CALLS)
def test_lengths_are_checked(call: Callable[[Kernels], object]) -> None:
    for kernel in kernels():
        with pytest.raises(ValueError):  # noqa: PT011 - the messages are for developers
            call(kernel)
