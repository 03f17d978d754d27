"""NumPy arrays: those that numpy writes, and those that nobody should."""

from __future__ import annotations

import io
import struct
import tracemalloc

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from coral_git.formats.base import Layout
from coral_git.formats.npy import NpyReader
from coral_git.formats.registry import read_layout
from coral_git.limits import DEFAULT_LIMITS, Limits
from coral_git.types import BytesSource

from .hostile import ask, contents, damaged

READER = NpyReader()
DTYPES = {
    "?": "BOOL",
    "u1": "U8",
    "i1": "I8",
    "<u2": "U16",
    ">i2": "I16_BE",
    "<i4": "I32",
    ">u4": "U32_BE",
    "<i8": "I64",
    ">u8": "U64_BE",
    "<f2": "F16",
    ">f2": "F16_BE",
    "<f4": "F32",
    ">f4": "F32_BE",
    "<f8": "F64",
    ">f8": "F64_BE",
    "<c8": "C64",
    ">c8": "C64_BE",
    "<c16": "C128",
    ">c16": "C128_BE",
    "<M8[ns]": "I64",
    ">m8[25s]": "I64_BE",
    "<M8": "I64",
}
ITEMS = {
    "<U5": 20,
    "S3": 3,
    "V3": 3,
    "<f16": 16,
    "<c32": 32,
    "i4,f8": 12,
}
RECORDS = [
    np.dtype([("a", "<f4"), ("b", ">i2", (3, 2)), ("é'\"\\", "S3")]),
    np.dtype([("a", [("b", [("c", "u1"), ("d", "<U2", 2)])], (2,)), ("e", "f8")]),
    np.dtype([(("a title", "a"), "<f4"), ("b", "i1")], align=True),
    np.dtype({"names": ["a", "b"], "formats": ["f4", "i2"], "offsets": [4, 12], "itemsize": 32}),
    np.dtype([]),
]
F32 = "{'descr': '<f4', 'fortran_order': False, 'shape': (2,), }"


def saved(array: np.ndarray) -> bytes:
    file = io.BytesIO()
    np.save(file, array, allow_pickle=False)
    return file.getvalue()


def file_of(header: str | bytes, data: bytes = bytes(8), version: int = 1) -> bytes:
    raw = header.encode("latin-1") if isinstance(header, str) else header
    length = struct.pack("<H" if version == 1 else "<I", len(raw))
    return b"\x93NUMPY" + bytes([version, 0]) + length + raw + data


def layout_of(data: bytes, limits: Limits = DEFAULT_LIMITS) -> Layout:
    layout = read_layout(BytesSource(data), limits)
    assert layout is not None
    assert layout == ask(READER, data, limits)
    assert layout.format == "npy/1"
    return layout


@pytest.mark.parametrize(("code", "name"), DTYPES.items())
@pytest.mark.parametrize("shape", [(), (3,), (0, 2), (2, 3, 1)])
def test_every_dtype(code: str, name: str, shape: tuple[int, ...]) -> None:
    array = np.frombuffer(bytes(range(96)), code)[: int(np.prod(shape))].reshape(shape)
    data = saved(array)
    (tensor,) = layout_of(data).tensors
    assert (tensor.name, tensor.dtype.name, tensor.shape) == ("array", name, shape)
    assert contents(data, layout_of(data)) == {"array": array.tobytes()}


@pytest.mark.parametrize("dtype", [*ITEMS, *RECORDS], ids=str)
@pytest.mark.filterwarnings("ignore:Stored array in format")
def test_values_without_a_name_are_bytes(dtype: str | np.dtype) -> None:
    item = np.dtype(dtype).itemsize
    assert not isinstance(dtype, str) or item == ITEMS[dtype]
    array = np.zeros((3, 2), dtype)
    data = saved(array)
    (tensor,) = layout_of(data).tensors
    assert (tensor.dtype.name, tensor.shape) == ("U8", (3, 2, item))
    assert tensor.offset + tensor.length == len(data)


@pytest.mark.parametrize("dtype", ["bfloat16", "float8_e5m2", "float8_e4m3fn", "V1", "V2"])
def test_values_that_numpy_saves_without_a_name(dtype: str) -> None:
    array = np.ones((2, 3), getattr(ml_dtypes, dtype, dtype))
    data = saved(array)
    (tensor,) = layout_of(data).tensors
    assert (tensor.dtype.name, tensor.shape) == (f"U{8 * array.itemsize}", (2, 3))
    assert contents(data, layout_of(data)) == {"array": array.tobytes()}
    (other,) = layout_of(file_of(F32.replace("<f4", ">V2"))).tensors
    assert (other.dtype.name, other.shape) == ("U8", (2, 2))


