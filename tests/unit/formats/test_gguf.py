"""GGUF files: those that llama.cpp's Python package writes, and those that nobody should."""

from __future__ import annotations

import struct
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from coral_git.formats.base import Layout
from coral_git.formats.gguf import TYPES, GgufReader
from coral_git.formats.registry import read_layout
from coral_git.limits import DEFAULT_LIMITS, Limits
from coral_git.types import DTYPES, BytesSource

from .hostile import ask, contents, damaged

gguf = pytest.importorskip("gguf")

READER = GgufReader()
PLAIN = {"F32": "f4", "F16": "f2", "F64": "f8", "I8": "i1", "I16": "i2", "I32": "i4", "I64": "i8"}


def written(path: Path, fill: Callable[[Any], None], big: bool = False) -> bytes:
    """A file of the library."""
    endian = gguf.GGUFEndian.BIG if big else gguf.GGUFEndian.LITTLE
    writer = gguf.GGUFWriter(path, "llama", endianess=endian)
    fill(writer)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path.read_bytes()


def layout_of(data: bytes) -> Layout:
    layout = read_layout(BytesSource(data), DEFAULT_LIMITS)
    assert layout is not None
    assert layout == ask(READER, data)
    assert layout.format == "gguf/1"
    return layout


def check_against_library(path: Path, data: bytes) -> Layout:
    layout = layout_of(data)
    theirs = gguf.GGUFReader(path).tensors
    assert {t.name: t.data.tobytes() for t in theirs} == contents(data, layout)
    assert [t.name for t in sorted(theirs, key=lambda t: t.data_offset)] == [t.name for t in layout.tensors]
    shapes = {t.name: tuple(t.shape.tolist()[::-1]) for t in theirs}
    assert {t.name: t.shape for t in layout.tensors if t.dtype.name != "U8"} == {
        t.name: shapes[t.name] for t in layout.tensors if t.dtype.name != "U8"
    }
    return layout


def metadata(writer: Any) -> None:
    writer.add_uint32("a.count", 3)
    writer.add_float64("a.rate", 0.5)
    writer.add_bool("a.truth", True)
    writer.add_array("tokens", [f"token {n}" for n in range(300)])
    writer.add_array("scores", [float(n) for n in range(300)])
    writer.add_string("späß", "🙂" * 20)


