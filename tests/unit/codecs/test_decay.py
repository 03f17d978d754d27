"""What is left of a weight by weight decay alone, and payloads that are not what "decay" writes."""

from __future__ import annotations

import importlib.util
import random
import struct
from functools import cache
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from coral_git.codecs.bucket import EXPONENTS, BucketCodec
from coral_git.codecs.choose import delta_codec, fitted_codec
from coral_git.codecs.decay import DecayCodec, find_table
from coral_git.codecs.sparse import SparseCodec
from coral_git.codecs.sub import SubCodec
from coral_git.errors import IntegrityError
from coral_git.types import Element

from .cases import joined, misaligned, raw_bytes
from .test_kernels import cut, kernels, ordered, to_units, unit_bytes

CODECS = [DecayCodec(inner=inner) for inner in (SubCodec(), BucketCodec(), SparseCodec())]
FLOATS = list(EXPONENTS)
HEAD = struct.Struct("<BBI")
ROWS, COLUMNS = 400, 256


def decayed(steps: int, touched: float, seed: int = 3) -> tuple[bytes, bytes]:
    """A float32 table of embeddings after some steps of weight decay, a part of its rows also trained."""
    draw = np.random.default_rng(seed)
    base = draw.standard_normal((ROWS, COLUMNS)).astype(np.float32) / 30
    raw = base.copy()
    for _ in range(steps):
        raw *= np.float32(1 - 2e-7)
    rows = draw.random(ROWS) < touched
    raw[rows] += draw.standard_normal((int(rows.sum()), COLUMNS)).astype(np.float32) * np.float32(1e-5)
    return raw.tobytes(), base.tobytes()


def size(codec: DecayCodec | SubCodec | BucketCodec, raw: bytes, base: bytes) -> int:
    payload = codec.encode_block(raw, base, Element.F32)
    assert codec.decodes_to(payload, raw, base, Element.F32)
    assert not codec.decodes_to(payload, raw[:-1] + bytes([raw[-1] ^ 1]), base, Element.F32)
    assert bytes(codec.decode_block(joined(payload), len(raw), base, Element.F32)) == raw
    return len(joined(payload))


@pytest.mark.parametrize("touched", [0.0, 0.3, 0.6])
@pytest.mark.parametrize("codec", CODECS, ids=lambda codec: codec.inner.name)
def test_rows_that_only_decayed_cost_little(codec: DecayCodec, touched: float) -> None:
    raw, base = decayed(200, touched)
    trained = round(len(raw) * touched * 0.8)
    assert size(codec, raw, base) < min(trained + 0.03 * len(raw), 0.9 * size(codec.inner, raw, base))  # type: ignore[arg-type]


@pytest.mark.parametrize("codec", CODECS, ids=lambda codec: codec.inner.name)
def test_without_decay_there_is_no_table(codec: DecayCodec) -> None:
    raw, base = decayed(0, 1.0)
    assert size(codec, raw, base) == size(codec.inner, raw, base) + HEAD.size  # type: ignore[arg-type]
    assert find_table(raw, base, Element.F32) is None


def test_a_sample_decides() -> None:
    for steps, touched, is_decayed in ((200, 0.3, True), (0, 1.0, False), (200, 1.0, False)):
        raw, base = decayed(steps, touched)
        for profile in ("fast", "best"):
            inner = delta_codec(Element.F32, ROWS * COLUMNS, profile)
            chosen = fitted_codec(Element.F32, ROWS * COLUMNS, profile, raw[:65536], base[:65536])
            assert chosen.name == ("decay" if is_decayed else inner.name)
    raw, base = decayed(200, 0.0)
    assert fitted_codec(Element.F32, 4095, "fast", raw[:16380], base[:16380]) == SubCodec()
    assert fitted_codec(Element.INT32, ROWS * COLUMNS, "fast", raw, base).name != "decay"