def test_fortran_order_is_the_transpose_in_the_order_of_c() -> None:
    array = np.asfortranarray(np.arange(24, dtype="<i4").reshape(2, 3, 4))
    data = saved(array)
    (tensor,) = layout_of(data).tensors
    assert (tensor.name, tensor.shape) == ("array.T", (4, 3, 2))
    values = np.frombuffer(data, "<i4", 24, tensor.offset).reshape(tensor.shape)
    assert np.array_equal(values, np.load(io.BytesIO(data)).T)
    vector = layout_of(file_of(F32.replace("False", "True"))).tensors[0]
    assert (vector.name, vector.shape) == ("array", (2,))
    text = layout_of(saved(np.asfortranarray(np.zeros((2, 3), "S5")))).tensors[0]
    assert (text.name, text.shape) == ("array.T", (3, 2, 5))


@pytest.mark.parametrize("version", [(1, 0), (2, 0), (3, 0)])
@pytest.mark.filterwarnings("ignore:Stored array in format")
def test_versions(version: tuple[int, int]) -> None:
    file = io.BytesIO()
    np.lib.format.write_array(file, np.arange(6.0).reshape(2, 3), version=version)
    (tensor,) = layout_of(file.getvalue()).tensors
    assert (tensor.dtype.name, tensor.shape) == ("F64", (2, 3))


@settings(max_examples=60, deadline=None)
@given(
    npst.arrays(
        npst.scalar_dtypes() | npst.array_dtypes(max_size=3, allow_subarrays=True),
        npst.array_shapes(min_dims=0, min_side=0, max_side=4),
        elements=None,
        fill=st.nothing(),
    )
    | npst.arrays(npst.nested_dtypes(max_leaves=5), npst.array_shapes(max_dims=2, max_side=3))
)
@pytest.mark.filterwarnings("ignore")
def test_whatever_numpy_can_save(array: np.ndarray) -> None:
    data = saved(array)
    (tensor,) = layout_of(data).tensors
    assert data[tensor.offset : tensor.offset + tensor.length] == array.tobytes(order="K")
    assert tensor.offset + tensor.length == len(data)


ACCEPTED = {
    "other spelling": "{\n\"shape\":( 2 , ) ,'descr':\"<f4\",'fortran_order':False}",
    "long integers of Python 2": "{'descr': '<f4', 'fortran_order': False, 'shape': (2L,), }",
}


@pytest.mark.parametrize("header", ACCEPTED.values(), ids=ACCEPTED.keys())
def test_other_spellings(header: str) -> None:
    (tensor,) = layout_of(file_of(header)).tensors
    assert (tensor.dtype.name, tensor.shape) == ("F32", (2,))


def test_bytes_after_the_array_are_rest() -> None:
    data = file_of(F32, bytes(100))
    assert layout_of(data).tensors[0].length == 8


def changed(old: str, new: str) -> bytes:
    return file_of(F32.replace(old, new))


