"""ONNX files: those that the library writes, and those that nobody should."""

from __future__ import annotations

import itertools
import tracemalloc
from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from coral_git.formats.base import Layout
from coral_git.formats.menders import mender_by_name
from coral_git.formats.onnx import DATA_TYPES, OnnxReader
from coral_git.formats.registry import read_layout
from coral_git.limits import DEFAULT_LIMITS, Limits
from coral_git.types import DTYPES, BytesSource

from .hostile import ask, contents, damaged

onnx = pytest.importorskip("onnx")

from onnx import TensorProto, helper, numpy_helper  # noqa: E402

READER = OnnxReader()
ARRAY = np.arange(12, dtype="<f4").reshape(3, 4)
INT64 = TensorProto.INT64


def graph_of(nodes=(), initializers=(), sparse=(), name: str = "g"):
    return helper.make_graph(
        list(nodes), name, [], [], initializer=list(initializers), sparse_initializer=list(sparse)
    )


def bytes_of(graph, functions=()) -> bytes:
    return helper.make_model(graph, functions=list(functions)).SerializeToString()


def raw(name: str, array: np.ndarray = ARRAY):
    return numpy_helper.from_array(array, name)


def constant(output: str, array: np.ndarray = ARRAY, **attributes):
    return helper.make_node("Constant", [], [output], value=raw("whatever", array), **attributes)


def layout_of(data: bytes) -> Layout:
    layout = read_layout(BytesSource(data), DEFAULT_LIMITS)
    assert layout is not None
    assert layout == ask(READER, data)
    assert layout.format == "onnx/1"
    return layout


def tensors_in_nodes(nodes, prefix: str) -> Iterator[tuple[str, TensorProto]]:
    for node in nodes:
        for attribute in node.attribute:
            way = f"{prefix}{node.name or node.output[0]}/{attribute.name}"
            if attribute.HasField("t"):
                yield (prefix + node.output[0] if node.op_type == "Constant" else way), attribute.t
            if attribute.HasField("g"):
                yield from tensors_of(attribute.g, f"{way}/")
            for number, tensor in enumerate(attribute.tensors):
                yield f"{way}/{number}", tensor
            for number, graph in enumerate(attribute.graphs):
                yield from tensors_of(graph, f"{way}/{number}/")


def tensors_of(graph, prefix: str = "") -> Iterator[tuple[str, TensorProto]]:
    """Every tensor that the library sees, with the name it should have."""
    for tensor in graph.initializer:
        yield prefix + tensor.name, tensor
    for sparse in graph.sparse_initializer:
        yield prefix + sparse.values.name, sparse.values
        yield f"{prefix}{sparse.values.name}/indices", sparse.indices
    yield from tensors_in_nodes(graph.node, prefix)


def check_against_library(data: bytes) -> Layout:
    """The same names, types, shapes and bytes as the library sees."""
    layout = layout_of(data)
    model = onnx.load_from_string(data)
    theirs = dict(tensors_of(model.graph))
    for function in model.functions:
        theirs |= dict(tensors_in_nodes(function.node, f"{function.name}/"))
    assert contents(data, layout) == {name: tensor.raw_data for name, tensor in theirs.items()}
    for tensor in layout.tensors:
        their = theirs[tensor.name]
        assert (tensor.dtype.name, list(tensor.shape)) == (DATA_TYPES[their.data_type], list(their.dims))
    return layout


def branch(output: str):
    inner = helper.make_node(
        "If", ["c"], ["deep"], name="inner", then_branch=graph_of([constant("x")]), else_branch=graph_of()
    )
    return graph_of([constant(output), inner], [raw("w", ARRAY + 1)])


