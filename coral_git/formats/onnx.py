"""ONNX: a model as one Protocol Buffers message, the tensors within it.

The schema is https://github.com/onnx/onnx/blob/main/onnx/onnx.proto3. Tensors are found in graphs, in the
graphs that are attributes of nodes (the branches of an ``If``, the body of a ``Loop``) and in functions. A
tensor in another file has no bytes here; integers and strings that are fields of their own stay opaque.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from coral_git.formats.base import Layout, NotThisFormat
from coral_git.formats.protobuf import BYTES, VARINT, Field, Wire
from coral_git.formats.segments import Segments
from coral_git.limits import Limits
from coral_git.types import ByteSource

MODEL_IR_VERSION, MODEL_GRAPH, MODEL_FUNCTIONS = 1, 7, 25
GRAPH_NODE, GRAPH_INITIALIZER, GRAPH_SPARSE_INITIALIZER = 1, 5, 15
FUNCTION_NAME, FUNCTION_NODE, FUNCTION_ATTRIBUTE_PROTO = 1, 7, 11
NODE_OUTPUT, NODE_NAME, NODE_OP_TYPE, NODE_ATTRIBUTE = 2, 3, 4, 5
ATTRIBUTE_NAME, ATTRIBUTE_T, ATTRIBUTE_G, ATTRIBUTE_TENSORS, ATTRIBUTE_GRAPHS = 1, 5, 6, 10, 11
ATTRIBUTE_SPARSE_TENSOR, ATTRIBUTE_SPARSE_TENSORS = 22, 23
SPARSE_VALUES, SPARSE_INDICES = 1, 2
TENSOR_DIMS, TENSOR_DATA_TYPE, TENSOR_NAME, TENSOR_DATA_LOCATION = 1, 2, 8, 14
TENSOR_FLOAT_DATA, TENSOR_RAW_DATA, TENSOR_DOUBLE_DATA = 4, 9, 10
EXTERNAL = 1

_NAMES = (
    ". F32 U8 I8 U16 I16 I32 I64 . BOOL F16 F64 U32 U64 C64 C128 BF16 "
    "F8_E4M3 F8_E4M3FNUZ F8_E5M2 F8_E5M2FNUZ . . F4 F8_E8M0 . . F6_E2M3 F6_E3M2"
)
DATA_TYPES = {number: name for number, name in enumerate(_NAMES.split()) if name != "."}
"""Numbers of ``TensorProto.DataType`` and the names of their dtypes; packed integers have none."""

_MAX_GRAPHS = 33  # protobuf's own libraries refuse messages that are nested more than 100 deep


class _Subgraph(NamedTuple):
    """A graph within a graph, and what the names of its tensors begin with."""

    field: Field
    prefix: str


class OnnxReader:
    """The reader of ``.onnx`` files, whatever they are called."""

    name = "onnx"
    version = 1

    def sniff(self, head: bytes, size: int) -> bool:
        """Whether the file begins with a small version of the format, as serialized messages do."""
        return len(head) > 2 and head[0] == MODEL_IR_VERSION << 3 | VARINT and 0 < head[1] < 0x80

    def layout(self, source: ByteSource, limits: Limits) -> Layout:
        """The tensors of the model, in the order of their bytes.

        Raises:
            NotThisFormat: the file is no such message, or has no tensors.
        """
        wire = Wire(source, limits)
        walk = _Walk(wire, limits)
        graphs = 0
        for field in wire.fields(0, source.size):
            if field.number == MODEL_GRAPH:
                graphs += 1
                walk.graph(field)
            elif field.number == MODEL_FUNCTIONS:
                walk.function(field)
        if graphs != 1:
            raise NotThisFormat("there is not exactly one graph")
        return Layout(f"{self.name}/{self.version}", walk.segments.in_file_order())


class _Walk:
    """Walks over graphs and notes their tensors."""

    def __init__(self, wire: Wire, limits: Limits) -> None:
        self.segments = Segments(limits)
        self._wire = wire
        self._limits = limits

    def graph(self, field: Field) -> None:
        """Note the tensors of a graph and of those within it."""
        self._follow(self._graph(_Subgraph(field, "")))

    def function(self, field: Field) -> None:
        """Note the tensors of a function: constants, and what its attributes are by default."""
        self._follow(self._function(field))

    def _follow(self, graph: Iterator[_Subgraph]) -> None:
        """Walk over a graph and, wherever it has one, over the graph in it."""
        stack = [graph]
        while stack:
            inner = next(stack[-1], None)
            if inner is None:
                stack.pop()
            elif len(stack) == _MAX_GRAPHS:
                raise NotThisFormat("graphs are nested too deep")
            else:
                stack.append(self._graph(inner))

    def _graph(self, graph: _Subgraph) -> Iterator[_Subgraph]:
        for field in self._wire.message(graph.field):
            if field.number == GRAPH_NODE:
                yield from self._node(field, graph.prefix)
            elif field.number == GRAPH_INITIALIZER:
                self._tensor(field, graph.prefix, "")
            elif field.number == GRAPH_SPARSE_INITIALIZER:
                self._sparse(field, graph.prefix, "")

    def _function(self, function: Field) -> Iterator[_Subgraph]:
        name = ""
        for field in self._wire.message(function):
            if field.number == FUNCTION_NAME:
                name = self._wire.string(field)
            elif field.number == FUNCTION_NODE:
                yield from self._node(field, f"{name}/")
            elif field.number == FUNCTION_ATTRIBUTE_PROTO:
                yield from self._attribute(field, f"{name}/", is_constant=False)

    def _node(self, node: Field, prefix: str) -> Iterator[_Subgraph]:
        """The tensors and graphs in the attributes of a node; names come before them in real files."""
        output = name = op_type = ""
        for field in self._wire.message(node):
            if field.number == NODE_ATTRIBUTE:
                is_constant = op_type == "Constant" and output != ""
                owner = output if is_constant else f"{name or output}/"
                yield from self._attribute(field, prefix + owner, is_constant)
            elif field.number == NODE_OUTPUT:
                output = output or self._wire.string(field)
            elif field.number == NODE_NAME:
                name = self._wire.string(field)
            elif field.number == NODE_OP_TYPE:
                op_type = self._wire.string(field)

    def _attribute(self, attribute: Field, owner: str, is_constant: bool) -> Iterator[_Subgraph]:
        """The tensors of an attribute: called like the output of a constant, else like the attribute."""
        name = owner
        numbers = {ATTRIBUTE_TENSORS: 0, ATTRIBUTE_GRAPHS: 0, ATTRIBUTE_SPARSE_TENSORS: 0}
        for field in self._wire.message(attribute):
            wanted = name
            if field.number in numbers:
                wanted = f"{name}/{numbers[field.number]}"
                numbers[field.number] += 1
            if field.number == ATTRIBUTE_NAME:
                name = owner if is_constant else owner + self._wire.string(field)
            elif field.number in (ATTRIBUTE_T, ATTRIBUTE_TENSORS):
                self._tensor(field, "", wanted)
            elif field.number in (ATTRIBUTE_SPARSE_TENSOR, ATTRIBUTE_SPARSE_TENSORS):
                self._sparse(field, "", wanted)
            elif field.number in (ATTRIBUTE_G, ATTRIBUTE_GRAPHS):
                yield _Subgraph(field, f"{wanted}/"[: self._limits.name_bytes])

    def _sparse(self, sparse: Field, prefix: str, wanted: str) -> None:
        """The values of a sparse tensor, which have its name, and their indices."""
        for field in self._wire.message(sparse):
            if field.number == SPARSE_VALUES:
                wanted = self._tensor(field, prefix, wanted)
            elif field.number == SPARSE_INDICES:
                self._tensor(field, "", f"{wanted}/indices")

    def _tensor(self, tensor: Field, prefix: str, wanted: str) -> str:
        """Note a tensor, if its bytes are here; ``wanted``, or else its own name behind the prefix."""
        data_type, name, external = 0, "", False
        shape: list[int] = []
        data: Field | None = None
        for field in self._wire.message(tensor):
            if field.number == TENSOR_DIMS:
                for dimension in self._wire.numbers(field):
                    if len(shape) == self._limits.rank:
                        raise NotThisFormat("a tensor has too many dimensions")
                    shape.append(dimension)
            elif field.number == TENSOR_DATA_TYPE:
                data_type = self._wire.number(field)
            elif field.number == TENSOR_NAME:
                name = self._wire.string(field)
            elif field.number == TENSOR_DATA_LOCATION:
                external = self._wire.number(field) == EXTERNAL
            elif field.number in (TENSOR_RAW_DATA, TENSOR_FLOAT_DATA, TENSOR_DOUBLE_DATA):
                if data is not None or field.wire != BYTES:
                    raise NotThisFormat("the values of a tensor are in pieces")
                data = field
        wanted = wanted or prefix + name
        if data is not None and not external:
            dtype = DATA_TYPES.get(data_type)
            self.segments.add(wanted, dtype, tuple(shape), data.value, data.end - data.value)
        return wanted
