"""Safetensors files: those that the library writes, and those that nobody should."""

from __future__ import annotations

import json
import struct
import time
import tracemalloc
from math import prod
from typing import Any

import numpy as np
import pytest
import safetensors
import safetensors.numpy
from hypothesis import given, settings
from hypothesis import strategies as st

from coral_git.formats.base import Layout, TensorSegment
from coral_git.formats.registry import read_layout
from coral_git.formats.safetensors import DTYPE_NAMES
from coral_git.limits import DEFAULT_LIMITS, Limits
from coral_git.types import DTYPES, BytesSource

NUMPY_DTYPES = ["f8", "f4", "f2", "i8", "u8", "i4", "u4", "i2", "u2", "i1", "u1", "?", "c8"]
ENTRY = '{"dtype":"F32","shape":[2],"data_offsets":[0,8]}'


def layout_of(data: bytes, limits: Limits = DEFAULT_LIMITS) -> Layout | None:
    return read_layout(BytesSource(data), limits)


def file_of(header: str | bytes, data: bytes = bytes(8)) -> bytes:
    raw = header.encode() if isinstance(header, str) else header
    return struct.pack("<Q", len(raw)) + raw + data


def file_of_tensors(entries: dict[str, tuple[str, list[int]]], **dump: Any) -> bytes:
    """A file with the tensors one after the other."""
    header: dict[str, Any] = {}
    end = 0
    for name, (dtype, shape) in entries.items():
        start, end = end, end + prod(shape) * DTYPES[dtype].bits // 8
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [start, end]}
    return file_of(json.dumps(header, **dump), bytes(n % 251 for n in range(end)))


def content(data: bytes, segment: TensorSegment) -> bytes:
    return data[segment.offset : segment.offset + segment.length]


def check_against_library(data: bytes) -> None:
    """The same names, types, shapes and bytes as the library sees."""
    layout = layout_of(data)
    assert layout is not None
    assert layout.format == "safetensors/1"
    ours = {t.name: (t.dtype.name, list(t.shape), content(data, t)) for t in layout.tensors}
    theirs = safetensors.deserialize(data)
    assert ours == {name: (view["dtype"], view["shape"], bytes(view["data"])) for name, view in theirs}
    assert len(layout.tensors) == len(theirs)
    assert [t.offset for t in layout.tensors] == sorted(t.offset for t in layout.tensors)


def test_what_the_library_writes() -> None:
    rng = np.random.default_rng(1)
    tensors = {f"layer.{code}": rng.integers(0, 2, (3, 5)).astype(code) for code in NUMPY_DTYPES}
    tensors |= {
        "scalar": np.array(3, "f4"),
        "empty": np.zeros((0, 7), np.float32),
        "späß 🙂": np.ones(9),
    }
    check_against_library(safetensors.numpy.save(tensors))
    check_against_library(safetensors.numpy.save(tensors, metadata={"format": "pt", 'a"\\\n': "{[,]}"}))
    check_against_library(safetensors.numpy.save({}))


# The library refuses the FNUZ types in some of its versions, so they are only read here.
@pytest.mark.parametrize("dtype", sorted(DTYPE_NAMES))
def test_every_dtype_of_the_format(dtype: str) -> None:
    data = file_of_tensors({"a": (dtype, [3, 8]), "b": (dtype, [0]), "c": (dtype, [8])})
    layout = layout_of(data)
    assert layout is not None
    assert {t.dtype.name for t in layout.tensors} == {dtype}
    assert sum(t.length for t in layout.tensors) == 32 * DTYPES[dtype].bits // 8
    if not dtype.endswith("FNUZ"):
        check_against_library(data)


@settings(max_examples=50, deadline=None)
@given(
    st.dictionaries(
        st.text(max_size=8).filter(lambda name: name != "__metadata__"),
        st.tuples(
            st.sampled_from(["F32", "BF16", "F8_E4M3", "I64"]), st.lists(st.integers(0, 4), max_size=3)
        ),
        max_size=6,
    ),
    st.booleans(),
    st.sampled_from([None, 0, 1, "\t"]),
)
def test_any_spelling_of_the_header(
    entries: dict[str, tuple[str, list[int]]], ascii_only: bool, indent: int | str | None
) -> None:
    data = file_of_tensors(entries, ensure_ascii=ascii_only, indent=indent)
    check_against_library(data)


def test_fields_in_any_order_and_padding() -> None:
    header = ' { "a" : { "data_offsets" : [ 0 , 8 ] , "shape" : [ 2 ] ,\n"dtype" : "F32" } } \n\t '
    # the library wants the brace first; the sniffer too
    assert layout_of(file_of(header)) is None
    layout = layout_of(file_of(header.lstrip()))
    assert layout is not None
    assert [(t.name, t.shape, t.length) for t in layout.tensors] == [("a", (2,), 8)]


