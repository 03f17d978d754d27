"""Flax's MessagePack files: those that it writes, and those that nobody should."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from coral_git.formats.base import Layout
from coral_git.formats.menders import mender_by_name
from coral_git.formats.msgpack import DTYPE_NAMES, MsgpackReader
from coral_git.formats.registry import read_layout
from coral_git.limits import DEFAULT_LIMITS, Limits
from coral_git.types import DTYPES, BytesSource

from .hostile import ask, contents, damaged

msgpack = pytest.importorskip("msgpack")

READER = MsgpackReader()
ARRAY = np.arange(12, dtype="<f4").reshape(3, 4)


def extension(array: np.ndarray, dtype: str | None = None):
    """An array as flax.serialization writes it."""
    fields = (array.shape, dtype or array.dtype.name, array.tobytes())
    return msgpack.ExtType(1, msgpack.packb(fields, use_bin_type=True))


def packed(tree: object) -> bytes:
    return msgpack.packb(tree, default=extension)


def layout_of(data: bytes) -> Layout:
    layout = read_layout(BytesSource(data), DEFAULT_LIMITS)
    assert layout is not None
    assert layout == ask(READER, data)
    assert layout.format == "msgpack/1"
    return layout


def test_names_dtypes_shapes_and_bytes() -> None:
    arrays = {
        "a": ARRAY,
        "scalar": np.array(1, "u8"),
        "empty": np.zeros((0, 70_000)),
        "long": np.arange(100_000, dtype="c8"),
        "bool": np.ones(200, "?"),
    }
    others = {"text": "t" * 300, "n": -5, "big": 1 << 40, "f": 0.5, "none": None, "raw": b"b" * 70_000}
    data = packed({"step": 7, "params": {**others, **arrays}, "list": [1, ARRAY, {"x": ARRAY + 1}]})
    layout = layout_of(data)
    wanted = {f"params.{name}": array for name, array in arrays.items()}
    wanted |= {"list.1": ARRAY, "list.2.x": ARRAY + 1}
    assert contents(data, layout) == {name: array.tobytes() for name, array in wanted.items()}
    assert {t.name: t.shape for t in layout.tensors} == {n: array.shape for n, array in wanted.items()}
    assert [t.dtype.name for t in layout.tensors] == ["F32", "U64", "F64", "C64", "BOOL", "F32", "F32"]


@pytest.mark.parametrize("dtype", sorted(DTYPE_NAMES))
def test_every_dtype(dtype: str) -> None:
    ml_dtypes = pytest.importorskip("ml_dtypes")
    array = np.arange(6).reshape(2, 3).astype(getattr(ml_dtypes, dtype, None) or np.dtype(dtype))
    data = packed({"a": extension(array, dtype)})
    (tensor,) = layout_of(data).tensors
    assert (tensor.dtype, tensor.shape) == (DTYPES[DTYPE_NAMES[dtype]], (2, 3))
    assert contents(data, layout_of(data)) == {"a": array.tobytes()}


def test_an_unknown_dtype_is_bytes() -> None:
    (tensor,) = layout_of(packed({"a": extension(ARRAY, "float8_e4m3b11fnuz")})).tensors
    assert (tensor.dtype.name, tensor.shape) == ("U8", (48,))


def test_what_flax_writes(monkeypatch: pytest.MonkeyPatch) -> None:
    serialization = pytest.importorskip("flax.serialization")
    monkeypatch.setattr(serialization, "MAX_CHUNK_SIZE", 64)
    tree = {
        "params": {"Dense_0": {"kernel": np.arange(40, dtype="f4").reshape(8, 5), "bias": np.zeros(5, "f4")}},
        "step": 3,
        "rate": np.float32(0.5),
        "complex": 1j,
    }
    data = serialization.to_bytes(tree)
    layout = layout_of(data)
    chunks = [f"params.Dense_0.kernel.chunks.{number}" for number in range(3)]
    assert sorted(t.name for t in layout.tensors) == ["params.Dense_0.bias", *chunks]
    whole = b"".join(contents(data, layout)[name] for name in chunks)
    assert whole == tree["params"]["Dense_0"]["kernel"].tobytes()


SAMPLE = packed({"params": {"w": ARRAY, "b": ARRAY[0]}, "list": [1, "two", 3.0, ARRAY[1]], "last": 1 << 20})


def test_a_cut_anywhere_is_noticed() -> None:
    assert len(layout_of(SAMPLE).tensors) == 3
    for length in range(len(SAMPLE)):
        assert ask(READER, SAMPLE[:length]) is None
    assert ask(READER, SAMPLE + b"\xc0") is None


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_any_damage_gives_a_sound_layout_or_none(data: st.DataObject) -> None:
    ask(READER, damaged(data, SAMPLE))


GOOD = b"\x93\x91\x02\xa5int16\xc4\x04abcd"


def one(payload: bytes, key: bytes = b"\xa1a") -> bytes:
    return b"\x81" + key + b"\xc7" + bytes([len(payload), 1]) + payload


def test_the_smallest_file() -> None:
    assert contents(one(GOOD), layout_of(one(GOOD))) == {"a": b"abcd"}


@pytest.mark.parametrize(
    "data",
    [
        b"\x80",
        b"\x80\x02.",
        b"\x91" + one(GOOD)[3:],
        one(GOOD, b"\x01"),
        one(GOOD, b"\xc4\x01a"),
        one(GOOD)[:3] + b"\xc1",
        one(GOOD)[:3] + b"\xdd\xff\xff\xff\xff",
        one(GOOD)[:3] + b"\xdf\xff\xff\xff\xff" + one(GOOD)[1:],
        one(GOOD)[:3] + b"\xc9\xff\xff\xff\xff\x01" + GOOD,
        one(b"\x92" + GOOD[1:]),
        one(b"\x93\x01" + GOOD[3:]),
        one(b"\x93\x91\xff" + GOOD[3:]),
        one(b"\x93\x91\xcb" + bytes(8) + GOOD[3:]),
        one(b"\x93\xdc\x00\x41" + b"\x01" * 65 + GOOD[3:]),
        one(b"\x93\xdd\xff\xff\xff\xff" + GOOD[2:]),
        one(GOOD + b"\x00"),
        one(GOOD[:-1]),
        one(GOOD[:-6] + b"\xa4abcd"),
        one(b""),
    ],
)
def test_odd_files_are_refused(data: bytes) -> None:
    assert ask(READER, data) is None


def test_shapes_that_lie_are_bytes() -> None:
    for shape in (b"\x91\x03", b"\x92\xcf" + b"\xff" * 8 + b"\x02", b"\x92\x00\xcf" + b"\xff" * 8):
        (tensor,) = layout_of(one(b"\x93" + shape + GOOD[3:])).tensors
        assert (tensor.dtype.name, tensor.shape) == ("U8", (4,))


def test_names_that_are_taken_or_long() -> None:
    array = one(GOOD)[3:]
    assert [t.name for t in layout_of(b"\x82" + (b"\xa1a" + array) * 2).tensors] == ["a", "a#2"]
    long = b"\xdb" + (1 << 20).to_bytes(4, "big") + b"n" * (1 << 20)
    assert [t.name for t in layout_of(b"\x81" + long + array).tensors] == ["n" * 1008]


def test_nesting_and_values_are_bounded() -> None:
    assert ask(READER, b"\x81\xa1n" * 63 + one(GOOD)) is not None
    assert ask(READER, b"\x81\xa1n" * 64 + one(GOOD)) is None
    assert ask(READER, b"\x81\xa1n" * 100_000 + one(GOOD)) is None
    many = packed({"list": [0] * 1000, "a": ARRAY})
    assert ask(READER, many) is not None
    assert ask(READER, many, Limits(header_fields=1000)) is None


def test_files_may_be_overwritten_in_place() -> None:
    layout = layout_of(SAMPLE)
    assert mender_by_name(layout.format) is not None
    after = bytearray(SAMPLE)
    tensor = layout.tensors[0]
    after[tensor.offset : tensor.offset + tensor.length] = (ARRAY * 2).tobytes()
    tree = msgpack.unpackb(bytes(after), ext_hook=lambda _, payload: msgpack.unpackb(payload)[2])
    assert tree["params"] == {"w": (ARRAY * 2).tobytes(), "b": ARRAY[0].tobytes()}
