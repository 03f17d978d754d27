"""Writes safetensors, as the library of that name does."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import BinaryIO

from coral_git.errors import UsageError
from coral_git.formats.base import TensorData
from coral_git.formats.safetensors import DTYPE_NAMES

_METADATA = "__metadata__"
_ALIGNMENT = 8
_LONGEST_HEADER = 100_000_000


class SafetensorsWriter:
    """The writer of ``.safetensors`` files."""

    name = "safetensors"
    suffixes = (".safetensors",)

    def write(self, out: BinaryIO, tensors: Sequence[TensorData], metadata: Mapping[str, str]) -> None:
        """Write the tensors in this order, or those with the widest values first.

        The format has no padding. In the given order a tensor might begin where its values are not aligned,
        and torch could not map it; the library then sorts as well.

        Raises:
            UsageError: the format has no such dtype or name, or the header would be too long.
        """
        header, ordered = safetensors_header(tensors, metadata)
        out.write(header)
        for tensor in ordered:
            for piece in tensor.pieces():
                out.write(piece)


def safetensors_header(
    tensors: Sequence[TensorData], metadata: Mapping[str, str]
) -> tuple[bytes, list[TensorData]]:
    """What comes before the values of a file, and the tensors in the order in which they follow.

    Raises:
        UsageError: the format has no such dtype or name, or the header would be too long.
    """
    import json

    for tensor in tensors:
        _check(tensor)
    ordered = list(tensors) if _aligned(tensors) else sorted(tensors, key=lambda t: -_width(t))
    entries: dict[str, object] = {_METADATA: dict(metadata)} if metadata else {}
    end = 0
    for tensor in ordered:
        start, end = end, end + tensor.length
        entries[tensor.name] = {
            "dtype": tensor.dtype.name,
            "shape": tensor.shape,
            "data_offsets": (start, end),
        }
    header = json.dumps(entries, ensure_ascii=False, separators=(",", ":")).encode("utf-8")
    header += b" " * (-len(header) % _ALIGNMENT)
    if len(header) > _LONGEST_HEADER:
        raise UsageError(f"the names and the metadata take more than {_LONGEST_HEADER} bytes")
    return len(header).to_bytes(8, "little") + header, ordered


def _check(tensor: TensorData) -> None:
    if tensor.dtype.name not in DTYPE_NAMES:
        raise UsageError(
            f"the tensor {tensor.name!a} has the dtype {tensor.dtype.name}, which safetensors does not have",
            hint="choose another with '--dtype', e.g. '--dtype F32'",
        )
    if tensor.name == _METADATA:
        raise UsageError(f"no tensor of a safetensors file can be called '{_METADATA}'")


def _width(tensor: TensorData) -> int:
    """Bytes of a value, at least 1."""
    return max(tensor.dtype.bits // 8, 1)


def _aligned(tensors: Sequence[TensorData]) -> bool:
    """Whether every tensor begins at a multiple of the width of its values."""
    end = 0
    for tensor in tensors:
        if end % _width(tensor):
            return False
        end += tensor.length
    return True