def test_holes_and_trailing_bytes_are_rest() -> None:
    header = json.dumps(
        {
            "late": {"dtype": "U8", "shape": [4], "data_offsets": [20, 24]},
            "none": {"dtype": "U8", "shape": [0], "data_offsets": [20, 20]},
            "early": {"dtype": "U8", "shape": [4], "data_offsets": [3, 7]},
        }
    )
    data = file_of(header, bytes(range(40)))
    layout = layout_of(data)
    assert layout is not None
    assert [(t.name, content(data, t)) for t in layout.tensors] == [
        ("early", bytes([3, 4, 5, 6])),
        ("none", b""),
        ("late", bytes([20, 21, 22, 23])),
    ]


def entry(**changes: Any) -> str:
    return json.dumps({"a": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]} | changes})


def test_the_helpers_make_valid_files() -> None:
    for header in (entry(), f'{{"a":{ENTRY}}}'):
        assert layout_of(file_of(header)) is not None


HOSTILE = {
    "empty": b"",
    "header of length zero": struct.pack("<Q", 0) + b"{}",
    "header longer than the file": struct.pack("<Q", 99) + b"{}",
    "header of 2^64-1": struct.pack("<Q", 2**64 - 1) + b"{}" + bytes(99),
    "header of 2^63": struct.pack("<Q", 2**63) + b"{}" + bytes(99),
    "not UTF-8": file_of(entry().encode().replace(b'"a"', b'"\xff"')),
    "UTF-8 surrogate": file_of(entry().encode().replace(b'"a"', b'"\xed\xa0\x80"')),
    "overlong UTF-8": file_of(entry().encode().replace(b'"a"', b'"\xc0\xaf"')),
    "lone surrogate": file_of(entry().replace('"a"', '"\\ud800"')),
    "reversed surrogates": file_of(entry().replace('"a"', '"\\udc00\\ud800"')),
    "deep lists": file_of('{"a":' + "[" * 100_000 + "]" * 100_000 + "}"),
    "deep objects": file_of('{"a":' * 100_000 + "1" + "}" * 100_000),
    "deep shape": file_of(entry(shape=[[2]])),
    "number of 5000 digits": file_of(entry().replace("[2]", f"[{'9' * 5000}]")),
    "number of 20 digits": file_of(entry().replace("[2]", f"[{'0' * 19}2]")),
    "NaN": file_of(entry(shape=[float("nan")])),
    "Infinity": file_of(entry(shape=[float("inf")])),
    "float": file_of(entry(shape=[2.0])),
    "exponent": file_of(entry().replace("[2]", "[2e0]")),
    "true": file_of(entry(shape=[2, True])),
    "null": file_of(entry(shape=None)),
    "text for a number": file_of(entry(shape=["2"])),
    "negative": file_of(entry(shape=[-2])),
    "negative zero": file_of(entry().replace("[0, 8]", "[-0, 8]")),
    "leading zero": file_of(entry().replace("[2]", "[02]")),
    "plus": file_of(entry().replace("[2]", "[+2]")),
    "other digits": file_of(entry().replace("[2]", "[٢]")),
    "missing number": file_of(entry().replace("[2]", "[2,]")),
    "blank number": file_of(entry().replace("[2]", "[,2]")),
    "blank between digits": file_of(entry(shape=[12], data_offsets=[0, 48]).replace("12", "1 2"), bytes(48)),
    "a name twice": file_of(f'{{"a":{ENTRY},"a":{ENTRY}}}'),
    "a name twice, spelled in two ways": file_of(f'{{"a":{ENTRY},"\\u0061":{ENTRY}}}'),
    "metadata twice": file_of(f'{{"__metadata__":{{}},"a":{ENTRY},"__metadata__":{{}}}}'),
    "metadata that is no object": file_of(f'{{"__metadata__":[],"a":{ENTRY}}}'),
    "metadata with numbers": file_of(f'{{"__metadata__":{{"x":1}},"a":{ENTRY}}}'),
    "metadata with objects": file_of(f'{{"__metadata__":{{"x":{{}}}},"a":{ENTRY}}}'),
    "metadata with a comma too many": file_of(f'{{"__metadata__":{{"x":"y",}},"a":{ENTRY}}}'),
    "metadata with a bad escape": file_of(f'{{"__metadata__":{{"x":"\\q"}},"a":{ENTRY}}}'),
    "a field twice": file_of(entry().replace('"shape": [2]', '"shape": [2], "shape": [2]')),
    "a field twice instead of another": file_of(entry().replace('"dtype": "F32"', '"shape": [2]')),
    "a field too many": file_of(entry(more=[1])),
    "a field too few": file_of('{"a":{"dtype":"F32","shape":[2]}}'),
    "no fields": file_of('{"a":{}}'),
    "dtype as list": file_of(entry(dtype=[2])),
    "unknown dtype": file_of(entry(dtype="F33")),
    "lower-case dtype": file_of(entry(dtype="f32")),
    "offsets beyond the file": file_of(entry(shape=[4], data_offsets=[0, 16])),
    "offsets far beyond the file": file_of(entry(shape=[2**60], data_offsets=[0, 2**62])),
    "reversed offsets": file_of(entry(data_offsets=[8, 0])),
    "one offset": file_of(entry(data_offsets=[8])),
    "three offsets": file_of(entry(data_offsets=[0, 8, 8])),
    "length unlike shape": file_of(entry(shape=[1])),
    "length of nothing": file_of(entry(data_offsets=[0, 0])),
    "product beyond 2^64": file_of(entry(shape=[2**62, 8, 2**61], data_offsets=[0, 0])),
    "part of a byte": file_of(entry(dtype="F4", shape=[3], data_offsets=[0, 1])),
    "too many dimensions": file_of(entry(shape=[1] * 64 + [2])),
    "endless dimensions": file_of(entry().replace("[2]", "[" + "1," * 1_000_000 + "2]")),
    "overlap": file_of(f'{{"a":{ENTRY},"b":{ENTRY.replace("[0,8]", "[4,12]")}}}', bytes(12)),
    "the same bytes twice": file_of(f'{{"a":{ENTRY},"b":{ENTRY}}}'),
    "long name": file_of(entry().replace('"a"', f'"{"n" * 1025}"')),
    "long name of escapes": file_of(entry().replace('"a"', '"' + "\\n" * 1025 + '"')),
    "long name in UTF-8": file_of(entry().replace('"a"', '"' + "ä" * 513 + '"')),
    "control character": file_of(entry().replace('"a"', '"a\n"')),
    "bad escape": file_of(entry().replace('"a"', '"\\a"')),
    "half an escape": file_of(entry().replace('"a"', '"\\u00"')),
    "unfinished text": file_of('{"a'),
    "unfinished object": file_of(entry()[:-1]),
    "comma at the end": file_of(f'{{"a":{ENTRY},}}'),
    "comma at the beginning": file_of(f'{{,"a":{ENTRY}}}'),
    "two objects": file_of("{}{}"),
    "something after the object": file_of("{} x"),
    "zeros after the object": file_of("{}\0\0"),
    "other white space": file_of("{\u00a0}"),
    "a list": file_of("[]"),
    "a zip file": b"PK\x03\x04" + bytes(99),
}


