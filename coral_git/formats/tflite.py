"""TensorFlow Lite (LiteRT): a model as a FlatBuffer, the values of its tensors in buffers.

The schema is ``tensorflow/compiler/mlir/lite/schema/schema.fbs`` of https://github.com/tensorflow/tensorflow,
version 3. Buffers of models above 2 GB follow the FlatBuffer. Buffers that no tensor has (metadata, options
of custom operators) are opaque.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from coral_git.formats.base import Layout
from coral_git.formats.flatbuffer import IDENTIFIER_AT, FlatBuffer
from coral_git.formats.segments import Segments
from coral_git.limits import Limits
from coral_git.types import ByteSource

IDENTIFIER = b"TFL3"
MODEL_SUBGRAPHS, MODEL_BUFFERS = 2, 4
SUBGRAPH_TENSORS, SUBGRAPH_NAME = 0, 4
TENSOR_SHAPE, TENSOR_TYPE, TENSOR_BUFFER, TENSOR_NAME = 0, 1, 2, 3
BUFFER_DATA, BUFFER_OFFSET, BUFFER_SIZE = 0, 1, 2

_NAMES = "F32 F16 I32 U8 I64 . BOOL I16 C64 I8 F64 C128 U64 . . U32 U16 . BF16"
TENSOR_TYPES = {number: name for number, name in enumerate(_NAMES.split()) if name != "."}
"""Numbers of ``TensorType`` and the names of their dtypes; packed integers have none."""


class _Tensor(NamedTuple):
    """A tensor, and where its table is."""

    table: int
    prefix: str


class TfliteReader:
    """The reader of ``.tflite`` files, whatever they are called."""

    name = "tflite"
    version = 1

    def sniff(self, head: bytes, size: int) -> bool:
        """Whether the file has the letters of the schema where FlatBuffers have them."""
        return head[IDENTIFIER_AT:].startswith(IDENTIFIER)

    def layout(self, source: ByteSource, limits: Limits) -> Layout:
        """The tensors that have values, in the order of their bytes.

        Raises:
            NotThisFormat: an offset lies, tensors overlap, or none has values.
        """
        file = FlatBuffer(source, limits)
        model = file.root()
        buffers, count = file.vector(model, MODEL_BUFFERS, 4)
        segments = Segments(limits)
        seen = {(0, 0)}
        for number, tensor in _first_of_each_buffer(file, model).items():
            place = _place(file, file.follow(buffers + 4 * number)) if number < count else (0, 0)
            if place not in seen:
                seen.add(place)
                name, dtype, shape = _description(file, tensor, limits)
                segments.add(name, dtype, shape, *place)
        return Layout(f"{self.name}/{self.version}", segments.in_file_order())


def _first_of_each_buffer(file: FlatBuffer, model: int) -> dict[int, _Tensor]:
    """The first tensor of each buffer, by the number of the buffer."""
    found: dict[int, _Tensor] = {}
    for tensor in _tensors(file, model):
        found.setdefault(file.scalar(tensor.table, TENSOR_BUFFER, 4), tensor)
    return found


def _tensors(file: FlatBuffer, model: int) -> Iterator[_Tensor]:
    """All tensors; the names of those in the second subgraph and those after it begin with its name."""
    graphs, graph_count = file.vector(model, MODEL_SUBGRAPHS, 4)
    for number in range(graph_count):
        graph = file.follow(graphs + 4 * number)
        prefix = f"{file.string(graph, SUBGRAPH_NAME) or number}/" if number else ""
        tensors, tensor_count = file.vector(graph, SUBGRAPH_TENSORS, 4)
        for index in range(tensor_count):
            yield _Tensor(file.follow(tensors + 4 * index), prefix)


def _place(file: FlatBuffer, buffer: int) -> tuple[int, int]:
    """Where the bytes of a buffer are, and how many; zeros where there are none."""
    start, length = file.vector(buffer, BUFFER_DATA, 1)
    if not length:
        start, length = file.scalar(buffer, BUFFER_OFFSET, 8), file.scalar(buffer, BUFFER_SIZE, 8)
    return (start, length) if length else (0, 0)


def _description(
    file: FlatBuffer, tensor: _Tensor, limits: Limits
) -> tuple[str, str | None, tuple[int, ...]]:
    """The name of a tensor, its dtype and its shape."""
    name = tensor.prefix + file.string(tensor.table, TENSOR_NAME)
    dtype = TENSOR_TYPES.get(file.scalar(tensor.table, TENSOR_TYPE, 1))
    start, rank = file.vector(tensor.table, TENSOR_SHAPE, 4)
    shape = tuple(file.number(start + 4 * axis, 4) for axis in range(min(rank, limits.rank + 1)))
    return name, dtype, shape