def test_block_sizes_are_those_of_ggml() -> None:
    types = {int(kind): (kind.name, gguf.GGML_QUANT_SIZES[kind]) for kind in gguf.GGMLQuantizationType}
    assert len(types.keys() & TYPES.keys()) > 25
    for number in types.keys() & TYPES.keys():
        name, (values, length) = types[number]
        dtype = DTYPES[TYPES[number]]
        assert dtype.name == name
        if name == "Q8_1":
            # two float16 and 32 bytes (block_q8_1 of ggml-common.h); the package still says two float32
            assert (values, length, dtype.bits // 8) == (32, 40, 36)
        else:
            assert (dtype.values, dtype.bits // 8) == (values, length)


@pytest.mark.parametrize("big", [False, True])
@pytest.mark.parametrize("alignment", [None, 64])
def test_plain_types(tmp_path: Path, big: bool, alignment: int | None) -> None:
    def fill(writer: Any) -> None:
        metadata(writer)
        if alignment:
            writer.add_custom_alignment(alignment)
        for name, code in PLAIN.items():
            writer.add_tensor(f"blk.0.{name}", np.arange(15).reshape(3, 5).astype(code))
        writer.add_tensor("four", np.arange(24, dtype="f4").reshape(1, 2, 3, 4))

    data = written(tmp_path / "m.gguf", fill, big)
    layout = check_against_library(tmp_path / "m.gguf", data)
    ending = "_BE" if big else ""
    wanted = [name if name == "I8" else name + ending for name in PLAIN]
    assert [t.dtype.name for t in layout.tensors] == [*wanted, "F32" + ending]
    assert layout.tensors[-1].shape == (1, 2, 3, 4)
    assert all(t.offset % (alignment or 32) == 0 for t in layout.tensors)
    old = data[:4] + struct.pack(">I" if big else "<I", 2) + data[8:]
    assert layout_of(old) == layout


@pytest.mark.parametrize("big", [False, True])
def test_blocks(tmp_path: Path, big: bool) -> None:
    names = TYPES.values() - PLAIN.keys() - {"Q8_1"}
    kinds = [kind for kind in gguf.GGMLQuantizationType if kind.name in names]
    sizes = gguf.GGML_QUANT_SIZES

    def fill(writer: Any) -> None:
        for kind in kinds:
            array = np.arange(3 * 2 * sizes[kind][1], dtype="u1").reshape(3, -1)
            writer.add_tensor(kind.name, array, raw_dtype=kind)

    data = written(tmp_path / "m.gguf", fill, big)
    layout = check_against_library(tmp_path / "m.gguf", data)
    for tensor, kind in zip(layout.tensors, kinds, strict=True):
        values, length = sizes[kind]
        if big:
            assert (tensor.dtype.name, tensor.shape) == ("U8", (3, 2 * length))
        else:
            assert (tensor.dtype.name, tensor.shape) == (kind.name, (3, 2 * values))


def test_a_real_quantization(tmp_path: Path) -> None:
    weights = np.random.default_rng(1).standard_normal((4, 64), np.float32)
    quantized = gguf.quants.quantize(weights, gguf.GGMLQuantizationType.Q8_0)

    def fill(writer: Any) -> None:
        writer.add_tensor("w", quantized, raw_dtype=gguf.GGMLQuantizationType.Q8_0)

    (tensor,) = check_against_library(tmp_path / "m.gguf", written(tmp_path / "m.gguf", fill)).tensors
    assert (tensor.dtype.name, tensor.shape, tensor.length) == ("Q8_0", (4, 64), 4 * 2 * 34)


def test_metadata_larger_than_the_window(tmp_path: Path) -> None:
    def fill(writer: Any) -> None:
        writer.add_array("tokens", [f"{n}" * (n % 90) for n in range(20_000)])
        writer.add_string("text", "x" * 600_000)
        writer.add_array("more", ["y" * 300_000] * 3)
        writer.add_tensor("a", np.arange(3, dtype="f4"))

    data = written(tmp_path / "m.gguf", fill)
    assert contents(data, layout_of(data)) == {"a": np.arange(3, dtype="f4").tobytes()}


def text(value: bytes | str) -> bytes:
    raw = value.encode() if isinstance(value, str) else value
    return struct.pack("<Q", len(raw)) + raw


def info(name: bytes | str = "a", dims: tuple[int, ...] = (2,), kind: int = 0, offset: int = 0) -> bytes:
    return text(name) + struct.pack(f"<I{len(dims)}QIQ", len(dims), *dims, kind, offset)


def file_of(
    *infos: bytes,
    pairs: tuple[bytes, ...] = (),
    version: int = 3,
    counts: tuple[int, int] | None = None,
    data: bytes = bytes(64),
) -> bytes:
    n_tensors, n_pairs = counts or (len(infos), len(pairs))
    head = b"GGUF" + struct.pack("<IQQ", version, n_tensors, n_pairs) + b"".join((*pairs, *infos))
    return head + bytes(-len(head) % 32) + data


def aligned(value: int, kind: int = 4) -> bytes:
    return text("general.alignment") + struct.pack("<II", kind, value)


def array(kind: int, count: int, rest: bytes = b"") -> bytes:
    return text("k") + struct.pack("<IIQ", 9, kind, count) + rest


def test_the_helpers_make_valid_files() -> None:
    data = file_of(
        info(), info("b", (3, 2), 24, 32), pairs=(aligned(32), array(8, 1, text("t")), array(4, 0))
    )
    assert [(t.name, t.dtype.name, t.shape) for t in layout_of(data).tensors] == [
        ("a", "F32", (2,)),
        ("b", "I8", (2, 3)),
    ]
    (scalar,) = layout_of(file_of(info(dims=()))).tensors
    assert (scalar.shape, scalar.length) == ((), 4)
    assert layout_of(file_of()).tensors == ()


def test_order_of_the_file_and_tensors_without_bytes() -> None:
    data = file_of(info("late", (2,), 0, 32), info("none", (0,), 0, 32), info("early", (2,), 0, 0))
    assert [t.name for t in layout_of(data).tensors] == ["early", "none", "late"]


HOSTILE = {
    "nothing": b"GGUF",
    "version 0": file_of(info(), version=0),
    "version 1": file_of(info(), version=1),
    "version 4": file_of(info(), version=4),
    "version 2^24": file_of(info(), version=1 << 24),
    "2^60 tensors": file_of(info(), counts=(1 << 60, 0)),
    "2^20 tensors": file_of(info(), counts=(1 << 20, 0)),
    "2^60 pairs": file_of(info(), counts=(1, 1 << 60)),
    "2^16 + 1 pairs": file_of(pairs=((text("") + struct.pack("<IB", 0, 0)) * 0x10001,), counts=(0, 0x10001)),
    "2^64-1 pairs": file_of(info(), counts=(0, (1 << 64) - 1)),
    "a key of 2^63": file_of(info(), pairs=(struct.pack("<Q", 1 << 63),)),
    "a text of 2^63": file_of(info(), pairs=(text("k") + struct.pack("<IQ", 8, 1 << 63),)),
    "a text of 2^64-1": file_of(info(), pairs=(text("k") + struct.pack("<IQ", 8, (1 << 64) - 1),)),
    "an array of 2^60 numbers": file_of(info(), pairs=(array(12, 1 << 60),)),
    "an array of 2^60 texts": file_of(info(), pairs=(array(8, 1 << 60),)),
    "an array of 2^60 arrays": file_of(info(), pairs=(array(9, 1 << 60),)),
    "an array of arrays": file_of(info(), pairs=(array(9, 1, struct.pack("<IQ", 4, 0)),)),
    "an array of an unknown type": file_of(info(), pairs=(array(13, 0),)),
    "a value of an unknown type": file_of(info(), pairs=(text("k") + struct.pack("<I", 13),)),
    "alignment 0": file_of(info(), pairs=(aligned(0),)),
    "alignment 24": file_of(info(), pairs=(aligned(24),)),
    "alignment of another type": file_of(info(), pairs=(aligned(32, 5),)),
    "alignment twice": file_of(info(), pairs=(aligned(32), aligned(32))),
    "alignment beyond the file": file_of(info(), pairs=(aligned(1 << 31),)),
    "unaligned": file_of(info(offset=8)),
    "offset beyond the file": file_of(info(offset=96)),
    "offset 2^63": file_of(info(offset=1 << 63)),
    "tensor beyond the file": file_of(info(dims=(17,))),
    "dimension 2^62": file_of(info(dims=(1 << 62,))),
    "dimension 2^63 beside 0": file_of(info(dims=(1 << 63, 0))),
    "product beyond 2^64": file_of(info(dims=(1 << 32, 1 << 32))),
    "2^32-1 dimensions": file_of(text("a") + struct.pack("<IQ", (1 << 32) - 1, 1)),
    "65 dimensions": file_of(info(dims=(1,) * 65)),
    "unknown type": file_of(info(kind=99)),
    "type that is gone": file_of(info(kind=4)),
    "row of half a block": file_of(info(dims=(16, 2), kind=8)),
    "scalar block": file_of(info(dims=(), kind=8)),
    "overlap": file_of(info(), info("b", (2,), 0, 0)),
    "a name twice": file_of(info(), info(offset=32)),
    "long name": file_of(info("n" * 1025)),
    "name of 2^63": file_of(struct.pack("<Q", 1 << 63) + bytes(99)),
    "not UTF-8": file_of(info(b"\xff")),
    "zeros": b"GGUF" + bytes(200),
}


@pytest.mark.parametrize("data", HOSTILE.values(), ids=HOSTILE.keys())
def test_strange_files_have_no_layout(data: bytes) -> None:
    assert ask(READER, data) is None


def test_limits_hold() -> None:
    data = file_of(info(dims=(2, 1)), data=bytes(8))
    assert ask(READER, data, Limits(header_bytes=len(data) - 8)) is not None
    assert ask(READER, data, Limits(header_bytes=40)) is None
    assert ask(READER, data, Limits(rank=1)) is None
    assert ask(READER, data, Limits(name_bytes=0)) is None


def test_a_cut_anywhere_is_noticed() -> None:
    data = file_of(info(), pairs=(aligned(32), array(8, 2, text("t") * 2)), data=bytes(8))
    assert ask(READER, data) is not None
    for length in range(len(data)):
        assert ask(READER, data[:length]) is None


BOMBS = {
    "empty texts": array(8, 1 << 40, bytes(4_000_000)),
    "empty pairs": (text("") + struct.pack("<IB", 0, 0)) * 0x10000,
    "a long key": text(b"k" * 4_000_000),
    "a long text": text("k") + struct.pack("<I", 8) + text(b"k" * 4_000_000),
}


@pytest.mark.parametrize("pair", BOMBS.values(), ids=BOMBS.keys())
def test_bombs_take_little_memory(pair: bytes) -> None:
    data = file_of(pairs=(pair,), counts=(1 << 20, 1 << 16))
    tracemalloc.start()
    assert ask(READER, data) is None
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2 << 20


PAIRS = (aligned(32), array(8, 2, text("t") * 2), array(4, 1, bytes(4)))
SAMPLE = file_of(info(), info("b", (32,), 8, 32), pairs=PAIRS, data=bytes(96))


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_any_damage_gives_a_sound_layout_or_none(data: st.DataObject) -> None:
    assert ask(READER, SAMPLE) is not None
    ask(READER, damaged(data, SAMPLE))