def test_graphs_in_graphs_and_functions() -> None:
    nodes = [
        helper.make_node("If", ["c"], ["out"], then_branch=branch("k"), else_branch=branch("k")),
        helper.make_node("Loop", [], ["last"], name="loop", body=graph_of(initializers=[raw("w")])),
        helper.make_node("ConstantOfShape", ["s"], ["filled"], name="fill", value=raw("", ARRAY[0, :1])),
        helper.make_node("Odd", [], ["odd"], domain="d", many=[raw("a"), raw("b")], alpha=1.5, axes=[1, 2]),
        helper.make_node("Odd", [], ["odder"], domain="d", graphs=[graph_of(initializers=[raw("w")])] * 2),
        constant("constant", ARRAY[0]),
    ]
    function = helper.make_function(
        "d", "Twice", ["x"], ["y"], [constant("two"), helper.make_node("Mul", ["x", "two"], ["y"])], []
    )
    sparse = helper.make_sparse_tensor(raw("sparse"), raw("", np.arange(12)), [100])
    layout = check_against_library(bytes_of(graph_of(nodes, [raw("a"), raw("späß")], [sparse]), [function]))
    assert {tensor.name for tensor in layout.tensors} == {
        *("a", "späß", "sparse", "sparse/indices", "constant", "fill/value", "loop/body/w", "Twice/two"),
        *(f"out/{arm}_branch/{name}" for arm in ("then", "else") for name in ("k", "w")),
        *(f"out/{arm}_branch/inner/then_branch/x" for arm in ("then", "else")),
        *("odd/many/0", "odd/many/1", "odder/graphs/0/w", "odder/graphs/1/w"),
    }


