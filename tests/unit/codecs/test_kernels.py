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


def plain_buckets(keys: Sequence[int]) -> list[list[int]]:
    """The units of each bucket, as the format says it."""
    buckets: list[list[int]] = []
    held: list[int] = []
    for key in sorted(set(keys)):
        held += [unit for unit, other in enumerate(keys) if other == key]
        if len(held) >= 512 and 256 * len(held) >= len(keys):
            buckets.append(held)
            held = []
    if held and buckets:
        buckets[-1] += held
    elif held:
        buckets.append(held)
    return [sorted(units) for units in buckets]


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_buckets_are_what_the_format_says(data: st.DataObject) -> None:
    width = data.draw(st.sampled_from(WIDTHS))
    bits = data.draw(st.integers(0, 8))
    shift = data.draw(st.integers(0, 8 * width - max(bits, 1)))
    is_float = data.draw(st.booleans())
    rng = random.Random(data.draw(st.integers(0, 1000)))
    units = data.draw(st.sampled_from([0, 1, 7, 511, 512, 513, 1500, 5000]))
    few = [rng.randbytes(width) for _ in range(data.draw(st.integers(1, 9)))]
    base = b"".join(rng.choice(few) for _ in range(units))
    raw = b"".join(
        rng.choice([rng.randbytes(width), base[i * width : (i + 1) * width]]) for i in range(units)
    )
    buckets = plain_buckets([unit >> shift & (1 << bits) - 1 for unit in to_units(base, width)])
    order = [unit for bucket in buckets for unit in bucket]
    for kernel in kernels():
        assert kernel.bucket_lengths(misaligned(base), width, shift, bits) == [len(one) for one in buckets]
        whole = cut(kernel.sub_split(raw, base, width, is_float), width)
        split = kernel.bucket_split(misaligned(raw), misaligned(base), width, is_float, shift, bits)
        assert bytes(split) == b"".join(bytes(plane[unit] for unit in order) for plane in whole)
        merged = kernel.bucket_merge(cut(split, width), misaligned(base), is_float, shift, bits)
        assert bytes(merged) == raw


def test_every_key_may_have_a_bucket_of_its_own() -> None:
    base = bytes(range(256)) * 512
    for kernel in kernels():
        assert kernel.bucket_lengths(base, 1, 0, 8) == [512] * 256


@settings(max_examples=100, deadline=None)
@given(st.data())
def test_masks_say_which_units_are_not_zero(data: st.DataObject) -> None:
    width = data.draw(st.sampled_from(WIDTHS))
    units = data.draw(st.sampled_from([0, 1, 7, 8, 9, 255, 256, 257, 1000]))
    rng = random.Random(data.draw(st.integers(0, 1000)))
    share = data.draw(st.sampled_from([0.0, 0.01, 0.5, 1.0]))
    raw = [rng.randbytes(width) if rng.random() < share else bytes(width) for _ in range(units)]
    changed = [unit for unit, one in enumerate(raw) if any(one)]
    planes = [bytes(one[k] for one in raw) for k in range(width)]
    for kernel in kernels():
        assert kernel.nonzero_count(planes) == len(changed)
        mask, kept = kernel.nonzero_split(planes)
        assert bytes(mask) == sum(1 << unit for unit in changed).to_bytes((units + 7) // 8, "little")
        assert bytes(kept) == b"".join(bytes(plane[unit] for unit in changed) for plane in planes)
        parts = cut(kept, width)
        assert bytes(kernel.nonzero_merge(mask, parts, units)) == b"".join(planes)
        with pytest.raises(ValueError, match="mask"):
            kernel.nonzero_merge(bytes(mask) + b"\0", parts, units)
        with pytest.raises(ValueError, match="mask"):
            kernel.nonzero_merge(mask, [bytes(part) + b"\1" for part in parts], units)


@pytest.mark.parametrize("count", [0, 3, 9])
def test_planes_are_as_many_as_a_unit_has_bytes(count: int) -> None:
    planes = [bytes(8)] * count
    for kernel in kernels():
        for call in (
            lambda one=kernel: one.nonzero_count(planes),
            lambda one=kernel: one.nonzero_split(planes),
            lambda one=kernel: one.nonzero_merge(b"\xff", planes, 8),
            lambda one=kernel: one.merge(planes, False),
        ):
            with pytest.raises(ValueError, match=r"planes|bytes"):
                call()


@pytest.mark.parametrize(("shift", "bits"), [(0, 9), (-1, 3), (29, 4), (32, 0), (0, -1)])
def test_keys_must_lie_in_a_unit(shift: int, bits: int) -> None:
    for kernel in kernels():
        with pytest.raises(ValueError, match="key"):
            kernel.bucket_lengths(bytes(64), 4, shift, bits)
        with pytest.raises(ValueError, match="key"):
            kernel.bucket_split(bytes(64), bytes(64), 4, True, shift, bits)
        with pytest.raises(ValueError, match="key"):
            kernel.bucket_merge([bytes(16)] * 4, bytes(64), True, shift, bits)


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