def test_a_sample_that_says_little_leaves_it_to_the_blocks() -> None:
    raw, base = decayed(200, 0.3)
    quiet = base[:65536]
    assert fitted_codec(Element.F32, ROWS * COLUMNS, "fast", quiet, quiet).name == "decay"
    assert find_table(quiet, quiet, Element.F32) is None
    for codec in CODECS:
        assert size(codec, base, base) == size(codec.inner, base, base) + HEAD.size  # type: ignore[arg-type]
        assert size(codec, raw, base) < 0.9 * size(codec.inner, raw, base)  # type: ignore[arg-type]


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_kernels_move_units_as_the_format_says(data: st.DataObject) -> None:
    element = data.draw(st.sampled_from(FLOATS))
    width, mantissa = element.width, EXPONENTS[element][0]
    whole, modulus = 8 * width, 1 << 8 * width
    bits = data.draw(st.integers(0, min(mantissa, 6)))
    base = data.draw(unit_bytes(width))
    steps = data.draw(st.lists(st.integers(0, modulus - 1), min_size=1 << bits, max_size=1 << bits))
    table = b"".join(step.to_bytes(width, "little") for step in steps)
    for kernel in kernels():
        moved = kernel.move_units(misaligned(base), misaligned(table), width, mantissa - bits, bits)
        for unit, after in zip(to_units(base, width), to_units(bytes(moved), width), strict=True):
            step = steps[unit >> mantissa - bits & (1 << bits) - 1]
            sign = -1 if unit >> whole - 1 else 1
            assert ordered(after, whole) == (ordered(unit, whole) + sign * step) % modulus
        before = bytes(width) + table[:-width]
        planes = cut(kernel.sub_split(table, before, width, False), width)
        assert bytes(kernel.running_sums(planes)) == table


