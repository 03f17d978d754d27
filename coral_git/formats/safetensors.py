"""Safetensors: eight bytes of header length, a JSON header, the tensors.

The specification is https://github.com/huggingface/safetensors#format. This reader takes fewer files than
that library: whatever two readers might understand differently (a name twice, unknown fields, lone
surrogates, lengths that do not match the shape) is refused, and the file is stored in chunks. Holes between
the tensors and bytes after them are fine; they belong to the rest.
"""

from __future__ import annotations

from coral_git.formats.base import MAX_TENSORS, Layout, NotThisFormat, TensorSegment, in_file_order
from coral_git.limits import Limits
from coral_git.types import DTYPES, ByteSource, tensor_bytes

_LENGTH_BYTES = 8
_SMALLEST_HEADER = 2
DTYPE_NAMES = frozenset(
    {"BOOL", "U8", "I8", "U16", "I16", "U32", "I32", "U64", "I64", "F4", "F6_E2M3", "F6_E3M2", "F8_E4M3"}
    | {"F8_E5M2", "F8_E8M0", "F8_E4M3FNUZ", "F8_E5M2FNUZ", "F16", "BF16", "F32", "F64", "C64"}
)
"""The dtypes that the format has."""


class SafetensorsReader:
    """The reader of ``.safetensors`` files, whatever they are called."""

    name = "safetensors"
    version = 1

    def sniff(self, head: bytes, size: int) -> bool:
        """Whether the header length is possible and the header begins as one."""
        length = int.from_bytes(head[:_LENGTH_BYTES], "little")
        return (
            head[_LENGTH_BYTES : _LENGTH_BYTES + 1] == b"{"
            and _SMALLEST_HEADER <= length <= size - _LENGTH_BYTES
        )

    def layout(self, source: ByteSource, limits: Limits) -> Layout:
        """The tensors that the header names, in the order of their bytes.

        Raises:
            NotThisFormat: the header is no strict safetensors header, or does not fit the file.
        """
        length = int.from_bytes(source.read_at(0, _LENGTH_BYTES), "little")
        start = _LENGTH_BYTES + length
        if not _SMALLEST_HEADER <= length <= limits.header_bytes or start > source.size:
            raise NotThisFormat("the header has an impossible length")
        header = source.read_at(_LENGTH_BYTES, length)
        if len(header) != length:
            raise NotThisFormat("the header is cut short")
        return Layout(
            f"{self.name}/{self.version}", in_file_order(_segments(header, start, source.size, limits))
        )


def _segments(header: bytes, start: int, size: int, limits: Limits) -> list[TensorSegment]:
    """The tensors in the order of the header, each checked by itself."""
    from coral_git.formats.safetensors_header import scan  # compiles expressions: only when a file is one

    segments = []
    for entry in scan(header, limits):
        if entry.dtype not in DTYPE_NAMES:
            raise NotThisFormat("a tensor has an unknown dtype")
        dtype = DTYPES[entry.dtype]
        if not entry.begin <= entry.end <= size - start:
            raise NotThisFormat("a tensor exceeds the file")
        if tensor_bytes(dtype, entry.shape) != entry.end - entry.begin:
            raise NotThisFormat("the length of a tensor does not match its shape")
        segments.append(
            TensorSegment(entry.name, dtype, entry.shape, start + entry.begin, entry.end - entry.begin)
        )
        if len(segments) > MAX_TENSORS:
            raise NotThisFormat("too many tensors")
    return segments