HOSTILE = {
    "header beyond the file": b"\x93NUMPY\x01\x00\xff\xff{",
    "header of 4 GB": b"\x93NUMPY\x02\x00\xff\xff\xff\xff{" + bytes(99),
    "header above the cap": file_of(F32 + " " * 65536, version=2),
    "version 0": file_of(F32, version=0),
    "version 4": file_of(F32, version=4),
    "not UTF-8": file_of(F32.encode().replace(b"<f4", b"<f4\xff"), version=3),
    "array beyond the file": changed("(2,)", "(3,)"),
    "product beyond 2^64": changed("(2,)", "(4294967296, 4294967296)"),
    "number of 5000 digits": changed("(2,)", f"({'9' * 5000},)"),
    "negative": changed("(2,)", "(-2,)"),
    "negative twice": changed("(2,)", "(-2, -1)"),
    "leading zero": changed("(2,)", "(02,)"),
    "float": changed("(2,)", "(2.0,)"),
    "truth": changed("(2,)", "(True,)"),
    "no tuple": changed("(2,)", "(2)"),
    "number": changed("(2,)", "2"),
    "list": changed("(2,)", "[2,]"),
    "nested shape": changed("(2,)", "((2,),)"),
    "too many dimensions": changed("(2,)", "(" + "1," * 65 + ")"),
    "endless dimensions": file_of(F32.replace("(2,)", "(" + "1," * 30000 + ")"), version=2),
    "objects": changed("<f4", "|O"),
    "objects of 8 bytes": changed("<f4", "|O8"),
    "objects in a record": changed("'<f4'", "[('a', '|O')]"),
    "native order": changed("<f4", "=f4"),
    "no order": changed("<f4", "f4"),
    "order of bytes missing": changed("<f4", "|f4"),
    "dtype by name": changed("<f4", "float32"),
    "no size": changed("<f4", "<f"),
    "size of nothing": changed("<f4", "<f0"),
    "fields by commas": changed("<f4", "<f4,<f4"),
    "repeated": changed("<f4", "2<f4"),
    "escape": changed("<f4", "\\x3cf4"),
    "expression": changed("'<f4'", "'<f'+'4'"),
    "call": changed("'<f4'", "str('<f4')"),
    "bytes": changed("'<f4'", "b'<f4'"),
    "two strings": changed("'<f4'", "'<f' '4'"),
    "truth as number": changed("False", "0"),
    "unfinished text": changed("'<f4'", "'<f4"),
    "empty dtype": changed("'<f4'", "''"),
    "empty record": changed("'<f4'", "[()]"),
    "record without dtype": changed("'<f4'", "[('a',)]"),
    "record without name": changed("'<f4'", "[('<f4',)]"),
    "record of four": changed("'<f4'", "[('a', '<f4', 1, 1)]"),
    "huge record": changed("'<f4'", "[('a', '<f4', (9999999999999999999,))]"),
    "unfinished record": changed("'<f4'", "[('a', '<f4'"),
    "deep record": file_of(F32.replace("'<f4'", "[('a', " * 8000), version=2),
    "deep lists": file_of(F32.replace("'<f4'", "[" * 60000), version=2),
    "deep tuples": file_of(F32.replace("(2,)", "(" * 60000), version=2),
    "a field twice": changed("'descr'", "'shape': (2,), 'descr'"),
    "a field too many": changed("'descr'", "'more': (2,), 'descr'"),
    "a field too few": file_of("{'descr': '<f4', 'shape': (2,), }"),
    "empty dictionary": file_of("{}"),
    "no dictionary": file_of("[]"),
    "something behind": file_of(F32 + " 1"),
    "two commas": changed("(2,), ", "(2,),, "),
    "zeros": file_of(bytes(100)),
}


@pytest.mark.parametrize("data", HOSTILE.values(), ids=HOSTILE.keys())
def test_strange_files_have_no_layout(data: bytes) -> None:
    assert ask(READER, data) is None


def test_deep_records_are_read_without_recursion() -> None:
    descr = "[('a', " * 4000 + "'<f4'" + ")]" * 4000
    (tensor,) = layout_of(file_of(F32.replace("'<f4'", descr), version=2)).tensors
    assert tensor.shape == (2, 4)


def test_objects_stay_pickled() -> None:
    file = io.BytesIO()
    np.save(file, np.array([{"a": 1}], object), allow_pickle=True)
    assert ask(READER, file.getvalue()) is None


def test_limits_hold() -> None:
    data = saved(np.zeros((1, 1), "f4"))
    assert ask(READER, data) is not None
    assert ask(READER, data, Limits(rank=1)) is None
    assert ask(READER, data, Limits(name_bytes=4)) is None


def test_a_cut_anywhere_is_noticed() -> None:
    data = saved(np.arange(5, dtype="<f4"))
    for length in range(len(data)):
        assert ask(READER, data[:length]) is None


BOMBS = ("1," * 32000, "(" * 64000, "'" + "\\n" * 32000, " " * 64000, "[('a','<f4')," * 5000, "9" * 64000)


@pytest.mark.parametrize("filler", BOMBS, ids=lambda filler: filler[:4])
def test_bombs_take_little_time_and_memory(filler: str) -> None:
    files = [file_of(F32.replace(old, filler), version=2) for old in ("'<f4'", "(2,)", "False", "{")]
    tracemalloc.start()
    assert [ask(READER, data) for data in files] == [None] * 4
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 4 << 20


@settings(max_examples=200, deadline=None)
@given(st.data(), st.sampled_from([np.zeros((2, 3), "<f4"), np.zeros(4, RECORDS[1])]))
def test_any_damage_gives_a_sound_layout_or_none(data: st.DataObject, array: np.ndarray) -> None:
    ask(READER, damaged(data, saved(array), b"0'\"[](){},:<>|"))