@pytest.mark.parametrize("data", HOSTILE.values(), ids=HOSTILE.keys())
def test_strange_files_have_no_layout(data: bytes) -> None:
    assert layout_of(data) is None


def test_limits_hold() -> None:
    data = file_of(entry())
    assert layout_of(data) is not None
    assert layout_of(data, Limits(header_bytes=len(data) - 17)) is None
    assert layout_of(data, Limits(rank=0)) is None
    assert layout_of(data, Limits(name_bytes=0)) is None


BOMBS = {
    "empty lists": b'{"a":[' + b"[]," * 3_000_000 + b"[]]}",
    "empty objects": b'{"a":{' + b'"":{},' * 2_000_000 + b"}}",
    "numbers": b'{"a":{"shape":[' + b"0," * 5_000_000 + b"0]}}",
    "dimensions": b'{"a":{"dtype":"F32","shape":[' + b"0," * 5_000_000 + b'0],"data_offsets":[0,0]}}',
    "escapes": b'{"' + b"\\n" * 5_000_000 + b'":1}',
    "white space": b"{" + b" " * 10_000_000,
    "metadata": b'{"__metadata__":{' + b'"a":"b",' * 1_000_000 + b'"c":"d"},',
    "metadata of escapes": b'{"__metadata__":{"a":"' + b'\\"' * 5_000_000,
    "unfinished text": b'{"' + b"a" * 10_000_000,
}


@pytest.mark.parametrize("header", BOMBS.values(), ids=BOMBS.keys())
def test_bombs_take_little_time_and_memory(header: bytes) -> None:
    data = file_of(header)
    tracemalloc.start()
    start = time.process_time()
    assert layout_of(data) is None
    spent = time.process_time() - start
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 8 * len(header)
    assert spent < 5


def test_metadata_of_any_kind_is_passed_over() -> None:
    metadata = json.dumps({f"key {n}": '[{,:}]\\"\n' * 5 for n in range(20_000)})
    layout = layout_of(file_of(f'{{"__metadata__":{metadata},"a":{ENTRY}}}'))
    assert layout is not None
    assert [t.name for t in layout.tensors] == ["a"]


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_any_damage_gives_a_sound_layout_or_none(data: st.DataObject) -> None:
    file = bytearray(file_of_tensors({"a": ("F32", [2, 3]), "b": ("BF16", [4]), "c": ("I8", [])}))
    for _ in range(data.draw(st.integers(1, 4))):
        file[data.draw(st.integers(0, len(file) - 1))] = data.draw(
            st.integers(0, 255) | st.sampled_from(b'0"[]{},:\\')
        )
    layout = layout_of(bytes(file))
    end = 0
    for tensor in layout.tensors if layout is not None else ():
        assert end <= tensor.offset
        assert tensor.length == prod(tensor.shape) * tensor.dtype.bits // 8
        end = tensor.offset + tensor.length
    assert end <= len(file)
