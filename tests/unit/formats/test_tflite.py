"""TensorFlow Lite files: those that its schema makes, and those that nobody should."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from coral_git.formats.base import Layout
from coral_git.formats.menders import mender_by_name
from coral_git.formats.registry import read_layout
from coral_git.formats.tflite import TENSOR_TYPES, TfliteReader
from coral_git.limits import DEFAULT_LIMITS, Limits
from coral_git.types import DTYPES, BytesSource

from .hostile import ask, contents, damaged

flatbuffers = pytest.importorskip("flatbuffers")
tflite = pytest.importorskip("tflite")

READER = TfliteReader()
ARRAY = np.arange(12, dtype="<f4").reshape(3, 4)


class Tensor(NamedTuple):
    name: str
    shape: Sequence[int] = (3, 4)
    kind: int = 0
    buffer: int = 1


def vector(builder, offsets: Sequence[int], start) -> int:
    start(builder, len(offsets))
    for offset in reversed(offsets):
        builder.PrependUOffsetTRelative(offset)
    return builder.EndVector()


def tensor_of(builder, tensor: Tensor) -> int:
    name = builder.CreateString(tensor.name)
    tflite.TensorStartShapeVector(builder, len(tensor.shape))
    for dimension in reversed(tensor.shape):
        builder.PrependInt32(dimension)
    shape = builder.EndVector()
    tflite.TensorStart(builder)
    tflite.TensorAddShape(builder, shape)
    tflite.TensorAddType(builder, tensor.kind)
    tflite.TensorAddBuffer(builder, tensor.buffer)
    tflite.TensorAddName(builder, name)
    return tflite.TensorEnd(builder)


def buffer_of(builder, data: bytes | tuple[int, int]) -> int:
    """A buffer with bytes in the FlatBuffer, or with a place behind it."""
    start = builder.CreateByteVector(data) if isinstance(data, bytes) and data else 0
    tflite.BufferStart(builder)
    if start:
        tflite.BufferAddData(builder, start)
    if isinstance(data, tuple):
        tflite.BufferAddOffset(builder, data[0])
        tflite.BufferAddSize(builder, data[1])
    return tflite.BufferEnd(builder)


def model_of(graphs: dict[str, Sequence[Tensor]], buffers: Sequence[bytes | tuple[int, int]]) -> bytes:
    builder = flatbuffers.Builder(0)
    stored = vector(
        builder, [buffer_of(builder, data) for data in (b"", *buffers)], tflite.ModelStartBuffersVector
    )
    made = []
    for name, tensors in graphs.items():
        listed = vector(builder, [tensor_of(builder, t) for t in tensors], tflite.SubGraphStartTensorsVector)
        text = builder.CreateString(name)
        tflite.SubGraphStart(builder)
        tflite.SubGraphAddTensors(builder, listed)
        tflite.SubGraphAddName(builder, text)
        made.append(tflite.SubGraphEnd(builder))
    subgraphs = vector(builder, made, tflite.ModelStartSubgraphsVector)
    tflite.ModelStart(builder)
    tflite.ModelAddVersion(builder, 3)
    tflite.ModelAddSubgraphs(builder, subgraphs)
    tflite.ModelAddBuffers(builder, stored)
    builder.Finish(tflite.ModelEnd(builder), file_identifier=b"TFL3")
    return bytes(builder.Output())


def layout_of(data: bytes) -> Layout:
    layout = read_layout(BytesSource(data), DEFAULT_LIMITS)
    assert layout is not None
    assert layout == ask(READER, data)
    assert layout.format == "tflite/1"
    return layout


def library(data: bytes) -> dict[str, tuple[int, list[int], bytes]]:
    """What the generated code of the schema sees in the first subgraph."""
    model = tflite.Model.GetRootAs(data, 0)
    graph = model.Subgraphs(0)
    tensors = [graph.Tensors(index) for index in range(graph.TensorsLength())]
    return {
        t.Name().decode(): (
            t.Type(),
            [t.Shape(axis) for axis in range(t.ShapeLength())],
            model.Buffers(t.Buffer()).DataAsNumpy().tobytes(),
        )
        for t in tensors
        if model.Buffers(t.Buffer()).DataLength()
    }


def test_what_the_schema_makes() -> None:
    tensors = [
        Tensor("activation", (1, 3), 0, 0),
        Tensor("w", (3, 4), 0, 1),
        Tensor("b/späß;fused", (4,), 9, 2),
        Tensor("shape", (2,), 2, 4),
        Tensor("scalar", (), 0, 5),
        Tensor("none", (), 0, 3),
    ]
    buffers = [ARRAY.tobytes(), b"abcd", b"", np.array([3, 4], "<i4").tobytes(), bytes(4), b"metadata"]
    data = model_of({"main": tensors}, buffers)
    layout = layout_of(data)
    theirs = library(data)
    assert theirs.keys() == {"w", "b/späß;fused", "shape", "scalar"}
    assert contents(data, layout) == {name: raw for name, (_, _, raw) in theirs.items()}
    for tensor in layout.tensors:
        kind, shape, _ = theirs[tensor.name]
        assert (tensor.dtype.name, list(tensor.shape)) == (TENSOR_TYPES[kind], shape)


@pytest.mark.parametrize("kind", sorted(TENSOR_TYPES))
def test_every_dtype(kind: int) -> None:
    names = {number: name for name, number in vars(tflite.TensorType).items() if not name.startswith("_")}
    word = names[kind].rstrip("0123456789")
    short = {"FLOAT": "F", "INT": "I", "UINT": "U", "COMPLEX": "C", "BFLOAT": "BF"}
    assert TENSOR_TYPES[kind] == short.get(word, word) + names[kind].removeprefix(word)
    data = model_of({"g": [Tensor("a", (2, 3), kind)]}, [bytes(6 * DTYPES[TENSOR_TYPES[kind]].bits // 8)])
    (tensor,) = layout_of(data).tensors
    assert (tensor.dtype.name, tensor.shape) == (TENSOR_TYPES[kind], (2, 3))


def test_what_has_no_dtype_or_another_length_is_bytes() -> None:
    tensors = [
        Tensor("packed", (3,), 17, 1),
        Tensor("text", (1,), 5, 2),
        Tensor("sparse", (9, 9), 0, 3),
        Tensor("unknown", (-1, 4), 0, 4),
    ]
    found = layout_of(model_of({"g": tensors}, [b"ab", b"hello", bytes(8), bytes(16)])).tensors
    assert {t.name: (t.dtype.name, t.shape) for t in found} == {
        "packed": ("U8", (2,)),
        "text": ("U8", (5,)),
        "sparse": ("U8", (8,)),
        "unknown": ("U8", (16,)),
    }


def test_the_first_tensor_names_a_shared_buffer() -> None:
    graphs = {
        "main": [Tensor("a", buffer=1), Tensor("b", buffer=1), Tensor("c", buffer=9)],
        "body": [Tensor("x", buffer=1), Tensor("a", buffer=2), Tensor("a", buffer=3)],
        "": [Tensor("a", buffer=4), Tensor("", buffer=5)],
    }
    data = model_of(graphs, [bytes([number]) * 48 for number in range(5)])
    found = contents(data, layout_of(data))
    assert {name: raw[0] for name, raw in found.items()} == {
        "a": 0,
        "body/a": 1,
        "body/a#2": 2,
        "2/a": 3,
        "2/": 4,
    }


def test_buffers_behind_the_flatbuffer() -> None:
    def file_of(start: int) -> bytes:
        places = [(start, 48), (start + 64, 48), (start, 48), (1, 0)]
        tensors = [Tensor(name, buffer=number) for number, name in enumerate("abcd", 1)]
        return model_of({"g": tensors}, places)

    start = len(file_of(4096))
    tail = ARRAY.tobytes() + bytes(16) + (ARRAY + 1).tobytes()
    data = file_of(start) + tail
    assert contents(data, layout_of(data)) == {"a": ARRAY.tobytes(), "b": (ARRAY + 1).tobytes()}
    assert ask(READER, data[:-1]) is None
    for odd in (start + 1, start - 1 + (1 << 63)):
        assert ask(READER, file_of(odd) + tail[:-1]) is None


def test_overlaps_are_refused() -> None:
    tensors = [Tensor("a", buffer=1), Tensor("b", buffer=2)]
    data = model_of({"g": tensors}, [(40, 48), (80, 48)])
    assert len(data) > 128
    assert ask(READER, data) is None


SAMPLE = model_of({"g": [Tensor("a"), Tensor("b", (4,), 9, 2)]}, [ARRAY.tobytes(), b"abcd", b"metadata"])


def test_a_cut_anywhere_is_survived() -> None:
    whole = contents(SAMPLE, layout_of(SAMPLE))
    for length in range(len(SAMPLE)):
        layout = ask(READER, SAMPLE[:length])
        assert layout is None or contents(SAMPLE, layout) == whole


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_any_damage_gives_a_sound_layout_or_none(data: st.DataObject) -> None:
    ask(READER, damaged(data, SAMPLE))


@settings(max_examples=100, deadline=None)
@given(st.binary(max_size=200))
def test_anything_behind_the_letters_is_survived(data: bytes) -> None:
    ask(READER, b"\x08\0\0\0TFL3" + data)


def shared_graphs(count: int) -> bytes:
    """A model that says that it has one subgraph, with two tensors, many times."""
    data = bytearray(
        model_of({str(number): [Tensor("a"), Tensor("b")] for number in range(count)}, [bytes(48)])
    )
    model = struct.unpack_from("<I", data)[0]
    vtable = model - struct.unpack_from("<i", data, model)[0]
    at = model + struct.unpack_from("<H", data, vtable + 8)[0]
    first = at + struct.unpack_from("<I", data, at)[0] + 4
    graph = first + struct.unpack_from("<I", data, first)[0]
    for place in range(first, first + 4 * count, 4):
        struct.pack_into("<I", data, place, graph - place)
    return bytes(data)


def test_fields_are_counted_however_often_they_are_shared() -> None:
    data = shared_graphs(100)
    assert [t.name for t in layout_of(data).tensors] == ["a"]
    assert ask(READER, data, Limits(header_fields=300)) is None


def test_counts_beyond_the_file_are_refused() -> None:
    for place in range(8, len(SAMPLE) - 3):
        data = SAMPLE[:place] + b"\xff\xff\xff\xff" + SAMPLE[place + 4 :]
        ask(READER, data)


def test_files_may_be_overwritten_in_place() -> None:
    layout = layout_of(SAMPLE)
    assert mender_by_name(layout.format) is not None
    tensor = next(t for t in layout.tensors if t.name == "a")
    after = SAMPLE[: tensor.offset] + (ARRAY * 2).tobytes() + SAMPLE[tensor.offset + tensor.length :]
    assert library(after)["a"][2] == (ARRAY * 2).tobytes()
    assert library(after)["b"] == library(SAMPLE)["b"]
