"""Writes GGUF, version 3, little endian."""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from typing import BinaryIO

from coral_git.errors import UsageError
from coral_git.formats.base import TensorData
from coral_git.formats.gguf import ALIGNMENT_KEY, DEFAULT_ALIGNMENT, MAGIC, STRING, TYPES

_VERSION = 3
_NUMBERS = {name: number for number, name in TYPES.items()}
_LONGEST_NAME = 63
_MOST_DIMENSIONS = 4
_ARCHITECTURE = "general.architecture"
_UNKNOWN = "unknown"


class GgufWriter:
    """The writer of ``.gguf`` files."""

    name = "gguf"
    suffixes = (".gguf",)

    def write(self, out: BinaryIO, tensors: Sequence[TensorData], metadata: Mapping[str, str]) -> None:
        """Write the tensors in this order, each at a multiple of 32 bytes.

        All metadata is written as strings. ``general.architecture`` is there in any case, and
        ``general.alignment``, which is no string, is left out: it tells of another file.

        Raises:
            UsageError: ggml has no such dtype, or not that many dimensions, or a name is too long.
        """
        pairs = {_ARCHITECTURE: _UNKNOWN, **metadata}
        pairs.pop(ALIGNMENT_KEY.decode(), None)
        encoded = [_text(key) + struct.pack("<I", STRING) + _text(value) for key, value in pairs.items()]
        write_gguf(out, tensors, encoded, DEFAULT_ALIGNMENT)


def write_gguf(out: BinaryIO, tensors: Sequence[TensorData], pairs: Sequence[bytes], alignment: int) -> None:
    """Write a file.

    Args:
        out: an empty file.
        tensors: written in this order.
        pairs: the metadata as it stands in files: key, type, value.
        alignment: what the metadata says of it; a power of two.

    Raises:
        UsageError: ggml has no such dtype, or not that many dimensions, or a name is too long.
    """
    infos = []
    offset = 0
    for tensor in tensors:
        infos.append(_info(tensor, offset))
        offset += _aligned(tensor.length, alignment)
    header = b"".join((MAGIC, struct.pack("<IQQ", _VERSION, len(tensors), len(pairs)), *pairs, *infos))
    out.write(header)
    out.write(bytes(_aligned(len(header), alignment) - len(header)))
    for tensor in tensors:
        for piece in tensor.pieces():
            out.write(piece)
        out.write(bytes(_aligned(tensor.length, alignment) - tensor.length))


def _info(tensor: TensorData, offset: int) -> bytes:
    """The entry of a tensor in the header."""
    dtype, shape = tensor.dtype, tensor.shape
    number = _NUMBERS.get(dtype.name)
    if number is None:
        raise UsageError(
            f"the tensor {tensor.name!a} has the dtype {dtype.name}, which ggml does not have",
            hint="choose another with '--dtype', e.g. '--dtype F16'",
        )
    if len(shape) > _MOST_DIMENSIONS or (dtype.name == "BF16" and not shape):  # gguf.py cannot open those
        raise UsageError(f"the tensor {tensor.name!a} has {len(shape)} dimensions, which ggml does not take")
    if dtype.values > 1 and shape[-1] % dtype.values:
        raise UsageError(f"a row of the tensor {tensor.name!a} does not fill whole blocks of {dtype.name}")
    if len(tensor.name.encode("utf-8")) > _LONGEST_NAME:
        raise UsageError(f"the name of the tensor {tensor.name!a} is longer than {_LONGEST_NAME} bytes")
    dims = shape[::-1]  # the fastest dimension comes first
    fixed = struct.pack(f"<I{len(dims)}QIQ", len(dims), *dims, number, offset)
    return _text(tensor.name) + fixed


def _text(value: str) -> bytes:
    raw = value.encode("utf-8")
    return len(raw).to_bytes(8, "little") + raw


def _aligned(length: int, alignment: int) -> int:
    return -(-length // alignment) * alignment