@settings(max_examples=100, deadline=None)
@given(st.data())
def test_kernels_find_the_same_steps(data: st.DataObject) -> None:
    element = data.draw(st.sampled_from(FLOATS))
    width, mantissa = element.width, EXPONENTS[element][0]
    bits = data.draw(st.integers(0, min(mantissa, 9)))
    base = data.draw(raw_bytes(element, 400))
    base = base[: len(base) // width * width]
    rng = random.Random(data.draw(st.integers(0, 99)))
    share = data.draw(st.sampled_from([0.0, 0.1, 1.0]))
    raw = bytes(byte ^ rng.randrange(8) if rng.random() < share else byte for byte in base)
    tables = {
        bytes(one.usual_steps(raw, misaligned(base), width, mantissa - bits, bits)) for one in kernels()
    }
    assert len(tables) == 1


def test_the_usual_step_is_that_of_a_quarter() -> None:
    draw = np.random.default_rng(5)
    base = draw.standard_normal(64).astype(np.float32).view("<u4")
    steps = np.where(np.arange(64) % 3 == 0, 7, draw.integers(-(1 << 20), 1 << 20, 64))
    for kernel in kernels():
        raw = base + steps.astype("<u4")
        assert bytes(kernel.usual_steps(raw.tobytes(), base.tobytes(), 4, 23, 0)) == struct.pack("<I", 7)
        few, faced = raw[:7].tobytes(), base[:7].tobytes()
        assert bytes(kernel.usual_steps(few, faced, 4, 23, 0)) == bytes(4)


@pytest.mark.parametrize(("shift", "bits"), [(0, 17), (-1, 3), (29, 4), (31, 1), (0, -1)])
def test_cells_must_lie_below_the_sign(shift: int, bits: int) -> None:
    for kernel in kernels():
        with pytest.raises(ValueError, match="mantissa"):
            kernel.usual_steps(bytes(64), bytes(64), 4, shift, bits)
        with pytest.raises(ValueError, match="mantissa"):
            kernel.move_units(bytes(64), bytes(64), 4, shift, bits)


def test_lengths_of_tables_are_checked() -> None:
    for kernel in kernels():
        for base, table, width in ((bytes(64), bytes(12), 4), (bytes(63), bytes(8), 4), (b"abc", b"abc", 3)):
            with pytest.raises(ValueError, match=r"table|units|bytes"):
                kernel.move_units(base, table, width, 0, 1)
        with pytest.raises(ValueError, match=r"base|units"):
            kernel.usual_steps(bytes(64), bytes(60), 4, 22, 1)


@cache
def reader() -> ModuleType:
    path = Path(__file__).parents[3] / "docs" / "format" / "restore.py"
    spec = importlib.util.spec_from_file_location("restore", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_the_independent_reader_agrees(data: st.DataObject) -> None:
    restore = reader()
    element = data.draw(st.sampled_from(FLOATS))
    width, mantissa = element.width, EXPONENTS[element][0]
    raw = data.draw(raw_bytes(element, 100))
    base = data.draw(raw_bytes(element, 100))
    units = len(raw) // width
    bits = data.draw(st.integers(0, min(mantissa, 5, max(units.bit_length() - 1, 0))))
    codec = data.draw(st.sampled_from(CODECS))
    table = random.Random(bits).randbytes(width << bits)
    planes = cut(table, width)
    stored = b"".join(struct.pack("<BI", 1, 1 << bits) for _ in planes) + table if bits else b""
    if not units:
        payload = joined(codec.encode_block(raw, base, element))
    else:
        faced = base[: units * width].ljust(units * width, b"\0")
        kernel = kernels()[0]
        moved = kernel.move_units(faced, kernel.running_sums(planes), width, mantissa - bits, bits)
        inner = codec.inner.encode_block(raw, moved if bits else faced, element)
        payload = HEAD.pack(codec.inner.codec_id, bits, len(stored)) + stored + joined(inner)
    assert bytes(codec.decode_block(payload, len(raw), base, element)) == raw
    assert restore.decode_block(11, int(element), payload, len(raw), base, 0) == raw


UNITS = struct.pack("<40I", *range(0x3F800000, 0x3F800028))
INNER = joined(SubCodec().encode_block(UNITS, UNITS, Element.F32))
ZEROS = 4 * struct.pack("<BI", 0, 1) + bytes(4)
BAD_HEADS = {
    "no head": b"\4\0\0",
    "an inner codec that needs no base": HEAD.pack(3, 0, 0) + INNER,
    "itself inside": HEAD.pack(11, 0, 0) + INNER,
    "a table past the end": HEAD.pack(4, 1, 999) + INNER,
    "a table without bits": HEAD.pack(4, 0, len(ZEROS)) + ZEROS + INNER,
    "bits without a table": HEAD.pack(4, 1, 0) + INNER,
    "more entries than units": HEAD.pack(4, 6, len(ZEROS)) + ZEROS + INNER,
    "more bits than the mantissa": HEAD.pack(4, 24, len(ZEROS)) + ZEROS + INNER,
    "a table cut short": HEAD.pack(4, 1, len(ZEROS) - 1) + ZEROS[:-1] + INNER,
    "no inner payload": HEAD.pack(4, 1, len(ZEROS)) + ZEROS,
}


@pytest.mark.parametrize("payload", BAD_HEADS.values(), ids=BAD_HEADS)
def test_malformed_heads_are_refused(payload: bytes) -> None:
    fine = HEAD.pack(4, 5, len(ZEROS)) + ZEROS + INNER
    assert bytes(DecayCodec().decode_block(fine, len(UNITS), UNITS, Element.F32)) == UNITS
    with pytest.raises(IntegrityError):
        DecayCodec().decode_block(payload, len(UNITS), UNITS, Element.F32)


def test_elements_without_a_mantissa_have_no_table() -> None:
    for element in set(Element) - set(FLOATS):
        payload = HEAD.pack(4, 1, 5 * element.width + element.width)
        payload += element.width * struct.pack("<BI", 0, 1) + bytes(element.width)
        with pytest.raises(IntegrityError, match="bits of the mantissa"):
            DecayCodec().decode_block(payload, 64, bytes(64), element)
