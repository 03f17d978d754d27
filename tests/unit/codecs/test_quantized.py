"""Quantized float32 takes a byte or two a unit, whatever else comes back too, and no payload is believed."""

from __future__ import annotations

import importlib.util
import struct
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from coral_git.codecs.quantize import GROUP, quantize
from coral_git.codecs.registry import codec_by_id
from coral_git.errors import IntegrityError
from coral_git.types import Element

from .cases import joined, special_bytes
from .test_golden import FILES, load

F32 = Element.F32
ALONE, DELTA = codec_by_id(9), codec_by_id(10)
UNITS = 16 * GROUP
MOST_PERCENT = {8: 27, 16: 52}


@pytest.fixture(scope="module")
def restore() -> ModuleType:
    path = Path(__file__).parents[3] / "docs/format/restore.py"
    spec = importlib.util.spec_from_file_location("restore", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def normal(units: int, scale: float, seed: int) -> np.ndarray:
    return (np.random.default_rng(seed).standard_normal(units) * scale).astype(np.float32)


def size(raw: np.ndarray, base: np.ndarray | None) -> int:
    codec = ALONE if base is None else DELTA
    window = b"" if base is None else base.tobytes()
    payload = codec.encode_block(raw.tobytes(), window, F32)
    assert codec.decodes_to(payload, raw.tobytes(), window, F32)
    return len(joined(payload))


@pytest.mark.parametrize("bits", [8, 16])
@pytest.mark.parametrize("scale", [1e-30, 1e-3, 0.02, 1, 1e30])
def test_quantized_values_are_small(scale: float, bits: int) -> None:
    raw = quantize(normal(UNITS, scale, 1), None, bits)
    assert size(raw, None) <= raw.nbytes * MOST_PERCENT[bits] / 100
    assert size(raw[:-7], np.zeros(5, np.float32)) <= raw.nbytes * MOST_PERCENT[bits] / 100


@pytest.mark.parametrize("bits", [8, 16])
@pytest.mark.parametrize("step", [1e-1, 1e-3, 1e-5, 1e-7])
@pytest.mark.parametrize("middle", [0, 1])
def test_quantized_differences_are_small(middle: int, step: float, bits: int) -> None:
    base = middle + normal(UNITS, 0.02, 1)
    raw = quantize(base + normal(UNITS, step, 2), base, bits)
    assert size(raw, base) <= raw.nbytes * MOST_PERCENT[bits] / 100


def test_what_is_not_quantized_takes_what_sub_takes() -> None:
    base = normal(UNITS, 0.02, 1)
    raw = base + normal(UNITS, 1e-4, 2)
    sub = len(joined(codec_by_id(4).encode_block(raw.tobytes(), base.tobytes(), F32)))
    planes = len(joined(codec_by_id(3).encode_block(raw.tobytes(), b"", F32)))
    head = 4 + 3 * 6
    assert size(raw, base) == sub + head
    assert size(raw, None) == planes + head


def test_steps_are_not_written_where_differences_are_smaller() -> None:
    # few steps in the last place: 16 bits could hold them, but would spread them over two planes
    base = (1 + normal(UNITS, 0.01, 1)).astype(np.float32)
    raw = (base.view(np.uint32) + np.random.default_rng(2).integers(0, 3, UNITS, np.uint32)).view(np.float32)
    sub = len(joined(codec_by_id(4).encode_block(raw.tobytes(), base.tobytes(), F32)))
    assert size(raw, base) <= sub + 4 + 3 * 6


def mixed(base: np.ndarray, seed: int) -> np.ndarray:
    """Groups of every mode, in any order."""
    rng = np.random.default_rng(seed)
    special = special_bytes(F32)
    values = base + normal(base.size, 1e-3, seed)
    for start in range(0, base.size, GROUP):
        part = slice(start, start + GROUP)
        bits = (8, 16, 0)[rng.integers(3)]
        if bits:
            values[part] = quantize(values[part], base[part], bits)
        elif rng.random() < 0.5:
            values[start] = np.frombuffer(special[rng.integers(len(special))], np.float32)[0]
    return values


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 1 << 30), st.integers(1, 4 * GROUP + 50), st.integers(0, 3), st.integers(0, 500))
def test_groups_of_every_mode_come_back(
    restore: ModuleType, seed: int, units: int, tail: int, missing: int
) -> None:
    window = normal(units, 0.02, seed).tobytes()[: max(0, 4 * units - missing)]
    base = np.frombuffer(window.ljust(4 * units, b"\0"), np.float32)
    for codec, one_window, one_base in ((DELTA, window, base), (ALONE, b"", np.zeros_like(base))):
        raw = mixed(one_base, seed).tobytes() + b"end"[:tail]
        payload = joined(codec.encode_block(raw, one_window, F32))
        assert bytes(codec.decode_block(payload, len(raw), one_window, F32)) == raw
        assert restore.decode_block(codec.codec_id, F32, payload, len(raw), one_window, 0) == raw