@pytest.mark.parametrize("number", sorted(DATA_TYPES))
def test_every_dtype(number: int) -> None:
    dtype = DTYPES[DATA_TYPES[number]]
    tensors = []
    for name, shape in {"a": [2, 4], "scalar": [] if dtype.bits >= 8 else [4], "none": [0, 3]}.items():
        values = bytes(range(200))[: int(np.prod(shape)) * dtype.bits // 8]
        tensors.append(helper.make_tensor(name, number, shape, values, raw=True))
    check_against_library(bytes_of(graph_of(initializers=tensors)))


def test_names_of_dtypes_are_those_of_the_library() -> None:
    names = {"FLOAT": "F32", "DOUBLE": "F64", "FLOAT4E2M1": "F4", "BFLOAT16": "BF16", "BOOL": "BOOL"}
    short = {"UINT": "U", "INT": "I", "FLOAT": "F", "COMPLEX": "C"}
    missing = set()
    for name, number in TensorProto.DataType.items():
        if number not in DATA_TYPES:
            missing.add(name)
        elif name not in names:
            word = name.rstrip("0123456789")
            if word in short:
                assert DATA_TYPES[number] == short[word] + name.removeprefix(word)
            else:
                assert name.removeprefix("FLOAT").replace("FN", "", "FNUZ" not in name) == DATA_TYPES[
                    number
                ].replace("_", "").removeprefix("F")
        else:
            assert DATA_TYPES[number] == names[name]
    assert missing == {"UNDEFINED", "STRING", "INT4", "UINT4", "INT2", "UINT2"}


def test_packed_integers_are_bytes() -> None:
    tensors = [
        helper.make_tensor("i4", TensorProto.INT4, [3], b"\x21\x03", raw=True),
        helper.make_tensor("f4", TensorProto.FLOAT4E2M1, [3], b"\x21\x03", raw=True),
    ]
    found = layout_of(bytes_of(graph_of(initializers=tensors))).tensors
    assert [(t.name, t.dtype.name, t.shape) for t in found] == [("i4", "U8", (2,)), ("f4", "U8", (2,))]


def test_typed_values() -> None:
    tensors = [
        helper.make_tensor("float", TensorProto.FLOAT, [2, 3], [1.5] * 6),
        helper.make_tensor("double", TensorProto.DOUBLE, [2], [0.1, 0.2]),
        helper.make_tensor("complex", TensorProto.COMPLEX64, [2], [1j, 2]),
        helper.make_tensor("int", TensorProto.INT64, [2], [1, 1 << 40]),
        helper.make_tensor("half", TensorProto.FLOAT16, [2], [1, 2]),
        helper.make_tensor("text", TensorProto.STRING, [1], [b"hello"]),
    ]
    data = bytes_of(graph_of(initializers=tensors))
    layout = layout_of(data)
    assert [(t.name, t.dtype.name, t.shape) for t in layout.tensors] == [
        ("float", "F32", (2, 3)),
        ("double", "F64", (2,)),
        ("complex", "C64", (2,)),
    ]
    found = contents(data, layout)
    assert found["float"] == np.full(6, 1.5, "<f4").tobytes()
    assert found["double"] == np.array([0.1, 0.2], "<f8").tobytes()
    assert found["complex"] == np.array([1j, 2], "<c8").tobytes()


def test_external_data_is_not_looked_for() -> None:
    tensor = raw("away")
    onnx.external_data_helper.set_external_data(tensor, "../../../../etc/passwd", 0, 48)
    data = bytes_of(graph_of(initializers=[tensor, raw("here")]))
    assert [t.name for t in layout_of(data).tensors] == ["here"]
    assert ask(READER, bytes_of(graph_of(initializers=[tensor]))) is None


def test_a_model_without_tensors_is_kept_in_chunks() -> None:
    data = bytes_of(graph_of([helper.make_node("Relu", ["x"], ["y"])]))
    assert ask(READER, data) is None
    assert read_layout(BytesSource(data), DEFAULT_LIMITS) is None


def test_names_that_are_taken_odd_or_missing() -> None:
    tensors = [raw("a"), raw("a"), raw(""), raw("a#2"), raw("x" * 2000)]
    names = [t.name for t in layout_of(bytes_of(graph_of(initializers=tensors))).tensors]
    assert names == ["a", "a#2", "tensor", "a#2#2", "x" * 1008]
    data = bytes_of(graph_of(initializers=[raw("abc")])).replace(b"abc", b"a\xffc")
    assert [t.name for t in layout_of(data).tensors] == ["a\ufffdc"]


def test_values_that_do_not_fit_the_shape_are_bytes() -> None:
    shapes = ([5, 4], [1 << 62, 1 << 62], [-1, 12], [0, -1], [])
    tensors = [raw(str(number)) for number in range(len(shapes))]
    for tensor, shape in zip(tensors, shapes, strict=True):
        tensor.dims[:] = shape
    found = layout_of(bytes_of(graph_of(initializers=tensors))).tensors
    assert {(t.dtype.name, t.shape) for t in found} == {("U8", (48,))}


SAMPLE = bytes_of(
    graph_of(
        [helper.make_node("If", ["c"], ["out"], then_branch=branch("k"), else_branch=branch("k"))],
        [raw("a"), helper.make_tensor("float", TensorProto.FLOAT, [2], [1, 2])],
        [helper.make_sparse_tensor(raw("sparse", ARRAY[0]), raw("", np.arange(4)), [100])],
    )
)


def test_a_cut_anywhere_is_noticed_or_ends_a_field() -> None:
    whole = contents(SAMPLE, layout_of(SAMPLE))
    for length in range(len(SAMPLE)):
        layout = ask(READER, SAMPLE[:length])
        if layout is not None:  # the fields behind the graph have no tensors
            assert contents(SAMPLE, layout) == whole
            assert length > layout.tensors[-1].offset + layout.tensors[-1].length


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_any_damage_gives_a_sound_layout_or_none(data: st.DataObject) -> None:
    ask(READER, damaged(data, SAMPLE))


def field(number: int, payload: bytes) -> bytes:
    return varint(number << 3 | 2) + varint(len(payload)) + payload


def varint(value: int) -> bytes:
    result = bytearray()
    while value > 0x7F:
        result.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes(result) + bytes([value])


START = b"\x08\x08"
TENSOR = b"\x10\x01" + field(8, b"t") + field(9, bytes(4))
GRAPH = field(7, field(5, TENSOR))


def test_the_smallest_file() -> None:
    assert [t.name for t in layout_of(START + GRAPH).tensors] == ["t"]


@pytest.mark.parametrize(
    "data",
    [
        START,
        START + GRAPH * 2,
        START + field(7, field(5, TENSOR))[:-1],
        START + GRAPH + b"\x0b\x0c",
        START + GRAPH + b"\x0e",
        START + GRAPH + b"\x00\x00",
        START + GRAPH + b"\x08" + b"\xff" * 10 + b"\x01",
        START + GRAPH + b"\x08" + b"\xff" * 9 + b"\x02",
        START + GRAPH + b"\x12" + varint(1 << 63),
        START + GRAPH + b"\x0d\x00",
        START + b"\x38\x01",
        START + field(7, b"\x28\x01"),
        START + field(7, field(5, TENSOR + field(9, bytes(4)))),
        START + field(7, field(5, TENSOR + field(4, bytes(4)))),
        START + field(7, field(5, b"\x25\x00\x00\x00\x00" + TENSOR)),
        START + field(7, field(5, field(2, b"\x01") + field(9, bytes(4)))),
        START + field(7, field(5, b"\x08\x01" * 65 + TENSOR)),
        START + field(7, field(5, field(1, b"\x01" * 65) + TENSOR)),
        START + field(7, field(5, field(1, b"\xff") + TENSOR)),
        START + field(7, field(5, field(1, b"\xff" * 11) + TENSOR)),
    ],
)
def test_odd_messages_are_refused(data: bytes) -> None:
    assert ask(READER, data) is None


def nested(depth: int) -> bytes:
    graph = field(5, TENSOR)
    for _ in range(depth):
        graph = field(1, field(4, b"If") + field(5, field(1, b"b") + field(6, graph)))
    return START + field(7, graph)


def test_nesting_is_bounded() -> None:
    assert ask(READER, nested(32)) is not None
    assert ask(READER, nested(33)) is None
    assert ask(READER, nested(10_000)) is None


def test_fields_are_counted() -> None:
    data = START + GRAPH + b"\x28\x01" * 1000
    assert ask(READER, data) is not None
    assert ask(READER, data, Limits(header_fields=1000)) is None
    dims = START + field(7, field(5, field(1, b"\x00" * 60) + TENSOR))
    assert ask(READER, dims, Limits(header_fields=70)) is not None
    assert ask(READER, dims, Limits(header_fields=60)) is None


def test_names_together_are_bounded() -> None:
    data = bytes_of(graph_of([constant("c" * 900) for _ in range(20)]))
    assert ask(READER, data) is not None
    assert ask(READER, data, Limits(header_bytes=9000)) is None


def test_names_of_megabytes_take_no_memory() -> None:
    data = START + field(7, field(5, b"\x10\x01" + field(8, b"n" * 8_000_000) + field(9, bytes(4))))
    tracemalloc.start()
    layout = READER.layout(BytesSource(data), DEFAULT_LIMITS)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert [t.name for t in layout.tensors] == ["n" * 1008]
    assert peak < 100_000


def test_only_the_index_is_read() -> None:
    data = bytes_of(graph_of(initializers=[raw(f"{n}", np.zeros(100_000, "f4")) for n in range(20)]))

    class Counting:
        size = len(data)
        read = 0

        def read_at(self, offset: int, length: int) -> bytes:
            self.read += length
            return data[offset : offset + length]

    source = Counting()
    assert len(READER.layout(source, DEFAULT_LIMITS).tensors) == 20
    assert source.read < len(data) / 50


def test_files_may_be_overwritten_in_place() -> None:
    data = bytes_of(graph_of(initializers=[raw("a"), raw("b")]))
    layout = layout_of(data)
    mender = mender_by_name(layout.format)
    assert mender is not None
    tensor = layout.tensors[1]
    after = data[: tensor.offset] + (ARRAY * 2).tobytes() + data[tensor.offset + tensor.length :]
    model = onnx.load_from_string(after)
    arrays = [numpy_helper.to_array(tensor) for tensor in model.graph.initializer]
    assert all(itertools.starmap(np.array_equal, zip(arrays, (ARRAY, ARRAY * 2), strict=True)))