@pytest.mark.parametrize(
    "path", [path for path in FILES if load(path).codec in (9, 10)], ids=lambda p: p.stem
)
def test_the_independent_reader_reads_frozen_payloads(restore: ModuleType, path: Path) -> None:
    golden = load(path)
    raw = restore.decode_block(golden.codec, golden.element, golden.payload, len(golden.raw), golden.base, 0)
    assert raw == golden.raw


def test_additions_round_to_even(restore: ModuleType) -> None:
    # 1 + 2^-24 and 1 + 3 * 2^-24 lie in the middle of two floats; a step of zero makes zero of -0.0
    base = np.array([1, 1, -0.0, 1], np.float32)
    code = (127 - 24) << 7
    payload = block([0], [code], stream(bytes([2, 6, 0, 1])))
    expected = np.array([1, 1 + 2**-22, 0.0, 1 - 2**-24], np.float32)
    for decode in (
        DELTA.decode_block(payload, 16, base.tobytes(), F32),
        restore.decode_block(10, F32, payload, 16, base.tobytes(), 0),
    ):
        assert bytes(decode) == expected.tobytes()


def stream(data: bytes) -> bytes:
    return struct.pack("<BI", 1, len(data)) + data


def streams(*data: bytes) -> bytes:
    table = b"".join(struct.pack("<BI", 1, len(one)) for one in data)
    return table + b"".join(data)


def block(modes: list[int], codes: list[int], body: bytes) -> bytes:
    groups = streams(bytes(modes), bytes(code & 0xFF for code in codes), bytes(code >> 8 for code in codes))
    return struct.pack("<I", len(groups)) + groups + body


ONE = 0x3F80
FINE = block([0], [ONE], stream(b"\2\1\0\xfe"))
MALFORMED = {
    "empty": b"",
    "no head": FINE[:3],
    "groups run past the end": struct.pack("<I", 1 << 31) + FINE[4:],
    "no groups": struct.pack("<I", 0) + FINE[4:],
    "groups cut": struct.pack("<I", 17) + FINE[4:],
    "a group too many": block([0, 0], [ONE, ONE], stream(b"\2\1\0\xfe")),
    "an unknown mode": block([3], [0], stream(b"\2\1\0\xfe")),
    "a scale of zero": block([0], [0], stream(b"\2\1\0\xfe")),
    "a negative scale": block([0], [ONE | 0x8000], stream(b"\2\1\0\xfe")),
    "a denormal scale": block([0], [0x7F], stream(b"\2\1\0\xfe")),
    "an infinite scale": block([0], [0x7F80], stream(b"\2\1\0\xfe")),
    "a scale that is no number": block([1], [0x7FC0], streams(b"\2\1\0\xfe", bytes(4))),
    "a scale of nothing": block([2], [ONE], streams(*[bytes(4)] * 4)),
    "overflow": block([0], [0x7F7F], stream(b"\2\1\0\xfe")),
    "too few steps": block([0], [ONE], stream(b"\2\1\0")),
    "too many steps": block([0], [ONE], stream(b"\2\1\0\xfe\0")),
    "steps of another mode": block([1], [ONE], stream(b"\2\1\0\xfe")),
    "bytes after the steps": FINE + b"\0",
}


@pytest.mark.parametrize("payload", MALFORMED.values(), ids=MALFORMED)
def test_malformed_payloads_are_refused(payload: bytes) -> None:
    raw = np.array([1, -1, 0, 127], np.float32).tobytes()
    assert joined(ALONE.encode_block(raw, b"", F32)) == FINE.replace(
        streams(b"\0", b"\x80", b"\x3f"), bytes.fromhex("00 01000000 00 01000000 00 01000000 00803f")
    )
    for codec in (ALONE, DELTA):
        assert bytes(codec.decode_block(FINE, 16, b"", F32)) == raw
        with pytest.raises(IntegrityError):
            codec.decode_block(payload, 16, b"", F32)


@pytest.mark.parametrize("unit", [np.nan, np.inf, -np.inf])
def test_a_step_from_a_base_that_is_no_number_is_refused(unit: float) -> None:
    with pytest.raises(IntegrityError):
        DELTA.decode_block(FINE, 16, np.array([0, unit], np.float32).tobytes(), F32)


def test_a_base_is_nothing_to_the_codec_without_one() -> None:
    raw = quantize(normal(100, 1, 1), None, 8).tobytes()
    payload = joined(ALONE.encode_block(raw, raw[::-1], F32))
    assert payload == joined(DELTA.encode_block(raw, b"", F32))
    assert bytes(ALONE.decode_block(payload, len(raw), raw[::-1], F32)) == raw
